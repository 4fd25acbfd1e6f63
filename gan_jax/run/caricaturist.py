"""A trained WarpGAN as functions of photos, and its warp on its own."""

from collections.abc import Sequence

import jax
import numpy as np

from gan_jax.errors import UserError
from gan_jax.ops import warping
from gan_jax.ops.images import to_uint8
from gan_jax.run.model import Model


class Painter:
    """A trained WarpGAN, as functions of uint8 images. Compiles once for each size and count."""

    def __init__(self, model: Model):
        """Raises UserError for a model of another system."""
        tasks = model.experiment.system.tasks
        if "caricature" not in tasks:
            raise UserError(
                f"config.system={model.config.system!r} draws no caricatures: that needs a model "
                "of warpgan"
            )
        self.model = model
        self._run = {
            name: jax.jit(
                tasks[name].run,
                static_argnums=3,
                compiler_options=model.experiment.system.sampling_options,
            )
            for name in ("caricature", "style", "random_style")
        }

    def _call(self, name: str, batch: dict) -> dict[str, np.ndarray]:
        # the same key as in Sampler, so that a seed has the same style here and in a grid
        state, stage = self.model.state, self.model.stage
        return jax.device_get(self._run[name](state, batch, jax.random.key(0), stage))

    def random_styles(self, seeds: Sequence[int]) -> np.ndarray:
        """Style codes [N, S] of seeds [N]; each is a function of its seed alone."""
        return self._call("random_style", {"seed": np.asarray(seeds, np.int32)})["style"]

    def style_of(self, image: np.ndarray) -> np.ndarray:
        """The style code [S] of one image, uint8 [H, W, C]."""
        return self._call("style", {"input": image[None]})["style"][0]

    def draw(self, image: np.ndarray, styles: np.ndarray, scales: Sequence[float]) -> dict:
        """One photo uint8 [H, W, C] in every style [N, S] at every scale [M].

        Returns "image", "texture" and "warped" uint8 [N, M, H, W, C], "points" and "displacements"
        [P, 2] in pixels (y, x), the latter for scale 1, "regularization", which is λ of the spline
        in square pixels, and "flow" [M, H, W, 2].
        """
        count, many = len(styles), len(scales)
        made = self._call(
            "caricature",
            {
                "input": np.repeat(image[None], count * many, axis=0),
                "style": np.repeat(styles, many, axis=0),
                "scale": np.tile(np.asarray(scales, np.float32), count),
            },
        )
        pictures = {
            name: np.asarray(to_uint8(made[name])).reshape(count, many, *image.shape)
            for name in ("image", "texture", "warped")
        }
        moved = {name: made[name][0] for name in ("points", "displacements", "regularization")}
        return pictures | moved | {"flow": made["flow"][:many]}


def warp(
    image: np.ndarray,
    points: np.ndarray,
    displacements: np.ndarray,
    scale: float = 1.0,
    regularization: float = 1e-6,
) -> np.ndarray:
    """Warps any image with a thin-plate spline, which moves each control point by its displacement
    times `scale`.

    Args:
      image: uint8 [H, W, C].
      points: [P, 2], (y, x) in pixels.
      displacements: [P, 2], (y, x) in pixels.
      scale: factor of the displacements.
      regularization: λ of the spline in square pixels, at least 0: larger values smooth the flow
        between points that are close together. warp.json has that of a caricature.

    Returns:
      uint8 [H, W, C].

    Raises ValueError for other shapes.
    """
    if np.ndim(image) != 3:
        raise ValueError(f"an image is [H, W, C], not {list(np.shape(image))}")
    if np.shape(points) != np.shape(displacements) or np.shape(points)[1:] != (2,):
        raise ValueError(
            f"points and displacements are [P, 2] both, not {list(np.shape(points))} and "
            f"{list(np.shape(displacements))}"
        )
    points, moves = (np.asarray(x, np.float32)[None] for x in (points, displacements))
    pixels = np.asarray(image, np.float32)[None]
    goal = points + np.float32(scale) * moves
    found, _ = warping.warp(pixels, points, goal, regularization=regularization)
    return np.asarray(np.clip(np.round(found[0]), 0, 255), np.uint8)

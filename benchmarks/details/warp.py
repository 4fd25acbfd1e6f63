"""WarpGAN's warp of 8 images of 256 px by 16 control points: spline flow and bilinear sampling.

Both programs must give the same images and gradients in float64; the times are of float32.
"""

from functools import partial

import jax
import numpy as np

from benchmarks.details import Detail, beside_torch, timed
from benchmarks.timing import Contender
from gan_jax.ops import warping

BATCH, SIDE = 8, 256
POINTS = 4  # along either side
REGULARIZATION = 1e-6
CLOSE = 1e-6  # results may differ in float64 by this share of the largest value


def inputs(batch: int, size: int) -> tuple[np.ndarray, ...]:
    """Image and cotangent [B, H, W, 3], points and displacements [B, 16, 2], in float32.

    Points lie near a grid: if two random points were next to each other, the system in pixels would
    lose all its digits in float32.
    """
    random = np.random.default_rng(0)
    grid = (np.indices((POINTS, POINTS)).reshape(2, -1).T + 0.5) * (size / POINTS)
    shape = (batch, len(grid), 2)
    made = (
        random.uniform(-1, 1, (batch, size, size, 3)),
        random.normal(size=(batch, size, size, 3)),
        grid + random.uniform(-0.2, 0.2, shape) * (size / POINTS),
        random.normal(0, size / 50, shape),
    )
    return tuple(a.astype(np.float32) for a in made)


def ours(backward: bool, image, cotangent, points, displacements):
    """A call for the image, with `backward` also for the gradients of image and displacements."""

    def warped(image, displacements):
        return warping.warp(image, points, points + displacements, 2, REGULARIZATION)[0]

    def forward(image, displacements):
        return (warped(image, displacements),)

    def both(image, displacements):
        # the image is returned: nothing else needs it, and XLA would leave it out
        made, pull = jax.vjp(warped, image, displacements)
        return made, *pull(cotangent)

    placed = jax.device_put((image, displacements))
    return partial(jax.jit(both if backward else forward), *placed)


def make(backward: bool, small: bool) -> dict[str, Contender]:
    """Ours and PyTorch's warp."""
    given = inputs(2, 32) if small else inputs(BATCH, SIDE)
    found = {"gan_jax": timed(ours(backward, *given))}
    if beside_torch():
        from benchmarks.contenders import warping as contender

        doubles = tuple(a.astype(np.float64) for a in given)
        with jax.enable_x64(True):
            expected = [np.asarray(a) for a in ours(backward, *doubles)()]
        theirs = contender.arrays(contender.call(backward, REGULARIZATION, *doubles)())
        for known, other in zip(expected, theirs, strict=True):
            np.testing.assert_allclose(other, known, rtol=0, atol=CLOSE * np.abs(known).max())
        found["PyTorch"] = Contender(contender.call(backward, REGULARIZATION, *given))
    return found


DETAILS = tuple(
    Detail(
        f"warp_{name}", "warp", f"warp of {BATCH} images of {SIDE} px, {title}",
        partial(make, backward), BATCH, torch=True,
    )
    for name, title, backward in (
        ("forward", "forward", False),
        ("both", "forward and backward", True),
    )
)  # fmt: skip

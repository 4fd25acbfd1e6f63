"""Networks whose features the metrics compare, and how they are run on images of any size.

A feature network is a function of uint8 images. Its identity (name, weights, resize) is recorded
with every value that is computed with it.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.models import convolution, inception
from gan_jax.ops import resize

RESIZES = {  # name: (resize to 299 px, middle, unit), where x becomes (x - middle) / unit
    "tf1": (resize.tf1_bilinear, 128, 128),  # the original graph, torch-fidelity, ADM's evaluator
    "clean": (resize.antialiased, 128, 128),  # clean-fid
    "bilinear": (resize.bilinear, 127.5, 127.5),  # pytorch-fid
}
_PLACES = {  # names of taps here: names in models.inception; other names are the same
    "features": "2048",
    "logits": "logits_unbiased",
    "logits_biased": "logits",
}
BATCH = 32
"""Images per call and device."""

Images = Sequence[np.ndarray] | np.ndarray


class Network(NamedTuple):
    """A feature network. Its outputs, taps, have names: all networks have "features" and "logits",
    and some have others."""

    name: str
    fingerprint: str  # of its weights
    resize: str  # a name in RESIZES, or "none"
    widths: dict[str, int]  # of each tap
    # uint8 images [n, H, W, C] or a list of them, taps → float32 [n, width] each
    extract: Callable[[Images, Sequence[str]], dict[str, np.ndarray]]
    logits: str = ""  # fingerprint of the layer of the logits, if that is separate
    shape: tuple[int, ...] = ()  # (H, W, C) of the images that it accepts; () for any


def of_inception(
    params: Any,
    identity: tuple[str, str, str],
    how: str,
    mesh: Any,
    gather: Callable[[jax.Array], np.ndarray],
    batch: int = BATCH,
) -> Network:
    """The 2015 Inception network with one of the resizes before it, on every device of a mesh.

    Features do not depend on `batch` beyond rounding: every call has the same number of images, and
    the last one is padded. Matrix products are in full float32 on every device.

    Args:
      params: parameters of `models.inception.apply`; without `fc` there are no logits.
      identity: the network's name, the fingerprint of its weights, and that of the weights of `fc`
        or "".
      how: a name in RESIZES.
      mesh: has `size`, `split` and `copy` (core.mesh.Mesh).
      gather: fetches a whole split array to this host.
      batch: images per call and device.

    Raises ValueError for an unknown resize.
    """
    if how not in RESIZES:
        raise ValueError(f"resize {how!r}; accepted: {', '.join(RESIZES)}")
    rule, _, _ = RESIZES[how]
    params = mesh.copy(params)
    size = batch * mesh.size
    compiled = jax.jit(
        functools.partial(_taps, how),
        static_argnums=2,
        out_shardings=mesh.split,
        compiler_options=convolution.compiler_options(products=False),
    )

    def extract(images: Images, taps: Sequence[str]) -> dict[str, np.ndarray]:
        if not isinstance(images, np.ndarray):  # images of several shapes are resized one by one
            images = np.stack([_host_resized(image, rule, inception.SIDE) for image in images])

        def call(full: np.ndarray) -> dict[str, np.ndarray]:
            spread = jax.make_array_from_callback(full.shape, mesh.split, lambda index: full[index])
            # by default accelerators multiply with ten bits of mantissa or fewer
            with jax.default_matmul_precision("highest"):
                made = compiled(params, spread, tuple(taps))
            return {tap: gather(value) for tap, value in made.items()}

        return in_batches(images, size, call)

    name, fingerprint, logits = identity
    return Network(name, fingerprint, how, _widths(params), extract, logits)


def _taps(how: str, params: Any, images: jax.Array, taps: Sequence[str]) -> dict[str, jax.Array]:
    """Images [n, H, W, C] of any size, 0 to 255 → the values of these taps, [n, width] each."""
    rule, middle, unit = RESIZES[how]
    side = inception.SIDE
    x = images.astype(jnp.float32)
    x = jnp.broadcast_to(x, (*x.shape[:3], 3)) if x.shape[3] == 1 else x
    if x.shape[1:3] != (side, side):
        x = rule(x, side, side)
    places = [_PLACES.get(tap, tap) for tap in taps]
    found = inception.apply(params, (x - middle) / unit, places)
    return {tap: found[place] for tap, place in zip(taps, places, strict=True)}


def _widths(params: Any) -> dict[str, int]:
    """The number of features of each tap; without the layer `fc` there are no logits."""
    taps = (*_PLACES, "spatial", "64", "192", "768")
    return {
        tap: inception.TAPS[_PLACES.get(tap, tap)]
        for tap in taps
        if "fc" in params or not tap.startswith("logits")
    }


def in_batches(
    images: np.ndarray, size: int, run: Callable[[np.ndarray], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The results of `run` for images [n, ...], n ≥ 1, in batches of `size`, so that it compiles
    once.

    The last batch is padded with its last image; the results of the padding are left out.
    """
    parts = []
    for start in range(0, len(images), size):
        rows = images[start : start + size]
        full = np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])
        parts.append({tap: value[: len(rows)] for tap, value in run(full).items()})
    return {tap: np.concatenate([part[tap] for part in parts]) for tap in parts[0]}


def _host_resized(image: np.ndarray, rule, side: int) -> np.ndarray:
    """The image as float32 [side, side, 3], resized by `rule` on the host if necessary."""
    if image.shape[:2] != (side, side):
        image = resize.on_host(rule, image, side, side)
    return np.broadcast_to(image, (side, side, 3)).astype(np.float32)

"""Label maps as pictures: the class of a pixel is that of the palette colour nearest to it."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

Palette = Array | np.ndarray | Sequence[Sequence[int]]
"""Colours [K, 3] in 0..255, one per class."""


def nearest(images: Array | np.ndarray, palette: Palette) -> Array:
    """Index of the nearest palette colour of every pixel: [..., 3] → int32 [...].

    Distances are squared distances in RGB, exact for whole numbers; of two equally near colours
    the one with the lower index is taken.

    Args:
      images: [..., 3] in 0..255, whole numbers or not.

    Raises:
      ValueError: other than three channels.
    """
    palette = _colours(palette)
    images = jnp.asarray(images)
    if images.shape[-1:] != (3,):
        raise ValueError(f"images are RGB, [..., 3], found {list(images.shape)}")
    # sums of squares of bytes stay below 2²⁴, so float32 holds them exactly
    x = images.astype(jnp.promote_types(images.dtype, jnp.float32))
    distance = jnp.sum(jnp.square(x[..., None, :] - palette.astype(x.dtype)), axis=-1)  # [..., K]
    return jnp.argmin(distance, axis=-1).astype(jnp.int32)


def colours(index: Array | np.ndarray, palette: Palette) -> Array:
    """The colours of classes: int [...] in 0..K-1 → uint8 [..., 3].

    Raises:
      ValueError: a palette that is not [K, 3].
    """
    return _colours(palette).astype(jnp.uint8)[jnp.asarray(index)]


def _colours(palette: Palette) -> Array:
    palette = jnp.asarray(palette)
    if palette.ndim != 2 or palette.shape[-1] != 3 or not len(palette):
        raise ValueError(f"a palette is [K, 3] with K >= 1, found {list(palette.shape)}")
    return palette

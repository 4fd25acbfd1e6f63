"""Image pyramids: halving by a box, Gaussian halving and doubling, Laplacian levels."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from gan_jax.ops.images import floats

_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def halve(x: Array | np.ndarray) -> Array:
    """Means of 2×2 blocks: [B, H, W, C] → [B, ⌈H/2⌉, ⌈W/2⌉, C], in float32 or float64.

    An odd side has its last row or column counted twice, so every side can be halved.
    """
    x = floats(x)
    batch, height, width, channels = x.shape
    x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    blocks = x.reshape(batch, -(-height // 2), 2, -(-width // 2), 2, channels)
    return jnp.mean(blocks, axis=(2, 4))


def down(x: Array | np.ndarray) -> Array:
    """Blurs by the binomial filter (1 4 6 4 1)/16 along both sides and keeps the even places.

    Args:
      x: [B, H, W, C], H and W even, 4 or more; mirrored at its borders without repeating them.

    Returns:
      [B, H/2, W/2, C] in float32 or float64.

    Raises:
      ValueError: an odd side, or one smaller than 4.
    """
    x = floats(x)
    if any(side % 2 or side < 4 for side in x.shape[1:3]):
        raise ValueError(f"a pyramid halves even sides of 4 or more, found {x.shape[1:3]}")
    for axis in (1, 2):
        places = x.shape[axis] // 2
        padded = jnp.pad(x, _around(axis, 2, 1), mode="reflect")
        taps = (
            weight * _take(padded, axis, slice(shift, shift + 2 * places - 1, 2))
            for shift, weight in enumerate(_BINOMIAL)
        )
        x = sum(taps)
    return x


def up(x: Array | np.ndarray) -> Array:
    """Twice the sides, smoothly: [B, H, W, C] → [B, 2H, 2W, C], sides of 2 or more.

    It equals putting zeros between the pixels and then applying the filter of `down` with four
    times the weight. Each place meets three of the five weights or two, so no zeros are stored.
    """
    x = floats(x)
    for axis in (1, 2):
        # mirroring the zero-filled side reflects its first pixel and repeats its last one
        padded = jnp.pad(x, _around(axis, 1, 0), mode="reflect")
        padded = jnp.pad(padded, _around(axis, 0, 1), mode="edge")
        before, after = _take(padded, axis, slice(None, -2)), _take(padded, axis, slice(2, None))
        even = (before + 6 * x + after) / 8
        odd = (x + after) / 2
        shape = (*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
        x = jnp.stack([even, odd], axis=axis + 1).reshape(shape)
    return x


def laplacian(x: Array | np.ndarray, levels: int) -> list[Array]:
    """The Laplacian pyramid (Burt & Adelson 1983), from fine to coarse.

    Args:
      x: [B, H, W, C] in any range; every level but the last must have even sides of 4 or more.
      levels: 1 or more; level i has sides H/2^i, W/2^i.

    Returns:
      The detail that each halving loses, x - up(down(x)), and last the coarsest image itself.
      `reconstruct` is the inverse.

    Raises:
      ValueError: a side that cannot be halved that often, or no levels.
    """
    if levels < 1:
        raise ValueError(f"a pyramid has one level or more, found {levels}")
    x, pyramid = floats(x), []
    for _ in range(levels - 1):
        coarse = down(x)
        pyramid.append(x - up(coarse))
        x = coarse
    return [*pyramid, x]


def reconstruct(pyramid: list[Array]) -> Array:
    """The image [B, H, W, C] whose `laplacian` is `pyramid`."""
    x = pyramid[-1]
    for detail in reversed(pyramid[:-1]):
        x = detail + up(x)
    return x


def _around(axis: int, before: int, after: int) -> list[tuple[int, int]]:
    """The padding of one of four axes."""
    return [(before, after) if place == axis else (0, 0) for place in range(4)]


def _take(x: Array, axis: int, places: slice) -> Array:
    return x[(slice(None),) * axis + (places,)]

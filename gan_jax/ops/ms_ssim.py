"""Multi-scale structural similarity (Wang, Simoncelli & Bovik 2003) as ProGAN measured it."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from gan_jax.ops.pyramid import halve

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five levels, from fine to coarse (Wang, Simoncelli & Bovik 2003)."""
SMALLEST_SIDE = 2 ** (len(WEIGHTS) - 1)
"""Sides must be at least this, so that the coarsest level has a pixel of its own."""

_WINDOW, _SIGMA = 11, 1.5


def ms_ssim(x: Array | np.ndarray, y: Array | np.ndarray, data_range: float) -> Array:
    """Multi-scale structural similarity per pair, in [0, 1], 1 for equal images: [B].

    The product of the contrast-structure terms of the first four levels and the whole SSIM of the
    fifth, each to its level's exponent. Negative terms count as 0; there the gradient is not
    finite, so this is a measure, not a loss.

    Args:
      x, y: [B, H, W, C], both sides at least 16, from 0 (no light) to data_range. As `images.ssim`
        it is not invariant under shifts: give x + 1 for images in [-1, 1].
      data_range: 255 for uint8 values, 2 for [-1, 1] plus 1.

    Raises:
      ValueError: two shapes, or a side below 16.
    """
    terms = ms_ssim_terms(x, y, data_range)
    factors = jnp.concatenate([terms[:-1, 1], terms[-1:, 0]]).clip(0)  # [level, B]
    return jnp.prod(factors ** jnp.asarray(WEIGHTS, factors.dtype)[:, None], axis=0)


def ms_ssim_terms(x: Array | np.ndarray, y: Array | np.ndarray, data_range: float) -> Array:
    """SSIM and its contrast-structure part at every level: [level, (ssim, cs), B].

    Arguments and errors as of `ms_ssim`. Each term is a mean over positions and channels. From one
    level to the next the sides are halved by 2×2 means. The window is 11×11 of σ 1.5; a level with
    a shorter side has one of that side and of σ in proportion, as in the original.
    """
    x, y = _floats(x), _floats(y)
    if x.shape != y.shape:
        raise ValueError(f"MS-SSIM compares images of one shape, found {x.shape} and {y.shape}")
    if min(x.shape[1:3]) < SMALLEST_SIDE:
        raise ValueError(
            f"MS-SSIM needs sides of {SMALLEST_SIDE} pixels or more, found {x.shape[1:3]}"
        )
    terms = []
    for level in range(len(WEIGHTS)):
        if level:
            x, y = halve(x), halve(y)
        terms.append(jnp.stack(_ssim_and_cs(x, y, data_range)))
    return jnp.stack(terms)


def _ssim_and_cs(x: Array, y: Array, data_range: float) -> tuple[Array, Array]:
    """SSIM and contrast-structure of images [B, H, W, C]: [B] each."""
    size = min(_WINDOW, *x.shape[1:3])
    weights = _gaussian(size, _SIGMA * size / _WINDOW)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    # variances do not depend on the level; taking it off first keeps them exact in float32
    level = jnp.mean(x, axis=(1, 2), keepdims=True)
    x, y = x - level, y - level
    mx, my, xx, yy, xy = _blur(jnp.stack([x, y, x * x, y * y, x * y]), weights)
    vx, vy, vxy = xx - mx * mx, yy - my * my, xy - mx * my
    mx, my = mx + level, my + level
    luminance = (2 * mx * my + c1) / (mx * mx + my * my + c1)
    structure = (2 * vxy + c2) / (vx + vy + c2)
    axes = (1, 2, 3)
    return jnp.mean(luminance * structure, axis=axes), jnp.mean(structure, axis=axes)


def _blur(maps: Array, weights: np.ndarray) -> Array:
    """Maps [..., H, W, C] under a separable window that stays wholly inside."""
    reach = len(weights) - 1
    height, width = maps.shape[-3] - reach, maps.shape[-2] - reach
    # sums of shifted maps: float32 all through on every device, and no cost that grows as side³
    maps = sum(weight * maps[..., i : i + height, :, :] for i, weight in enumerate(weights))
    return sum(weight * maps[..., i : i + width, :] for i, weight in enumerate(weights))


def _gaussian(size: int, sigma: float) -> np.ndarray:
    """[size], summing to 1; an even size has its centre between two pixels."""
    places = np.arange(size) - (size - 1) / 2
    weights = np.exp(-0.5 * np.square(places / sigma))
    return weights / weights.sum()


def _floats(x: Array | np.ndarray) -> Array:
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))

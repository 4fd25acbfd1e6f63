"""Multi-scale structural similarity (Wang, Simoncelli & Bovik 2003) as ProGAN measured it."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from gan_jax.ops import images
from gan_jax.ops.pyramid import halve

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five levels, from fine to coarse (Wang, Simoncelli & Bovik 2003)."""
SMALLEST_SIDE = 2 ** (len(WEIGHTS) - 1)
"""Sides must be at least this, so that the coarsest level has a pixel of its own."""


def ms_ssim(x: Array | np.ndarray, y: Array | np.ndarray, data_range: float) -> Array:
    """Multi-scale structural similarity per pair, in [0, 1], 1 for equal images: [B].

    It is the product of the contrast-structure terms of the first four levels and the whole SSIM of
    the fifth, each to the power of its level's exponent. Negative terms count as 0; the gradient is
    not finite there, so this is a metric and cannot be a loss.

    Args:
      x, y: [B, H, W, C], both sides at least 16, from 0 (no light) to data_range. Like
        `images.ssim` it is not invariant under shifts: give x + 1 for images in [-1, 1].
      data_range: 255 for uint8 values, 2 for [-1, 1] plus 1.

    Raises:
      ValueError: different shapes, or a side below 16.
    """
    terms = ms_ssim_terms(x, y, data_range)
    factors = jnp.concatenate([terms[:-1, 1], terms[-1:, 0]]).clip(0)  # [level, B]
    return jnp.prod(factors ** jnp.asarray(WEIGHTS, factors.dtype)[:, None], axis=0)


def ms_ssim_terms(x: Array | np.ndarray, y: Array | np.ndarray, data_range: float) -> Array:
    """SSIM and its contrast-structure part at every level: [level, (ssim, cs), B].

    Arguments and errors as of `ms_ssim`. Each term is a mean over positions and channels. From one
    level to the next the sides are halved by 2×2 means. The window is 11×11 with σ 1.5; for a level
    with a shorter side it has that side and σ in proportion, as in the original.
    """
    x, y = images.floats(x), images.floats(y)
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
        terms.append(jnp.stack(images.ssim_terms(x, y, data_range)))
    return jnp.stack(terms)

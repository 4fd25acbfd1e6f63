"""Image formulas: pixels to network range and back, mirroring, PSNR and SSIM."""

import jax.numpy as jnp
import numpy as np
from jax import Array

SSIM_WINDOW = 11
"""Side of SSIM's Gaussian window in pixels."""
SSIM_SIGMA = 1.5


def to_unit(pixels: Array | np.ndarray) -> Array:
    """[...] in 0..255 → [-1, 1]: (x - 127.5) / 127.5, in float32 unless the pixels are doubles."""
    return (floats(pixels) - 127.5) / 127.5


def to_uint8(x: Array | np.ndarray) -> Array:
    """[...] in [-1, 1] → uint8: (x + 1)·127.5 in float32, clamped to 0..255, truncated.

    This is what guided-diffusion does. The order matters: x·127.5 + 127.5 differs for 95 of 256
    values. `to_unit` may round to just below its grid value, so a round trip can lose one level.
    """
    return jnp.clip((jnp.asarray(x, jnp.float32) + 1) * 127.5, 0, 255).astype(jnp.uint8)


def per_image(values: Array) -> Array:
    """The mean over all axes but the first: [B, ...] → [B]."""
    return jnp.mean(values, axis=tuple(range(1, values.ndim)))


def flip(x: Array, mirrored: Array) -> Array:
    """x [B, H, W, C], with examples mirrored left to right where `mirrored` (bool [B]) is true."""
    return jnp.where(mirrored[:, None, None, None], x[:, :, ::-1], x)


def psnr(x: Array, y: Array, data_range: float) -> Array:
    """Peak signal-to-noise ratio in dB per example, 10·log₁₀(range² / mean (x-y)²): [B].

    Args:
      x, y: [B, ...].
      data_range: 2 for [-1, 1], 255 for uint8 values. Equal images give infinity.
    """
    x, y = floats(x), floats(y)
    error = jnp.mean(jnp.square(x - y).reshape(x.shape[0], -1), axis=1)
    return 10 * jnp.log10(data_range**2 / error)


def ssim(x: Array, y: Array, data_range: float) -> Array:
    """Structural similarity per example, in [-1, 1], 1 for equal images: [B].

    Wang 2004: Gaussian window 11×11 of σ 1.5, K₁ = 0.01, K₂ = 0.03, windows wholly inside the
    image, weighted variances without n/(n-1); mean over positions and channels.

    Args:
      x, y: [B, H, W, C], both sides at least 11, from 0 (no light) to data_range. The formula is
        not invariant under shifts: give x + 1 for images in [-1, 1].
      data_range: 255 for uint8 values, 2 for [-1, 1] plus 1.

    Raises:
      ValueError: an image smaller than the window.
    """
    if min(np.shape(x)[1:3]) < SSIM_WINDOW:
        raise ValueError(
            f"SSIM needs sides of {SSIM_WINDOW} pixels or more, found {min(np.shape(x)[1:3])}"
        )
    return ssim_terms(floats(x), floats(y), data_range)[0]


def ssim_terms(x: Array, y: Array, data_range: float) -> tuple[Array, Array]:
    """SSIM and the part of it that is contrast and structure, of floats [B, H, W, C]: [B] each.

    Arguments as of `ssim`; where a side is shorter than the window, the window has that side and σ
    in proportion.
    """
    size = min(SSIM_WINDOW, *x.shape[1:3])
    weights = _gaussian(size, SSIM_SIGMA * size / SSIM_WINDOW)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    # variances do not depend on the mean level; subtracting it first keeps them exact in float32
    level = jnp.mean(x, axis=(1, 2), keepdims=True)
    x, y = x - level, y - level
    mx, my, xx, yy, xy = _blur(jnp.stack([x, y, x * x, y * y, x * y]), weights)
    vx, vy, vxy = xx - mx * mx, yy - my * my, xy - mx * my
    mx, my = mx + level, my + level
    luminance = (2 * mx * my + c1) / (mx * mx + my * my + c1)
    structure = (2 * vxy + c2) / (vx + vy + c2)
    axes = (1, 2, 3)
    return jnp.mean(luminance * structure, axis=axes), jnp.mean(structure, axis=axes)


def _blur(maps: Array, weights: list[float]) -> Array:
    """Maps [..., H, W, C] under a separable window that stays wholly inside."""
    reach = len(weights) - 1
    height, width = maps.shape[-3] - reach, maps.shape[-2] - reach
    # sums of shifted maps: float32 all through on every device, and no cost that grows as side³
    maps = sum(weight * maps[..., i : i + height, :, :] for i, weight in enumerate(weights))
    return sum(weight * maps[..., i : i + width, :] for i, weight in enumerate(weights))


def _gaussian(size: int, sigma: float) -> list[float]:
    """`size` weights that sum to 1; an even size has its centre between two pixels."""
    places = np.arange(size) - (size - 1) / 2
    weights = np.exp(-0.5 * np.square(places / sigma))
    # with Python floats as weights, images keep their dtype
    return (weights / weights.sum()).tolist()


def floats(x: Array | np.ndarray) -> Array:
    """Integers and half floats as float32; float32 and float64 as they are."""
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))

"""Image formulas: pixels to network range and back, mirroring, PSNR and SSIM."""

import jax.numpy as jnp
import numpy as np
from jax import Array

SSIM_WINDOW = 11
"""Side of SSIM's Gaussian window in pixels; its σ is 1.5."""


def to_unit(pixels: Array | np.ndarray) -> Array:
    """[...] in 0..255 → [-1, 1]: (x - 127.5) / 127.5, in float32 unless the pixels are doubles."""
    return (_floats(pixels) - 127.5) / 127.5


def to_uint8(x: Array | np.ndarray) -> Array:
    """[...] in [-1, 1] → uint8: (x + 1)·127.5 in float32, clamped to 0..255, truncated.

    As guided-diffusion does it; the order matters, x·127.5 + 127.5 differs on 95 of 256 values.
    `to_unit` may round to just below its grid value, so a round trip can lose one level.
    """
    return jnp.clip((jnp.asarray(x, jnp.float32) + 1) * 127.5, 0, 255).astype(jnp.uint8)


def flip(x: Array, mirrored: Array) -> Array:
    """x [B, H, W, C] with the examples where `mirrored` (bool [B]) is true turned left to right."""
    return jnp.where(mirrored[:, None, None, None], x[:, :, ::-1], x)


def psnr(x: Array, y: Array, data_range: float) -> Array:
    """Peak signal-to-noise ratio in dB per example, 10·log₁₀(range² / mean (x-y)²): [B].

    Args:
      x, y: [B, ...].
      data_range: 2 for [-1, 1], 255 for uint8 values. Equal images give infinity.
    """
    x, y = _floats(x), _floats(y)
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
    x, y = _floats(x), _floats(y)
    rows, columns = (jnp.asarray(_gaussian_rows(side), x.dtype) for side in x.shape[1:3])

    def blur(image: Array) -> Array:
        image = jnp.einsum("ph,bhwc->bpwc", rows, image, precision="highest")
        return jnp.einsum("qw,bpwc->bpqc", columns, image, precision="highest")

    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    # variances do not depend on the level; taking it off first keeps them exact in float32
    level = jnp.mean(x, axis=(1, 2), keepdims=True)
    x, y = x - level, y - level
    mx, my = blur(x), blur(y)
    vx, vy, vxy = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    mx, my = mx + level, my + level
    luminance = (2 * mx * my + c1) / (mx * mx + my * my + c1)
    structure = (2 * vxy + c2) / (vx + vy + c2)
    return jnp.mean(luminance * structure, axis=(1, 2, 3))


def _floats(x: Array | np.ndarray) -> Array:
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _gaussian_rows(side: int) -> np.ndarray:
    """The window slid over a side, as a matrix: [side - 10, side], rows sum to 1."""
    if side < SSIM_WINDOW:
        raise ValueError(f"SSIM needs sides of {SSIM_WINDOW} pixels or more, found {side}")
    weights = np.exp(-0.5 * (np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2) ** 2 / 1.5**2)
    weights /= weights.sum()
    matrix = np.zeros((side - SSIM_WINDOW + 1, side))
    for row in range(len(matrix)):
        matrix[row, row : row + SSIM_WINDOW] = weights
    return matrix

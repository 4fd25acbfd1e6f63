"""CIE L*a*b* and sRGB, for networks that colour a grey image.

Formulas: IEC 61966-2-1 (sRGB), CIE 15 (L*a*b*), white point D65.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
WHITE = TO_XYZ.sum(axis=1)
CHROMA = 110.0
"""a* and b* of sRGB colours lie within ± this."""
DELTA = 6 / 29


def rgb_to_lab(x: Array) -> Array:
    """sRGB [..., 3] in [-1, 1] → L* in [0, 100], a* and b* in ±110: [..., 3]."""
    rgb = jnp.clip((x + 1) / 2, 0, 1)
    curve = jnp.power((rgb + 0.055) / 1.055, 2.4)
    linear = jnp.where(rgb <= 0.04045, rgb / 12.92, curve)
    t = _times(linear, TO_XYZ / WHITE[:, None])
    # the derivative of the root at 0 is infinite, and infinity times the 0 of `where` is NaN
    root = jnp.cbrt(jnp.maximum(t, DELTA**3))
    f = jnp.where(t > DELTA**3, root, t / (3 * DELTA**2) + 4 / 29)
    fx, fy, fz = f[..., 0], f[..., 1], f[..., 2]
    return jnp.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], axis=-1)


def lab_to_rgb(lab: Array) -> Array:
    """The inverse of `rgb_to_lab`; colours outside sRGB are clipped to [-1, 1]."""
    fy = (lab[..., 0] + 16) / 116
    f = jnp.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], axis=-1)
    t = jnp.where(f > DELTA, f**3, 3 * DELTA**2 * (f - 4 / 29))
    linear = jnp.clip(_times(t, np.linalg.inv(TO_XYZ / WHITE[:, None])), 0, 1)
    curve = 1.055 * jnp.power(jnp.maximum(linear, 1e-9), 1 / 2.4) - 0.055
    rgb = jnp.where(linear <= 0.0031308, 12.92 * linear, curve)
    return jnp.clip(2 * rgb - 1, -1, 1)


def chroma(x: Array) -> Array:
    """(a*, b*) / 110 of sRGB [..., 3] in [-1, 1]: [..., 2] in [-1, 1]."""
    return rgb_to_lab(x)[..., 1:] / CHROMA


def coloured(lightness: Array, ab: Array) -> Array:
    """sRGB [..., 3] in [-1, 1] from L*/50 - 1 [..., 1] and (a*, b*)/110 [..., 2]."""
    return lab_to_rgb(jnp.concatenate([50 * (lightness + 1), CHROMA * ab], axis=-1))


def _times(x: Array, matrix: np.ndarray) -> Array:
    return jnp.einsum("...c,dc->...d", x, jnp.asarray(matrix, x.dtype), precision="highest")

"""Resizing as a product of the image with two small matrices, one for each axis.

Each rule is a function from static sizes to a matrix of weights, made in float64 on the host. That
is exact, differentiable, and has the same form for every rule.
"""

import math
from functools import lru_cache, partial

import jax.numpy as jnp
import numpy as np
from jax import Array


def tf1_bilinear(images: Array, height: int, width: int) -> Array:
    """TensorFlow 1's bilinear: source = target · in/out, no half-pixel centre, no antialias.

    The original FID resizes images for the Inception network in this way.

    Args:
      images: [..., H, W, C]; integers become float32, values keep their range.

    Returns:
      [..., height, width, C].
    """
    return _apply(_tf1_bilinear, images, height, width)


def bilinear(images: Array, height: int, width: int) -> Array:
    """Bilinear with half-pixel centres, clamped at the borders, without antialias: [..., H, W, C].

    PyTorch's interpolate with align_corners=False.
    """
    return _apply(_half_pixel_bilinear, images, height, width)


def area(images: Array, height: int, width: int) -> Array:
    """Mean over the source pixels that a target pixel touches: [..., H, W, C].

    PyTorch's area mode (adaptive average): the block mean for whole factors; otherwise from
    ⌊i·in/out⌋ to ⌈(i+1)·in/out⌉, every touched pixel with the same weight.
    """
    return _apply(_area, images, height, width)


def antialiased(images: Array, height: int, width: int, filter: str = "bicubic") -> Array:
    """Pillow's resize of float images, clipped to 0..255 and not rounded: [..., H, W, C].

    Where images shrink, the filter is widened to the size of a target pixel; at the borders it is
    cut off and renormalised. With "bicubic" (a = -0.5) it is the "clean" resize of Parmar et al.
    2022.

    Args:
      images: [..., H, W, C] in 0..255.
      filter: a name in FILTERS.
    """
    return jnp.clip(_apply(partial(_antialiased, filter), images, height, width), 0, 255)


def on_host(rule, image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Applies `rule`, one of the functions above, to one image [H, W, C] in numpy: float32
    [height, width, C]. Nothing is compiled, which suits sets whose images have many sizes."""
    matrices = {
        tf1_bilinear: _tf1_bilinear,
        bilinear: _half_pixel_bilinear,
        area: _area,
        antialiased: partial(_antialiased, "bicubic"),
    }
    rows, columns = (
        matrices[rule](source, target).astype(np.float32)
        for source, target in zip(image.shape[:2], (height, width), strict=True)
    )
    out = np.tensordot(rows, np.asarray(image, np.float32), 1)  # [height, W, C]
    out = np.matmul(columns, out)
    return np.clip(out, 0, 255) if rule is antialiased else out


def _cubic(x: np.ndarray) -> np.ndarray:
    a, x = -0.5, np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _lanczos(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


FILTERS = {  # name: (half width in pixels, weight at a distance from the middle)
    "box": (0.5, lambda x: ((x > -0.5) & (x <= 0.5)).astype(float)),
    "bilinear": (1.0, lambda x: np.maximum(1 - np.abs(x), 0)),
    "bicubic": (2.0, _cubic),
    "lanczos": (3.0, _lanczos),
}


@lru_cache
def _antialiased(filter: str, source: int, target: int) -> np.ndarray:
    reach, weight = FILTERS[filter]
    ratio = source / target
    scale = max(ratio, 1.0)
    places = (np.arange(target) + 0.5) * ratio  # centres of target pixels in the source, [target]
    first = np.maximum((places - reach * scale + 0.5).astype(int), 0)
    last = np.minimum((places + reach * scale + 0.5).astype(int), source)
    pixels = np.arange(source)
    inside = (pixels >= first[:, None]) & (pixels < last[:, None])
    matrix = np.where(inside, weight((pixels + 0.5 - places[:, None]) / scale), 0)
    return matrix / matrix.sum(axis=1, keepdims=True)


def _apply(rule, images: Array, height: int, width: int) -> Array:
    images = jnp.asarray(images)
    if not jnp.issubdtype(images.dtype, jnp.floating):
        images = images.astype(jnp.float32)
    rows = jnp.asarray(rule(images.shape[-3], height), images.dtype)
    columns = jnp.asarray(rule(images.shape[-2], width), images.dtype)
    images = jnp.einsum("ph,...hwc->...pwc", rows, images, precision="highest")
    return jnp.einsum("qw,...pwc->...pqc", columns, images, precision="highest")


@lru_cache
def _tf1_bilinear(source: int, target: int) -> np.ndarray:
    return _interpolation(np.arange(target) * (source / target), source)


@lru_cache
def _half_pixel_bilinear(source: int, target: int) -> np.ndarray:
    places = (np.arange(target) + 0.5) * (source / target) - 0.5
    return _interpolation(np.maximum(places, 0), source)


@lru_cache
def _area(source: int, target: int) -> np.ndarray:
    matrix = np.zeros((target, source))
    for i in range(target):
        start, stop = i * source // target, math.ceil((i + 1) * source / target)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix


def _interpolation(places: np.ndarray, source: int) -> np.ndarray:
    """Weights [target, source] that interpolate between the two pixels around each place ≥ 0."""
    lower = np.minimum(np.floor(places).astype(int), source - 1)
    upper = np.minimum(lower + 1, source - 1)
    share = places - lower
    matrix = np.zeros((len(places), source))
    index = np.arange(len(places))
    np.add.at(matrix, (index, lower), 1 - share)
    np.add.at(matrix, (index, upper), share)
    return matrix

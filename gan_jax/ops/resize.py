"""Resizing as two small matrices times the image: exact, differentiable, one form for every rule.

Each rule is a matrix of weights per axis, made in float64 on the host from static sizes.
"""

import math
from functools import lru_cache

import jax.numpy as jnp
import numpy as np
from jax import Array


def tf1_bilinear(images: Array, height: int, width: int) -> Array:
    """TensorFlow 1's bilinear: source = target · in/out, no half-pixel centre, no antialias.

    What the Inception network of the metrics was fed with.

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
    """Weights [target, source] that read between the two pixels around each place ≥ 0."""
    lower = np.minimum(np.floor(places).astype(int), source - 1)
    upper = np.minimum(lower + 1, source - 1)
    share = places - lower
    matrix = np.zeros((len(places), source))
    index = np.arange(len(places))
    np.add.at(matrix, (index, lower), 1 - share)
    np.add.at(matrix, (index, upper), share)
    return matrix

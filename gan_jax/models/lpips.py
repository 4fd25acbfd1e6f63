"""LPIPS: how different two images look, from the features of a classifier of photographs.

Zhang et al. 2018, https://arxiv.org/abs/1801.03924, version 0.1. Equation 1: the features of five
layers are scaled to unit length over the channels at every pixel; their squared differences are
weighted per channel by heads trained on people's judgements, averaged over pixels and summed over
layers. The layers are relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3 of VGG16, or relu1 to relu5 of
torchvision's AlexNet, which has one tower. gan_jax.interop.lpips reads trained weights.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.nn import initializers

from gan_jax.models import layers
from gan_jax.models.network import functional

PyTree = Any

# What ImageNet's mean and deviation become when images lie in [-1, 1] instead of [0, 1].
SHIFT = np.array([-0.030, -0.088, -0.188], np.float32)
SCALE = np.array([0.458, 0.448, 0.450], np.float32)
EPS = 1e-10  # added to the length of a pixel's features
SMALLEST = {"vgg16": 16, "alexnet": 31}  # sides of which a pixel is left after the last pool


class Convolution(NamedTuple):
    features: int
    kernel_size: int = 3
    strides: int = 1
    padding: int = 1


class Stage(NamedTuple):
    """The layers between two feature maps: a pool with windows of side `pool` (0: none), then
    convolutions."""

    pool: int
    convolutions: tuple[Convolution, ...]


STAGES = {
    "vgg16": (
        Stage(0, (Convolution(64),) * 2),
        Stage(2, (Convolution(128),) * 2),
        Stage(2, (Convolution(256),) * 3),
        Stage(2, (Convolution(512),) * 3),
        Stage(2, (Convolution(512),) * 3),
    ),
    "alexnet": (
        Stage(0, (Convolution(64, 11, 4, 2),)),
        Stage(3, (Convolution(192, 5, 1, 2),)),
        Stage(3, (Convolution(384),)),
        Stage(0, (Convolution(256),)),
        Stage(0, (Convolution(256),)),
    ),
}
POOLS = {
    0: lambda x: x,
    2: layers.max_pool,
    3: partial(nn.max_pool, window_shape=(3, 3), strides=(2, 2)),
}


class Features(nn.Module):
    """Five feature maps [B, H', W', C] of images [B, H, W, 3] in [-1, 1], the finest first."""

    kind: str

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> list[Array]:
        h = (x - SHIFT) / SCALE
        maps, index = [], 0
        for stage in STAGES[self.kind]:
            h = POOLS[stage.pool](h)
            for convolution in stage.convolutions:
                conv = layers.Conv(*convolution, weight_init="he", name=f"conv_{index}")
                h, index = jax.nn.relu(conv(h)), index + 1
            maps.append(h)
        return maps


class Lpips(nn.Module):
    """x, y [B, H, W, 3] in [-1, 1] → distances [B].

    The heads start at 1, the paper's distance without calibration.
    """

    kind: str

    @nn.compact
    def __call__(self, x: Array, y: Array, train: bool = False) -> Array:
        _check_images(self.kind, x.shape, y.shape)
        distance = 0
        both = jnp.concatenate([x, y])  # [2 * B, H, W, 3]
        for level, h in enumerate(Features(self.kind, name="features")(both)):
            of_x, of_y = jnp.split(_unit_length(h), 2)
            # the head is linear, so after the mean it costs one product per image, not per pixel
            difference = jnp.mean(jnp.square(of_x - of_y), (1, 2), keepdims=True)  # [B, 1, 1, C]
            head = layers.Conv(
                1, 1, use_bias=False, kernel_init=initializers.ones, name=f"head_{level}"
            )
            distance += head(difference)[:, 0, 0, 0]
        return distance


class Distance(NamedTuple):
    """A distance of two images as pure functions.

    init(key, x, y) → params. apply(params, x, y) → [B], for x, y [B, H, W, 3] in [-1, 1].
    """

    init: Callable[[Array, Array, Array], PyTree]
    apply: Callable[[PyTree, Array, Array], Array]


def lpips(kind: str) -> Distance:
    """LPIPS over the features of `kind`, "vgg16" or "alexnet".

    params: features/conv_0/kernel [3, 3, 3, 64], features/conv_0/bias, …, head_0/kernel
    [1, 1, 64, 1] to head_4/kernel; non-negative heads make distances >= 0. The distances are
    differentiable in both images, also where all features of a pixel are 0.

    Raises:
        ValueError: another kind; in init and apply, images of other shapes than [B, H, W, 3] or
            below 16 (vgg16) or 31 (alexnet) pixels a side.
    """
    if kind not in STAGES:
        raise ValueError(f"kind is {kind!r}; accepted: {', '.join(STAGES)}")
    network = functional(Lpips(kind))

    def init(key: Array, x: Array, y: Array) -> PyTree:
        return network.init(key, x, y)[0]

    def apply(params: PyTree, x: Array, y: Array) -> Array:
        # values must be comparable with others', and accelerators round products to 8 or 11 bits
        with jax.default_matmul_precision("highest"):
            return network.apply(params, {}, x, y)[0]

    return Distance(init, apply)


def _unit_length(h: Array) -> Array:
    """The features of every pixel divided by their Euclidean length plus EPS."""
    h = h.astype(jnp.promote_types(h.dtype, jnp.float32))
    # where all features are 0 the root has no derivative, but there relu passes none on
    return h / (jnp.sqrt(jnp.sum(jnp.square(h), axis=-1, keepdims=True)) + EPS)


def _check_images(kind: str, x: tuple[int, ...], y: tuple[int, ...]) -> None:
    if x != y or len(x) != 4 or x[3] != 3:
        raise ValueError(f"images are {list(x)} and {list(y)}; LPIPS compares two of [B, H, W, 3]")
    if min(x[1:3]) < SMALLEST[kind]:
        raise ValueError(
            f"images are {x[1]}x{x[2]} pixels; LPIPS of {kind} needs {SMALLEST[kind]} and more a "
            "side: enlarge them"
        )

"""Norms, blocks, encoders and the decoder of WarpGAN (Shi, Deb and Jain 2019).

Padding is by reflection everywhere, and moments are computed in float32 at least.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.nn import initializers

from gan_jax.models.layers import Conv, Dense, instance_norm, leaky_relu, upsample
from gan_jax.models.precision import cast, single

INSTANCE_EPS = 1e-6
LAYER_EPS = 1e-12


class InstanceNorm(nn.Module):
    """[B, H, W, C] normalised over H and W, each image and channel by itself; then scale and bias
    [C]."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", initializers.ones, x.shape[-1:])
        bias = self.param("bias", initializers.zeros, x.shape[-1:])
        return (instance_norm(single(x), INSTANCE_EPS) * scale + bias).astype(x.dtype)


class AdaptiveInstanceNorm(nn.Module):
    """[B, H, W, C] normalised like InstanceNorm; scale and bias [B, C] are inputs."""

    @nn.compact
    def __call__(self, x: Array, scale: Array, bias: Array) -> Array:
        h = instance_norm(single(x), INSTANCE_EPS)
        return (h * scale[:, None, None] + bias[:, None, None]).astype(x.dtype)


class LayerNorm(nn.Module):
    """[B, ..., C] normalised over all axes but the first together; then scale and bias [C]."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", initializers.ones, x.shape[-1:])
        bias = self.param("bias", initializers.zeros, x.shape[-1:])
        axes = tuple(range(1, x.ndim))
        h = single(x)
        centred = h - jnp.mean(h, axes, keepdims=True)
        var = jnp.mean(jnp.square(centred), axes, keepdims=True)
        return (centred * jax.lax.rsqrt(var + LAYER_EPS) * scale + bias).astype(x.dtype)


class ReflectConv(Conv):
    """A convolution of [B, H, W, C] with `reflect` pixels more on every side: pixel −1 is pixel
    1."""

    reflect: int = 0
    weight_init: str = "he"
    use_bias: bool = False

    def __call__(self, x: Array) -> Array:
        p = self.reflect
        x = jnp.pad(x, ((0, 0), (p, p), (p, p), (0, 0)), mode="reflect") if p else x
        return super().__call__(x)


class ResBlock(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), 3x3 convolutions without biases, nothing after the sum.

    The norm is instance norm with its own scales and biases, or adaptive instance norm if `scale`
    and `bias` [B, C] are given.
    """

    @nn.compact
    def __call__(self, x: Array, scale: Array | None = None, bias: Array | None = None) -> Array:
        def normalise(h: Array, name: str) -> Array:
            if scale is None:
                return InstanceNorm(name=name)(h)
            return AdaptiveInstanceNorm(name=name)(h, scale, bias)

        features = x.shape[-1]
        h = ReflectConv(features, 3, reflect=1, name="conv0")(x)
        h = jax.nn.relu(normalise(h, "norm0"))
        h = ReflectConv(features, 3, reflect=1, name="conv1")(h)
        return x + normalise(h, "norm1")


def _down(x: Array, width: int, number: int, use_bias: bool) -> Array:
    """Convolution `number` 0 to 2 of an encoder, the same in both; 1 and 2 halve the image."""
    kernel, strides, reflect = ((7, 1, 3), (4, 2, 1), (4, 2, 1))[number]
    features, name = width * 2**number, f"conv{number}"
    return ReflectConv(
        features, kernel, strides, use_bias=use_bias, reflect=reflect, name=name
    )(x)  # fmt: skip


def trunk(x: Array, width: int) -> Array:
    """The first layers, "conv1" to "conv5", of a discriminator and of a classifier of identities,
    inside either module: images [B, H, W, C] → [B, H/32, W/32, 16 width]."""
    for number in range(5):
        conv = ReflectConv(
            width * 2**number, 4, 2, use_bias=True, weight_init="xavier", reflect=1,
            name=f"conv{number + 1}",
        )  # fmt: skip
        x = leaky_relu(conv(x))
    return x


def embedded(x: Array, size: int) -> Array:
    """[B, F] → [B, size] of length 1, in float32 at least, by the layer "bottleneck" inside a
    module."""
    h = single(Dense(size, weight_init="xavier", name="bottleneck")(x))
    square = jnp.sum(jnp.square(h), axis=-1, keepdims=True)
    return h * jax.lax.rsqrt(jnp.maximum(square, 1e-12))


class StyleEncoder(nn.Module):
    """Images [B, H, W, C] → style codes [B, size]; no norm, since that would remove style.

    `dtype` is the precision of the convolutions, here and below.
    """

    width: int
    size: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = cast(x, self.dtype)
        for number in range(3):
            x = jax.nn.relu(_down(x, self.width, number, True))
        return Dense(self.size, weight_init="he", name="code")(jnp.mean(single(x), (1, 2)))


class ContentEncoder(nn.Module):
    """Images [B, H, W, C] → content code [B, H/4, W/4, 4 width]."""

    width: int
    blocks: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = cast(x, self.dtype)
        for number in range(3):
            x = _down(x, self.width, number, False)
            x = jax.nn.relu(InstanceNorm(name=f"norm{number}")(x))
        for number in range(self.blocks):
            x = ResBlock(name=f"res{number}")(x)
        return x


class StyleController(nn.Module):
    """Style codes [B, S] → scale and bias [B, features] of every adaptive norm in the decoder."""

    width: int
    features: int

    @nn.compact
    def __call__(self, style: Array) -> tuple[Array, Array]:
        h = style
        for number in range(2):
            h = hidden(h, self.width, str(number))
        scale = Dense(self.features, weight_init="he", name="scale")(h)
        return scale, Dense(self.features, weight_init="he", name="shift")(h)


def hidden(x: Array, width: int, number: str = "") -> Array:
    """[B, F] → [B, width]: a linear layer without bias, layer norm, ReLU."""
    x = Dense(width, use_bias=False, weight_init="he", name=f"fc{number}")(x)
    return jax.nn.relu(LayerNorm(name=f"norm{number}")(x))


class Decoder(nn.Module):
    """Content code [B, h, w, 4 width], scale and bias [B, 4 width] → images [B, 4h, 4w, channels].

    The last kernel starts at 0, so that images are grey at first.
    """

    width: int
    blocks: int
    channels: int

    @nn.compact
    def __call__(self, x: Array, scale: Array, bias: Array) -> Array:
        for number in range(self.blocks):
            x = ResBlock(name=f"res{number}")(x, scale, bias)
        for number, features in enumerate((2 * self.width, self.width)):
            x = ReflectConv(features, 5, reflect=2, name=f"conv{number}")(upsample(x))
            x = jax.nn.relu(LayerNorm(name=f"norm{number}")(x))
        image = ReflectConv(
            self.channels, 7, reflect=3, use_bias=True, kernel_init=initializers.zeros, name="image"
        )
        return jnp.tanh(image(single(x)))


def grid_pool(x: Array, side: int) -> Array:
    """Means over the cells of a side x side grid: [B, H, W, C] → [B, side, side, C].

    H and W may be any: a pixel that two cells share counts in each by the part that lies in it.
    """
    rows, columns = (jnp.asarray(_cells(n, side), x.dtype) for n in x.shape[1:3])
    return jnp.einsum("ih,bhwc,jw->bijc", rows, x, columns)


def _cells(size: int, cells: int) -> np.ndarray:
    """[cells, size]: the weight of each pixel in each cell's mean."""
    length, pixel = size / cells, np.arange(size)
    start = length * np.arange(cells)[:, None]
    shared = np.minimum(start + length, pixel + 1) - np.maximum(start, pixel)
    return np.maximum(shared, 0) / length

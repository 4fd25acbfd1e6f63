"""The growing generator and discriminator of ProGAN (Karras et al. 2018, section 2 to 4, table 2).

All parameters exist from the beginning. A call is given the side at which it works, so that a
compiled step only contains the levels that it uses, and the weight `fade` of the next lower side,
which may be traced: 1 at the start of a fade, 0 at its end and after it. Inputs and outputs are
images of that side, not of the final one.
"""

import math
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import initializers

from gan_jax.models import convolution
from gan_jax.models.layers import MinibatchStddev, average_pool, leaky_relu, upsample
from gan_jax.models.network import Network, functional
from gan_jax.models.precision import cast, like, single

SMALLEST = 4
GAIN = math.sqrt(2)  # of rectifiers, whatever their slope


def defaults() -> dict:
    """The section `model` of a config."""
    return dict(
        fmap_base=8192,  # channels at a side are fmap_base / side · 2, at most fmap_max
        fmap_decay=1.0,
        fmap_max=512,
        z_dim=0,  # 0: as many as the lowest block has channels
        conditional=True,  # make images of a given class, if the data has classes
        equalized=True,  # scale weights when they are used, not when they are initialised
        pixel_norm=True,  # gen
        normalize_latents=True,  # gen
        leaky=True,  # gen; False: plain ReLU
        fused_scale=True,  # resize inside the convolutions; disc then applies its ReLU afterwards
        minibatch_stddev=4,  # group size, 0: none
        dtype="float32",  # | bfloat16 | float16, of activations; weights stay float32
    )


def channels(resolution: int, base: int, decay: float, most: int) -> int:
    """Channels of the block at a side 2^r: min(⌊base / 2^((r-1)·decay)⌋, most)."""
    stage = int(math.log2(resolution)) - 1
    return min(int(base / 2.0 ** (stage * decay)), most)


def latent_size(model: Any) -> int:
    """The length of latents: config.model.z_dim, or the channels of the lowest block."""
    return model.z_dim or channels(2, model.fmap_base, model.fmap_decay, model.fmap_max)


def build(
    model: Any, resolution: int, image_channels: int, classes: int
) -> tuple[Network, Network]:
    """Generator and discriminator as pure functions.

    gen.apply(params, {}, z [N, Z], label [N, classes], side, fade) → images [N, side, side, C]
    disc.apply(params, {}, images, label, side, fade) → (score [N], logits [N, classes])

    Labels are one-hot, in floats; with `classes` 0 they have no columns.
    """
    shared = dict(
        resolution=resolution, fmap_base=model.fmap_base, fmap_decay=model.fmap_decay,
        fmap_max=model.fmap_max, equalized=model.equalized, fused=model.fused_scale,
        dtype=model.dtype,
    )  # fmt: skip
    gen = Generator(
        channels=image_channels, pixel_norm=model.pixel_norm, leaky=model.leaky,
        normalize_latents=model.normalize_latents, **shared,
    )  # fmt: skip
    disc = Discriminator(classes=classes, group=model.minibatch_stddev, **shared)
    return functional(gen), functional(disc)


def in_use(params: dict, side: int) -> list[str]:
    """The layers of either network that have been updated once training reaches `side`: the blocks
    and colour layers of that side and of lower ones."""
    return [name for name in params if int(re.search(r"\d+", name)[0]) <= side]


def pixel_norm(x: Array, eps: float = 1e-8) -> Array:
    """x / √(mean over channels of x² + eps) on [..., C]; computed in float32 at least."""
    h = single(x)
    h = h * jax.lax.rsqrt(jnp.mean(jnp.square(h), axis=-1, keepdims=True) + eps)
    return h.astype(x.dtype)


class Weighted(nn.Module):
    """A dense layer (kernel_size 0) or a convolution with He's constant at run time.

    The kernel starts as N(0, 1) and is multiplied by gain / √fan_in at every use; without
    `equalized` the initial values are multiplied instead. `resize` "up" doubles the sides before
    the convolution by nearest neighbour, "down" halves them after it by means of 2x2; with `fused`
    one convolution with a 4x4 kernel does both. The bias [O] is added after resizing.
    """

    features: int
    kernel_size: int = 3
    gain: float = GAIN
    equalized: bool = True
    resize: str = ""
    fused: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        taps = (self.kernel_size,) * 2 if self.kernel_size else ()
        shape = (*taps, x.shape[-1], self.features)
        kernel, bias = _weights(self, x, shape, self.gain / math.sqrt(math.prod(shape[:-1])))
        return self.product(x, kernel) + bias

    def product(self, x: Array, kernel: Array) -> Array:
        if not self.kernel_size:
            return x @ kernel
        if self.resize == "up" and self.fused:
            return convolution.conv_transpose(x, fused_kernel(kernel[::-1, ::-1]), 2, 1)
        if self.resize == "down" and self.fused:
            return convolution.conv(x, fused_kernel(kernel) / 4, 2, 1)
        x = upsample(x) if self.resize == "up" else x
        x = convolution.conv(x, kernel, 1, self.kernel_size // 2)
        return average_pool(x) if self.resize == "down" else x


def _weights(layer: Any, x: Array, shape: tuple[int, ...], factor: float) -> tuple[Array, Array]:
    """The kernel times `factor`, and the bias, both in x's precision if that is lower."""
    draw = initializers.normal(1.0 if layer.equalized else factor)
    kernel = layer.param("kernel", draw, shape)
    bias = layer.param("bias", initializers.zeros, (layer.features,))
    if layer.equalized:
        kernel = kernel * jnp.asarray(factor, kernel.dtype)
    return like(x, kernel), like(x, bias)


def fused_kernel(kernel: Array) -> Array:
    """The kernel [3, 3, C, O] summed over four shifts by a pixel: [4, 4, C, O]."""
    padded = jnp.pad(kernel, ((1, 1), (1, 1), (0, 0), (0, 0)))
    return sum(padded[i : i + 4, j : j + 4] for i in (0, 1) for j in (0, 1))


class _Growing(nn.Module):
    """What both networks share."""

    resolution: int = 32
    fmap_base: int = 8192
    fmap_decay: float = 1.0
    fmap_max: int = 512
    equalized: bool = True
    fused: bool = False
    dtype: str = "float32"

    def width(self, side: int) -> int:
        return channels(side, self.fmap_base, self.fmap_decay, self.fmap_max)

    def layer(self, name: str, features: int, **options) -> Weighted:
        return Weighted(features, equalized=self.equalized, fused=self.fused, name=name, **options)


class Generator(_Growing):
    """z [N, z_dim] and one-hot labels [N, L] → images [N, side, side, C], not limited in range."""

    channels: int = 3
    pixel_norm: bool = True
    leaky: bool = True
    normalize_latents: bool = True

    @nn.compact
    def __call__(
        self, z: Array, label: Array, side: int, fade: Array | float, train: bool = False
    ) -> Array:
        del train  # training and inference are the same here
        rectify = leaky_relu if self.leaky else jax.nn.relu

        def finish(h):
            return pixel_norm(rectify(h)) if self.pixel_norm else rectify(h)

        x = jnp.concatenate([z, label.astype(z.dtype)], axis=-1)
        x = cast(pixel_norm(x) if self.normalize_latents else x, self.dtype)
        width = self.width(SMALLEST)
        # one bias per channel, since the dense layer is a transposed convolution of a 1x1 image
        x = Spread(width, equalized=self.equalized, name="block4_dense")(x)
        x = finish(self.layer("block4_conv", width)(finish(x)))
        lower = image = None
        for at in _sides(SMALLEST, self.resolution if self.is_initializing() else side):
            if at > SMALLEST:
                width = self.width(at)
                x = finish(self.layer(f"block{at}_conv0", width, resize="up")(x))
                x = finish(self.layer(f"block{at}_conv1", width)(x))
            if self.is_initializing() or at in (side, side // 2):
                rgb = self.layer(f"to_rgb{at}", self.channels, kernel_size=1, gain=1.0)(x)
                lower, image = image, rgb
        if lower is not None:
            image = _mix(image, upsample(lower), fade)
        return single(image)


class Spread(nn.Module):
    """The dense layer from a vector to a map: [N, Z] → [N, 4, 4, C], with one bias per channel."""

    features: int
    equalized: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (x.shape[-1], SMALLEST * SMALLEST * self.features)
        kernel, bias = _weights(self, x, shape, GAIN / 4 / math.sqrt(x.shape[-1]))
        return (x @ kernel).reshape(x.shape[0], SMALLEST, SMALLEST, self.features) + bias


class Discriminator(_Growing):
    """Images [N, side, side, C] → (score [N], logits of the class [N, L]).

    The label is not used; it is an argument so that both networks have the same signature.
    """

    classes: int = 0
    group: int = 4

    @nn.compact
    def __call__(
        self, image: Array, label: Array, side: int, fade: Array | float, train: bool = False
    ) -> tuple[Array, Array]:
        del label, train
        image = cast(image, self.dtype)

        def see(image, at):
            return leaky_relu(self.layer(f"from_rgb{at}", self.width(at), kernel_size=1)(image))

        x = see(image, side)
        for at in reversed(_sides(2 * SMALLEST, side)):
            x = leaky_relu(self.layer(f"block{at}_conv0", self.width(at))(x))
            width = self.width(at // 2)
            if self.fused:
                x = leaky_relu(self.layer(f"block{at}_conv1", width, resize="down")(x))
            else:
                x = average_pool(leaky_relu(self.layer(f"block{at}_conv1", width)(x)))
            if self.is_initializing() or at == side:
                image = average_pool(image)
                below = see(image, at // 2)
                x = _mix(x, below, fade) if at == side else x
        if self.group > 1:  # as in the original, a group of one means no such channel
            x = MinibatchStddev(self.group)(single(x)).astype(x.dtype)
        x = leaky_relu(self.layer("block4_conv", self.width(SMALLEST))(x))
        x = x.reshape(x.shape[0], -1)
        x = leaky_relu(self.layer("block4_dense0", self.width(2), kernel_size=0)(x))
        x = self.layer("block4_dense1", 1 + self.classes, kernel_size=0, gain=1.0)(x)
        x = single(x)
        return x[:, 0], x[:, 1:]


def _sides(first: int, last: int) -> list[int]:
    """Powers of two from `first` to `last`, both included."""
    found = []
    while first <= last:
        found.append(first)
        first *= 2
    return found


def _mix(new: Array, old: Array, fade: Array | float) -> Array:
    """new + (old - new) · fade."""
    return new + (old - new) * jnp.asarray(fade, new.dtype)

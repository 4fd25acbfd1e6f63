"""The discriminators of pix2pix: each logit classifies one patch of the image."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from gan_jax.models.layers import leaky_relu
from gan_jax.models.pix2pix_base import Backbone
from gan_jax.models.precision import cast, single


class Discriminator(Backbone):
    """condition, image [B, H, W, C] in [-1, 1] → logits [B, h, w, 1], one per patch.

    conditional: if False, the discriminator only sees the image.
    """

    conditional: bool = True


class OriginalDiscriminator(Discriminator):
    """PatchGAN of n `layers` (3: 70x70 pixels): n convolutions of stride 2, two of stride 1.

    0 layers: PixelGAN, three 1x1 convolutions. The condition comes first.
    """

    layers: int = 3

    @nn.compact
    def __call__(self, condition: Array, image: Array, train: bool = False) -> Array:
        x = jnp.concatenate([condition, image], -1) if self.conditional else image
        x = cast(x, self.dtype)
        biased, n = self.norm != "batch", self.layers
        if n == 0:
            x = leaky_relu(self.conv(x, "conv_0", self.width, 1, 1, 0, use_bias=True))
            x = self.conv(x, "conv_1", 2 * self.width, 1, 1, 0, use_bias=biased)
            x = leaky_relu(self.normalise(x, train, "norm_1"))
            return self.conv(single(x), "conv_2", 1, 1, 1, 0, use_bias=biased)
        x = leaky_relu(self.conv(x, "conv_0", self.width, use_bias=True))
        for k in range(1, n + 1):
            features = self.channels(k + 1)
            x = self.conv(x, f"conv_{k}", features, strides=1 if k == n else 2, use_bias=biased)
            x = leaky_relu(self.normalise(x, train, f"norm_{k}"))
        return self.conv(single(x), f"conv_{n + 1}", 1, strides=1, use_bias=True)

    def strides(self) -> list[tuple[int, int]]:
        """(kernel size, stride) of every convolution."""
        if self.layers == 0:
            return [(1, 1)] * 3
        return [(4, 2)] * self.layers + [(4, 1)] * 2

    def map_size(self, resolution: int) -> int:
        """Side of the map of logits for square images; below 1: the image is too small."""
        return resolution if self.layers == 0 else resolution // 2**self.layers - 2


class PyTorchGanDiscriminator(Discriminator):
    """PyTorch-GAN's: four convolutions of stride 2, then one on a map with a row and a column of
    zeros at the top and the left: 94x94 pixels, resolution / 16 logits. The image comes first."""

    norm: str = "instance"
    torch_bias: bool = True

    @nn.compact
    def __call__(self, condition: Array, image: Array, train: bool = False) -> Array:
        x = jnp.concatenate([image, condition], -1) if self.conditional else image
        x = cast(x, self.dtype)
        for k in range(4):
            x = self.conv(x, f"conv_{k}", self.channels(k + 1), use_bias=True)
            x = leaky_relu(self.normalise(x, train, f"norm_{k}") if k else x)
        x = jnp.pad(x, ((0, 0), (1, 0), (1, 0), (0, 0)))
        return self.conv(single(x), "conv_4", 1, strides=1)

    def strides(self) -> list[tuple[int, int]]:
        """(kernel size, stride) of every convolution."""
        return [(4, 2)] * 4 + [(4, 1)]

    def map_size(self, resolution: int) -> int:
        """Side of the map of logits for square images."""
        return resolution // 16


def receptive_field(strides: list[tuple[int, int]]) -> int:
    """The side in pixels of the receptive field of a stack of (kernel size, stride) convolutions.

    From the last layer to the first, r ← r · stride + (kernel − stride), starting with r = 1.
    """
    side = 1
    for kernel, stride in reversed(strides):
        side = side * stride + kernel - stride
    return side

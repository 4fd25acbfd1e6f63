"""Generators and discriminators made of plain convolutions."""

import flax.linen as nn
import jax
from jax import Array

from gan_jax.models import gan_base
from gan_jax.models.layers import leaky_relu, max_pool, upsample
from gan_jax.models.precision import single


class GuideConvDiscriminator(gan_base.Discriminator):
    """Two convolutions of stride 2 (64, 128), batch norm in the second; 6272 features at 28 px."""

    batch_norm: bool = True

    smallest = 4

    @nn.compact
    def __call__(self, x: Array, label: Array | None, train: bool = False) -> tuple[Array, Array]:
        h = leaky_relu(self.conv(self.pixels(x, label), train, "conv_0", self.width, 3, 2, 1))
        h = self.conv(self.drop(h, train), train, "conv_1", 2 * self.width, 3, 2, 1)
        h = leaky_relu(self.norm(h, train, "conv_1_norm"))
        return self.discriminate(self.drop(h, train), label, train)


class GuideConvPoolDiscriminator(gan_base.Discriminator):
    """One convolution of stride 2 (64), max pooling, 3136 features at 28 px, 128, 1."""

    multiple_of = 4
    without = ("batch_norm",)

    @nn.compact
    def __call__(self, x: Array, label: Array | None, train: bool = False) -> tuple[Array, Array]:
        h = leaky_relu(self.conv(self.pixels(x, label), train, "conv", self.width, 3, 2, 1))
        h = gan_base.channels_first(max_pool(self.drop(h, train)))
        h = leaky_relu(self.dense(h, train, "hidden", 2 * self.width))
        return self.discriminate(self.drop(h, train), label, train)


class DeconvGenerator(gan_base.Generator):
    """DCGAN: a linear layer to the smallest image, then transposed convolutions of stride 2.

    The smallest image is resolution / 4 wide, for resolutions from 64 px on 4 to 8. Every doubling
    of the size halves the channels, down to `width` before the last convolution.
    """

    multiple_of = 4

    @nn.compact
    def __call__(self, z: Array, label: Array | None, train: bool = False) -> Array:
        count = gan_base.levels(self.resolution)
        size, features = self.resolution // 2**count, self.width * 2 ** (count - 1)
        h = self.dense(self.latent(z, label), train, "dense", size**2 * features)
        h = h.reshape(-1, size, size, features)
        h = jax.nn.relu(self.norm(h, label, train, "dense_norm"))
        for level in range(count - 1):
            features //= 2
            h = self.deconv(h, train, f"deconv_{level}", features)
            h = jax.nn.relu(self.norm(h, label, train, f"deconv_{level}_norm"))
        return self.image(self.deconv(single(h), train, f"deconv_{count - 1}", self.channels))


class ConvDiscriminator(gan_base.Discriminator):
    """DCGAN: convolutions of stride 2 with width, 2 width, …; batch norm from the second on."""

    batch_norm: bool = True

    multiple_of = 4

    @nn.compact
    def __call__(self, x: Array, label: Array | None, train: bool = False) -> tuple[Array, Array]:
        h = self.pixels(x, label)
        for level in range(gan_base.levels(self.resolution)):
            h = self.conv(h, train, f"conv_{level}", self.width * 2**level, 4, 2, 1)
            if level:
                h = self.norm(h, train, f"conv_{level}_norm")
            h = self.drop(leaky_relu(h), train)
        return self.discriminate(h, label, train)


class PyTorchGanDcganGenerator(gan_base.Generator):
    """PyTorch-GAN's dcgan.py: nearest-neighbour upsampling and 3x3 convolutions.

    Its first batch norm has eps 1e-5 and no activation after it, the others have eps 0.8. As there,
    "normal_0.02" initialises convolutions and batch norms, but not linear layers.
    """

    resolution: int = 32
    weight_init: str = "normal_0.02"

    multiple_of = 4

    @nn.compact
    def __call__(self, z: Array, label: Array | None, train: bool = False) -> Array:
        size, wide = self.resolution // 4, 2 * self.width
        h = self.dense(self.latent(z, label), train, "l1_0", wide * size**2, _linear(self))
        h = h.reshape(-1, wide, size, size).transpose(0, 2, 3, 1)
        h = self.norm(h, label, train, "conv_blocks_0")
        h = self.conv(upsample(h), train, "conv_blocks_2", wide, 3, 1, 1)
        h = leaky_relu(self.norm(h, label, train, "conv_blocks_3", eps=0.8))
        h = self.conv(upsample(h), train, "conv_blocks_6", self.width, 3, 1, 1)
        h = leaky_relu(self.norm(h, label, train, "conv_blocks_7", eps=0.8))
        return self.image(self.conv(single(h), train, "conv_blocks_9", self.channels, 3, 1, 1))


class PyTorchGanDcganDiscriminator(gan_base.Discriminator):
    """PyTorch-GAN's dcgan.py: four 3x3 convolutions of stride 2, dropout before batch norm."""

    resolution: int = 32
    width: int = 16
    dropout: float = 0.25
    batch_norm: bool = True
    weight_init: str = "normal_0.02"

    smallest = 8

    @nn.compact
    def __call__(self, x: Array, label: Array | None, train: bool = False) -> tuple[Array, Array]:
        h = self.pixels(x, label)
        for level, index in enumerate((0, 3, 7, 11)):
            h = self.conv(h, train, f"model_{index}", self.width * 2**level, 3, 2, 1)
            h = self.drop(leaky_relu(h), train)
            if level:
                h = self.norm(h, train, f"model_{index + 3}", eps=0.8)
        return self.discriminate(h, label, train, name="adv_layer_0", weight_init=_linear(self))


def _linear(network: gan_base.Generator | gan_base.Discriminator) -> str:
    return "default" if network.weight_init == "normal_0.02" else network.weight_init

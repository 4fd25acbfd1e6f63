"""Generators and discriminators made of linear layers."""

import flax.linen as nn
import jax
from jax import Array

from gan_jax.models import gan_base
from gan_jax.models.layers import leaky_relu
from gan_jax.models.precision import single


class DenseGenerator(gan_base.Generator):
    """One hidden layer: z → width (relu) → pixels. 12,928 + 101,136 weights at 100, 128, 784."""

    width: int = 128

    conditionings = ("none", "concat")

    @nn.compact
    def __call__(self, z: Array, label: Array | None, train: bool = False) -> Array:
        h = jax.nn.relu(self.dense(self.latent(z, label), train, "hidden", self.width))
        h = self.dense(single(h), train, "output", self.resolution**2 * self.channels)
        return self.image(h.reshape(-1, self.resolution, self.resolution, self.channels))


class DenseDiscriminator(gan_base.Discriminator):
    """The dense generator mirrored: pixels → width (leaky) → 1."""

    width: int = 128

    @nn.compact
    def __call__(self, x: Array, label: Array | None, train: bool = False) -> tuple[Array, Array]:
        h = self.dense(self.flat(x, label), train, "hidden", self.width)
        h = leaky_relu(self.norm(h, train, "hidden_norm"))
        return self.discriminate(self.drop(h, train), label, train)


class PyTorchGanDenseGenerator(gan_base.Generator):
    """PyTorch-GAN's gan.py: 128, 256, 512, 1024, pixels; batch norm with eps 0.8."""

    width: int = 128

    @nn.compact
    def __call__(self, z: Array, label: Array | None, train: bool = False) -> Array:
        h = leaky_relu(self.dense(self.latent(z, label), train, "model_0", self.width))
        for index, factor in ((2, 2), (5, 4), (8, 8)):
            h = self.dense(h, train, f"model_{index}", self.width * factor)
            h = leaky_relu(self.norm(h, label, train, f"model_{index + 1}", eps=0.8))
        h = self.dense(single(h), train, "model_11", self.resolution**2 * self.channels)
        h = h.reshape(-1, self.channels, self.resolution, self.resolution)
        return self.image(h.transpose(0, 2, 3, 1))


class PyTorchGanDenseDiscriminator(gan_base.Discriminator):
    """PyTorch-GAN's gan.py: pixels, 512, 256, 1."""

    width: int = 512

    without = ("batch_norm",)

    @nn.compact
    def __call__(self, x: Array, label: Array | None, train: bool = False) -> tuple[Array, Array]:
        h = self.flat(x, label)
        for index, features in ((0, self.width), (2, self.width // 2)):
            h = leaky_relu(self.dense(h, train, f"model_{index}", features))
            h = self.drop(h, train)
        return self.discriminate(h, label, train, name="model_4")

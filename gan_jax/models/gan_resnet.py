"""PyTorch-StudioGAN's two CIFAR-10 backbones: DCGAN with more layers, and SNGAN's residual network.

As in StudioGAN, batch norms have eps 1e-4, weights start orthogonal, and discriminators sum over
the last image instead of flattening it. StudioGAN only has 32 px (its residual network also 64 px
and more); here other multiples of 4 are halved as often as they can be without going below 4 px.
"""

import flax.linen as nn
import jax
from jax import Array

from gan_jax.models import gan_base
from gan_jax.models.layers import BatchNorm, average_pool, upsample
from gan_jax.models.precision import single

EPS = 1e-4


class DeepConvGenerator(gan_base.Generator):
    """A linear layer to 4x4, doublings by transposed convolution (256, 128, 64 at 32 px), 3x3."""

    resolution: int = 32
    channels: int = 3
    weight_init: str = "orthogonal"

    multiple_of = 4
    smallest = 8

    @nn.compact
    def __call__(self, z: Array, label: Array | None, train: bool = False) -> Array:
        count = gan_base.powers(self.resolution)
        size, features = self.resolution // 2**count, self.width * 2**count
        h = self.dense(self.latent(z, label), train, "dense", size**2 * features)
        h = h.reshape(-1, size, size, features)
        for level in range(count):
            features //= 2
            h = self.deconv(h, train, f"deconv_{level}", features)
            h = jax.nn.relu(self.norm(h, label, train, f"deconv_{level}_norm", EPS))
        return self.image(self.conv(single(h), train, "conv", self.channels, 3, 1, 1))


class DeepConvDiscriminator(gan_base.Discriminator):
    """Pairs of a 3x3 and a 4x4 stride-2 convolution (64, 128, 256 at 32 px), 3x3, sum.

    StudioGAN has no batch norms where it uses spectral norm: set batch_norm accordingly.
    """

    resolution: int = 32
    channels: int = 3
    batch_norm: bool = True
    weight_init: str = "orthogonal"

    multiple_of = 4
    smallest = 8

    @nn.compact
    def __call__(self, x: Array, label: Array | None, train: bool = False) -> tuple[Array, Array]:
        def block(h, name, features, *geometry):
            h = self.conv(h, train, name, features, *geometry)
            return jax.nn.relu(self.norm(h, train, f"{name}_norm", EPS))

        h, features = self.pixels(x, label), self.width
        for level in range(gan_base.powers(self.resolution)):
            h = block(h, f"block_{level}_conv_0", features, 3, 1, 1)
            h = self.drop(block(h, f"block_{level}_conv_1", features, 4, 2, 1), train)
            features *= 2
        return self.discriminate(block(h, "conv", features, 3, 1, 1), label, train, pool=True)


class ResnetGenerator(gan_base.Generator):
    """SNGAN: a linear layer to 4x4, residual blocks that double the size, 3x3.

    Up to 32 px all blocks have 4 width channels; above, they halve with each down to width.
    """

    resolution: int = 32
    channels: int = 3
    weight_init: str = "orthogonal"

    multiple_of = 4
    smallest = 8

    @nn.compact
    def __call__(self, z: Array, label: Array | None, train: bool = False) -> Array:
        count = gan_base.powers(self.resolution)
        size = self.resolution // 2**count
        factors = [4] * (count + 1) if count <= 3 else [2**n for n in range(count, -1, -1)]
        h = self.dense(self.latent(z, label), train, "dense", size**2 * factors[0] * self.width)
        h = h.reshape(-1, size, size, factors[0] * self.width)
        for level, factor in enumerate(factors[1:]):
            h = self._block(h, label, train, f"block_{level}", factor * self.width)
        h = jax.nn.relu(
            # never conditional, as in StudioGAN
            BatchNorm(EPS, weight_init=self.weight_init, name="norm")(h, train)
        )
        return self.image(self.conv(single(h), train, "conv", self.channels, 3, 1, 1))

    def _block(self, x: Array, label: Array | None, train: bool, name: str, features: int):
        h = jax.nn.relu(self.norm(x, label, train, f"{name}_norm_0", EPS))
        h = self.conv(upsample(h), train, f"{name}_conv_0", features, 3, 1, 1)
        h = jax.nn.relu(self.norm(h, label, train, f"{name}_norm_1", EPS))
        h = self.conv(h, train, f"{name}_conv_1", features, 3, 1, 1)
        # A 1x1 convolution and upsampling commute: this order is four times cheaper.
        return h + upsample(self.conv(x, train, f"{name}_shortcut", features, 1))


class ResnetDiscriminator(gan_base.Discriminator):
    """SNGAN: residual blocks, relu, sum.

    Up to 32 px it has four blocks of 2 width channels, of which the first two halve the image;
    above, blocks of width, 2 width, … channels that all halve it except the last. `batch_norm` is
    meant for use without spectral norm.
    """

    resolution: int = 32
    channels: int = 3
    weight_init: str = "orthogonal"

    multiple_of = 4
    smallest = 8

    @nn.compact
    def __call__(self, x: Array, label: Array | None, train: bool = False) -> tuple[Array, Array]:
        count = gan_base.powers(self.resolution)
        if count <= 3:
            blocks = [(2, True), (2, True), (2, False), (2, False)]
        else:
            blocks = [(2**n, n < count) for n in range(count + 1)]
        h = self.pixels(x, label)
        for level, (factor, halve) in enumerate(blocks):
            h = self._block(h, train, f"block_{level}", factor * self.width, halve, level == 0)
            h = self.drop(h, train)
        return self.discriminate(jax.nn.relu(h), label, train, pool=True)

    def _block(self, x: Array, train: bool, name: str, features: int, halve: bool, first: bool):
        def conv(h, index):
            return self.conv(h, train, f"{name}_conv_{index}", features, 3, 1, 1)

        if first:  # images are not activations: nothing before the first convolution
            h = jax.nn.relu(self.norm(conv(x, 0), train, f"{name}_norm_0", EPS))
        else:
            h = conv(jax.nn.relu(self.norm(x, train, f"{name}_norm_0", EPS)), 0)
            h = jax.nn.relu(self.norm(h, train, f"{name}_norm_1", EPS))
        h = conv(h, 1)
        h = average_pool(h) if halve else h
        if not halve and x.shape[-1] == features:
            return h + x
        # Pooling and the 1x1 convolution commute as well, so the cheap order is used. StudioGAN's
        # batch norm of the shortcut sees the pooled image in the first block, else the whole one.
        if first:
            x = self.norm(average_pool(x), train, f"{name}_shortcut_norm", EPS)
        else:
            x = self.norm(x, train, f"{name}_shortcut_norm", EPS)
            x = average_pool(x) if halve else x
        return h + self.conv(x, train, f"{name}_shortcut", features, 1)

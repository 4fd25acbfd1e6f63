"""The generators of pix2pix: U-Nets that halve an image to 1x1 or an odd size, and back."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.models.layers import leaky_relu, upsample
from gan_jax.models.pix2pix_base import Backbone
from gan_jax.models.precision import cast, single

DROPOUT_FROM = 4  # pytorch_gan drops features from this level on, down and up


class Generator(Backbone):
    """x [B, H, W, C] in [-1, 1] → image [B, H, W, outputs] in [-1, 1].

    `depth` levels halve the image. `drop` says whether dropout acts, `train` whether batch norm
    uses the batch's own statistics; by default dropout follows `train`.
    """

    depth: int = 8
    outputs: int = 3
    dropout: float = 0.5
    skips: bool = True  # False: the encoder-decoder that the paper compares with

    def drop(self, x: Array, active: bool) -> Array:
        return nn.Dropout(self.dropout, deterministic=not active)(x) if self.dropout else x

    def joined(self, *parts: Array) -> Array:
        """Maps [B, H, W, C] joined along their channels."""
        return jnp.concatenate(parts, axis=-1)


class OriginalGenerator(Generator):
    """U-Net of the paper: activation → convolution → norm, on the way up → dropout.

    There is no norm after the first and the last convolution on the way down. `dropout_place`:
    "junyanz" has dropout at every level with 8 width channels on both sides except the innermost,
    "torch7" at the three innermost levels. Convolutions have biases unless batch norm follows; the
    last one always has.
    """

    dropout_place: str = "junyanz"

    @nn.compact
    def __call__(self, x: Array, drop: bool | None = None, train: bool = False) -> Array:
        drop, biased, skips = train if drop is None else drop, self.norm != "batch", []
        x = cast(x, self.dtype)
        for level in range(1, self.depth + 1):
            x = leaky_relu(x) if level > 1 else x
            x = self.conv(x, f"encoder_{level}", self.channels(level), use_bias=biased)
            if 1 < level < self.depth:
                x = self.normalise(x, train, f"encoder_{level}_norm")
            skips.append(x)
        for level in range(self.depth, 1, -1):
            if level < self.depth and self.skips:
                x = self.joined(skips[level - 1], x)
            features = self.channels(level - 1)
            x = self.deconv(jax.nn.relu(x), f"decoder_{level}", features, biased)
            x = self.normalise(x, train, f"decoder_{level}_norm")
            if self.drops(level):
                x = self.drop(x, drop)
        x = self.joined(skips[0], x) if self.skips else x
        return jnp.tanh(self.deconv(jax.nn.relu(single(x)), "decoder_1", self.outputs, True))

    def drops(self, level: int) -> bool:
        """Whether dropout follows the deconvolution out of this level."""
        if self.dropout_place == "torch7":
            return level > self.depth - 3
        return 5 <= level < self.depth


class PyTorchGanGenerator(Generator):
    """PyTorch-GAN's U-Net: convolution → norm → activation → dropout; only the last has a bias.

    There is no norm after the first and the last convolution on the way down; dropout is used from
    the fourth level on, down and up. The last layer is a nearest-neighbour upsampling, a row and a
    column of zeros at the top and the left, and a convolution.
    """

    norm: str = "instance"
    torch_bias: bool = True

    @nn.compact
    def __call__(self, x: Array, drop: bool | None = None, train: bool = False) -> Array:
        drop, skips = train if drop is None else drop, []
        x = cast(x, self.dtype)
        for level in range(1, self.depth + 1):
            x = self.conv(x, f"down{level}", self.channels(level))
            if 1 < level < self.depth:
                x = self.normalise(x, train, f"down{level}_norm")
            x = leaky_relu(x)
            if level >= DROPOUT_FROM:
                x = self.drop(x, drop)
            skips.append(x)
        for number in range(1, self.depth):
            level = self.depth - number  # the level whose size is reached
            x = self.deconv(x, f"up{number}", self.channels(level))
            x = jax.nn.relu(self.normalise(x, train, f"up{number}_norm"))
            if level >= DROPOUT_FROM:
                x = self.drop(x, drop)
            x = self.joined(x, skips[level - 1]) if self.skips else x
        x = jnp.pad(upsample(single(x)), ((0, 0), (1, 0), (1, 0), (0, 0)))
        return jnp.tanh(self.conv(x, "final", self.outputs, 4, 1, 1, use_bias=True))

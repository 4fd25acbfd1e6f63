"""What all generators and all discriminators of the `gan` system have in common."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.models import layers
from gan_jax.models.precision import cast, single


class Backbone(nn.Module):
    """Layers made with the network's own `weight_init` and `spectral_norm`.

    Class attributes say what a network accepts: its `conditionings`, resolutions that are a
    `multiple_of` pixels and at least `smallest`, and the options that it does not have (`without`).
    """

    conditionings = ("none", "concat", "projection")
    multiple_of = 1
    smallest = 1
    without = ()

    def made(self, kind: type[nn.Module], *options, weight_init: str = "", name: str) -> nn.Module:
        """A layer with parameters, with this network's initialisation and normalisation."""
        start = weight_init or self.weight_init
        return kind(*options, weight_init=start, spectral_norm=self.spectral_norm, name=name)

    def dense(
        self, x: Array, train: bool, name: str, features: int, weight_init: str = ""
    ) -> Array:
        """A linear layer of x [B, C] → [B, features]."""
        return self.made(layers.Dense, features, weight_init=weight_init, name=name)(x, train)

    def conv(self, x: Array, train: bool, name: str, features: int, *geometry: int) -> Array:
        """A convolution of x [B, H, W, C]; `geometry`: kernel size, strides, padding."""
        return self.made(layers.Conv, features, *geometry, name=name)(x, train)


class Generator(Backbone):
    """z [B, z_dim] and label [B] int32 → images [B, resolution, resolution, channels] in [-1, 1].

    conditioning: "none"; "concat": one-hot label beside z; "projection": class-conditional batch
    norm. output: "tanh", or "sigmoid": 2 * sigmoid - 1, so that every network has the same range.
    dtype: the precision of all layers but the last; images are float32.
    """

    z_dim: int = 100
    resolution: int = 28
    channels: int = 1
    width: int = 64
    num_classes: int = 0
    conditioning: str = "none"
    output: str = "tanh"
    weight_init: str = "default"
    spectral_norm: bool = False
    dtype: str = "float32"

    def latent(self, z: Array, label: Array | None) -> Array:
        """z in the network's precision, with the one-hot label if `conditioning` is "concat"."""
        if z.shape[-1] != self.z_dim:
            raise ValueError(f"z has {z.shape[-1]} dimensions, the generator takes {self.z_dim}")
        if self.conditioning == "concat":
            classes = jax.nn.one_hot(label, self.num_classes, dtype=z.dtype)
            z = jnp.concatenate([z, classes], -1)
        return cast(z, self.dtype)

    def norm(
        self, x: Array, label: Array | None, train: bool, name: str, eps: float = 1e-5
    ) -> Array:
        """Batch norm, with a scale and bias per class if `conditioning` is "projection"."""
        classes = self.num_classes if self.conditioning == "projection" else 0
        layer = layers.BatchNorm(
            eps=eps, num_classes=classes, weight_init=self.weight_init, name=name
        )
        return layer(x, train, label)

    def deconv(self, x: Array, train: bool, name: str, features: int) -> Array:
        """Twice the size: kernel 4, stride 2, padding 1."""
        return self.made(layers.ConvTranspose, features, name=name)(x, train)

    def image(self, x: Array) -> Array:
        """The output activation, range [-1, 1]."""
        return jnp.tanh(x) if self.output == "tanh" else 2 * jax.nn.sigmoid(x) - 1


class Discriminator(Backbone):
    """Images [B, resolution, resolution, channels] in [-1, 1], label [B] int32 → (logit, features).

    logit [B], without a sigmoid; features [B, F], the input of the last linear layer.
    conditioning: "none"; "concat": one-hot label as constant channels (dense: beside the pixels);
    "projection": <embedding of the label, features> added to the logit (Miyato & Koyama 2018).
    dropout: rate; whole channels in convolutional networks. minibatch_discrimination: number of
    kernels, minibatch_stddev: group size, both before the last linear layer; 0 is off. dtype: the
    precision up to the features; these, all that compares them and the logit are float32.
    """

    resolution: int = 28
    channels: int = 1
    width: int = 64
    num_classes: int = 0
    conditioning: str = "none"
    dropout: float = 0.0
    spectral_norm: bool = False
    batch_norm: bool = False
    minibatch_discrimination: int = 0
    minibatch_discrimination_dims: int = 5
    minibatch_stddev: int = 0
    weight_init: str = "default"
    dtype: str = "float32"

    def norm(self, x: Array, train: bool, name: str, eps: float = 1e-5) -> Array:
        """Batch norm, if this discriminator has any."""
        if not self.batch_norm:
            return x
        return layers.BatchNorm(eps=eps, weight_init=self.weight_init, name=name)(x, train)

    def drop(self, x: Array, train: bool) -> Array:
        """Dropout in training, if this discriminator has any."""
        return layers.dropout(x, self.dropout, train)

    def pixels(self, x: Array, label: Array | None) -> Array:
        """The images, with the label as constant channels if `conditioning` is "concat"."""
        self._check_size(x)
        x = cast(x, self.dtype)
        if self.conditioning != "concat":
            return x
        planes = jax.nn.one_hot(label, self.num_classes, dtype=x.dtype)[:, None, None]
        return jnp.concatenate([x, jnp.broadcast_to(planes, (*x.shape[:3], self.num_classes))], -1)

    def flat(self, x: Array, label: Array | None) -> Array:
        """The images as [B, C*H*W], with the label beside them if `conditioning` is "concat"."""
        self._check_size(x)
        h = channels_first(cast(x, self.dtype))
        if self.conditioning != "concat":
            return h
        return jnp.concatenate([h, jax.nn.one_hot(label, self.num_classes, dtype=h.dtype)], -1)

    def _check_size(self, x: Array) -> None:
        expected = (self.resolution, self.resolution, self.channels)
        if x.shape[1:] != expected:
            raise ValueError(f"images are {x.shape[1:]}, the discriminator takes {expected}")

    def discriminate(
        self,
        h: Array,
        label: Array | None,
        train: bool,
        name: str = "linear",
        pool: bool = False,
        weight_init: str = "",
    ) -> tuple[Array, Array]:
        """(logit [B], features [B, F]) of h, [B, H, W, C] or [B, C]; `pool` sums over H and W."""
        h = single(h)
        if self.minibatch_stddev:
            h = layers.MinibatchStddev(self.minibatch_stddev)(h)
        if h.ndim == 4:
            h = jnp.sum(h, axis=(1, 2)) if pool else channels_first(h)
        if self.minibatch_discrimination:
            h = layers.MinibatchDiscrimination(
                self.minibatch_discrimination,
                self.minibatch_discrimination_dims,
                self.weight_init,
                name="minibatch_discrimination",
            )(h)
        logit = self.dense(h, train, name, 1, weight_init)[:, 0]
        if self.conditioning == "projection":
            embed = self.made(
                layers.Embed, self.num_classes, h.shape[-1], weight_init=weight_init, name="embed"
            )
            logit += jnp.sum(embed(label, train) * h, axis=-1)
        return logit, h


def channels_first(h: Array) -> Array:
    """[B, H, W, C] → [B, C*H*W], PyTorch's order, so that its weights need only a transposition."""
    return h.transpose(0, 3, 1, 2).reshape(h.shape[0], -1)


def levels(resolution: int) -> int:
    """How often a resolution is halved on the way to the smallest image.

    It is halved twice, and then again while it is even and more than 8: 28 → 7, 32 → 8, 64 → 8,
    36 → 9.
    """
    count = 2
    while (size := resolution // 2**count) > 8 and size % 2 == 0:
        count += 1
    return count


def powers(resolution: int, smallest: int = 4) -> int:
    """How often a resolution can be halved without going below `smallest`: 32 → 3, 28 → 2."""
    count = 0
    while resolution % 2 == 0 and resolution // 2 >= smallest:
        resolution //= 2
        count += 1
    return count

"""Image classifiers: a small one, whose features and classes measure what a generator covers, and
the trunk of WarpGAN's discriminator with a layer of classes, which learns to recognise identities.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.errors import UserError, at_least, one_of
from gan_jax.models import layers
from gan_jax.models.network import Network, functional
from gan_jax.models.precision import cast, single
from gan_jax.models.warpgan import HEADS, SMALLEST
from gan_jax.models.warpgan_blocks import embedded, trunk

FEATURES = 64
STANDARD = 127.5 / 128  # images in [-1, 1] to (x - 127.5) / 128, what WarpGAN's networks take
SHARPNESS = 16.0  # of the logits of embeddings of length 1


class Classifier(nn.Module):
    """Three 3x3 convolutions and one hidden layer, batch norm throughout.

    Max pooling follows the first two: on digits it is more accurate per second than strides.
    """

    num_classes: int
    width: int = 16
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> tuple[Array, Array]:
        h = cast(x, self.dtype)  # [B, H, W, C]
        for level, (factor, strides) in enumerate(((1, 1), (2, 1), (2, 2))):
            name = f"conv_{level}"
            conv = layers.Conv(
                factor * self.width, 3, strides, 1, use_bias=False, weight_init="he", name=name
            )
            h = jax.nn.relu(layers.BatchNorm(name=f"{name}_norm")(conv(h), train))
            h = layers.max_pool(h) if strides == 1 else h
        h = h.reshape(h.shape[0], -1)
        h = layers.dropout(h, 0.25, train)
        h = layers.Dense(FEATURES, use_bias=False, weight_init="he", name="hidden")(h)
        features = jax.nn.relu(layers.BatchNorm(name="hidden_norm")(single(h), train))  # [B, 64]
        h = layers.dropout(features, 0.25, train)
        return layers.Dense(self.num_classes, name="linear")(h), features


def classifier(
    resolution: int, channels: int, num_classes: int, width: int = 16, dtype: str = "float32"
) -> Network:
    """apply(images [B, H, W, C] in [-1, 1]) → (logits [B, num_classes], features [B, 64]).

    Training needs a key, for dropout. Raises UserError for images smaller than 4 pixels.
    """
    if resolution < 4:
        raise UserError(
            f"config.data.resolution={resolution}: the classifier takes images of 4 pixels and more"
        )
    return functional(Classifier(num_classes, width, dtype))


class IdentityClassifier(nn.Module):
    """Images [B, H, W, C] in [-1, 1] → logits [B, num_classes], embedding [B, bottleneck].

    The layers "conv1" to "conv5" and "bottleneck" are those of the WarpGAN discriminator
    (gan_jax/models/warpgan.py). The embedding has length 1. The logits are those of a linear layer
    with bias, times SHARPNESS: without this factor they start within about 1 of each other, and the
    layer's weights have to grow before a class can be certain (Wang et al. 2017, NormFace).
    """

    num_classes: int
    width: int
    bottleneck: int
    flat: bool
    keep_prob: float
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> tuple[Array, Array]:
        h = trunk(cast(x * STANDARD, self.dtype), self.width)
        h = h.reshape(h.shape[0], -1) if self.flat else jnp.mean(h, (1, 2))
        h = layers.dropout(h, 1 - self.keep_prob, train)
        embedding = embedded(h, self.bottleneck)
        linear = layers.Dense(self.num_classes, weight_init="xavier", name="linear")
        return SHARPNESS * linear(embedding), embedding


def identity_classifier(
    resolution: int,
    num_classes: int,
    disc_width: int = 32,
    disc_head: str = "flat",
    bottleneck: int = 512,
    keep_prob: float = 1.0,
    dtype: str = "float32",
) -> Network:
    """apply(images [B, H, W, C] in [-1, 1]) → (logits [B, num_classes], embedding [B, bottleneck]).

    Options as in `gan_jax.models.warpgan.defaults`; a head "flat" is for images of `resolution`
    only. Training needs a key where `keep_prob` is below 1. Raises UserError, naming the key, for
    values that are not accepted.
    """
    if resolution < SMALLEST:
        raise UserError(
            f"config.data.resolution={resolution}: config.model.name='warpgan' takes images of "
            f"{SMALLEST} pixels and more"
        )
    one_of("config.model.disc_head", disc_head, HEADS)
    at_least("config.model.disc_width", disc_width, 1)
    at_least("config.model.bottleneck", bottleneck, 1)
    if not 0 < keep_prob <= 1:
        raise UserError(f"config.model.keep_prob={keep_prob}: must lie in (0, 1]")
    return functional(
        IdentityClassifier(
            num_classes, disc_width, bottleneck, disc_head == "flat", keep_prob, dtype
        )
    )

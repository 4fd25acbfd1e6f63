"""A small image classifier: its features and classes judge what a generator covers."""

import flax.linen as nn
import jax
from jax import Array

from gan_jax.errors import UserError
from gan_jax.models import layers
from gan_jax.models.network import Network, functional

FEATURES = 64


class Classifier(nn.Module):
    """Three 3x3 convolutions and one hidden layer, batch norm throughout.

    Max pooling behind the first two: on digits more accurate per second than strides.
    """

    num_classes: int
    width: int = 16

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> tuple[Array, Array]:
        h = x  # [B, H, W, C]
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
        features = jax.nn.relu(layers.BatchNorm(name="hidden_norm")(h, train))  # [B, 64]
        h = layers.dropout(features, 0.25, train)
        return layers.Dense(self.num_classes, name="linear")(h), features


def classifier(resolution: int, channels: int, num_classes: int, width: int = 16) -> Network:
    """apply(images [B, H, W, C] in [-1, 1]) → (logits [B, num_classes], features [B, 64]).

    Training needs a key, for dropout. Raises UserError for images below 4 pixels.
    """
    if resolution < 4:
        raise UserError(
            f"config.data.resolution={resolution}: the classifier takes images of 4 pixels and more"
        )
    return functional(Classifier(num_classes, width))

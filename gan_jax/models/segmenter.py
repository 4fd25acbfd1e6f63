"""A small fully convolutional network that classifies every pixel of a photo.

    net = segmenter(classes=12, resolution=256, width=16)
    params, stats = net.init(key, x)
    logits, stats = net.apply(params, stats, x, train=True, key=key)

It has three strided convolutions, residual blocks at an eighth of the size, and three transposed
convolutions with skips. The idea is that of FCN (Long et al. 2015) and U-Net (Ronneberger et al.
2015), the architecture is our own. Nothing in it depends on the size, so weights trained at one
size can be used at any other.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.errors import UserError, at_least
from gan_jax.models import layers
from gan_jax.models.network import Network, functional
from gan_jax.models.precision import cast, single

HALVINGS = 3
BLOCKS = 4  # of two 3x3 convolutions; each widens the receptive field by 4 · 8 pixels
DROPOUT = 0.25


class Segmenter(nn.Module):
    """x [B, H, W, C] in [-1, 1] → logits [B, H, W, classes]; batch norm throughout.

    A logit sees 166x166 pixels: 22 from the convolutions down, 128 more from the blocks, 14 from
    those up, 2 from the last. The last skip is the photo itself, which has the sharpest edges.
    """

    classes: int
    width: int = 16
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        h, skips = cast(x, self.dtype), []
        for level in range(HALVINGS):
            skips.append(h)
            conv = layers.Conv(
                self.width * 2**level, 4, 2, 1, use_bias=False, weight_init="he",
                name=f"down_{level}",
            )  # fmt: skip
            h = jax.nn.relu(layers.BatchNorm(name=f"down_{level}_norm")(conv(h), train))
        for block in range(BLOCKS):
            h = self.residual(h, f"block_{block}", train)
        h = layers.dropout(h, DROPOUT, train)
        for level in reversed(range(HALVINGS)):
            features = self.width * 2 ** max(level - 1, 0)
            grow = layers.ConvTranspose(
                features, use_bias=False, weight_init="he", name=f"up_{level}"
            )
            h = jax.nn.relu(layers.BatchNorm(name=f"up_{level}_norm")(grow(h), train))
            h = jnp.concatenate([h, skips[level]], axis=-1)
        return layers.Conv(self.classes, 3, 1, 1, weight_init="he", name="logits")(single(h))

    def residual(self, x: Array, name: str, train: bool) -> Array:
        """x + two 3x3 convolutions of it, each after batch norm and ReLU (He et al. 2016b)."""
        h = x
        for index in range(2):
            h = jax.nn.relu(layers.BatchNorm(name=f"{name}_norm_{index}")(h, train))
            h = layers.Conv(
                x.shape[-1], 3, 1, 1, use_bias=False, weight_init="he", name=f"{name}_conv_{index}"
            )(h)
        return x + h


def segmenter(classes: int, resolution: int, width: int = 16, dtype: str = "float32") -> Network:
    """apply(images [B, H, W, C] in [-1, 1]) → logits [B, H, W, classes].

    Training needs a key, for dropout. `resolution` is that of the training images; H and W may be
    any multiples of 8.

    Raises UserError for a resolution that cannot be halved three times, and a width below 1.
    """
    step = 2**HALVINGS
    if resolution % step or resolution < step:
        near = max(round(resolution / step), 1) * step
        raise UserError(
            f"config.data.resolution={resolution}: the segmenter halves images three times and "
            f"takes multiples of {step}, such as {near}"
        )
    at_least("config.model.width", width, 1)
    return functional(Segmenter(classes, width, dtype))

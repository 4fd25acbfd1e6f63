"""The U-Net of guided-diffusion, its super-resolution form, and its encoder as a classifier.

Dhariwal & Nichol 2021 (arXiv 2105.05233), https://github.com/openai/guided-diffusion. An embedding
of the class is added to that of the time. Class -1 adds nothing: with it a network that was trained
with dropped labels makes unconditional images (Ho & Salimans 2022).
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import initializers

from gan_jax.errors import UserError, at_least, one_of
from gan_jax.models.layers import Conv, Dense
from gan_jax.models.network import Network, functional
from gan_jax.models.precision import DTYPES, cast
from gan_jax.models.unet_blocks import (
    ORDERS,
    ZERO,
    GroupNorm,
    Trunk,
    attention,
    embed_time,
    encode,
    middle,
)
from gan_jax.models.unet_blocks import Upsample as UpsampleBlock
from gan_jax.ops import resize

REMATS = ("none", "attention", "blocks")
POOLS = ("attention", "adaptive", "spatial", "spatial_v2")
HIDDEN = 2048  # of the classifier's spatial pools
NO_CLASS = -1

# by image size, from guided-diffusion and, for 32, improved-diffusion
MULTIPLIERS = {
    512: (0.5, 1, 1, 2, 2, 4, 4),
    256: (1, 1, 2, 2, 4, 4),
    128: (1, 1, 2, 3, 4),
    64: (1, 2, 3, 4),
    32: (1, 2, 2, 2),
}
UPSAMPLER_MULTIPLIERS = {**MULTIPLIERS, 512: MULTIPLIERS[256]}


def defaults() -> dict:
    """The section `model` of a config."""
    return dict(
        num_channels=128,
        num_res_blocks=2,  # per level
        # multiples of num_channels by level, fractions too; (): those of the original for images of
        # 32, 64, 128, 256 and 512 px, and for others (1, 2, 2) as far as their side can be halved
        channel_mult=(),
        # sides in pixels of the maps with attention; a map whose side is no power of two also goes
        # by the next one: of images of 28 px those of 14 and 7 px by 16 and 8
        attention_resolutions=(16, 8),
        num_heads=4,
        num_heads_upsample=0,  # of the decoder; 0: num_heads
        num_head_channels=0,  # above 0: channels per head, in place of num_heads
        dropout=0.0,
        class_cond=False,  # whether the network is given the class of the image
        scale_shift_norm=True,  # the embedding scales and shifts; False: it is added
        resblock_updown=False,  # residual blocks that resize; False: strided and plain convolutions
        attention_order="legacy",  # | new: order of queries, keys and values among the channels
        norm_groups=32,
        remat="none",  # | attention | blocks: recomputed in the backward pass, saves memory
        dtype="float32",  # | bfloat16 | float16, of convolutions; weights stay float32
    )


def classifier_defaults() -> dict:
    """The section of a noise-aware classifier."""
    return dict(
        num_channels=128,
        num_res_blocks=2,
        channel_mult=(),
        attention_resolutions=(32, 16, 8),
        num_head_channels=64,
        scale_shift_norm=True,
        resblock_updown=True,
        pool="attention",  # | adaptive | spatial | spatial_v2
        norm_groups=32,
        remat="none",
        dtype="float32",
    )


class UNet(nn.Module):
    """x [B, H, W, C], time [B], label int [B] (−1: none) → [B, H, W, out_channels].

    `low_resolution` [B, h, w, C] is enlarged to x's size and concatenated with x. At the start of
    training the output is 0.
    """

    trunk: Trunk
    out_channels: int
    num_classes: int = 0
    heads_up: int = 0
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self,
        x: Array,
        time: Array,
        label: Array | None = None,
        low_resolution: Array | None = None,
        train: bool = False,
    ) -> Array:
        trunk, dtype = self.trunk, x.dtype
        embedding = embed_time(time, trunk.width)
        if self.num_classes:
            embedding = embedding + _embed_class(self, label, 4 * trunk.width)
        if low_resolution is not None:
            low = resize.bilinear(low_resolution, *x.shape[1:3])
            x = jnp.concatenate([x, low.astype(dtype)], axis=-1)
        maps = encode(trunk, cast(x, self.dtype), embedding, train)
        h = middle(trunk, maps[-1], embedding, train)
        block = 0
        for level in reversed(range(len(trunk.multipliers))):
            for i in range(trunk.blocks + 1):
                name, part = f"output_blocks_{block}", 1
                h = jnp.concatenate([h, maps.pop()], axis=-1)
                h = trunk.residual(trunk.channels(level), f"{name}_0")(h, embedding, train)
                if 2**level in trunk.attention:
                    h = trunk.attend(h, f"{name}_1", self.heads_up)
                    part = 2
                if level and i == trunk.blocks:
                    if trunk.updown:
                        up = trunk.residual(h.shape[-1], f"{name}_{part}", "up")
                        h = up(h, embedding, train)
                    else:
                        h = UpsampleBlock(name=f"{name}_{part}")(h)
                block += 1
        h = nn.silu(GroupNorm(trunk.groups, name="out_0")(h.astype(dtype)))
        return Conv(self.out_channels, 3, padding=1, **ZERO, name="out_2")(h)


class Classifier(nn.Module):
    """The encoder as a classifier of noisy images: x [B, H, W, C], time [B] → logits [B, K].

    `side` is that of the smallest map, which determines the attention pool's positions.
    """

    trunk: Trunk
    num_classes: int
    side: int
    pool: str = "attention"
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, time: Array, train: bool = False) -> Array:
        trunk, dtype = self.trunk, x.dtype
        embedding = embed_time(time, trunk.width)
        maps = encode(trunk, cast(x, self.dtype), embedding, train)
        h = middle(trunk, maps[-1], embedding, train).astype(dtype)
        if self.pool.startswith("spatial"):
            means = [jnp.mean(m.astype(dtype), (1, 2)) for m in maps] + [jnp.mean(h, (1, 2))]
            return self._spatial(jnp.concatenate(means, axis=-1))
        h = nn.silu(GroupNorm(trunk.groups, name="out_0")(h))
        if self.pool == "adaptive":
            h = jnp.mean(h, (1, 2), keepdims=True)
            return Conv(self.num_classes, 1, **ZERO, name="out_3")(h)[:, 0, 0]
        heads = h.shape[-1] // trunk.head_channels if trunk.head_channels else trunk.heads
        return AttentionPool(heads, self.num_classes, self.side, name="out_2")(h)

    def _spatial(self, h: Array) -> Array:
        h = Dense(HIDDEN, name="out_0")(h)
        if self.pool == "spatial":
            return Dense(self.num_classes, name="out_2")(nn.relu(h))
        h = nn.silu(GroupNorm(self.trunk.groups, name="out_1")(h))
        return Dense(self.num_classes, name="out_3")(h)


class AttentionPool(nn.Module):
    """CLIP's attention pool, in which the mean of a map's pixels attends to all of them:
    [B, side, side, C] → [B, outputs]."""

    heads: int
    outputs: int
    side: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        batch, *_, features = x.shape
        tokens = x.reshape(batch, -1, features)
        tokens = jnp.concatenate([jnp.mean(tokens, 1, keepdims=True), tokens], axis=1)
        start = initializers.normal(features**-0.5)
        places = self.param("positional_embedding", start, (features, self.side**2 + 1))
        qkv = Dense(3 * features, name="qkv_proj")(tokens + places.T)
        return Dense(self.outputs, name="c_proj")(attention(qkv, self.heads, "new")[:, 0])


def _embed_class(module: nn.Module, label: Array, width: int) -> Array:
    """[B, width] from classes [B]; zeros where the class is −1."""
    shape = (module.num_classes, width)
    init = initializers.normal(1.0)  # torch.nn.Embedding's
    embedding = _Table(shape, init, name="label_emb")(jnp.maximum(label, 0))
    return jnp.where(label[:, None] >= 0, embedding, 0)


class _Table(nn.Module):
    shape: tuple[int, int]
    init_rows: Any

    @nn.compact
    def __call__(self, rows: Array) -> Array:
        return self.param("embedding", self.init_rows, self.shape)[rows]


def unet(
    model: Any, resolution: int, channels: int, outputs: int, classes: int, upsampler: bool = False
) -> Network:
    """The U-Net that a section `model` describes (see `defaults`).

    Args:
      resolution: side of the images in pixels.
      channels, outputs: channels of an image, and of the network's output.
      classes: number of classes of the data; 0 without labels.
      upsampler: whether the network also reads the image at a lower resolution.

    apply(params, {}, x, time, label, low_resolution) → [B, H, W, outputs]. Raises a UserError that
    names the key if the options do not go together.
    """
    if model.class_cond and not classes:
        raise UserError(
            "config.model.class_cond=True: this data has no classes; set it to False, or "
            "config.data.labels"
        )
    trunk = _trunk(model, resolution, upsampler)
    module = UNet(
        trunk, outputs, classes if model.class_cond else 0, model.num_heads_upsample, model.dtype
    )
    if model.num_heads_upsample and not model.num_head_channels:
        _check_heads(trunk, model.num_heads_upsample, "config.model.num_heads_upsample")
    return functional(module)


def noisy_classifier(model: Any, resolution: int, classes: int, key: str = "model") -> Network:
    """The classifier that a section describes (see `classifier_defaults`).

    apply(params, {}, x, time) → logits [B, classes]. `key` is that of the section, for errors.
    """
    one_of(f"config.{key}.pool", model.pool, POOLS)
    trunk = _trunk(model, resolution, False, key)
    if model.pool == "spatial_v2" and HIDDEN % trunk.groups:
        raise UserError(
            f"config.{key}.norm_groups={trunk.groups}: must divide {HIDDEN} for the pool spatial_v2"
        )
    side = resolution // 2 ** (len(trunk.multipliers) - 1)
    return functional(Classifier(trunk, classes, side, model.pool, model.dtype))


def _trunk(model: Any, resolution: int, upsampler: bool, key: str = "model") -> Trunk:
    """The trunk that a section describes. Raises UserError for values that are not accepted."""
    _check(model, key)
    multipliers = _multipliers(model, resolution, upsampler, key)
    trunk = Trunk(
        width=model.num_channels, blocks=model.num_res_blocks, multipliers=multipliers,
        attention=_attention(model, resolution, len(multipliers), key),
        heads=model.get("num_heads", 1), head_channels=max(model.num_head_channels, 0),
        scale_shift=model.scale_shift_norm, updown=model.resblock_updown,
        order=model.get("attention_order", "legacy"), dropout=model.get("dropout", 0.0),
        groups=model.norm_groups, remat=model.remat,
    )  # fmt: skip
    _check_groups(trunk, key)
    name = "num_head_channels" if trunk.head_channels else "num_heads"
    _check_heads(trunk, trunk.head_channels or trunk.heads, f"config.{key}.{name}")
    return trunk


def _check(model: Any, key: str) -> None:
    """Raises UserError for a value of a section that no trunk accepts."""
    one_of(f"config.{key}.remat", model.remat, REMATS)
    one_of(f"config.{key}.dtype", model.dtype, DTYPES)
    one_of(f"config.{key}.attention_order", model.get("attention_order", "legacy"), ORDERS)
    for name, lowest in (("num_channels", 1), ("num_res_blocks", 0), ("norm_groups", 1)):
        at_least(f"config.{key}.{name}", model[name], lowest)
    dropout = model.get("dropout", 0.0)
    if not 0 <= dropout < 1:
        raise UserError(f"config.{key}.dropout={dropout}: must lie in [0, 1)")


def _check_groups(trunk: Trunk, key: str) -> None:
    """Raises UserError if the number of groups does not divide the channels of a level."""
    for level, factor in enumerate(trunk.multipliers):
        width = trunk.channels(level)
        if width < 1 or width % trunk.groups:
            raise UserError(
                f"config.{key}: level {level} has {trunk.width} x {factor:g} = {width} channels, "
                f"which norm_groups={trunk.groups} does not divide; change num_channels, "
                "channel_mult or norm_groups"
            )


def _check_heads(trunk: Trunk, count: int, key: str) -> None:
    """Raises UserError if `count` does not divide the channels of a level with attention."""
    levels = {int(math.log2(factor)) for factor in trunk.attention} | {len(trunk.multipliers) - 1}
    for level in sorted(levels):
        if count < 1 or trunk.channels(level) % count:
            raise UserError(
                f"{key}={count}: must divide the {trunk.channels(level)} channels of level {level}"
            )


def _multipliers(model: Any, resolution: int, upsampler: bool, key: str) -> tuple[float, ...]:
    """Channels of every level as multiples of num_channels: the section's, or the usual ones."""
    known = UPSAMPLER_MULTIPLIERS if upsampler else MULTIPLIERS
    chosen = tuple(model.channel_mult)
    if not chosen:
        if resolution not in known:
            halvings = min((resolution & -resolution).bit_length() - 1, 2)
            return (1, 2, 2)[: halvings + 1]
        return known[resolution]
    if not all(isinstance(m, int | float) and m > 0 for m in chosen):
        raise UserError(f"config.{key}.channel_mult={chosen}: write numbers, such as (0.5, 1, 2)")
    factor = 2 ** (len(chosen) - 1)
    if resolution % factor:
        raise UserError(
            f"config.{key}.channel_mult={chosen}: {len(chosen)} levels halve {len(chosen) - 1} "
            f"times, and config.data.resolution={resolution} does not divide by {factor}"
        )
    return chosen


def _attention(model: Any, resolution: int, levels: int, key: str) -> tuple[int, ...]:
    """The factors 2^level of the levels with attention."""
    sides = [resolution // 2**level for level in range(levels)]
    level_of = {1 << (side - 1).bit_length(): level for level, side in enumerate(sides)}
    level_of |= {side: level for level, side in enumerate(sides)}
    for side in model.attention_resolutions:
        if side not in level_of:
            raise UserError(
                f"config.{key}.attention_resolutions={tuple(model.attention_resolutions)}: no "
                f"level is {side} px large; there are {', '.join(map(str, sides))}"
            )
    return tuple(2 ** level_of[side] for side in model.attention_resolutions)


def count(params: Any) -> int:
    """Number of parameters of a tree."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


# sizes of the section `model` of a U-Net, or of its encoder, for images of 8 px
TINY = dict(
    num_channels=8,
    num_res_blocks=0,
    channel_mult=(1, 2),
    norm_groups=4,
    attention_resolutions=(),
    num_head_channels=8,
    dtype="float32",
)

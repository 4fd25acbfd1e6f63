"""The blocks of guided-diffusion's networks (Dhariwal & Nichol 2021, appendix; Ho et al. 2020).

Layers have the names of the reference's checkpoint files, with "_" in place of a dot before a
number: "input_blocks.3.0.in_layers.2" is the layer "in_layers_2" of "input_blocks_3_0".
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.nn import initializers

from gan_jax import backend
from gan_jax.models.layers import Conv, Dense, average_pool, upsample
from gan_jax.models.precision import single

ORDERS = ("legacy", "new")
ZERO = {"kernel_init": initializers.zeros, "bias_init": initializers.zeros}


@dataclass(frozen=True)
class Trunk:
    """The options of an encoder and of the decoder that mirrors it.

    Level i has `width` · multipliers[i] channels and works on maps smaller by 2^i; `attention`
    holds the factors 2^i of the levels with attention.
    """

    width: int
    blocks: int
    multipliers: tuple[float, ...]
    attention: tuple[int, ...] = ()
    heads: int = 1
    head_channels: int = 0  # above 0: as many heads as the channels allow, whatever `heads` says
    scale_shift: bool = True
    updown: bool = False
    order: str = "legacy"
    dropout: float = 0.0
    groups: int = 32
    remat: str = "none"

    def channels(self, level: int) -> int:
        """Channels of a level, rounded down to a whole number."""
        return int(self.multipliers[level] * self.width)

    def residual(self, features: int, name: str, resample: str = "") -> "ResBlock":
        """A residual block, which is recomputed in the backward pass if `remat` is "blocks"."""
        again = self.remat == "blocks"
        return ResBlock(
            features, self.dropout, self.scale_shift, self.groups, resample, again, name=name
        )  # fmt: skip

    def attend(self, x: Array, name: str, heads: int | None = None) -> Array:
        """Self-attention of the map x; `heads` overrides the trunk's own number."""
        count = x.shape[-1] // self.head_channels if self.head_channels else heads or self.heads
        return Attention(count, self.order, self.groups, self.remat != "none", name=name)(x)


class GroupNorm(nn.Module):
    """torch.nn.GroupNorm on [B, ..., C], ε 1e-5; moments are float32 at least, the result has x's
    type."""

    groups: int = 32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        features = x.shape[-1]
        scale = self.param("scale", initializers.ones, (features,))
        bias = self.param("bias", initializers.zeros, (features,))
        h = single(x).reshape(x.shape[0], -1, features)
        return normalized(h, scale, bias, self.groups).reshape(x.shape).astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalized(x: Array, scale: Array, bias: Array, groups: int) -> Array:
    """Group norm of [B, P, C] with `scale` and `bias` [C].

    Sums over pixels come before those over the channels of a group, and the derivative is written
    out: JAX's own derivative of means over groups takes three times as long on a CPU
    (benchmarks/details/norm.py).
    """
    return _normalize(x, scale, bias, groups)[0]


def _normalize(x: Array, scale: Array, bias: Array, groups: int):
    """The result, and what its derivative needs."""
    repeat = _looked_up if backend.kind() == "cpu" else jnp.repeat
    mean = _group_means(jnp.mean(x, axis=1), groups, repeat)  # [B, C]
    centred = x - mean[:, None]
    var = _group_means(jnp.mean(jnp.square(centred), axis=1), groups, repeat)
    rate = jax.lax.rsqrt(var + 1e-5)
    return centred * (rate * scale)[:, None] + bias, (x, scale, mean, rate)


def _normalize_back(groups: int, kept, grad: Array):
    x, scale, mean, rate = kept
    unit = (x - mean[:, None]) * rate[:, None]
    to_bias, to_scale = jnp.sum(grad, axis=1), jnp.sum(grad * unit, axis=1)  # [B, C]
    pixels = x.shape[1]
    level = _group_means(to_bias * scale, groups) / pixels
    slope = _group_means(to_scale * scale, groups) / pixels
    to_x = rate[:, None] * (grad * scale - level[:, None] - unit * slope[:, None])
    return to_x, jnp.sum(to_scale, axis=0), jnp.sum(to_bias, axis=0)


normalized.defvjp(_normalize, _normalize_back)


def _group_means(values: Array, groups: int, repeat: Callable = jnp.repeat) -> Array:
    """[B, C] → the mean over the group of each channel, [B, C]."""
    size = values.shape[1] // groups
    if size == 1:
        return values
    means = jnp.mean(values.reshape(-1, groups, size), axis=2)
    return repeat(means, size, axis=1)


def _looked_up(values: Array, repeats: int, axis: int) -> Array:
    """`jnp.repeat` of [B, G] along axis 1 as a sum over all groups, of which all but one add zero:
    on a CPU, XLA computes the other form again for every pixel, which takes longer than the rest
    of the norm."""
    channels = jnp.arange(values.shape[axis] * repeats)
    own = channels // repeats == jnp.arange(values.shape[axis])[:, None]
    return jnp.sum(jnp.where(own, values[:, :, None], 0), axis=1)


def traced_once(block: nn.Module, key: Array | None, train: bool, *inputs: Array) -> Array:
    """The result of a bound block's `compute(*inputs, train, key)`.

    A U-Net has many blocks with the same options for maps of the same shape. Python runs through
    `compute` and its derivatives once for all of these, which saves a third of the time before the
    compiler begins. With `block.again` the backward pass computes the block again.
    """
    alone = block.clone(parent=None, name=None)  # equal for all of these blocks
    # convolutions depend on the form of programs, which jax does not know to be an argument
    return _computed(alone, train, backend.form(), block.variables, key, *inputs)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _computed(
    block: nn.Module, train: bool, form: tuple, weights: dict, key: Array | None, *inputs: Array
) -> Array:
    def compute(weights: dict, key: Array | None, *inputs: Array) -> Array:
        return block.apply(weights, *inputs, train, key, method=type(block).compute)

    return (jax.checkpoint(compute) if block.again else compute)(weights, key, *inputs)


class ResBlock(nn.Module):
    """[B, H, W, C] and a time embedding [B, E] → [B, H', W', features].

    `resample`: "" | "down" | "up", between the first activation and the first convolution, and on
    the skip. `again`: see `traced_once`.
    """

    features: int
    dropout: float = 0.0
    scale_shift: bool = True
    groups: int = 32
    resample: str = ""
    again: bool = False

    def __call__(self, x: Array, embedding: Array, train: bool) -> Array:
        if self.is_initializing():
            return self.compute(x, embedding, train)
        key = None
        if train and self.dropout:  # the key that flax gives a nn.Dropout of this block
            key = self.scope.push("Dropout_0", reuse=True).make_rng("dropout")
        return traced_once(self, key, train, x, embedding)

    @nn.compact
    def compute(self, x: Array, embedding: Array, train: bool, key: Array | None = None) -> Array:
        """The block itself; `key` is for dropout, in training."""
        resize = {"": lambda h: h, "down": average_pool, "up": upsample}[self.resample]
        conv = {"kernel_size": 3, "padding": 1}
        h = nn.silu(GroupNorm(self.groups, name="in_layers_0")(x))
        h = Conv(self.features, **conv, name="in_layers_2")(resize(h))
        wide = 2 * self.features if self.scale_shift else self.features
        emb = Dense(wide, name="emb_layers_1")(nn.silu(embedding)).astype(h.dtype)[:, None, None]
        norm = GroupNorm(self.groups, name="out_layers_0")
        if self.scale_shift:
            scale, shift = jnp.split(emb, 2, axis=-1)  # [B, 1, 1, features]
            h = norm(h) * (1 + scale) + shift
        else:
            h = norm(h + emb)
        h = nn.Dropout(self.dropout, deterministic=not train)(nn.silu(h), rng=key)
        h = Conv(self.features, **conv, **ZERO, name="out_layers_3")(h)
        skip = resize(x)
        if x.shape[-1] != self.features:
            skip = Conv(self.features, 1, name="skip_connection")(skip)
        return skip + h


class Attention(nn.Module):
    """Self-attention over all pixels of [B, H, W, C], added to its input.

    `order` is that of the 3C channels of queries, keys and values: "legacy" has them head by head,
    "new" kind by kind. The softmax is computed in float32 at least. `again`: see `traced_once`.
    """

    heads: int
    order: str = "legacy"
    groups: int = 32
    again: bool = False

    def __call__(self, x: Array) -> Array:
        return self.compute(x) if self.is_initializing() else traced_once(self, None, False, x)

    @nn.compact
    def compute(self, x: Array, train: bool = False, key: Array | None = None) -> Array:
        """The block itself, which is the same in training."""
        batch, height, width, features = x.shape
        h = GroupNorm(self.groups, name="norm")(x).reshape(batch, height * width, features)
        qkv = Dense(3 * features, name="qkv")(h)  # [B, HW, 3C]
        h = attention(qkv, self.heads, self.order)
        h = Dense(features, **ZERO, name="proj_out")(h)
        return x + h.reshape(x.shape)


def attention(qkv: Array, heads: int, order: str) -> Array:
    """softmax(q kᵀ / √d) v of tokens [B, T, 3C] → [B, T, C].

    The weights of the softmax are divided by their sum after the product, where there are fewer
    numbers. With that and with the heads before the tokens a CPU takes a fifteenth of the time, and
    two thirds with gradients (`make bench SYSTEM=attention`).
    """
    batch, tokens, wide = qkv.shape
    depth = wide // 3 // heads
    if order == "legacy":
        q, k, v = qkv.reshape(batch, tokens, heads, 3, depth).transpose(3, 0, 2, 1, 4)
    else:
        q, k, v = qkv.reshape(batch, tokens, 3, heads, depth).transpose(2, 0, 3, 1, 4)
    scale = depth**-0.25  # on both factors, because the product could overflow in half precision
    logits = single(jnp.einsum("bhtd,bhsd->bhts", q * scale, k * scale))
    weights = jnp.exp(logits - lax.stop_gradient(logits.max(axis=-1, keepdims=True)))
    total = weights.sum(axis=-1, keepdims=True)
    if qkv.dtype == total.dtype:
        h = jnp.einsum("bhts,bhsd->bhtd", weights, v) / total
    else:  # in half precision the product of undivided weights could overflow
        h = jnp.einsum("bhts,bhsd->bhtd", (weights / total).astype(qkv.dtype), v)
    return h.transpose(0, 2, 1, 3).reshape(batch, tokens, wide // 3)


class Downsample(nn.Module):
    """A convolution of stride 2 that pads one pixel on every side."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return Conv(x.shape[-1], 3, 2, 1, name="op")(x)


class Upsample(nn.Module):
    """Nearest neighbour, twice as large, then a convolution."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return Conv(x.shape[-1], 3, 1, 1, name="conv")(upsample(x))


def timestep_embedding(time: Array, width: int) -> Array:
    """Times [B], whole or fractional → [B, width]: cosines, then sines, of `time` multiplied by
    frequencies that fall geometrically from 1 to 1/10000 (exclusive); an odd width ends in a zero.
    """
    half = width // 2
    time = jnp.asarray(time)
    time = single(time)
    frequencies = jnp.exp(-math.log(10000) * jnp.arange(half, dtype=time.dtype) / half)
    angles = time[:, None] * frequencies
    embedding = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
    return jnp.pad(embedding, ((0, 0), (0, width % 2)))


def embed_time(time: Array, width: int) -> Array:
    """The embedding [B, 4 · width] of times [B] that every residual block reads."""
    h = Dense(4 * width, name="time_embed_0")(timestep_embedding(time, width))
    return Dense(4 * width, name="time_embed_2")(nn.silu(h))


def encode(trunk: Trunk, x: Array, embedding: Array, train: bool) -> list[Array]:
    """The maps of every level from an image: stem, blocks and downsamplers, in order.

    It must be called inside a module, which gets the layers.
    """
    h = Conv(trunk.channels(0), 3, padding=1, name="input_blocks_0_0")(x)
    maps, last = [h], len(trunk.multipliers) - 1
    for level in range(last + 1):
        for _ in range(trunk.blocks):
            name = f"input_blocks_{len(maps)}"
            h = trunk.residual(trunk.channels(level), f"{name}_0")(h, embedding, train)
            if 2**level in trunk.attention:
                h = trunk.attend(h, f"{name}_1")
            maps.append(h)
        if level != last:
            name = f"input_blocks_{len(maps)}_0"
            if trunk.updown:
                h = trunk.residual(h.shape[-1], name, "down")(h, embedding, train)
            else:
                h = Downsample(name=name)(h)
            maps.append(h)
    return maps


def middle(trunk: Trunk, h: Array, embedding: Array, train: bool) -> Array:
    """Residual block, attention, residual block on the smallest map."""
    h = trunk.residual(h.shape[-1], "middle_block_0")(h, embedding, train)
    h = trunk.attend(h, "middle_block_1")
    return trunk.residual(h.shape[-1], "middle_block_2")(h, embedding, train)

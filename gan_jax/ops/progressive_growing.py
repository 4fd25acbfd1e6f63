"""Progressive growing: which resolution, fade, batch and learning rate hold at an image count.

Source: Karras et al., Progressive growing of GANs for improved quality, stability and variation,
2018, section 2 and appendix A; presets and rounding are those of the authors' own code.

The level of detail (lod) is 0 at the final resolution R and grows by 1 with every halving. Training
alternates: `training_kimg` thousand images at a whole lod, then `transition_kimg` thousand during
which the lod falls by 1. Networks work at side R / 2^⌊lod⌋, so a fade already uses the new side;
lod - ⌊lod⌋ is the weight of the old one. The schedule is looked up only every `repeats` iterations;
these iterations are called a block here. Counts are Python integers and doubles, so they are exact;
a compiled step computes the fade and the number of images, a mere metric, in float32.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from gan_jax.ops import images, pyramid

TICKS = {4: 160, 8: 140, 16: 120, 32: 100, 64: 80, 128: 60, 256: 40, 512: 20, 1024: 10}
TICK_BASE = 160  # thousand images, at a resolution that TICKS does not have
PER_DEVICE = {256: 16, 512: 8, 1024: 4}  # the largest batch of a device, by resolution
PER_DEVICE_HALF = {512: 16, 1024: 8}  # float16: half the memory


class Preset(NamedTuple):
    """The original's settings for a number of GPUs, from its tables for RGB at 1024 px."""

    devices: int
    base: int
    batch: dict[int, int]
    rates: dict[int, float]
    kimg: float = 600.0  # of training and of transition
    total_kimg: float = 12000.0
    group: int = 4  # of the minibatch standard deviation


PRESETS = {
    "v1-1gpu": Preset(1, 16, {256: 14, 512: 6, 1024: 3}, {}, 800.0, 19000.0, 16),
    "v2-1gpu": Preset(
        1, 4, {4: 128, 8: 128, 16: 128, 32: 64, 64: 32, 128: 16, 256: 8, 512: 4}, {1024: 0.0015}
    ),
    "v2-2gpus": Preset(
        2, 8, {4: 256, 8: 256, 16: 128, 32: 64, 64: 32, 128: 16, 256: 8}, {512: 0.0015, 1024: 0.002}
    ),
    "v2-4gpus": Preset(
        4, 16, {4: 512, 8: 256, 16: 128, 32: 64, 64: 32, 128: 16},
        {256: 0.0015, 512: 0.002, 1024: 0.003},
    ),
    "v2-8gpus": Preset(
        8, 32, {4: 512, 8: 256, 16: 128, 32: 64, 64: 32},
        {128: 0.0015, 256: 0.002, 512: 0.003, 1024: 0.003},
    ),
}  # fmt: skip


def preset_for(devices: int) -> str:
    """The preset for the largest number of devices up to `devices`: 3 → "v2-2gpus"."""
    for name in ("v2-8gpus", "v2-4gpus", "v2-2gpus"):
        if devices >= PRESETS[name].devices:
            return name
    return "v2-1gpu"


@dataclass(frozen=True)
class Growth:
    """A schedule. Tables have values by resolution; `base` or `rate` holds where they have none."""

    resolution: int  # the final one
    base: int  # images per step
    batch: dict[int, int] = field(default_factory=dict)
    initial_resolution: int = 4
    training_kimg: float = 600.0
    transition_kimg: float = 600.0
    repeats: int = 4
    devices: int = 1  # a batch is a multiple of this, and at most `per_device` times this
    per_device: dict[int, int] = field(default_factory=dict)
    rate: float = 0.001
    rates: dict[int, float] = field(default_factory=dict)
    ticks: dict[int, float] = field(default_factory=lambda: dict(TICKS))

    def lod(self, images: int) -> float:
        """The level of detail, at least 0, after this many training images."""
        kimg = images / 1000
        length = self.training_kimg + self.transition_kimg
        phase = math.floor(kimg / length) if length > 0 else 0
        lod = math.log2(self.resolution) - math.floor(math.log2(self.initial_resolution)) - phase
        if self.transition_kimg > 0:
            inside = kimg - phase * length
            lod -= max(inside - self.training_kimg, 0.0) / self.transition_kimg
        return max(lod, 0.0)

    def side(self, lod: float) -> int:
        """Resolution at a level of detail: the new one throughout a fade."""
        return self.resolution >> math.floor(lod)

    def batch_size(self, side: int) -> int:
        """Images per step at a resolution, over all devices."""
        batch = self.batch.get(side, self.base)
        batch -= batch % self.devices
        if side in self.per_device:
            batch = min(batch, self.per_device[side] * self.devices)
        return batch

    def learning_rate(self, side: int) -> float:
        """The learning rate at a resolution."""
        return self.rates.get(side, self.rate)

    def tick_kimg(self, side: int) -> float:
        """Thousand images in a tick at a resolution."""
        return self.ticks.get(side, TICK_BASE)


class Span(NamedTuple):
    """Consecutive steps with the same ⌊lod⌋, ⌈lod⌉ and batch: one stage of training."""

    side: int
    batch: int
    level: int  # ⌊lod⌋
    fading: bool  # ⌈lod⌉ > ⌊lod⌋
    step: int  # the step at which it begins
    steps: int
    images: int  # training images before it


def spans(growth: Growth, images: float = math.inf, steps: float = math.inf) -> list[Span]:
    """The stages of a run that ends with the block in which `images` training images are reached,
    or after exactly `steps` steps, whichever comes first; one of the two must be finite.

    Raises ValueError if a batch would be smaller than 1 image.
    """
    found: list[Span] = []
    taken = step = 0
    while taken < images and step < steps:
        span = _next_span(growth, taken, step, images - taken, steps - step)
        found.append(span)
        taken, step = taken + span.steps * span.batch, step + span.steps
    return found


def _next_span(growth: Growth, taken: int, step: int, images: float, steps: float) -> Span:
    """The span that begins at `step`, after `taken` images, if the run still has `images` images
    and `steps` steps to go."""
    lod = growth.lod(taken)
    side, place = growth.side(lod), (math.floor(lod), math.ceil(lod))
    batch = growth.batch_size(side)
    if batch < 1:
        raise ValueError(
            f"the batch at {side} px would be {batch}: fewer images than {growth.devices} devices"
        )
    block = growth.repeats * batch

    def same(count: int) -> bool:
        there = growth.lod(taken + count * block)
        return (math.floor(there), math.ceil(there)) == place

    left = min(_ceil(images / block), _ceil(steps / growth.repeats))
    blocks = _last(same, left) if lod > 0 else left
    count = int(min(blocks * growth.repeats, steps))
    return Span(side, batch, place[0], place[1] > place[0], step, count, taken)


def _ceil(value: float) -> float:
    """The next whole number; infinity stays infinity."""
    return value if value == math.inf else math.ceil(value)


def _last(same, limit: float) -> int:
    """The smallest n ≥ 1 with same(n) false, at most `limit`; `same` turns false once for all."""
    high = 1
    while high < limit and same(high):
        high *= 2
    low, high = high // 2, int(min(high, limit))  # same(low) holds, or low is 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if same(middle) else (low, middle)
    return high


class Tick(NamedTuple):
    """The end of a tick: its step, and the number of training images up to it."""

    step: int
    images: int


def ticks(growth: Growth, run: Sequence[Span]) -> Iterator[Tick]:
    """The ends of ticks, at which the original shows results: the end of the first block that
    completes `tick_kimg` thousand images since the last tick, and the end of the run."""
    begun = end = 0
    for span in run:
        block, length = growth.repeats * span.batch, growth.tick_kimg(span.side) * 1000
        end = span.images + span.steps * span.batch
        while True:
            blocks = max(math.ceil((begun + length - span.images) / block), 1)
            # if a tick is shorter than a block, the next one ends a block later
            blocks += span.images + blocks * block == begun
            if blocks * growth.repeats > span.steps:
                break
            begun = span.images + blocks * block
            yield Tick(span.step + blocks * growth.repeats, begun)
    if run and begun != end:
        yield Tick(run[-1].step + run[-1].steps, end)


def table(text: str, kind: type, key: str, error: type[Exception] = ValueError) -> dict:
    """ "4:128, 8:64" → {4: 128, 8: 64}: resolutions are powers of two, values above 0.

    Raises `error` naming `key` for anything else.
    """
    found = {}
    try:
        for part in filter(None, text.replace(" ", "").split(",")):
            side, colon, value = part.partition(":")
            found[int(side)] = kind(value)
            if not colon or not kind(value) > 0 or int(side) & (int(side) - 1) or int(side) < 4:
                raise ValueError(part)
    except ValueError:
        raise error(
            f'{key}={text!r}: write resolution:value pairs, such as "4:128,8:64"; resolutions '
            "are powers of two from 4, values above 0"
        ) from None
    return found


def _looked_up(run: Sequence[Span], step: Array):
    """A function (values, one for each span; dtype) → the value of the span that holds `step`."""
    place = jnp.searchsorted(np.array([s.step for s in run], np.int32), step, side="right") - 1
    return lambda values, dtype: jnp.asarray(np.array(values, dtype))[place]


def fade(growth: Growth, run: Sequence[Span], step: Array, side: int) -> Array:
    """The weight of the lower side at `step` (int32 []), for networks that work at `side`.

    Float32 [] in [0, 1]. If `run` has another side at this step, it is 1 before the fade to `side`
    and 0 after it, so that a state can be sampled at any side. Beyond the end of the run it is 0.
    """
    at = _looked_up(run, step)
    begun, block = [], []
    for span in run:
        length = growth.training_kimg + growth.transition_kimg
        phase = math.floor(span.images / 1000 / length) if length > 0 else 0
        begun.append(span.images - 1000 * (phase * length + growth.training_kimg))
        block.append(growth.repeats * span.batch)
    blocks = (step - at([s.step for s in run], np.int32)) // growth.repeats
    passed = at(begun, np.float32) + (blocks * at(block, np.int32)).astype(jnp.float32)
    weight = 1 - passed / (max(growth.transition_kimg, 1e-9) * 1000)
    weight = jnp.where(at([s.fading for s in run], bool), weight, 0.0)
    level = int(math.log2(growth.resolution // side))
    weight = jnp.clip(at([s.level for s in run], np.int32) - level + weight, 0.0, 1.0)
    return jnp.where(step > run[-1].step + run[-1].steps, 0.0, weight)


def images_at(run: Sequence[Span], step: Array) -> Array:
    """The number of training images before `step` (int32 []): float32 []."""
    at = _looked_up(run, step)
    inside = (step - at([s.step for s in run], np.int32)) * at([s.batch for s in run], np.int32)
    return at([s.images for s in run], np.float32) + inside.astype(jnp.float32)


def shrink(pixels: Array | np.ndarray, side: int, whole: bool = True) -> Array:
    """Means of blocks: [B, R, R, C] → [B, side, side, C] floats, R a multiple of `side`.

    `whole` rounds to integers, halves to even, as in the original's files of smaller images. For
    uint8 pixels everything is exact in float32 up to R / side = 256.
    """
    x = images.floats(pixels)
    batch, size, _, channels = x.shape
    if size == side:
        return x
    block = size // side
    # rows first, since they are contiguous: several times faster on a CPU than both axes at once
    x = jnp.sum(x.reshape(batch, side, block, size * channels), axis=2)
    x = jnp.sum(x.reshape(batch, side, side, block, channels), axis=3) / block**2
    return jnp.round(x) if whole else x


def blend(x: Array, weight: Array | float) -> Array:
    """Images as a discriminator sees them in a fade: x [B, H, W, C], H and W even, mixed with
    `weight` of themselves halved by means and doubled by nearest neighbour."""
    coarse = jnp.repeat(jnp.repeat(pyramid.halve(x), 2, axis=1), 2, axis=2)
    return x + (coarse - x) * jnp.asarray(weight, x.dtype)

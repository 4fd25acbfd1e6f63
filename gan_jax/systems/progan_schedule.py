"""ProGAN's schedule, read from a config: its checks, its stages, its optimizers.

`gan_jax.ops.progressive_growing` explains what a schedule is; its presets are the settings of the
original for a number of GPUs. `plan` comes first; the other functions take what it returns.
"""

from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np

from gan_jax.core import grads, loss_scale, optim
from gan_jax.core.intervals import Every
from gan_jax.core.system import Facts, Stage
from gan_jax.errors import UserError, above, at_least, one_of
from gan_jax.models import progan as networks
from gan_jax.models.precision import DTYPES
from gan_jax.ops import progressive_growing
from gan_jax.ops.progressive_growing import Growth, Span

ORDERS = ("disc_first", "joint")
OF_PRESET = -1.0  # a length that the preset decides
GROUP = 4  # of the minibatch standard deviation, without a preset
LENGTHS = ("training_kimg", "transition_kimg")


def plan(config, facts: Facts) -> tuple[Growth, list[Span]]:
    """The schedule of a config, and the consecutive spans of steps that make up the run.

    Raises UserError for lengths, tables and batches that cannot be read.
    """
    growth = _growth(config, facts)
    length = _run_length(config)
    if length.unit == "steps":
        return growth, progressive_growing.spans(growth, steps=round(length.count))
    size = facts.train_size if length.unit == "epochs" else 1
    return growth, progressive_growing.spans(growth, images=length.count * size)


def checked_plan(config, facts: Facts) -> tuple[Growth, list[Span]]:
    """`plan` together with all checks; raises UserError for values that do not go together."""
    _check_names(config)
    _check_sides(config, facts.resolution)
    _check_preset(config)
    _check_numbers(config, facts.resolution)
    growth, run = plan(config, facts)
    if growth.initial_resolution < growth.resolution and not _length_of_a_side(growth):
        raise UserError(
            "config.growth.training_kimg and transition_kimg are both 0: nothing would ever grow; "
            f"set them, or config.growth.initial_resolution={growth.resolution}"
        )
    _check_groups(config, run)
    return growth, run


def stages(growth: Growth, run: list[Span]) -> tuple[Stage, ...]:
    """A stage for each span. `Stage.ticks` holds the steps at which ticks end, numbered from 1."""
    ends = {tick.step: n for n, tick in enumerate(progressive_growing.ticks(growth, run), start=1)}

    def ticks_in(span: Span) -> dict[int, int]:
        first, last = span.step, span.step + span.steps
        return {step: n for step, n in ends.items() if first < step <= last}

    return tuple(Stage(s.side, s.batch, s.step, s.steps, ticks_in(s)) for s in run)


def optimizers(
    config, stages: tuple[Stage, ...], train_size: int, half: bool
) -> dict[str, optim.Optimizer]:
    """The optimizers of "gen" and "disc", whose learning rates may depend on the resolution.

    They skip updates that are not finite. `half` adds a loss scale, for float16.
    """
    epoch_steps = [max(train_size // stage.batch_size, 1) for stage in stages]
    made = optim.optimizers(config.optim, stages, epoch_steps, config.best.mode == "min")
    return {
        name: own._replace(
            tx=loss_scale.guarded(own.tx, half), rate=_by_side(config, name, own.rate, stages)
        )
        for name, own in made.items()
    }


def model_section(config) -> SimpleNamespace:
    """The section `model` with the group size that a preset decides."""
    values = config.model.to_dict()
    if values["minibatch_stddev"] < 0:
        preset = _preset(config)
        values["minibatch_stddev"] = preset.group if preset else GROUP
    return SimpleNamespace(**values)


def notices(config, stages: tuple[Stage, ...]) -> tuple[str, ...]:
    """A line for every resolution, and one more if the run ends before the last resolution."""
    lines = []
    for side in dict.fromkeys(s.resolution for s in stages):
        own = [s for s in stages if s.resolution == side]
        images = sum(s.steps * s.batch_size for s in own)
        lines.append(
            f"{side} px: {own[0].batch_size} images per step, steps {own[0].start} to "
            f"{own[-1].end} ({images:,} images)"
        )
    if stages[-1].resolution < config.data.resolution:
        lines.append(
            f"the run ends at {stages[-1].resolution} px, before config.data.resolution="
            f"{config.data.resolution} is reached: raise config.run.steps"
        )
    return tuple(lines)


def shortened(config, share: float) -> dict[str, Any]:
    """The keys that measure a length, for a run of `share` of the config's length: of the run, of
    each phase of the growing, and of a tick."""
    growth, length = config.growth, _run_length(config)
    usual = _preset(config).kimg if _preset(config) else 0.0
    count = length.count * share
    shown = f"{count:.4g}" if length.unit == "epochs" else str(max(round(count), 1))
    found = {"run.steps": f"{shown} {length.unit}"}
    for key in LENGTHS:
        kimg = usual if growth[key] == OF_PRESET else growth[key]
        found[f"growth.{key}"] = float(f"{kimg * share:.4g}")
    own = _table(config, "ticks", float)
    usual = progressive_growing.TICK_BASE
    ticks = {k: own.get(k, usual) if own else v for k, v in progressive_growing.TICKS.items()}
    found["growth.ticks"] = ",".join(f"{side}:{kimg * share:.4g}" for side, kimg in ticks.items())
    return found


def tiny(config) -> None:
    """Shrinks the networks, and grows from 4 px in 14 steps. In place."""
    first = min(config.growth.initial_resolution, config.data.resolution)
    config.growth.update(preset="none", initial_resolution=first)
    config.growth.update(training_kimg=0.016, transition_kimg=0.032)
    config.growth.update(batch="", gen_rates="", disc_rates="", ticks="", repeats=1)
    config.model.update(fmap_base=32, fmap_max=8, z_dim=8)
    config.run.update(steps="14", sample_every="2", eval_every="2", save_every="2")
    if config.run.quality_every != "0":
        config.run.quality_every = "2"


def _preset(config) -> progressive_growing.Preset | None:
    return progressive_growing.PRESETS.get(config.growth.preset)


def _table(config, key: str, kind: type) -> dict:
    """A key of config.growth such as "4:128,8:64", values by resolution."""
    return progressive_growing.table(config.growth[key], kind, f"config.growth.{key}", UserError)


def _growth(config, facts: Facts) -> Growth:
    """The schedule. Batch sizes that the config gives are not limited by what a device can hold;
    those of a preset are."""
    section, preset = config.growth, _preset(config)
    own_batch = bool(config.batch_size or section.batch)
    half = config.model.dtype != "float32"
    limits = progressive_growing.PER_DEVICE_HALF if half else progressive_growing.PER_DEVICE
    given = {key: section[key] for key in LENGTHS}
    usual = preset.kimg if preset else 0.0
    lengths = {key: usual if value == OF_PRESET else value for key, value in given.items()}
    return Growth(
        resolution=facts.resolution,
        base=config.batch_size or (preset.base if preset else 1),
        batch=_table(config, "batch", int) if own_batch else preset.batch,
        initial_resolution=section.initial_resolution,
        repeats=section.repeats,
        devices=1 if own_batch else preset.devices,
        per_device={} if own_batch else limits,
        ticks=_table(config, "ticks", float) or progressive_growing.TICKS,
        **lengths,
    )


def _run_length(config) -> Every:
    """config.run.steps in images, steps or epochs; "preset" is the preset's number of images."""
    preset, text = _preset(config), config.run.steps
    if preset and text == "preset":
        return Every(preset.total_kimg * 1000, "images")
    length = Every.parse(text, "config.run.steps")
    if length.unit == "ticks" or length.count < 1:
        raise UserError(
            f"config.run.steps={text!r}: give a length in images, steps or epochs"
            + (', or "preset"' if preset else "")
        )
    return length


def _by_side(config, net: str, rate, stages: tuple[Stage, ...]):
    """The learning rate of "gen" or "disc" at a step, with its own base at some resolutions.

    The bases are those of config.growth.<net>_rates, else the preset's; elsewhere `rate` holds,
    whose base is config.optim.<net>.lr.
    """
    table = _table(config, f"{net}_rates", float)
    preset = _preset(config)
    if not table and preset:
        table = preset.rates
    base = config.optim[net].lr
    if not table or not base:
        return rate
    factors = np.array([table.get(s.resolution, base) / base for s in stages], np.float32)
    starts = np.array([s.start for s in stages], np.int32)

    def at(step):
        place = jnp.searchsorted(starts, step, side="right") - 1
        return rate(step) * jnp.asarray(factors)[place]

    return at


def _length_of_a_side(growth: Growth) -> float:
    return growth.training_kimg + growth.transition_kimg


def _check_names(config) -> None:
    one_of("config.loss.order", config.loss.order, ORDERS)
    # "auto" has been replaced by one of these already
    presets = ("none", *progressive_growing.PRESETS)
    one_of("config.growth.preset", config.growth.preset, presets)
    one_of("config.model.dtype", config.model.dtype, DTYPES)


def _check_sides(config, side: int) -> None:
    first = config.growth.initial_resolution
    if side < 8 or side & (side - 1):
        near = 1 << max(side - 1, 7).bit_length()
        raise UserError(
            f"config.data.resolution={side}: growing doubles the side again and again, so it must "
            f"be a power of two, 8 or more; set it to {near}, with config.data.resize=crop, or "
            "with config.data.pad for a border"
        )
    if first < 4 or first & (first - 1) or first > side:
        raise UserError(
            f"config.growth.initial_resolution={first}: must be a power of two from 4 to "
            f"config.data.resolution={side}"
        )


def _check_preset(config) -> None:
    """Raises UserError if the config names no preset and leaves out a length or a batch size."""
    growth = config.growth
    if growth.preset != "none":
        return
    for key in LENGTHS:
        if growth[key] < 0:
            raise UserError(
                f"config.growth.{key}={growth[key]}: set it, since config.growth.preset is none"
            )
    if not config.batch_size and not growth.batch:
        raise UserError(
            "config.batch_size=0: set it, or config.growth.batch, since config.growth.preset is "
            "none"
        )


def _check_numbers(config, side: int) -> None:
    loss, growth, model = config.loss, config.growth, config.model
    if networks.channels(side, model.fmap_base, model.fmap_decay, model.fmap_max) < 1:
        raise UserError(
            f"config.model.fmap_base={model.fmap_base}: too few for one channel at {side} px; "
            f"use {side // 2} or more"
        )
    lowest = {
        "batch_size": (config.batch_size, 0),
        "growth.repeats": (growth.repeats, 1),
        "model.fmap_base": (model.fmap_base, 1),
        "model.fmap_max": (model.fmap_max, 1),
        "model.fmap_decay": (model.fmap_decay, 0),
        "model.z_dim": (model.z_dim, 0),
        "model.minibatch_stddev": (model.minibatch_stddev, -1),
        "loss.gradient_penalty": (loss.gradient_penalty, 0),
        "loss.drift": (loss.drift, 0),
        "loss.label_weight": (loss.label_weight, 0),
        "loss.skip_limit": (loss.skip_limit, 0),
    }
    for key, (value, least) in lowest.items():
        at_least(f"config.{key}", value, least)
    for key in LENGTHS:
        if growth[key] < 0 and growth[key] != OF_PRESET:
            raise UserError(
                f"config.growth.{key}={growth[key]}: must be at least 0, or -1 for the preset's"
            )
    above("config.loss.target", loss.target, 0)


def _check_groups(config, run: list[Span]) -> None:
    """Raises UserError unless the groups of the minibatch standard deviation divide every batch,
    and every part of one."""
    group, parts = model_section(config).minibatch_stddev, config.microbatches
    for span in run:
        name = f"the images of a step at {span.side} px, config.growth.batch"
        grads.check_parts(parts, span.batch, name)
        grads.check_groups(parts, span.batch, group, name)
        if group > 1 and span.batch % min(group, span.batch):
            raise UserError(
                f"config.model.minibatch_stddev={group}: groups must divide the {span.batch} "
                f"images of a step at {span.side} px; change config.growth.batch or "
                "config.batch_size, or set 0 for none"
            )

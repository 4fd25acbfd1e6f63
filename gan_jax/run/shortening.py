"""A shorter version of a recipe: the keys of a config that measure a length, made shorter alike.

A schedule of a rate, a moving average, a phase of growing and the interval of an evaluation are
all meant for the length of the run that they stand in. `shortened` gives them the same share of it
as the length itself, so the shorter run passes through the same phases.
"""

import math
from collections.abc import Mapping
from typing import Any

from gan_jax import config as configs
from gan_jax.core.intervals import Every
from gan_jax.run import disk_use
from gan_jax.run.experiment import Experiment

ROUNDS = {  # what happens at intervals and takes time, by the key of its interval
    "sample": "run.sample_every",
    "eval": "run.eval_every",
    "quality": "run.quality_every",
    "save": "run.save_every",
}
LINES = 20  # as many lines of the log has a shortened run at least, if it has as many steps
LENGTHS = ("warmup", "length", "begin", "every")  # of a schedule, in its unit
SHORTEST_EMA = 0.9  # a shortened average's decay is no smaller: it covers 10 steps


def shortened(experiment: Experiment, share: float, rounds: Mapping[str, int]) -> dict[str, Any]:
    """The keys of the config that change in a run of `share` of the experiment's length.

    Args:
      rounds: how often each of ROUNDS that the run has shall happen, at most as often as in the
        whole run.

    Returns {"run.steps": "800", "optim.gen.schedule.begin": 40.0, …} with new values only.
    """
    config = experiment.config
    steps = max(round(experiment.last.end * share), 1)
    found: dict[str, Any] = {"run.steps": str(steps)}
    for name, section in config.optim.items():
        own = _schedule(section.schedule, experiment, share) | _average(section, share)
        found |= {f"optim.{name}.{key}": value for key, value in own.items()}
    found |= _intervals(experiment, share, steps, rounds)
    found |= _patience(experiment, share, rounds)
    module = configs.SYSTEMS[config.system]
    found |= getattr(module, "shortened", lambda config, share: {})(config, share)
    old = configs.flat(config.to_dict())
    return {key: value for key, value in found.items() if old[key] != value}


def _number(value: float) -> float:
    """Six digits are enough for a length."""
    return float(f"{value:.6g}")


def _schedule(schedule, experiment: Experiment, share: float) -> dict[str, Any]:
    """The changed keys of a learning rate's schedule, such as "schedule.warmup".

    A rate that changes with whole epochs is given in images, since a short run may have none.
    """
    factor, found = share, {}
    whole = schedule.name == "halving" or schedule.staircase
    if schedule.unit == "epochs" and whole:
        first = experiment.system.stages[0]
        factor *= experiment.data.epoch_steps(first) * first.batch_size
        found["schedule.unit"] = "images"
    for key in LENGTHS:
        if schedule[key]:
            found[f"schedule.{key}"] = _number(schedule[key] * factor)
    if any(schedule.boundaries):
        found["schedule.boundaries"] = tuple(_number(b * factor) for b in schedule.boundaries)
    if schedule.gamma != 1:
        found["schedule.gamma"] = schedule.gamma ** (1 / factor)
    return found


def _average(section, share: float) -> dict[str, Any]:
    """The changed keys of the moving average of a net's weights."""
    found: dict[str, Any] = {}
    if any(section.ema):
        found["ema"] = tuple(
            float(f"{max(d ** (1 / share), min(d, SHORTEST_EMA)):.6g}") for d in section.ema
        )
    if section.ema_half_life:
        found["ema_half_life"] = _number(section.ema_half_life * share)
    if section.ema_start:
        found["ema_start"] = round(section.ema_start * share)
    return found


def _intervals(
    experiment: Experiment, share: float, steps: int, rounds: Mapping[str, int]
) -> dict[str, Any]:
    """The changed keys of what happens at intervals.

    An interval stays as it is where it gives the number of rounds asked for.
    """
    run, found = experiment.config.run, {}
    for name, key in ROUNDS.items():
        own = key.removeprefix("run.")
        every, often = Every.parse(run[own], f"config.{key}"), disk_use.rounds(experiment, own)
        if rounds.get(name, 0) in (0, math.ceil(often * share)):
            continue
        if every.unit == "ticks":  # which become shorter themselves, see `growth.ticks`
            found[key] = f"{max(round(every.count), 1) * math.ceil(often / rounds[name])} ticks"
        else:
            found[key] = str(math.ceil(steps / rounds[name]))
    log = Every.parse(run.log_every, "config.run.log_every")
    if log.count and disk_use.times(experiment, "log_every") * share < LINES:
        found["run.log_every"] = str(max(steps // LINES, 1))
    if kept := disk_use.times(experiment, "keep_every") if "run.save_every" in found else 0:
        save = int(found["run.save_every"])  # of which keep_every is a multiple
        found["run.keep_every"] = str(save * max(round(steps / kept / save), 1))
    return found


def _patience(experiment: Experiment, share: float, rounds: Mapping[str, int]) -> dict[str, Any]:
    """The changed keys that count evaluations, of which a shortened run may have fewer."""
    config, found = experiment.config, {}
    name = "eval" if config.best.metric.startswith("val/") else "quality"
    # an evaluation after the last step alone, where no interval ends, does not count there
    often = disk_use.times(experiment, ROUNDS[name].removeprefix("run."))
    if not often or rounds.get(name, often) >= often:
        return {}
    left = rounds[name] / often

    def fewer(count: int) -> int:
        return max(round(count * left), 1)

    if config.run.patience:
        found["run.patience"] = fewer(config.run.patience)
    for net, section in config.optim.items():
        if section.schedule.name == "plateau":
            found[f"optim.{net}.schedule.patience"] = fewer(section.schedule.patience)
            if section.schedule.cooldown:
                found[f"optim.{net}.schedule.cooldown"] = fewer(section.schedule.cooldown)
    return found

"""`--budget=1h`: a run whose length is chosen so that it ends within a time.

The time of a step, of compiling and of an evaluation is measured on the machine before the run
begins. The keys that follow from it are part of the run's config from its first step on, and
config.json names them: the run is what it would be if they had been given by hand.
"""

import logging
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from gan_jax import config as configs
from gan_jax.core.console import brief
from gan_jax.errors import ArgumentError
from gan_jax.run import disk_use, feasibility, trial
from gan_jax.run import folder as folders
from gan_jax.run.experiment import Experiment
from gan_jax.run.shortening import ROUNDS, shortened
from gan_jax.run.trial import Costs

logger = logging.getLogger(__name__)

UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
USED = 0.85  # of the budget; the rest is for curves, reports and a machine that gets slower
EVALUATING = 0.2  # the largest share of the time that evaluations get in a shortened run
FEWEST_ROUNDS = 20  # of each kind, if the whole run has as many and there is time for them
FEWEST_STEPS = 20  # a run of fewer is not begun
LITTLE = 0.05  # a run of a smaller share of the recipe gets a hint
TRIES = 8


class Budget(NamedTuple):
    """A time, as it was written and in seconds."""

    text: str
    seconds: float

    def part(self, share: float) -> str:
        """A share of it, as `parse` reads it."""
        return f"{self.seconds * share:g}s"


def parse(text: str) -> Budget | None:
    """The time that "90s", "30m", "1.5h" or "2d" says; None for "".

    Raises ArgumentError for anything else.
    """
    if not text:
        return None
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-z]+)", str(text).strip().lower())
    seconds = float(found[1]) * UNITS.get(found[2], 0.0) if found else 0.0
    if not 0 < seconds < math.inf:
        raise ArgumentError("budget", f"={text!r}: write a time, such as 90s, 30m, 1.5h or 2d")
    return Budget(str(text).strip(), seconds)


def resume(folder: Path, config: ConfigDict, budget: Budget | None) -> None:
    """Gives a config, in place, the keys that were chosen when the run in `folder` began.

    A key that the config sets otherwise than it was when the choice was made keeps its value. It
    does nothing for a folder without a saved state. Raises ArgumentError for another budget than
    the run began with.
    """
    if not folders.is_begun(folder) or not (folder / "config.json").exists():
        return
    stored = folders.read_config(folder).get("budget") or {}
    if budget and stored.get("text") != budget.text:
        began = f"with --budget={stored['text']}" if stored else "without a budget"
        raise ArgumentError(
            "budget",
            f"={budget.text}: the run in {folder} began {began}, and keeps its length; leave it "
            "out, or name another folder",
        )
    present = configs.flat(configs.plain(config))
    kept = {
        key: tuple(new) if isinstance(new, list) else new
        for key, (old, new) in stored.get("chosen", {}).items()
        if key in present and present[key] == old
    }
    config.update_from_flattened_dict(kept)


def choose(
    experiment: Experiment,
    budget: Budget,
    measure: Callable[[], Costs],
    began: float,
    clock: trial.Clock = time.time,
) -> tuple[Experiment, dict[str, Any]]:
    """The experiment whose run ends within the budget, and what config.json says of the choice.

    Args:
      measure: gives what the parts of the run take, see `trial.costs`.
      began: when the time began to run, by `clock`, which gives seconds.

    The experiment's config is changed in place. Raises ArgumentError if not even FEWEST_STEPS fit.
    """
    whole = experiment.config.copy_and_resolve_references()
    found = measure()
    left = USED * budget.seconds - trial.since(began, clock) - found.setup
    often = {
        name: disk_use.rounds(experiment, key.removeprefix("run."))
        for name, key in ROUNDS.items()
        if name in found.rounds
    }
    all_rounds = sum(often[name] * found.rounds[name] for name in often)
    everything = found.training(experiment.system.stages) + all_rounds
    takes = feasibility.duration(everything + found.setup)
    if everything <= left:
        logger.info(f"--budget={budget.text}: the whole recipe fits, and takes about {takes}")
        return experiment, {"text": budget.text, "chosen": _chosen(whole, experiment.config)}
    made, share = _fitting(experiment, found, often, left)
    if made is None:
        raise _too_little(experiment, budget, found, left)
    _say(experiment, made, budget, share, takes)
    return made, {"text": budget.text, "chosen": _chosen(whole, made.config)}


def _fitting(
    experiment: Experiment, found: Costs, often: dict[str, int], left: float
) -> tuple[Experiment | None, float]:
    """The longest run that fits into `left` seconds, and its share of the recipe; None if it has
    too few steps. Its config is that of `experiment`, changed in place."""
    total = found.training(experiment.system.stages)
    steps = experiment.last.end
    fewest = min(FEWEST_STEPS * len(found.steps), steps)
    share = min(left / total, 1.0)
    whole = experiment.config.to_dict()
    for _ in range(TRIES):
        rounds = _rounds(found, often, share, left)
        for_steps = left - sum(count * found.rounds[name] for name, count in rounds.items())
        share = min(share, for_steps / total)
        if share * steps < fewest:
            break
        experiment.config.update_from_flattened_dict(shortened(experiment, share, rounds))
        made = Experiment(experiment.config, data=experiment.data)
        # phases are at least a step long, so a run may come out longer than its share
        takes = found.training(made.system.stages)
        if takes <= for_steps * 1.01:
            return made, share
        experiment.config.update(whole)
        share *= 0.98 * for_steps / takes
    return None, 0.0


def _rounds(found: Costs, often: dict[str, int], share: float, left: float) -> dict[str, int]:
    """How often each kind of round happens in a run of this share of the recipe."""
    wanted = {
        name: min(count, max(math.ceil(count * share), FEWEST_ROUNDS))
        for name, count in often.items()
    }
    time = sum(count * found.rounds[name] for name, count in wanted.items())
    fit = min(EVALUATING * left / time, 1.0) if time > 0 else 1.0
    return {name: max(int(count * fit), 1) for name, count in wanted.items()}


def _too_little(experiment: Experiment, budget: Budget, found: Costs, left: float) -> ArgumentError:
    each = found.steps[experiment.system.stages[0]]
    rounds = sum(found.rounds.values())
    return ArgumentError(
        "budget",
        f"={budget.text}: too short for this run here. Compiling takes {_about(found.setup)}, "
        f"one evaluation with its pictures {_about(rounds)}, a step {brief(each)} s and more, and "
        f"{_about(max(left, 0))} of the budget are left for them; give more time, or smaller "
        f"values: {', '.join(feasibility.keys(experiment, length=False))}",
    )


def _about(seconds: float) -> str:
    return f"about {feasibility.duration(seconds)}"


def _say(
    experiment: Experiment, made: Experiment, budget: Budget, share: float, takes: str
) -> None:
    """The line about a choice, and a hint where it leaves little of the recipe."""
    logger.info(
        f"--budget={budget.text}: {made.last.end:,} steps, {brief(100 * share)} % of the recipe's "
        f"{experiment.last.end:,}, with schedules, averages and intervals shortened alike; the "
        f"whole recipe would take about {takes} here"
    )
    if share < LITTLE:
        keys = ", ".join(feasibility.keys(experiment, length=False))
        logger.info(f"that is little of it; smaller values leave more steps: {keys}")
    for notice in made.system.notices:
        if notice not in experiment.system.notices:
            logger.info(notice)


def _chosen(before: ConfigDict, after: ConfigDict) -> dict[str, list[Any]]:
    """{key: [value of the recipe, chosen value]}, as JSON values."""
    old, new = configs.flat(configs.plain(before)), configs.flat(configs.plain(after))
    return {key: [old[key], new[key]] for key in new if old[key] != new[key]}

"""How long the parts of a run take on this machine, found by trying each of them."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from gan_jax import backend
from gan_jax.core import cluster, train_step
from gan_jax.core.system import Stage
from gan_jax.core.train_step import TrainCarry
from gan_jax.core.validation import EVALUATION, Validator
from gan_jax.run import disk_use
from gan_jax.run.experiment import Experiment

logger = logging.getLogger(__name__)

STEPS, SECONDS = 3, 2.0  # of timed steps, at least
STAGES = 0.1  # the share of the budget in which stages are tried; those left over are estimated
LONG = 0.02  # the share of the budget from which on something is not done a second time

Clock = Callable[[], float]
Round = Callable[[TrainCarry, Stage], Any]  # what a run does at intervals, once


class Costs(NamedTuple):
    """Seconds: of making the networks and compiling all programs once, of a step in each stage, and
    of each kind of round in `ROUNDS` that the run has."""

    setup: float
    steps: dict[Stage, float]
    rounds: dict[str, float]

    def training(self, stages: tuple[Stage, ...]) -> float:
        """Seconds that all steps of these stages take."""
        return sum(stage.steps * self.steps[stage] for stage in stages)


def costs(
    experiment: Experiment,
    rounds: Mapping[str, Round],
    budget: float,
    clock: Clock = time.perf_counter,
) -> Costs:
    """Tries a few steps of each stage, a validation and `rounds`, which have the names in ROUNDS.

    The last stage, on which most of the time is spent, comes first, then the first one. The weights
    are lost. Stages that come after STAGES of the `budget` (seconds) is spent are estimated. Of
    several processes all take part, and all get the times of process 0.
    """
    logger.info("trying a few steps and an evaluation, to see how long they take here")
    began, steps = clock(), {}
    carry = jax.block_until_ready(experiment.fresh())
    once, compiling = since(began, clock), []
    train = train_step.train_function(experiment.system, experiment.mesh)
    stages = tuple(dict.fromkeys(reversed(experiment.system.stages)))
    last, *others = stages
    for stage in (last, *others[-1:], *others[:-1]):
        if steps and since(began, clock) > STAGES * budget:
            break
        carry = _entered(experiment, carry, stage)
        carry, first, each = _steps(experiment, train, carry, stage, LONG * budget, clock)
        compiling.append(max(first - each, 0.0))
        steps[stage] = each
    compiling += [min(compiling)] * (len(stages) - len(steps))
    if len(steps) < len(stages):
        steps = _estimated(steps, {stage: _work(experiment, stage) for stage in stages})
    carry, taken = _entered(experiment, carry, last), {}
    for name, call in {**_validation(experiment), **rounds}.items():
        first, taken[name] = _twice(lambda call=call: call(carry, last), STAGES * budget, clock)
        compiling.append(first - taken[name])
    return Costs(once + sum(compiling), steps, taken)


def since(began: float, clock: Clock) -> float:
    """Seconds since a moment, by the clock of process 0."""
    return cluster.decided("the time", lambda: clock() - began)


def _entered(experiment: Experiment, carry: TrainCarry, stage: Stage) -> TrainCarry:
    """The carry with which the steps of a stage begin."""
    state = experiment.system.enter_stage(carry.state, stage)
    return train_step.new_epoch(carry._replace(state=state))


def _estimated(steps: dict[Stage, float], work: dict[Stage, float]) -> dict[Stage, float]:
    """The seconds of a step of every stage in `work`, its number of operations.

    Those in `steps` are known. The others lie on the line through the first two of these; from a
    single one they follow in proportion.
    """
    known = [*steps][:2]
    lowest = min(work[stage] for stage in known), min(steps[stage] for stage in known)
    highest = max(work[stage] for stage in known), max(steps[stage] for stage in known)
    if highest[0] == lowest[0]:
        lowest = 0.0, 0.0
    slope = (highest[1] - lowest[1]) / max(highest[0] - lowest[0], 1.0)
    line = {s: max(lowest[1] + slope * (amount - lowest[0]), 0.0) for s, amount in work.items()}
    return {**line, **steps}


def _steps(
    experiment: Experiment,
    train: Callable,
    carry: TrainCarry,
    stage: Stage,
    long: float,
    clock: Clock,
) -> tuple[TrainCarry, float, float]:
    """(carry after some steps of a stage, seconds of the first one, which compiles, and of one
    after it). No more steps are tried once they have taken `long` seconds."""
    batches, spent, count = experiment.data("train", stage, stage.start), 0.0, 0
    while count <= STEPS or spent < min(SECONDS, long):
        began = clock()
        batch = experiment.mesh.put(next(batches))
        carry, metrics = train(carry, batch, experiment.key, stage)
        jax.block_until_ready(metrics)
        if count:
            spent += since(began, clock)
        else:
            first = since(began, clock)
        count += 1
        if spent > long:
            break
    return carry, first, spent / (count - 1)


def _validation(experiment: Experiment) -> dict[str, Round]:
    """Validation as a round, if there are images for it."""
    if not disk_use.validates(experiment):
        return {}
    key = jax.random.fold_in(experiment.key, EVALUATION)
    validate = Validator(experiment.system, experiment.mesh, experiment.data, key)
    return {"eval": lambda carry, stage: validate(carry.state, stage)}


def _twice(call: Callable[[], Any], long: float, clock: Clock) -> tuple[float, float]:
    """Seconds of the first and of the second call. One that takes longer than `long` seconds is
    made once, and counted as if it compiled nothing."""
    times: list[float] = []
    while not times or (len(times) < 2 and times[0] <= long):
        began = clock()
        call()
        times.append(since(began, clock))
    return times[0], min(times)


def _work(experiment: Experiment, stage: Stage) -> float:
    """Floating-point operations of a step, counted without compiling it."""
    with backend.plain_programs():  # XLA counts only what it computes itself
        return float(experiment.lowered_step(stage).cost_analysis()["flops"])

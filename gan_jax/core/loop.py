"""The only training loop.

What happens after a step, when it is due, in this order: log, end of epoch, sample, validate,
measure quality, offer the best state, save. Evaluation comes before saving, so that a saved state
contains its own score; a test checks the order. Everything that needs a data set, a metric or a
picture arrives in the job.
"""

import dataclasses
import logging

import jax
import numpy as np

from gan_jax.core import cluster
from gan_jax.core.intervals import Due
from gan_jax.core.job import Job, Outcome, Progress
from gan_jax.core.mesh import fetch
from gan_jax.core.nonfinite import Watch, attempt_key
from gan_jax.core.preemption import Preemption
from gan_jax.core.programs import Programs
from gan_jax.core.system import Scores, Stage, TrainState
from gan_jax.core.train_step import (
    TrainCarry,
    check_weights,
    epoch_means,
    new_epoch,
)

logger = logging.getLogger(__name__)


def run(job: Job, carry: TrainCarry, progress: Progress) -> Outcome:
    """Trains from `carry` to the end of the last stage, until patience runs out, or until a signal.

    `progress` is updated in place. When it returns, all states are on the disk. Raises NonFinite if
    a metric is not finite, before anything of that step is saved, and SaveFailed if a state could
    not be saved.
    """
    step = int(fetch(carry.state.step))
    if job.intervals.exhausted(progress.waited):
        return Outcome("stopped early", step, carry, progress)
    with Preemption() as preemption, Programs(job, preemption) as programs:
        outcome = _train(job, programs, preemption, carry, progress)
        # until then a signal must not end the process
        job.checkpoints.wait()
        job.best.wait()
        # what would follow the last step has to wait for the next start
        reason = "terminated" if preemption.asked_anywhere() else outcome.reason
        recorder = job.recorder
        return dataclasses.replace(
            outcome,
            reason=reason,
            images_per_second=recorder.images_per_second,
            scores=recorder.last_scores,
            scores_step=recorder.last_scores_step,
        )


def _train(
    job: Job, programs: Programs, preemption: Preemption, carry: TrainCarry, progress: Progress
) -> Outcome:
    """The steps of all stages that are left, in calls of one or several of them, with nothing due
    before the last step of a call."""
    stages, recorder, step = job.system.stages, job.recorder, int(fetch(carry.state.step))
    shown, watch = progress, Watch(job, progress)
    key = attempt_key(job.key, progress.rollbacks)
    for index, stage in enumerate(stages):
        if step >= stage.end:
            continue
        if progress.stage != index:
            carry = _enter(job, carry, progress, index)
            if index:
                # so that a resumed run does not choose the best state a second time
                _save(job, watch, step, carry, progress)
                if preemption.asked_anywhere():  # in the last step of the stage before
                    return Outcome("terminated", step, carry, shown)
        programs.enter(index)
        length, begun = job.epoch_steps(stage), step
        recorder.enter(stages, index, length, begun)
        for step, batches in programs.calls.of(stage, begun):
            carry, metrics = programs.train(carry, batches, key, stage)
            watch.add(step, metrics)
            _raise_failures(job)
            if step == begun + 1:
                recorder.first_step(step, metrics)
                with recorder.pause():
                    programs.begun(index, step, carry, batches[0])
            last, stop = step == stages[-1].end, preemption.now()
            due = Due.at(step, stage, length, job.intervals, last, stop)
            if due.log:
                watch.check(carry)
                recorder.log(step, watch.counted(metrics), due.row)
            elif due.pauses:
                watch.wait()  # these steps are timed, and what follows is not
            recorder.foretell(step, watch.counted(metrics), due.log)
            with recorder.pause():
                if due.row and not due.end:
                    programs.sharing.consider(index, step, recorder.seconds)
                if due.epoch:
                    carry = _end_epoch(job, watch, step, carry, length)
                if due.sample and job.probes.draw:
                    recorder.images(step, job.probes.draw(carry.state, stage))
                scores, counted = _measure(job, programs, due, carry.state, stage)
                if scores:
                    recorder.scores(step, scores)
                    carry, shown = _offer(job, watch, carry, progress, scores, counted)
                    recorder.refresh()
                waited_enough = job.intervals.exhausted(progress.waited)
                due = due.settled(waited_enough, _minutes_over(job, due))
                if due.save:
                    _save(job, watch, step, carry, progress)
            if due.end:
                return Outcome(due.end, step, carry, shown)
    return Outcome("finished", step, carry, shown)


def _raise_failures(job: Job) -> None:
    """Raises SaveFailed if a state could not be saved in the background."""
    job.checkpoints.raise_failure()
    job.best.raise_failure()


def _enter(job: Job, carry: TrainCarry, progress: Progress, index: int) -> TrainCarry:
    """The `TrainCarry` with which stage number `index` begins.

    If the job starts new resolutions from the best state, nets and `extra` are those of the best
    state of the stage before.
    """
    stage = job.system.stages[index]
    grown = index > 0 and job.system.stages[index - 1].resolution != stage.resolution
    if job.start_from_best and grown:
        path = job.best.path(index - 1)
        if path is None:
            logger.warning("nothing was measured in the stage before: its last state is taken")
        else:
            chosen = job.start_from_best(path, carry).state
            state = carry.state.replace(nets=chosen.nets, extra=chosen.extra)
            carry = carry._replace(state=state)
    progress.stage, progress.waited = index, 0
    progress.best_value = progress.best_step = None
    return new_epoch(carry._replace(state=job.system.enter_stage(carry.state, stage)))


def _end_epoch(job: Job, watch: Watch, step: int, carry: TrainCarry, length: int) -> TrainCarry:
    """Records the averages of the epoch of `length` steps that `step` ends, and begins the next."""
    watch.check(carry)
    job.recorder.epoch(step, epoch_means(carry, length), every=not job.intervals.log.count)
    return new_epoch(carry)


def _measure(
    job: Job, programs: Programs, due: Due, state: TrainState, stage: Stage
) -> tuple[Scores, set[str]]:
    """(scores, names of the scores that count). Scores of an evaluation that only the end of the
    run made due do not count."""
    scores: Scores = {}
    counted: set[str] = set()
    probes = {"evaluate": programs.validate, "quality": job.probes.quality}
    for name, probe in probes.items():
        if probe and name in due.evaluations:
            # what measures differs in its last digits between hosts, what follows from it must not
            found = cluster.same(name, probe(state, stage))
            scores |= found
            counted |= found.keys() if name in due.counted else set()
    return scores, counted


def _offer(
    job: Job, watch: Watch, carry: TrainCarry, progress: Progress, scores: Scores, counted: set[str]
) -> tuple[TrainCarry, Progress]:
    """Saves the state as the best one if its score is the best of its stage.

    A score that counts is also written into the state. One that does not count leaves no trace in
    it, so that a longer run passes through the same states. Returns the `TrainCarry`, and the
    progress to report: the run's own or, if the score does not count, a copy that includes it.
    """
    rule = job.best.rule
    if rule.metric not in scores:
        return carry, progress
    watch.check(carry)
    step, value, counts = int(fetch(carry.state.step)), scores[rule.metric], rule.metric in counted
    progress.seconds, progress.rows = job.recorder.seconds, job.recorder.writer.rows
    shown = progress if counts else dataclasses.replace(progress)
    if counts:
        progress.evaluations += 1
        progress.waited += 1
        seen = np.array([value, progress.evaluations], np.float32)
        carry = carry._replace(state=carry.state.replace(validation=job.mesh.copy(seen)))
    if rule.better(value, shown.best_value):
        shown.best_value, shown.best_step, shown.waited = value, step, 0
        # a longer run would not measure this state, so it must not start a stage from it either
        if counts or not job.start_from_best:
            check_weights(carry.state, job.checkpoints.saved_step)
            job.best.save(progress.stage, step, carry._asdict(), vars(shown))
    return carry, shown


def _minutes_over(job: Job, due: Due) -> bool:
    """Whether config.run.save_minutes have passed since the last save, by the clock of process
    0."""
    minutes = job.intervals.save_minutes
    # processes communicate to agree, which would take too long after every step
    if minutes <= 0 or (jax.process_count() > 1 and not due.row):
        return False
    over = "whether it is time to save"
    return cluster.decided(over, lambda: job.checkpoints.minutes_since_save() >= minutes)


def _save(job: Job, watch: Watch, step: int, carry: TrainCarry, progress: Progress) -> None:
    watch.check(carry)
    check_weights(carry.state, job.checkpoints.saved_step)
    job.recorder.flush()
    progress.seconds, progress.rows = job.recorder.seconds, job.recorder.writer.rows
    job.checkpoints.save(step, carry._asdict(), vars(progress))

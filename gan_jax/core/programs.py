"""The programs of a run: the training step and validation, each compiled once for every stage, and
several training steps as one program where they share a call."""

import contextlib
import functools
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from gan_jax.core import cluster
from gan_jax.core.calls import Calls, Pace
from gan_jax.core.console import timed
from gan_jax.core.job import Job
from gan_jax.core.precompile import Precompile, Program
from gan_jax.core.preemption import Preemption
from gan_jax.core.system import Batch, Stage
from gan_jax.core.train_step import TrainCarry, several_function, train_function
from gan_jax.core.validation import EVALUATION, Validator

logger = logging.getLogger(__name__)

TIMED = 0.5  # seconds of training after which it is known how long a step takes
BUSY = 0.5  # the share of that in which devices that are busy let the host wait
WORTH = 2.0  # times as many seconds as compiling takes have to be saved by fewer calls


class Programs:
    """The training step, `train(carry, batches, root key, stage)`, and validation,
    `validate(state, stage)`; `calls` says how many batches a call of `train` takes.

    Use it as a context manager: on leaving, it waits for threads that are still compiling.
    """

    def __init__(self, job: Job, preemption: Preemption):
        self.job, self._preemption, self.calls = job, preemption, Calls(job)
        skips = job.on_nonfinite == "skip"
        single = train_function(job.system, job.mesh, skips)
        self._single = Program(single, arrays=3, compiling=self._compiling)
        self._several = Program(several_function(job.system, job.mesh, skips), arrays=3)
        key = jax.random.fold_in(job.key, EVALUATION)
        self.validate = Validator(job.system, job.mesh, job.data, key)
        self._ahead = Precompile(self._prepare)
        self._beside = Precompile(self._prepare_several)
        self._pending = 0  # steps of the program that is being compiled beside the training
        self._host = 0.0  # seconds that the host spent in calls of a single step

    @contextlib.contextmanager
    def _compiling(self, what: str = "the training step") -> Iterator[None]:
        """A stage begins by compiling its step: all before it is brought onto the disk first."""
        self.job.checkpoints.wait()
        self.job.best.wait()
        with self._preemption.nothing_to_save(), timed(f"compiling {what}"):
            yield

    def __enter__(self) -> "Programs":
        return self

    def __exit__(self, *error: Any) -> None:
        self._ahead.__exit__(*error)
        self._beside.__exit__(*error)

    def train(
        self, carry: TrainCarry, batches: Sequence[Batch], key: jax.Array, stage: Stage
    ) -> tuple[TrainCarry, dict[str, jax.Array]]:
        """One call, of a step for each of the batches (numpy). The carry is donated.

        Returns the new carry, and metrics [] of a single step or [K] of several.
        """
        began = time.perf_counter()
        if len(batches) > 1:
            return self._several(carry, self.job.mesh.put_several(batches), key, stage)
        result = self._single(carry, self.job.mesh.put(batches[0]), key, stage)
        self._host += time.perf_counter() - began
        return result

    def enter(self, index: int) -> None:
        """Waits until what stage number `index` needs is compiled, and drops what only the stages
        before it needed."""
        if self._pending:
            self._settle(self.job.system.stages[index - 1])
        self._ahead.wait()
        self._tell_failure(self._ahead, "what this stage needs is compiled only now")
        needed = self.job.system.stages[index:]
        for program in (self._single, self._several, self.validate.program):
            program.forget(lambda stage: stage in needed)

    def _tell_failure(self, thread: Precompile, consequence: str) -> bool:
        """Whether something that was compiled in a thread has failed."""
        failure, thread.failure = thread.failure, None
        if failure is None:
            return False
        if cluster.count() > 1:
            raise failure  # others have their program and would not wait for this process
        logger.warning(f"note: {consequence} ({' '.join(str(failure).split())[:200]})")
        return True

    def begun(self, index: int, carry: TrainCarry, batch: Batch, pace: Pace) -> None:
        """Prepares what follows the first step that this process makes in stage number `index`.

        That is the program of several steps, if the job says how many, and in a thread what the
        next stage needs whose shapes differ. `carry` and `batch` (numpy) are those of the current
        stage; only their shapes matter.
        """
        current, *later = self.job.system.stages[index:]
        self._carry = TrainCarry(**self.job.mesh.shape(carry._asdict()))
        self._rows = {k: (v.shape[1:], v.dtype) for k, v in batch.items()}
        self._since, self._host = pace, 0.0
        if self.job.steps_per_call and self.calls.size(current) is None:
            self._take_given(current, pace.step)
        following = next((stage for stage in later if stage != current), None)
        if self.job.compile_ahead and following is not None:
            self._ahead.begin(following)

    def _take_given(self, stage: Stage, step: int) -> None:
        """Lets calls of a stage take as many steps as the job says."""
        size = self.job.steps_per_call
        if self._shares(stage, step):
            with self._compiling(f"{size} training steps as one program"):
                self._prepare_several(stage)
        elif size > 1:
            logger.info(
                f"config.run.steps_per_call={size}: something is due more often, so every step is "
                "a call of its own"
            )
        self.calls.decide(stage, size)

    def _shares(self, stage: Stage, step: int) -> bool:
        """Whether steps of a stage after `step` share calls because the job says so."""
        size = self.job.steps_per_call
        return size > 1 and self.calls.fits(size, stage, step)

    def consider(self, index: int, pace: Pace) -> None:
        """Decides, with a row of the log, how many steps a call of stage number `index` takes, if
        the job leaves it open.

        The program of several steps is compiled in a thread, unless the job forbids that, while
        training goes on, and taken with the first row after that.
        """
        stage = self.job.system.stages[index]
        if self.job.steps_per_call or self.calls.size(stage) is not None:
            return
        if not self._pending:
            decide = functools.partial(self._choose, index, pace)
            size = cluster.decided("how many steps a call takes", decide)
            if size == 1:
                self.calls.decide(stage, 1)
            if size < 2:
                return
            self._pending = size
            self._beside.begin(stage)
        there = cluster.decided("whether several steps are compiled", self._is_there)
        if there or not self.job.compile_ahead:
            self._settle(stage)

    def _is_there(self) -> bool:
        return not self._beside.busy()

    def _choose(self, index: int, pace: Pace) -> int:
        """The number of steps that is worth compiling a program for; 0: not enough is known yet."""
        stages = self.job.system.stages
        stage, steps, seconds = stages[index], pace.step - self._since.step, pace.seconds
        seconds -= self._since.seconds
        if seconds < TIMED or pace.step >= stage.end:
            return 0
        size = self.calls.best(stage, pace.step, seconds / steps)
        alike = (s for s in stages[index:] if s == stage)
        left = sum(s.end - max(s.start, pace.step) for s in alike)
        calls = self.calls.needed(size, stage, pace.step) / self.calls.needed(1, stage, pace.step)
        saved = left * (1 - calls) * self._host / steps
        if pace.waited - self._since.waited > BUSY * seconds:
            return 1  # the devices are busy: the host has time for its calls
        return size if saved > WORTH * self._single.seconds[stage,] else 1

    def _settle(self, stage: Stage) -> None:
        """Waits for the program of several steps that is being compiled, and takes it."""
        self._beside.wait()
        size, self._pending = self._pending, 0
        if self._tell_failure(self._beside, "every step remains a call of its own"):
            size = 1
        else:
            logger.info(f"steps are short: up to {size} of them share a call from now on")
        self.calls.decide(stage, size)

    def _prepare_several(self, stage: Stage) -> None:
        mesh, size = self.job.mesh, self._pending or self.job.steps_per_call
        rows = {k: mesh.rows(stage.batch_size, *kind) for k, kind in self._rows.items()}
        several = {k: mesh.rows_of_several(one, size) for k, one in rows.items()}
        self._several.prepare(self._carry, several, self.job.key, stage)

    def _prepare(self, stage: Stage) -> None:
        job, stopped = self.job, self._ahead.stopped
        rows = {k: job.mesh.rows(stage.batch_size, *kind) for k, kind in self._rows.items()}
        self._single.prepare(self._carry, rows, job.key, stage)
        if self._shares(stage, stage.start) and not stopped():
            self._prepare_several(stage)
        if not stopped():
            self.validate.prepare(self._carry.state, rows, stage)
        if job.probes.prepare and not stopped():
            job.probes.prepare(self._carry.state, stage, stopped)

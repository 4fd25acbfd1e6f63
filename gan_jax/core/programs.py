"""The programs of a run: the training step and validation, each compiled once for every stage, and
several training steps as one program where they share a call."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from gan_jax import files
from gan_jax.core import cluster, sharing
from gan_jax.core.calls import Calls
from gan_jax.core.console import timed
from gan_jax.core.job import Job
from gan_jax.core.precompile import Precompile, Program
from gan_jax.core.preemption import Preemption
from gan_jax.core.rehearsal import Rehearsal
from gan_jax.core.system import Batch, Stage
from gan_jax.core.train_step import TrainCarry, several_function, train_function
from gan_jax.core.validation import EVALUATION, Validator

logger = logging.getLogger(__name__)


class Programs:
    """The training step, `train(carry, batches, root key, stage)`, and validation,
    `validate(state, stage)`.

    `calls` says how many batches a call of `train` takes, `sharing` decides it. Use it as a context
    manager: on leaving, it waits for threads that are still compiling.
    """

    def __init__(self, job: Job, preemption: Preemption):
        self.job, self._preemption = job, preemption
        skips = job.on_nonfinite == "skip"
        single = train_function(job.system, job.mesh, skips)
        self._single = Program(single, arrays=3, compiling=self._compiling)
        self._several = Program(several_function(job.system, job.mesh, skips), arrays=3)
        self._rehearsal = Rehearsal(job.mesh, self._single, self._several)
        self._rehearsed: set[Stage] = set()
        key = jax.random.fold_in(job.key, EVALUATION)
        self.validate = Validator(job.system, job.mesh, job.data, key)
        self._precompile = Precompile(self._prepare)
        self.calls = Calls(job)
        program = sharing.Program(
            self._exact,
            self._prepare_several,
            lambda stage: self._single.seconds[stage,],
            self._compiling,
        )
        self.sharing = sharing.Sharing(job, self.calls, program)

    @contextlib.contextmanager
    def _compiling(self, what: str = "the training step") -> Iterator[None]:
        """A stage begins by compiling its step: all before it is brought onto the disk first."""
        self.job.checkpoints.wait()
        self.job.best.wait()
        with self._preemption.nothing_to_save(), timed(f"compiling {what}"):
            yield

    def __enter__(self) -> "Programs":
        self._precompile.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._precompile.__exit__(*error)
        self.sharing.close(*error)

    def train(
        self, carry: TrainCarry, batches: Sequence[Batch], key: jax.Array, stage: Stage
    ) -> tuple[TrainCarry, dict[str, jax.Array]]:
        """One call, of a step for each of the batches (numpy). The carry is donated.

        Returns the new carry, and metrics [] of a single step or [K] of several.
        """
        if len(batches) == 1:
            return self._single(carry, self.job.mesh.put(batches[0]), key, stage)
        if stage in self._rehearsed:
            return self._several(carry, self.job.mesh.put_several(batches), key, stage)
        self._rehearsed.add(stage)
        jax.block_until_ready(carry)  # the steps before are timed
        with self.job.recorder.pause():  # steps that are made twice say nothing about others
            carry, metrics, alike = self._rehearsal(carry, batches, key, stage)
        self.job.recorder.pass_over(len(batches))
        self.sharing.rehearsed(stage, alike)
        return carry, metrics

    def enter(self, index: int) -> None:
        """Waits until what stage number `index` needs is compiled, and drops what only the stages
        before it needed."""
        self.sharing.settle()
        self._precompile.wait()
        failure, self._precompile.failure = self._precompile.failure, None
        if failure is not None:
            if cluster.count() > 1:
                raise failure  # others have their program and would not wait for this process
            why = files.reason(failure)
            logger.warning(f"note: what this stage needs is compiled only now ({why})")
        needed = self.job.system.stages[index:]
        for program in (self._single, self._several, self.validate.program):
            program.forget(lambda stage: stage in needed)

    def begun(self, index: int, step: int, carry: TrainCarry, batch: Batch) -> None:
        """Prepares what follows `step`, the first one that this process makes in stage `index`.

        That is the program of several steps, if the job says how many, and in a thread what the
        next stage needs whose shapes differ. `carry` and `batch` (numpy) are those of the current
        stage; only their shapes matter.
        """
        current, *later = self.job.system.stages[index:]
        self._carry = TrainCarry(**self.job.mesh.shape(carry._asdict()))
        self._kinds = {k: (v.shape[1:], v.dtype) for k, v in batch.items()}
        self.sharing.begin(current, step, self.job.recorder.seconds)
        following = next((stage for stage in later if stage != current), None)
        if self.job.compile_ahead and following is not None:
            self._precompile.begin(following)

    def _prepare(self, stage: Stage) -> None:
        job, stopped, rows = self.job, self._precompile.stopped, self._rows(stage)
        self._single.prepare(self._carry, rows, job.key, stage)
        size = self.sharing.given(stage, stage.start)
        if size > 1 and not stopped():
            self._prepare_several(stage, size)
        if not stopped():
            self.validate.prepare(self._carry.state, rows, stage)
        if job.probes.prepare and not stopped():
            job.probes.prepare(self._carry.state, stage, stopped)

    def _rows(self, stage: Stage) -> dict[str, jax.ShapeDtypeStruct]:
        """A batch of a stage as shapes."""
        return {k: self.job.mesh.rows(stage.batch_size, *kind) for k, kind in self._kinds.items()}

    def _exact(self, stage: Stage, size: int) -> bool:
        """Whether several steps as one program can be expected to give the bits of single ones."""
        traced = self._several.function.trace(*self._of_several(stage, size))
        return sharing.rounds_alike(traced.jaxpr.jaxpr)

    def _prepare_several(self, stage: Stage, size: int) -> None:
        self._several.prepare(*self._of_several(stage, size))

    def _of_several(self, stage: Stage, size: int) -> tuple:
        """The arguments of a call of `size` steps as shapes."""
        rows = self._rows(stage).items()
        several = {k: self.job.mesh.rows_of_several(one, size) for k, one in rows}
        return self._carry, several, self.job.key, stage

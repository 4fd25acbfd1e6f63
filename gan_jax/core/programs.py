"""The programs of a run: the training step and validation, each compiled once for every stage."""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import jax

from gan_jax.core import cluster
from gan_jax.core.console import timed
from gan_jax.core.job import Job
from gan_jax.core.precompile import Precompile, Program
from gan_jax.core.preemption import Preemption
from gan_jax.core.system import Batch, Stage
from gan_jax.core.train_step import TrainCarry, train_function
from gan_jax.core.validation import EVALUATION, Validator

logger = logging.getLogger(__name__)


class Programs:
    """The training step, `train(carry, batch, root key, stage)`, and validation,
    `validate(state, stage)`.

    Use it as a context manager: on leaving, it waits for a thread that is still compiling.
    """

    def __init__(self, job: Job, preemption: Preemption):
        self.job, self._preemption = job, preemption
        step = train_function(job.system, job.mesh, job.on_nonfinite == "skip")
        self.train = Program(step, arrays=3, compiling=self._compiling)
        key = jax.random.fold_in(job.key, EVALUATION)
        self.validate = Validator(job.system, job.mesh, job.data, key)
        self._precompile = Precompile(self._prepare)

    @contextlib.contextmanager
    def _compiling(self) -> Iterator[None]:
        """A stage begins by compiling its step: all before it is brought onto the disk first."""
        self.job.checkpoints.wait()
        self.job.best.wait()
        with self._preemption.nothing_to_save(), timed("compiling the training step"):
            yield

    def __enter__(self) -> "Programs":
        self._precompile.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._precompile.__exit__(*error)

    def enter(self, index: int) -> None:
        """Waits until what stage number `index` needs is compiled, and drops what only the stages
        before it needed."""
        self._precompile.wait()
        failure, self._precompile.failure = self._precompile.failure, None
        if failure is not None:
            if cluster.count() > 1:
                raise failure  # others have their program and would not wait for this process
            reason = " ".join(str(failure).split())[:200]
            logger.warning(f"note: what this stage needs is compiled only now ({reason})")
        needed = self.job.system.stages[index:]
        for program in (self.train, self.validate.program):
            program.forget(lambda stage: stage in needed)

    def prepare_following(self, index: int, carry: TrainCarry, batch: Batch) -> None:
        """Starts compiling for the next stage whose shapes differ from those of stage `index`.

        `carry` and `batch` (numpy) are those of the current stage; only their shapes matter.
        """
        current, *later = self.job.system.stages[index:]
        following = next((stage for stage in later if stage != current), None)
        if self.job.compile_ahead and following is not None:
            self._carry = TrainCarry(**self.job.mesh.shape(carry._asdict()))
            self._rows = {k: (v.shape[1:], v.dtype) for k, v in batch.items()}
            self._precompile.begin(following)

    def _prepare(self, stage: Stage) -> None:
        job, stopped = self.job, self._precompile.stopped
        rows = {k: job.mesh.rows(stage.batch_size, *kind) for k, kind in self._rows.items()}
        self.train.prepare(self._carry, rows, job.key, stage)
        if not stopped():
            self.validate.prepare(self._carry.state, rows, stage)
        if job.probes.prepare and not stopped():
            job.probes.prepare(self._carry.state, stage, stopped)

"""What a run does about steps that are not finite: `config.run.on_nonfinite`.

stop: the run ends, and leaves the newest good state. skip: the step is not applied, and too many of
them in a row end the run. rollback: the run goes back to the newest good state, and on from there
with other random numbers.
"""

import logging
from collections import deque

import jax
import numpy as np

from gan_jax.core.job import Job, Progress
from gan_jax.core.mesh import fetch
from gan_jax.core.system import Metrics
from gan_jax.core.train_step import SKIPPED, NonFinite, TrainCarry, check_finite, remedy

logger = logging.getLogger(__name__)

RUN_AHEAD = 2  # how many calls may be queued on the devices before the host waits for them
_ATTEMPTS = 2**31 - 2  # folded into the root key for the attempts after a rollback


def attempt_key(root: jax.Array, rollbacks: int) -> jax.Array:
    """The root key of a run that has gone back `rollbacks` times; `root` itself for 0."""
    if not rollbacks:
        return root
    return jax.random.fold_in(jax.random.fold_in(root, _ATTEMPTS), rollbacks)


class Watch:
    """Waits for the steps that are queued on the devices, and sees to those that are not finite."""

    def __init__(self, job: Job, progress: Progress):
        self._job, self._progress = job, progress
        self._skips = job.on_nonfinite == "skip"
        self._pending: deque[tuple[int, Metrics]] = deque()

    def add(self, step: int, metrics: Metrics) -> None:
        """Takes the metrics of a call that has been queued, and waits for earlier ones.

        They are arrays [], or [K] of several steps, of which `step` is the last one.

        Raises NonFinite if more steps than `nonfinite_limit` have been skipped in a row.
        """
        self._pending.append((step, metrics))
        while len(self._pending) > RUN_AHEAD:
            self._take()

    def counted(self, metrics: Metrics) -> Metrics:
        """The metrics as they are logged, with the number of steps that were skipped in the run."""
        if not self._skips:
            return metrics
        own = {name: value for name, value in metrics.items() if name != SKIPPED}
        return {**own, "skipped/steps": np.float32(self._progress.skipped)}

    def check(self, carry: TrainCarry) -> None:
        """Raises NonFinite if nothing of this `TrainCarry` may be recorded or kept."""
        if not self._skips:
            check_finite(carry, self._job.checkpoints.saved_step)
        self.wait()

    def wait(self) -> None:
        """Waits until the devices have done all steps that were added. Raises as `add` does."""
        while self._pending:
            self._take()

    def _take(self) -> None:
        last, metrics = self._pending.popleft()
        jax.block_until_ready(metrics)
        if not self._skips:
            return
        in_a_row = np.reshape(fetch(metrics[SKIPPED]), -1)  # a number for each step of the call
        for index in np.flatnonzero(in_a_row):
            step = last - len(in_a_row) + 1 + int(index)
            found = {n: np.reshape(v, -1)[index] for n, v in fetch(metrics).items()}
            self._skipped(step, found, int(in_a_row[index]))

    def _skipped(self, step: int, metrics: dict[str, np.generic], in_a_row: int) -> None:
        """Counts a step that was skipped, the last one of so many."""
        self._progress.skipped += 1
        what = f"step {step}: {_broken(metrics)} not finite"
        if in_a_row > self._job.nonfinite_limit:
            raise NonFinite(
                f"{what}, as in the {in_a_row - 1} steps before it, which were skipped",
                remedy(self._job.checkpoints.saved_step, self._job.on_nonfinite),
            )
        total = self._progress.skipped
        if not total & (total - 1):  # 1, 2, 4, 8, …, so that a bad run does not flood the console
            logger.warning(f"{what}; it is skipped ({total} so far in this run)")


def _broken(metrics: dict[str, np.generic]) -> str:
    """The metrics that are not finite, with their verb."""
    names = [name for name, value in metrics.items() if not np.isfinite(value)]
    if not names:
        return "the weights, or their averages or moments, are"
    return f"{', '.join(sorted(names)[:3])} {'is' if len(names) == 1 else 'are'}"

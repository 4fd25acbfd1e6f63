"""The periodic states of a run, in `checkpoints/<step>/`.

The newest ones are kept, and every k-th is kept for good. Each holds a full `TrainCarry`.
"""

import contextlib
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from gan_jax.core import cluster, shared_folder, state_writer
from gan_jax.core.saved_states import Damaged, read, states_in, unused, verify
from gan_jax.core.system import PyTree
from gan_jax.errors import UserError
from gan_jax.patience import patient

logger = logging.getLogger(__name__)


class Checkpoints:
    """The periodic states of one run.

    Args:
      folder: where they live; made when missing.
      keep: how many of the newest states are kept.
      keep_every: states at multiples of this step are kept for good; 0 for none.
      retries: how often a save that fails is tried again.
      check: raises an error if nothing may be written into the run's folder any more.
      first: called in the background before a state is written, and waits for the states on which
        it counts; raises SaveFailed if one of them could not be saved.
    """

    def __init__(
        self,
        folder: Path,
        keep: int = 2,
        keep_every: int = 0,
        retries: int = 5,
        check: Callable[[], None] = lambda: None,
        first: Callable[[], None] = lambda: None,
    ):
        self.folder = Path(folder).resolve()
        self._keep, self._keep_every = keep, keep_every
        self._writer = state_writer.StateWriter(self.folder, "checkpoint", retries, check, first)
        self.saved_at = time.monotonic()
        self.saved_step = self.complete
        self._saves = False  # whether this is more than a reader

    @property
    def complete(self) -> int | None:
        """The step of the newest state that is on the disk; None if there is none."""
        return self._writer.complete

    def save(self, step: int, tree: PyTree, meta: dict) -> None:
        """Starts writing a state in the background, unless this step is saved already.

        Raises SaveFailed if an earlier one could not be saved.
        """
        self._saves = True
        if step != self.saved_step:
            self._writer.save(step, tree, meta, self._prune)
        self.saved_at, self.saved_step = time.monotonic(), step

    def _prune(self) -> None:
        """Removes older states but those that are kept."""
        steps = self.steps()
        for step in steps[: -self._keep]:
            if not (self._keep_every and step % self._keep_every == 0):
                state_writer.remove(self.folder / str(step))

    def sweep(self) -> None:
        """Removes older states that a save has left: they were being read, or the disk refused."""
        with contextlib.suppress(OSError):  # then the next save does it
            patient(self._prune)()

    def raise_failure(self) -> None:
        """Raises SaveFailed if a state could not be saved, so that training ends soon."""
        self._writer.raise_failure()

    def minutes_since_save(self) -> float:
        """Minutes since the last save, or since this process began."""
        return (time.monotonic() - self.saved_at) / 60

    def steps(self) -> list[int]:
        """Steps that can be restored, oldest first."""
        return sorted(states_in(self.folder))

    def restore_newest(self, shapes: PyTree) -> tuple[int, PyTree, dict] | None:
        """(step, state, meta) of the newest state that can be read; None if there are no states.

        `shapes` is a tree of ShapeDtypeStruct with shardings; the state may have been saved on
        another number of devices. Damaged states are reported and moved to `damaged-<step>`, and
        the newest one before them is restored. Raises UserError if all are damaged (then none is
        moved), or if the state belongs to another model. Of several processes the first one looks
        for damage and decides, and all of them read.
        """
        damaged: dict[int, Damaged] = {}
        step = cluster.decided("the state to restore", lambda: self._newest_good(damaged))
        if step is None:
            return None
        fetched = shared_folder.bring(self.folder / str(step))
        tree, meta = read(self.folder / str(step), shapes, verified=not fetched)
        cluster.decided("damaged states moved", lambda: self._set_aside(damaged))
        self.saved_step = self._writer.complete = step
        return step, tree, meta

    def _newest_good(self, damaged: dict[int, Damaged]) -> int | None:
        """The step of the newest state that is what was written, None if there are no states; those
        that are not are put into `damaged`. Raises UserError if all are damaged."""
        for step in reversed(self.steps()):
            try:
                verify(self.folder / str(step))
                return step
            except Damaged as error:
                damaged[step] = error
        if damaged:
            first = next(iter(damaged.values()))
            raise UserError(
                f"{self.folder}: none of the checkpoints {sorted(damaged)} can be read ({first}); "
                "copy back a good one, or start over in another folder"
            )
        return None

    def _set_aside(self, damaged: dict[int, Damaged]) -> None:
        for step, error in damaged.items():
            target = unused(self.folder.parent / f"damaged-{step}")
            done = f"moved to {target.name}"
            try:
                shutil.move(self.folder / str(step), target)
            except OSError as refused:
                done = f"it stays where it is ({refused.strerror})"
            logger.warning(
                f"checkpoint {step} is damaged ({error}); {done}, falling back to the one before"
            )

    def wait(self) -> None:
        """Waits until everything that was saved is on disk. Raises SaveFailed if it cannot be."""
        self._writer.wait()
        cluster.together("checkpoints saved")

    def close(self) -> None:
        """Waits until everything is on this process's disk. Raises SaveFailed if it cannot be."""
        self._writer.close()  # other processes may not come here, after an error in one of them
        if self._saves and cluster.is_first():
            self.sweep()

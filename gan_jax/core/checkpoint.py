"""The periodic states of a run, in `checkpoints/<step>/`.

The newest ones are kept, and every k-th is kept for good. Each holds a full `TrainCarry`.
"""

import logging
import shutil
import time
from pathlib import Path

import jax
from orbax.checkpoint.checkpoint_managers import preservation_policy

from gan_jax.core import state_manager
from gan_jax.core.saved_states import (
    Damaged,
    read,
)
from gan_jax.core.system import PyTree
from gan_jax.errors import UserError

logger = logging.getLogger(__name__)


class Checkpoints:
    """The periodic states of one run.

    Args:
      folder: where they live; made when missing.
      keep: how many of the newest states are kept.
      keep_every: states at multiples of this step are kept for good; 0 for none.
    """

    def __init__(self, folder: Path, keep: int = 2, keep_every: int = 0):
        self.folder = Path(folder).resolve()
        rules = [preservation_policy.LatestN(keep)]
        if keep_every:
            rules.append(preservation_policy.EveryNSteps(keep_every))
        self._policy = preservation_policy.AnyPreservationPolicy(rules)
        self._manager = state_manager.make(self.folder, self._policy)
        self.saved_at = time.monotonic()
        self.saved_step = self._manager.latest_step()

    def save(self, step: int, tree: PyTree, meta: dict) -> None:
        """Starts writing a state in the background, unless this step is saved already."""
        if step != self.saved_step:
            state_manager.clear(self.folder, step)
            self._manager.save(step, args=state_manager.arguments(tree, meta), force=True)
        self.saved_at, self.saved_step = time.monotonic(), step

    def minutes_since_save(self) -> float:
        """Minutes since the last save, or since this process began."""
        return (time.monotonic() - self.saved_at) / 60

    def steps(self) -> list[int]:
        """Steps that can be restored, oldest first."""
        return sorted(self._manager.all_steps())

    def restore_newest(self, shapes: PyTree) -> tuple[int, PyTree, dict] | None:
        """(step, state, meta) of the newest state that can be read; None if there are no states.

        `shapes` is a tree of ShapeDtypeStruct with shardings; the state may have been saved on
        another number of devices. Damaged states are reported and moved to `damaged-<step>`, and
        the newest one before them is restored. Raises UserError if all are damaged (then none is
        moved), or if the state belongs to another model.
        """
        damaged: dict[int, Damaged] = {}
        for step in reversed(self.steps()):
            try:
                tree, meta = read(self.folder / str(step), shapes)
            except Damaged as error:
                damaged[step] = error
                continue
            self._set_aside(damaged)
            self.saved_step = step
            return step, tree, meta
        if damaged:
            first = next(iter(damaged.values()))
            raise UserError(
                f"{self.folder}: none of the checkpoints {sorted(damaged)} can be read ({first}); "
                "copy back a good one, or start over in another folder"
            )
        return None

    def _set_aside(self, damaged: dict[int, Damaged]) -> None:
        if not damaged:
            return
        self._manager.close()
        for step, error in damaged.items():
            target, number = self.folder.parent / f"damaged-{step}", 1
            while target.exists():
                number += 1
                target = self.folder.parent / f"damaged-{step}-{number}"
            done = f"moved to {target.name}"
            try:
                if jax.process_index() == 0:
                    shutil.move(self.folder / str(step), target)
            except OSError as refused:
                done = f"it stays where it is ({refused.strerror})"
            logger.warning(
                f"checkpoint {step} is damaged ({error}); {done}, falling back to the one before"
            )
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices("damaged checkpoints moved")
        self._manager = state_manager.make(self.folder, self._policy)

    def wait(self) -> None:
        """Waits until everything that was saved is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits until everything is on disk."""
        self.wait()
        self._manager.close()

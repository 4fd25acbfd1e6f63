"""The best state of each stage of a run, in `best/stage<i>/<step>/`."""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import orbax.checkpoint as ocp

from gan_jax.core import state_manager
from gan_jax.core.saved_states import best_states_in, read_meta
from gan_jax.core.system import PyTree


@dataclass(frozen=True)
class Best:
    """How the best state is chosen: by which metric, and whether lower is better."""

    metric: str
    lowest: bool = True

    def better(self, value: float, than: float | None) -> bool:
        """Whether `value` is better than `than`. NaN and infinities never are."""
        if not math.isfinite(value):
            return False
        return than is None or (value < than if self.lowest else value > than)


class BestStates:
    """The best state of each stage, in `best/stage<i>/<step>/`."""

    def __init__(self, folder: Path, rule: Best):
        self.folder, self.rule = Path(folder).resolve(), rule
        self._managers: dict[int, ocp.CheckpointManager] = {}

    def cut(self, step: int) -> None:
        """Removes states saved after `step`, from which a run resumes: the resumed run may never
        pass through them."""
        for (_, saved), path in best_states_in(self.folder).items():
            if saved > step:
                shutil.rmtree(path)

    def save(self, stage: int, step: int, tree: PyTree, meta: dict) -> None:
        """Starts writing `tree` as the best state of `stage`; the previous best one is removed when
        the new one is complete."""
        manager = self._manager(stage)
        self._settle(stage)
        if step not in manager.all_steps():
            state_manager.clear(self.folder / f"stage{stage}", step)
            manager.save(step, args=state_manager.arguments(tree, meta), force=True)

    def _manager(self, stage: int) -> ocp.CheckpointManager:
        if stage not in self._managers:
            self._managers[stage] = state_manager.make(self.folder / f"stage{stage}")
        return self._managers[stage]

    def _settle(self, stage: int) -> None:
        """Removes all complete states but the best; a process that is killed may leave two."""
        manager = self._manager(stage)
        manager.wait_until_finished()
        steps = manager.all_steps()
        if len(steps) > 1:
            chosen = None
            for step in sorted(steps):
                value = _value(self.folder / f"stage{stage}" / str(step))
                if self.rule.better(value, None if chosen is None else chosen[1]):
                    chosen = step, value
            chosen = max(steps) if chosen is None else chosen[0]
            for step in steps:
                if step != chosen:
                    manager.delete(step)

    def path(self, stage: int) -> Path | None:
        """The folder of a stage's best state, None where there is none yet."""
        if not (self.folder / f"stage{stage}").is_dir():
            return None
        self._settle(stage)
        step = self._manager(stage).latest_step()
        return None if step is None else self.folder / f"stage{stage}" / str(step)

    def wait(self) -> None:
        """Waits until everything that was saved is on disk."""
        for manager in self._managers.values():
            manager.wait_until_finished()

    def close(self) -> None:
        """Waits until everything is on disk and only the best is left."""
        for stage in list(self._managers):
            self._settle(stage)
            self._managers[stage].close()


def _value(folder: Path) -> float:
    """The metric's value for which a state was saved as the best; NaN if it cannot be read."""
    try:
        return float(read_meta(folder)["best_value"])
    except (OSError, ValueError, KeyError, TypeError):
        return math.nan

"""The best state of each stage of a run, in `best/stage<i>/<step>/`."""

import contextlib
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import jax

from gan_jax.core import cluster, state_writer
from gan_jax.core.saved_states import best_states_in, read_meta, states_in
from gan_jax.core.state_writer import StateWriter
from gan_jax.core.system import PyTree
from gan_jax.patience import patient


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

    def among(self, values: Mapping[int, float | None]) -> int | None:
        """The step with the best of these values; without any that can be compared, the last step.

        None if there are no steps."""
        chosen: tuple[int, float] | None = None
        for step, value in sorted(values.items()):
            if value is not None and self.better(value, chosen and chosen[1]):
                chosen = step, value
        return max(values, default=None) if chosen is None else chosen[0]


def on_disk(folder: Path, stage: int, rule: Best) -> tuple[int, float | None] | None:
    """(step, value) of the best of the states of a stage in `folder`, a run's `best/`; None if
    there are none, a value of None if it cannot be read."""
    values = _values(states_in(Path(folder) / f"stage{stage}"))
    step = rule.among(values)
    return None if step is None else (step, _finite(values[step]))


def saved_value(state: Path) -> float | None:
    """The value for which a state was saved as the best; None if it cannot be read."""
    return _finite(_value(state))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


class BestStates:
    """The best state of each stage, in `best/stage<i>/<step>/`.

    Args:
      folder: where they live.
      rule: which of two states is better.
      resumable: gives the step from which the run would resume if it were killed. The best of the
        states up to there stays until a state with a better one in its past is on the disk, so a
        kill never leaves the run without its best state. If it gives None, only the best stays.
      retries, check: as for `StateWriter`.
    """

    def __init__(
        self,
        folder: Path,
        rule: Best,
        resumable: Callable[[], int | None] = lambda: None,
        retries: int = 5,
        check: Callable[[], None] = lambda: None,
    ):
        self.folder, self.rule, self._resumable = Path(folder).resolve(), rule, resumable
        self._retries, self._check = retries, check
        self._writers: dict[int, StateWriter] = {}

    def cut(self, step: int) -> None:
        """Removes states saved after `step`, from which a run resumes: the resumed run may never
        pass through them. What a kill has left is removed as well."""
        for stage in self.folder.glob("stage*"):
            state_writer.sweep(stage)
        for (_, saved), path in best_states_in(self.folder).items():
            if saved > step:
                state_writer.remove(path)
        self._settle()

    def save(self, stage: int, step: int, tree: PyTree, meta: dict) -> None:
        """Starts writing `tree` as the best state of `stage`; the previous best one is removed when
        the new one is complete, and is not needed any more by a run that resumes.

        Raises SaveFailed if an earlier one could not be saved.
        """
        if stage not in self._writers:
            place = self.folder / f"stage{stage}"
            self._writers[stage] = StateWriter(place, "best state", self._retries, self._check)
        writer = self._writers[stage]
        writer.wait()
        there = cluster.decided("a best state", lambda: step in states_in(writer.folder))
        if not there:
            writer.save(step, tree, meta, functools.partial(self._settle, stage))

    def _settle(self, stage: int | None = None) -> None:
        """Removes states, of all stages if `stage` is None, but the best, and the best of those up
        to the step from which the run would resume."""
        if jax.process_index() != 0:
            return
        resumable = self._resumable()
        stages = {at for at, _ in best_states_in(self.folder)} if stage is None else {stage}
        for at in stages:
            states = states_in(self.folder / f"stage{at}")
            values = _values(states)  # read once: the disk may answer otherwise the next time
            past = {s: v for s, v in values.items() if resumable is not None and s <= resumable}
            needed = {self.rule.among(values), self.rule.among(past)}
            # one that the disk does not give may be the best
            needed |= {step for step, value in values.items() if value is None}
            for step in states.keys() - needed:
                state_writer.remove(states[step])

    def path(self, stage: int) -> Path | None:
        """The folder of a stage's best state, None where there is none yet."""

        def best() -> int | None:
            if stage in self._writers:
                self._writers[stage].wait()
            return self.rule.among(_values(states_in(self.folder / f"stage{stage}")))

        step = cluster.decided("the best state", best)
        return None if step is None else self.folder / f"stage{stage}" / str(step)

    def raise_failure(self) -> None:
        """Raises SaveFailed if a state could not be saved, so that training ends soon."""
        for writer in self._writers.values():
            writer.raise_failure()

    def wait(self) -> None:
        """Waits until everything that was saved is on disk. Raises SaveFailed if it cannot be.

        It may be called from any thread.
        """
        for writer in list(self._writers.values()):
            writer.wait()

    def close(self) -> None:
        """Waits until everything is on disk, and removes what is not needed any more."""
        self.wait()
        with contextlib.suppress(OSError):  # then the next start of the run does it
            patient(self._settle)()
        for writer in self._writers.values():
            writer.close()


def _values(states: Mapping[int, Path]) -> dict[int, float | None]:
    return {step: _value(path) for step, path in states.items()}


def _value(folder: Path) -> float | None:
    """The metric's value for which a state was saved as the best; NaN if nothing there says it, and
    None if the disk does not answer."""
    try:
        return float(read_meta(folder)["best_value"])
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return math.nan
    except OSError:
        return None

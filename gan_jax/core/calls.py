"""How many training steps go into one call of a program: `config.run.steps_per_call`.

A call costs the host some time, whatever the devices have to do. Where a step takes them no longer
than that, they wait for the host. Only steps between which nothing is due share a call, so that
nothing that a run computes, writes or saves depends on how many they are.
"""

import itertools
from collections.abc import Iterator

from gan_jax.core.job import Job
from gan_jax.core.system import Batch, Stage

SHORT = 0.005  # seconds from which on a step is too long to share a call
LONGEST = 0.05  # seconds of a call: a signal has to wait for its end
LOOKED_AT = 1000  # steps over which the calls of a choice are counted


class Calls:
    """Divides the steps of a run into calls."""

    def __init__(self, job: Job):
        self._job, self._sizes = job, dict[Stage, int]()

    def size(self, stage: Stage) -> int | None:
        """How many steps a call of this stage takes where nothing is due before its last one; None
        as long as that is not decided."""
        return self._sizes.get(stage)

    def decide(self, stage: Stage, size: int) -> None:
        """From now on calls of this stage take `size` steps where nothing is due before the last
        one. The program has to be there."""
        self._sizes[stage] = size

    def of(self, stage: Stage, begun: int) -> Iterator[tuple[int, list[Batch]]]:
        """(step with which a call ends, its batches) from step `begun` to the end of the stage.

        The first step, which compiles, is a call of its own.
        """
        batches = self._job.recorder.waiting(self._job.data("train", stage, begun))
        step = begun
        while step < stage.end:
            wanted = 1 if step == begun else self._sizes.get(stage, 1)
            count = self._fitting(wanted, stage, step)
            step += count
            yield step, list(itertools.islice(batches, count))

    def _fitting(self, size: int, stage: Stage, step: int) -> int:
        """`size`, or 1 if something is due before the end of so many steps after `step`: no other
        number, since each would be another program."""
        return size if size > 1 and step + size <= self._next_due(stage, step) else 1

    def _next_due(self, stage: Stage, step: int) -> int:
        return self._job.intervals.next(step, stage, self._job.epoch_steps(stage))

    def fits(self, size: int, stage: Stage, step: int) -> bool:
        """Whether `size` steps share a call soon after `step`."""
        steps = max(LOOKED_AT, 2 * size)
        return self.needed(size, stage, step, steps) < self.needed(1, stage, step, steps)

    def needed(self, size: int, stage: Stage, step: int, steps: int = LOOKED_AT) -> int:
        """How many calls, of `size` steps or of one, the next steps of the stage take: all that are
        left, or the first `steps` of them."""
        last, calls = min(stage.end, step + steps), 0
        while step < last:
            due = min(self._next_due(stage, step), last)
            several, single = divmod(due - step, size)
            calls, step = calls + several + single, due
        return calls

    def best(self, stage: Stage, step: int, seconds: float) -> int:
        """The power of two with which the next steps, of so many seconds each, take the fewest
        calls, none of them longer than LONGEST; 1 where steps are not SHORT."""
        sizes, size = [1], 2
        while seconds < SHORT and size * seconds <= LONGEST and size <= LOOKED_AT:
            sizes, size = [*sizes, size], 2 * size
        return min(sizes, key=lambda size: (self.needed(size, stage, step), size))

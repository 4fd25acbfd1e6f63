"""Intervals and lengths in steps, epochs, images or ticks, and what is due after a step."""

import dataclasses
import math
from dataclasses import dataclass

from gan_jax.core.system import Stage
from gan_jax.errors import UserError


@dataclass(frozen=True)
class Every:
    """How often: every `count` steps, epochs, images or ticks; 0: never.

    Epochs are counted from the start of a stage. Ticks are steps that the system itself chooses
    (`Stage.ticks`); they differ in length, so that they can time an event but measure no length.
    """

    count: float
    unit: str = "steps"

    @classmethod
    def parse(cls, text: str, key: str) -> "Every":
        """From "500", "500 steps", "2 epochs", "20000 images" or "0".

        Raises UserError naming `key` for anything else.
        """
        words = str(text).replace(",", "").split()
        units = {u.rstrip("s"): u for u in ("steps", "epochs", "images", "ticks")}
        unit = units.get(words[1].rstrip("s")) if len(words) == 2 else "steps"
        try:
            count = float(words[0])
        except (IndexError, ValueError):
            count = -1.0
        if not 1 <= len(words) <= 2 or unit is None or not 0 <= count < math.inf:
            raise UserError(
                f'{key}={text!r}: write a number and a unit, such as "500 steps", "2 epochs", '
                '"20000 images", or "0" for never'
            )
        return cls(count, unit)

    def steps(self, stage: Stage, epoch_steps: int) -> int:
        """The interval in steps of this stage (at least one), 0 for never.

        Raises UserError for ticks: they are of different lengths.
        """
        if not self.count:
            return 0
        if self.unit == "ticks":
            raise UserError(
                f'"{self.count:g} ticks" has no length of its own: write steps, epochs or images'
            )
        size = {"steps": 1, "epochs": epoch_steps, "images": 1 / stage.batch_size}[self.unit]
        return max(round(self.count * size), 1)

    def due(self, step: int, stage: Stage, epoch_steps: int) -> bool:
        """Whether the interval ends with the step numbered `step` (the first step is 1)."""
        if self.unit == "ticks":
            count = max(round(self.count), 1) if self.count else 0
            return bool(count) and step in stage.ticks and stage.ticks[step] % count == 0
        steps = self.steps(stage, epoch_steps)
        return bool(steps) and (step - self._origin(stage)) % steps == 0

    def times(self, stage: Stage, epoch_steps: int) -> int:
        """With how many steps of a stage the interval ends."""
        if self.unit == "ticks":
            return sum(1 for step in stage.ticks if self.due(step, stage, epoch_steps))
        steps, origin = self.steps(stage, epoch_steps), self._origin(stage)
        return (stage.end - origin) // steps - (stage.start - origin) // steps if steps else 0

    def next(self, step: int, stage: Stage, epoch_steps: int) -> float:
        """The first step after `step` with which the interval ends; infinity if there is none."""
        if self.unit == "ticks":
            later = (s for s in stage.ticks if s > step and self.due(s, stage, epoch_steps))
            return min(later, default=math.inf)
        steps = self.steps(stage, epoch_steps)
        return step + steps - (step - self._origin(stage)) % steps if steps else math.inf

    def _origin(self, stage: Stage) -> int:
        """The step from which intervals of this unit are counted."""
        return stage.start if self.unit == "epochs" else 0


@dataclass(frozen=True)
class Intervals:
    """How often the loop logs, samples, evaluates and saves, and when it stops early."""

    log: Every
    sample: Every
    evaluate: Every
    quality: Every
    save: Every
    save_minutes: float = 10.0  # a state is saved after this many minutes, whatever `save` says
    patience: int = 0  # evaluations without a better value before training stops; 0: never

    def exhausted(self, waited: int) -> bool:
        """Whether patience has run out after `waited` evaluations without a better value."""
        return 0 < self.patience <= waited

    def next(self, step: int, stage: Stage, length: int) -> int:
        """The first step after `step`, at most the last one of its stage, after which anything is
        due; `length` is the length of an epoch of the stage, in steps."""
        every = (self.log, self.sample, self.evaluate, self.quality, self.save, Every(1, "epochs"))
        return int(min(stage.end, *(e.next(step, stage, length) for e in every)))


@dataclass(frozen=True)
class Due:
    """What is due after a step.

    Attributes:
      log: whether metrics are shown as a line on the console.
      row: whether they are also written as a row; not if only a signal made the line due.
      epoch: whether an epoch of the stage is over.
      sample: whether a grid of images is drawn.
      evaluations: which of "evaluate" (the validation set) and "quality" are due.
      counted: those evaluations that an interval made due, and not just the end of the run.
      save: whether the state is saved.
      end: the reason why the run ends with this step; "" if it goes on.
    """

    log: bool
    row: bool
    epoch: bool
    sample: bool
    evaluations: frozenset[str]
    counted: frozenset[str]
    save: bool
    end: str
    last: bool  # the last step of the run
    stage_over: bool

    @classmethod
    def at(
        cls, step: int, stage: Stage, length: int, intervals: Intervals, last: bool, stop: bool
    ) -> "Due":
        """What is due after `step`, before anything is measured.

        `length` is the length of an epoch of the stage, in steps; `last` says that this is the
        last step of the run, `stop` that a signal asked the run to end.
        """

        def due(every: Every) -> bool:
            return every.due(step, stage, length)

        evaluations = {"evaluate": intervals.evaluate, "quality": intervals.quality}
        counted = frozenset(name for name, every in evaluations.items() if due(every))
        row = due(intervals.log) or last
        return cls(
            log=row or stop,
            row=row,
            epoch=(step - stage.start) % length == 0,
            sample=due(intervals.sample) or last,
            evaluations=frozenset(evaluations) if last else counted,
            counted=counted,
            save=due(intervals.save) or last or stop,
            end="finished" if last else "terminated" if stop else "",
            last=last,
            stage_over=step == stage.end,
        )

    @property
    def pauses(self) -> bool:
        """Whether the next step has to wait for what is done with the state after this one."""
        return bool(self.epoch or self.sample or self.evaluations or self.save)

    def settled(self, exhausted: bool, minutes_over: bool) -> "Due":
        """What is due after the evaluations, which may have exhausted patience (`exhausted`), and
        if it is time to save (`minutes_over`)."""
        if self.stage_over and not self.last and not exhausted:
            # the last state of a stage is saved when the next stage has been entered; until then
            # a signal must not end the run
            return dataclasses.replace(self, save=False, end="")
        save = self.save or minutes_over or exhausted
        return dataclasses.replace(
            self, save=save, end=self.end or ("stopped early" if exhausted else "")
        )


def single_stage(
    resolution: int, batch_size: int, length: str, train_size: int
) -> tuple[tuple[Stage, ...], list[int]]:
    """The stages of a run with a single stage, and their epoch lengths in steps.

    `length` is config.run.steps, such as "5000" or "20 epochs". Raises UserError if it cannot be
    read, or is less than one step.
    """
    epoch = max(train_size // batch_size, 1)
    stage = Stage(resolution, batch_size, 0, 1)
    every = Every.parse(length, "config.run.steps")
    if every.unit == "ticks":
        raise UserError(f"config.run.steps={length!r}: write steps, epochs or images")
    steps = every.steps(stage, epoch)
    if steps < 1:
        raise UserError(f"config.run.steps={length!r}: a run needs at least one step")
    return (Stage(resolution, batch_size, 0, steps),), [epoch]

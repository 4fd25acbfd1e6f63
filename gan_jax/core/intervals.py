"""How often and how long, in steps, epochs, images or ticks."""

import math
from dataclasses import dataclass

from gan_jax.core.system import Stage
from gan_jax.errors import UserError


@dataclass(frozen=True)
class Every:
    """How often: every `count` steps, epochs, images or ticks; 0: never.

    Epochs count inside a stage. Ticks are a system's own (`Stage.ticks`), and only say when.
    """

    count: float
    unit: str = "steps"

    @classmethod
    def parse(cls, text: str, key: str) -> "Every":
        """From "500", "500 steps", "2 epochs", "20000 images", "0"; else UserError naming `key`."""
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
        origin = stage.start if self.unit == "epochs" else 0
        return bool(steps) and (step - origin) % steps == 0


def single_stage(
    resolution: int, batch_size: int, length: str, train_size: int
) -> tuple[tuple[Stage, ...], list[int]]:
    """The stages of a run that has one, and their epoch lengths in steps.

    `length` is config.run.steps: "5000", "20 epochs". Raises UserError when that is no step at all.
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

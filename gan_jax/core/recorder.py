"""What a run writes down and shows while it trains."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from gan_jax.core import loss_scale
from gan_jax.core.console import Console, shown, tell_first_step
from gan_jax.core.mesh import fetch
from gan_jax.core.system import Scores, Stage
from gan_jax.core.writer import Writer

logger = logging.getLogger(__name__)


TIMED_STEPS, TIMED_SECONDS = 3, 3.0  # at least, before a run is told how long it will take


class Recorder:
    """Writes rows, images and scores into the run's files, and shows lines on the console.

    Args:
      writer: writes the files.
      console: shows the lines, and times the training steps.
      refresh: redraws curves and the like from the files.
      seconds: what earlier processes of the run have spent in training steps.
      forecast: called once, with a step and the seconds that a step takes.
    """

    def __init__(
        self,
        writer: Writer,
        console: Console,
        refresh: Callable[[], None] | None = None,
        seconds: float = 0.0,
        forecast: Callable[[int, float], None] | None = None,
    ):
        self.writer, self.console, self._refresh = writer, console, refresh
        self._forecast, self._foretold = forecast, False
        self._first_told = False
        self._seconds_before, self._images = seconds, 0
        self.last_scores: Scores = {}
        self.last_scores_step = 0
        self.pause, self.waiting, self.flush = console.pause, console.waiting, writer.flush

    @property
    def seconds(self) -> float:
        """Seconds spent in training steps, over all processes of the run."""
        return self._seconds_before + self.console.trained_seconds

    @property
    def images_per_second(self) -> float:
        """The rate over all timed steps of this process; 0 where none was timed."""
        seconds = self.console.trained_seconds
        return self._images / seconds if seconds else 0.0

    def enter(self, stages: Sequence[Stage], index: int, length: int, step: int) -> None:
        """Begins or resumes stage number `index` at `step`; what is recorded from now on belongs
        to it. `length` is the length of its epoch in steps."""
        self._stage, self._length, self._logged, self._begun = stages[index], length, step, step
        self._averages_due = True
        # in a run whose resolution grows, the time left is that until the next resolution
        self._place, self._until = "", stages[-1].end
        side = stages[index].resolution
        if len({stage.resolution for stage in stages}) > 1:
            self._place = f"{side} px"
            self._until = [s.end for s in stages[index:] if s.resolution == side][-1]

    def first_step(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
        """Waits for the first step of a stage, which compiles, and starts the clock after it."""
        jax.block_until_ready(metrics)
        if not self._first_told:
            tell_first_step()
        self._first_told = True
        self.console.restart(step)
        self._logged, self._clock = step, time.perf_counter()

    def foretell(self, step: int, metrics: Mapping[str, jax.Array], logged: bool) -> None:
        """Says once, when a few steps have been timed, how fast training goes and how long it will
        take. `logged` is whether this step has just been logged."""
        begun = time.perf_counter() - self._clock >= TIMED_SECONDS
        if self._foretold or not begun or step - self._begun <= TIMED_STEPS:
            return
        if step <= self._logged and not self.console.steps_per_second:
            return  # all steps so far were passed over
        self._foretold = True
        if not logged:
            self.log(step, metrics, row=False)
        if self._forecast:
            self._forecast(step, 1 / self.console.steps_per_second)

    def pass_over(self, steps: int) -> None:
        """The next `steps` steps are made outside the time of training, and so count in no rate."""
        self._logged += steps
        self.console.pass_over(steps)

    def log(self, step: int, metrics: Mapping[str, jax.Array], row: bool = True) -> None:
        """Records the metrics of a step with rates and the time left: as a line and, if `row` is
        true, as a row.

        `metrics` are arrays [], or [K] of the K steps of a call that ends with `step`.
        """
        last = {name: value.reshape(-1)[-1] for name, value in fetch(metrics).items()}
        values = loss_scale.unmasked(last)
        seen = (step - self._logged) * self._stage.batch_size
        self._images, self._logged = self._images + seen, step
        values |= self.console.tick(step, seen, self._until)
        epoch = (step - self._stage.start) / self._length
        if row:
            self.writer.write_scalars(step, {"epoch": epoch, **values})
        epochs = round(self._stage.steps / self._length, 2)
        self.console.line(epoch, step, values, epochs, self._place)
        self._averages_due = True

    def epoch(self, step: int, means: Mapping[str, float], every: bool) -> None:
        """Records the averages of the epoch that ends with `step`, as a row and as a line.

        Unless `every` is true, there is at most one such line for each line of `log`: short epochs
        would flood the console.
        """
        number = (step - self._stage.start) // self._length
        self.writer.write_scalars(step, {"epoch": number, **means}, kind="epoch")
        if self._averages_due or every:
            losses = {n: v for n, v in means.items() if n.startswith("loss/")}
            logger.info(_line(f"epoch {number}, averages", losses))
        self._averages_due = False

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes a grid of each entry, uint8 [N, H, W, C]."""
        self.writer.write_images(step, images)

    def scores(self, step: int, scores: Scores) -> None:
        """Records the scores of an evaluation, as a row and as a line."""
        self.last_scores, self.last_scores_step = scores, step
        self.writer.write_scalars(step, scores, kind="eval")
        logger.info(_line(f"step {step}", scores))

    def refresh(self) -> None:
        """Redraws the pictures that are made from the files, such as curves."""
        if self._refresh:
            self.flush()
            self._refresh()


def _line(place: str, scores: Mapping[str, float]) -> str:
    """One line of scores."""
    return f"{place}: " + " · ".join(
        f"{k} {v:.4f}" if math.isfinite(v) else f"{k} {v}" for k, v in shown(scores).items()
    )

"""What a run shows on the console: the live line, and the progress of long computations."""

import contextlib
import logging
import math
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import TypeVar

import numpy as np
from tqdm import tqdm

logger = logging.getLogger(__name__)

Batch = TypeVar("Batch")

TOLD_WAIT = 0.02  # share of the time from which on the console tells the wait for data
TOLD = 2.0  # seconds from which on it is worth saying how long something took

# when the command began; None: the run was not started by one
_began: ContextVar[float | None] = ContextVar("began", default=None)


@contextlib.contextmanager
def counted_from(moment: float) -> Iterator[None]:
    """In this block runs say how long after `moment`, a time.perf_counter(), their first step was
    made."""
    token = _began.set(moment)
    try:
        yield
    finally:
        _began.reset(token)


def tell_first_step() -> None:
    """Says that the first step of a run is made, if a command began it."""
    began = _began.get()
    if began is not None:
        seconds = time.perf_counter() - began
        logger.info(f"the first step was made {seconds:.0f} s after the start of the command")


class ProgressBar:
    """A line on stderr such as "step 120/250, 12 s left", rewritten in place.

    Prints nothing unless stderr is a terminal, because a log would fill with lines.
    """

    def __init__(self, total: int, label: str = "step") -> None:
        self.total, self.label = total, label
        self._bar: tqdm | None = None

    def __call__(self, done: int) -> None:
        """Shows that `done` of `total` are done; 1 starts a new line."""
        if not sys.stderr.isatty():
            return
        if self._bar is None or done <= 1:
            shape = "{desc} {n_fmt}/{total_fmt}, {remaining_s:.0f} s left"
            self._bar = tqdm(total=self.total, desc=self.label, bar_format=shape, mininterval=0.5)
        self._bar.update(done - self._bar.n)
        if done >= self.total:
            self._bar.close()

    def close(self) -> None:
        """Ends the line, if something went wrong before all was done."""
        if self._bar is not None:
            self._bar.close()


class Console:
    """The live line: a progress bar on a terminal, plain lines in a log file.

    The rate is a moving average over the last log intervals. `pause` excludes the time spent
    outside training steps (evaluation, sampling, saving), so that the ETA does not jump.

    Args:
      first: the step that training begins after.
      total: the step that training ends with.
      quiet: show nothing.
      window: how many log intervals the rate is averaged over.
    """

    def __init__(self, first: int, total: int, quiet: bool = False, window: int = 20):
        self.total, self.quiet = total, quiet
        self._spans: deque[tuple[int, int, float, float]] = deque(maxlen=window)
        self._step, self._since, self._stalled = first, time.perf_counter(), 0.0
        self._waited = 0.0
        self.trained_seconds = 0.0
        live = sys.stderr.isatty() and not quiet
        shape = "{desc} {percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt}{postfix}"
        self._bar = tqdm(total=total, initial=first, bar_format=shape) if live else None

    def pause(self) -> "Console":
        """`with console.pause():` what happens inside does not count as training time."""
        return self

    def __enter__(self) -> None:
        self._paused_at = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._stalled += time.perf_counter() - self._paused_at

    def restart(self, step: int) -> None:
        """Discards all timings so far: of compilation, or of steps of another batch size."""
        self._spans.clear()
        self._step, self._since, self._stalled = step, time.perf_counter(), 0.0
        self._waited = 0.0

    def pass_over(self, steps: int) -> None:
        """Leaves the next `steps` steps, which take no time of training, out of the rates."""
        self._step += steps

    def waiting(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches; the time until each of them is there counts as waiting for data."""
        batches = iter(batches)
        while True:
            began = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self._waited += time.perf_counter() - began
            yield batch

    @property
    def steps_per_second(self) -> float:
        """The moving average of the rate; 0 while nothing has been timed."""
        seconds = sum(span[2] for span in self._spans)
        return sum(span[0] for span in self._spans) / seconds if seconds else 0.0

    def tick(self, step: int, images: int, end: int = 0) -> dict[str, float]:
        """Ends a log interval in which `images` training images were processed.

        Returns images and steps per second, the share (0 to 1) of the time that was spent waiting
        for data, and the seconds left at this rate until step `end` (0: the end of the run).
        Returns {} as long as nothing has been timed; the first step of a
        process is not timed, because it compiles.
        """
        now = time.perf_counter()
        seconds = max(now - self._since - self._stalled, 1e-9)
        if step > self._step:
            self._spans.append((step - self._step, images, seconds, min(self._waited, seconds)))
            self.trained_seconds += seconds
        self._step, self._since, self._stalled, self._waited = step, now, 0.0, 0.0
        if not self._spans:
            return {}
        steps, count, spent, waited = (sum(column) for column in zip(*self._spans, strict=True))
        return {
            "time/images_per_second": count / spent,
            "time/steps_per_second": steps / spent,
            "time/data_wait": waited / spent,
            "time/eta_seconds": spent / steps * ((end or self.total) - step),
        }

    def line(
        self,
        epoch: float,
        step: int,
        scalars: Mapping[str, float],
        epochs: float = 0.0,
        stage: str = "",
    ) -> None:
        """One progress line: `stage`, epoch (of `epochs`), step, every loss, learning rates,
        images/s, the share of the time spent waiting for data if it is worth a look, ETA."""
        if self.quiet:
            return
        losses = [f"{n} {v:.4f}" for n, v in _group(scalars, "loss")]
        rates = [f"lr {n} {v:.2e}" for n, v in _group(scalars, "rate")]
        images = scalars.get("time/images_per_second", 0.0)
        speed = f"{images:.0f} img/s" if images >= 10 else f"{images:.2f} img/s"
        waited = scalars.get("time/data_wait", 0.0)
        if waited >= TOLD_WAIT:
            speed += f", {waited:.0%} waiting for data"
        eta = clock(scalars.get("time/eta_seconds", math.nan))
        place = f"epoch {epoch:.2f}/{epochs:g}" if epochs else f"epoch {epoch:.2f}"
        place = f"{stage}, {place}" if stage else place
        eta = f"{eta} of {stage}" if stage else eta
        if self._bar is not None:
            self._bar.set_description_str(place, refresh=False)
            # the least important comes last, where a narrow terminal cuts the line off
            text = " · ".join([f"ETA {eta}", speed, *losses, *rates])
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(step - self._bar.n)
        text = " · ".join([*losses, *rates, speed, f"ETA {eta}"])
        level = logging.INFO if self._bar is None else logging.DEBUG  # for the log file alone
        logger.log(level, f"{place} · step {step}/{self.total} · {text}")

    def close(self) -> None:
        """Ends the bar, which stays on the screen as it is."""
        if self._bar is not None:
            self._bar.close()


@contextlib.contextmanager
def timed(title: str) -> Iterator[None]:
    """Says what is being done before it is done, and afterwards how long it took if that was
    longer than TOLD seconds."""
    logger.info(f"{title} ...")
    began = time.perf_counter()
    yield
    seconds = time.perf_counter() - began
    if seconds > TOLD:
        logger.info(f"{title} took {seconds:.0f} s")


def _group(scalars: Mapping[str, float], group: str) -> list[tuple[str, float]]:
    """The scalars "<group>/<name>" as (name, value)."""
    found = ((name.partition("/"), value) for name, value in scalars.items())
    return [(rest, value) for (first, _, rest), value in found if first == group]


def shown(scores: Mapping[str, float]) -> dict[str, float]:
    """The scores that fit into a line: not the fractions of the classes, which are many."""
    return {k: v for k, v in scores.items() if not k.startswith("class_fraction/")}


def brief(number: float) -> str:
    """A positive number to two digits, or to the whole: "0.53", "12", "66,667"."""
    if number >= 9.95:
        return f"{number:,.0f}"
    return np.format_float_positional(number, 2, fractional=False, trim="-")


def clock(seconds: float) -> str:
    """75 → "1:15", 3700 → "1:01:40"."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

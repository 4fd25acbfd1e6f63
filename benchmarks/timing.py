"""Times of contenders that run in turn, and their statistics."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

SHORTEST = 0.05  # seconds that a sample takes at least, so that a clock can tell calls apart
MOST_CALLS = 1000  # of one sample


def _as_it_is(result: Any) -> None:
    """What a call returns is ready already."""


def _nothing() -> None:
    """There is nothing to do."""


class Entrant(Protocol):
    """What `race` asks of those that take part: a `Contender`, or one of another process."""

    repeats: int

    def warm(self) -> None: ...

    def sample(self, count: int) -> tuple[float, float]: ...


@dataclass(frozen=True)
class Contender:
    """Something to be timed.

    `call()` may return before the work is done; `wait(result)` returns when what a call returned is
    ready. Several calls may follow each other before one is waited for, as in training. `before` is
    called before every sample and is not timed. `repeats` is how many calls make a sample; 0: as
    many as take SHORTEST.
    """

    call: Callable[[], Any]
    wait: Callable[[Any], None] = _as_it_is
    before: Callable[[], None] = _nothing
    repeats: int = 0

    def warm(self) -> None:
        """One call that is not timed: it compiles and allocates."""
        self.wait(self.call())

    def sample(self, count: int) -> tuple[float, float]:
        """(seconds, seconds of processor time) of a call, measured over `count` of them."""
        self.before()
        began, spent = time.perf_counter(), time.process_time()
        for _ in range(count):
            result = self.call()
        self.wait(result)
        return (time.perf_counter() - began) / count, (time.process_time() - spent) / count


@dataclass
class Times:
    """Seconds of single calls, sample by sample.

    `cores` are seconds of processor time of the contender's process for a call, which do not depend
    on what else the machine does but hold the time that idle threads spend waiting actively.
    """

    calls: list[float] = field(default_factory=list)
    cores: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median of all samples."""
        return float(np.median(self.calls))

    @property
    def fastest(self) -> float:
        """The fastest sample."""
        return min(self.calls)

    @property
    def spread(self) -> float:
        """The distance between the first and the third quartile."""
        low, high = np.percentile(self.calls, (25, 75))
        return float(high - low)

    def summary(self) -> dict[str, float]:
        """The figures that a table and a JSON hold, in seconds."""
        return {
            "median": self.median,
            "fastest": self.fastest,
            "spread": self.spread,
            "cores": float(np.median(self.cores)),
            "samples": len(self.calls),
        }


def race(contenders: Mapping[str, Entrant], seconds: float, least: int = 3) -> dict[str, Times]:
    """The times of all contenders, which run in turn for `seconds`, and at least `least` times.

    Each is called twice before, which compiles and allocates, and shows how many calls make a
    sample of SHORTEST. Every other round runs in the opposite order, so that none of them always
    follows the same other one.
    """
    counts = {name: _calls(contender) for name, contender in contenders.items()}
    times = {name: Times() for name in contenders}
    end, order, rounds = time.perf_counter() + seconds, list(contenders), 0
    while contenders and (rounds < least or time.perf_counter() < end):
        for name in order if rounds % 2 == 0 else reversed(order):
            wall, cores = contenders[name].sample(counts[name])
            times[name].calls.append(wall)
            times[name].cores.append(cores)
        rounds += 1
    return times


def _calls(contender: Entrant) -> int:
    """How many calls make a sample."""
    contender.warm()
    wall, _ = contender.sample(1)
    return contender.repeats or int(np.clip(np.ceil(SHORTEST / max(wall, 1e-9)), 1, MOST_CALLS))

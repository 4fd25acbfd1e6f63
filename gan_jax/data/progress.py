"""Progress of what may take long here; what it looks like is up to the caller."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

logger = logging.getLogger(__name__)

# progress(total, label) makes a bar; bar(done) moves it, and bar.close() ends it
Progress = Callable[[int, str], Callable[[int], None]]

LONG = 2.0  # seconds; whatever takes less is over before anybody wonders


class Silent:
    """A bar that shows nothing."""

    def __init__(self, total: int, label: str) -> None:
        """As `Progress` says."""

    def __call__(self, done: int) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class Work(NamedTuple):
    """Work on many things: about how long one takes, its name, and a line with {} for how many."""

    seconds: float
    label: str
    line: str


HEADERS = Work(2e-4, "header", "reading the headers of {} images")
IMAGES = Work(2e-3, "image", "reading {} images into memory")


@contextmanager
def reported(work: Work, count: int, progress: Progress) -> Iterator[Callable[[int], None]]:
    """Yields a function that is to be called with how many of `count` things are done.

    If all of them may take long, a line is logged first, and a bar of `progress` is shown.
    """
    if not count or count * work.seconds < LONG:
        yield Silent(count, work.label)
        return
    logger.info(work.line.format(f"{count:,}"))
    bar = progress(count, work.label)
    try:
        yield bar
    finally:
        bar.close()

"""Waiting for what a thread does."""

import time
from collections.abc import Callable

PATIENCE = 20.0  # seconds that a thread on a crowded machine may need


def wait_for(condition: Callable[[], bool]) -> None:
    """Returns when `condition()` is true; fails after PATIENCE seconds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)

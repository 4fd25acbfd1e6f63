"""Signals that ask a run to end, and what hosts must agree on."""

import signal
from typing import Any

import jax
import numpy as np


class Preemption:
    """Remembers that SIGTERM or Ctrl-C asked the run to end; a second Ctrl-C ends it at once."""

    def __init__(self):
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Preemption":
        if jax.process_count() > 1:  # jax.distributed has a handler of its own, see `now`
            return self
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self._before[number] = signal.signal(number, self._ask)
            except ValueError:  # not the main thread, which alone may set handlers
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: object) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True

    def now(self, step: int) -> bool:
        """Whether to stop after this step; all hosts agree on the step."""
        if jax.process_count() == 1:
            return self.asked
        from jax.experimental import multihost_utils

        return multihost_utils.reached_preemption_sync_point(step)


def agree(flag: bool) -> bool:
    """The flag of the first host, on every host."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(np.array(flag)))

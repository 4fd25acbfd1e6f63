"""A line on stderr that says how far a long computation has come."""

import sys
import time


class Progress:
    """Shows "step 120/250, 12 s left", rewritten in place, at most twice a second.

    On what is no terminal it says nothing: a log would fill with lines.
    """

    def __init__(self, total: int, label: str = "step") -> None:
        self.total, self.label = total, label
        self.begun, self.shown = time.monotonic(), 0.0

    def __call__(self, done: int) -> None:
        """`done` of `total` are done; 1 begins anew."""
        now = time.monotonic()
        if done <= 1:
            self.begun = now
        if done < self.total and now - self.shown < 0.5:
            return
        self.shown = now
        if not sys.stderr.isatty():
            return
        left = (now - self.begun) / max(done - 1, 1) * (self.total - done)
        end = "\n" if done >= self.total else ""
        line = f"\r{self.label} {done}/{self.total}, {left:.0f} s left   "
        print(line, end=end, file=sys.stderr, flush=True)

"""Signals that ask a run to end.

Python calls the handler of a signal only when its main thread comes back from what it is doing,
which takes minutes while XLA compiles a large step. The interpreter also writes each signal into a
pipe, at once; a thread reads it there and answers.
"""

import contextlib
import functools
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from gan_jax.core import bond, cluster
from gan_jax.errors import OUTSIDE

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE = 2.0  # seconds in which the main thread may end the process by itself

# ends the process, whatever its main thread is doing, with a line for other processes; None: the
# process is not ours to end
_leave: Callable[[str], None] | None = None


class _Watcher:
    """Calls `answer` in a thread of its own as soon as one of SIGNALS arrives.

    Only the main thread can set this up; in another thread nothing is watched.
    """

    def __init__(self, answer: Callable[[], None]):
        self._answer, self._thread = answer, None

    def __enter__(self) -> None:
        self._reading, writing = os.pipe()
        os.set_blocking(writing, False)
        try:
            self._before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        except ValueError:  # not the main thread
            os.close(self._reading)
            os.close(writing)
            return
        self._writing = writing
        self._thread = threading.Thread(target=self._listen, name="signals", daemon=True)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        if self._thread is None:
            return
        signal.set_wakeup_fd(self._before)
        os.close(self._writing)
        self._thread.join()
        os.close(self._reading)

    def _listen(self) -> None:
        while numbers := os.read(self._reading, 64):
            for number in numbers:
                if number in SIGNALS:
                    self._answer()


class Preemption:
    """Remembers that SIGTERM or Ctrl-C asked the run to end, and says so at once.

    A second Ctrl-C raises KeyboardInterrupt. In `whole_process` a second signal of either kind ends
    the process, and so does the first one while there is nothing to save. In a cluster a signal to
    one process stops all of them after the same step.
    """

    def __init__(self):
        self.asked, self._heard, self._idle = False, 0, False
        self._before: dict[int, Any] = {}
        self._watcher = _Watcher(self._answer)

    def __enter__(self) -> "Preemption":
        if self._before:
            return self
        for number in SIGNALS:
            try:
                self._before[number] = signal.signal(number, self._ask)
            except ValueError:  # not the main thread, which alone may set handlers
                break
        if self._before:
            self._watcher.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._before:
            self._watcher.__exit__()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: object) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True

    def _answer(self) -> None:
        """Says what happens next; runs in a thread of its own."""
        self._heard += 1
        if self._heard == 1 and not (self._idle and _leave):
            self._answer_first()
        elif _leave is not None:
            rest = "nothing is lost" if self._idle else "the newest saved state is kept"
            logger.info(f"stopped at once: {rest}")
            _leave(f"stopped at once by a signal: {rest}")

    def _answer_first(self) -> None:
        logger.info("stopping after this step, with the state saved; once more to quit at once")
        if bond.current is not None:
            bond.current.ask()

    @contextlib.contextmanager
    def nothing_to_save(self) -> Iterator[None]:
        """In this block the process may end at any moment, since all of the run is on disk."""
        self._idle = True
        try:
            yield
        finally:
            self._idle = False

    def now(self) -> bool:
        """Whether to stop after this step; it is the same step in all processes of a cluster."""
        return self.asked if bond.current is None else bond.current.now()

    def asked_anywhere(self) -> bool:
        """Whether any process of a cluster has been asked by now, as process 0 knows it."""
        if bond.current is None:
            return self.asked
        return cluster.decided("whether to stop", lambda: bond.current.stopping)


class Finishing(Preemption):
    """The same for what comes last, such as a copy to a bucket: the first signal changes nothing.

    The machines of a cluster get their signals at different moments, and what one of them does last
    is done for all. A second signal raises KeyboardInterrupt.
    """

    def _ask(self, number: int, frame: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def _answer_first(self) -> None:
        logger.info("copying what is left, and then stopping; once more to quit at once")


@contextlib.contextmanager
def whole_process(status: int) -> Iterator[None]:
    """Says that the process has no other purpose than this block, so signals may end it.

    A signal outside of the training loop, such as while weights are being restored, raises
    KeyboardInterrupt in the main thread; if that does not end the block within GRACE seconds,
    because the thread is compiling, or in a callback that cannot raise, the process ends with
    `status`.
    """
    global _leave
    over = threading.Event()

    def answer() -> None:
        if not over.wait(GRACE):
            logger.info(OUTSIDE)
            _end(status, OUTSIDE)

    _leave = functools.partial(_end, status)
    try:
        with _Watcher(answer), _interrupts_unreported():
            try:
                yield
            finally:
                over.set()
    finally:
        _leave = None


@contextlib.contextmanager
def _interrupts_unreported() -> Iterator[None]:
    """In this block Python prints no traceback of a KeyboardInterrupt that could not be raised,
    such as one within a callback of the garbage collector."""
    before = sys.unraisablehook

    def report(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            before(unraisable)

    sys.unraisablehook = report
    try:
        yield
    finally:
        sys.unraisablehook = before


def _end(status: int, line: str) -> None:
    """Ends this process, and the others of a cluster with the same status and this line."""
    bond.tell(line, status)
    bond.leave(status)

"""The lines that the library prints: progress, remarks and results.

A module says something through a standard logger, `logging.getLogger(__name__)`. All of these end
at the logger "gan_jax", whose handler prints the bare message on stdout. An application can set
another format, another level or handlers of its own there:

    logger = logging.getLogger("gan_jax")
    logger.handlers[0].setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.handlers = [logging.FileHandler("train.log")]
    logger.setLevel(logging.WARNING)  # notes and warnings only

What the context managers below do ends with their block, and holds for the thread that enters it
and for the handler that is installed here; an application's own handlers get every line.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path

MOST_WAITING = 2**24  # bytes of lines that may wait for the disk

_prefix: ContextVar[str] = ContextVar("prefix", default="")
_receiver: ContextVar[Callable[[str], None] | None] = ContextVar("receiver", default=None)


class LineHandler(logging.Handler):
    """Prints the message of each record as a line on what sys.stdout is at that moment.

    A progress bar that is being shown stays whole: the line appears above it. Of several processes
    only the first prints.
    """

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(_in_first_process)

    def emit(self, record: logging.LogRecord) -> None:
        """Prints the line, or gives it to the function of `sent_to`.

        An error, such as that of a full disk, reaches whoever logs, as it does with `print`.
        """
        (_receiver.get() or _print)(_prefix.get() + self.format(record))


def _print(line: str) -> None:
    if sys.stdout is None:  # a program without a console
        return
    from tqdm import tqdm

    coding = getattr(sys.stdout, "encoding", None) or "utf-8"
    # a file's name may hold bytes that are no text
    tqdm.write(line.encode(coding, "backslashreplace").decode(coding), file=sys.stdout)
    sys.stdout.flush()


def _in_first_process(record: logging.LogRecord) -> bool:
    """Whether this process is the only one, or the first of several that compute together."""
    jax = sys.modules.get("jax")
    # without a cluster there is nothing to ask, and asking would open the devices
    return jax is None or not jax.distributed.is_initialized() or jax.process_index() == 0


def install() -> None:
    """Sets up the logger "gan_jax", unless it has been given handlers already."""
    logger = logging.getLogger("gan_jax")
    if not logger.handlers:
        handler = LineHandler()
        handler.setLevel(logging.INFO)
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)  # which only the file of `kept_in` shows
        logger.propagate = False


class _FileHandler(logging.Handler):
    """Appends dated lines to a file. Those that the disk does not take wait for the next one.

    The lines wait until `ready` returns true for the first time. The file is opened for each line.
    """

    def __init__(self, path: Path, ready: Callable[[], bool]):
        super().__init__()
        self._path, self._ready, self._is_ready, self._waiting = path, ready, False, b""
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        self.addFilter(_in_first_process)

    def format(self, record: logging.LogRecord) -> str:
        """The line with its date, indented as on the console."""
        day, time, text = super().format(record).split(" ", 2)
        return f"{day} {time} {_prefix.get()}{text}"

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the line, after those that have waited."""
        line = f"{self.format(record)}\n".encode(errors="backslashreplace")
        self._waiting = (self._waiting + line)[-MOST_WAITING:]
        self._is_ready = self._is_ready or self._ready()
        if self._is_ready:
            self.flush()

    def flush(self) -> None:
        """Writes what waits, as far as the disk takes it: all lines are on the console too."""
        if not (self._is_ready and self._waiting):
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        with contextlib.suppress(OSError):
            handle = os.open(self._path, flags | getattr(os, "O_NONBLOCK", 0), 0o644)
            try:
                while self._waiting:
                    self._waiting = self._waiting[os.write(handle, self._waiting) :]
            finally:
                os.close(handle)

    def close(self) -> None:
        """Writes what waits."""
        self.flush()
        super().close()


@contextlib.contextmanager
def kept_in(path: Path, ready: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """In this block every line is also appended to a file, with its date and time.

    The file also gets the lines of progress that a terminal shows as a bar. It is made when `ready`
    returns true for the first time, and never if it does not.
    """
    logger, handler = logging.getLogger("gan_jax"), _FileHandler(path, ready)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


@contextlib.contextmanager
def indented(prefix: str) -> Iterator[None]:
    """Every line begins with `prefix`; in a nested block the outer prefix comes first."""
    token = _prefix.set(_prefix.get() + prefix)
    try:
        yield
    finally:
        _prefix.reset(token)


@contextlib.contextmanager
def sent_to(say: Callable[[str], None]) -> Iterator[None]:
    """`say` gets every line, and nothing is printed; errors that it raises reach the caller."""
    token = _receiver.set(say)
    try:
        yield
    finally:
        _receiver.reset(token)


def silenced() -> contextlib.AbstractContextManager[None]:
    """Nothing is printed, and no other receiver gets a line."""
    return sent_to(lambda line: None)

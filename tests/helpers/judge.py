"""Whether reading a file ends as it should: in values, or in one line for the user."""

import contextlib
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gan_jax.errors import UserError

MEMORY = 2**29  # bytes that reading a small file may take beside what the process has
SECONDS = 30.0  # until reading counts as hanging, on a machine that does other things as well
LONGEST = 1000  # characters of a line
ADVICE = ("allow_pickle", "max_header_size", "weights_only")  # of libraries, bad for anybody here


class Hanging(BaseException):
    """Not an Exception, so that no reader takes it for damage of its file."""


@contextlib.contextmanager
def bounded(memory: int = MEMORY, seconds: float = SECONDS) -> Iterator[None]:
    """Within the block the process may grow by `memory` bytes; after `seconds` Hanging is raised.

    An allocation beyond that raises MemoryError. Threads other than the main one have no clock.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = _size() + memory
    clock = threading.current_thread() is threading.main_thread()
    try:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
        if clock:
            old = signal.signal(signal.SIGALRM, _hanging)
            signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        if clock:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _hanging(number: int, frame: Any) -> None:
    raise Hanging


def _size() -> int:
    """The address space of this process in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def fault(read: Callable[[Path], Any], path: Path, **bounds: Any) -> str:
    """What is wrong with how `read(path)` ends; "" if it gives values or one line that names the
    file and can be printed."""
    started = time.process_time()
    try:
        with bounded(**bounds):
            read(path)
    except UserError as error:
        return _fault_of_line(str(error), path)
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        used = time.process_time() - started
        return f"{type(error).__name__} after {used:.1f} s: {str(error)[:200]!r}"
    return ""


def _fault_of_line(line: str, path: Path) -> str:
    named = path.name.partition(".")[0]  # a checkpoint has several files of one name
    faults = {
        "cannot be printed": not line.isprintable(),
        "is too long": len(line) > LONGEST + len(str(path)),
        "does not name the file": named not in line,
        "gives a library's advice": any(word in line for word in ADVICE),
    }
    wrong = [what for what, found in faults.items() if found]
    return f"the line {line[:200]!r} {', '.join(wrong)}" if wrong else ""

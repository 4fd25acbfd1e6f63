"""Errors of a disk that pass."""

import errno
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

P, T = ParamSpec("P"), TypeVar("T")
PAUSES = (0.05, 0.5)  # seconds between tries
# a server that has restarted, a cable, a signal, a file of somebody else that is gone now, a file
# system that is mounted anew: the same call may succeed a moment later
PASSING = (errno.ESTALE, errno.EIO, errno.ETIMEDOUT, errno.EINTR, errno.EAGAIN, errno.ENOSPC)
PASSING += (errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EROFS)


def patient(function: Callable[P, T]) -> Callable[P, T]:
    """The same function, which is called again when it raises an OSError that may pass."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        for pause in PAUSES:
            try:
                return function(*args, **kwargs)
            except OSError as error:
                if error.errno not in PASSING:
                    raise
            time.sleep(pause)
        return function(*args, **kwargs)

    return call


def is_gone(folder: Path) -> bool:
    """Whether there is no folder at a path. A disk that does not answer has not lost it."""
    try:
        return not folder.is_dir()
    except OSError:
        return False


@patient
def is_file(path: Path) -> bool:
    """Whether there is a regular file at a path. Raises OSError for a disk that does not answer."""
    return path.is_file()

"""Standard output and error for a program that must not fail because nobody reads them."""

import errno
import io
import os
import sys

# of a file on a disk that is full, or does not answer: the next line may succeed
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ESTALE)
GONE = (errno.EPIPE, errno.EIO, errno.EBADF)  # a reader that left, a terminal that was closed


class _Lasting(io.FileIO):
    """A stream of the process that turns into the null device when its reader is gone.

    With `may_lose` it also goes on, without what it was given, when its disk is full.
    """

    may_lose = False

    def write(self, data) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if self.may_lose and error.errno in FULL:
                return len(data)
            if error.errno not in GONE:
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(data)


def lose_lines() -> None:
    """From now on a full disk behind the streams costs what is printed, and not the work."""
    _Lasting.may_lose = True


def mute() -> None:
    """From now on nothing that is printed to standard output appears, not even by libraries in C:
    of several processes the first alone prints. Errors do."""
    if sys.stdout is not None:
        sys.stdout.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def make_lasting() -> None:
    """Replaces sys.stdout and sys.stderr, so that printing never raises.

    Characters that the terminal's encoding lacks become "?". When the reader is gone (`| head`, a
    terminal that was closed) or there was none from the start (`>&-`), what is printed is lost, and
    the program goes on.
    """
    for name, number in (("stdout", 1), ("stderr", 2)):
        old = getattr(sys, name)
        if old is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  for the process's lifetime
            continue
        try:
            if old.fileno() != number:
                continue
        except (OSError, ValueError):  # another stream in its place, such as a test's
            continue
        old.flush()
        raw = io.BufferedWriter(_Lasting(number, "w", closefd=False))
        stream = io.TextIOWrapper(
            raw, old.encoding, "replace", line_buffering=old.line_buffering or number == 2
        )
        setattr(sys, name, stream)

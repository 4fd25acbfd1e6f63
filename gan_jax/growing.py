"""What a run writes beside its states, on a disk that may fail: that never ends the run."""

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from gan_jax.files import amount, open_own, reason


@contextlib.contextmanager
def tolerated(what: str, say: Callable[[str], None], *more: type[Exception]) -> Iterator[None]:
    """A file that a run can do without is written in this block: if the disk fails, or one of
    `more` is raised, `say` gets a line about `what`, and the run goes on."""
    try:
        yield
    except (OSError, *more) as error:
        say(f"{what} cannot be written ({reason(error)}); training goes on")


class Growing:
    """A file to which entries are appended.

    What the disk does not take waits in memory and is written at the next occasion, in the same
    order and without a gap. The file is opened for each write, so nothing is held that a network
    file system could withdraw.

    Args:
      path: the file; it is made when missing.
      say: gets a line when a failure begins and when it ends.
      most: how many bytes may wait; beyond them the oldest entries are given up.
      own_folder: whether the folder of the file is made as well when it is missing.
    """

    def __init__(
        self,
        path: Path,
        say: Callable[[str], None],
        most: int = 2**28,
        own_folder: bool = False,
    ):
        self.path, self._say, self._most, self._own_folder = path, say, most, own_folder
        self._waiting: deque[bytes] = deque()
        self._failing, self._lost = False, 0
        self._size: int | None = None  # bytes that the file must have; None: unknown

    def write(self, entry: bytes) -> None:
        """Appends an entry, after those that wait."""
        self._waiting.append(entry)
        self.flush(sync=False)

    def flush(self, sync: bool = True) -> bool:
        """Writes what waits and, if `sync` is true, brings the file onto the disk; whether that
        succeeded."""
        try:
            self._append(sync)
        except OSError as error:
            if not self._failing:
                self._say(
                    f"{self.path} cannot be written ({reason(error)}): what belongs there "
                    "waits, and is written as soon as that works"
                )
            self._failing = True
            self._give_up_oldest()
            return False
        if self._failing:
            lost = f", {self._lost:,} old entries were given up" if self._lost else ""
            self._say(f"{self.path} is written again{lost or ', and nothing is missing in it'}")
            self._failing, self._lost = False, 0
        return True

    def close(self) -> None:
        """Writes what waits; says so if that fails for good."""
        if not self.flush() and self._waiting:
            size = amount(sum(map(len, self._waiting)))
            self._say(f"{self.path}: the last {size} could not be written and are lost")

    def _append(self, sync: bool) -> None:
        if self._own_folder:
            self.path.parent.mkdir(exist_ok=True)
        with open_own(self.path, "ab", buffering=0) as file:
            if self._size is not None and os.fstat(file.fileno()).st_size < self._size:
                self._say(f"{self.path} is gone or cut off; it goes on from here")
            while self._waiting:
                entry = self._waiting[0]
                while entry:
                    entry = entry[file.write(entry) :]
                    self._waiting[0] = entry  # a disk may have taken half of it
                self._waiting.popleft()
            if sync:
                os.fsync(file.fileno())
            self._size = os.fstat(file.fileno()).st_size

    def _give_up_oldest(self) -> None:
        while sum(map(len, self._waiting)) > self._most and len(self._waiting) > 1:
            del self._waiting[1]  # of the first one the disk may have taken a part
            self._lost += 1

"""Who decodes the images of a batch: threads, or processes where there would be many threads.

Pillow decodes and resizes without the lock, but what Python does around an image holds it, and so
competes with the training loop and with the other threads. A process is given what it needs to read
an image with each request, and nothing else, so that it stays small whatever the set. It never
decides anything: which images a batch has, and what is random about them, is settled before.

A process ends when the pipe to it is closed, which the system does even if the training process is
killed. It ignores SIGINT and SIGTERM, which terminals and schedulers send to all processes of a
group: the training process still needs images for the step that it ends with.
"""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from gan_jax.data.prepare import Prepare
from gan_jax.errors import UserError

AUTO = -1  # of config.run.workers: as many as there are cores
MANY = 8  # workers from which on `auto` takes processes
QUOTA = "/sys/fs/cgroup/cpu.max"  # of a container: microseconds in each period
MOST = 32  # workers that `auto` takes
CHUNK = 4  # images in one request
IGNORED = (signal.SIGINT, signal.SIGTERM)  # by processes

Read = Callable[[], np.ndarray]  # can be pickled
Square = tuple[np.ndarray, int]  # uint8 [R, R, C], label


class Rows(Protocol):
    """Of `Examples`, what is needed here."""

    prepare: Prepare

    def square(self, row: int, seed: int | None) -> Square:
        """The prepared image and the label of a row."""

    def reader(self, row: int) -> Read | None:
        """A function that reads the image of a row anywhere; None if it is best read here."""

    def label(self, row: int) -> int:
        """The label of a row."""


def cores() -> int:
    """How many cores this process may use: those it is bound to, or fewer if its group has a
    smaller quota, as in a container."""
    bound = getattr(os, "sched_getaffinity", None)
    count = len(bound(0)) if bound else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
        quota, period = Path(QUOTA).read_text().split()
        count = min(count, max(1, int(quota) // int(period)))
    return count


def workers(asked: int, in_memory: bool) -> int:
    """The number of workers for config.run.workers=`asked`. AUTO takes one for each core, and a
    single one if prepared images are `in_memory`, where there is nothing to decode."""
    if asked != AUTO:
        return asked
    return 1 if in_memory else min(cores(), MOST)


class Decoder:
    """Prepares rows of examples, several at a time."""

    def __init__(self, count: int, way: str = "auto") -> None:
        """
        Args:
          count: how many rows are prepared at a time, at least 1.
          way: "threads", "processes" or "auto", as config.run.decoding; auto means processes for at
            least MANY workers.
        """
        self._pool = ThreadPoolExecutor(count)
        self._processes = way == "processes" or (way == "auto" and count >= MANY)
        self._own = threading.local()  # each thread has its process

    def squares(
        self, examples: Rows, rows: Sequence[int], seeds: Iterable[int] | None = None
    ) -> list[Square]:
        """The prepared images and labels of `rows`, in this order; see `Examples.square`.

        Raises what `Examples.square` raises, and UserError if a process has ended.
        """
        seeds = [None] * len(rows) if seeds is None else map(int, seeds)
        pairs = list(zip(map(int, rows), seeds, strict=True))
        chunks = [pairs[first : first + CHUNK] for first in range(0, len(pairs), CHUNK)]
        found = self._pool.map(lambda chunk: self._chunk(examples, chunk), chunks)
        return [square for chunk in found for square in chunk]

    def _chunk(self, examples: Rows, pairs: list[tuple[int, int | None]]) -> list[Square]:
        readers = [examples.reader(row) for row, _ in pairs] if self._processes else [None]
        if None in readers:
            return [examples.square(row, seed) for row, seed in pairs]
        if not hasattr(self._own, "process"):
            self._own.process = Process()
        tasks = [(read, seed) for read, (_, seed) in zip(readers, pairs, strict=True)]
        images = self._own.process.ask((examples.prepare, tasks))
        # what went wrong there is done again here, for the same error or the same stand-in
        return [
            examples.square(row, seed) if image is None else (image, examples.label(row))
            for (row, seed), image in zip(pairs, images, strict=True)
        ]


class Process:
    """One process that reads and prepares images. It starts at once and is used by one thread."""

    def __init__(self) -> None:
        # not by multiprocessing, which would import the user's own script once more
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; "
            "from gan_jax.data import decoding; decoding.serve()"
        )
        pipe = subprocess.PIPE
        with _waiting():
            self._process = subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe)
        weakref.finalize(self, _end, self._process)

    def ask(self, request: tuple[Prepare, list]) -> list[np.ndarray | None]:
        """The images uint8 [R, R, C] of a request, None for each that could not be made.

        Raises UserError if the process has ended.
        """
        try:
            _send(self._process.stdin, request)
            return pickle.load(self._process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            how = self._process.wait()
            how = signal.Signals(-how).name if how < 0 else f"status {how}"
            raise UserError(
                f"a process that decodes images has ended ({how}), perhaps because memory was "
                "short; lower config.run.workers, or set config.run.decoding=threads"
            ) from error


@contextlib.contextmanager
def _waiting() -> Iterator[None]:
    """A process that starts in the block keeps IGNORED signals waiting until it ignores them, which
    it only does once it has loaded its libraries."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _send(file: BinaryIO, value: object) -> None:
    pickle.dump(value, file, protocol=5)
    file.flush()


def _end(process: subprocess.Popen) -> None:
    """Closes the pipes, which ends the process."""
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):  # of what has nobody to read it any more
            pipe.close()
    process.wait()


def serve() -> None:
    """Answers requests from standard input until it is closed: the life of a process."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)  # see `_waiting`
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever libraries print is no answer
    while True:
        try:
            prepare, tasks = pickle.load(requests)
        except EOFError:
            return
        images = [_prepared(prepare, *task) for task in tasks]
        try:
            _send(answers, images)
        except BrokenPipeError:
            os._exit(0)  # nobody wants it any more, nor an error of flushing it at the exit


def _prepared(prepare: Prepare, read: Read, seed: int | None) -> np.ndarray | None:
    try:
        return prepare.square(prepare.base(read(), ""), "", seed)
    except Exception:  # the other process meets it again, and says what it is
        return None

"""Writes states into folders named after steps, in the background, however the disk behaves.

A state is written into a folder of another name, sealed by checksums, brought onto the disk and
renamed: a kill at any moment leaves the old state or the new one, never half of one. A save that
fails is tried again after a pause, from a copy that the training steps do not change.
"""

import contextlib
import contextvars
import json
import logging
import os
import re
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from gan_jax.core.mesh import gather, is_here
from gan_jax.core.saved_states import SUMS, checksums, is_held, states_in
from gan_jax.core.system import PyTree
from gan_jax.errors import NOT_SAVED, UserError, one_line
from gan_jax.files import reason, sync_all
from gan_jax.patience import is_gone

logger = logging.getLogger(__name__)

LONGEST_PAUSE = 60.0  # seconds between two tries
PATIENCE = 120.0  # seconds that a try may take, and besides
SLOWEST = 2e6  # bytes a second
SWEEPS = 4  # tries to remove what is left over, and a look at what they left
# names until a state is complete (orbax's are those of earlier revisions), and while it goes
_LEFT_OVER = re.compile(r"[0-9]+\.(unfinished|removed|orbax-checkpoint-tmp).*")
_OS_ERROR = re.compile(r"os_error_code='(\d+)'|OS error (\d+)")  # in the messages of TensorStore
_ONE_PROCESS = ocp.options.MultiprocessingOptions(
    primary_host=0, active_processes={0}, barrier_sync_key_prefix="state"
)


def _not_of_orbax(record: logging.LogRecord) -> bool:
    return f"{os.sep}orbax{os.sep}" not in record.pathname


def _not_of_its_tasks(record: logging.LogRecord) -> bool:
    return f"{os.sep}orbax{os.sep}" not in record.getMessage()


# orbax logs each error with its traceback, also those that it raises; here each is a line. Where
# one of the writes of a state fails, asyncio logs the errors of the others
logging.getLogger("absl").addFilter(_not_of_orbax)
logging.getLogger("asyncio").addFilter(_not_of_its_tasks)


def _pass_over_late_writes() -> None:
    """Keeps silent about writes that end after orbax has given up the whole state.

    TensorStore tells each of them to an event loop that orbax has closed by then, and prints the
    error that this raises.
    """
    before = sys.unraisablehook
    if getattr(before, "passes_over_late_writes", False):
        return

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    hook.passes_over_late_writes = True
    sys.unraisablehook = hook


class SaveFailed(UserError):
    """A state could not be saved, however often it was tried; the exit status is its own."""

    status = NOT_SAVED


class Gone(SaveFailed):
    """The folder of the run is not there any more, or belongs to another process by now."""


class StateWriter:
    """Writes states into one folder, one at a time.

    Args:
      folder: where the states live; it is made when missing.
      title: what a state is called in a line, such as "checkpoint".
      retries: how often a save that fails is tried again.
      check: called before each try and before a state appears; raises Gone if nothing may be
        written there any more.
      first: called in the background before a state is written; raises SaveFailed if what has to
        be on the disk before it could not be saved.
    """

    def __init__(
        self,
        folder: Path,
        title: str,
        retries: int = 5,
        check: Callable[[], None] = lambda: None,
        first: Callable[[], None] = lambda: None,
    ):
        self.folder, self._title = folder, title
        self._retries, self._check, self._first = retries, check, first
        self._thread: threading.Thread | None = None
        self._error: SaveFailed | None = None
        # of the processes of a cluster the first one writes, and others may have an old copy
        self._writes = jax.process_index() == 0
        self.complete: int | None = None
        if self._writes:
            self.complete = max(states_in(folder), default=None)
            sweep(folder)

    def save(self, step: int, tree: PyTree, meta: dict, after: Callable[[], None]) -> None:
        """Starts writing a state, once the one before is on disk.

        `after` is called in the background when it is complete. Raises SaveFailed if the one before
        could not be saved.
        """
        self.wait()
        # copies, because the next step reuses the memory and the caller changes its notes
        tree = _copied(tree, kept=self._writes)
        if not self._writes:
            return
        work = contextvars.copy_context().run  # lines go where those of this thread go
        arguments = (self._save, step, tree, dict(meta), after)
        self._thread = threading.Thread(target=work, args=arguments, name="save", daemon=True)
        self._thread.start()

    def raise_failure(self) -> None:
        """Raises SaveFailed if a state could not be saved; waits for nothing."""
        if self._error is not None:
            raise self._error

    def wait(self) -> None:
        """Waits until what was given is on disk. Raises SaveFailed if it could not be saved."""
        if (thread := self._thread) is not None:
            thread.join()  # it ends: each of its tries does
        self.raise_failure()

    def close(self) -> None:
        """Waits as `wait` does, and removes what a failing disk has left of tries and removals."""
        self.wait()
        if self._writes:
            sweep(self.folder)

    def _save(self, step: int, tree: PyTree, meta: dict, after: Callable[[], None]) -> None:
        """The thread of a save: however it fails, the training thread is told."""
        try:
            self._first()
            self._try(step, tree, meta, after)
        except SaveFailed as error:
            self._error = error
        except Exception as error:
            self._error = SaveFailed(self._given_up(step, error))

    def _try(self, step: int, tree: PyTree, meta: dict, after: Callable[[], None]) -> None:
        """Tries to save until it succeeds; raises SaveFailed when `retries` are used up."""
        size = sum(x.nbytes for x in jax.tree.leaves(tree))
        if self.complete is not None and is_gone(self.folder / str(self.complete)):
            logger.warning(
                f"{self.folder / str(self.complete)} is gone: it was moved or removed while this "
                "run trained; new states are saved as ever"
            )
        for number in range(1, self._retries + 2):
            attempt = _Attempt(self.folder, step, number, self._check)
            error = attempt.run(tree, meta, PATIENCE + size / SLOWEST)
            if error is None:
                self.complete = step
                with contextlib.suppress(OSError):  # done after the next save then
                    after()
                return
            if isinstance(error, Gone):
                raise error
            if number <= self._retries:
                pause = min(2.0 ** (number - 1), LONGEST_PAUSE)
                logger.warning(
                    f"{self._title} {step} could not be saved ({_why(error)}); trying again in "
                    f"{pause:.0f} s ({number} of {self._retries})"
                )
                _pause(pause)
        raise SaveFailed(self._given_up(step, error))

    def _given_up(self, step: int, error: BaseException) -> str:
        kept = f"{self._title} {self.complete} is kept" if self.complete is not None else ""
        tries = f" after {self._retries} more tries" if self._retries else ""
        return (
            f"{self.folder}: {self._title} {step} could not be saved{tries} ({_why(error)}); "
            f"training stopped, {kept or 'and no state was saved before'}. Mend the disk and give "
            "the same command again"
        )


def _copied(tree: PyTree, kept: bool) -> PyTree:
    """The arrays on this host, as copies that nobody else changes; None if they are not kept.

    All processes of a cluster take part: parts of an array may lie on several hosts.
    """
    if not all(map(is_here, jax.tree.leaves(tree))):
        # one at a time: other hosts have no use for the whole state
        whole = jax.tree.map(lambda x: gather(x) if kept else gather(x) is None, tree)
    else:
        whole = jax.device_get(tree) if kept else None
    return jax.tree.map(_own, tree, whole) if kept else None


def _own(array: jax.Array | np.ndarray, fetched: np.ndarray) -> np.ndarray:
    """What came from a device, in memory of its own: on a CPU it may share that of the array."""
    elsewhere = isinstance(array, jax.Array) and jax.default_backend() != "cpu"
    return np.asarray(fetched) if elsewhere else np.array(fetched)


class _Attempt:
    """One try to write a state, in a thread of its own: it can be given up if it hangs."""

    def __init__(self, folder: Path, step: int, number: int, check: Callable[[], None]):
        self._folder, self._step, self._check = folder, step, check
        self._unfinished = folder / f"{step}.unfinished-{number}"
        self._lock, self._given_up = threading.Lock(), False
        self._error: BaseException | None = None

    def run(self, tree: PyTree, meta: dict, seconds: float) -> BaseException | None:
        """The error that the try ended with, a TimeoutError after `seconds`; None: it succeeded."""
        work = contextvars.copy_context().run
        arguments = (self._run, tree, meta)
        thread = threading.Thread(target=work, args=arguments, name="write", daemon=True)
        thread.start()
        thread.join(seconds)
        with self._lock:
            if not thread.is_alive():
                return self._error
            self._given_up = True
        return TimeoutError(f"the disk has not answered for {seconds:.0f} s")

    def _run(self, tree: PyTree, meta: dict) -> None:
        try:
            self._check()
            self._folder.mkdir(parents=True, exist_ok=True)
            _write(self._unfinished, tree, meta)
            self._check()
            with self._lock:
                if self._given_up:
                    raise TimeoutError
            clear(self._folder, self._step)
            self._unfinished.rename(self._folder / str(self._step))
            sync_all(self._folder, inside=False)
        except BaseException as error:  # whatever it is, the training thread reports it
            self._error = error
            if isinstance(error, Gone):
                _leave_nothing(self._folder, self._unfinished)
            shutil.rmtree(self._unfinished, ignore_errors=True)


def _write(folder: Path, tree: PyTree, meta: dict) -> None:
    """A state of numpy arrays in a new folder, sealed and on the disk."""
    _pass_over_late_writes()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=_ONE_PROCESS)
    with ocp.Checkpointer(handler, multiprocessing_options=_ONE_PROCESS) as writer:
        writer.save(folder / "state", args=ocp.args.StandardSave(tree))
    (folder / "meta").mkdir()
    (folder / "meta" / "metadata").write_text(json.dumps(meta))
    _seal(folder)
    sync_all(folder)


def _seal(folder: Path) -> None:
    """Writes checksums into a state that is being saved."""
    (folder / SUMS).write_text(json.dumps(checksums(folder), indent=0))


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def _why(error: BaseException) -> str:
    """What went wrong, in a few words."""
    found = _OS_ERROR.search(str(error))
    return one_line(os.strerror(int(found[1] or found[2])) if found else reason(error))


def _leave_nothing(folder: Path, unfinished: Path) -> None:
    """Removes the folders that writing has made anew in the place of a run that was moved away."""
    shutil.rmtree(unfinished, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.rmdir()  # each only if it is empty
        folder.parent.rmdir()


def remove(state: Path) -> None:
    """Removes a state: it is whole until it is gone, also for a process that is killed. One that is
    being read stays, until this is called again."""
    if not is_held(state):
        _take_away(state)


def _take_away(state: Path) -> None:
    going, number = state.with_name(f"{state.name}.removed"), 1
    while os.path.lexists(going):
        going, number = state.with_name(f"{state.name}.removed-{number}"), number + 1
    state.rename(going)
    shutil.rmtree(going, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Removes what saves and removals have left in a folder that a kill or the disk interrupted.

    An error that passes leaves nothing: it is tried SWEEPS times.
    """
    for _ in range(SWEEPS):
        with contextlib.suppress(OSError):
            left = [path for path in folder.iterdir() if _is_left_over(path)]
            for path in left:
                shutil.rmtree(path, ignore_errors=True)
            if not left:
                return


def _is_left_over(path: Path) -> bool:
    named = _LEFT_OVER.fullmatch(path.name) is not None
    return named and path.is_dir() and not path.is_symlink()


def clear(folder: Path, step: int) -> None:
    """Makes room for the state of `step`: renames anything else of that name."""
    path, number = folder / str(step), 1
    if not os.path.lexists(path):
        return
    if path.is_dir() and any(path.iterdir()):  # a state, which a resumed run makes again
        _take_away(path)
        return
    while os.path.lexists(target := folder / f"{step}.not-a-state-{number}"):
        number += 1
    path.rename(target)
    logger.warning(
        f"{path} is no saved state and stood in the way of one: renamed to {target.name}"
    )

"""A run's folder: which process owns it, which config it holds, which states can be read."""

import contextlib
import datetime
import errno
import logging
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import jax
from ml_collections import ConfigDict

from gan_jax import config as configs
from gan_jax.core import saved_states, schedules
from gan_jax.core.state_writer import Gone
from gan_jax.core.system import Facts
from gan_jax.errors import ArgumentError, UserError
from gan_jax.files import check_folder, open_own, opened, read_bytes, read_json, reason, sweep
from gan_jax.run import lease
from gan_jax.run.lease import Held, Lease

try:
    import fcntl
except ImportError:  # Windows has no fcntl: there, two runs in one folder go unnoticed
    fcntl = None

logger = logging.getLogger(__name__)

_locks: dict[Path, contextlib.ExitStack] = {}
_claims: dict[Path, "_Claim"] = {}
BUSY = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # of flock: another process has the lock


@dataclass(frozen=True)
class _Claim:
    """What shows that a folder is still the one that was claimed: its number in the file system,
    what .lock says and, where there are no locks, the lease."""

    number: int
    signature: str
    lease: Lease | None


def claim(workdir: str | Path, lock: bool = True) -> Path:
    """Makes the folder and locks it for this process (one of a run's processes is enough).

    The file .lock says which process it is. The folder itself is locked too, so that the lock
    outlives a removal of the file. On a file system without locks (some of Lustre, NFS and FUSE)
    the file .lease, which is renewed all the time, takes their place. What a kill has left of
    earlier writes is removed. Raises ArgumentError if the folder cannot be written, or another
    process trains in it.
    """
    folder = _checked(workdir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open_own(folder / ".lock", "r+")
    except OSError as error:
        raise _unwritable(workdir, error) from None
    held, own = contextlib.ExitStack(), None
    held.enter_context(file)
    if lock:
        signature = _signature()
        with contextlib.ExitStack() as undo:
            undo.push(held)
            if not _lock(folder, file, held):
                own = _leased(folder, signature, held)
            undo.pop_all()
        _sign(file, signature)
        _claims[folder] = _Claim(os.stat(folder).st_ino, signature, own)
        sweep(folder)
    _locks[folder] = held
    return folder


def check_held(folder: Path) -> None:
    """Raises Gone if a folder that this process has claimed is not there any more, or another
    process has taken it over. Raises OSError if the disk does not say."""
    claimed = _claims.get(folder)
    if claimed is None:
        return
    if claimed.lease is not None and claimed.lease.lost:
        raise Gone(
            f"{folder}: another process trains there by now, because this one had not shown any "
            "life for a while; training stopped"
        )
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if os.stat(folder).st_ino == claimed.number:
            return
        # some network file systems give a folder a new number now and then
        if claimed.signature in read_bytes(folder / ".lock", 10_000).decode(errors="replace"):
            return
    raise Gone(
        f"{folder} was moved or removed while it was trained in, and what was saved went with it; "
        "training stopped. Put it back and give the same command again"
    )


def _unwritable(workdir: str | Path, error: OSError) -> ArgumentError:
    return ArgumentError(
        "workdir", f"={workdir} cannot be written ({reason(error)}); name another folder"
    )


def _leased(folder: Path, signature: str, held: contextlib.ExitStack) -> Lease:
    """A lease on the folder until `held` is closed. Raises ArgumentError if another process has
    one."""
    try:
        own = Lease(folder, signature)
    except Held as other:
        raise _in_use_by(folder, str(other)) from None
    except OSError as error:
        raise _unwritable(folder, error) from None
    held.callback(own.close)
    former = f", taken over from {own.taken_over}, which has ended" if own.taken_over else ""
    logger.warning(
        f"{folder}: its file system has no locks, so the file .lease says who trains there{former}"
    )
    return own


def _lock(folder: Path, file: TextIO, held: contextlib.ExitStack) -> bool:
    """Locks the file and the folder until `held` is closed; False if there are no locks here.

    Raises ArgumentError if another process has locked one of them.
    """
    if not fcntl:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in BUSY:
            raise _in_use_by(folder, file.read(200)) from None
        return False
    directory = os.open(folder, os.O_RDONLY)
    held.callback(os.close, directory)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in BUSY[:2]:
            raise _in_use_by(folder, file.read(200)) from None
        # some file systems lock files alone
    return True


def _signature() -> str:
    """Which process this is."""
    since = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
    return f"process {os.getpid()} on {socket.gethostname()} since {since}"


def _sign(file: TextIO, signature: str) -> None:
    """Writes into the file which process this is, as far as the disk lets it."""
    with contextlib.suppress(OSError):
        file.truncate(0)
        file.write(f"{signature}\n")
        file.flush()


def _in_use_by(folder: Path, text: str) -> ArgumentError:
    """The error for a folder that another process has locked; `text` says which."""
    who = " ".join(text.split()) or "another process"
    return ArgumentError(
        "workdir", f"={folder}: {who} trains there; wait for it, or name another folder"
    )


def _checked(workdir: str | Path) -> Path:
    """The folder as a path. Raises ArgumentError if a run could not be stored in it."""
    if not str(workdir):
        raise ArgumentError(
            "workdir", " is empty: name the folder this run lives in, such as runs/a"
        )
    if "://" in str(workdir):
        raise ArgumentError(
            "workdir",
            f"={workdir} is a bucket, not a folder: mount it, or let jobs/tpu_vm.sh copy the run "
            "to it",
        )
    try:
        str(workdir).encode()
    except UnicodeEncodeError:
        shown = str(workdir).encode(errors="replace").decode()
        raise ArgumentError(
            "workdir",
            f"={shown}: this locale cannot spell the folder's name, in which states would be "
            "saved; set LC_ALL=C.UTF-8, or name another",
        ) from None
    return check_folder(workdir, "workdir")


def release(folder: Path) -> None:
    """Unlocks the folder for other processes."""
    _claims.pop(folder, None)
    if folder in _locks:
        _locks.pop(folder).close()


def in_use(folder: Path) -> bool:
    """Whether a process, this one or another, holds the folder that it has claimed."""
    try:
        with opened(folder / ".lock") as file:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in BUSY[:2]:
            return True
    return lease.is_held(folder)


def check(folder: Path, config: ConfigDict) -> bool:
    """Whether the folder already holds this run; logs the values that have changed.

    A run that broke before its first state was saved is replaced, whatever its config was: there is
    nothing of it to go on from. Otherwise raises a UserError as `changed` does.
    """
    try:
        found = changed(folder, config)
    except UserError:
        if has_states(folder):
            raise
        logger.info(f"{folder}: the run that began here has no saved state; this one replaces it")
        if jax.process_index() == 0:
            (folder / "quality.json").unlink(missing_ok=True)
        return False
    if found:
        logger.info(f"changed since this run began: {_listed(found)}")
    return found is not None


def has_states(folder: Path) -> bool:
    """Whether a run has a saved state, be it the best one or one that was set aside as damaged."""
    return bool(
        saved_states.states_in(folder / "checkpoints")
        or saved_states.best_states_in(folder / "best")
        or [*folder.glob("damaged-*")]
    )


def changed(folder: Path, config: ConfigDict) -> dict[str, tuple[Any, Any]] | None:
    """The values that have changed since the folder's run began; None if it holds no run.

    Returns {key: (old, new)}, such as {"run.steps": ("9", "12")}. Only keys that may change when a
    run resumes (run.*, and where the data are) are among them: raises a UserError that lists the
    keys if the folder holds another config, or if the number of steps has changed and a learning
    rate depends on it.
    """
    if not (folder / "config.json").exists():
        return None
    # keys that were added to gan_jax after the run began get their defaults
    stored = configs.typed(read_config(folder)["config"])
    configs.prepare(stored)
    old = configs.plain(stored)
    if old["system"] == config.system:
        configs.resolve(config, 0, old)
    new = configs.plain(config)
    found = configs.differences(old, new)
    foreign = {k: v for k, v in found.items() if not configs.may_change(k)}
    if foreign:
        raise ArgumentError(
            "workdir",
            f"={folder} holds a run with another config: {_listed(foreign)}; name another folder, "
            "or use the run's own values",
        )
    if "run.steps" in found:
        _check_schedules(config, old["run"]["steps"])
    return found


def _check_schedules(config: ConfigDict, old_steps: str) -> None:
    """Raises UserError where a learning rate depends on the number of steps, which has changed."""
    for name, section in config.optim.items():
        if schedules.depends_on_total(section.schedule):
            raise UserError(
                f"config.run.steps changed from {old_steps} to {config.run.steps}, but "
                f"config.optim.{name}.schedule.name={section.schedule.name} depends on the total; "
                f"set config.optim.{name}.schedule.length at the start, or train in another folder"
            )


def check_facts(
    folder: Path, facts: Facts, remedy: str = "restore it, or name another folder"
) -> None:
    """Raises ArgumentError if the data are not those that the run began with.

    With other data, images would move between training and validation, and epochs would change in
    length. An imported run has seen no data yet, so unknown facts are not compared. `remedy` ends
    the message.
    """
    stored = read_config(folder).get("data", facts._asdict())
    old = Facts.read(stored)._asdict()
    sizes = ("train_size", "validation_size")
    classes = ("class_names", "empty_classes")  # earlier revisions did not write these down
    unknown = [name for name in classes if name not in stored]
    if not old["train_size"]:
        unknown += [name for name in (*sizes, "num_classes", *classes) if not old[name]]
    changed = [
        f"{k} was {old.get(k)}, is {v}"
        for k, v in facts._asdict().items()
        if old[k] != v and k not in unknown
    ]
    if changed:
        raise ArgumentError(
            "workdir",
            f"={folder}: the data has changed since the run began ({'; '.join(changed)}); {remedy}",
        )


def _listed(changed: dict[str, tuple[Any, Any]]) -> str:
    shown = [f"config.{k} is {old!r} there, {new!r} here" for k, (old, new) in changed.items()]
    more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    return "; ".join(shown[:8]) + more


def read_config(folder: Path) -> dict[str, Any]:
    """The content of config.json. Raises UserError if there is none or it is damaged."""
    path = Path(folder) / "config.json"
    try:
        found = read_json(path)
    except FileNotFoundError:
        raise UserError(f"{folder}: no config.json, so this is not the folder of a run") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {reason(error)}") from None
    if not isinstance(found, dict) or not isinstance(found.get("config"), dict):
        raise UserError(f"{path} is damaged: it holds no config")
    return found


def read_summary(folder: Path) -> dict[str, Any]:
    """The content of summary.json, {} if there is none that can be read."""
    try:
        found = read_json(folder / "summary.json")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def state_path(folder: Path, state: str = "newest") -> Path:
    """The folder of a saved state; `state` is "newest", "best", or a step as text.

    "best" is the best state of the last stage that has one. Raises UserError if there is none.
    """
    if state == "best":
        best = saved_states.best_states_in(folder / "best")
        if not best:
            raise UserError(f"{folder}: no best state yet")
        return best[max(best)].resolve()
    states = saved_states.states_in(folder / "checkpoints")
    if not states:
        raise UserError(f"{folder}: no checkpoint yet; train first")
    if state == "newest":
        return states[max(states)].resolve()
    if state.isdecimal() and int(state) in states:
        return states[int(state)].resolve()
    raise UserError(
        f"{folder}: no state {state!r}; there are newest, best and the steps {sorted(states)}"
    )

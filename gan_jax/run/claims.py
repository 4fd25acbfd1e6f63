"""The claim of a process to a run's folder: two processes never train in the same one."""

import contextlib
import datetime
import errno
import logging
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from gan_jax.buckets import syncing
from gan_jax.core.state_writer import Gone
from gan_jax.errors import ArgumentError
from gan_jax.files import check_folder, open_own, opened, read_bytes, reason, sweep
from gan_jax.run import lease
from gan_jax.run.lease import Held, Lease

try:
    import fcntl
except ImportError:  # Windows has no fcntl
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
    earlier writes is removed. Without `lock` nothing is made or opened. Raises ArgumentError if
    the folder cannot be written, or another process trains in it.
    """
    folder = _checked(workdir)
    if not lock:
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open_own(folder / ".lock", "r+")
    except OSError as error:
        raise _unwritable(workdir, error) from None
    held, own = contextlib.ExitStack(), None
    held.enter_context(file)
    signature = _signature(os.getpid(), datetime.datetime.now())
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
    if lost := syncing.lost(folder):
        raise Gone(f"{lost}; training stopped")
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
    place = ".lock: " if str(error.filename or "").endswith(".lock") else ""
    return ArgumentError(
        "workdir", f"={workdir} cannot be written ({place}{reason(error)}); name another folder"
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
        if error.errno in BUSY[:2]:  # and somebody has removed the file that says by whom
            raise _in_use_by(folder, file.read(200) or _holder(directory)) from None
        # some file systems lock files alone
    return True


def _holder(handle: int) -> str:
    """Which process of this machine has locked an open file, and when it began; "" if the system
    does not say."""
    number = os.fstat(handle).st_ino
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/locks").read_text().splitlines():
            _, kind, _, _, pid, place, *_ = line.split()
            if kind == "FLOCK" and place.rpartition(":")[2] == str(number):
                began = os.stat(f"/proc/{int(pid)}").st_mtime
                return _signature(int(pid), datetime.datetime.fromtimestamp(began))
    return ""


def _signature(pid: int, since: datetime.datetime) -> str:
    """Which process of this machine it is."""
    when = since.astimezone().isoformat(" ", "seconds")
    return f"process {pid} on {socket.gethostname()} since {when}"


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
            f"={workdir} is no folder; addresses in buckets are gs://bucket/path and "
            "s3://bucket/path",
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

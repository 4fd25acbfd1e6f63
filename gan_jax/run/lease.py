"""The claim to a run's folder on a file system without locks: a file that its owner renews.

The file `.lease` names the process. Its owner writes it anew every BEAT seconds; one that has not
been renewed for STALE seconds belongs to nobody any more.
"""

import contextlib
import errno
import json
import os
import secrets
import socket
import threading
import time
from pathlib import Path

from gan_jax.buckets.claim import is_alive
from gan_jax.files import read_json, replacing, write_bytes

BEAT = 10.0  # seconds
STALE = 60.0
NAME = ".lease"


class Held(Exception):
    """Another process holds the folder; the text says which."""


class Lease:
    """The claim of this process to a folder, until `close`.

    Args:
      folder: the folder.
      who: what the file says about this process, in one line.

    Raises Held if another process holds the folder, OSError if the file cannot be written.
    """

    def __init__(self, folder: Path, who: str):
        self._path, self._who = folder / NAME, who
        self._token, self._over = secrets.token_hex(8), threading.Event()
        self.taken_over = self._take()
        self.lost = False
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def _take(self) -> str:
        """Makes the file; returns whose stale lease was in its place, "" if there was none."""
        former = ""
        found = _read(self._path)
        if found is not None:
            if not _is_stale(self._path, found):
                raise Held(found.get("who", ""))
            former = found.get("who", "") or "a process"
            aside = self._path.with_name(f".{NAME}.{self._token}.tmp")  # swept if a kill leaves it
            with contextlib.suppress(FileNotFoundError):
                os.rename(self._path, aside)
                other = _read(aside)  # another process may have been faster
                aside.unlink()
                if other and other.get("token") != found.get("token"):
                    raise Held(other.get("who", ""))
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            raise Held((_read(self._path) or {}).get("who", "")) from None
        try:
            os.write(handle, self._content())
        finally:
            os.close(handle)
        return former

    def _content(self) -> bytes:
        host = socket.gethostname()
        values = {"who": self._who, "token": self._token, "host": host, "pid": os.getpid()}
        return json.dumps(values).encode()

    def _renew(self) -> None:
        while not self._over.wait(BEAT):
            with contextlib.suppress(OSError):  # a disk that fails: the next beat tries again
                found = _read(self._path)
                if found is not None and found.get("token") != self._token:
                    self.lost = True  # after a sleep that was too long for the others
                    return
                if self._path.parent.is_dir():
                    write_bytes(self._path, self._content())

    def close(self) -> None:
        """Gives the folder back."""
        self._over.set()
        self._thread.join(BEAT)
        with contextlib.suppress(OSError):
            if (_read(self._path) or {}).get("token") == self._token:
                self._path.unlink()


def is_held(folder: Path) -> bool:
    """Whether a process holds a folder by a lease that is not stale."""
    with contextlib.suppress(OSError):
        found = _read(folder / NAME)
        return found is not None and not _is_stale(folder / NAME, found)
    return False


def _read(path: Path) -> dict | None:
    """What a lease says; None if there is none, {} if it is no lease."""
    try:
        found = read_json(path)
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_stale(path: Path, found: dict) -> bool:
    """Whether the owner of a lease is gone: it has not renewed it, or it was of this machine and
    its process has ended."""
    if is_alive(found) is False:
        return True
    try:
        renewed = os.stat(path).st_mtime
    except FileNotFoundError:
        return True
    return _now(path.parent) - renewed > STALE


def _now(folder: Path) -> float:
    """The time by the clock of the folder's file system, which may be that of a server."""
    try:
        with replacing(folder / f"{NAME}.clock") as probe:
            probe.write_bytes(b"x")
            now = os.stat(probe).st_mtime
        (folder / f"{NAME}.clock").unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        return time.time()
    return now

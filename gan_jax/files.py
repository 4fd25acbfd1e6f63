"""Files, read and written with care.

Only regular files are read: a pipe would wait for its writer and a device would never end. A file
is written whole or not at all, whatever happens meanwhile, and never through a link.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from gan_jax.errors import ArgumentError
from gan_jax.patience import patient

try:
    import fcntl
except ImportError:  # Windows has no fcntl
    fcntl = None

LARGEST_TEXT = 2**28  # bytes of a text or JSON file
MOST_VALUES = 2**24  # lists, objects and commas in JSON
DEEPEST = 100  # lists and objects in each other
_TOO_DEEP = "it is nested too deeply"
_NO_NAME = "no name can hold a zero byte"
_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_NOT_THROUGH_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_LONGEST_NAME = 200  # bytes
_ABANDONED = 3600  # seconds after which a temporary file without a lock is nobody's any more
_TEMPORARY = re.compile(r"\.(.+)\.(?:[0-9a-f]{16}|[0-9]+)\.tmp", re.DOTALL)
_LARGE_FOLDER = 1000  # entries; such a folder is not listed again until another process changes it
# when a large folder was last changed by this process, and the temporary files in it
_large_folders: dict[Path, tuple[int, dict[str, list[str]]]] = {}


def opened(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a regular file for reading.

    Raises OSError, whose text says what is wrong: also at once for a folder, a pipe, a socket, a
    device and links that lead in a circle.
    """
    if "\0" in os.fspath(path):
        raise OSError(errno.EINVAL, _NO_NAME, str(path))
    _check_regular(os.stat(path), path)
    # by now it may be another file, and opening a pipe would wait
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        _check_regular(os.fstat(handle), path)
    except OSError:
        os.close(handle)
        raise
    return open(handle, "rb")


def _check_regular(found: os.stat_result, path: str | os.PathLike[str]) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for fits, name in _KINDS if fits(found.st_mode)), "no file")
        raise OSError(errno.EINVAL, f"it is {kind}, and only regular files are read", str(path))


@patient
def read_bytes(path: str | os.PathLike[str], most: int | None = None) -> bytes:
    """The content of a regular file, of at most `most` bytes. Raises OSError as `opened`, and for a
    larger file, of which nothing is read."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if most is not None and size > most:
            reason = f"it has {size:,} bytes, and at most {most:,} are accepted"
            raise OSError(errno.EFBIG, reason, str(path))
        return file.read(size)


def read_text(path: str | os.PathLike[str]) -> str:
    """The content of a text file in UTF-8, with or without a byte order mark.

    Raises OSError as `read_bytes`, UnicodeDecodeError.
    """
    return read_bytes(path, LARGEST_TEXT).decode("utf-8-sig")


def read_json(path: str | os.PathLike[str]) -> Any:
    """The value in a JSON file. Raises OSError as `read_bytes`, ValueError."""
    return parse_json(read_bytes(path, LARGEST_TEXT))


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises ValueError, with one line, for anything else, and for a text with so many values or so
    deep that it would exhaust the memory.
    """
    signs = ("[", "{", ",") if isinstance(text, str) else (b"[", b"{", b",")
    if sum(text.count(sign) for sign in signs) > MOST_VALUES:
        raise ValueError(f"it has more than {MOST_VALUES:,} values")
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    level = [value]
    for _ in range(DEEPEST):
        level = [
            part
            for whole in level
            if isinstance(whole, (list, dict))
            for part in (whole.values() if isinstance(whole, dict) else whole)
        ]
        if not level:
            return value
    raise ValueError(_TOO_DEEP)


def reason(error: Exception) -> str:
    """What went wrong, in a few words, for the end of a message."""
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    if isinstance(error, RecursionError):
        return _TOO_DEEP
    text = error.strerror if isinstance(error, OSError) else ""
    return " ".join((text or str(error) or type(error).__name__).split())[:200]


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path in the same folder and moves it onto `path` if the block succeeds.

    The temporary file exists, is empty, and is to be written in place. Its name cannot be guessed,
    and only its owner may write to it. When the block ends, the content is on the disk. What
    a process that was killed has left of an earlier write is removed.
    """
    path = Path(path)
    _remove_abandoned(path)
    temporary, handle = _new_temporary(path)
    with contextlib.ExitStack() as locked:
        locked.callback(os.close, handle)
        try:
            yield temporary
            _sync(handle)
            if not fcntl:
                locked.close()  # Windows does not move a file that is open
            os.replace(temporary, path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                if known := _large_folders.get(path.parent):  # so far nobody else has changed it
                    _large_folders[path.parent] = os.stat(path.parent).st_mtime_ns, known[1]


def _new_temporary(path: Path) -> tuple[Path, int]:
    """A new file beside `path` and its handle, which is locked for as long as it is open."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOT_THROUGH_LINKS
    while True:
        temporary = path.with_name(f".{_short(path.name)}.{secrets.token_hex(8)}.tmp")
        handle = os.open(temporary, flags, 0o644)  # less what the umask forbids
        locked = _lock(handle)
        if locked is False or (locked and not _is_removed(handle)):
            return temporary, handle
        os.close(handle)  # another process took it for an abandoned one before it was locked


def _is_removed(handle: int) -> bool:
    """Whether a file has no name any more; False where the disk does not say."""
    with contextlib.suppress(OSError):
        return not os.fstat(handle).st_nlink
    return False


def _short(name: str) -> str:
    """A name that leaves room for more in the 255 bytes that a name may have."""
    raw = os.fsencode(name)
    return name if len(raw) <= _LONGEST_NAME else hashlib.sha256(raw).hexdigest()


def _lock(handle: int) -> bool | None:
    """Whether this process now has the lock of a file; None if another has it, False without locks
    in this file system."""
    if not fcntl:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError:
        return False
    return True


def _remove_abandoned(path: Path) -> None:
    """Removes what writes of `path` have left that were killed."""
    try:
        names = _temporary_names(path.parent).pop(_short(path.name), [])
    except OSError:  # the write says what is wrong
        return
    for name in names:
        with contextlib.suppress(OSError):
            _remove_if_abandoned(path.parent / name)


def _temporary_names(folder: Path) -> dict[str, list[str]]:
    """The names of temporary files in a folder by the name of the file that they are for."""
    changed = os.stat(folder).st_mtime_ns
    known, found = _large_folders.get(folder, (None, {}))
    if known == changed:
        return found
    entries, found = os.listdir(folder), {}
    for entry in entries:
        if match := _TEMPORARY.fullmatch(entry):
            found.setdefault(match[1], []).append(entry)
    if len(entries) >= _LARGE_FOLDER:
        _large_folders[folder] = changed, found
    else:
        _large_folders.pop(folder, None)
    return found


def _remove_if_abandoned(temporary: Path) -> None:
    handle = os.open(temporary, os.O_RDWR | getattr(os, "O_NONBLOCK", 0) | _NOT_THROUGH_LINKS)
    try:
        age = time.time() - os.fstat(handle).st_mtime
        locked = _lock(handle)
        if locked or (locked is False and age > _ABANDONED):
            temporary.unlink()
    finally:
        os.close(handle)


def _sync(handle: int) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):  # no such thing there
            raise


def _sync_folder(folder: Path) -> None:
    """Brings the names in a folder onto the disk, where the system can do that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_all(folder: Path, inside: bool = True) -> None:
    """Brings a folder onto the disk: its names and, if `inside` is true, all files below it.

    Raises OSError if a file cannot be brought there.
    """
    for path in folder.rglob("*") if inside else ():
        if path.is_dir():
            _sync_folder(path)
            continue
        handle = os.open(path, os.O_RDWR | _NOT_THROUGH_LINKS)
        try:
            _sync(handle)
        finally:
            os.close(handle)
    _sync_folder(folder)


def sweep(folder: Path) -> None:
    """Removes the temporary files that writes have left in a folder when they were killed."""
    with contextlib.suppress(OSError):  # such as a folder that does not exist
        for names in patient(_temporary_names)(folder).values():
            for name in names:
                with contextlib.suppress(OSError):
                    patient(_remove_if_abandoned)(folder / name)


def open_own(path: str | os.PathLike[str], mode: str, buffering: int = -1) -> Any:
    """Opens a file for writing, "a" or as bytes "ab" at its end, "r+" for reading as well, and
    makes it if it does not exist; `buffering` is that of `open`.

    Nothing that is there is removed. Raises OSError if the path is a link, which could lead
    anywhere, or no regular file.
    """

    def opener(name: str, flags: int) -> int:
        flags |= os.O_CREAT | _NOT_THROUGH_LINKS | getattr(os, "O_NONBLOCK", 0)
        try:
            handle = os.open(name, flags, 0o644)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise OSError(errno.ELOOP, "it is a link", str(path)) from None
            if error.errno == errno.ENXIO:  # a pipe that nobody reads, a socket
                raise OSError(errno.EINVAL, "it is no regular file", str(path)) from None
            raise
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        return handle

    return open(path, mode, buffering, opener=opener)


@patient
def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file of these bytes; `path` holds the old file or the whole new one."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: str | os.PathLike[str], values: Any) -> None:
    """Writes values as indented JSON; `path` holds the old file or the whole new one."""
    write_bytes(path, (json.dumps(values, indent=2) + "\n").encode())


def check_folder(out: str | Path, key: str = "out") -> Path:
    """The folder `out`, which need not exist yet.

    Raises an ArgumentError of the parameter `key` if no file could be written into it: the disk is
    read-only or full, permission is missing, or a file has this name. The check comes before any
    work is done, so that nobody waits for results that cannot be saved.
    """
    folder = Path(out)
    try:
        _probe(folder)
    except OSError as error:
        raise _refused(key, folder, error, "folder") from None
    return folder


def check_file(out: str | Path, key: str = "out") -> Path:
    """The file `out`, which need not exist yet.

    Raises an ArgumentError of the parameter `key` if it could not be written.
    """
    path = Path(out)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        _probe(path.parent)
    except OSError as error:
        raise _refused(key, path, error, "file") from None
    return path


def _probe(folder: Path) -> None:
    """Raises OSError if nothing can be written into a folder, or, where it does not exist yet, into
    the nearest existing folder above it."""
    place = folder
    if "\0" in str(folder):
        raise OSError(errno.EINVAL, _NO_NAME, str(folder))
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{place} is not a folder")
    with tempfile.TemporaryFile(dir=place) as probe:
        probe.write(bytes(4096))
        probe.flush()


def _refused(key: str, path: Path, error: OSError, kind: str) -> ArgumentError:
    return ArgumentError(key, f": {path} cannot be written ({reason(error)}); name another {kind}")


@contextlib.contextmanager
def writing(path: Path, key: str = "out", kind: str = "folder") -> Iterator[None]:
    """Makes the folder of a file that is written in the block.

    An OSError in the block becomes an ArgumentError of the parameter `key`, which asks for another
    `kind` of place, such as another folder.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise _refused(key, path, error, kind) from None


def amount(size: int) -> str:
    """A number of bytes as a person reads it: 4542 → "4.5 kB", 170052171 → "170 MB"."""
    for unit, name in ((10**9, "GB"), (10**6, "MB")):
        if size >= unit:
            shown = size / unit
            return f"{shown:.1f} {name}" if shown < 10 else f"{shown:.0f} {name}"
    return f"{size / 1000:.1f} kB"

"""Files that are written whole or not at all, whatever happens while they are written."""

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gan_jax.errors import ArgumentError


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path in the same folder and moves it onto `path` if the block succeeds."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{place} is not a folder")
    with tempfile.TemporaryFile(dir=place) as probe:
        probe.write(bytes(4096))
        probe.flush()


def _refused(key: str, path: Path, error: OSError, kind: str) -> ArgumentError:
    reason = error.strerror or error
    return ArgumentError(key, f": {path} cannot be written ({reason}); name another {kind}")


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

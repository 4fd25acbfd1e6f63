"""Reading archives that may have been tampered with: only plain files, within bounds.

Nothing is ever unpacked to a place that an archive names. A reader here yields members, and the
caller writes those that it knows under names of its own.
"""

import contextlib
import errno
import gzip
import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from gan_jax import files, zips
from gan_jax.errors import UserError, short

HEADERS = 2**20  # bytes of a .tar beside its members' contents: headers, and padding at the end
PER_MEMBER = 2048  # the same for each member


class _Bounded(io.RawIOBase):
    """A stream from which at most a given number of bytes can be read."""

    def __init__(self, stream: BinaryIO, most: int, path: Path) -> None:
        self.stream, self.left, self.most, self.path = stream, most, most, path

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        data = self.stream.read(min(len(buffer), self.left + 1))
        if len(data) > self.left:
            raise UserError(
                f"{self.path} unpacks to more than {self.most:,} bytes: it is not the published "
                "archive; get it again"
            )
        self.left -= len(data)
        buffer[: len(data)] = data
        return len(data)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what the libraries raise in its block for a damaged archive into UserError."""
    damaged = (
        *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError),
        *(NotImplementedError, RuntimeError),  # of a .zip that is packed in an unknown way
        *(ValueError, LookupError, OverflowError, MemoryError, struct.error),  # of headers
    )
    try:
        yield
    except damaged as error:
        raise UserError(f"{path} is damaged ({files.reason(error)}); get it again") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # of a place before the beginning of a file
            raise
        raise UserError(f"{path} is damaged ({files.reason(error)}); get it again") from error


def tar_members(path: Path, most: int, members: int) -> Iterator[tuple[str, int, BinaryIO]]:
    """The files in a .tar.gz, one after the other: (name, size in bytes, a stream of its content).

    A stream can be read until the next file is asked for. All of it belongs into a block of
    `reading`, which says what is wrong with a damaged archive.

    Args:
        most: the largest number of bytes that all files together may have.
        members: the largest number of files and folders.

    Raises UserError for an archive that exceeds a bound, and one with a link, a device, two files
    of one name, or a name that leads out of the archive.
    """
    names: set[str] = set()
    with _opened(path) as file, gzip.GzipFile(fileobj=file) as packed:
        bound = most + HEADERS + PER_MEMBER * members
        stream = io.BufferedReader(_Bounded(packed, bound, path), 2**16)
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                _check_name(path, member.name, names, members)
                # tarfile would pass over any number of bytes, also long after the end
                if not 0 <= member.size <= most:
                    raise _unlike(
                        path,
                        f"{short(member.name)} has {member.size:,} bytes, so the archive unpacks "
                        f"to more than {most:,}",
                    )
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    raise _unlike(path, f"{short(member.name)} is not a plain file")
                yield member.name, member.size, archive.extractfile(member)


def zip_members(path: Path, most: int, members: int) -> Iterator[tuple[str, int, BinaryIO]]:
    """The files in a .zip, as `tar_members` has those of a .tar.gz."""
    names: set[str] = set()
    with _opened(path) as file, zipfile.ZipFile(file) as archive:
        zips.check(archive, path.stat().st_size)
        found = archive.infolist()
        if sum(member.file_size for member in found) > most:
            raise _unlike(path, f"its files have more than {most:,} bytes")
        for member in found:
            _check_name(path, member.filename, names, members)
            mode = member.external_attr >> 16
            if member.is_dir():
                continue
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise _unlike(path, f"{short(member.filename)} is not a plain file")
            with archive.open(member) as stream:
                yield member.filename, member.file_size, stream


def _opened(path: Path) -> BinaryIO:
    try:
        return files.opened(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({files.reason(error)})") from error


def write(stream: BinaryIO, size: int, path: Path) -> None:
    """Writes the content of a member, of `size` bytes, into a new file, and makes its folder.

    Raises UserError if the file exists, because two members have the same name for us.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        raise UserError(f"two files in the archive would be written as {path.name}; get it again")
    with path.open("xb") as file:
        left = size
        while left:
            data = stream.read(min(left, 2**20))
            if not data:
                raise EOFError(f"{path.name} ends {left:,} bytes too early")
            file.write(data)
            left -= len(data)


def _check_name(path: Path, name: str, names: set[str], members: int) -> None:
    """Raises UserError for a name that leads out of the archive, one that came before, and one too
    many."""
    parts = name.rstrip("/").split("/")
    if name.startswith("/") or ".." in parts or "\\" in name or ":" in name or "\0" in name:
        raise _unlike(path, f"the name {short(name)!r} leads out of it")
    if name in names:
        raise _unlike(path, f"the name {short(name)!r} comes twice")
    names.add(name)
    if len(names) > members:
        raise _unlike(path, f"it has more than {members:,} members")


def _unlike(path: Path, reason: str) -> UserError:
    return UserError(f"{path} is not the published archive: {reason}; get it again")

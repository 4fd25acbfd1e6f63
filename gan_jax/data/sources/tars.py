"""Uncompressed .tar files of images, read in place, and those inside them.

ImageNet is published as a .tar that holds a .tar for each class: a .tar in a .tar counts as a
folder of its name.
"""

import io
import tarfile
from collections import Counter
from pathlib import Path
from typing import BinaryIO, NamedTuple

from gan_jax import files
from gan_jax.data.sources.places import OUTSIDE, SPECIAL, TWICE, Archive, clean, is_system
from gan_jax.errors import UserError

ENDING = ".tar"


class Member(NamedTuple):
    """Where a file lies in the archive, in bytes."""

    start: int
    size: int


class Section(io.RawIOBase):
    """A part of a file, as a file of its own that is read only."""

    def __init__(self, file: BinaryIO, place: Member, owned: bool = False) -> None:
        """If the file is `owned`, it is closed together with this one."""
        self._file, (self._start, self._size), self._owned = file, place, owned
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """The new position, which is never before the beginning."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer) -> int:
        self._file.seek(self._start + self._at)
        data = self._file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if self._owned:
            self._file.close()
        super().close()


class Tar(Archive):
    """The files of an uncompressed .tar."""

    kind = "tar"

    def _contents(self) -> tuple[dict[str, Member], dict[str, int]]:
        found, left_out = {}, Counter()
        try:
            with files.opened(self.archive) as file:
                size = file.seek(0, io.SEEK_END)
                _list(file, Member(0, size), "", found, left_out)
        except Exception as error:  # tarfile raises many kinds on damaged files
            raise UserError(
                f"{self.archive}: not a readable .tar ({files.reason(error)}); make it again"
            ) from error
        return found, +left_out

    def _size(self, member: Member) -> int:
        return member.size

    def _is_link(self, member: Member) -> bool:
        return False  # they are not among the members

    def open(self, name: str) -> BinaryIO:
        place = self._members[self.prefix + name]
        return io.BufferedReader(Section(files.opened(self.archive), place, owned=True), 2**16)


def _list(
    file: BinaryIO, whole: Member, prefix: str, found: dict[str, Member], left_out: Counter
) -> None:
    """Adds the files of the archive that lies at `whole` in a file to `found`.

    Raises what tarfile raises for damaged archives, and ReadError also for damage after the first
    member, which tarfile takes for the end.
    """
    section = io.BufferedReader(Section(file, whole), 2**16)
    with tarfile.open(fileobj=section, mode="r:") as archive:
        for info in archive:
            start = whole.start + info.offset_data
            # tarfile would go back to where it was, and never come to an end
            if info.size < 0 or start + info.size > whole.start + whole.size:
                raise tarfile.ReadError(f"{info.name} cannot have {info.size:,} bytes")
            name = clean(prefix + info.name)
            if info.isdir():
                continue
            if not info.isreg() or info.issparse():
                left_out[SPECIAL] += 1
            elif name is None:
                left_out[OUTSIDE] += 1
            elif not prefix and Path(name).suffix.lower() == ENDING and not _is_ignored(name):
                inner = Member(start, info.size)
                _list(file, inner, f"{name[: -len(ENDING)]}/", found, left_out)
            else:
                left_out[TWICE] += name in found
                found[name] = Member(start, info.size)
        section.seek(archive.offset)
        if any(section.read(tarfile.BLOCKSIZE)):
            place = whole.start + archive.offset
            raise tarfile.ReadError(f"what follows byte {place:,} is neither a file nor the end")


def _is_ignored(name: str) -> bool:
    """Whether a file is hidden or lies in a folder of the system, as `Archive.found` says."""
    return any(part.startswith(".") or is_system(part) for part in name.split("/"))

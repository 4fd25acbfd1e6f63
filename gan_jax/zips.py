"""Zip archives that may have been tampered with: what they may hold before anything is unpacked.

An archive says how long each member is and where it lies, and nothing of that need be true. A byte
of a packed member stands for at most 1032, but several members may lie at the same place, and a
member may claim any length.
https://www.pkware.com/appnote
"""

import contextlib
import os
import zipfile
from collections.abc import Iterator

from gan_jax import files

_DENSEST = 1032  # bytes for which one byte of deflate's stands at most
_ENCRYPTED, _PATCHED = 0x1 | 0x40 | 0x2000, 0x20  # bits of a member's flags
_LARGE = 2**26  # bytes; what is longer than this
_USUAL = 100  # and more than so many times longer than packed is no image


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[zipfile.ZipFile]:
    """A zip whose members lie apart from each other.

    Raises OSError as `files.opened`, zipfile.BadZipFile; zipfile raises many other errors.
    """
    with files.opened(path) as file, zipfile.ZipFile(file) as archive:
        check(archive, os.fstat(file.fileno()).st_size)
        yield archive


def check(archive: zipfile.ZipFile, length: int) -> None:
    """Raises BadZipFile if the members of an archive of `length` bytes overlap."""
    if sum(member.compress_size for member in archive.infolist()) > length:
        raise zipfile.BadZipFile("its members are longer than the whole file")


def check_member(member: zipfile.ZipInfo) -> None:
    """Raises BadZipFile for a member that is encrypted, packed in an unusual way, or of a length
    that it cannot have."""
    packed, size = member.compress_size, member.file_size
    if member.flag_bits & (_ENCRYPTED | _PATCHED):
        raise zipfile.BadZipFile(f"{member.filename} is encrypted")
    if member.compress_type == zipfile.ZIP_STORED:
        right = size == packed
    elif member.compress_type == zipfile.ZIP_DEFLATED:
        right = size <= _DENSEST * packed
    else:
        way = zipfile.compressor_names.get(member.compress_type, member.compress_type)
        raise zipfile.BadZipFile(f"{member.filename} is packed by {way}; accepted is deflate")
    if not right:
        raise zipfile.BadZipFile(f"{member.filename} cannot have {size:,} bytes")


def check_bomb(member: zipfile.ZipInfo) -> None:
    """Raises BadZipFile for a member that is large only when it is unpacked, unlike any image."""
    if member.file_size > max(_LARGE, _USUAL * member.compress_size):
        raise zipfile.BadZipFile(
            f"{member.filename} would unpack from {member.compress_size:,} to "
            f"{member.file_size:,} bytes"
        )

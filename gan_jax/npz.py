"""The arrays of an .npz file, read without trusting what it says of itself.

An .npz is a zip of .npy members: a magic number, the length of a header, the header (a Python dict
as text), the numbers. The header is taken apart here instead of being evaluated, and what it says
has to agree with the length of the member before anything is allocated. Only arrays of numbers and
text are read: arrays of Python objects are pickles, which could run anything.
https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import contextlib
import math
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from gan_jax import files, zips

LARGEST_HEADER = 4096  # bytes; numpy writes some hundred
MOST_AXES = 32
MOST_ARRAYS = 2**16
UNLIMITED = 2**62  # bytes
_MAGIC = b"\x93NUMPY"
_WIDTHS = {1: 2, 2: 4, 3: 4}  # bytes of the header's length, by version
_HEADER = re.compile(
    r"\{(?:(?:'descr':'(?P<descr>[<>|=]?(?:b1|[iu][1248]|f[248]|c8|c16|[SU][0-9]{1,9}|O8?))'"
    r"|'fortran_order':(?P<order>True|False)"
    r"|'shape':\((?P<shape>(?:[0-9]{1,20}L?(?:,[0-9]{1,20}L?)*,?)?)\)),?){3}\}"
)
_PIECE = 2**22  # bytes that are read at a time
_ANY_GROWTH = 2**26  # bytes that arrays may have in any case


class NpzError(ValueError):
    """An .npz or an array in it cannot be read; the text says why, in a few words."""


class Header(NamedTuple):
    """What an array's header says of it. `dtype` may be that of objects, which are not read."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype

    @property
    def size(self) -> int:
        """The length of the numbers in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class Stream:
    """The bytes of a member, one after the other. Raises NpzError where they cannot be read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, count: int) -> bytes:
        """The next `count` bytes. Raises NpzError if the member ends before."""
        with explained():
            data = self._file.read(count)
        if len(data) < count:
            raise NpzError("the array ends early")
        return data

    def end(self) -> None:
        """Raises NpzError if there is more, or the member's checksum is wrong."""
        with explained():
            if self._file.read(1):
                raise NpzError("the array goes on after its end")

    def skip(self, count: int) -> None:
        """Passes over the next bytes; a packed member can only be read."""
        while count > 0:
            count -= len(self.read(min(count, _PIECE)))


class Npz:
    """The arrays of an open .npz by name; see `opened`."""

    def __init__(self, archive: zipfile.ZipFile, most: int) -> None:
        members = [m for m in archive.infolist() if m.filename.endswith(".npy")]
        if len(members) > MOST_ARRAYS:
            raise NpzError(f"it has more than {MOST_ARRAYS:,} arrays")
        self._members = {m.filename.removesuffix(".npy"): m for m in members}
        if len(self._members) < len(members):
            raise NpzError("two of its arrays have the same name")
        self._archive, self._left, self._most = archive, most, most

    @property
    def names(self) -> list[str]:
        """The names of the arrays, in the order of the file."""
        return list(self._members)

    def header(self, name: str) -> Header:
        """The header of an array. Raises NpzError, KeyError without such an array."""
        with self.stream(name) as (header, _):
            return header

    @contextlib.contextmanager
    def stream(self, name: str) -> Iterator[tuple[Header, Stream]]:
        """The header of an array and a stream of its numbers, whose length has been checked.

        Raises NpzError, KeyError without such an array.
        """
        member = self._members[name]
        with contextlib.ExitStack() as stack:
            with explained():
                zips.check_member(member)
                stream = Stream(stack.enter_context(self._archive.open(member)))
            header, start = _read_header(stream, name)
            surplus = member.file_size - start - header.size
            if surplus and not header.dtype.hasobject:  # how long objects are nobody knows
                ends = "ends early" if surplus < 0 else f"is {surplus:,} bytes too long"
                raise NpzError(f"the array {_shown(name)} {ends}")
            yield header, stream

    def read(self, name: str) -> np.ndarray:
        """An array of our own in this machine's byte order, which may be written to.

        Raises NpzError, also for an array of anything but numbers and text and where the arrays
        that were read would become too large; KeyError without such an array.
        """
        with self.stream(name) as (header, stream):
            if header.dtype.hasobject:
                raise NpzError(
                    f"the array {_shown(name)} holds Python objects, which are never read"
                )
            self._left -= header.size
            if self._left < 0:
                raise NpzError(f"its arrays have more than {self._most:,} bytes")
            with explained():
                array = _filled(header, stream)
        if array.dtype.kind == "U":
            _check_text(array, name)
        return array


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], growth: int = 0) -> Iterator[Npz]:
    """Opens an .npz.

    Args:
        growth: how many times longer than the file its arrays may be if they are large; 0 leaves
            the memory of this machine as the only bound.

    Raises FileNotFoundError; NpzError for anything else that cannot be read.
    """
    with contextlib.ExitStack() as stack:
        with explained():
            archive = stack.enter_context(zips.opened(path))
            most = memory()
            if growth:
                most = min(most, _ANY_GROWTH + growth * os.stat(path).st_size)
            found = Npz(archive, most)
        yield found


def names(path: str | os.PathLike[str]) -> list[str]:
    """The names of the arrays in a file; [] if it is no .npz that can be read."""
    try:
        with opened(path) as found:
            return found.names
    except (NpzError, OSError):
        return []


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turns whatever is raised in its block into NpzError, but not FileNotFoundError."""
    try:
        yield
    except (NpzError, FileNotFoundError):
        raise
    except Exception as error:  # zipfile raises many kinds for damaged files
        raise NpzError(files.reason(error)) from error


def memory() -> int:
    """The bytes of memory that this process may have at most; UNLIMITED if nobody knows."""
    found = [UNLIMITED]
    with contextlib.suppress(AttributeError, ValueError, OSError):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with contextlib.suppress(OSError, ValueError):  # of a container; "max" is no number
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(found)


def _read_header(stream: Stream, name: str) -> tuple[Header, int]:
    """(header, position of the numbers)."""
    start = stream.read(8)
    width = _WIDTHS.get(start[6])
    if start[:6] != _MAGIC or width is None:
        raise NpzError(f"{_shown(name)} is no array in the format of numpy")
    length = int.from_bytes(stream.read(width), "little")
    if length > LARGEST_HEADER:
        raise NpzError(f"the array {_shown(name)} has a header of {length:,} bytes")
    text = stream.read(length).decode("latin1")
    found = _HEADER.fullmatch(re.sub(r"[ \n]", "", text))
    if not found or None in found.groups():
        raise NpzError(
            f"the header of {_shown(name)} is {_shown(text.strip())} and describes no array of "
            "numbers or text"
        )
    shape = tuple(int(n.rstrip("L")) for n in found["shape"].split(",") if n)
    with explained():
        dtype = np.dtype(found["descr"])
    if len(shape) > MOST_AXES or (not dtype.itemsize and math.prod(shape) > LARGEST_HEADER):
        raise NpzError(f"the array {_shown(name)} has an impossible shape")
    return Header(shape, found["order"] == "True", dtype), 8 + width + length


def _filled(header: Header, stream: Stream) -> np.ndarray:
    raw = np.empty(header.size, np.uint8)
    view = memoryview(raw)
    for at in range(0, header.size, _PIECE):
        piece = stream.read(min(_PIECE, header.size - at))
        view[at : at + len(piece)] = piece
    stream.end()
    if header.dtype == np.bool_:
        raw = raw != 0  # a byte that is neither 0 nor 1 is no bool to numpy
    numbers = raw.view(header.dtype) if raw.size else np.zeros(0, header.dtype)
    if math.prod(header.shape) != numbers.size:  # texts of no characters
        numbers = np.zeros(math.prod(header.shape), header.dtype)
    shaped = numbers.reshape(header.shape, order="F" if header.fortran else "C")
    return shaped.astype(header.dtype.newbyteorder("="), copy=False)


def _check_text(array: np.ndarray, name: str) -> None:
    codes = np.ascontiguousarray(array).reshape(-1).view(np.uint32)
    if ((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes < 0xE000))).any():
        raise NpzError(f"the array {_shown(name)} holds text that is not Unicode")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}…")

"""Image files in an LMDB, as LSUN is published: `data.mdb`, whose values are files of images.

It is read without the library, which trusts whatever a file says of itself. Every place and length
is checked here before it is used. http://www.lmdb.tech/doc/ describes the library; the layout is
that of its `mdb.c`: pages of one size, of which the first two say where the tree begins; its leaves
hold keys in order and their values, or the pages where long values lie.
"""

import io
import os
import struct
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gan_jax import files
from gan_jax.data.progress import IMAGES
from gan_jax.data.sources import decode
from gan_jax.data.sources.arrays import Opened
from gan_jax.errors import UserError

FILE = "data.mdb"
MAGIC, VERSION = 0xBEEFC0DE, 1
HEADER = 16  # bytes of a page before its nodes
NODE = 8  # bytes of a node before its key
BRANCH, LEAF, OVERFLOW, META = 0x01, 0x02, 0x04, 0x08
LONG, SUBTREE, DUPLICATES = 0x01, 0x02, 0x04  # of a node: a long value; no value at all
NOWHERE = 2**64 - 1
DEEPEST = 32  # levels of a tree
PAGE_SIZES = (2**8, 2**16)


class Value(NamedTuple):
    """Where a value lies in the file, in bytes."""

    start: int
    size: int


class DamagedError(Exception):
    """The file is not a readable LMDB; the message says why."""


class Lmdb:
    """The keys and the places of the values of an LMDB, in the order of the keys."""

    def __init__(self, path: Path) -> None:
        """Raises DamagedError, OSError."""
        self.path = path
        self.keys: list[bytes] = []
        self.values: list[Value] = []
        with files.opened(path) as self._file:
            self._length = self._file.seek(0, io.SEEK_END)
            self._page, root, depth, self._count = self._tree()
            if root != NOWHERE:
                for key, value in self._walk(root, depth, set()):
                    self.keys.append(key)
                    self.values.append(value)
        if len(self.keys) != self._count:
            raise DamagedError(f"it holds {len(self.keys):,} of {self._count:,} values")
        if sum(value.size for value in self.values) > self._length:
            raise DamagedError("its values overlap")

    def _read(self, start: int, size: int) -> bytes:
        if start + size > self._length:
            raise DamagedError("it ends too early")
        self._file.seek(start)
        return self._file.read(size)

    def _tree(self) -> tuple[int, int, int, int]:
        """(bytes of a page, first page of the tree, its depth, number of values), from the newer of
        the two first pages."""
        found, place = [], 0
        for _ in range(2):
            page = self._read(place, HEADER + 136)
            magic, version = struct.unpack_from("<II", page, HEADER)
            if (magic, version) != (MAGIC, VERSION):
                break
            size, main = struct.unpack_from("<I", page, HEADER + 24)[0], HEADER + 24 + 48
            depth = struct.unpack_from("<H", page, main + 6)[0]
            count, root = struct.unpack_from("<QQ", page, main + 32)
            transaction = struct.unpack_from("<Q", page, main + 56)[0]
            found.append((transaction, (size, root, depth, count)))
            if not PAGE_SIZES[0] <= size <= PAGE_SIZES[1]:
                raise DamagedError(f"its pages cannot have {size:,} bytes")
            place = size
        if not found:
            raise DamagedError("it does not begin as an LMDB of version 1 does")
        return max(found)[1]

    def _walk(self, number: int, depth: int, seen: set[int]) -> Iterator[tuple[bytes, Value]]:
        """The keys and values below a page; `depth` is the number of levels from there on."""
        if number in seen or not 0 < depth <= DEEPEST:
            raise DamagedError("its pages lead in a circle")
        seen.add(number)
        page = self._read(number * self._page, self._page)
        flags, lower = struct.unpack_from("<HH", page, 10)
        places = page[HEADER : min(lower, self._page)]
        used = 0  # nodes do not overlap: else a page could hold many times what it can
        for (place,) in struct.iter_unpack("<H", places[: len(places) // 2 * 2]):
            if place + NODE > self._page:
                raise DamagedError("a node lies outside of its page")
            low, high, kind, length = struct.unpack_from("<HHHH", page, place)
            held = 0 if flags & BRANCH else 8 if kind & LONG else low | high << 16
            used += NODE + length + held
            if used > self._page:
                raise DamagedError("the nodes of a page overlap")
            if flags & BRANCH:
                yield from self._walk(low | high << 16 | kind << 32, depth - 1, seen)
            elif flags & LEAF:
                begin = place + NODE + length
                value = self._value(number, page, begin, low | high << 16, kind)
                yield page[place + NODE : begin], value
            else:
                raise DamagedError(f"page {number:,} is of an unknown kind")

    def _value(self, number: int, page: bytes, begin: int, size: int, kind: int) -> Value:
        """The value of a node of a leaf whose data begin at `begin` in its page."""
        if kind & (SUBTREE | DUPLICATES):
            raise DamagedError("it holds several trees, or several values for one key")
        held = 8 if kind & LONG else size
        if begin + held > self._page:
            raise DamagedError("a value lies outside of its page")
        if not kind & LONG:
            return Value(number * self._page + begin, size)
        start = struct.unpack_from("<Q", page, begin)[0] * self._page + HEADER
        if start + size > self._length:
            raise DamagedError("a value lies outside of the file")
        return Value(start, size)


class LmdbSource:
    """The images of an LMDB, in the order of their keys."""

    known = (0, 0, 0)
    work = IMAGES

    def __init__(self, found: Lmdb, bits: int = decode.DEEP_BITS) -> None:
        self.found, self.bits = found, bits
        self.handles = threading.local()

    def __len__(self) -> int:
        return len(self.found.keys)

    def content(self, i: int) -> bytes:
        """The file of image i. Raises UnreadableError."""
        try:
            if not hasattr(self.handles, "file"):
                self.handles.file = files.opened(self.found.path)
            self.handles.file.seek(self.found.values[i].start)
            return self.handles.file.read(self.found.values[i].size)
        except OSError as error:
            raise decode.UnreadableError(f"{self.name(i)} ({files.reason(error)})") from error

    def reader(self, i: int) -> Callable[[], np.ndarray]:
        """A function that returns `image(i)` in any process."""
        return decode.reader(self.content(i), self.name(i), self.bits)

    def image(self, i: int) -> np.ndarray:
        return self.reader(i)()

    def label(self, i: int) -> int:
        return 0

    def name(self, i: int) -> str:
        return f"{self.found.path.parent}/{self.found.keys[i].decode('utf-8', 'backslashreplace')}"

    def shape(self, i: int) -> tuple[int, int, int]:
        return decode.shape_of(partial(io.BytesIO, self.content(i)), self.name(i))


def is_lmdb(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder with an LMDB in it."""
    return os.path.isfile(Path(path) / FILE)


def open_lmdb(path: str | os.PathLike[str], key: str, bits: int = decode.DEEP_BITS) -> Opened:
    """The images of the LMDB in a folder, without labels. Raises UserError, naming the setting
    `key`, if it cannot be read or is empty."""
    try:
        found = Lmdb(Path(path) / FILE)
    except (DamagedError, OSError) as error:
        raise UserError(
            f"{key}={path}: {FILE} is not a readable LMDB ({files.reason(error)}); get it again"
        ) from error
    if not found.keys:
        raise UserError(f"{key}={path}: {FILE} holds nothing")
    return Opened(LmdbSource(found, bits), None, (), "none", sorted_by_class=True)

"""Files that somebody made in order to do harm: a small file that would fill the memory, run
something, never end, or end in an error that nobody understands.

Here are what they are made of and what is no file at all; `hostile_arrays`, `hostile_pickles`,
`hostile_tables`, `hostile_texts` and `hostile_images` have tables by format, in which each file is
made when it is asked for. `formats` says which reader reads a format.
"""

import functools
import io
import operator
import os
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

Make = Callable[[], bytes]


class Call:
    """Pickled as a call of `function`, and a state for what it returns."""

    def __init__(self, function, *args, state=None):
        self.function, self.args, self.state = function, args, state

    def __reduce__(self):
        if self.state is None:
            return self.function, self.args
        return self.function, self.args, self.state


# ---------------------------------------------------------------- archives


def zipped(*members: tuple[str, bytes], how=zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, how)
    return out.getvalue()


def lying(
    data: bytes, field: int, value: int, width: str = "<H", local: int | None = None
) -> bytes:
    """A zip in which a field of every entry of the directory, and perhaps of every local header,
    says something else. Offsets as in the format's description: flags 8 (6 in a local header),
    method 10 (8), compressed size 20 (18), size 24 (22), place 42."""
    raw = bytearray(data)
    for mark, place in ((b"PK\1\2", field), (b"PK\3\4", local)):
        at = raw.find(mark)
        while at >= 0 and place is not None:
            struct.pack_into(width, raw, at + place, value)
            at = raw.find(mark, at + 4)
    return bytes(raw)


@functools.cache
def _after_zeros(count: int) -> tuple[int, ...]:
    """What `count` blocks of 2^20 zeros make of a CRC-32: of 0, and which bits each bit turns."""
    if count == 1:
        block = bytes(2**20)
        start = zlib.crc32(block)
        return start, *(zlib.crc32(block, 1 << bit) ^ start for bit in range(32))
    half = _after_zeros(count // 2)
    start = _through(half, half[0])
    return start, *(_through(half, _through(half, 1 << bit)) ^ start for bit in range(32))


def _through(after: tuple[int, ...], crc: int) -> int:
    turned = (after[1 + bit] for bit in range(32) if crc >> bit & 1)
    return functools.reduce(operator.xor, turned, after[0])


def zeros_deflated(size: int, before: bytes = b"") -> tuple[bytes, int, int]:
    """(raw deflate stream, its CRC-32, its unpacked size) of `before` and `size` zeros.

    `size` is 2^20 times a power of 2.
    """
    block, pack = bytes(2**20), zlib.compressobj(9, zlib.DEFLATED, -15)
    start = pack.compress(before) + pack.flush(zlib.Z_FULL_FLUSH)
    piece = pack.compress(block) + pack.flush(zlib.Z_FULL_FLUSH)
    count = size // len(block)
    crc = _through(_after_zeros(count), zlib.crc32(before))
    return start + piece * count + pack.flush(), crc, len(before) + size


def zip_bomb(name: str, size: int, before: bytes = b"", others=()) -> bytes:
    """A zip with a member of `size` zeros after `before`, a thousandth as long."""
    packed, crc, length = zeros_deflated(size, before)
    out = io.BytesIO(zipped((name, packed), *others))
    raw = lying(out.getvalue(), 10, zipfile.ZIP_DEFLATED, "<H", 8)
    at, local = raw.index(b"PK\1\2"), 0
    fields = struct.pack("<III", crc, len(packed), length)
    raw = raw[: at + 16] + fields + raw[at + 28 :]
    raw = raw[: local + 14] + fields + raw[local + 26 :]
    # only the first member is packed
    for mark, place in ((b"PK\1\2", 10), (b"PK\3\4", 8)):
        following = raw.find(mark, raw.index(mark) + 4)
        while following >= 0:
            raw = raw[: following + place] + bytes(2) + raw[following + place + 2 :]
            following = raw.find(mark, following + 4)
    return raw


def gzip_bomb(size: int, before: bytes) -> bytes:
    packed, crc, length = zeros_deflated(size, before)
    head = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    return head + packed + struct.pack("<II", crc, length % 2**32)


# ---------------------------------------------------------------- what is no regular file


def _socket(path: Path) -> None:
    # a socket's whole path has at most 107 characters, so it is bound from inside its folder
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path.parent)
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.fchdir(here)
        os.close(here)


def _loop(path: Path) -> None:
    other = path.with_name(f"other-{path.name}")
    path.symlink_to(other.name)
    other.symlink_to(path.name)


SPECIAL: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "link to a pipe": lambda path: (os.mkfifo(f"{path}-pipe"), path.symlink_to(f"{path}-pipe")),
    "socket": _socket,
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "two links in a circle": _loop,
    "link to nothing": lambda path: path.symlink_to("nowhere"),
    "folder": lambda path: path.mkdir(),
    "no permission": lambda path: (path.write_bytes(b"x"), path.chmod(0)),
}

"""Sorted string tables, the format of LevelDB's files and of TensorFlow's indices, read as bytes.

    data blocks, …, index block, footer (48 bytes: two handles, padding, magic number)

A handle is (offset, size) of a block as varints; after each block come its compression (0: none,
1: Snappy) and the masked CRC-32C of both. A block is a run of entries: three varints (bytes that
the key shares with the one before, bytes of its own, bytes of the value), the key's own bytes, the
value; then the offsets of restarts, which only a search needs, and their number, as uint32. An
entry of the index block has a handle as its value.
https://github.com/google/leveldb/blob/main/doc/table_format.md
"""

import struct
from collections.abc import Iterator

import cramjam

from gan_jax.interop.formats import crc32c

MAGIC = 0xDB4775248B80FB57
FOOTER = 48
_LONGEST_KEY = 4096
_GROWTH = 64  # how many times longer than the table its entries may be, whose keys share bytes
_ANY_GROWTH = 2**20  # bytes that entries may have in any case
_DENSEST = 32  # Snappy's densest element is a copy: 3 bytes stand for at most 64


class NoTable(ValueError):
    """The bytes are not of this format at all."""


def entries(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) in the order of the keys.

    Raises ValueError with a short sentence if the bytes are damaged, NoTable if the magic number
    is missing.
    """
    if len(table) < FOOTER or struct.unpack("<Q", table[-8:])[0] != MAGIC:
        raise NoTable("its last bytes are not the magic number of a table")
    footer = table[-FOOTER:-8]
    _, at = _handle(footer, 0)  # of a block with statistics or filters
    index, _ = _handle(footer, at)
    last, blocks, left = None, 0, _GROWTH * len(table) + _ANY_GROWTH
    for _, value in _block(table, *index):
        handle, _ = _handle(value, 0)
        blocks += handle[1] + 5
        if blocks > len(table):
            raise ValueError("its blocks overlap")
        for key, found in _block(table, *handle):
            if last is not None and key <= last:
                raise ValueError("its keys are not in order")
            left -= len(key) + len(found)
            if left < 0:
                raise ValueError("its keys are too long")
            last = key
            yield key, found


def varint(data: bytes, at: int) -> tuple[int, int]:
    """(an unsigned number of up to 64 bits, the position after it)."""
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, at
        shift += 7
    raise ValueError("a number in it does not end")


def uncompressed(data: bytes) -> bytes:
    """The content of a block that was compressed with Snappy.

    Raises ValueError if the block is damaged or announces more than Snappy can pack into it.
    """
    try:
        # before anything is allocated: a few bytes may announce 4 GB
        if cramjam.snappy.decompress_raw_len(data) > _DENSEST * len(data):
            raise ValueError("a compressed block announces too many bytes")
        return bytes(cramjam.snappy.decompress_raw(data))
    except cramjam.DecompressionError as error:
        raise ValueError(f"a compressed block: {error}") from None


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    block = _taken(table, offset, size)
    kind, crc = struct.unpack("<BI", _taken(table, offset + size, 5))
    if crc32c.masked(crc32c.checksum(table[offset : offset + size + 1])) != crc:
        raise ValueError("the checksum of a block is wrong")
    if kind > 1:
        raise ValueError(f"a block is compressed in the way {kind}, known are none and Snappy")
    if kind:
        block = uncompressed(block)
    end = len(block) - 4
    end -= 4 * _little(block, end, 4)
    key, at = b"", 0
    while at < end:
        shared, at = varint(block, at)
        own, at = varint(block, at)
        size, at = varint(block, at)
        if shared > len(key) or shared + own > _LONGEST_KEY or at + own + size > end:
            raise ValueError("an entry of it is longer than its place")
        key = key[:shared] + _taken(block, at, own)
        yield key, _taken(block, at + own, size)
        at += own + size
    if at != end or end < 0:
        raise ValueError("a block ends inside an entry")


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    offset, at = varint(data, at)
    size, at = varint(data, at)
    return (offset, size), at


def _little(data: bytes, at: int, width: int) -> int:
    return int.from_bytes(_taken(data, at, width), "little")


def _taken(data: bytes, at: int, size: int) -> bytes:
    if not 0 <= at <= at + size <= len(data):
        raise ValueError("it ends too early")
    return data[at : at + size]

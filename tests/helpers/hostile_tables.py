"""Hostile indices of TensorFlow's checkpoints, which are sorted string tables."""

import struct

from google_crc32c import value as crc32c

from tests.helpers.hostile import Make


def varint(value: int) -> bytes:
    out = b""
    while value >= 128:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def block(content: bytes, restarts: int = 0, kind: int = 0) -> bytes:
    """A block of a table with its restarts, kind and checksum."""
    raw = content + struct.pack("<I", 0) * restarts + struct.pack("<I", restarts)
    return stored_block(raw, kind)


def stored_block(raw: bytes, kind: int) -> bytes:
    crc = crc32c(raw + bytes([kind]))
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return raw + bytes([kind]) + struct.pack("<I", masked)


def entry(key: bytes, value: bytes, shared: int = 0) -> bytes:
    return varint(shared) + varint(len(key)) + varint(len(value)) + key + value


def table(blocks: list[bytes], handles: list[int] | None = None) -> bytes:
    """A table of blocks; `handles`: which block each entry of its index leads to."""
    out, places = b"", []
    for one in blocks:
        places.append((len(out), len(one) - 5))
        out += one
    index = b"".join(
        entry(struct.pack(">I", number), varint(places[at][0]) + varint(places[at][1]))
        for number, at in enumerate(range(len(blocks)) if handles is None else handles)
    )
    at, last = len(out), block(index)
    footer = varint(0) + varint(0) + varint(at) + varint(len(last) - 5)
    return out + last + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def variable(shape, size: int, dtype: int = 1, offset: int = 0, shard: int = 0) -> bytes:
    axes = b"".join(field(2, field(1, axis)) for axis in shape)
    numbers = ((3, shard), (4, offset), (5, size), (6, 0))
    return field(1, dtype) + field(2, axes) + b"".join(field(*pair) for pair in numbers)


def index(*variables: bytes, shards: int = 1) -> bytes:
    """The index of a checkpoint with these variables."""
    entries = [entry(b"", field(1, shards))]
    entries += [entry(f"v{n:06d}".encode(), value) for n, value in enumerate(variables)]
    return table([block(b"".join(entries))])


def _long_keys() -> bytes:
    rows = [entry(b"k" * 4000, b"")]
    rows += [entry(struct.pack(">I", n), b"", 3996) for n in range(0x6C000000, 0x6C000000 + 50_000)]
    return table([block(b"".join(rows))])


INDICES: dict[str, Make] = {
    "2^62 numbers": lambda: index(variable([2**62], 2**62)),
    "2^63 numbers": lambda: index(variable([2**63], 8)),
    "2^124 numbers": lambda: index(variable([2**62, 2**62], 2**63)),
    "no elements": lambda: index(variable([0, 2**62], 0)),
    "40 axes": lambda: index(variable([1] * 40, 4)),
    "many axes": lambda: index(variable([1] * 2**14, 4)),
    "bytes for all": lambda: index(*[variable([8], 32) for _ in range(20_000)]),
    "99,999 data files": lambda: index(variable([2], 8, shard=99_998), shards=99_999),
    "2^63 data files": lambda: index(variable([2], 8), shards=2**63),
    "no data files": lambda: index(variable([2], 8), shards=0),
    "text": lambda: index(variable([2], 8, dtype=7)),
    "kind 2^63": lambda: index(variable([2], 8, dtype=2**63)),
    "offset 2^63": lambda: index(variable([2], 8, offset=2**63)),
    "long keys": _long_keys,
    "one block many times": lambda: table([block(b"", 2**18)], [0] * 20_000),
    "an index in itself": lambda: table([block(b"")], [0] * 5),
    "2^32 restarts": lambda: table([stored_block(struct.pack("<I", 2**32 - 1), 0)]),
    "packed into nothing": lambda: table([stored_block(varint(2**32 - 1) + b"\0a", 1)]),
    "packed in another way": lambda: table([stored_block(b"abcd", 7)]),
    "an odd name": lambda: table([block(entry(b"", field(1, 1)) + entry(b"a\n\x1b[2J", b"\xff"))]),
    "no text as name": lambda: table([block(entry(b"", field(1, 1)) + entry(b"\xff\xfe", b""))]),
    "a message without end": lambda: index(b"\x0a\xff\xff\xff\xff\xff\xff\xff\x7f"),
    "numbers for messages": lambda: index(field(2, 5)),
    "nothing": lambda: b"",
    "magic alone": lambda: bytes(40) + struct.pack("<Q", 0xDB4775248B80FB57),
}

POINTER: dict[str, Make] = {  # the text that names a folder's newest checkpoint
    "names above": lambda: b'model_checkpoint_path: "../../etc/passwd"',
    "an odd name": lambda: b'model_checkpoint_path: "a\x1b[2J"',
    "a long name": lambda: b'model_checkpoint_path: "' + b"x" * 5000 + b'"',
    "a zero byte": lambda: b'model_checkpoint_path: "a\0b"',
    "a long text": lambda: bytes(2**21),
    "no UTF-8": lambda: b'model_checkpoint_path: "\xff"',
    "nothing": lambda: b"",
}

"""Hostile arrays: .npy, .npz, statistics of images, idx."""

import gzip
import os
import pickle
import struct
import zipfile

from tests.helpers.hostile import Call, Make, gzip_bomb, lying, zip_bomb, zipped


def npy(descr="|u1", shape="(2, 4, 4, 3)", data=None, version=1, header=None) -> bytes:
    """One array as numpy writes it, with any text in its header."""
    if header is None:
        header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}"
    raw = header if isinstance(header, bytes) else header.encode()
    raw += b" " * (-(len(raw) + 11) % 64) + b"\n"
    width = "<H" if version == 1 else "<I"
    data = bytes(2 * 4 * 4 * 3) if data is None else data
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack(width, len(raw)) + raw + data


def npz(raw: bytes, name="images", how=zipfile.ZIP_STORED, **others: bytes) -> bytes:
    """An .npz whose array `name` has these bytes, beside others."""
    members = ((f"{key}.npy", data) for key, data in {name: raw, **others}.items())
    return zipped(*members, how=how)


def shared_member(count: int, size: int) -> bytes:
    """A zip in which `count` entries of the directory lead to the same `size` bytes."""
    raw = zipped(("a.npy", npy("|u1", f"({size},)", bytes(size))))
    directory, end = raw.index(b"PK\1\2"), raw.index(b"PK\5\6")
    entry = bytearray(raw[directory:end])
    entries = b""
    for number in range(count):
        struct.pack_into("<H", entry, 28, 12)
        entries += bytes(entry[:46]) + f"{number:08d}.npy".encode()
    tail = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, len(entries), directory, 0)
    return raw[:directory] + entries + tail


def _codes(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


ARRAYS: dict[str, Make] = {
    # more elements than any memory has
    "2^40 elements": lambda: npz(npy(shape=f"({2**40},)")),
    "2^70 elements": lambda: npz(npy(shape=f"({2**70},)")),
    "2^66 elements in two axes": lambda: npz(npy(shape=f"({2**33}, {2**33})")),
    "2^40 images": lambda: npz(npy(shape=f"({2**40}, 4, 4, 3)")),
    "2^40 texts": lambda: npz(npy("<U1", f"({2**40},)")),
    "texts of 2^28": lambda: npz(npy("<U268435456", "(2,)")),
    "texts of nothing": lambda: npz(npy("|S0", f"({2**40},)", b"")),
    "no elements": lambda: npz(npy(shape=f"(0, {2**62})", data=b"")),
    "negative": lambda: npz(npy(shape="(-1, 4, 4, 3)")),
    "negative twice": lambda: npz(npy(shape="(-2, -1, 4, 4, 3)")),
    "fraction": lambda: npz(npy(shape="(2.0, 4, 4, 3)")),
    "60 axes": lambda: npz(npy(shape=f"({'1, ' * 60})", data=bytes(1))),
    "too short": lambda: npz(npy(data=bytes(50))),
    "too long": lambda: npz(npy(data=bytes(500))),
    "digits": lambda: npz(npy(shape=f"({'9' * 5000},)")),
    # headers
    "deep header": lambda: npz(npy(header="(" * 9000)),
    "deeper header": lambda: npz(npy(header="[" * 60_000)),
    "minus signs": lambda: npz(npy(header="-" * 9000 + "1")),
    "huge header": lambda: npz(npy(header=" " * 60_000)),
    "header of 4 GB": lambda: npz(b"\x93NUMPY\x02\0\xff\xff\xff\xff" + bytes(100)),
    "header of the second version": lambda: npz(npy(header="{" * 100_000, version=2)),
    "a call": lambda: npz(npy(header="{'descr': open('ran', 'w'), 'shape': ()}")),
    "open text": lambda: npz(npy(header="{'descr': '''")),
    "no ASCII": lambda: npz(npy(header=b"\xff\x00'\x80")),
    "nothing": lambda: npz(b""),
    "no array": lambda: npz(b"text, text, text"),
    "ninth version": lambda: npz(npy(version=9)),
    "a list": lambda: npz(npy(header="[1, 2]")),
    "twice the same key": lambda: npz(npy(header="{'shape': (1,), 'shape': (2,), 'descr': '|u1'}")),
    # kinds
    "objects": lambda: npz(npy("|O", "(1,)", pickle.dumps([Call(os.system, "touch ran")]))),
    "records": lambda: npz(npy([("a", "|u1"), ("b", "|O")], "(2,)")),
    "dates": lambda: npz(npy("<M8[D]", "(2,)", bytes(16))),
    "void": lambda: npz(npy("|V96", "(1,)")),
    "no such kind": lambda: npz(npy("<q99", "(1,)")),
    "no such text": lambda: npz(npy("<U2", "(1,)", _codes(0x110000, 2**32 - 1)), "class_names"),
    # archives
    "encrypted": lambda: lying(npz(npy()), 8, 1, "<H", 6),
    "strongly encrypted": lambda: lying(npz(npy()), 8, 0x41, "<H", 6),
    "patched": lambda: lying(npz(npy()), 8, 0x20, "<H", 6),
    "packed by method 99": lambda: lying(npz(npy()), 10, 99, "<H", 8),
    "packed by LZMA": lambda: npz(npy(), how=zipfile.ZIP_LZMA),
    "packed by bzip2": lambda: npz(npy(), how=zipfile.ZIP_BZIP2),
    "said to be LZMA": lambda: lying(npz(npy()), 10, 14, "<H", 8),
    "needs version 99": lambda: lying(npz(npy()), 6, 99),
    "says 4 GB": lambda: lying(npz(npy()), 24, 2**32 - 2, "<I", 22),
    "says 4 GB are packed": lambda: lying(npz(npy()), 20, 2**32 - 2, "<I", 18),
    "lies elsewhere": lambda: lying(npz(npy()), 42, 2**31, "<I"),
    "one member many times": lambda: shared_member(4000, 2**18),
    "a bomb": lambda: zip_bomb("images.npy", 2**29, npy("|u1", f"({2**29},)", b"")),
    "a bomb in a header": lambda: zip_bomb(
        "images.npy", 2**29, b"\x93NUMPY\x02\0" + struct.pack("<I", 2**29)
    ),
    "deep names": lambda: npz(npy(), "a/" * 20_000 + "b"),
    "names above": lambda: npz(npy(), "../../evil"),
    "a name in a name": lambda: npz(npy(), "a/b", a=npy()),
    "the same name twice": lambda: zipped(("images.npy", npy()), ("images.npy", npy())),
    "an odd name": lambda: npz(npy(), "im\nag\x1b[2Jes"),
    # numbers that mean something
    "class 10^8": lambda: npz(npy(), labels=npy("<i8", "(2,)", struct.pack("<2q", 0, 10**8))),
    "class -1": lambda: npz(npy(), labels=npy("<i8", "(2,)", struct.pack("<2q", 0, -1))),
    "class 2^63": lambda: npz(npy(), labels=npy("<u8", "(2,)", struct.pack("<2Q", 0, 2**63))),
    "a bomb of classes": lambda: zip_bomb(
        "labels.npy", 2**29, npy("|u1", f"({2**29},)", b""), [("images.npy", npy())]
    ),
    "no axis of names": lambda: npz(npy(), class_names=npy("<U1", "()", _codes(65))),
    "names out of Unicode": lambda: npz(
        npy(), labels=npy("|u1", "(2,)", b"\0\1"), class_names=npy("<U1", "(2,)", _codes(65, 2**31))
    ),
    "half a character": lambda: npz(
        npy(),
        labels=npy("|u1", "(2,)", b"\0\1"),
        class_names=npy("<U1", "(2,)", _codes(65, 0xD800)),
    ),
    "a lone array": npy,
}

_MOMENTS = npy("<f8", "(2,)", bytes(16))
STATISTICS: dict[str, Make] = ARRAYS | {
    "2^40 features": lambda: npz(npy("<f8", f"({2**40},)"), "mu", sigma=_MOMENTS),
    "2^20 features": lambda: npz(npy("<f8", f"({2**20},)", bytes(2**23)), "mu", sigma=_MOMENTS),
    "2^70 rows": lambda: npz(npy("<f4", f"({2**70}, 2)"), "features/inception/pool"),
    "deep meta": lambda: npz(npy("<U20000", "()", _codes(*[ord("[")] * 20_000)), "meta", mu=npy()),
    "long meta": lambda: npz(npy("<U5000", "()", _codes(*[ord("9")] * 5000)), "meta", mu=npy()),
    "meta out of Unicode": lambda: npz(npy("<U1", "()", _codes(2**31)), "meta", mu=npy()),
    "many meta": lambda: npz(npy("<U2", f"({2**40},)"), "meta", mu=npy()),
    "objects as moments": lambda: npz(npy("|O", "(2,)"), "mu", sigma=npy("|O", "(2, 2)")),
    "texts as moments": lambda: npz(
        npy("<U1", "(1,)", _codes(65)), "mu", sigma=npy("<U1", "(1, 1)", _codes(65))
    ),
    "complex moments": lambda: npz(
        npy("<c8", "(1,)", bytes(8)), "mu", sigma=npy("<c8", "(1, 1)", bytes(8))
    ),
}


def idx(*shape: int, data: bytes = b"", packed: bool = False) -> bytes:
    raw = struct.pack(f">I{len(shape)}I", 0x0800 + len(shape), *shape) + data
    return gzip.compress(raw, mtime=0) if packed else raw


IDX: dict[str, Make] = {
    "2^96 pixels": lambda: idx(2**32 - 1, 2**32 - 1, 2**32 - 1),
    "2^64 pixels": lambda: idx(2**32 - 1, 2**32 - 1, 1),
    "2^32 pixels": lambda: idx(2**16, 2**8, 2**8),
    "no pixels": lambda: idx(2**32 - 1, 0, 2**32 - 1),
    "too long": lambda: idx(1, 2, 2, data=bytes(99)),
    "short header": lambda: idx(1, 2, 2)[:9],
    "nothing": lambda: b"",
}
PACKED_IDX: dict[str, Make] = {
    **{name: (lambda make=make: gzip.compress(make())) for name, make in IDX.items()},
    "a bomb": lambda: gzip_bomb(2**29, idx(2**32 - 1, 1, 1)),
    "a bomb after little": lambda: gzip_bomb(2**29, idx(1, 2, 2, data=bytes(4))),
    "no gzip": lambda: b"text",
    "half of it": lambda: idx(9, 9, 9, data=bytes(729), packed=True)[:-9],
}

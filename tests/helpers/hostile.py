"""Files that somebody made in order to do harm: a small file that would fill the memory, run
something, never end, or end in an error that nobody understands.

FILES has them by format; each is made when it is asked for. `tests/helpers/formats.py` says which
reader reads a format.
"""

import functools
import gzip
import io
import json
import operator
import os
import pickle
import socket
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from google_crc32c import value as crc32c

from tests.helpers.torchscript_files import module, program, sizes, tensor, text, whole

Make = Callable[[], bytes]
MANY = 130_000  # opcodes in a row: enough to overflow a stack
LEVELS = 60  # pairs of pairs: 2^60 leaves in a few hundred bytes


class Call:
    """Pickled as a call of `function`, and a state for what it returns."""

    def __init__(self, function, *args, state=None):
        self.function, self.args, self.state = function, args, state

    def __reduce__(self):
        if self.state is None:
            return self.function, self.args
        return self.function, self.args, self.state


# ---------------------------------------------------------------- arrays: .npy and .npz


def npy(descr="|u1", shape="(2, 4, 4, 3)", data=None, version=1, header=None) -> bytes:
    """One array as numpy writes it, with any text in its header."""
    if header is None:
        header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}"
    raw = header if isinstance(header, bytes) else header.encode()
    raw += b" " * (-(len(raw) + 11) % 64) + b"\n"
    width = "<H" if version == 1 else "<I"
    data = bytes(2 * 4 * 4 * 3) if data is None else data
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack(width, len(raw)) + raw + data


def zipped(*members: tuple[str, bytes], how=zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, how)
    return out.getvalue()


def npz(raw: bytes, name="images", how=zipfile.ZIP_STORED, **others: bytes) -> bytes:
    """An .npz whose array `name` has these bytes, beside others."""
    members = ((f"{key}.npy", data) for key, data in {name: raw, **others}.items())
    return zipped(*members, how=how)


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

# ---------------------------------------------------------------- pickles

_POP, _PAIR = b"0", b"\x86"
_ORDERED = b"ccollections\nOrderedDict\n"


def pairs(start: bytes = b")", first: int = 0) -> bytes:
    """Opcodes of a pair of the pair of … `start`; a name for its level 60 is `first` + 60."""
    out = start + b"q" + bytes([first])
    for level in range(first, first + LEVELS):
        one = b"h" + bytes([level])
        out += _POP + one + one + _PAIR + b"q" + bytes([level + 1])
    return out


def _noted(body: bytes, count: int, opcodes: bytes) -> bytes:
    """`body` under the name 0, then `opcodes` so many times in a list."""
    return body + b"q\0" + _POP + b"](" + opcodes * count + b"e"


_F4 = b"cnumpy\ndtype\n" + text("f4") + b"\x89\x88\x87R(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xff"
_F4 += b"J\xff\xff\xff\xffK\x00tb"
_BUFFER = b"cnumpy._core.numeric\n_frombuffer\n"
PICKLES: dict[str, Make] = {
    "marks": lambda: b"\x80\x04" + b"(" * 127_000 + b".",
    "marks and tuples": lambda: b"\x80\x04" + b"(" * MANY + b"t" * MANY + b".",
    "marks and lists": lambda: b"\x80\x04" + b"(" * MANY + b"l" * MANY + b".",
    "nested once": lambda: b"\x80\x04)" + b"\x85" * MANY + b".",
    "nested dicts": lambda: b"\x80\x04}" + (b"}" + text("a")) * MANY + b"s" * MANY + b".",
    "a deep key": lambda: b"\x80\x04})" + b"\x85" * MANY + b"K\x01s.",
    "pairs as key": lambda: b"\x80\x04}" + pairs() + b"K\x01s.",
    "pairs in a set": lambda: b"\x80\x04\x8f(" + pairs() + b"\x90.",
    "a frozen set of pairs": lambda: b"\x80\x04(" + pairs() + b"\x91.",
    "pairs": lambda: b"\x80\x04" + pairs() + b".",
    "a dict of pairs": lambda: b"\x80\x04}" + text("a") + pairs() + b"s.",
    "lists in lists": lambda: b"\x80\x04]q\0" + b"]h\0h\0ee" * 10 + b".",
    "a long number": lambda: (
        b"\x80\x04}" + text("a") + b"\x8b" + struct.pack("<i", 2**20) + b"\x7f" * 2**20 + b"s."
    ),
    "a number in digits": lambda: b"\x80\x04L" + b"9" * 2**20 + b"L\n.",
    "2^31 bytes": lambda: b"\x80\x04B" + struct.pack("<I", 2**31) + b".",
    "2^62 bytes": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b".",
    "an array of 2^62": lambda: b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b".",
    "a frame of 2^62": lambda: b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"}.",
    "memo 2^31": lambda: b"\x80\x02}r" + struct.pack("<I", 2**31 - 1) + b".",
    "memo in digits": lambda: b"\x80\x02}p" + b"9" * 5000 + b"\n.",
    "bytes over and over": lambda: (
        b"\x80\x02"
        + _noted(text("x" * 2**20), 500, b"c_codecs\nencode\nh\0" + text("latin1") + b"\x86R")
        + b"."
    ),
    "arrays over and over": lambda: (
        b"\x80\x05"
        + _noted(
            b"B" + struct.pack("<I", 2**20) + bytes(2**20) + b"q\1" + _POP + _F4,
            500,
            _BUFFER + b"(h\1h\0" + b"J" + struct.pack("<i", 2**18) + b"\x85" + text("C") + b"tR",
        )
        + b"."
    ),
    "axes to compare": lambda: (
        b"\x80\x05"
        + pairs(b")", 0)
        + _POP
        + pairs(b")", 100)
        + _POP
        + _BUFFER
        + b"(C\x04abcd"
        + _F4
        + b"K\x01K\x01\x86"
        + text("K")
        + b"h\x3ch\xa0\x86tR."
    ),
    "a scalar of pairs": lambda: b"\x80\x02" + pairs() + b"q\xff0cnumpy\ndtype\nh\xff\x85R.",
    "runs something": lambda: b"\x80\x04cos\nsystem\n" + text("touch ran") + b"\x85R.",
    "builds functions": lambda: b"\x80\x04cnumpy\ndtype\n}" + text("call") + b"K\1sb.",
    "text after all": lambda: b"\x80\x04}." + b"x" * 100,
    "ends early": lambda: b"\x80\x04}" + text("a")[:-1],
    "half a character": lambda: b"\x80\x04}X\x03\0\0\0\xed\xa0\x80K\1s.",
    "a line of text": lambda: b"\x80\x04cos\x1b[2J\nsys\x07tem\n.",
    "an opcode too many": lambda: b"\x80\x04" + b"N" * 2**21,
}
# ---------------------------------------------------------------- PyTorch's files

_TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
_HOOKS = b"ccollections\nOrderedDict\n)R"


def rebuilt(key: str, numel: int, shape, strides, offset: int = 0) -> bytes:
    """Opcodes of a float tensor with any numbers in it."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu")
    storage += _long(numel) + b"tQ"
    axes = (b"(" + b"".join(map(_long, numbers)) + b"t" for numbers in (shape, strides))
    return _TENSOR + b"(" + storage + _long(offset) + b"".join(axes) + b"\x89" + _HOOKS + b"tR"


def _long(number: int) -> bytes:
    return pickle.dumps(number, 2)[2:-1]


def torch_zip(body: bytes, storages: dict[str, bytes] | None = None, how=zipfile.ZIP_STORED):
    """A file of torch.save with this program as its structure."""
    records = {"net/data.pkl": program(body)}
    records |= {f"net/{name}": data for name, data in (storages or {}).items()}
    return zipped(*records.items(), how=how)


def torch_legacy(body: bytes, rest: bytes = b"") -> bytes:
    head = (pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {}))
    return b"".join([*head, program(body), rest])


def state(*tensors: bytes) -> bytes:
    """Opcodes of a state dict of tensors."""
    items = (text(f"w{number}") + body for number, body in enumerate(tensors))
    return _ORDERED + b")R(" + b"".join(items) + b"u"


_STORED = {"data/0": bytes(2**16)}
STRUCTURES: dict[str, Make] = {  # the programs of both of PyTorch's formats
    "stride 0": lambda: state(*[rebuilt("0", 1024, (2**24,), (0,))] * 75),
    "strides 0": lambda: state(*[rebuilt("0", 1024, (2**12, 2**12), (0, 0))] * 75),
    "stride 0 once": lambda: state(rebuilt("0", 1024, (2**40,), (0,))),
    "over and over": lambda: state(*[rebuilt("0", 2**14, (2**14,), (1,))] * 1500),
    "2^62 numbers": lambda: state(rebuilt("0", 2**62, (2**62,), (1,))),
    "2^200 numbers": lambda: state(rebuilt("0", 2**200, (2**100, 2**100), (0, 0))),
    "before the start": lambda: state(rebuilt("0", 1024, (2,), (1,), -4)),
    "no elements": lambda: state(rebuilt("0", 1024, (0, 2**62), (1, 1))),
    "100 axes": lambda: state(rebuilt("0", 1024, (1,) * 100, (1,) * 100)),
    "many axes": lambda: state(rebuilt("0", 1024, (1,) * 20_000, (1,) * 20_000)),
    "a storage above": lambda: state(rebuilt("../../etc/passwd", 4, (4,), (1,))),
    "no storage": lambda: state(rebuilt("7", 4, (4,), (1,))),
    "an odd storage": lambda: state(rebuilt("0\n\x1b[2J", 4, (4,), (1,))),
    "pairs as a storage": lambda: _POP + pairs() + b"Q",
    "pairs as the kind": lambda: (
        b"(" + pairs() + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + whole(4) + b"tQ"
    ),
    "pairs as the key": lambda: (
        b"("
        + text("storage")
        + b"ctorch\nFloatStorage\n"
        + pairs()
        + text("cpu")
        + whole(4)
        + b"tQ"
    ),
    "pairs as the shape": lambda: (
        _TENSOR
        + b"("
        + b"("
        + text("storage")
        + b"ctorch\nFloatStorage\n"
        + text("0")
        + text("cpu")
        + whole(4)
        + b"tQ"
        + whole(0)
        + pairs()
        + b"h\x3c\x89"
        + _HOOKS
        + b"tR"
    ),
    "an ordered dict of pairs": lambda: _ORDERED + b"](" + pairs() + b"K\1\x86e\x85R",
    "a size of text": lambda: _noted(text("x" * 2**16), 2000, b"ctorch\nSize\nh\0\x85R"),
    "a list of text": lambda: _noted(
        text("x" * 2**16), 2000, b"ctorch.jit._pickle\nbuild_intlist\nh\0\x85R"
    ),
    "ordered over and over": lambda: _noted(
        b"](" + b"".join(text(f"k{n}") + b"N\x86" for n in range(4000)) + b"e",
        2000,
        _ORDERED + b"h\0\x85R",
    ),
    "modules in modules": lambda: module(".a\nNet", {"a": module(".a\nNet", {})}) * 2,
    "tensors of tensors": lambda: (
        _TENSOR
        + b"("
        + tensor(0, np.zeros(2))
        + whole(0)
        + sizes([1])
        + sizes([1])
        + b"\x89"
        + _HOOKS
        + b"tR"
    ),
}

_PROGRAMS: dict[str, Make] = {
    **{
        f"zip, {name}": (lambda make=make: torch_zip(make(), _STORED))
        for name, make in STRUCTURES.items()
    },
    **{
        f"legacy, {name}": (
            lambda make=make: torch_legacy(
                make(), pickle.dumps(["0"], 2) + struct.pack("<q", 2**14) + bytes(2**16)
            )
        )
        for name, make in STRUCTURES.items()
    },
    **{f"bare, {name}": make for name, make in PICKLES.items()},
}
TORCH_ARCHIVES: dict[str, Make] = {
    "a packed structure": lambda: torch_zip(state(), how=zipfile.ZIP_DEFLATED),
    "a bomb as structure": lambda: zip_bomb("net/data.pkl", 2**27, b"\x80\x02"),
    "a bomb as storage": lambda: zip_bomb(
        "net/data/0",
        2**29,
        b"",
        [("net/data.pkl", program(state(rebuilt("0", 2**27, (2**27,), (1,)))))],
    ),
    "a packed storage": lambda: torch_zip(
        state(rebuilt("0", 1024, (1024,), (1,))), _STORED, zipfile.ZIP_DEFLATED
    ),
    "encrypted": lambda: lying(torch_zip(state(), _STORED), 8, 1, "<H", 6),
    "packed by method 99": lambda: lying(torch_zip(state(), _STORED), 10, 99, "<H", 8),
    "says 4 GB": lambda: lying(torch_zip(state(), _STORED), 24, 2**32 - 2, "<I", 22),
    "lies elsewhere": lambda: lying(torch_zip(state(), _STORED), 42, 2**31, "<I"),
    "a byte order of 1 MB": lambda: torch_zip(state(), _STORED | {"byteorder": b"l" * 2**20}),
    "no such byte order": lambda: torch_zip(
        state(rebuilt("0", 4, (4,), (1,))), _STORED | {"byteorder": b"\xff\xfe"}
    ),
    "two structures": lambda: zipped(("a/data.pkl", b""), ("b/data.pkl", b"")),
    "the same structure twice": lambda: zipped(("a/data.pkl", b""), ("a/data.pkl", b"")),
    "magic alone": lambda: pickle.dumps(0x1950A86A20F9469CFC6C, 2),
    "a protocol of pairs": lambda: pickle.dumps(0x1950A86A20F9469CFC6C, 2) + program(pairs()),
    "keys of pairs": lambda: torch_legacy(state(), program(b"](" + pairs() + b"e")),
    "keys without end": lambda: torch_legacy(
        state(rebuilt("0", 0, (0,), (1,))), pickle.dumps(["0"] * 10**5, 2) + bytes(8 * 10**5)
    ),
    "2^62 numbers follow": lambda: torch_legacy(
        state(rebuilt("0", 4, (4,), (1,))), pickle.dumps(["0"], 2) + struct.pack("<q", 2**62)
    ),
    "-1 numbers follow": lambda: torch_legacy(
        state(rebuilt("0", 4, (4,), (1,))), pickle.dumps(["0"], 2) + struct.pack("<q", -1)
    ),
    "code": lambda: zipped(("a/data.pkl", program(module(".a\nNet", {}))), ("a/code/x.py", b"")),
}
TORCH: dict[str, Make] = {**_PROGRAMS, **TORCH_ARCHIVES}
# for readers that leave the reading of the file to the one of PyTorch's files
TORCH_FEW: dict[str, Make] = TORCH_ARCHIVES | {
    name: TORCH[name]
    for name in (
        "zip, stride 0",
        "legacy, stride 0",
        "bare, a deep key",
        "bare, pairs as key",
    )
}

# ---------------------------------------------------------------- TensorFlow's checkpoints


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

# ---------------------------------------------------------------- lists, idx, JSON


def idx(*shape: int, data: bytes = b"", packed: bool = False) -> bytes:
    raw = struct.pack(f">I{len(shape)}I", 0x0800 + len(shape), *shape) + data
    return gzip.compress(raw, mtime=0) if packed else raw


def gzip_bomb(size: int, before: bytes) -> bytes:
    packed, crc, length = zeros_deflated(size, before)
    head = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    return head + packed + struct.pack("<II", crc, length % 2**32)


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


def labels(*pairs) -> bytes:
    return json.dumps({"labels": list(pairs)}).encode()


JSON: dict[str, Make] = {  # what is no object of a run nor a table of labels
    "deep": lambda: b"[" * 200_000,
    "deep and closed": lambda: b"[" * 50_000 + b"]" * 50_000,
    "rather deep": lambda: b'{"config": ' * 900 + b"{}" + b"}" * 900,
    "quite deep": lambda: b'{"config": ' * 500 + b"{}" + b"}" * 500,
    "somewhat deep": lambda: b'{"config": ' * 90 + b"{}" + b"}" * 90,
    "deep objects": lambda: b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "a long number": lambda: b'{"step": ' + b"9" * 5000 + b"}",
    "a large number": lambda: b'{"step": 1' + b"0" * 400 + b', "loss/gen": 1' + b"0" * 400 + b"}",
    "infinity": lambda: b'{"step": Infinity, "loss/gen": 1e999}',
    "no number": lambda: b'{"step": NaN, "loss/gen": NaN}',
    "a list": lambda: b"[1, 2]",
    "a text": lambda: b'"text"',
    "null": lambda: b"null",
    "another step": lambda: b'{"step": "x", "loss/gen": 1}',
    "a step that is true": lambda: b'{"step": true, "loss/gen": 1}',
    "no UTF-8": lambda: b'{"step": 1, "loss/\xff": 1}',
    "half a character": lambda: b'{"step": 1, "loss/\\ud800": 1, "kind": "\\udfff"}',
    "mathematics": lambda: b'{"step": 1, "loss/$\\\\frac{$": 1, "$a$/b": 1, "kind": "eval"}',
    "a long name": lambda: b'{"step": 1, "loss/' + b"x" * 10**5 + b'": 1}',
    "many names": lambda: json.dumps({"step": 1} | {f"g{n}/a": 1 for n in range(3000)}).encode(),
    "nothing": lambda: b"",
    "zeros": lambda: bytes(1000),
    "UTF-16": lambda: '{"step": 1}'.encode("utf-16"),
}
DRAWN = {kind: make for kind, make in JSON.items() if kind != "many names"}  # which takes a while
LABELS: dict[str, Make] = {
    **JSON,
    "class 10^8": lambda: labels(["a.png", 10**8]),
    "class 10^400": lambda: b'{"labels": [["a.png", 1' + b"0" * 400 + b"]]}",
    "class -1": lambda: labels(["a.png", -1]),
    "class true": lambda: labels(["a.png", True]),
    "class 0.5": lambda: labels(["a.png", 0.5]),
    "a list as class": lambda: labels(["a.png", [0] * 9999]),
    "a list as name": lambda: labels([[0] * 9999, 0]),
    "labels of text": lambda: b'{"labels": "abcdef"}',
    "labels that are a number": lambda: b'{"labels": 5}',
    "names above": lambda: labels(["../../a.png", 0], ["/etc/passwd", 1]),
    "an odd name": lambda: labels(["a\n\x1b[2J.png", "x"]),
    "a long name": lambda: labels(["a" * 10**5, "x"]),
    "many lists": lambda: b'{"labels": [' + b"[]," * 9_000_000 + b"[]]}",
}
_FACE = "30 40 70 40 50 60 35 80 65 80"
LANDMARKS: dict[str, Make] = {
    "a long line": lambda: b"a " * 2**22,
    "a long word": lambda: b"a" * 2**22,
    "large numbers": lambda: b"a.png " + b" ".join([b"1e308", b"-1e308"] * 5),
    "small numbers": lambda: b"a.png " + b" ".join([b"1e-300"] * 10),
    "a hair's breadth": lambda: b"a.png 1 0 0 0 0 0 0 0 0 0",
    "digits": lambda: b"a.png " + b" ".join([b"9" * 5000] * 10),
    "on a line": lambda: b"a.png " + b" ".join(b"%d 0" % n for n in range(5)),
    "infinity": lambda: b"a.png " + b" ".join([b"inf"] * 10),
    "names above": lambda: f"../../a.png {_FACE}".encode(),
    "no UTF-8": lambda: b"\xff\xfe a.png",
    "an odd name": lambda: b"a\x1b[2J.png 1 2",
    "zeros": lambda: bytes(10**6),
    "nothing": lambda: b"",
}
FACES: dict[str, Make] = {  # lists of identities
    "a label of digits": lambda: b"a.png " + b"9" * 5000,
    "a label 2^31": lambda: b"a.png 2147483648",
    "a long line": lambda: b"a " * 2**20,
    "a long word": lambda: b"a" * 2**20,
    "commas": lambda: b"," * 20_000,
    "spaces": lambda: b"a" + b" " * 20_000 + b"b",
    "spaces and commas": lambda: b"a" + b" ,  " * 5000 + b"b",
    "no UTF-8": lambda: b"\xff\xfe",
    "an odd name": lambda: b"a\x1b[2J.png",
    "names above": lambda: b"../../a.png 0",
    "zeros": lambda: bytes(10**5),
    "nothing": lambda: b"",
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


def _headers(kind: bytes, count: int, size: int) -> bytes:
    """A packed .tar of headers that speak about the next one."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = kind, size
    one = header.tobuf(tarfile.GNU_FORMAT) + bytes(-(-size // 512) * 512)
    return gzip.compress(one * count, 1)


def _sized(size: bytes) -> bytes:
    """A packed .tar of a file whose header says its size in these twelve bytes."""
    raw = bytearray(tarfile.TarInfo("a").tobuf())
    raw[124:136] = size
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    return gzip.compress(bytes(raw) + bytes(1024), 1)


TARS: dict[str, Make] = {
    "names of names": lambda: _headers(tarfile.GNUTYPE_LONGNAME, 1500, 1),
    "headers of headers": lambda: _headers(tarfile.XHDTYPE, 1500, 1),
    "a header of 8 GB": lambda: gzip.compress(tarfile.TarInfo("a").tobuf()[:124] + b"7" * 11),
    "size -1": lambda: _sized(b"\xff" * 12),
    "size 2^63": lambda: _sized(b"\x80" + bytes(3) + b"\x80" + bytes(7)),
    "no number as size": lambda: _sized(b"abcdefghijk\0"),
    "a bomb": lambda: gzip_bomb(2**29, tarfile.TarInfo("a").tobuf()),
    "no gzip": lambda: b"text",
    "nothing": lambda: b"",
}

# ---------------------------------------------------------------- images, alone and in a zip

EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 4 4
(ran) (w) file closefile
showpage
"""


def png_with(kind: bytes, data: bytes, side: int = 4) -> bytes:
    """A PNG of `side` pixels with one more chunk before its pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress((b"\0" + bytes(12)) * 4))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(kind, data) + rows + chunk(b"IEND", b"")


IMAGES: dict[str, Make] = {
    "EPS": lambda: EPS,
    "PDF": lambda: b"%PDF-1.4\n",
    "2^31 pixels square": lambda: png_with(b"tEXt", b"a\0b", 2**31 - 1),
    "30,000 pixels square": lambda: png_with(b"tEXt", b"a\0b", 30_000),
    "a bomb of text": lambda: png_with(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**24))),
    "a bomb of a profile": lambda: png_with(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**24))),
    "a chunk of 2 GB": lambda: png_with(b"tEXt", b"a").replace(
        b"\0\0\0\1tEXt", b"\x7f\xff\xff\xfftEXt"
    ),
    "an empty GIF": lambda: b"GIF89a" + bytes(30),
    "a GIF of 65,535": lambda: b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\2L\1\0;",
    "a bitmap of 2^31": lambda: b"BM"
    + struct.pack("<4I2i2H", 99, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24)
    + bytes(24),
    "a TIFF of tags": lambda: b"II*\0\x08\0\0\0\xff\xff"
    + struct.pack("<HHII", 256, 4, 2**31, 8) * 50,
    "a TIFF in itself": lambda: b"II*\0\x08\0\0\0\x01\0"
    + struct.pack("<HHIII", 330, 4, 1, 8, 8),
    "a WebP of 4 GB": lambda: b"RIFF\xff\xff\xff\xffWEBPVP8L" + bytes(30),
    "an AVIF of nothing": lambda: struct.pack(">I", 24) + b"ftypavif" + bytes(12),
}  # fmt: skip


def picture(side: int = 4) -> bytes:
    return png_with(b"tEXt", b"a\0b")


ZIPS: dict[str, Make] = {
    "names above": lambda: zipped(("../../evil.png", picture()), ("a.png", picture())),
    "names above alone": lambda: zipped(("../evil.png", picture())),
    "an absolute name": lambda: zipped(("/etc/evil.png", picture())),
    "backslashes": lambda: zipped(("..\\..\\evil.png", picture())),
    "deep names": lambda: zipped(("a/" * 20_000 + "a.png", picture())),
    "an odd name": lambda: zipped(("a\n\x1b[2J.png", b"no image")),
    "encrypted": lambda: lying(zipped(("a.png", picture())), 8, 1, "<H", 6),
    "packed by method 99": lambda: lying(zipped(("a.png", picture())), 10, 99, "<H", 8),
    "says 4 GB": lambda: lying(zipped(("a.png", picture())), 24, 2**32 - 2, "<I", 22),
    "lies elsewhere": lambda: lying(zipped(("a.png", picture())), 42, 2**31, "<I"),
    "a bomb": lambda: zip_bomb("a.png", 2**29),
    "a bomb of WebP": lambda: zip_bomb("a.webp", 2**29, b"RIFF\xff\xff\xff\x7fWEBPVP8L"),
    "a bomb of AVIF": lambda: zip_bomb("a.avif", 2**29, struct.pack(">I", 24) + b"ftypavif"),
    "a bomb of labels": lambda: zip_bomb(
        "dataset.json", 2**29, b'{"labels": [', [("a.png", picture())]
    ),
    "EPS": lambda: zipped(("a.png", EPS)),
    "nothing": lambda: zipped(),
    "no zip": lambda: b"PK\3\4 and no more",
    **{
        f"labels: {name}": (
            lambda make=make: zipped(("a.png", picture()), ("dataset.json", make()))
        )
        for name, make in LABELS.items()
    },
}

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


def with_two_loops(folder: Path) -> None:
    """Two links to the folder in itself: 2^n paths of n parts lead somewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("a", "b"):
        (folder / name).symlink_to(".")

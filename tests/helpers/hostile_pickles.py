"""Hostile pickles, alone and in PyTorch's files."""

import pickle
import struct
import zipfile

import numpy as np

from tests.helpers.hostile import Make, lying, zip_bomb, zipped
from tests.helpers.torchscript_files import module, program, sizes, tensor, text, whole

MANY = 130_000  # opcodes in a row: enough to overflow a stack
LEVELS = 60  # pairs of pairs: 2^60 leaves in a few hundred bytes

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

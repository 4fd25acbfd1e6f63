"""Pickles of numpy arrays: genuine, hostile and damaged."""

import builtins
import codecs
import contextlib
import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.interop.formats import numpy_pickle
from tests.helpers.hostile import Call
from tests.helpers.trees import assert_same

BASE = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
ARRAYS = {
    "c order": BASE,
    "fortran order": np.asfortranarray(BASE),
    "turned": BASE.transpose(1, 0, 2),
    "strided": BASE[:, ::2, ::-1],
    "big endian": BASE.astype(">f4"),
    "big endian fortran": np.asfortranarray(BASE.astype(">i8")),
    "read only": np.frombuffer(BASE.tobytes(), np.float32),
    "scalar": np.array(1.5),
    "empty": np.zeros((0, 3), np.float32),
    "many bytes": np.arange(70_000, dtype=np.uint8),
    "complex": np.array([1 + 2j], np.complex64),
    "bool": np.array([True, False]),
    **{name: np.array([0, 1, 100]).astype(name) for name in ("float16", "float64", "int8")},
    **{name: np.array([0, 1, 2**15]).astype(name) for name in ("uint16", "int32", "uint64")},
}


def read_bytes(tmp_path: Path, content: bytes) -> dict:
    (tmp_path / "a.pkl").write_bytes(content)
    return numpy_pickle.read(tmp_path / "a.pkl")


def assert_native(found: dict, expected: dict) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        native = array.astype(array.dtype.newbyteorder("="))
        np.testing.assert_array_equal(found[name], native, strict=True, err_msg=name)
        assert found[name].dtype.isnative, name
        assert found[name].flags.c_contiguous, name
        assert found[name].flags.writeable, name


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_of_every_protocol_are_read(tmp_path, protocol):
    assert_native(read_bytes(tmp_path, pickle.dumps(ARRAYS, protocol)), ARRAYS)
    # one array under two names is not copied into the file twice
    nested = {"a": {"b": {"c": BASE, "d": BASE}, "e": {}}, "ü/ö": BASE[0]}
    assert_same(read_bytes(tmp_path, pickle.dumps(nested, protocol)), nested)


@pytest.mark.parametrize("protocol", [2, 3, 5])
def test_names_of_numpy_1_are_read(tmp_path, protocol):
    content = pickle.dumps({"f": np.asfortranarray(BASE), "c": BASE}, protocol)
    new = b"numpy._core.numeric" if protocol == 5 else b"numpy._core.multiarray"
    assert new in content
    if protocol == 5:  # where names and the whole carry their lengths
        frame = content.index(b"\x95")
        content = content[:frame] + content[frame + 9 :]
        content = content.replace(b"\x13" + new, b"\x12numpy.core.numeric")
    content = content.replace(b"numpy._core.", b"numpy.core.")
    assert b"_core" not in content
    found = read_bytes(tmp_path, content)
    np.testing.assert_array_equal(found["f"], BASE, strict=True)
    np.testing.assert_array_equal(found["c"], BASE, strict=True)


def test_bytes_of_a_bool_are_0_or_1_afterwards(tmp_path):
    content = pickle.dumps({"a": np.array([True, False])}, 4)
    assert b"C\x02\x01\x00" in content
    content = content.replace(b"C\x02\x01\x00", b"C\x02\x07\x00")
    found = read_bytes(tmp_path, content)["a"]
    assert found.view(np.uint8).tolist() == [1, 0]


class Remembered(dict):
    """Any class of a user's."""


HOSTILE = {
    "system": (Call(os.system, "touch ran"), r"asks to run posix\.system"),
    "eval": (Call(builtins.eval, "open('ran', 'w')"), r"asks to run \w+\.eval"),
    "exec": ([1, (Call(builtins.exec, "open('ran', 'w')"),)], r"asks to run \w+\.exec"),
    "getattr": (Call(builtins.getattr, "", "join"), r"asks to run \w+\.getattr"),
    "load": (Call(np.load, "a.pkl", None, True), r"asks to run numpy(\.\w+)*\.load"),
    "path": (Path("x"), r"asks to run pathlib[\w.]*Path"),
    "class": (Remembered(a=1), r"asks to run [\w.]+\.Remembered"),
    "ordered": (OrderedDict(a=1), r"asks to run collections\.OrderedDict"),
    "number": (np.float64(1), r"asks to run numpy\._core\.multiarray\.scalar"),
    "masked": (np.ma.array([1.0]), r"asks to run numpy\.ma\.core\._mareconstruct"),
    "objects": (np.array([None, Call(os.system, "touch ran")]), r"posix\.system|dtype 'O8'"),
    "no objects": (np.array([None, 1]), r"holds an array of dtype 'O8'"),
    "text": (np.array(["a"]), r"holds an array of dtype 'U1'"),
    "bytes": (np.array([b"a"]), r"holds an array of dtype 'S1'"),
    "dates": (np.array(["2020-01-01"], "M8[D]"), r"holds an array of dtype 'M8'"),
    "records": (np.zeros(2, "f4,i4"), r"holds an array of dtype 'V8'"),
    "rot13": (Call(codecs.encode, "open", "rot13"), r"asks to encode a str as 'rot13'"),
    "hex": (Call(codecs.encode, b"open", "hex"), r"asks to encode a bytes as 'hex'"),
    "a list": ([BASE], r"holds a list at 'a/weight'"),
    "a number": (1.5, r"holds a float at 'a/weight'"),
    "a function": (codecs.encode, r"holds a function at 'a/weight'"),
    "a type": (np.ndarray, r"holds a type at 'a/weight'"),
    "a dtype": (np.dtype("f4"), r"holds a dtype at 'a/weight'"),
    "another key": ({1: BASE}, r"holds a dict with a int as key"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickle_with_anything_else_is_refused(tmp_path, monkeypatch, name, protocol):
    monkeypatch.chdir(tmp_path)
    value, message = HOSTILE[name]
    content = pickle.dumps({"a": {"weight": value}}, protocol)
    with pytest.raises(UserError, match=f"({message}).*: refused, nothing was run") as caught:
        read_bytes(tmp_path, content)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "a.pkl") in str(caught.value)
    assert os.listdir(tmp_path) == ["a.pkl"]  # nothing ran


RECONSTRUCT = np._core.multiarray._reconstruct
FROM_BUFFER = np._core.numeric._frombuffer
F4 = np.dtype("f4")


def array(*state, begin=(np.ndarray, (0,), b"b")) -> Call:
    """An array as numpy pickles it, with any state."""
    return Call(RECONSTRUCT, *begin, state=state)


def dtype(code, *state) -> Call:
    return array(1, (1,), Call(np.dtype, code, False, True, state=state), False, bytes(4))


PLAIN = (None, None, None, -1, -1, 0)
ODD = {
    # dtypes that are more than a number
    "object": (dtype("O", 3, "|", *PLAIN), r"holds an array of dtype 'O'"),
    "objects by type": (dtype("|O8", 3, "|", *PLAIN), r"holds an array of dtype '\|O8'"),
    "a list of fields": (dtype([("a", "f4")], 3, "<", *PLAIN), r"holds an array of dtype \[\("),
    "fields in text": (dtype("f4,O", 3, "<", *PLAIN), r"holds an array of dtype 'f4,O'"),
    "no code": (dtype(None, 3, "<", *PLAIN), r"holds an array of dtype None"),
    "long double": (dtype("f16", 3, "<", *PLAIN), r"holds an array of dtype 'f16'"),
    "fields as state": (
        dtype("f4", 3, "<", None, ("a",), {"a": (F4, 0)}, 4, 1, 0),
        r"makes more of dtype 'f4' than numbers",
    ),
    "a base": (dtype("f4", 3, "<", (F4, (2,)), None, None, 8, 4, 0), "makes more of dtype 'f4'"),
    "a size": (dtype("f4", 3, "<", None, None, None, 2**40, 1, 0), "makes more of dtype 'f4'"),
    "flags": (dtype("f4", 3, "<", None, None, None, -1, -1, 63), "makes more of dtype 'f4'"),
    "metadata": (dtype("f4", 4, "<", *PLAIN, {"a": 1}), "makes more of dtype 'f4'"),
    "byte order": (dtype("f4", 3, "=", *PLAIN), "damaged"),
    "no byte order": (dtype("f4", 3, "|", *PLAIN), "damaged"),
    "short state": (dtype("f4", 3), "damaged|makes more"),
    # arrays that are none
    "negative": (array(1, (-1,), F4, False, b""), r"damaged .*shape \(-1,\)"),
    "negative twice": (array(1, (-2, -2), F4, False, bytes(16)), "damaged"),
    "huge": (array(1, (2**40,), F4, False, bytes(16)), r"damaged .*has 16 bytes"),
    "too huge": (array(1, (2**62, 2**62), F4, False, bytes(16)), "damaged"),
    "huge and empty": (array(1, (0, 2**62), F4, False, b""), "damaged"),
    "many axes": (array(1, (1,) * 100, F4, False, bytes(4)), "damaged"),
    "too long": (array(1, (2,), F4, False, bytes(9)), "damaged"),
    "fraction": (array(1, (1.0,), F4, False, bytes(4)), "damaged"),
    "truth": (array(1, (True,), F4, False, bytes(4)), "damaged"),
    "list as shape": (array(1, [1], F4, False, bytes(4)), "damaged"),
    "array as shape": (array(1, BASE, F4, False, bytes(4)), "damaged"),
    "text as bytes": (array(1, (4,), F4, False, "abcd" * 4), "damaged"),
    "list as bytes": (array(1, (1,), F4, False, [1.0]), "damaged"),
    "array as bytes": (array(1, (24,), F4, False, BASE), "damaged"),
    "text as dtype": (array(1, (1,), "f4", False, bytes(4)), "damaged"),
    "type as dtype": (array(1, (1,), np.ndarray, False, bytes(4)), "damaged"),
    "version": (array(2, (1,), F4, False, bytes(4)), "damaged"),
    "short": (array(1, (1,), F4), "damaged"),
    "a dict as state": (Call(RECONSTRUCT, np.ndarray, (0,), b"b", state={"a": 1}), "damaged"),
    "no state": (Call(RECONSTRUCT, np.ndarray, (0,), b"b"), r"holds a bare array at 'a'"),
    "begun large": (array(1, (1,), F4, False, bytes(4), begin=(np.ndarray, (9,), b"b")), "damaged"),
    "begun else": (array(1, (1,), F4, False, bytes(4), begin=(np.dtype, (0,), b"b")), "damaged"),
    "filled twice": (
        Call(FROM_BUFFER, bytes(4), F4, (1,), "C", state=(1, (1,), F4, False, bytes(4))),
        "damaged",
    ),
    # protocol 5
    "buffer of text": (Call(FROM_BUFFER, "abcd", F4, (1,), "C"), "damaged"),
    "buffer and huge": (Call(FROM_BUFFER, bytes(4), F4, (2**40,), "C"), "damaged"),
    "guess a side": (Call(FROM_BUFFER, bytes(4), F4, (-1,), "C"), "damaged"),
    "order": (Call(FROM_BUFFER, bytes(4), F4, (1,), "A"), "damaged"),
    "axes": (Call(FROM_BUFFER, bytes(8), F4, (1, 2), "K", (0, 0)), "damaged"),
    "axes of text": (Call(FROM_BUFFER, bytes(8), F4, (1, 2), "K", "01"), "damaged"),
    # allowed names used for something else
    "state of bytes": (Call(codecs.encode, "a", "latin1", state={"a": 1}), "damaged"),
    "dtype called bare": (Call(np.dtype), "damaged"),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("protocol", [2, 4])
def test_odd_arrays_are_refused(tmp_path, name, protocol):
    value, message = ODD[name]
    with pytest.raises(UserError, match=message) as caught:
        read_bytes(tmp_path, pickle.dumps({"a": value}, protocol))
    assert "\n" not in str(caught.value)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


NDARRAY, DTYPE = b"cnumpy\nndarray\n", b"cnumpy\ndtype\n"
BEGUN = b"cnumpy.core.multiarray\n_reconstruct\n" + NDARRAY + b"K\x00\x85C\x01b\x87R"
ODD_BYTES = {
    # BUILD on what stands for functions and types, in both of its forms
    "alter a function": (
        DTYPE + b"}" + text("call") + b"K\x01sb.",
        "sets attributes of a function",
    ),
    "alter a type": (NDARRAY + b"}" + text("a") + b"K\x01sb.", "sets attributes of a type"),
    "alter by slots": (NDARRAY + b"N}" + text("a") + b"K\x01s\x86b.", "sets attributes of a type"),
    "alter a dict": (b"}}" + text("a") + b"K\x01sb.", "damaged"),
    # calls of what cannot be called, and NEWOBJ, INST and OBJ
    "call a type": (NDARRAY + b"K\x00\x85R.", "damaged"),
    "call text": (text("f4") + b")R.", "damaged"),
    "call an array": (BEGUN + b")R.", "damaged"),
    "new dtype": (DTYPE + text("f4") + b"\x85\x81.", "damaged"),
    "new array": (NDARRAY + b"K\x00\x85\x81.", "damaged"),
    "instance": (b"(inumpy\nndarray\n.", "damaged"),
    "object": (b"(" + NDARRAY + b"o.", "damaged"),
    "system instance": (b"(" + text("touch ran") + b"iposix\nsystem\n.", r"run posix\.system"),
    "a trillion bytes": (b"c__builtin__\nbytes\n\x8a\x06" + bytes(5) + b"\x01\x85R.", "damaged"),
    # parts of an array, of functions, of modules
    "item of an array": (BEGUN + text("a") + b"K\x01s.", "damaged"),
    "append to an array": (BEGUN + b"K\x01a.", "damaged"),
    "inside numpy": (b"cnumpy\nndarray.tofile\n.", r"asks to run numpy\.ndarray\.tofile"),
    "other codecs": (b"c_codecs\nlookup\n.", r"asks to run _codecs\.lookup"),
    # outside references, containers that hold themselves or twofold
    "persistent": (b"Pa\n.", "damaged"),
    "registered": (b"\x82\x01.", "damaged"),
    "buffer": (b"\x97.", "damaged"),
    "self": (b"}q\x00" + text("a") + b"h\x00s.", r"holds the dict at 'a' twice"),
    "twofold": (
        b"}q\x00"
        + b"".join(
            b"}" + text("a") + b"h%cs" % i + text("b") + b"h%cs" % i + b"q%c" % (i + 1)
            for i in range(60)
        )
        + b".",
        r"holds the dict at '(a/)*b' twice",
    ),
    "twofold dtype": (
        b")q\x00"
        + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60))
        + DTYPE
        + b"h%c\x85R." % 60,
        r"holds an array of dtype \(\(\(",
    ),
    "deep": ((b"}" + text("a")) * 50_000 + b"}" + b"s" * 50_000 + b".", "damaged"),
    # what would take memory before anything is checked
    "memo": (b"}r\xff\xff\xff\x7f.", r"damaged .*memo entry 2147483647"),
    "memo in text": (b"}p99999999\n.", r"damaged .*memo entry 99999999"),
    "long bytes": (b"\x8e" + struct.pack("<Q", 2**45) + b"a.", "damaged"),
    "long frame": (b"\x95" + struct.pack("<Q", 2**45) + b"}.", "damaged"),
    # names and keys that would break the line of the message or fill the screen
    "lines": (text("os\n\x1b[2J") + text("sys\ntem") + b"\x93.", r"asks to run os  \[2J\.sys tem"),
    "long": (text("os" * 5000) + text("a") + b"\x93.", "asks to run (os){90}"),
    "opcode": (b"\xff.", "damaged"),
    "nothing": (b"", "damaged"),
    "no value": (b".", "damaged"),
}


@pytest.mark.parametrize("name", ODD_BYTES)
def test_odd_pickles_give_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    content, message = ODD_BYTES[name]
    with pytest.raises(UserError, match=message) as caught:
        read_bytes(tmp_path, b"\x80\x04" + content)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400 + len(str(tmp_path))
    assert os.listdir(tmp_path) == ["a.pkl"]
    # nothing of ours was altered
    assert_native(read_bytes(tmp_path, pickle.dumps(ARRAYS, 2)), ARRAYS)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_damage_never_escapes_as_another_error(tmp_path, protocol):
    content = pickle.dumps({"a": {"b": BASE, "c": BASE.T}, "d": BASE[0, 0].astype(">f2")}, protocol)
    for length in range(len(content)):
        with pytest.raises(UserError, match=r"is (damaged or cut short|not a pickle)|refused"):
            read_bytes(tmp_path, content[:length])
    random = np.random.default_rng(0)
    whole = np.frombuffer(content, np.uint8)
    for _ in range(300):
        damaged = whole.copy()
        damaged[random.integers(whole.size, size=2)] = random.integers(256, size=2)
        with contextlib.suppress(UserError):
            read_bytes(tmp_path, damaged.tobytes())


def test_what_is_no_pickle_of_arrays_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.pkl cannot be read: No such file"):
        numpy_pickle.read(tmp_path / "none.pkl")
    for content in (b"hello", b"", pickle.dumps({"a": 1}, 0)):
        with pytest.raises(UserError, match=r"a\.pkl is not a pickle of protocol 2 or later"):
            read_bytes(tmp_path, content)
    with pytest.raises(UserError, match="holds no dict but a bare array: refused"):
        read_bytes(tmp_path, pickle.dumps(BASE, 4))
    with pytest.raises(UserError, match=r"damaged .*protocol"):
        read_bytes(tmp_path, b"\x80\x63}.")

"""Pickles of numpy arrays, read without running what they ask for.

A pickle is a program: it may name any function of any module and have it called. Arrays need a
few names to be rebuilt. Those are answered here by functions of our own, so that not even numpy's
own run on what a file says; every other name is refused before anything happens.

What a pickled array looks like, by protocol: up to 4, numpy.core.multiarray._reconstruct makes an
empty array, whose state is then set to (version, shape, dtype, Fortran order, bytes), the bytes in
protocol 2 as text in Latin-1; in 5, numpy.core.numeric._frombuffer gets the bytes, the dtype, the
shape and the order, unless the array lies scattered in memory. numpy 2 writes numpy._core.
https://numpy.org/doc/stable/reference/generated/numpy.ndarray.__setstate__.html
"""

import io
import math
import os
import pickle
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gan_jax import files
from gan_jax.errors import UserError, one_line
from gan_jax.interop.formats import pickle_machine

Tree = dict[str, Any]

DTYPES = (
    *("f2", "f4", "f8", "c8", "c16", "b1"),
    *("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"),
)
DEEPEST = 100  # of nested dicts
_LISTED = 200  # characters of what a file says that a message repeats


def read(path: str | os.PathLike[str]) -> Tree:
    """Reads a pickle, of protocol 2 to 5, of nested dicts of numpy arrays.

    Nothing in the file is ever executed. Arrays come in this machine's byte order and in C order,
    and may be written to.

    Returns:
        Nested dicts with text as keys, whose leaves are arrays of a dtype in `DTYPES`.

    Raises:
        UserError: no such file, not a pickle, damaged, or with anything else in it: other Python
            objects, or arrays of objects, text, dates or records.
    """

    def dicts(content: Any) -> Tree:
        if type(content) is not dict:
            raise Refused(f"holds no dict but a {kind_of(content)}")
        return _plain(content, "", set())

    return load(
        Path(path), Unpickler, dicts, "accepted are nested dicts of numpy arrays of numbers"
    )


def load(
    path: Path, unpickler: type["Unpickler"], take: Callable[[Any], Any], accepted: str
) -> Any:
    """What `take` makes of the content of a pickle that `unpickler` reads.

    Whatever goes wrong is a UserError of one line; for Refused it ends with `accepted`.
    """
    try:
        stored = files.read_bytes(path)
        if stored[:1] != pickle.PROTO:
            raise UserError(f"{path} is not a pickle of protocol 2 or later; {accepted}")
        return take(unpickler(len(stored)).load(io.BytesIO(stored)))
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read: {files.reason(error)}") from error
    except Refused as error:
        raise UserError(
            f"{path} {listed(str(error))}: refused, nothing was run; {accepted}"
        ) from None
    except Exception as error:  # a damaged pickle may raise anything
        raise UserError(
            f"{path} is damaged or cut short ({files.reason(error)}); copy or download it again"
        ) from error


class Refused(Exception):
    """A pickle asks for something that it does not get; the text is a sentence about the file."""


class Inert(pickle_machine.Inert):
    """Base of what a pickle may hold: the pickle cannot change anything in it."""

    def __setstate__(self, state: Any) -> None:
        raise Refused(f"sets attributes of a {kind_of(self)}")


class Function(Inert, pickle_machine.Function):
    """Represents a function."""


class _ArrayType(Inert):
    """Represents numpy.ndarray, which files only mention."""


class _Dtype(Inert):
    """A dtype as files describe it: its code first, its byte order as a state set afterwards."""

    def __init__(self, code: Any, *_: Any) -> None:
        if type(code) is not str or code not in DTYPES:
            raise Refused(f"holds an array of dtype {_shown(code)}")
        self._code = code
        self._order: str | None = None

    def __setstate__(self, state: Any) -> None:
        version, order, *rest = state
        # no base, fields or names; size and alignment as the code says; no flags
        if self._order or version != 3 or tuple(rest) != (None, None, None, -1, -1, 0):
            raise Refused(f"makes more of dtype {self._code!r} than numbers")
        if order not in ("<", ">", "|") or (order == "|" and self._code[1:] != "1"):
            raise ValueError(f"dtype {self._code} has byte order {_shown(order)}")
        self._order = order

    def numpy(self) -> np.dtype:
        if self._order is None:
            raise ValueError(f"dtype {self._code} lacks its byte order")
        return np.dtype(self._code).newbyteorder(self._order)


class Array(Inert):
    """An array, empty until its state is set."""

    def __init__(self, numbers: np.ndarray | None = None) -> None:
        self.numbers = numbers

    def __setstate__(self, state: Any) -> None:
        version, shape, dtype, fortran, raw = state
        if self.numbers is not None or version != 1 or type(fortran) not in (bool, int):
            raise ValueError("the state of an array is not what numpy writes")
        self.numbers = numbers_of(raw, dtype, shape, "F" if fortran else "C")


def reconstruct(kind: Any, shape: Any, code: Any) -> Array:
    if not isinstance(kind, _ArrayType) or shape != (0,) or code != b"b":
        raise ValueError("an array is not begun as numpy does")
    return Array()


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> Array:
    if order in ("C", "F") and axes is None:
        return Array(numbers_of(raw, dtype, shape, order))
    whole = type(axes) is tuple and all(type(axis) is int for axis in axes)
    if order != "K" or not whole or sorted(axes) != list(range(len(shape))):
        raise ValueError(f"an array has order {_shown(order)}")
    return Array(np.ascontiguousarray(numbers_of(raw, dtype, shape, "C").transpose(axes)))


def _latin1(text: Any, encoding: Any) -> bytes:
    if type(text) is not str or encoding != "latin1":
        raise Refused(f"asks to encode a {kind_of(text)} as {_shown(encoding)}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


_ALLOWED: dict[tuple[str, str], Inert] = {
    ("numpy", "ndarray"): _ArrayType(),
    ("numpy", "dtype"): Function(_Dtype),
    **{
        (f"numpy.{core}.{module}", name): Function(function)
        for core in ("core", "_core")
        for module, name, function in (
            ("multiarray", "_reconstruct", reconstruct),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
    # how protocol 2 spells bytes, and the bytes of an array without elements
    ("_codecs", "encode"): Function(_latin1),
    ("__builtin__", "bytes"): Function(_no_bytes),
}


class Unpickler(pickle_machine.Machine):
    """Reads arrays and nested containers of them."""

    def find(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise Refused(f"asks to run {module}.{name}, which no array needs") from None

    def weight(self, value: Any) -> int:
        if isinstance(value, Array):
            return 0 if value.numbers is None else value.numbers.nbytes
        return super().weight(value)


def numbers_of(raw: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    """Stored bytes as a C-ordered array [*shape] of our own; `order`: how the bytes lie."""
    if not isinstance(dtype, _Dtype) or type(raw) not in (bytes, bytearray):
        raise ValueError("an array lacks its dtype or its bytes")
    if type(shape) is not tuple or not all(type(n) is int and 0 <= n < 2**63 for n in shape):
        raise ValueError(f"an array has the shape {_shown(shape)}")
    stored = dtype.numpy()
    native = stored.newbyteorder("=")
    if math.prod(shape) * stored.itemsize != len(raw):
        raise ValueError(f"an array {list(shape)} of {native} has {len(raw)} bytes")
    if not raw:
        return np.zeros(shape, native)
    # a byte that is neither 0 nor 1 is no bool to numpy before it is converted
    items = np.frombuffer(raw, np.uint8 if native == np.bool_ else stored)
    return np.array(items.reshape(shape, order=order), native, order="C")


def _plain(tree: dict, place: str, seen: set[int], depth: int = 0) -> Tree:
    """The dicts as the pickle nested them, with arrays as leaves."""
    if depth > DEEPEST:
        raise ValueError("it is nested too deeply")
    if id(tree) in seen:  # nested in pairs, level by level, a short file would never end
        raise Refused(f"holds the dict at {place!r} twice")
    seen.add(id(tree))
    plain: Tree = {}
    for key, value in tree.items():
        if type(key) is not str:
            raise Refused(f"holds a dict with a {kind_of(key)} as key")
        here = f"{place}/{key}" if place else key
        if type(value) is dict:
            plain[key] = _plain(value, here, seen, depth + 1)
        elif isinstance(value, Array) and value.numbers is not None:
            plain[key] = value.numbers
        else:
            raise Refused(f"holds a {kind_of(value)} at {here!r}")
    return plain


def kind_of(value: Any) -> str:
    names = {Function: "function", _ArrayType: "type", _Dtype: "dtype", Array: "bare array"}
    return names.get(type(value), type(value).__name__)


def _shown(value: Any) -> str:
    # shortened: tuples nested in pairs, level by level, would print without end
    return reprlib.repr(value)


def listed(text: str) -> str:
    """Text out of a file as a message may repeat it: one line, not too long."""
    return one_line(text)[:_LISTED].strip()

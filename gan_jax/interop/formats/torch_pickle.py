"""The pickles inside PyTorch files, read without PyTorch and without running what they ask for.

A pickle is a program: it may name any function of any module and have it called. PyTorch's files
need a dozen names to rebuild tensors. Those are answered here by functions of our own, which only
note down what was asked; every other name is refused before anything happens.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from gan_jax.errors import UserError
from gan_jax.interop.formats import pickle_machine
from gan_jax.interop.formats.pickle_machine import Function, Inert, Stateful, key_of

DTYPES: dict[str, np.dtype] = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "int8": np.dtype(np.int8),
    "int16": np.dtype(np.int16),
    "int32": np.dtype(np.int32),
    "int64": np.dtype(np.int64),
    "uint8": np.dtype(np.uint8),
    "bool": np.dtype(np.bool_),
}

# PyTorch's storage classes carry C's names of the types.
STORAGES: dict[str, str] = {
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
}

MOST_AXES = 32
DEEPEST = 150  # of nested containers


@dataclass(frozen=True, eq=False)
class Storage(Inert):
    """A run of numbers stored outside the pickle; `start` and `numel` count elements."""

    key: str
    dtype: np.dtype
    numel: int
    start: int = 0


@dataclass(frozen=True, eq=False)
class Tensor(Inert):
    """A strided window into a storage, all counted in elements of `dtype`."""

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _StorageType(Inert):
    dtype: np.dtype


class Module(Inert):
    """A module of a TorchScript archive: its attributes, none of its code."""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise ValueError("a module's attributes are no dictionary")
        self.attributes = state


class _OrderedDict(dict, Stateful):
    def __setstate__(self, state: Any) -> None:
        """Drops `_metadata`, the version numbers that a module's state dict carries."""


def _ordered(pairs: Any = ()) -> _OrderedDict:
    whole = isinstance(pairs, (list, tuple))
    if not whole or not all(isinstance(p, (list, tuple)) and len(p) == 2 for p in pairs):
        raise ValueError("a dictionary is not made of pairs")
    return _OrderedDict((key_of(key), value) for key, value in pairs)


def _numbers(values: Any = ()) -> tuple:
    if not isinstance(values, (list, tuple)):
        raise ValueError(f"a size is a {type(values).__name__}")
    return tuple(values)


def _listed(values: Any = ()) -> list:
    if not isinstance(values, (list, tuple)):
        raise ValueError(f"a list is a {type(values).__name__}")
    return list(values)


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Storage):
        raise ValueError(f"a tensor's storage is a {type(storage).__name__}")
    return Tensor(storage, storage.dtype, offset, _numbers(size), _numbers(stride))


def _rebuild_tensor_v3(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Tensor:
    tensor = _rebuild_tensor(storage, offset, size, stride)
    _requires_grad, _hooks, dtype, *_ = rest
    if type(dtype) is not str or dtype not in DTYPES:
        raise ValueError("a tensor has no dtype of PyTorch")
    return dataclasses.replace(tensor, dtype=DTYPES[dtype])


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Function(_ordered),
    ("torch", "Size"): Function(_numbers),
    ("torch._utils", "_rebuild_tensor"): Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): Function(_rebuild_tensor_v3),
    ("torch._utils", "_rebuild_parameter"): Function(_rebuild_parameter),
    **{("torch", name): name for name in DTYPES},
    **{
        (module, name): _StorageType(DTYPES[dtype])
        for module in ("torch", "torch.cuda", "torch.storage")
        for name, dtype in STORAGES.items()
    },
}


class _Machine(pickle_machine.Machine):
    def __init__(self, length: int, path: str, modules: bool) -> None:
        super().__init__(length)
        self._path = path
        self._modules = modules
        self.dtypes: dict[str, np.dtype] = {}

    def find(self, module: str, name: str) -> Any:
        if self._modules and f"{module}.".startswith("__torch__."):
            return Module
        if self._modules and module == "torch.jit._pickle" and name in _LISTS:
            return Function(_listed)
        try:
            return _ALLOWED[module, name]
        except KeyError:
            wanted = " ".join(f"{module}.{name}".split())[:200]  # a name may hold line breaks
            raise UserError(
                f"{self._path} asks to run {wanted}, which is not a tensor: refused, "
                "nothing was run; accepted are tensors, numbers and text, so save the network "
                "again as torch.save(network.state_dict(), ...)"
            ) from None

    def refer(self, pid: Any) -> Storage:
        kind, storage_type, key, _, numel, *view = pid if type(pid) is tuple else [None] * 5
        named = type(kind) is str and kind == "storage" and type(key) in (str, int)
        if not named or not isinstance(storage_type, _StorageType):
            raise ValueError("it refers to something that is no storage")
        start = 0
        if view and view[0] is not None:  # files written before PyTorch 1.0 name parts of a storage
            _, start, numel = view[0]
        self.dtypes[str(key)] = storage_type.dtype
        return Storage(str(key), storage_type.dtype, numel, start)


_LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")


def load(
    file: BinaryIO, path: str, dtypes: dict[str, np.dtype] | None = None, modules: bool = False
) -> Any:
    """Reads one pickle from `file`, leaving the position just after it.

    Args:
        file: a seekable binary stream.
        path: what error messages call the file.
        dtypes: filled with every storage's key and dtype.
        modules: whether classes of a TorchScript archive may be named; each becomes a `Module`.

    Returns:
        Nested containers whose leaves are plain values, `Tensor` and `Storage`.

    Raises:
        UserError: the pickle asks for a name outside the short list above.
        Exception: of many kinds, when the pickle is damaged.
    """
    start = file.tell()
    length = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    machine = _Machine(length, path, modules)
    value = machine.load(file)
    if dtypes is not None:
        dtypes.update(machine.dtypes)
    return value


def resolve(value: Any, fetch: Callable[[Storage], np.ndarray], most: int) -> Any:
    """Replaces tensors by arrays, and the containers by plain ones.

    Args:
        value: what `load` returned.
        fetch: the storage's whole run of numbers [M], whose elements start ... start + numel count.
        most: the bytes that all arrays together may have: tensors may share or repeat a storage.

    Raises:
        ValueError: a tensor reaches outside its storage, a container holds itself, there is a leaf
            that is neither a tensor nor a plain value, or the arrays would be larger than `most`.
    """
    return _Resolved(fetch, most).of(value)


class _Resolved:
    """The plain values of what `load` returned, each made once."""

    def __init__(self, fetch: Callable[[Storage], np.ndarray], most: int) -> None:
        self._fetch, self._left, self._most = fetch, most, most
        self._seen: dict[int, Any] = {}

    def of(self, value: Any, depth: int = 0) -> Any:
        if value is None or isinstance(value, bool | int | float | str | bytes):
            return value
        if depth > DEEPEST:
            raise ValueError("it is nested too deeply")
        if id(value) in self._seen:
            if self._seen[id(value)] is ...:
                raise ValueError("a container holds itself")
            return self._seen[id(value)]
        self._seen[id(value)] = ...
        match value:
            case Tensor():
                result = self._window(value)
            case Storage():
                result = self._window(Tensor(value, value.dtype, 0, (value.numel,), (1,)))
            case Module():
                result = self.of(vars(value).get("attributes", {}), depth + 1)
            case Mapping():
                result = {_key(k): self.of(v, depth + 1) for k, v in value.items()}
            case list() | tuple() | set() | frozenset():
                kind = list if isinstance(value, list) else tuple
                result = kind(self.of(v, depth + 1) for v in value)
            case _:
                raise ValueError(f"it holds a {type(value).__name__}, which is no tensor")
        self._seen[id(value)] = result
        return result

    def _window(self, tensor: Tensor) -> np.ndarray:
        storage, shape, strides = tensor.storage, tensor.shape, tensor.strides
        counts = (tensor.offset, storage.start, storage.numel, *shape, *strides)
        if not all(type(n) is int and n >= 0 for n in counts) or len(shape) != len(strides):
            raise ValueError("a tensor has impossible sizes")
        if len(shape) > MOST_AXES:
            raise ValueError(f"a tensor has {len(shape)} axes")
        self._left -= math.prod(shape) * tensor.dtype.itemsize
        if self._left < 0:
            raise ValueError(f"its tensors repeat their storages to more than {self._most:,} bytes")
        return _window(tensor, self._fetch(storage))


def _key(key: Any) -> Any:
    if not isinstance(key, str | int | float | bool | None):
        raise ValueError(f"a dictionary has a {type(key).__name__} as key")
    return key


def _window(tensor: Tensor, stored: np.ndarray) -> np.ndarray:
    """The tensor's own copy of its window [shape] into the stored numbers [M]."""
    storage, shape, strides = tensor.storage, tensor.shape, tensor.strides
    if storage.start + storage.numel > stored.size:
        raise ValueError(f"storage {storage.key} is too short")
    items = stored[storage.start : storage.start + storage.numel]  # [numel]
    if tensor.dtype != items.dtype:  # an untyped storage
        items = items[: items.size // tensor.dtype.itemsize * tensor.dtype.itemsize]
        items = items.view(tensor.dtype)
    if math.prod(shape) == 0:
        return np.zeros(shape, tensor.dtype)
    last = tensor.offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if last >= items.size:
        raise ValueError(f"a tensor reaches outside storage {storage.key}")
    steps = [s * items.itemsize for s in strides]
    return np.array(np.lib.stride_tricks.as_strided(items[tensor.offset :], shape, steps))

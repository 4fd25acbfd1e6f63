"""The pickles inside PyTorch files, read without PyTorch and without running what they ask for.

A pickle is a program: it may name any function of any module and have it called. PyTorch's files
need a dozen names to rebuild tensors. Those are answered here by functions of our own, which only
note down what was asked; every other name is refused before anything happens.
"""

import math
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from gan_jax.errors import UserError
from gan_jax.interop.formats.pickle_guard import check_memo

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

# A tensor may repeat its storage (stride 0): up to here, so that a small file cannot fill memory.
LARGEST_REPEATED = 2**24


class _Inert:
    """Base of what a pickle may hold: the pickle cannot change anything in it."""

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError(f"it sets attributes of {type(self).__name__}")


@dataclass(frozen=True, eq=False)
class Storage(_Inert):
    """A run of numbers stored outside the pickle; `start` and `numel` count elements."""

    key: str
    dtype: np.dtype
    numel: int
    start: int = 0


@dataclass(frozen=True, eq=False)
class Tensor(_Inert):
    """A strided window into a storage, all counted in elements of `dtype`."""

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Function(_Inert):
    """Represents a PyTorch function: an instance, since a pickle can alter a function or class."""

    call: Callable[..., Any]

    def __call__(self, *args: Any) -> Any:
        return self.call(*args)


@dataclass(frozen=True, eq=False)
class _StorageType(_Inert):
    dtype: np.dtype


class Module(_Inert):
    """A module of a TorchScript archive: its attributes, none of its code."""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("a module's attributes are no dictionary")
        self.attributes = state


class _OrderedDict(dict):
    def __setstate__(self, state: Any) -> None:
        """Drops `_metadata`, the version numbers that a module's state dict carries."""


def _rebuild_tensor(storage: Storage, offset: int, size: tuple, stride: tuple, *_: Any) -> Tensor:
    return Tensor(storage, storage.dtype, offset, tuple(size), tuple(stride))


def _rebuild_tensor_v3(storage: Storage, offset: int, size: tuple, stride: tuple, *rest) -> Tensor:
    _requires_grad, _hooks, dtype, *_ = rest
    return Tensor(storage, DTYPES[dtype], offset, tuple(size), tuple(stride))


def _rebuild_parameter(data: Tensor, *_: Any) -> Tensor:
    return data


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Function(_OrderedDict),
    ("torch", "Size"): _Function(tuple),
    ("torch._utils", "_rebuild_tensor"): _Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): _Function(_rebuild_tensor_v3),
    ("torch._utils", "_rebuild_parameter"): _Function(_rebuild_parameter),
    **{("torch", name): name for name in DTYPES},
    **{
        (module, name): _StorageType(DTYPES[dtype])
        for module in ("torch", "torch.cuda", "torch.storage")
        for name, dtype in STORAGES.items()
    },
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, path: str, modules: bool) -> None:
        super().__init__(file, encoding="utf-8")
        self._path = path
        self._modules = modules
        self.dtypes: dict[str, np.dtype] = {}

    def find_class(self, module: str, name: str) -> Any:
        if self._modules and f"{module}.".startswith("__torch__."):
            return Module
        if self._modules and module == "torch.jit._pickle" and name in _LISTS:
            return _Function(list)
        try:
            return _ALLOWED[module, name]
        except KeyError:
            wanted = " ".join(f"{module}.{name}".split())[:200]  # a name may hold line breaks
            raise UserError(
                f"{self._path} asks to run {wanted}, which is not a tensor: refused, "
                "nothing was run; accepted are tensors, numbers and text, so save the network "
                "again as torch.save(network.state_dict(), ...)"
            ) from None

    def persistent_load(self, pid: Any) -> Storage:
        kind, storage_type, key, _, numel, *view = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise pickle.UnpicklingError(f"it refers to something that is no storage: {kind!r}")
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
    check_memo(file)
    file.seek(start)
    unpickler = _Unpickler(file, path, modules)
    value = unpickler.load()
    if dtypes is not None:
        dtypes.update(unpickler.dtypes)
    return value


def resolve(
    value: Any, fetch: Callable[[Storage], np.ndarray], seen: dict[int, Any] | None = None
) -> Any:
    """Replaces tensors by arrays, and the containers by plain ones.

    Args:
        value: what `load` returned.
        fetch: the storage's whole run of numbers [M], whose elements start ... start + numel count.

    Raises:
        ValueError: a tensor reaches outside its storage, a container holds itself, or there is a
            leaf that is neither a tensor nor a plain value.
    """
    seen = {} if seen is None else seen
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    if id(value) in seen:
        if seen[id(value)] is ...:
            raise ValueError("a container holds itself")
        return seen[id(value)]
    seen[id(value)] = ...
    match value:
        case Tensor():
            result = _window(value, fetch(value.storage))
        case Storage():
            whole = Tensor(value, value.dtype, 0, (value.numel,), (1,))
            result = _window(whole, fetch(value))
        case Module():
            result = resolve(vars(value).get("attributes", {}), fetch, seen)
        case Mapping():
            result = {_key(k): resolve(v, fetch, seen) for k, v in value.items()}
        case list() | tuple() | set() | frozenset():
            kind = list if isinstance(value, list) else tuple
            result = kind(resolve(v, fetch, seen) for v in value)
        case _:
            raise ValueError(f"it holds a {type(value).__name__}, which is no tensor")
    seen[id(value)] = result
    return result


def _key(key: Any) -> Any:
    if not isinstance(key, str | int | float | bool | None):
        raise ValueError(f"a dictionary has a {type(key).__name__} as key")
    return key


def _window(tensor: Tensor, stored: np.ndarray) -> np.ndarray:
    """The tensor's own copy of its window [shape] into the stored numbers [M]."""
    storage, shape, strides = tensor.storage, tensor.shape, tensor.strides
    counts = (tensor.offset, storage.start, storage.numel, *shape, *strides)
    if not all(type(n) is int and n >= 0 for n in counts) or len(shape) != len(strides):
        raise ValueError("a tensor has impossible sizes")
    if storage.start + storage.numel > stored.size:
        raise ValueError(f"storage {storage.key} is too short")
    items = stored[storage.start : storage.start + storage.numel]  # [numel]
    if tensor.dtype != items.dtype:  # an untyped storage
        items = items[: items.size // tensor.dtype.itemsize * tensor.dtype.itemsize]
        items = items.view(tensor.dtype)
    elements = math.prod(shape)
    if elements == 0:
        return np.zeros(shape, tensor.dtype)
    last = tensor.offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if last >= items.size:
        raise ValueError(f"a tensor reaches outside storage {storage.key}")
    if elements > max(items.size, LARGEST_REPEATED):
        raise ValueError(f"a tensor repeats storage {storage.key} to {elements} numbers")
    steps = [s * items.itemsize for s in strides]
    return np.array(np.lib.stride_tricks.as_strided(items[tensor.offset :], shape, steps))

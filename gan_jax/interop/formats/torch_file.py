"""PyTorch's checkpoint files, read and written without PyTorch.

Two formats exist. Since PyTorch 1.6: a zip archive NAME/ with `data.pkl` (the structure),
`data/KEY` (raw numbers, one file per storage) and `byteorder`. Before: a stream of pickles (magic
number, protocol, system, structure, storage keys) and then each storage's length and numbers.
Both: https://github.com/pytorch/pytorch/blob/main/torch/serialization.py
"""

import functools
import io
import math
import os
import pickle
import reprlib
import struct
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gan_jax import files, zips
from gan_jax.errors import UserError
from gan_jax.files import replacing
from gan_jax.interop.formats import torch_pickle
from gan_jax.interop.formats.torch_pickle import DTYPES, STORAGES

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
LARGEST_STRUCTURE = 2**28  # bytes of data.pkl; real ones have some hundred per tensor
GROWTH = 4  # how many times longer than the file its tensors may be, which may share storages
ANY_GROWTH = 2**26  # bytes that tensors may have in any case
LONGEST_ORDER = 16  # bytes of the record byteorder
MOST_ATTRIBUTES = 2**18  # of all modules of a TorchScript archive; real ones have ten per layer


def read(path: str | os.PathLike[str], modules: bool = False) -> Any:
    """Reads a `.pth` or `.pt` file of either format.

    Nothing in the file is ever executed. Storages of every device arrive on the host; `bfloat16`
    arrives as ml_dtypes' dtype; parameters are arrays; a `torch.Size` is a tuple, a `torch.dtype`
    its name.

    Args:
        modules: also take a TorchScript archive, what torch.jit.save writes; a module becomes the
            dict of its attributes.

    Returns:
        Nested dicts, lists and tuples of arrays and plain Python values.

    Raises:
        UserError: no such file, not a PyTorch file, damaged, or asking for anything but tensors.
    """
    path = Path(path)
    try:
        with files.opened(path) as file:
            start = file.read(4)
            file.seek(0)
            if start == b"PK\x03\x04":
                return _read_zip(file, str(path), modules)
            if start[:1] == b"\x80":
                return _read_legacy(file, str(path))
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read: {files.reason(error)}") from error
    except Exception as error:  # a damaged pickle or archive may raise anything
        raise UserError(
            f"{path} is damaged or cut short ({files.reason(error)}); copy or download it again"
        ) from error
    raise UserError(f"{path} is not a PyTorch file: expected what torch.save writes")


def state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The named tensors of a file: a bare state dict, or one under "state_dict" or "model".

    The prefix "module." that DataParallel puts before every name is dropped.

    Raises:
        UserError: as `read`, or the file holds something other than that.
    """
    content = read(path)
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path} holds no state dict but a {type(content).__name__}: {_EXPECTED}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            found = f"{name!r} is a {type(value).__name__}, not a tensor"
            raise UserError(f"{path} holds no state dict ({found}): {_EXPECTED}")
    if all(name.startswith("module.") for name in content):
        content = {name.removeprefix("module."): value for name, value in content.items()}
    return content


_EXPECTED = (
    'accepted is torch.save(network.state_dict(), ...), bare or under "state_dict" or "model"'
)


def is_torchscript(path: str | os.PathLike[str]) -> bool:
    """Whether the file is an archive of torch.jit.save: it holds code beside its tensors."""
    try:
        with zips.opened(path) as archive:
            return any(name.split("/")[1:2] == ["code"] for name in archive.namelist())
    except Exception:  # no archive, or a damaged one: `read` says what is wrong with it
        return False


def module_tensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The tensors of a TorchScript archive by their dotted attribute names; its code is not read.

    Raises:
        UserError: as `read`, or the archive holds something other than a module.
    """
    content = read(path, modules=True)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no module but a {type(content).__name__}")
    found = {}
    for count, (name, value) in enumerate(_attributes(content, "")):
        # modules that hold one another twice have 2^depth names
        if count == MOST_ATTRIBUTES:
            raise UserError(f"{path} is damaged: its modules have over {count} attributes")
        if isinstance(value, np.ndarray):
            found[name] = value
    return found


def _attributes(attributes: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in attributes.items():
        yield f"{prefix}{name}", value
        if isinstance(value, dict):
            yield from _attributes(value, f"{prefix}{name}.")


def _read_zip(file: BinaryIO, path: str, modules: bool) -> Any:
    length = _length(file)
    with zipfile.ZipFile(file) as archive:
        zips.check(archive, length)
        names = [n for n in archive.namelist() if n.endswith("/data.pkl") and n.count("/") == 1]
        if len(names) != 1:
            raise UserError(
                f"{path} is a zip archive but not a PyTorch file: it has no NAME/data.pkl"
            )
        folder = names[0].removesuffix("data.pkl")

        def record(name: str, most: int = length) -> bytes:
            info = archive.getinfo(folder + name)
            zips.check_member(info)
            if info.compress_type != zipfile.ZIP_STORED:  # PyTorch never compresses
                raise ValueError(f"{name} is compressed")
            if info.file_size > most:
                raise ValueError(f"{name} has {info.file_size:,} bytes, more than any network's")
            return archive.read(info)

        order = "little"  # what files without the record are
        if folder + "byteorder" in archive.namelist():
            order = record("byteorder", LONGEST_ORDER).decode()

        @functools.cache
        def numbers(key: str, dtype: np.dtype) -> np.ndarray:
            return _numbers(record(f"data/{key}"), dtype, order)

        structure = io.BytesIO(record("data.pkl", LARGEST_STRUCTURE))
        content = torch_pickle.load(structure, path, modules=modules)
        return torch_pickle.resolve(
            content, lambda storage: numbers(storage.key, storage.dtype), _most(length)
        )


def _length(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _most(length: int) -> int:
    return GROWTH * length + ANY_GROWTH


def _read_legacy(file: BinaryIO, path: str) -> Any:
    if torch_pickle.load(file, path) != LEGACY_MAGIC:
        raise UserError(f"{path} is a pickle but not a PyTorch file: its magic number is missing")
    protocol = torch_pickle.load(file, path)
    if protocol != LEGACY_PROTOCOL:
        shown = reprlib.repr(protocol)
        raise UserError(f"{path} has PyTorch protocol {shown}; accepted is {LEGACY_PROTOCOL}")
    torch_pickle.load(file, path)  # the writer's type sizes; the numbers are little-endian anyway
    dtypes: dict[str, np.dtype] = {}  # only the structure knows how wide a storage's elements are
    content = torch_pickle.load(file, path, dtypes)
    keys = torch_pickle.load(file, path)
    size = _length(file)
    stored: dict[str, np.ndarray] = {}
    if type(keys) is not list or not all(type(key) is str and key in dtypes for key in keys):
        raise ValueError("its list of storages is not that of its tensors")
    for key in keys:
        (numel,) = struct.unpack("<q", file.read(8))
        dtype = dtypes[key]
        length = numel * dtype.itemsize
        if not 0 <= length <= size - file.tell():
            raise ValueError(f"the numbers of storage {key} are missing")
        stored[key] = _numbers(file.read(length), dtype, "little")
    if missing := dtypes.keys() - stored.keys():
        raise ValueError(f"the numbers of storage {min(missing)} are missing")
    return torch_pickle.resolve(content, lambda storage: stored[storage.key], _most(size))


def _numbers(raw: bytes, dtype: np.dtype, order: str) -> np.ndarray:
    """Stored bytes as an array [M] in this machine's byte order."""
    if order not in ("little", "big"):
        raise ValueError(f"byte order {order[:20]!r} is unknown")
    raw = raw[: len(raw) // dtype.itemsize * dtype.itemsize]
    items = np.frombuffer(raw, f"u{dtype.itemsize}")
    if order != sys.byteorder:
        items = items.byteswap()
    return items != 0 if dtype == np.bool_ else items.view(dtype)


def write(path: str | os.PathLike[str], state_dict: Mapping[str, np.ndarray]) -> None:
    """Writes a zip-format `.pth` that `torch.load(path, weights_only=True)` reads.

    The same tensors give the same bytes. The file appears whole or not at all.

    Args:
        state_dict: named arrays of the dtypes in `torch_pickle.DTYPES`, of numpy or jax.

    Raises:
        ValueError: a dtype that PyTorch cannot hold.
    """
    path = Path(path)
    arrays = {name: _native(np.asarray(value)) for name, value in state_dict.items()}
    records: dict[str, bytes] = {"data.pkl": _structure(arrays), "byteorder": b"little"}
    for key, array in enumerate(arrays.values()):
        data = array.reshape(-1).view(f"u{array.itemsize}")
        records[f"data/{key}"] = data.astype(data.dtype.newbyteorder("<")).tobytes()
    records["version"] = b"3\n"
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, data in records.items():
            archive.writestr(zipfile.ZipInfo(f"{path.stem}/{name}"), data)  # dated 1980: no clock


def _native(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _structure(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The pickle of an OrderedDict of tensors, the i-th with storage key i.

    Written opcode by opcode: Python's own pickler imports what it names, here PyTorch.
    """
    ordered_dict = b"ccollections\nOrderedDict\n" + pickle.EMPTY_TUPLE + pickle.REDUCE
    parts = [pickle.PROTO + b"\x02", ordered_dict, pickle.MARK]
    for key, (name, array) in enumerate(arrays.items()):
        strides = [math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim)]
        parts += [
            _text(name),
            b"ctorch._utils\n_rebuild_tensor_v2\n",
            pickle.MARK,
            *(pickle.MARK, _text("storage"), f"ctorch\n{_storage(name, array)}\n".encode()),
            *(_text(str(key)), _text("cpu"), _whole(array.size), pickle.TUPLE, pickle.BINPERSID),
            _whole(0),  # offset
            *(pickle.MARK, *map(_whole, array.shape), pickle.TUPLE),
            *(pickle.MARK, *map(_whole, strides), pickle.TUPLE),
            pickle.NEWFALSE,  # requires_grad
            ordered_dict,  # backward hooks
            *(pickle.TUPLE, pickle.REDUCE),
        ]
    return b"".join([*parts, pickle.SETITEMS, pickle.STOP])


def _storage(name: str, array: np.ndarray) -> str:
    for storage, dtype in STORAGES.items():
        if array.dtype == DTYPES[dtype]:
            return storage
    raise ValueError(f"{name}: PyTorch has no {array.dtype}; accepted are {', '.join(DTYPES)}")


def _text(text: str) -> bytes:
    data = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def _whole(number: int) -> bytes:
    if number < 2**31:
        return pickle.BININT + struct.pack("<i", number)
    data = pickle.encode_long(number)
    return pickle.LONG1 + bytes([len(data)]) + data

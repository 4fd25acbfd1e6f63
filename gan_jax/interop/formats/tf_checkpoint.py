"""TensorFlow's checkpoints of format V2, read without TensorFlow.

What tf.train.Saver calls "ckpt-7" are the files ckpt-7.index and ckpt-7.data-00000-of-00001, …: the
index is a table (`sstable`) of a message per variable, in Protocol Buffers' wire format, that says
where its numbers lie. Nothing in the files is ever executed.
https://github.com/tensorflow/tensorflow (core/protobuf/tensor_bundle.proto,
core/util/tensor_bundle/tensor_bundle.h)
"""

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from gan_jax import files
from gan_jax.errors import UserError
from gan_jax.interop.formats import crc32c, sstable
from gan_jax.interop.formats.numpy_pickle import listed

# by the number that types.proto gives them
DTYPES = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    9: np.dtype("<i8"),
    14: np.dtype(ml_dtypes.bfloat16),
    19: np.dtype("<f2"),
}
LARGEST_POINTER = 2**20  # bytes
_POINTER = "checkpoint"  # the text file that names a folder's newest checkpoint
_PARTS = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")
_MOST_AXES = 32


class Variable(NamedTuple):
    """dtype: types.proto's number; shard, offset, size: where its bytes lie; crc: masked."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    sliced: bool


def find(source: str | os.PathLike[str]) -> Path | None:
    """The prefix of the checkpoint that a source names: one itself, one of its files, or a folder
    whose file "checkpoint" names the newest. None for everything else.

    Raises UserError if a folder's file names a checkpoint that is not there.
    """
    if not str(source):
        return None
    path = Path(_PARTS.sub("", str(source)))
    pointer = path / _POINTER
    if os.path.isfile(pointer):
        try:
            text = files.read_bytes(pointer, LARGEST_POINTER).decode("utf-8", "replace")
        except OSError as error:
            raise UserError(f"{pointer} cannot be read: {files.reason(error)}") from error
        named = re.search(r'^\s*model_checkpoint_path\s*:\s*"([^"\n]*)"', text, re.MULTILINE)
        # a folder that was moved still names the old one
        newest = path / (re.split(r"[/\\]", named[1])[-1] if named else "")
        if not named or not os.path.isfile(_index(newest)):
            found = sorted(p.stem for p in path.glob("*.index"))
            raise UserError(
                f"{pointer} names {listed(newest.name) if named else 'nothing'}, which is not in "
                f"that folder; there are {', '.join(found[:5]) or 'no checkpoints'}"
            )
        return newest
    return path if os.path.isfile(_index(path)) else None


def variables(prefix: str | os.PathLike[str]) -> dict[str, Variable]:
    """Every variable of a checkpoint by its name.

    Raises:
        UserError: no such file, not an index of format V2, or damaged.
    """
    return _guarded(_index(prefix), _read_index)[0]


def read(
    prefix: str | os.PathLike[str], wanted: Callable[[str], bool] = lambda name: True
) -> dict[str, np.ndarray]:
    """The variables of a checkpoint whose names are wanted, in the order in which they are stored.

    Returns:
        Arrays of float16, bfloat16, float32, float64, int32 or int64, by name.

    Raises:
        UserError: as `variables`; or a wanted variable is of another kind or stored in slices.
    """
    index = _index(prefix)
    found, shards = _guarded(index, _read_index)
    chosen = {name: variable for name, variable in found.items() if wanted(name)}
    for name, variable in chosen.items():
        if variable.sliced:
            raise UserError(
                f"{index}: variable {listed(name)} is partitioned, stored in slices, which are "
                "not read; save it without a partitioner"
            )
        if variable.dtype not in DTYPES:
            raise UserError(
                f"{index}: variable {listed(name)} has dtype {variable.dtype} of TensorFlow's "
                f"types.proto; accepted are {', '.join(str(d) for d in DTYPES.values())}"
            )
    out = {}
    for shard in sorted({variable.shard for variable in chosen.values()}):
        path = index.with_name(f"{index.stem}.data-{shard:05d}-of-{shards:05d}")
        own = {name: v for name, v in chosen.items() if v.shard == shard}
        out |= _guarded(path, lambda path, own=own: _read_shard(path, own))
    return out


def _index(prefix: str | os.PathLike[str]) -> Path:
    return Path(f"{prefix}.index")


def _guarded(path: Path, call: Callable[[Path], Any]) -> Any:
    try:
        return call(path)
    except sstable.NoTable:
        raise UserError(
            f"{path} is not the index of a TensorFlow checkpoint: expected what tf.train.Saver "
            "writes (format V2)"
        ) from None
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; a checkpoint is all files of its name") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {files.reason(error)}") from error
    except (ValueError, MemoryError) as error:
        raise UserError(
            f"{path} is damaged or cut short ({files.reason(error)}); copy or download it again"
        ) from None


def _read_index(path: Path) -> tuple[dict[str, Variable], int]:
    """(variables by name, number of shards)."""
    found, shards = {}, 0
    for key, value in sstable.entries(files.read_bytes(path)):
        if not key:
            header = _message(value)
            shards = _number(header, 1)
            if _number(header, 2):
                raise ValueError("it was written by a big-endian machine")
        elif key[0]:  # else a slice of a partitioned variable
            found[key.decode("utf-8")] = _variable(value)
    if not 0 < shards < 100_000:
        raise ValueError("it does not say how many data files there are")
    for name, variable in found.items():
        if variable.shard >= shards:
            raise ValueError(f"{name} lies in a data file that does not exist")
    return found, shards


def _variable(value: bytes) -> Variable:
    told = _message(value)
    axes = [axis for shape in told.get(2, []) for axis in _message(shape).get(2, [])]
    shape = tuple(_number(_message(axis), 1) for axis in axes)
    if len(shape) > _MOST_AXES or any(n >= 2**63 for n in shape):
        raise ValueError("a shape in it is impossible")
    dtype, shard, offset, size, crc = (_number(told, field) for field in (1, 3, 4, 5, 6))
    return Variable(dtype, shape, shard, offset, size, crc, sliced=7 in told)


def _read_shard(path: Path, own: dict[str, Variable]) -> dict[str, np.ndarray]:
    out = {}
    with files.opened(path) as file:
        total = file.seek(0, os.SEEK_END)
        if sum(variable.size for variable in own.values()) > total:
            raise ValueError("it is shorter than its variables")
        for name, variable in sorted(own.items(), key=lambda pair: pair[1].offset):
            dtype = DTYPES[variable.dtype]
            if variable.size != math.prod(variable.shape) * dtype.itemsize:
                raise ValueError(f"{name} has another size than its shape")
            if variable.offset + variable.size > total:
                raise ValueError(f"it ends before {name}")
            file.seek(variable.offset)
            raw = file.read(variable.size)
            if crc32c.masked(crc32c.checksum(raw)) != variable.crc:
                raise ValueError(f"the checksum of {name} is wrong")
            out[name] = np.frombuffer(raw, dtype).reshape(variable.shape)
    return out


def _number(message: dict[int, list[Any]], field: int) -> int:
    value = message.get(field, [0])[-1]
    if not isinstance(value, int):
        raise ValueError("a field in it has another type")
    return value


def _message(data: Any) -> dict[int, list[Any]]:
    """The fields of a message by number, each with its values: int, or bytes of a length."""
    if not isinstance(data, bytes):
        raise ValueError("a field in it has another type")
    found: dict[int, list[Any]] = {}
    at = 0
    while at < len(data):
        tag, at = sstable.varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = sstable.varint(data, at)
        elif kind in (1, 2, 5):
            size, at = sstable.varint(data, at) if kind == 2 else (8 if kind == 1 else 4, at)
            if at + size > len(data):
                raise ValueError("a message in it ends too early")
            value = data[at : at + size]
            value = value if kind == 2 else int.from_bytes(value, "little")
            at += size
        else:
            raise ValueError("a message in it has a field of no known type")
        found.setdefault(tag >> 3, []).append(value)
    return found

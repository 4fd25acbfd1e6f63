"""Saved states on disk: finding and reading them.

A state is a folder named after its step. It holds the arrays, a JSON file with the progress of the
run, and checksums of its files, since orbax does not notice a changed byte inside an array.
"""

import contextlib
import errno
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from gan_jax.core.system import PyTree
from gan_jax.errors import UserError
from gan_jax.files import read_json
from gan_jax.patience import patient

try:
    import fcntl
except ImportError:  # Windows has no fcntl
    fcntl = None

SUMS = "checksums.json"  # {path inside the step's folder: [bytes, CRC-32]}
_NUMBER = re.compile("0|[1-9][0-9]*")
# what a file of a state that is damaged answers; a disk that fails says something else
NO_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_STAGE = re.compile("stage(0|[1-9][0-9]*)")


class Damaged(UserError):
    """A saved state that cannot be read, or is not what was written."""


@patient
def states_in(folder: Path) -> dict[int, Path]:
    """The saved states in a folder by step.

    A state is a sub-folder whose name is a number in plain digits, as `save` writes it. Anything
    else ("12.zip", "9 (1)", a file "12", an empty folder) is not a state.
    """
    try:
        numbered = [p for p in Path(folder).iterdir() if _NUMBER.fullmatch(p.name)]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {int(p.name): p for p in sorted(numbered) if _holds_something(p)}


def _holds_something(path: Path) -> bool:
    """Whether this is a folder with something in it; it may be removed at this moment."""
    try:
        return any(path.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return False


def best_states_in(folder: Path) -> dict[tuple[int, int], Path]:
    """The saved states below a run's `best/` by (stage, step)."""
    try:
        stages = [p for p in Path(folder).iterdir() if _STAGE.fullmatch(p.name)]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {
        (int(stage.name.removeprefix("stage")), step): path
        for stage in stages
        for step, path in states_in(stage).items()
    }


@contextlib.contextmanager
def held(state: Path) -> Iterator[None]:
    """Keeps the run that a state belongs to from removing it, as long as the block lasts.

    On a file system without locks it does nothing. Raises FileNotFoundError if the state is not
    there any more.
    """
    if not fcntl:
        yield
        return
    handle = os.open(state, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # no locks here
            fcntl.flock(handle, fcntl.LOCK_SH)
        if os.stat(state).st_ino != os.fstat(handle).st_ino:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(state))
        yield
    finally:
        os.close(handle)


def is_held(state: Path) -> bool:
    """Whether a process reads a state at this moment, see `held`."""
    if not fcntl:
        return False
    handle = os.open(state, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no locks here
        return False
    finally:
        os.close(handle)
    return False


@contextlib.contextmanager
def _hushed():
    """Silences what orbax logs about files that this layout does not have."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


@_hushed()
def read(folder: Path, shapes: PyTree, verified: bool = False) -> tuple[PyTree, dict]:
    """(state, meta) from one checkpoint folder; `verified` says that `verify` has passed it.

    Raises UserError naming the first differing arrays when the saved state has another structure,
    other shapes or dtypes than `shapes`, and Damaged when it is not what was written.
    """
    if not verified:
        verify(folder)
    with ocp.StandardCheckpointer() as reader:
        saved = named(reader.metadata(folder / "state").item_metadata.tree)
        _compare(folder, saved, named(shapes))
        return reader.restore(folder / "state", shapes), read_meta(folder)


def _compare(folder: Path, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raises UserError naming the arrays that differ in presence, dtype or shape."""

    def kind(x: Any) -> str:
        return f"{np.dtype(x.dtype)} {tuple(x.shape)}"

    wrong = [f"{k} is not in the checkpoint" for k in wanted if k not in saved]
    wrong += [f"{k} is not in this model" for k in saved if k not in wanted]
    wrong += [
        f"{k} is {kind(saved[k])} there and {kind(wanted[k])} here"
        for k in wanted
        if k in saved and kind(saved[k]) != kind(wanted[k])
    ]
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise UserError(f"{folder} holds another model: {'; '.join(wrong[:3])}{more}")


@_hushed()
def read_arrays(folder: Path) -> dict[str, np.ndarray]:
    """Every array of a saved state by path, on the host, without knowing its structure.

    Raises Damaged when it is not what was written.
    """
    verify(folder)
    with ocp.StandardCheckpointer() as reader:
        saved = reader.metadata(folder / "state").item_metadata.tree
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        target = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(tuple(x.shape), x.dtype, sharding=device), saved
        )
        tree = reader.restore(folder / "state", target)
    return {name: np.asarray(leaf) for name, leaf in named(tree).items()}


def named(tree: PyTree) -> dict[str, Any]:
    """Leaves by path: {"nets/gen/params/dense/kernel": …}, whatever the containers were."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def unused(path: Path) -> Path:
    """The path, or the first of path-2, path-3, … at which nothing is."""
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found


def read_meta(folder: Path) -> dict:
    """The JSON values that were saved with a state."""
    return read_json(folder / "meta" / "metadata")


def checksums(step: Path) -> dict[str, list[int]]:
    """The size and checksum of each file of a state: {file: [bytes, CRC-32]}."""
    # orbax still changes its own metadata in the folder after this, so only saved items are listed
    files = [f for item in ("state", "meta") for f in sorted((step / item).rglob("*"))]
    return {
        str(file.relative_to(step)): [file.stat().st_size, _crc(file)]
        for file in files
        if file.is_file() and file.name != "commit_success.txt"
    }


def _crc(file: Path) -> int:
    value = 0
    with file.open("rb") as stream:
        while block := stream.read(1 << 24):
            value = zlib.crc32(block, value)
    return value


def verify(step: Path) -> None:
    """Raises Damaged, naming the first file that is missing or was changed since it was written.

    Raises OSError if the disk does not say: the state may be good.
    """
    if not (step / SUMS).exists():
        raise Damaged(f"{step}: {SUMS} is missing")
    try:
        sums = read_json(step / SUMS).items()
        expected = {name: (int(size), int(crc)) for name, (size, crc) in sums}
    except (*NO_FILE, ValueError, TypeError, AttributeError, OverflowError):
        raise Damaged(f"{step / SUMS} is not what was written") from None
    for name, (size, crc) in expected.items():
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise Damaged(f"{step / SUMS} names a file outside of its folder")
        file = step / name
        if not file.is_file():
            raise Damaged(f"{file} is missing")
        if file.stat().st_size != size:
            raise Damaged(f"{file} has {file.stat().st_size} bytes, {size} were written")
        if _crc(file) != crc:
            raise Damaged(f"{file} is not what was written (its checksum differs)")

"""CIFAR-10 in its binary version, which holds no pickles, as one .npz."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gan_jax.data.published import archives
from gan_jax.data.published.description import PublishedSet, RemoteFile
from gan_jax.errors import UserError

SIDE = 32
RECORD = 1 + 3 * SIDE * SIDE  # a label, then the red, green and blue pixels, row by row
CLASSES = 10
FOLDER = "cifar-10-batches-bin"
TRAIN = tuple(f"{FOLDER}/data_batch_{number}.bin" for number in range(1, 6))
TEST = (f"{FOLDER}/test_batch.bin",)
NAMES = f"{FOLDER}/batches.meta.txt"  # the names of the classes, a line each
MOST_NAMES = 1000  # bytes of that file


def cifar10(file: RemoteFile, per_batch: int = 10_000) -> PublishedSet:
    """The set in `file`, whose six batches have `per_batch` images each."""

    def make(files: Mapping[str, Path], target: Path) -> None:
        arrays = read(files[file.name], per_batch)
        with target.open("wb") as out:
            np.savez(out, **arrays)

    return PublishedSet(
        name="cifar10",
        title="CIFAR-10, 50,000 + 10,000 images of 32x32 pixels in 10 classes",
        licence="none is stated; cite Krizhevsky, Learning Multiple Layers of Features from Tiny "
        "Images (2009)",
        page="https://www.cs.toronto.edu/~kriz/cifar.html",
        target="cifar10.npz",
        disk=6 * per_batch * RECORD,
        files=(file,),
        make=make,
        flaw=lambda target: flaw(target, per_batch),
    )


def read(path: Path, per_batch: int) -> dict[str, np.ndarray]:
    """The arrays of the .npz: x_train and x_test uint8 [N, 32, 32, 3], y_train and y_test uint8
    [N], and class_names [10].

    Raises UserError if the archive does not hold the six batches and the names of the classes.
    """
    size = per_batch * RECORD
    wanted = dict.fromkeys((*TRAIN, *TEST), size)
    found: dict[str, bytes] = {}
    with archives.reading(path):
        for name, length, stream in archives.tar_members(path, 7 * size + 2**20, 100):
            most = MOST_NAMES if name == NAMES else wanted.get(name, length)
            if length > most or (name in wanted and length < most):
                raise UserError(f"{path}: {name} has {length:,} bytes; get the archive again")
            if name in (*wanted, NAMES):
                found[name] = stream.read()
    if missing := [name for name in (*wanted, NAMES) if name not in found]:
        raise UserError(f"{path}: {missing[0]} is missing in it; get the archive again")
    names = found[NAMES].decode("ascii", "replace").split()
    if len(names) != CLASSES:
        raise UserError(f"{path}: {NAMES} has {len(names)} names for {CLASSES} classes")
    x_train, y_train = _records(path, b"".join(found[name] for name in TRAIN))
    x_test, y_test = _records(path, found[TEST[0]])
    names = np.array(names)
    return dict(x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test, class_names=names)


def _records(path: Path, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The images [N, 32, 32, 3] and labels [N] in a sequence of records."""
    rows = np.frombuffer(data, np.uint8).reshape(-1, RECORD)
    if rows[:, 0].max() >= CLASSES:
        raise UserError(f"{path}: a label is {rows[:, 0].max()}, but there are {CLASSES} classes")
    images = rows[:, 1:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), rows[:, 0].copy()


def flaw(target: Path, per_batch: int) -> str:
    """What is wrong with an .npz of the set; "" if it is whole."""
    shapes = {
        "x_train": (5 * per_batch, SIDE, SIDE, 3),
        "y_train": (5 * per_batch,),
        "x_test": (per_batch, SIDE, SIDE, 3),
        "y_test": (per_batch,),
    }
    try:
        with np.load(target, allow_pickle=False) as stored:
            for name, shape in shapes.items():
                array = stored[name]  # reads all of it, with its checksum
                if name.startswith("y"):
                    array = array.reshape(-1)
                if array.shape != shape or array.dtype.kind not in "iu":
                    found = f"{array.dtype} {list(array.shape)}"
                    return f"its {name} is {found} and not integers {list(shape)}"
    except KeyError as error:
        return f"it does not hold the arrays of CIFAR-10 ({error.args[0]})"
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        return f"it cannot be read as an .npz ({error})"
    return ""

"""The files that a mode writes into `--out`: apart from what it reads, whole, or one clear line."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gan_jax.errors import UserError
from gan_jax.interop.atomic import replacing
from gan_jax.report import grids
from gan_jax.report.atomic import write_bytes


def check_apart(out: Path, source: Path) -> None:
    """UserError where the files to write would lie among those to read, and replace some."""
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise UserError(
            f"--out={out} lies in --input={source}: name a folder outside it, so that no image is "
            "replaced"
        )


def check_folder(out: str | Path, key: str = "--out") -> Path:
    """The folder `out`, which need not exist yet.

    Raises UserError that names `key` where no file could be written into it, so that it is known
    before any work is done: a read-only or full disk, no permission, a file of this name.
    """
    folder = Path(out)
    try:
        _probe(folder)
    except OSError as error:
        raise _refused(key, folder, error, "folder") from None
    return folder


def check_file(out: str | Path, key: str = "--out") -> Path:
    """The file `out`, as `check_folder`: UserError where it could not be written."""
    path = Path(out)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        _probe(path.parent)
    except OSError as error:
        raise _refused(key, path, error, "file") from None
    return path


def _probe(folder: Path) -> None:
    """OSError where nothing can be written into a folder, or where it would have to be made."""
    place = folder
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{place} is not a folder")
    with tempfile.TemporaryFile(dir=place) as probe:
        probe.write(bytes(4096))
        probe.flush()


def _refused(key: str, path: Path, error: OSError, kind: str) -> UserError:
    return UserError(
        f"{key}: {path} cannot be written ({error.strerror or error}); name another {kind} with "
        f"{key}"
    )


def save(path: Path, data: bytes) -> None:
    """A file of these bytes. UserError where it cannot be written."""
    with writing(path):
        write_bytes(path, data)


def save_png(path: Path, image: np.ndarray) -> None:
    """An image uint8 [H, W, 1 or 3], grey ones as grey. UserError where it cannot be written."""
    with writing(path):
        grids.save_png(path, image if image.shape[-1] == 3 else image[..., 0])


def save_arrays(path: Path, *arrays: np.ndarray, compressed: bool = False, **named) -> None:
    """An .npz of arrays, whole or not at all. UserError where it cannot be written."""
    save = np.savez_compressed if compressed else np.savez
    with writing(path), replacing(path) as temporary, temporary.open("wb") as file:
        save(file, *arrays, **named)


def save_sheet(folder: Path, name: str, picture: np.ndarray) -> Path:
    """A picture uint8 [H, W, 3] of many images, in the folder for sheets below `folder`, where it
    is not taken for one of the images. UserError where it cannot be written."""
    path = folder / grids.SHEET_FOLDER / name
    with writing(path):
        grids.save_sheet(path, picture)
    return path


@contextlib.contextmanager
def writing(path: Path, key: str = "--out", kind: str = "folder") -> Iterator[None]:
    """Makes the file's folder; errors of the system become a UserError that names `key` and asks
    for another folder, or another `kind` of place."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise _refused(key, path, error, kind) from None

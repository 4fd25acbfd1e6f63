"""Writing the files of a mode into `--out`: whole, outside its input, with clear errors.

Of several processes, which all make what is written, only the first writes.
"""

import os
from pathlib import Path

import numpy as np

from gan_jax.core import cluster
from gan_jax.errors import ArgumentError
from gan_jax.files import replacing, write_bytes, write_json, writing
from gan_jax.report import grids


def check_apart(out: Path, source: Path) -> None:
    """Raises ArgumentError if files would be written among those that are read, and replace
    some."""
    inner, outer = (Path(os.path.realpath(place)) for place in (out, source))
    if os.path.isdir(source) and inner.is_relative_to(outer):
        raise ArgumentError(
            "out",
            f"={out} lies in {source}, whose images are read: name a folder outside it, so that no "
            "image is replaced",
        )


def save(path: Path, data: bytes) -> None:
    """Writes a file of these bytes. Raises UserError if it cannot be written."""
    if cluster.is_first():
        with writing(path):
            write_bytes(path, data)


def save_values(path: Path, values: dict) -> None:
    """Writes a file of JSON. Raises UserError if it cannot be written."""
    if cluster.is_first():
        with writing(path):
            write_json(path, values)


def save_png(path: Path, image: np.ndarray) -> None:
    """Writes an image uint8 [H, W, 1 or 3] as grey or RGB. UserError if it cannot be written."""
    if cluster.is_first():
        with writing(path):
            grids.save_png(path, image if image.shape[-1] == 3 else image[..., 0])


def save_arrays(path: Path, *arrays: np.ndarray, compressed: bool = False, **named) -> None:
    """Writes an .npz of arrays, whole or not at all. Raises UserError if it cannot be written."""
    if not cluster.is_first():
        return
    save = np.savez_compressed if compressed else np.savez
    with writing(path), replacing(path) as temporary, temporary.open("wb") as file:
        save(file, *arrays, **named)


def save_sheet(folder: Path, name: str, picture: np.ndarray) -> Path:
    """Writes a picture uint8 [H, W, 3] of many images and returns its path.

    It lies in the folder for sheets below `folder`, so that it is not taken for one of the images.
    Raises UserError if it cannot be written.
    """
    path = folder / grids.SHEET_FOLDER / name
    if cluster.is_first():
        with writing(path):
            grids.save_sheet(path, picture)
    return path

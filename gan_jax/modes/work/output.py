"""The files that a mode writes into `--out`: apart from what it reads, whole, or one clear line."""

from pathlib import Path

import numpy as np

from gan_jax.errors import UserError
from gan_jax.files import replacing, write_bytes, writing
from gan_jax.report import grids


def check_apart(out: Path, source: Path) -> None:
    """UserError where the files to write would lie among those to read, and replace some."""
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise UserError(
            f"--out={out} lies in --input={source}: name a folder outside it, so that no image is "
            "replaced"
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

"""MNIST's idx files: a big-endian header (magic number, one length per axis), then the bytes."""

import contextlib
import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from gan_jax import files
from gan_jax.errors import UserError

_DENSEST = 1032  # bytes for which one byte of a packed file stands at most
MAGIC = {3: 0x00000803, 1: 0x00000801}  # unsigned bytes with that many axes


def read_part(directory: Path, part: str) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Reads the images and labels of `part` ('train' or 't10k') in a directory.

    Returns images uint8 [N, H, W] and labels uint8 [N] (None without a file of labels), or None if
    there are no images. Raises UserError for damaged files and for counts that disagree.
    """
    images_path = _find(directory, f"{part}-images", 3)
    if images_path is None:
        return None
    images = _read(images_path, 3)
    labels_path = _find(directory, f"{part}-labels", 1)
    if labels_path is None:
        return images, None
    labels = _read(labels_path, 1)
    if len(labels) != len(images):
        raise UserError(
            f"{labels_path}: {len(labels)} labels for the {len(images)} images of "
            f"{images_path.name}; fetch both files again"
        )
    return images, labels


def _find(directory: Path, stem: str, axes: int) -> Path | None:
    for name in (f"{stem}-idx{axes}-ubyte", f"{stem}.idx{axes}-ubyte"):  # both spellings exist
        for suffix in ("", ".gz"):
            if (directory / f"{name}{suffix}").is_file():
                return directory / f"{name}{suffix}"
    return None


def _read(path: Path, axes: int) -> np.ndarray:
    try:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(files.opened(path))
            length = os.fstat(file.fileno()).st_size
            if path.suffix == ".gz":
                file = stack.enter_context(gzip.GzipFile(fileobj=file))
                length *= _DENSEST
            return _array(path, file, axes, length)
    except (OSError, EOFError, MemoryError, zlib.error, struct.error) as error:
        raise UserError(f"{path}: damaged ({files.reason(error)}); fetch it again") from error


def _array(path: Path, file: BinaryIO, axes: int, most: int) -> np.ndarray:
    """The array in a stream of at most `most` bytes."""
    header = file.read(4 + 4 * axes)
    magic = int.from_bytes(header[:4], "big")
    if len(header) < 4 + 4 * axes or magic != MAGIC[axes]:
        raise UserError(
            f"{path}: starts with 0x{magic:08x}, an idx file of {axes} axes of bytes with "
            f"0x{MAGIC[axes]:08x}; fetch it again"
        )
    shape = struct.unpack(f">{axes}I", header[4:])
    count = math.prod(shape)
    content = file.read(count) if count <= most else b""
    more = len(content) == count and file.read(1)
    if len(content) < count or more or 0 in shape:
        follow = "more" if more else f"{len(content)}" if count <= most else "fewer"
        raise UserError(
            f"{path}: its header announces {'x'.join(map(str, shape))} bytes, {follow} follow; "
            "fetch it again"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)

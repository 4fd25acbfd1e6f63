"""Opens whatever `--mode=prepare --input` names, for `sharding` and `zipping`.

DIR, FILE.zip, FILE.tar      image files, with the splits and classes of config.data.source=folder
FILE.tar.gz, .tgz, .tar.bz2, .tar.xz   the same; unpacked beside the result while it is made
DIR with data.mdb            an LMDB of image files, as LSUN is published; no classes
tfds:NAME, tfds:NAME:TRAIN, tfds:NAME:TRAIN,VALIDATION   a prepared data set below TFDS_DATA_DIR
"""

import bz2
import contextlib
import gzip
import lzma
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from gan_jax import files
from gan_jax.data import config as config_data
from gan_jax.data.config import Options
from gan_jax.data.sources.arrays import Opened
from gan_jax.data.sources.folders import open_folder
from gan_jax.data.sources.lmdb import is_lmdb, open_lmdb
from gan_jax.data.sources.tfds import open_tfds
from gan_jax.errors import ArgumentError, UserError

TFDS = "tfds:"
LABELS = ("auto", "none", "folder", "prefix", "json")
PACKED = {".tar.gz": gzip.open, ".tgz": gzip.open, ".tar.bz2": bz2.open, ".tar.xz": lzma.open}
UNPACKED = ".unpacked.tar"  # added to the name of the result
LARGEST_GROWTH = 100  # times that an archive of images may be longer unpacked, or
ANY_LENGTH = 2**28  # bytes, in any case
PIECE = 2**22  # bytes that are unpacked at a time


@contextlib.contextmanager
def opened(source: str, labels: str, out: str) -> Iterator[Opened]:
    """The set that `source` names, see the top of this file, for the block that stores it in `out`.

    `labels` is one of LABELS, as config.data.labels.

    Raises ArgumentError of the parameter `source` for a set that cannot be opened.
    """
    packed = next((end for end in PACKED if source.lower().endswith(end)), "")
    unpacked = Path(f"{out.rstrip('/')}{UNPACKED}") if packed and os.path.isfile(source) else None
    try:
        if unpacked:
            _unpack(Path(source), packed, unpacked)
        found = _open(str(unpacked or source), labels)
    except ArgumentError:
        raise
    except UserError as error:  # its message is about config.data
        said = str(error).replace("config.data.labels", "--labels")
        said = said.removeprefix(f"config.data.path={source}: ")
        raise ArgumentError("source", f"={source}: {said}") from error
    yield found
    if unpacked:
        unpacked.unlink()


def _open(source: str, labels: str) -> Opened:
    if source.startswith(TFDS):
        name, _, splits = source.removeprefix(TFDS).partition(":")
        train, _, validation = splits.partition(",")
        split = {"train_split": train or "train", "validation_split": validation}
        place = os.environ.get("TFDS_DATA_DIR", "")
        return open_tfds(_checked(source="tfds", path=place, name=name, labels=labels, **split))
    if is_lmdb(source):
        return open_lmdb(source, "config.data.path")
    return open_folder(_checked(source="folder", path=source, labels=labels))


def _checked(**values: str) -> Options:
    """The section with these values. Raises UserError for values that do not fit each other."""
    return config_data.read(Options(**values))


def _unpack(path: Path, ending: str, target: Path) -> None:
    """Writes the .tar that is packed in a file, unless an interrupted call has done so.

    Raises UserError for a damaged file, and one that grows as no archive of images does.
    """
    if target.exists() and target.stat().st_mtime >= path.stat().st_mtime:
        return
    most = max(ANY_LENGTH, LARGEST_GROWTH * path.stat().st_size)
    with files.writing(target), files.replacing(target) as unfinished:
        _copy(path, ending, unfinished, most)


def _copy(path: Path, ending: str, target: Path, most: int) -> None:
    """Unpacks a file into another. Raises UserError as `_unpack`."""
    with _readable(path), files.opened(path) as file, target.open("wb") as out:
        stream = PACKED[ending](file)
        while data := stream.read(PIECE):
            out.write(data)
            if out.tell() > most:
                raise UserError(f"{path} unpacks to more than {most:,} bytes")


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what the libraries raise in the block for a damaged file into UserError."""
    try:
        yield
    except (gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError, ValueError) as error:
        raise UserError(f"{path} is damaged ({files.reason(error)}); get it again") from error

"""Opens whatever `--mode=prepare --input` names, for `sharding` and `zipping`.

DIR, FILE.zip, FILE.tar      image files, with the splits and classes of config.data.source=folder
FILE.tar.gz, .tgz, .tar.bz2, .tar.xz   the same; unpacked beside the result while it is made
DIR with data.mdb            an LMDB of image files, as LSUN is published; no classes
tfds:NAME, tfds:NAME:TRAIN, tfds:NAME:TRAIN,VALIDATION   a prepared data set below TFDS_DATA_DIR
"""

import bz2
import contextlib
import gzip
import logging
import lzma
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gan_jax import files
from gan_jax.data import config as config_data
from gan_jax.data import sharding
from gan_jax.data.config import Options
from gan_jax.data.header_cache import fingerprint
from gan_jax.data.sources.arrays import Opened
from gan_jax.data.sources.decode import DEEP_BITS
from gan_jax.data.sources.folders import open_folder
from gan_jax.data.sources.lmdb import is_lmdb, open_lmdb
from gan_jax.data.sources.tfds import open_tfds
from gan_jax.errors import ArgumentError, UserError

logger = logging.getLogger(__name__)

TFDS = "tfds:"
LABELS = ("auto", "none", "folder", "prefix", "json")
PACKED = {".tar.gz": gzip.open, ".tgz": gzip.open, ".tar.bz2": bz2.open, ".tar.xz": lzma.open}
UNPACKED = ".unpacked.tar"  # added to the name of the result and a mark of the packed file
LARGEST_GROWTH = 100  # times that an archive of images may be longer unpacked, or
ANY_LENGTH = 2**28  # bytes, in any case
PIECE = 2**22  # bytes that are unpacked at a time


@contextlib.contextmanager
def opened(source: str, labels: str, out: str, deep_bits: int = DEEP_BITS) -> Iterator[Opened]:
    """The set that `source` names, see the top of this file, for the block that stores it in `out`.

    `labels` is one of LABELS, as config.data.labels; `deep_bits` as config.data.deep_bits.

    Raises ArgumentError of the parameter `source` for a set that cannot be opened, and of `out` if
    there is no place to unpack one, or another process unpacks it there.
    """
    with _unpacked(source, out) as place:
        with _about(source, place):
            found = _open(place, labels, deep_bits)
        yield found


@contextlib.contextmanager
def _unpacked(source: str, out: str) -> Iterator[str]:
    """The place to open: `source` itself, or the .tar that is packed in it, unpacked for the block.

    The .tar is removed after the block, also if it ends with UserError. Whatever else ends the
    block, such as Ctrl-C, leaves it for the same call to go on with. Its name says from which file
    it comes, so that no other file's images are ever taken from it.
    """
    packed = next((end for end in PACKED if source.lower().endswith(end)), "")
    if not packed or not os.path.isfile(source):
        yield source
        return
    with _about(source), _readable():
        mark = fingerprint(Path(source), [], True)[:16]
    target = Path(f"{out.rstrip('/')}.{mark}{UNPACKED}")
    with _alone(target, out):
        with _about(source):
            _unpack(Path(source), packed, target)
        try:
            yield str(target)
        except UserError:
            target.unlink(missing_ok=True)
            raise
        except BaseException:
            logger.info(f"{target} is kept: the same call goes on with it; or else remove it")
            raise
        target.unlink()


@contextlib.contextmanager
def _alone(target: Path, out: str) -> Iterator[None]:
    """Only one process at a time may be in the block, and so unpack, use or remove `target`."""
    lock = target.with_name(f"{target.name}.lock")
    with contextlib.ExitStack() as held:
        with files.writing(target):
            held.enter_context(sharding.alone(lock, out))
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows keeps what is open
                lock.unlink()


@contextlib.contextmanager
def _about(source: str, place: str = "") -> Iterator[None]:
    """Turns UserError about the setting config.data into ArgumentError of the parameter `source`;
    `place` is what config.data.path was."""
    try:
        yield
    except ArgumentError:
        raise
    except UserError as error:
        said = str(error).replace("config.data.labels", "--labels")
        said = said.removeprefix(f"config.data.path={place}: ")
        raise ArgumentError("source", f"={source}: {said}") from error


def _open(source: str, labels: str, bits: int) -> Opened:
    if source.startswith(TFDS):
        name, _, splits = source.removeprefix(TFDS).partition(":")
        train, _, validation = splits.partition(",")
        split = {"train_split": train or "train", "validation_split": validation}
        place = os.environ.get("TFDS_DATA_DIR", "")
        named = {"path": place, "name": name, "labels": labels, "deep_bits": bits}
        return open_tfds(_checked(source="tfds", **named, **split))
    if is_lmdb(source):
        return open_lmdb(source, "config.data.path", bits)
    options = _checked(source="folder", path=source, labels=labels, deep_bits=bits)
    return open_folder(options, "deep_bits")


def _checked(**values: Any) -> Options:
    """The section with these values. Raises UserError for values that do not fit each other."""
    return config_data.read(Options(**values))


def _unpack(path: Path, ending: str, target: Path) -> None:
    """Writes the .tar that is packed in a file, unless an interrupted call has done so.

    Raises UserError for a file that is damaged or cannot be read, and for one that grows as no
    archive of images does; ArgumentError of the parameter `out` if the .tar cannot be written.
    """
    if target.exists():
        return
    most = max(ANY_LENGTH, LARGEST_GROWTH * path.stat().st_size)
    with files.writing(target), files.replacing(target) as unfinished, unfinished.open("wb") as out:
        for data in _pieces(path, ending):
            out.write(data)
            if out.tell() > most:
                raise UserError(f"it unpacks to more than {most:,} bytes")


def _pieces(path: Path, ending: str) -> Iterator[bytes]:
    """What is packed in a file. Raises UserError if it is damaged or cannot be read."""
    with _readable(), files.opened(path) as file:
        stream = PACKED[ending](file)
        while data := stream.read(PIECE):
            yield data


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Turns what reading a packed file in the block raises into UserError."""
    try:
        yield
    except (OSError, lzma.LZMAError, zlib.error, EOFError, ValueError) as error:
        # gzip and bz2 raise an OSError without a number for damage
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"it cannot be read ({files.reason(error)})") from error
        raise UserError(f"it is damaged ({files.reason(error)}); get it again") from error

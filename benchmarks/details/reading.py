"""How many images a second are read, decoded and put into batches.

Shards of squares of 256 px by their encoding, and a folder of JPEGs of 500 x 375 px that are
brought to 256, by number and kind of workers. The seconds of processor time are of this process:
what worker processes take is not among them. Batches are not flipped or cropped any more.
"""

import contextlib
import itertools
import sys
import tempfile
from functools import partial
from pathlib import Path

from ml_collections import ConfigDict

from benchmarks import pictures
from benchmarks.details import Detail
from benchmarks.timing import Contender
from gan_jax import data
from gan_jax.data import decoding
from gan_jax.modes.actions.store import store

BATCH = 32
WINDOW = 6  # batches that are timed at a time
AHEAD = 8  # batches before them: those that were made while other contenders ran
PLACES: list[tempfile.TemporaryDirectory] = []  # removed when the process ends


class Stage:
    """Of a stage what the data ask for."""

    batch_size, start = BATCH, 0


def folder() -> Path:
    """A folder that is there until the process ends."""
    PLACES.append(tempfile.TemporaryDirectory())
    return Path(PLACES[-1].name)


def opened(source: str, place: Path, workers: int, way: str = "threads") -> Contender:
    """Windows of batches of squares of 256 px, decoded whenever they are needed."""
    section = ConfigDict(data.defaults())
    section.update(source=source, path=str(place), resolution=256, resize="crop")
    section.update(cache_mb=0, validation_fraction=0.0)
    batches = data.make(section, workers=workers, decoding=way)("train", Stage(), 0)

    def take(count: int) -> None:
        for _ in itertools.islice(batches, count):
            pass

    return Contender(partial(take, WINDOW), before=partial(take, AHEAD), repeats=1)


def shards(workers: int, small: bool) -> dict[str, Contender]:
    """Shards of squares: JPEGs as they are, and what --size makes, by encoding."""
    root, count = folder(), 64 if small else pictures.COUNT
    square = pictures.photos(root / "small", 256, 256, count)
    large = pictures.photos(root / "large", 375, 500, count)
    with contextlib.redirect_stdout(sys.stderr):  # the tables alone go to stdout
        store(square, root / "jpg")
        for encoding in ("webp", "png", "bmp"):
            store(large, root / encoding, 256, encoding=encoding)
    sets = {"jpg, kept": "jpg", "webp": "webp", "png": "png", "bmp": "bmp"}
    return {name: opened("shards", root / place, workers) for name, place in sets.items()}


def decode(small: bool) -> dict[str, Contender]:
    """A folder of JPEGs, by number and kind of workers."""
    place = pictures.photos(folder() / "large", 375, 500, 64 if small else pictures.COUNT)
    cores = decoding.cores()
    ways = {"1 thread": (1, "threads"), f"{cores} threads (auto)": (decoding.AUTO, "auto")}
    ways[f"{cores} processes"] = (cores, "processes")
    return {name: opened("folder", place, *way) for name, way in ways.items()}


DETAILS = (
    Detail(
        "shards_one", "reading", "shards of 256 px, 1 thread", partial(shards, 1), WINDOW * BATCH
    ),
    Detail(
        "shards_all", "reading", "shards of 256 px, a thread for each core",
        partial(shards, decoding.AUTO), WINDOW * BATCH,
    ),
    Detail("decode", "reading", "JPEGs of 500 x 375 px to 256", decode, WINDOW * BATCH),
)  # fmt: skip

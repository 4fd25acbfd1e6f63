"""How many images a second are read, decoded and put into batches.

    python -m benchmarks.data                     shards of 256 px, by encoding
    python -m benchmarks.data --parts=decode      JPEGs of 500 x 375 px, by number of workers

Contenders run in turn, a few batches each, until `seconds` have passed for each of them. The first
number is the fastest of these windows, so that neither a busy machine nor a warm-up favours one of
them. The second is the time of a core for each image, which does not depend on what else the
machine does; what worker processes take is not in it. Images are smooth noise with the detail and
length of photos; batches are not flipped or cropped any more.
"""

import argparse
import io
import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from gan_jax import data
from gan_jax.data import decoding
from gan_jax.modes.actions.store import store

BATCH = 32
WINDOW = 6  # batches that are timed at a time
AHEAD = 8  # batches before them: those that were made while other contenders ran
COUNT = 256  # images
SCALES = ((4, 60), (16, 40), (64, 25), (192, 12))  # points per side, and their contrast


class Stage:
    """Of a stage what the data ask for."""

    batch_size, start = BATCH, 0


def photo(seed: int, height: int, width: int) -> Image.Image:
    """A picture with detail at all scales."""
    rng = np.random.default_rng(seed)
    pixels = 128 + rng.normal(size=(height, width, 1)) * 3
    for points, contrast in SCALES:
        shape = (points * height // width + 1, points, 3)
        coarse = np.clip(128 + rng.normal(size=shape) * contrast, 0, 255).astype(np.uint8)
        fine = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        pixels = pixels + np.asarray(fine) - 128.0
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def photos(folder: Path, height: int, width: int) -> Path:
    """A folder of COUNT JPEGs."""
    folder.mkdir()
    for i in range(COUNT):
        out = io.BytesIO()
        photo(i, height, width).save(out, "JPEG", quality=92)
        (folder / f"{i:05d}.jpg").write_bytes(out.getvalue())
    return folder


def opened(source: str, place: Path, workers: int, way: str = "threads") -> data.Data:
    """A set of squares of 256 px, decoded whenever they are needed."""
    section = ConfigDict(data.defaults())
    section.update(source=source, path=str(place), resolution=256, resize="crop")
    section.update(cache_mb=0, validation_fraction=0.0)
    return data.make(section, workers=workers, decoding=way)


class Contender:
    """One way to read; its fastest window."""

    def __init__(self, made: data.Data) -> None:
        self.batches: Iterator = made("train", Stage(), 0)
        self.rate, self.core = 0.0, float("inf")

    def run(self) -> None:
        """Reads one window."""
        for _ in itertools.islice(self.batches, AHEAD):
            pass
        began, spent = time.perf_counter(), time.process_time()
        for _ in itertools.islice(self.batches, WINDOW):
            pass
        images = WINDOW * BATCH
        self.rate = max(self.rate, images / (time.perf_counter() - began))
        self.core = min(self.core, (time.process_time() - spent) / images)


def race(contenders: dict[str, data.Data], seconds: float) -> None:
    """Prints a line for each contender."""
    ready = {name: Contender(made) for name, made in contenders.items()}
    end = time.perf_counter() + seconds * len(ready)
    while time.perf_counter() < end:
        for contender in ready.values():
            contender.run()
    for name, found in ready.items():
        print(f"{name:38} {found.rate:8.0f} images/s  {1e3 * found.core:6.2f} ms of a core each")


def shards(root: Path, seconds: float) -> None:
    """Shards of squares of 256 px: JPEGs as they are, and what --size makes, by encoding."""
    small, large = photos(root / "small", 256, 256), photos(root / "large", 375, 500)
    store(small, root / "jpg")
    for encoding in ("webp", "png", "bmp"):
        store(large, root / encoding, 256, encoding=encoding)
    sets = {"jpg, kept": "jpg", "webp": "webp", "png": "png", "bmp": "bmp"}
    for workers in (1, decoding.cores()):
        print(f"shards of 256 px, {workers} threads")
        race(
            {name: opened("shards", root / place, workers) for name, place in sets.items()}, seconds
        )


def decode(root: Path, seconds: float) -> None:
    """A folder of JPEGs of 500 x 375 px that are brought to 256, by number and kind of workers."""
    folder, cores = photos(root / "large", 375, 500), decoding.cores()
    ways = {"1 thread": (1, "threads"), f"{cores} threads (auto)": (decoding.AUTO, "auto")}
    ways[f"{cores} processes"] = (cores, "processes")
    race({name: opened("folder", folder, *way) for name, way in ways.items()}, seconds)


PARTS = {"shards": shards, "decode": decode}


def main() -> None:
    """Runs the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default="shards,decode")
    parser.add_argument("--seconds", type=float, default=5.0)
    flags = parser.parse_args()
    for part in flags.parts.split(","):
        with tempfile.TemporaryDirectory() as root:
            PARTS[part](Path(root), flags.seconds)


if __name__ == "__main__":
    main()

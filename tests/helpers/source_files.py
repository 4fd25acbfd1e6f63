"""Files of the sources: idx, single pictures, folders with a class each."""

import gzip
import struct
from functools import partial

import numpy as np
from PIL import Image

from gan_jax.data.sources import decode

RED, GREEN, BLUE = (200, 10, 20), (30, 210, 40), (50, 60, 220)


def write_idx(path, array):
    header = struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wb") as file:
        file.write(header + array.astype(np.uint8).tobytes())


def idx_directory(folder, suffix="", parts=(("train", 12), ("t10k", 5))):
    folder.mkdir(exist_ok=True)
    for part, count in parts:
        images = np.arange(count * 9).reshape(count, 3, 3)
        write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", np.arange(count) % 4)
    return {"source": "idx", "path": str(folder), "resolution": 3}


def picture(path, colour=RED, size=(6, 6), **saving):
    """A picture of one colour; size is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **saving)


def class_folders(root, count=5, shift=0):
    for name, colour in (("cat", RED), ("ant", GREEN)):
        for i in range(count):
            shade = tuple(c + i + shift for c in colour)
            picture(root / name / "deep" / f"{i}.png", shade)
    return {"source": "folder", "path": str(root), "resolution": 6}


def shades(batch):
    """The set of (class, colour of the first pixel)."""
    pixels = map(tuple, batch["image"][:, 0, 0].tolist())
    return set(zip(batch["label"].tolist(), pixels, strict=True))


def class_shades(count=5, shift=0):
    both = enumerate((GREEN, RED))  # ant is class 0, cat is class 1
    return {(k, tuple(c + i + shift for c in rgb)) for k, rgb in both for i in range(count)}


def read(path):
    """(the image, its shape by the header alone)."""
    opener = partial(open, path, "rb")
    return decode.decode(opener, path.name), decode.shape_of(opener, path.name)

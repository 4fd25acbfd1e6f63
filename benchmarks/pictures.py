"""Files with pictures, as the configs of the cases read them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

COUNT = 256  # images of a set
SCALES = ((4, 60), (16, 40), (64, 25), (192, 12))  # points per side, and their contrast


def photo(seed: int, height: int, width: int) -> Image.Image:
    """A picture with detail at all scales, whose JPEG is as long as that of a photo."""
    rng = np.random.default_rng(seed)
    pixels = 128 + rng.normal(size=(height, width, 1)) * 3
    for points, contrast in SCALES:
        shape = (points * height // width + 1, points, 3)
        coarse = np.clip(128 + rng.normal(size=shape) * contrast, 0, 255).astype(np.uint8)
        fine = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        pixels = pixels + np.asarray(fine) - 128.0
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def photos(folder: Path, height: int, width: int, count: int = COUNT) -> Path:
    """A folder of JPEGs."""
    folder.mkdir(parents=True)
    for i in range(count):
        out = io.BytesIO()
        photo(i, height, width).save(out, "JPEG", quality=92)
        (folder / f"{i:05d}.jpg").write_bytes(out.getvalue())
    return folder


def arrays(path: Path, side: int) -> Path:
    """A file .npz of images of noise and their classes, such as that of CIFAR-10."""
    random = np.random.default_rng(0)
    found = {}
    for part, count in (("train", 2000), ("test", 200)):
        shape = (count, side, side, 3)
        found[f"x_{part}"] = random.integers(0, 256, shape).astype(np.uint8)
        found[f"y_{part}"] = np.arange(count, dtype=np.uint8) % 10
    np.savez(path, **found)
    return path


def like(config: ConfigDict, folder: Path) -> dict[str, Any]:
    """Values of `config.data` for a set in `folder` of the kind that the config reads.

    Sets that come with gan_jax stay as they are. Of a folder of photos every image is decoded
    whenever it is needed.
    """
    section = config.data
    if section.source == "npz":
        return {"path": str(arrays(folder / "images.npz", section.resolution))}
    if section.source != "folder":
        return {}
    side = section.resolution
    if section.pairs == "side_by_side":
        size = (side, 2 * side)
        photos(folder / "set" / "val", *size, count=16)
        photos(folder / "set" / "train", *size)
    else:
        photos(folder / "set", side * 3 // 2, side * 2)
    return {"path": str(folder / "set"), "cache_mb": 0}

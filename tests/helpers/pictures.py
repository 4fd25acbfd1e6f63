"""Pictures that are cheap to make."""

from pathlib import Path

import numpy as np
from PIL import Image


def noise(count=7, height=5, width=6, channels=3, seed=0):
    """uint8 [count, height, width, channels], the same for the same seed."""
    shape = (count, height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def squares(count, side=16, seed=0, channels=3):
    """`noise` of equal sides: uint8 [count, side, side, channels]."""
    return noise(count, side, side, channels, seed)


def save(path: Path, image: np.ndarray, mode: str | None = None) -> None:
    """Writes an image [H, W] or [H, W, C] and the folders above it; in another mode if one is
    named."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image)
    (picture.convert(mode) if mode else picture).save(path)

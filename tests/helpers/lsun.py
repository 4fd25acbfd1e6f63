"""A small LMDB as lmdb 3.0.0 has written it: 60 pictures, one of which is too long for its page."""

import lzma
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parents[1] / "golden" / "data" / "lsun.mdb.xz"
COUNT, LONG = 60, 7


def content() -> bytes:
    """The file data.mdb."""
    return lzma.decompress(GOLDEN.read_bytes())


def picture(i: int) -> np.ndarray:
    """The picture under the key of number i, uint8 [H, W, 3]."""
    if i == LONG:
        return np.random.default_rng(i).integers(0, 256, (50, 40, 3), np.uint8)
    return np.full((6, 6, 3), (i, 2 * i, 255 - i), np.uint8)

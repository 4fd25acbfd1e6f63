"""From an image file to a uint8 array: what is done with orientation, palettes, alpha and depth.

- EXIF orientation is applied, so an image has the shape a viewer shows.
- Grey files (1-bit, 8-bit, 16-bit, grey with alpha) become one channel; everything else, palettes
  included, becomes RGB.
- Alpha is dropped plainly: the stored colour is kept, nothing is composed onto a background.
- 16 bits per channel become 8 by keeping the high byte. Of an animation the first frame counts.
"""

import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

GREY_MODES = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I", "F")
ORIENTATION = 0x0112  # EXIF tag; 5..8 swap height and width

# Everything Pillow and zipfile were seen to raise on files that are not whole.
READ_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    KeyError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    Image.DecompressionBombError,
)


class UnreadableError(Exception):
    """One image could not be read; the message names it."""


def shape_of(open_file: Callable[[], BinaryIO], name: str) -> tuple[int, int, int]:
    """(height, width, channels) as `decode` will give them, from the header alone.

    Raises UnreadableError, naming the image, when there is no such header.
    """
    try:
        with open_file() as file, Image.open(file) as image:
            width, height = image.size
            # Pillow would decode a whole PNG to look for EXIF behind the pixels.
            if (image.format != "PNG" or "exif" in image.info) and image.getexif().get(
                ORIENTATION, 1
            ) in (5, 6, 7, 8):
                width, height = height, width
            return height, width, 1 if image.mode in GREY_MODES else 3
    except READ_ERRORS as error:
        raise UnreadableError(_message(name, error)) from error


def decode(open_file: Callable[[], BinaryIO], name: str) -> np.ndarray:
    """Decodes an image file to uint8 [H, W, 1] (grey files) or [H, W, 3] (all others).

    Raises UnreadableError, naming the image, when the file is damaged or not an image.
    """
    try:
        with open_file() as file, Image.open(file) as image:
            image = ImageOps.exif_transpose(image)  # loads the pixels
            if image.mode not in GREY_MODES:
                return np.asarray(image.convert("RGB"))
            if image.mode.startswith(("I", "F")):
                deep = np.asarray(image).astype(np.int64)
                return (np.clip(deep, 0, 65535) >> 8).astype(np.uint8)[:, :, None]
            return np.asarray(image.convert("L"))[:, :, None]
    except READ_ERRORS as error:
        raise UnreadableError(_message(name, error)) from error


def to_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """uint8 [H, W, 1..4] → [H, W, channels]: alpha dropped, luma by ITU-R 601-2, grey repeated."""
    colours = {1: 1, 2: 1, 3: 3, 4: 3}[image.shape[2]]
    image = image[:, :, :colours]
    if colours == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=2)
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).convert("L"))[:, :, None]


def _message(name: str, error: Exception) -> str:
    reason = "not an image Pillow knows" if "cannot identify" in str(error) else str(error)
    return f"{name} ({' '.join(reason.split())})"

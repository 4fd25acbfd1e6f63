"""From an image file to a uint8 array: the handling of orientation, palettes, alpha and depth.

- Only the formats of FORMATS are opened, whatever the name of a file: for some other formats Pillow
  would start another program (Ghostscript for EPS).
- EXIF orientation is applied, so an image has the shape that a viewer shows.
- Grey files (1-bit, 8-bit, 16-bit, grey with alpha) become one channel; everything else, palettes
  included, becomes RGB.
- Alpha is simply dropped: the stored colour is used, nothing is composed onto a background.
- Of 16 bits per channel the highest 8 are used; if grey files use fewer than 16 bits, `bits` says
  how many. Of an animation the first frame is used.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import BinaryIO

import numpy as np
from PIL import Image, features

from gan_jax import files

FORMATS = {  # Pillow's name of each format that is read: the endings of its files
    "JPEG": ("jpg", "jpeg", "jpe", "jfif"),
    "PNG": ("png",),
    "GIF": ("gif",),
    "WEBP": ("webp",),
    "BMP": ("bmp",),
    "TIFF": ("tif", "tiff"),
    **({"AVIF": ("avif",)} if features.check("avif") else {}),
}
EXTENSIONS = tuple(extension for group in FORMATS.values() for extension in group)
GREY_MODES = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I", "F")
DEEP_BITS = 16  # of grey files with more than 8
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # TIFF tag, and its value in files that store white as 0
ORIENTATION = 0x0112  # EXIF tag; 5..8 swap height and width
TAGS = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")  # where PNG may have it
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
GREY_ALPHA_16 = "LA;16B"  # Pillow's name for raw pixels of a PNG
SIXTEEN = ";16"  # part of Pillow's names for raw pixels of 16 bits, which it reduces to 8
# Pillow warns about odd tags and large photographs, which do no harm
warnings.filterwarnings("ignore", module=r"PIL\.")
# and logs what is in the message of an error as well
logging.getLogger("PIL").setLevel(logging.CRITICAL)

MARK = ("gan_jax", "sheet")  # PNG text that marks a sheet, a picture of many images

OpenFile = Callable[[], BinaryIO]


class UnreadableError(Exception):
    """One image could not be read; the message names it."""


def shape_of(open_file: OpenFile, name: str) -> tuple[int, int, int]:
    """(height, width, channels) of the result of `decode`, from the header alone.

    Raises an UnreadableError that names the image if it has no such header.
    """
    with _opened(open_file, name) as image:
        width, height = image.size
        # Pillow would decode a whole PNG to look for tags after the pixels
        if (image.format != "PNG" or any(k in image.info for k in TAGS)) and (
            _orientation(image) >= 5
        ):
            width, height = height, width
        return height, width, 1 if _is_grey(image) else 3


def decode(open_file: OpenFile, name: str, bits: int = DEEP_BITS) -> np.ndarray:
    """Decodes an image file to uint8 [H, W, 1] (grey files) or [H, W, 3] (all others).

    Grey values of more than 8 bits are expected in 0..2**bits - 1; larger ones become white.

    Raises an UnreadableError that names the image if the file is damaged or not an image.
    """
    with _opened(open_file, name) as image:
        grey = _is_grey(image)  # which is not known any more once it is loaded
        image.load()
        turned = _turned(image)
        if turned.mode not in GREY_MODES:
            colours = np.asarray(turned if turned.mode == "RGB" else turned.convert("RGB"))
            return colours[:, :, :1] if grey else colours
        if turned.mode == "F":
            raise ValueError("floating-point pixels are not read: save it with 8 or 16 bits")
        if _is_deep(turned):
            deep = np.asarray(turned).astype(np.int64)
            # Pillow turns these around with 8 bits, and not with more
            if image.format == "TIFF" and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO:
                deep = 2**bits - 1 - deep
            return (np.clip(deep, 0, 2**bits - 1) >> (bits - 8)).astype(np.uint8)[:, :, None]
        return np.asarray(turned.convert("L"))[:, :, None]


def reader(content: bytes, name: str, bits: int = DEEP_BITS) -> Callable[[], np.ndarray]:
    """A function that decodes the file whose bytes are `content`, see `decode`, in any process."""
    return partial(decode, partial(io.BytesIO, content), name, bits)


def deepest(open_file: OpenFile, name: str) -> tuple[int, bool]:
    """(largest value of an image with 16 bits per channel, whether `bits` of `decode` scales it).

    Only grey images without alpha are scaled: for others Pillow only returns the high byte. For an
    image of 8 bits the result is (0, False).

    Raises UnreadableError as `decode` does.
    """
    with _opened(open_file, name) as image:
        if _is_deep(image):
            return int(np.asarray(image).max()), True
        if not any(SIXTEEN in str(tile.args) for tile in image.tile):
            return 0, False
        depth = 1 if _is_grey(image) else 3  # before the pixels are loaded
        colours = np.asarray(image)[..., :depth]
        return 256 * int(colours.max()) + 255, False


def is_sheet(open_file: OpenFile) -> bool:
    """Whether a file is one of the sheets that gan_jax writes beside images."""
    try:
        with open_file() as file, Image.open(file, formats=("PNG",)) as image:
            return image.info.get(MARK[0]) == MARK[1]
    except Exception:  # a file that cannot be read is not a sheet
        return False


@contextlib.contextmanager
def _opened(open_file: OpenFile, name: str) -> Iterator[Image.Image]:
    """An image file opened by Pillow; every error in the block becomes an UnreadableError.

    Pillow and zipfile raise a dozen kinds of errors for files that are damaged, odd or encrypted.
    """
    try:
        with open_file() as file, Image.open(file, formats=list(FORMATS)) as image:
            yield image
    except Exception as error:
        raise UnreadableError(_message(name, error)) from error


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 if there is none or it is not valid.

    Other tags are not read, so odd ones do no harm. Pillow itself turns a TIFF.
    """
    if image.format == "TIFF":
        return 1
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # tags that cannot be parsed at all
        return 1
    return found if found in TURNS else 1


def _turned(image: Image.Image) -> Image.Image:
    turn = TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _is_grey(image: Image.Image) -> bool:
    """Whether an image that has been opened and not yet loaded is grey, with alpha or without."""
    # Pillow reads a PNG of grey and alpha with 16 bits as RGBA
    with_alpha = any(tile.args == GREY_ALPHA_16 for tile in image.tile)
    return image.mode in GREY_MODES or (image.format == "PNG" and with_alpha)


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith(("I", "F"))


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
    reason = files.reason(error)
    if "decompression bomb" in reason:
        reason = f"more than {2 * Image.MAX_IMAGE_PIXELS // 10**6} million pixels: make it smaller"
    if "cannot identify" in reason:
        reason = f"not an image of a format that is read: {', '.join(FORMATS)}"
    return f"{name} ({reason})"

"""Videos as animated .gif files.

As in video.py, each frame is compressed at once by Pillow, as a still picture, and put into the
container here. The container is described at https://www.w3.org/Graphics/GIF/spec-gif89a.txt.
"""

import io
import os
import struct
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

from gan_jax import files
from gan_jax.report import video

LARGEST = 16383  # pixels a side, as of a .webp; the format itself would take four times as many
SHORTEST = 2  # hundredths of a second; browsers show what is shorter for a tenth of a second
LONGEST = 2**16 - 1  # hundredths of a second
COLOURS = 256
HEADER = 13  # bytes: the signature, and the size of the canvas
TABLE, TABLE_SIZE = 0x80, 0x07  # bits: there is a table of colours, and how large it is
IMAGE, EXTENSION, END = 0x2C, 0x21, 0x3B  # the first bytes of the blocks
KEPT = 0x04  # a frame stays where it is until the next one covers it
FOR_EVER = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"


def save(path: str | os.PathLike[str], frames: Iterable[tuple[np.ndarray, int]]) -> int:
    """Writes frames as an endless animation; the file is written whole or not at all.

    Every frame gets the 256 colours that suit it best, with the rest of each pixel's colour spread
    over its neighbours; a frame that has no more colours keeps them. Times are hundredths of a
    second, at least two: they are rounded so that every frame ends as nearly as possible where it
    should.

    Args:
      path: the .gif file.
      frames: as in `video.save`.

    Returns the number of frames. Raises ValueError and OSError as `video.save` does.
    """
    blocks, sides, count = [], b"", 0
    ended = shown = 0  # milliseconds that are over, and hundredths of a second that are written
    for frame, milliseconds in video.checked(frames, "gif", LARGEST):
        ended += milliseconds
        rest = max(round(ended / 10) - shown, SHORTEST)
        shown += rest
        sides = struct.pack("<HH", frame.shape[1], frame.shape[0])
        block = _frame(frame)
        for part in _parts(rest):
            blocks += [struct.pack("<BBBBHBB", EXTENSION, 0xF9, 4, KEPT, part, 0, 0), block]
        count += 1
    screen = sides + b"\0\0\0"  # no colours that all frames share
    files.write_bytes(path, b"".join([b"GIF89a", screen, FOR_EVER, *blocks, bytes([END])]))
    return count


def _parts(time: int) -> Iterator[int]:
    """A time in parts of at most LONGEST, none of which is below SHORTEST."""
    while time > LONGEST:
        yield LONGEST - SHORTEST
        time -= LONGEST - SHORTEST
    yield time


def _frame(frame: np.ndarray) -> bytes:
    """The block of one frame: its place, its colours and its compressed pixels."""
    buffer = io.BytesIO()
    _in_few_colours(frame).save(buffer, format="GIF", interlace=0)
    data = buffer.getvalue()
    flags = data[10]
    colours = 3 * 2 ** ((flags & TABLE_SIZE) + 1) if flags & TABLE else 0
    table, place = data[HEADER : HEADER + colours], HEADER + colours
    while data[place] == EXTENSION:
        place += 2  # the kind of the extension follows its first byte
        while data[place]:  # a part begins with its length; the last has none
            place += 1 + data[place]
        place += 1
    # the descriptor ends with flags, which say here that the table comes next
    descriptor = data[place : place + 9] + bytes([TABLE | (flags & TABLE_SIZE)])
    return descriptor + table + data[place + 10 : -1]


def _in_few_colours(frame: np.ndarray) -> Image.Image:
    """A frame as a picture of at most 256 colours."""
    picture = Image.fromarray(frame)
    chosen = picture.quantize(COLOURS)
    if picture.getcolors(COLOURS):  # there are no more: each pixel has its own colour already
        return chosen
    return picture.quantize(palette=chosen, dither=Image.Dither.FLOYDSTEINBERG)

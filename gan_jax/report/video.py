"""Videos as animated .webp files, which every browser shows without a player, and what all videos
have in common; .gif and .mp4 files are written by video_gif.py and video_mp4.py.

Pillow's own writer of animations needs all frames as pixels in memory. Here each frame is
compressed at once, as a still picture, so memory holds a single frame and the file. The container
is described at https://developers.google.com/speed/webp/docs/riff_container.
"""

import io
import os
import struct
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gan_jax import files

LARGEST = 16383  # the format's largest side in pixels
LONGEST = 2**24 - 1  # the format's longest time of a frame in milliseconds
ANIMATION, NO_BLENDING = 0x02, 0x02  # bits of the whole file's and of a frame's flags
METHOD = 2  # 0 is fastest, 6 smallest; beyond 2 the size hardly changes
NARROWEST = 200  # pixels that a caption needs


def save(
    path: str | os.PathLike[str], frames: Iterable[tuple[np.ndarray, int]], quality: int = 85
) -> int:
    """Writes frames as an endless animation; the file is written whole or not at all.

    Args:
      path: the .webp file.
      frames: uint8 [H, W, 3] of one size, each with the milliseconds for which it is shown; they
        are consumed one by one.
      quality: that of lossy compression, 0 to 100.

    Returns the number of frames.

    Raises:
      ValueError: no frames, another shape or dtype, sides above 16383 pixels, or a time that is
        not between 1 and 16777215 milliseconds.
      OSError: the file cannot be written.
    """
    chunks, shape = [], ()
    for frame, milliseconds in checked(frames, "webp", LARGEST):
        shape = frame.shape
        chunks.append(_frame(frame, milliseconds, quality))
    sizes = _three(shape[1] - 1) + _three(shape[0] - 1)
    white_for_ever = struct.pack("<IH", 0xFFFFFFFF, 0)  # background colour; repetitions, 0: endless
    body = b"".join(
        [
            b"WEBP",
            _chunk(b"VP8X", struct.pack("<I", ANIMATION) + sizes),
            _chunk(b"ANIM", white_for_ever),
            *chunks,
        ]
    )
    files.write_bytes(path, _chunk(b"RIFF", body))
    return len(chunks)


def checked(
    frames: Iterable[tuple[np.ndarray, int]], name: str, largest: int
) -> Iterator[tuple[np.ndarray, int]]:
    """The frames themselves, one by one, of a format called `name` with sides up to `largest`.

    Raises ValueError as `save` does.
    """
    shape = ()
    for frame, milliseconds in frames:
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[-1] != 3:
            raise ValueError(f"frames are uint8 [H, W, 3], not {frame.dtype} {frame.shape}")
        if max(frame.shape) > largest:
            raise ValueError(
                f"frames of {frame.shape}: {name} takes at most {largest} pixels a side"
            )
        if shape and frame.shape != shape:
            raise ValueError(f"frames have one size: {shape}, and here {frame.shape}")
        if not 1 <= milliseconds <= LONGEST:
            raise ValueError(f"a frame of {milliseconds} ms: {name} takes from 1 to {LONGEST}")
        shape = frame.shape
        yield frame, milliseconds
    if not shape:
        raise ValueError("there are no frames to write")


def _frame(frame: np.ndarray, milliseconds: int, quality: int) -> bytes:
    """One frame that covers the whole canvas."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="WEBP", quality=quality, method=METHOD)
    picture = buffer.getvalue()[12:]  # without "RIFF", a size and "WEBP"
    height, width, _ = frame.shape
    numbers = (0, 0, width - 1, height - 1, milliseconds)
    head = b"".join(map(_three, numbers)) + bytes([NO_BLENDING])
    return _chunk(b"ANMF", head + picture)


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _three(number: int) -> bytes:
    return number.to_bytes(3, "little")


def captioned(picture: np.ndarray, text: str, room: str, progress: float) -> np.ndarray:
    """A picture with a line below it, white on black: a text, and a progress bar.

    Args:
      picture: uint8 [H, W, 3]; black is added at its sides if it is too narrow for the line.
      text: the text of the line.
      room: the longest text of any frame in the video, after which the bar begins in every frame.
      progress: how far the bar is filled, 0 to 1.

    Returns uint8 [H', W', 3].
    """
    height, width, _ = picture.shape
    full = max(width, NARROWEST)
    size = max(14, round(full / 50))  # legible even if a large picture is shown smaller
    font = ImageFont.load_default(size)
    line, gap = round(1.7 * size), round(0.6 * size)
    canvas = Image.new("RGB", (full, height + line))
    canvas.paste(Image.fromarray(picture), ((full - width) // 2, 0))
    draw, middle = ImageDraw.Draw(canvas), height + line / 2
    draw.text((gap, middle), text, fill="white", font=font, anchor="lm")
    left = round(2 * gap + max(font.getlength(room), font.getlength(text)))
    right, half = full - gap - 1, size / 4
    if right - left > size:
        draw.rectangle((left, middle - half, right, middle + half), outline=(110, 110, 110))
        end = left + round(min(max(progress, 0.0), 1.0) * (right - left))
        draw.rectangle((left, middle - half, end, middle + half), fill="white")
    return np.asarray(canvas)

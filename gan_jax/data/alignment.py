"""Alignment of faces: five landmarks, the similarity transform that fits them, the crop.

Points are (x, y) in pixels of the image, (0, 0) the centre of the first pixel, in the order left
eye, right eye, nose, left and right corner of the mouth. Left and right are those of the picture as
a viewer shows it, turned as its EXIF tag says. https://github.com/seasonSH/WarpGAN fits and crops
with the same template.
"""

import math
import os
import re

import numpy as np

from gan_jax.errors import ArgumentError, UserError
from gan_jax.files import read_text, reason

# Where the five points lie in a crop, in units of side * scale from its middle.
TEMPLATE = np.array(
    [
        (-0.158083929, -0.0384258929),
        (0.156533929, -0.0401660714),
        (0.000225, 0.140505357),
        (-0.129024107, 0.324691964),
        (0.131516964, 0.323250893),
    ]
)
POINTS = len(TEMPLATE)
SCALE = 0.7  # of WarpGAN's crops: how much of the side the face fills
LARGEST_SCALE = 10.0
GRID = 64  # places per side that `outside` tests
FARTHEST = 1e6  # px: no image reaches farther
LONGEST_LINE = 10_000  # characters
SMALLEST_SPREAD = 1.0  # px: points nearer to each other than this cannot be a face
_FORM = "a line is `path x1 y1 x2 y2 x3 y3 x4 y4 x5 y5`"


def read_landmarks(path: str | os.PathLike[str]) -> dict[str, list[np.ndarray]]:
    """Reads `path x1 y1 … x5 y5` lines: {key of the path: points [5, 2] of each of its faces}.

    Entries are separated by spaces, tabs and commas; a path may contain spaces. Several lines with
    the same path are several faces; a repeated line counts once. Empty lines are skipped.

    Raises:
        ArgumentError: names "landmarks"; there is no such file, it is not text, or has no lines.
        UserError: names a line that has another form.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise ArgumentError("landmarks", f"={path} cannot be read: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise ArgumentError("landmarks", f"={path} is not a text file in UTF-8: {_FORM}") from error
    found: dict[str, list[np.ndarray]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            name, points = _parsed(line)
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}; {_FORM}") from None
        faces = found.setdefault(key(name), [])
        if not any(np.array_equal(points, face) for face in faces):
            faces.append(points)
    if not found:
        raise ArgumentError("landmarks", f"={path} holds no line; {_FORM}")
    return found


def key(name: str) -> str:
    """The path under which an image is looked up: with `/` between folders, and `_` in place of
    spaces in their names."""
    *folders, file = [p for p in name.strip().replace("\\", "/").split("/") if p not in ("", ".")]
    return "/".join([*(folder.replace(" ", "_") for folder in folders), file])


def _parsed(line: str) -> tuple[str, np.ndarray]:
    """(path, points [5, 2]) of a line; ValueError says what is wrong."""
    if len(line) > LONGEST_LINE:
        raise ValueError(f"it has {len(line):,} characters, at most {LONGEST_LINE:,} are accepted")
    words = list(re.finditer(r"[^\s,]+", line))
    count = 2 * POINTS
    if len(words) <= count:
        raise ValueError(f"{len(words)} entries found, {count + 1} expected")
    numbers = [_number(word.group()) for word in words[-count:]]
    for word, value in zip(words[-count:], numbers, strict=True):
        if value is None:
            raise ValueError(f"{word.group()[:40]!r} is not a number")
        if abs(value) > FARTHEST:
            raise ValueError(f"{word.group()[:40]!r} lies outside of every image")
    path = line[: words[-count].start()].strip(" \t,\"'")
    before = words[:-count]
    if not path or (len(before) > 1 and _number(before[-1].group()) is not None):
        raise ValueError(f"more than {count} numbers, or no path before them")
    points = np.array(numbers, float).reshape(POINTS, 2)
    if np.ptp(points, axis=0).max() < SMALLEST_SPREAD:
        raise ValueError("the five points lie on one spot")
    similarity(points)  # raises where no crop fits
    return path, points


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def similarity(points: np.ndarray, size: int = 256, scale: float = SCALE) -> np.ndarray:
    """The matrix [2, 3] that maps (x, y, 1) of the image to (x, y) of a crop of `size` pixels.

    It is a rotation, one scale and a shift, with or without a reflection, whichever gives the
    smaller sum of squared errors. The fit goes from the template to the image, where errors are
    measured, and is then inverted: with points as complex numbers, w ≈ a z + b or a conj(z) + b.

    Raises ValueError for points [5, 2] that lie on one spot.
    """
    target = TEMPLATE * (size * scale) + size / 2
    z, w = (np.asarray(p, float) @ (1, 1j) for p in (target, points))
    best = None
    for reflected in (False, True):
        source = np.conj(z) if reflected else z
        around = source - source.mean()
        a = np.vdot(around, w - w.mean()) / np.vdot(around, around)
        b = w.mean() - a * source.mean()
        error = float(np.sum(np.abs(a * source + b - w) ** 2))
        if best is None or error < best[0]:
            best = error, a, b, reflected
    _, a, b, reflected = best
    if abs(a) * size * scale < 1e-6:
        raise ValueError("the five points lie on one spot")
    sign = -1 if reflected else 1
    linear = np.array([[a.real, -sign * a.imag], [a.imag, sign * a.real]])
    inverse = np.linalg.inv(linear)
    return np.column_stack([inverse, -inverse @ (b.real, b.imag)])


def crop(image: np.ndarray, matrix: np.ndarray, size: int = 256) -> np.ndarray:
    """The crop uint8 [size, size, C] of an image uint8 [H, W, C], where `matrix` [2, 3] maps places
    of the image to the crop.

    It is bilinear; outside the image all is zero. An image with at least twice the resolution of
    the crop is averaged over blocks of whole pixels first, to avoid aliasing.
    """
    inverse = np.linalg.inv(matrix[:, :2])
    shift = -inverse @ matrix[:, 2]
    blocks = int(np.sqrt(abs(np.linalg.det(inverse))) + 1e-9)  # pixels of the image per one here
    blocks = min(blocks, *image.shape[:2])  # a face far larger than its image
    if blocks >= 2:
        image = _averaged(image, blocks)
        inverse, shift = inverse / blocks, (shift - (blocks - 1) / 2) / blocks
    row, column = np.mgrid[:size, :size]
    x, y = (m[0] * column + m[1] * row + s for m, s in zip(inverse, shift, strict=True))
    # far outside all is zero; clipping keeps the indices valid
    height, width = image.shape[:2]
    x, y = np.clip(x, -2, width + 1), np.clip(y, -2, height + 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, below = (x - left)[..., None], (y - top)[..., None]
    padded = np.pad(image, ((2, 3), (2, 3), (0, 0))).astype(np.float32)

    def at(down: int, along: int) -> np.ndarray:
        return padded[top + 2 + down, left + 2 + along]

    upper = at(0, 0) * (1 - right) + at(0, 1) * right
    lower = at(1, 0) * (1 - right) + at(1, 1) * right
    return np.round(upper * (1 - below) + lower * below).astype(np.uint8)


def align(
    image: np.ndarray, points: np.ndarray, size: int = 256, scale: float = SCALE
) -> np.ndarray:
    """The crop uint8 [size, size, C] of the face with these points [5, 2], eyes level."""
    return crop(image, similarity(points, size, scale), size)


def outside(points: np.ndarray, height: int, width: int, scale: float = SCALE) -> float:
    """The share, 0 to 1, of the crop of the face with these points [5, 2] that is black, because it
    lies outside an image of this height and width."""
    matrix = similarity(points, GRID, scale)
    inverse = np.linalg.inv(matrix[:, :2])
    places = np.stack(np.mgrid[:GRID, :GRID][::-1], axis=-1) - matrix[:, 2]  # x, y
    x, y = np.moveaxis(places @ inverse.T, -1, 0)
    inside = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
    return 1.0 - float(inside.mean())


def _averaged(image: np.ndarray, side: int) -> np.ndarray:
    """Means over blocks of side * side pixels, float32; the last ones repeat the image's edge."""
    height, width, channels = image.shape
    rest = ((0, -height % side), (0, -width % side), (0, 0))
    whole = np.pad(image, rest, mode="edge").astype(np.float32)
    rows, columns = whole.shape[0] // side, whole.shape[1] // side
    return whole.reshape(rows, side, columns, side, channels).mean((1, 3))

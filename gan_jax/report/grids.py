"""Many images as one picture, large enough to look at."""

import io
import math
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from gan_jax import files

TARGET_WIDTH = 700  # pixels; automatic scales are the whole factors that come nearest to it
LARGEST_SCALE = 10  # so that a single small image does not fill the screen
TEXT_SIZE = 14
TEXT_HEIGHT = 20  # a line of text with room around it
SHEET_FOLDER = "sheets"  # a folder for sheets beside images, so that they are not taken for images
MARK = ("gan_jax", "sheet")  # the PNG text that marks a sheet; readers of images look for it


def enlarged(images: np.ndarray, times: int) -> np.ndarray:
    """Repeats every pixel in both directions: [N, H, W, C] → [N, times·H, times·W, C]."""
    return images if times == 1 else images.repeat(times, axis=1).repeat(times, axis=2)


def grid(
    images: np.ndarray,
    columns: int = 0,
    padding: int = 2,
    background: int = 255,
    scale: int = 0,
    column_titles: Sequence[str] = (),
    row_titles: Sequence[str] = (),
) -> np.ndarray:
    """Arranges images row by row.

    Args:
        images: uint8 [N, H, W, C], C 1 (grey) or 3 (RGB), N at least 1.
        columns: images per row; 0 takes the nearest square, ceil(sqrt(N)).
        padding: pixels between images and around them.
        background: grey level of the padding, 0..255.
        scale: whole factor by which each image is enlarged, pixel by pixel; 0 chooses the factor
            from 1 to 10 that brings the width of the grid nearest to 700 pixels.
        column_titles, row_titles: written above the columns and left of the rows, cut to what fits.

    Returns:
        uint8 [H', W', 3].

    Raises:
        ValueError: images of another shape or dtype.
    """
    images = _rgb(images)
    count, height, width, _ = images.shape
    columns = min(columns, count) if columns > 0 else math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    scale = scale or _automatic_scale(columns * width, padding * (columns + 1))
    cell_h, cell_w = height * scale, width * scale
    left = _text_width(row_titles) + 8 if row_titles else 0
    top = TEXT_HEIGHT if column_titles else 0
    canvas = _canvas(
        top + padding + rows * (cell_h + padding),
        left + padding + columns * (cell_w + padding),
        background,
    )
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        y = top + padding + row * (cell_h + padding)
        x = left + padding + column * (cell_w + padding)
        canvas[y : y + cell_h, x : x + cell_w] = _enlarge(image, scale)
    for column, title in enumerate(column_titles[:columns]):
        x = left + padding + column * (cell_w + padding)
        _write(canvas, title, x + cell_w / 2, TEXT_HEIGHT / 2, cell_w, background)
    for row, title in enumerate(row_titles[:rows]):
        y = top + padding + row * (cell_h + padding) + cell_h / 2
        _write(canvas, title, left / 2, y, left, background)
    return canvas


def triples(input: np.ndarray, output: np.ndarray, target: np.ndarray | None) -> np.ndarray:
    """Inputs, outputs and targets, uint8 [N, H, W, C], interleaved for the rows of a `grid`.

    Returns uint8 [3N, H, W, 3], or [2N, H, W, 3] without targets. Inputs whose height is 1/n of
    that of the outputs are enlarged, pixel by pixel.
    """
    input = enlarged(input, max(output.shape[1] // input.shape[1], 1))
    parts = [_rgb(part) for part in (input, output, target) if part is not None]
    return np.stack(parts, axis=1).reshape(-1, *parts[0].shape[1:])


def neighbour_sheet(
    samples: np.ndarray,
    neighbours: np.ndarray,
    distances: np.ndarray,
    among: tuple[int, ...] = (),
) -> np.ndarray:
    """Each sample beside its closest training images, which show whether a network copies.

    Args:
        samples: uint8 [Q, H, W, C].
        neighbours: uint8 [Q, k, H, W, C], nearest first.
        distances: float [Q, k], written below the neighbours.
        among: how many training images were searched, and how many there are; () for all.

    Returns:
        uint8 [H', W', 3]: a row per sample, with a gap between the sample and its neighbours.

    Raises:
        ValueError: shapes that do not fit together.
    """
    samples = _rgb(samples)
    queries, nearest = np.shape(distances)
    if neighbours.shape[:2] != (queries, nearest) or len(samples) != queries:
        raise ValueError(
            f"samples {samples.shape}, neighbours {neighbours.shape} and distances "
            f"{np.shape(distances)} do not belong together"
        )
    neighbours = _rgb(neighbours.reshape(-1, *neighbours.shape[2:]))
    _, height, width, _ = samples.shape
    padding, background = 6, 255
    scale = _automatic_scale((1 + nearest) * width, padding * (nearest + 2))
    cell_h, cell_w = height * scale, width * scale
    gap = max(24, cell_w // 3)
    first = padding + cell_w + gap  # where the neighbours begin
    row_h = cell_h + TEXT_HEIGHT + padding
    canvas = _canvas(
        TEXT_HEIGHT + padding + queries * row_h, first + nearest * (cell_w + padding), background
    )
    _write(canvas, "sample", padding + cell_w / 2, TEXT_HEIGHT / 2, cell_w, background)
    room = canvas.shape[1] - first - padding
    title, short = "closest training images and their distances", "closest, distances"
    if among:
        short = f"closest of {among[0]:,}, distances"
        title = f"closest of {among[0]:,} of {among[1]:,} training images and their distances"
    if _text_width([title]) > room:
        title = short
    _write(canvas, title, first + room / 2, TEXT_HEIGHT / 2, room, background)
    for query in range(queries):
        y = TEXT_HEIGHT + padding + query * row_h
        canvas[y : y + cell_h, padding : padding + cell_w] = _enlarge(samples[query], scale)
        for rank in range(nearest):
            x = first + rank * (cell_w + padding)
            image = neighbours[query * nearest + rank]
            canvas[y : y + cell_h, x : x + cell_w] = _enlarge(image, scale)
            caption = f"{distances[query][rank]:.3g}"
            y_text = y + cell_h + TEXT_HEIGHT / 2
            _write(canvas, caption, x + cell_w / 2, y_text, cell_w, background)
    return canvas


def save_png(
    path: str | os.PathLike[str],
    array: np.ndarray,
    mark: PngImagePlugin.PngInfo | None = None,
) -> None:
    """Writes uint8 [H, W, 3] or [H, W] as PNG, with the text of a `mark`; whole or not at all."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG", optimize=True, pnginfo=mark)
    files.write_bytes(path, buffer.getvalue())


def save_sheet(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Writes a picture of many images as `save_png` does, and marks it as a sheet."""
    save_png(path, array, sheet_mark())


def sheet_mark() -> PngImagePlugin.PngInfo:
    """The PNG text that marks a sheet, as an object of Pillow."""
    mark = PngImagePlugin.PngInfo()
    mark.add_text(*MARK)
    return mark


def save_grid(
    path: str | os.PathLike[str], images: np.ndarray, titles: Sequence[str] = ()
) -> np.ndarray:
    """Writes the `grid` of images uint8 [N, H, W, C] as PNG and returns it, uint8 [H', W', 3]: with
    a column for each title, or a square one without titles."""
    picture = grid(images, columns=len(titles), column_titles=titles)
    save_sheet(path, picture)
    return picture


def _rgb(images: np.ndarray) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[-1] not in (1, 3):
        raise ValueError(f"images are uint8 [N, H, W, 1 or 3], not {images.dtype} {images.shape}")
    if images.size == 0:
        raise ValueError("there are no images to show")
    return np.broadcast_to(images, (*images.shape[:3], 3))


def _automatic_scale(width: int, padding: int) -> int:
    candidates = range(1, LARGEST_SCALE + 1)
    return min(candidates, key=lambda s: abs(s * width + padding - TARGET_WIDTH))


def _canvas(height: int, width: int, background: int) -> np.ndarray:
    return np.full((height, width, 3), background, np.uint8)


def _enlarge(image: np.ndarray, scale: int) -> np.ndarray:
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(TEXT_SIZE)


def _text_width(texts: Sequence[str]) -> int:
    return max(math.ceil(_font().getlength(text)) for text in texts)


def _write(canvas: np.ndarray, text: str, x: float, y: float, room: float, background: int) -> None:
    """Writes `text` centred on (x, y), cut to `room` pixels."""
    font = _font()
    cut = text
    while cut and font.getlength(cut) > room:
        text = text[:-1]
        cut = f"{text}…" if text else ""
    picture = Image.fromarray(canvas)
    colour = (32, 32, 32) if background > 127 else (230, 230, 230)
    ImageDraw.Draw(picture).text((x, y), cut, fill=colour, font=font, anchor="mm")
    canvas[:] = np.asarray(picture)

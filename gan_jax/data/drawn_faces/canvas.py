"""A canvas of float colours for drawn faces, with supersampled shapes, glows and relief."""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from gan_jax.data.drawn_faces.curves import stroke


class Cover(NamedTuple):
    """How much of each pixel a shape covers: 0..1 float32 [h, w] inside a window of the image."""

    window: tuple[slice, slice]
    amount: np.ndarray


class Canvas:
    """Colours float32 [size, size, 3] in 0..1, over which covers are painted.

    Places are (y, x) in image sides from the middle of the image, lengths in image sides.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.fine = 4 if size <= 128 else 3  # subpixels a side
        self.colours = np.zeros((size, size, 3), np.float32)
        self.axis = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5

    def cover(self, *shapes: np.ndarray) -> Cover:
        """The cover of the union of closed polygons [n, 2]."""
        whole = (np.concatenate(shapes) + 0.5) * self.size  # pixel i is from i to i + 1
        top, left = (min(max(math.floor(v), 0), self.size) for v in whole.min(axis=0).tolist())
        end, right = (min(max(math.ceil(v), 0), self.size) for v in whole.max(axis=0).tolist())
        window = (slice(top, end), slice(left, right))
        height, width = max(0, end - top), max(0, right - left)
        if not height or not width:
            return Cover(window, np.zeros((height, width), np.float32))
        mask = Image.new("L", (width * self.fine, height * self.fine))
        pen = ImageDraw.Draw(mask)
        fine = ((whole - (top, left)) * self.fine - 0.5)[:, ::-1]
        start = 0
        for shape in shapes:
            pen.polygon(fine[start : start + len(shape)].ravel().tolist(), fill=255)
            start += len(shape)
        return Cover(window, np.asarray(mask.reduce(self.fine), np.float32) / 255)

    def lines(self, *curves: np.ndarray, width: float, taper: float = 0.7) -> Cover:
        """The cover of brush strokes along curves, never thinner than 0.6 pixels."""
        width = max(width, 0.6 / self.size)
        return self.cover(*(stroke(curve, width, taper) for curve in curves))

    def whole(self, cover: Cover) -> np.ndarray:
        """A cover as an array of the whole image: [size, size]."""
        found = np.zeros((self.size, self.size), np.float32)
        found[cover.window] = cover.amount
        return found

    def blurred(self, cover: Cover, radius: float) -> np.ndarray:
        """A cover blurred by a Gaussian: [size, size]."""
        grey = Image.fromarray(np.round(self.whole(cover) * 255).astype(np.uint8))
        grey = grey.filter(ImageFilter.GaussianBlur(radius * self.size))
        return np.asarray(grey, np.float32) / 255

    def glow(self, at: np.ndarray, wide: tuple[float, float]) -> np.ndarray:
        """A Gaussian of height 1 around a place, `wide` in y and in x: [size, size]."""
        up, along = (
            np.exp(-(((self.axis - a) / w) ** 2) / 2).astype(np.float32)
            for a, w in zip(at, wide, strict=True)
        )
        return up[:, None] * along

    def paint(self, cover, colour, amount: float = 1.0, inside: np.ndarray | None = None) -> None:
        """Lays a colour over the canvas.

        Args:
          cover: a Cover, or an array [size, size].
          colour: three numbers, or an array [size, size, 3].
          amount: of the colour where the cover is full.
          inside: [size, size] in 0..1 that the cover is multiplied by.
        """
        everywhere = (slice(None), slice(None))
        window, weight = cover if isinstance(cover, Cover) else (everywhere, cover)
        if amount != 1.0:
            weight = weight * np.float32(amount)
        if inside is not None:
            weight = weight * inside[window]
        colour = np.asarray(colour, np.float32)
        if colour.ndim == 3:
            colour = colour[window]
        below = self.colours[window]
        below += weight[..., None] * (colour - below)


class Relief(NamedTuple):
    """The head as a solid: the directions in which its pixels face, [size, size] each."""

    across: np.ndarray  # the normal's x; y and z beside it
    down: np.ndarray
    front: np.ndarray
    radius: np.ndarray  # distance from the middle of the head, 1 at its outline
    angle: np.ndarray  # around the middle, radians

    def lit(self, light: tuple[float, float, float]) -> np.ndarray:
        """Lambert's cosine for a light in the direction (y, x, z): [size, size] in 0..1."""
        y, x, z = np.asarray(light, np.float32)
        return np.maximum(self.down * y + self.across * x + self.front * z, 0)


def relief(canvas: Canvas, outline: np.ndarray, bumps: np.ndarray, sizes: np.ndarray) -> Relief:
    """A rounded head with bumps.

    Args:
      outline: the head's [n, 2], star-shaped around its middle.
      bumps: their places [k, 2]; `sizes` [k, 3] are widths in y and x, and heights.
    """
    middle = (outline.max(axis=0) + outline.min(axis=0)) / 2
    from_middle = outline - middle
    dy = (canvas.axis - np.float32(middle[0]))[:, None]
    dx = (canvas.axis - np.float32(middle[1]))[None, :]
    angle = np.arctan2(dy, dx)  # [size, size]
    table = np.linspace(-np.pi, np.pi, 257)
    around = np.arctan2(*from_middle.T)
    radii = np.interp(table, around, np.hypot(*from_middle.T), period=2 * np.pi)
    place = (angle + np.float32(np.pi)) * np.float32(256 / (2 * np.pi))
    k = np.minimum(place.astype(np.int32), 255)
    low, step = radii[:-1].astype(np.float32), np.diff(radii).astype(np.float32)
    edge = low[k] + step[k] * (place - k)
    distance = np.sqrt(dy * dy + dx * dx)
    radius = distance / edge
    lean = np.minimum(radius, 1.0) ** 2 * np.float32(0.86) / np.maximum(distance, 1e-4)
    down, across = dy * lean, dx * lean
    for (y, x), (sy, sx, height) in zip(bumps, sizes, strict=True):
        v, u = (canvas.axis - np.float32(y)) / sy, (canvas.axis - np.float32(x)) / sx
        up, along = np.exp(-v * v / 2), np.exp(-u * u / 2)
        down += np.multiply.outer(v * up * np.float32(height / sy), along)
        across += np.multiply.outer(up * np.float32(height / sx), u * along)
    front = np.sqrt(np.maximum(1 - np.minimum(radius, 1.0) ** 4 * np.float32(0.74), 0.05))
    length = np.sqrt(down * down + across * across + front * front)
    return Relief(across / length, down / length, front / length, radius, angle)

"""Control points of a warp and their displacements, drawn over an image."""

import numpy as np
from PIL import Image, ImageDraw

WIDTH = 512  # pixels up to which small images are enlarged by whole factors
POINT, ARROW, HALO = (255, 215, 0), (220, 30, 60), (0, 0, 0)
HEAD = 0.35  # of an arrow's length, at most `TIP` pixels
TIP = 10.0


def overlay(image: np.ndarray, points: np.ndarray, displacements: np.ndarray) -> np.ndarray:
    """An image with a dot at each control point and an arrow along its displacement.

    Args:
      image: uint8 [H, W, 3] or [H, W, 1].
      points, displacements: [P, 2], (y, x) in pixels of the image; points outside of it are drawn
        on a margin that is a quarter of the side wide.

    Returns: uint8 [H', W', 3], enlarged by a whole factor.
    """
    height, width = image.shape[:2]
    times = max(WIDTH // max(height, width), 1)
    margin = (height // 4, width // 4)
    pixels = image.repeat(3, -1) if image.shape[2] == 1 else image
    padded = np.pad(pixels, [(m, m) for m in margin] + [(0, 0)], constant_values=235)
    picture = Image.fromarray(padded.repeat(times, 0).repeat(times, 1))
    draw = ImageDraw.Draw(picture)
    # a pixel's centre is half a pixel from its edge
    begin = (np.asarray(points, float) + margin + 0.5) * times
    end = begin + np.asarray(displacements, float) * times
    for (y0, x0), (y1, x1) in zip(begin, end, strict=True):
        for colour, thickness in ((HALO, 4), (ARROW, 2)):
            for line in _arrow(x0, y0, x1, y1):
                draw.line(line, fill=colour, width=thickness)
        draw.ellipse((x0 - 4, y0 - 4, x0 + 4, y0 + 4), fill=POINT, outline=HALO)
    return np.asarray(picture)


def _arrow(x0: float, y0: float, x1: float, y1: float) -> list[tuple[float, ...]]:
    """The lines of an arrow from the first point to the second."""
    along = np.array([x1 - x0, y1 - y0])
    length = float(np.hypot(*along))
    if length < 1:
        return []
    back = -along / length * min(HEAD * length, TIP)
    across = np.array([-back[1], back[0]])
    tips = [back + 0.6 * across, back - 0.6 * across]
    return [(x0, y0, x1, y1), *((x1, y1, x1 + dx, y1 + dy) for dx, dy in tips)]

"""Pictures that are functions of their number: coloured shapes on gradients, one look per class."""

import colorsys

import numpy as np

from gan_jax.data.config import Options
from gan_jax.data.sources.arrays import Opened

SHAPES = ("disc", "square", "diamond", "ring", "cross")


class SyntheticSource:
    """`count` pictures of side `size`; picture i has the class i % classes.

    Hue and shape depend on the class; place, size, background and grain on the picture's number.
    With `paired` the label map is at the right of the picture: the shape in one colour on black.
    """

    def __init__(
        self, count: int, first: int, classes: int, size: int, channels: int, paired: bool = False
    ) -> None:
        self.count = count
        self.first = first
        self.classes = classes
        self.size = size
        self.paired = paired
        self.known = (size, (1 + paired) * size, channels)

    def __len__(self) -> int:
        return self.count

    def label(self, i: int) -> int:
        return (self.first + i) % self.classes

    def name(self, i: int) -> str:
        return f"synthetic[{self.first + i}]"

    def shape(self, i: int) -> tuple[int, int, int]:
        return self.known

    def image(self, i: int) -> np.ndarray:
        """uint8 [size, size, channels], or with its label map [size, 2 size, channels]."""
        size, channels = self.size, self.known[2]
        label = self.label(i)
        rng = np.random.default_rng((self.first + i, 20_221_122))
        y, x = np.meshgrid(*[np.linspace(-1, 1, size)] * 2, indexing="ij")  # [H, W]
        angle, low, high = rng.uniform(0, 2 * np.pi), *rng.uniform(0.05, 0.6, 2)
        ramp = (np.cos(angle) * x + np.sin(angle) * y + 1.5) / 3
        ground = (low + (high - low) * ramp)[..., None] * rng.uniform(0.7, 1.0, channels)
        hue = colorsys.hsv_to_rgb(label / self.classes, 0.8, 1.0)
        colour = np.array(hue) if channels == 3 else np.array([0.55 + 0.45 * label / self.classes])
        centre, radius = rng.uniform(-0.35, 0.35, 2), rng.uniform(0.4, 0.6)
        inside = _distance(SHAPES[label % len(SHAPES)], y - centre[0], x - centre[1], radius)
        cover = np.clip(0.5 - inside * size / 2, 0.0, 1.0)[..., None]  # soft over one pixel
        picture = ground * (1 - cover) + colour * cover  # [H, W, C]
        grain = rng.integers(-6, 7, picture.shape)  # makes pictures of very few pixels differ
        drawn = np.clip(np.round(picture * 240 + 6 + grain), 0, 255).astype(np.uint8)
        if not self.paired:
            return drawn
        flat = np.round(255 * (cover * colour)).astype(np.uint8)
        return np.concatenate([drawn, flat], axis=1)


def open_synthetic(options: Options) -> Opened:
    """`synthetic_size` training pictures, and further ones for validation, a fraction as many."""
    count, classes = options.synthetic_size, options.synthetic_classes
    extra = round(count * options.validation_fraction)
    if options.validation_fraction > 0:
        extra = max(1, extra)
    size = options.resolution - 2 * options.pad
    channels = 1 if options.channels == "grey" else 3
    paired = options.pairs == "side_by_side"
    train, validation = (
        SyntheticSource(n, first, classes, max(1, size), channels, paired)
        for n, first in ((count, 0), (extra, count))
    )
    if options.labels == "none":
        return Opened(train, validation, (), "none")
    return Opened(train, validation, tuple(str(c) for c in range(classes)))


def _distance(shape: str, y: np.ndarray, x: np.ndarray, radius: float) -> np.ndarray:
    """Signed distance to the shape's edge, negative inside; coordinates in half image sides."""
    x, y = np.abs(x), np.abs(y)
    round_ = np.hypot(x, y) - radius
    match shape:
        case "disc":
            return round_
        case "square":
            return np.maximum(x, y) - 0.85 * radius
        case "diamond":
            return (x + y) / np.sqrt(2) - 0.8 * radius
        case "ring":
            return np.abs(round_ + 0.2 * radius) - 0.25 * radius
        case _:
            thin, long = np.minimum(x, y), np.maximum(x, y)
            return np.maximum(thin - 0.3 * radius, long - radius)

"""What is done to every image between its source and a batch: halves, channels, padding, shape."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from gan_jax.data import pairs, resize
from gan_jax.data.config import RANDOM, Options
from gan_jax.data.sources import decode
from gan_jax.errors import UserError


@dataclass(frozen=True)
class Prepare:
    """The steps of the preparation, which are the same for a whole run: `base`, then `square`.

    `parts` are the channels of the images in a stack: (3,) for single images, (1, 3) for pairs of a
    grey input and a coloured target.
    """

    options: Options
    parts: tuple[int, ...]

    @property
    def depth(self) -> int:
        """The number of channels of the stack."""
        return sum(self.parts)

    def base(self, image: np.ndarray, name: str) -> np.ndarray:
        """uint8 [h, w, 1..4] → [h + 2 pad, w + 2 pad, depth]; the halves of pairs are stacked."""
        images = [image]
        if self.options.pairs in pairs.STACKED:
            images = pairs.halves(image, self.options.direction, name)
        stack = [decode.to_channels(i, c) for i, c in zip(images, self.parts, strict=True)]
        image = stack[0] if len(stack) == 1 else np.concatenate(stack, axis=2)
        pad = self.options.pad
        if not pad:
            return image
        widths = ((pad, pad), (pad, pad), (0, 0))
        return np.pad(image, widths, constant_values=self.options.pad_value)

    def square(self, image: np.ndarray, name: str, seed: int | None = None) -> np.ndarray:
        """uint8 [h, w, depth] → [resolution, resolution, depth].

        With `seed` crops are random as in training, the same for every part of the stack; without
        it they are central.
        """
        if len(self.parts) == 1:
            return self._square(image, name, seed)
        ends = np.cumsum(self.parts)[:-1]
        stack = np.split(image, ends, axis=2)
        return np.concatenate([self._square(part, name, seed) for part in stack], axis=2)

    def _square(self, image: np.ndarray, name: str, seed: int | None) -> np.ndarray:
        size = self.options.resolution
        rng = None
        if seed is not None and self.options.resize in RANDOM:
            rng = np.random.default_rng(seed)
        match self.options.resize:
            case "none":
                if image.shape[:2] != (size, size):
                    raise UserError(wrong_size(name, image.shape, self.options))
                return image
            case "random_crop" if rng is not None:
                return resize.random_crop(image, size, rng)
            case "jitter" if rng is not None:
                wide = self.options.load_resolution
                scaled = resize.resize_uint8(image, wide, wide, self.options.resize_filter)
                return resize.cut(scaled, size, rng)
            case "plain_crop":
                if min(image.shape[:2]) < size:
                    raise UserError(too_small(name, image.shape, self.options))
                return resize.cut(image, size, rng)
            case "squash" | "jitter":
                return resize.resize_uint8(image, size, size, self.options.resize_filter)
            case _:
                return resize.center_crop(image, size)


def check_shapes(
    shapes: Iterable[tuple[tuple[int, int, int] | None, str]], options: Options
) -> None:
    """Raises UserError for shapes that config.data.resize cannot bring to config.data.resolution.

    `shapes` are pairs (shape in the source, before padding; name of the image) of all splits
    together; the shape of an unreadable image is None.
    """
    pad = 2 * options.pad
    if options.resize == "plain_crop":
        for shape, name in shapes:
            if shape is not None and min(shape[:2]) + pad < options.resolution:
                raise UserError(too_small(name, (shape[0] + pad, shape[1] + pad), options))
    if options.resize != "none":
        return
    sizes = {}
    for shape, name in shapes:
        if shape is not None:
            sizes.setdefault((shape[0] + pad, shape[1] + pad), name)
    if len(sizes) > 1:
        (a, first), (b, second) = list(sizes.items())[:2]
        raise UserError(
            f"images of different sizes, e.g. {first} is {a[1]}x{a[0]} and {second} is "
            f"{b[1]}x{b[0]} (width x height), but config.data.resize=none; set "
            "config.data.resize=crop, "
            "random_crop or squash"
        )
    for size, name in sizes.items():
        if size != (options.resolution, options.resolution):
            raise UserError(wrong_size(name, size, options))


def too_small(name: str, shape: tuple[int, ...], options: Options) -> str:
    """The message for an image that is too small for config.data.resize=plain_crop."""
    return (
        f"{name} is {shape[1]}x{shape[0]} (width x height), smaller than the crop, "
        f"config.data.resolution={options.resolution}: lower it, or set "
        "config.data.resize=squash or jitter"
    )


def wrong_size(name: str, shape: tuple[int, ...], options: Options) -> str:
    """The message for an image of another size than config.data.resolution, with
    config.data.resize=none."""
    height, width = shape[:2]
    padded = f" with config.data.pad={options.pad}" if options.pad else ""
    fitting = f"config.data.resolution={height}, or " if height == width else ""
    return (
        f"{name} is {width}x{height} (width x height){padded}, but config.data.resolution="
        f"{options.resolution} and config.data.resize=none; set "
        f"{fitting}config.data.resize=crop, random_crop "
        "or squash, or config.data.pad"
    )

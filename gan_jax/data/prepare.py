"""What happens to every image between its source and a batch: channels, padding, square shape."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from gan_jax.data import decode, resize
from gan_jax.data.options import Options
from gan_jax.errors import UserError


@dataclass(frozen=True)
class Prepare:
    """The steps in their order, fixed for one run: `base`, then `square`."""

    options: Options
    channels: int

    def base(self, image: np.ndarray) -> np.ndarray:
        """uint8 [h, w, 1..4] → [h + 2 pad, w + 2 pad, channels]."""
        image = decode.to_channels(image, self.channels)
        pad = self.options.pad
        if not pad:
            return image
        widths = ((pad, pad), (pad, pad), (0, 0))
        return np.pad(image, widths, constant_values=self.options.pad_value)

    def square(
        self, image: np.ndarray, name: str, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        """uint8 [h, w, channels] → [resolution, resolution, channels].

        `rng` asks for the training form of data.resize=random_crop; without it the crop is central.
        """
        size = self.options.resolution
        match self.options.resize:
            case "none":
                if image.shape[:2] != (size, size):
                    raise UserError(wrong_size(name, image.shape, self.options))
                return image
            case "random_crop" if rng is not None:
                return resize.random_crop(image, size, rng)
            case "squash":
                return resize.resize_uint8(image, size, size, self.options.resize_filter)
            case _:
                return resize.center_crop(image, size)


def check_shapes(
    shapes: Iterable[tuple[tuple[int, int, int] | None, str]], options: Options
) -> None:
    """UserError for shapes that config.data.resize=none cannot bring to config.data.resolution.

    `shapes` are (shape in the source, before padding; name of the image), of all splits together;
    a shape of None stands for an unreadable image.
    """
    if options.resize != "none":
        return
    pad = 2 * options.pad
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


def wrong_size(name: str, shape: tuple[int, ...], options: Options) -> str:
    """The message for an image that does not have config.data.resolution under "
    "config.data.resize=none."""
    height, width = shape[:2]
    padded = f" with config.data.pad={options.pad}" if options.pad else ""
    fitting = f"config.data.resolution={height}, or " if height == width else ""
    return (
        f"{name} is {width}x{height} (width x height){padded}, but config.data.resolution="
        f"{options.resolution} and config.data.resize=none; set "
        f"{fitting}config.data.resize=crop, random_crop "
        "or squash, or config.data.pad"
    )

"""Crops and resizes of uint8 images with Pillow, bitwise equal to the reference.

The crops are those of guided-diffusion (`image_datasets.py`, center_crop_arr and random_crop_arr);
the float resize is clean-fid's (PIL, one float channel at a time).
"""

import math

import numpy as np
from PIL import Image

FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
}


def center_crop(image: np.ndarray, size: int) -> np.ndarray:
    """The largest centred square of uint8 [H, W, C], brought to [size, size, C].

    The short side is halved with a box filter while it is at least twice `size`, then scaled to
    `size` with a bicubic filter; the crop starts at whole pixels.
    """
    scaled = _scale_short_side(image, size)
    top, left = (scaled.shape[0] - size) // 2, (scaled.shape[1] - size) // 2
    return scaled[top : top + size, left : left + size]


def random_crop(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A random square of uint8 [H, W, C] with 80 to 100 % of the short side → [size, size, C]."""
    smaller_dim_size = int(rng.integers(size, math.ceil(size / 0.8) + 1))
    height, width = _scaled_shape(image.shape[0], image.shape[1], smaller_dim_size)
    crop_y = int(rng.integers(height - size + 1))
    crop_x = int(rng.integers(width - size + 1))
    return random_crop_at(image, size, smaller_dim_size, crop_y, crop_x)


def random_crop_at(
    image: np.ndarray, size: int, smaller_dim_size: int, crop_y: int, crop_x: int
) -> np.ndarray:
    """The crop of `random_crop` for given random numbers.

    Args:
        image: uint8 [H, W, C].
        size: side of the result in pixels.
        smaller_dim_size: the short side after scaling, in size..ceil(size / 0.8).
        crop_y, crop_x: the crop's corner in the scaled image.
    """
    scaled = _scale_short_side(image, smaller_dim_size)
    return scaled[crop_y : crop_y + size, crop_x : crop_x + size]


def cut(image: np.ndarray, size: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """A square [size, size, C] cut out of [H, W, C] without scaling: a random one, or the central
    one if `rng` is None."""
    free = (image.shape[0] - size, image.shape[1] - size)
    top, left = (int(rng.integers(n + 1)) for n in free) if rng else (n // 2 for n in free)
    return image[top : top + size, left : left + size]


def resize_uint8(image: np.ndarray, height: int, width: int, filter: str = "bicubic") -> np.ndarray:
    """Resizes uint8 [H, W, C] to uint8 [height, width, C] (Pillow rounds after each pass)."""
    resized = _to_pil(image).resize((width, height), FILTERS[filter])
    return _from_pil(resized)


def resize_float(image: np.ndarray, height: int, width: int, filter: str = "bicubic") -> np.ndarray:
    """Resizes [H, W, C] in 0..255 to float32 [height, width, C], clipped to 0..255, not rounded."""
    channels = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(image[:, :, c], dtype=np.float32)).resize(
                (width, height), FILTERS[filter]
            )
        )
        for c in range(image.shape[2])
    ]
    return np.clip(np.stack(channels, axis=2), 0.0, 255.0)


def _halvings(height: int, width: int, short_side: int) -> list[tuple[int, int]]:
    """The shapes after each halving, while the short side is at least twice `short_side`."""
    shapes = []
    while min(height, width) >= 2 * short_side:
        height, width = height // 2, width // 2
        shapes.append((height, width))
    return shapes


def _scaled_shape(height: int, width: int, short_side: int) -> tuple[int, int]:
    height, width = [(height, width), *_halvings(height, width, short_side)][-1]
    scale = short_side / min(height, width)
    return round(height * scale), round(width * scale)  # half to even, as in the reference


def _scale_short_side(image: np.ndarray, short_side: int) -> np.ndarray:
    original = image.shape[:2]
    if _scaled_shape(*original, short_side) == original:
        return image  # Pillow would copy it
    for height, width in _halvings(*original, short_side):
        image = resize_uint8(image, height, width, "box")
    return resize_uint8(image, *_scaled_shape(*original, short_side), "bicubic")


def _to_pil(image: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image[:, :, 0] if image.shape[2] == 1 else image))


def _from_pil(image: Image.Image) -> np.ndarray:
    array = np.asarray(image)
    return array[:, :, None] if array.ndim == 2 else array

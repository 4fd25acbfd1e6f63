"""Named operations on batches of images, and lists of them such as "random_flip; random_shift 8".

The operations and their names are those of WarpGAN's image processing, as far as they turn one
uint8 image into one. Two differ: `padding` also pads the right side, and `random_shift` shifts in
both directions. Images are uint8 [N, H, W, C]. The function of a random operation takes the random
numbers as arguments; `run` samples them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gan_jax.data.resize import resize_uint8
from gan_jax.errors import UserError

Size = tuple[int, int]  # height, width in pixels


def resize(images: np.ndarray, size: Size) -> np.ndarray:
    """Images resized to [N, *size, C] by Pillow's bilinear filter, which is antialiased."""
    return np.stack([resize_uint8(image, *size, "bilinear") for image in images])


def padding(images: np.ndarray, widths: tuple[int, int, int, int]) -> np.ndarray:
    """Images with black added at the top, bottom, left and right: [N, H + t + b, W + l + r, C]."""
    top, bottom, left, right = widths
    return np.pad(images, ((0, 0), (top, bottom), (left, right), (0, 0)))


def random_crop(images: np.ndarray, size: Size, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Crops [N, *size, C]: of each image the rectangle whose top left corner is at its y, x [N]."""
    height, width = size
    corners = zip(images, y, x, strict=True)
    return np.stack([image[i : i + height, j : j + width] for image, i, j in corners])


def center_crop(images: np.ndarray, size: Size) -> np.ndarray:
    """Central crops [N, *size, C]; the corner is at half the difference, rounded half to even."""
    _check_fits("center_crop", images, size)
    height, width = size
    top, left = (round((n - m) / 2) for n, m in zip(images.shape[1:3], size, strict=True))
    return images[:, top : top + height, left : left + width]


def flip(images: np.ndarray) -> np.ndarray:
    """All images mirrored left to right."""
    return images[:, :, ::-1]


def random_flip(images: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Images mirrored left to right where their u [N], in [0, 1), is 0.5 or more."""
    return np.where((u >= 0.5)[:, None, None, None], flip(images), images)


def random_shift(images: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Each image shifted down by its y and right by its x [N] pixels; the rest becomes black."""
    shifted = np.zeros_like(images)
    height, width = images.shape[1:3]
    for image, out, i, j in zip(images, shifted, y, x, strict=True):
        seen = image[max(-i, 0) : max(height - i, 0), max(-j, 0) : max(width - j, 0)]
        out[max(i, 0) :, max(j, 0) :][: seen.shape[0], : seen.shape[1]] = seen
    return shifted


def random_downsample(images: np.ndarray, ratios: np.ndarray) -> np.ndarray:
    """Each image shrunk by its ratio [N], in (0, 1], and enlarged again, bilinear both times."""
    height, width = images.shape[1:3]
    small = [(max(round(height * r), 1), max(round(width * r), 1)) for r in ratios]
    pairs = zip(images, small, strict=True)
    shrunk = (resize_uint8(image, *size, "bilinear") for image, size in pairs)
    return np.stack([resize_uint8(image, height, width, "bilinear") for image in shrunk])


def _check_fits(name: str, images: np.ndarray, size: Size) -> None:
    height, width = images.shape[1:3]
    if size[0] > height or size[1] > width:
        raise UserError(
            f"{name} {size[0]} {size[1]}: larger than the images, which are {height} x {width} "
            "(height x width)"
        )


# Sampling the random numbers of one batch, for `run`


def _draw_crop(images: np.ndarray, rng: np.random.Generator, size: Size) -> np.ndarray:
    _check_fits("random_crop", images, size)
    free = (n - m + 1 for n, m in zip(images.shape[1:3], size, strict=True))
    return random_crop(images, size, *(rng.integers(n, size=len(images)) for n in free))


def _draw_shift(images: np.ndarray, rng: np.random.Generator, most: float) -> np.ndarray:
    """`most`: pixels, or below 1 a part of the sides."""
    reach = [int(most if most >= 1 else n * most) for n in images.shape[1:3]]
    return random_shift(images, *(rng.integers(-n, n + 1, size=len(images)) for n in reach))


def _draw_downsample(images: np.ndarray, rng: np.random.Generator, least: float) -> np.ndarray:
    return random_downsample(images, least + (1 - least) * rng.random(len(images)))


# From words to the arguments of the functions; they raise ValueError for other words.


def _whole(words: list[str], counts: tuple[int, ...], lowest: int) -> list[int]:
    numbers = [int(word) for word in words]
    if len(numbers) not in counts or min(numbers) < lowest:
        raise ValueError
    return numbers


def _size(words: list[str]) -> tuple[Size]:
    numbers = _whole(words, (1, 2), 1)
    return ((numbers[0], numbers[-1]),)


def _widths(words: list[str]) -> tuple[tuple[int, ...]]:
    match _whole(words, (1, 2, 4), 0):
        case [n]:
            return ((n, n, n, n),)
        case [y, x]:
            return ((y, y, x, x),)
        case widths:
            return (tuple(widths),)


def _shift(words: list[str]) -> tuple[float]:
    (number,) = (float(word) for word in words)
    if not (0 <= number < 1 or (number < 1e6 and number == int(number))) or number < 0:
        raise ValueError
    return (number,)


def _ratio(words: list[str]) -> tuple[float]:
    (number,) = (float(word) for word in words)
    if not 0 < number <= 1:
        raise ValueError
    return (number,)


def _nothing(words: list[str]) -> tuple[()]:
    if words:
        raise ValueError
    return ()


@dataclass(frozen=True)
class Rule:
    """One row of the registry."""

    apply: Callable  # (images, rng, *arguments) → images
    read: Callable[[list[str]], tuple]
    accepts: str  # what may follow the name, for messages
    random: bool = False


SIZES = "a side, or a height and a width, in pixels"
REGISTRY = {
    "resize": Rule(lambda x, _, size: resize(x, size), _size, SIZES),
    "padding": Rule(
        lambda x, _, widths: padding(x, widths),
        _widths,
        "pixels for all sides, for height and width, or for top, bottom, left and right",
    ),
    "random_crop": Rule(_draw_crop, _size, SIZES, random=True),
    "center_crop": Rule(lambda x, _, size: center_crop(x, size), _size, SIZES),
    "random_flip": Rule(
        lambda x, rng: random_flip(x, rng.random(len(x))), _nothing, "nothing", random=True
    ),
    "random_shift": Rule(
        _draw_shift, _shift, "whole pixels, or below 1 a part of the sides", random=True
    ),
    "random_downsample": Rule(
        _draw_downsample, _ratio, "the least ratio, above 0 and up to 1", random=True
    ),
}


@dataclass(frozen=True)
class Operation:
    """An entry of a pipeline: a name of the registry and its arguments."""

    name: str
    arguments: tuple

    @property
    def rule(self) -> Rule:
        return REGISTRY[self.name]


Pipeline = tuple[Operation, ...]


def parse(text: str, key: str = "preprocess") -> Pipeline:
    """The operations of a text such as "name argument argument; name …"; () for an empty text.

    Raises a UserError that names `key` for a name that is not in the registry, and for arguments
    that an operation does not accept.
    """
    found: list[Operation] = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, *words = part.split()
        if name not in REGISTRY:
            raise UserError(f"{key}: {name!r} is unknown; accepted: {', '.join(REGISTRY)}")
        rule = REGISTRY[name]
        try:
            arguments = rule.read(words)
        except ValueError as error:
            raise UserError(
                f"{key}: {part!r}: {name} takes {rule.accepts}, and here "
                f"{' '.join(words) or 'nothing'} follows"
            ) from error
        found.append(Operation(name, arguments))
    return tuple(found)


def run(pipeline: Pipeline, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Applies the operations one after the other to images uint8 [N, H, W, C]; returns uint8.

    Random numbers come from `rng`, different ones for each image. Raises UserError for a crop that
    is larger than the images.
    """
    for operation in pipeline:
        images = operation.rule.apply(images, rng, *operation.arguments)
    return images


def run_fixed(pipeline: Pipeline, image: np.ndarray) -> np.ndarray:
    """One image [H, W, C] through a pipeline without random operations."""
    return run(pipeline, image[None], np.random.default_rng(0))[0]


def delivered(text: str, key: str, resolution: int, training: bool) -> Pipeline:
    """The pipeline of `config.data.preprocess_train` or `preprocess_validation`, called `key`.

    Raises UserError if it does not turn an image of side `resolution` into one of the same side,
    and if it has random operations although it is not for `training`.
    """
    pipeline = parse(text, key)
    for operation in pipeline:
        name, rule = operation.name, operation.rule
        if rule.random and not training:
            raise UserError(
                f"{key}: {name} is random, and what is validated on stays the same; leave it out, "
                "or put it into config.data.preprocess_train"
            )
    blank = np.zeros((1, resolution, resolution, 1), np.uint8)
    try:
        height, width = run(pipeline, blank, np.random.default_rng(0)).shape[1:3]
    except UserError as error:
        raise UserError(f"{key}={text!r}: {error}") from error
    if (height, width) != (resolution, resolution):
        raise UserError(
            f"{key}={text!r}: makes images of {height} x {width} (height x width) from those of "
            f"config.data.resolution={resolution}; let it end with that size, such as with resize "
            f"{resolution}"
        )
    return pipeline

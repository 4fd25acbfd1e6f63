"""Pairs of an input and a target image: cut from one picture, read from two folders, or made from
the target. Pairs of a photo and a caricature of one person are made in `identities`.

Until a batch is delivered, a pair is one array with stacked channels, so that everything done to
one image is done to the other too, crops and flips included.
"""

import dataclasses

import numpy as np

from gan_jax.data.config import Options
from gan_jax.data.sources import decode, listing
from gan_jax.data.sources.arrays import Opened
from gan_jax.data.sources.folders import FileSource, remarks_of, split_folders
from gan_jax.data.sources.folders import named as names_of
from gan_jax.errors import UserError

STACKED = ("side_by_side", "folders")
LABELLED = ("upscale", "identities")  # pairs that keep their source's classes
# sRGB, D65: Y of linear RGB, and CIE 1976 L*
LUMINANCE = np.array([0.2126729, 0.7151522, 0.0721750])
THRESHOLD, SLOPE = (6 / 29) ** 3, (29 / 3) ** 3


class PairedFiles:
    """Two lists of files with the same names, as pictures that show A at the left of B."""

    known = (0, 0, 0)

    def __init__(self, a: FileSource, b: FileSource) -> None:
        self.a, self.b = a, b

    def __len__(self) -> int:
        return len(self.a)

    def image(self, i: int) -> np.ndarray:
        halves = [self.a.image(i), self.b.image(i)]
        self._check(i, *(half.shape for half in halves))
        channels = max(half.shape[2] for half in halves)
        return np.concatenate([decode.to_channels(half, channels) for half in halves], axis=1)

    def label(self, i: int) -> int:
        return 0

    def name(self, i: int) -> str:
        return self.a.name(i)

    def shape(self, i: int) -> tuple[int, int, int]:
        a, b = self.a.shape(i), self.b.shape(i)
        self._check(i, a, b)
        return a[0], 2 * a[1], max(a[2], b[2])

    def _check(self, i: int, a: tuple[int, ...], b: tuple[int, ...]) -> None:
        if a[:2] != b[:2]:
            raise UserError(
                f"{self.a.name(i)} is {a[1]}x{a[0]} and {self.b.name(i)} is {b[1]}x{b[0]} (width x "
                "height): the two images of a pair must be of one size; resize one of them"
            )


def open_folders(options: Options) -> Opened:
    """Two directories or zips of images, config.data.path and config.data.path_b, with the same
    sub-folders for training and validation and the same names in them."""
    b_options = dataclasses.replace(
        options, path=options.path_b, validation_path=options.validation_path_b
    )
    sides = []
    for side, key in ((options, "path"), (b_options, "path_b")):
        files = listing.open_files(side.path, f"config.data.{key}")
        sides.append(split_folders(files, side))
    splits, sides = sides, [side.parts for side in sides]
    if len(sides[0]) != len(sides[1]):
        raise UserError(
            f"config.data.path={options.path} and config.data.path_b={options.path_b}: one has a "
            "folder to validate on (val, valid, validation, dev or test beside train) and the "
            "other has none"
        )
    folders = [[files.root.name.lower() for files in side[1:]] for side in sides]
    if not options.validation_path and folders[0] != folders[1]:
        raise UserError(
            f"config.data.path={options.path} would be validated on {folders[0][0]} and "
            f"config.data.path_b={options.path_b} on {folders[1][0]}: name one of both in "
            "config.data.validation_split"
        )
    sources, files_of_both = [], []
    for a, b in zip(*sides, strict=True):
        named = [(files, names_of(files, options)) for files in (a, b)]
        both = [FileSource(f, n, [0] * len(n), options.deep_bits) for f, n in named]
        files_of_both += both
        sources.append(matched(*both))
    validation = sources[1] if len(sources) == 2 else None
    remarks = remarks_of(splits, files_of_both)
    return Opened(sources[0], validation, (), "none", sorted_by_class=True, remarks=remarks)


def matched(a: FileSource, b: FileSource) -> PairedFiles:
    """The pairs of two lists of files: those whose paths are equal without the ending.

    Raises a UserError that lists up to ten names without a partner.
    """
    stems = [{name.rpartition(".")[0]: name for name in source.names} for source in (a, b)]
    for source, found in zip((a, b), stems, strict=True):
        if len(found) != len(source.names):
            twice = next(n for n in source.names if found[n.rpartition(".")[0]] != n)
            raise UserError(
                f"{source.files.root}: {twice} and {found[twice.rpartition('.')[0]]} have one name "
                "but for the ending; keep one of them"
            )
    alone = [(s, 0) for s in stems[0].keys() - stems[1].keys()]
    alone += [(s, 1) for s in stems[1].keys() - stems[0].keys()]
    if alone:
        shown = [f"{stems[side][stem]} (only in {'AB'[side]})" for stem, side in sorted(alone)]
        raise UserError(
            f"config.data.path={a.files.root} (A) and config.data.path_b={b.files.root} (B): "
            f"{len(shown)} images have no partner of the same name: "
            f"{listing.some(shown)}"
        )
    order = [name.rpartition(".")[0] for name in a.names]
    partners = [stems[1][stem] for stem in order]
    return PairedFiles(a, FileSource(b.files, partners, [0] * len(order), b.bits))


def channels(options: Options, targets: int) -> int:
    """The channels of the inputs of targets with `targets` channels; 0 if there are no pairs."""
    if options.pairs in STACKED:
        return {"same": targets, "grey": 1, "rgb": 3}[options.input_channels]
    return {"none": 0, "colorize": 1}.get(options.pairs, targets)


def input_side(options: Options) -> int:
    """The side of the inputs in pixels."""
    return options.resolution // (options.factor if options.pairs == "upscale" else 1)


def half_shape(shape: tuple[int, int, int], name: str) -> tuple[int, int, int]:
    """The shape of either half of a side-by-side picture. Raises UserError for an odd width."""
    height, width, channels = shape
    if width % 2:
        raise UserError(
            f"{name} is {width}x{height} (width x height): its halves would be of unequal size; "
            "config.data.pairs=side_by_side wants A and B of one width beside each other"
        )
    return height, width // 2, channels


def halves(image: np.ndarray, direction: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(input, target) of a picture [H, 2W, C] with A at its left: [H, W, C] each."""
    width = half_shape(image.shape, name)[1]
    a, b = image[:, :width], image[:, width:]
    return (a, b) if direction == "a_to_b" else (b, a)


def made_input(images: np.ndarray, options: Options) -> np.ndarray:
    """The inputs that are made from target images uint8 [..., H, W, C].

    colorize: CIE lightness as 255 L*/100, one channel. inpaint: the images with the central square
    of half their side white. upscale: their `block_mean`.
    """
    if options.pairs == "colorize":
        return lightness(images)
    if options.pairs == "upscale":
        return block_mean(images, options.factor)
    height, width = images.shape[-3:-1]
    covered = images.copy()
    covered[..., height // 4 : 3 * height // 4, width // 4 : 3 * width // 4, :] = 255
    return covered


def block_mean(images: np.ndarray, factor: int) -> np.ndarray:
    """uint8 [..., H, W, C] → [..., H / factor, W / factor, C]: the mean of each block of factor x
    factor pixels, rounded to the nearest level, halves up.

    guided-diffusion's super_res_train takes the same mean (area down-sampling) but does not round
    it; with rounding, inputs in training are like those from a file of small images.
    """
    *leading, height, width, depth = images.shape
    sums = np.zeros((*leading, height // factor, width // factor, depth), np.int64)
    for i in range(factor):  # numpy's sum over two axes of blocks takes four times as long
        for j in range(factor):
            sums += images[..., i::factor, j::factor, :]
    return ((2 * sums + factor**2) // (2 * factor**2)).astype(np.uint8)


def lightness(images: np.ndarray) -> np.ndarray:
    """CIE 1976 L* of sRGB or grey uint8 [..., C] as uint8 [..., 1], 255 for L* = 100."""
    if images.shape[-1] == 1:
        return _GREY_LIGHTNESS[images]
    y = _LINEAR[images] @ LUMINANCE
    return _lightness(y)[..., None]


def _lightness(y: np.ndarray) -> np.ndarray:
    curve = np.where(y > THRESHOLD, 116 * np.cbrt(y) - 16, SLOPE * y)
    return np.round(np.clip(curve, 0, 100) * 2.55).astype(np.uint8)


_LEVELS = np.arange(256) / 255
# the inverse of sRGB's transfer function (IEC 61966-2-1)
_LINEAR = np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4)
_GREY_LIGHTNESS = _lightness(_LINEAR)


def batch(
    stack: np.ndarray, label: np.ndarray, options: Options, inputs: int
) -> dict[str, np.ndarray]:
    """{"input", "target"} from stacked images uint8 [B, R, R, inputs + targets], or from targets
    alone if inputs are made from them; with "label" [B] if the pairs keep their classes."""
    if options.pairs in (*STACKED, "identities"):
        made = {"input": stack[..., :inputs], "target": stack[..., inputs:]}
    else:
        made = {"input": made_input(stack, options), "target": stack}
    return made | ({"label": label} if options.pairs in LABELLED else {})

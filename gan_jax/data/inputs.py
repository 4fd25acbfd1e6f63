"""Images as inputs of a trained model: a folder or zip of single images or of pairs side by side,
or an .npz of samples."""

import dataclasses
from collections import Counter
from itertools import chain, count
from typing import Any

import numpy as np

from gan_jax.data import config as config_data
from gan_jax.data import image_set, pairs, preprocess, resize
from gan_jax.data.prepare import Prepare
from gan_jax.data.progress import HEADERS, Progress, Silent, reported
from gan_jax.data.sources import decode, listing
from gan_jax.data.sources.arrays import ArraySource
from gan_jax.data.sources.decode import UnreadableError
from gan_jax.data.sources.folders import FileSource
from gan_jax.errors import ArgumentError, UserError

RESERVED = ("contact_sheet", "grid")  # names of sheets, which are not read as images
LAYOUTS = ("auto", "single", "side_by_side")
CHUNK = 64  # images of an npz read at a time


class Inputs:
    """The images of a folder, a zip or an .npz, prepared like a model's training images.

    Attributes:
        names: a unique output name for each image: its path without the ending ("a/b"), or in an
            .npz its number ("000000").
        remarks: lines to show a person: which files are left out, and why.
        labels: int32 [N], the class numbers in an .npz; None if it has none, and for files.
        wide: how many images that are wider than high were read as inputs alone, by a model of
            pairs beside each other and a layout of `auto`.
    """

    def __init__(
        self,
        path: str,
        config: Any,
        input_channels: int,
        channels: int,
        layout: str = "auto",
        key: str = "input",
        progress: Progress = Silent,
    ) -> None:
        """
        Args:
          path: a folder or .zip of images, or an .npz as guided-diffusion writes its samples: arr_0
            uint8 [N, H, W, C], and if there are classes arr_1 integers [N]; it is read into memory.
          config: the model's section `config.data`.
          input_channels, channels: those of the model's inputs and targets.
          layout: `single`, `side_by_side` (an input and its target, as in the model's training), or
            `auto`: side by side if the model was trained on such pictures and the picture is twice
            as wide as high.
          key: the argument or flag that named `path`, for messages.
          progress: makes a bar where many headers are read; see gan_jax.data.progress.

        Raises UserError for a path without images, an image without a readable header, an .npz
        without these arrays, and an unknown layout.
        """
        self.options, self.layout, self._key = config_data.read(config), layout, key
        self._check_layout()
        self._make_ready(input_channels, channels)
        self.labels: np.ndarray | None = None
        self.remarks: list[str] = []
        self.wide = 0
        self._paths: list[str] = []
        image_set.refuse_npy(path, key)
        if image_set.is_npz(path):
            self._source, self.labels = _samples(path, key)
            self.names = [f"{i:06d}" for i in range(len(self._source))]
        else:
            self._open_files(path, progress)

    def _check_layout(self) -> None:
        if self.layout not in LAYOUTS:
            accepted = ", ".join(LAYOUTS)
            raise ArgumentError("layout", f"={self.layout}: accepted are {accepted}")
        if self.layout == "side_by_side" and self.options.pairs == "identities":
            raise ArgumentError(
                "layout",
                "=side_by_side: this model was trained with config.data.pairs=identities and reads "
                "single photos; leave it at auto",
            )

    def _make_ready(self, input_channels: int, channels: int) -> None:
        """Makes the preparation of images for the model. It never crops at random, and brings
        images of any size to the model's, also where training would raise an error."""
        faces = self.options.pairs == "identities"  # squashing would change their proportions
        instead = {"none": "crop" if faces else "squash", "jitter": "squash", "random_crop": "crop"}
        resize = instead.get(self.options.resize, self.options.resize)
        beside = dataclasses.replace(self.options, resize=resize, pairs="side_by_side")
        single = dataclasses.replace(self.options, resize=resize, pairs="none")
        self._pair = Prepare(beside, (input_channels, channels))
        self._input, self._target = Prepare(single, (input_channels,)), Prepare(single, (channels,))
        # for a model trained on identities: as its validation photos; nothing in it is random
        self._steps = preprocess.parse(self.options.preprocess_validation)

    def _open_files(self, path: str, progress: Progress) -> None:
        files = listing.open_files(path, self._key)
        named = listing.image_names(files, self._key)
        paths, bits = self._readable(files, named, progress), self.options.deep_bits
        self._source = FileSource(files, paths, [0] * len(paths), bits)
        self.names, self._paths = _output_names(paths), paths
        self.remarks = FileSource(files, named, [], bits).remarks()
        if len(paths) < len(named):
            self.remarks.append(f"left out, since unreadable: {len(named) - len(paths)} images")

    def _readable(self, files: listing.Files, paths: list[str], progress: Progress) -> list[str]:
        """The images with a readable header; it is checked before anything is written.

        Raises UserError for an image without one, unless config.data.on_error=skip leaves it out.
        """
        good, bad = [], []
        with reported(HEADERS, len(paths), progress) as done:
            for number, path in enumerate(paths, 1):
                try:
                    decode.shape_of(lambda path=path: files.open(path), f"{files.root}/{path}")
                    good.append(path)
                except UnreadableError as error:
                    bad.append(str(error))
                done(number)
        if bad and (self.options.on_error == "raise" or not good):
            more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
            raise UserError(f"{self._key}: cannot read {bad[0]}{more}; replace or remove it")
        return good

    def __len__(self) -> int:
        return len(self.names)

    def raw(self, i: int) -> tuple[str, np.ndarray]:
        """(path, image uint8 [H, W, C] as it is in the file) of image i.

        Raises a UserError that names the image if it cannot be read.
        """
        name = self._source.name(i)
        try:
            return self._paths[i] if self._paths else name, self._source.image(i)
        except UnreadableError as error:
            raise UserError(f"{self._key}: cannot read {error}; replace or remove it") from error

    def read(self, i: int) -> tuple[np.ndarray, np.ndarray | None]:
        """(input, target or None) of image i, uint8 [R, R, C] each; with config.data.pairs=upscale
        the input is [R / factor, R / factor, C].

        Raises a UserError that names the image if it cannot be read.
        """
        name, (_, image) = self._source.name(i), self.raw(i)
        if self.options.pairs == "upscale":
            return self._upscaled(image, name)
        if self.options.pairs in config_data.MADE:
            target = self._target.square(self._target.base(image, name), name)
            made = pairs.made_input(target, self.options)
            grey = self.options.pairs == "colorize" and image.shape[2] == 1
            return made, None if grey else target  # the colours of a grey photo are not known
        trained = self.options.pairs == "side_by_side"
        beside = trained and image.shape[1] == 2 * image.shape[0]
        if self.layout == "side_by_side" or (self.layout == "auto" and beside):
            stack = self._pair.square(self._pair.base(image, name), name)
            inputs = self._pair.parts[0]
            return stack[..., :inputs], stack[..., inputs:]
        if trained and self.layout == "auto":
            self.wide += image.shape[1] > image.shape[0]
        square = self._input.square(self._input.base(image, name), name)
        return preprocess.run_fixed(self._steps, square), None

    def _upscaled(self, image: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        """(input, target or None) of a model that enlarges.

        An image whose short side, padded as in training, is at least the target's has its centre as
        the target. A smaller one is the input itself, cropped to the input's side if necessary.
        """
        side = pairs.input_side(self.options)
        whole = self._target.base(image, name)
        if image.shape[:2] != (side, side) and min(whole.shape[:2]) >= self.options.resolution:
            target = resize.center_crop(whole, self.options.resolution)
            return pairs.made_input(target, self.options), target
        small = decode.to_channels(image, self._input.depth)
        return small if small.shape[:2] == (side, side) else resize.center_crop(small, side), None


def _samples(path: str, key: str) -> tuple[ArraySource, np.ndarray | None]:
    """The images of an .npz in memory, and its class numbers int32 [N] or None."""
    found = image_set.open_set(path, key)
    images = np.empty((len(found), *found.shape), np.uint8)
    for k, part in enumerate(found.batches(CHUNK)):
        images[k * CHUNK : (k + 1) * CHUNK] = part
    labels = None if found.labels is None else found.labels.astype(np.int32)
    return ArraySource(images, labels, found.title), labels


def _output_names(paths: list[str]) -> list[str]:
    """A unique output name for each image: its path without the ending, with the ending if two
    would be equal, and with a number if they still are. No name leads out of the output folder,
    even if a name in an archive does."""
    inside = ["/".join(p for p in path.split("/") if p not in ("", "..")) for path in paths]
    stems = [name.rpartition(".")[0] for name in inside]
    shared, taken, names = Counter(stems), set(RESERVED), []
    for name, stem in zip(inside, stems, strict=True):
        chosen = name if shared[stem] > 1 or stem in taken else stem
        numbered = (f"{name}_{i}" for i in count(2))
        names.append(next(n for n in chain([chosen], numbered) if n not in taken))
        taken.add(names[-1])
    return names

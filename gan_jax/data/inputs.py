"""A folder of images as inputs of a trained model, single ones or pairs beside each other."""

import dataclasses
from collections import Counter
from itertools import chain, count
from typing import Any

import numpy as np

from gan_jax.data import decode, listing, pairs
from gan_jax.data import options as config_data
from gan_jax.data.decode import UnreadableError
from gan_jax.data.prepare import Prepare
from gan_jax.errors import UserError

RESERVED = "contact_sheet"  # a file of its own beside the images
LAYOUTS = ("auto", "single", "side_by_side")


class Inputs:
    """The images of a folder or zip, brought to what a model was trained on.

    Attributes:
        names: one output name per image, its path without the ending ("a/b"), each only once.
    """

    def __init__(
        self, path: str, config: Any, input_channels: int, channels: int, layout: str = "auto"
    ) -> None:
        """`config`: the model's section `config.data`. `layout`: `single`, `side_by_side` (an input
        and its target, as the model was trained on), or `auto`: side by side where the model was
        trained on such pictures and the picture is twice as wide as high.

        Raises UserError for a path without images, an image without a readable header, and an
        unknown layout.
        """
        if layout not in LAYOUTS:
            raise UserError(f"--layout={layout}: accepted are {', '.join(LAYOUTS)}")
        self.options = config_data.read(config)
        self.layout = layout
        # random crops are for training; images of any size are welcome here
        resize = {"none": "squash", "jitter": "squash", "random_crop": "crop"}
        fitted = dataclasses.replace(
            self.options, resize=resize.get(self.options.resize, self.options.resize)
        )
        single = dataclasses.replace(fitted, pairs="none")
        self._pair = Prepare(
            dataclasses.replace(fitted, pairs="side_by_side"), (input_channels, channels)
        )
        self._input, self._target = Prepare(single, (input_channels,)), Prepare(single, (channels,))
        self._files = listing.open_files(path, "--input")
        self._paths = self._readable(listing.image_names(self._files, "--input"))
        self.names = _output_names(self._paths)

    def _readable(self, paths: list[str]) -> list[str]:
        """The images with a header, or UserError for one without; config.data.on_error=skip leaves
        those out. Looked at before anything is written."""
        good, bad = [], []
        for path in paths:
            try:
                decode.shape_of(lambda path=path: self._files.open(path), self._named(path))
                good.append(path)
            except UnreadableError as error:
                bad.append(str(error))
        if bad and (self.options.on_error == "raise" or not good):
            more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
            raise UserError(f"--input: cannot read {bad[0]}{more}; replace or remove it")
        return good

    def _named(self, path: str) -> str:
        return f"{self._files.root}/{path}"

    def __len__(self) -> int:
        return len(self.names)

    def read(self, i: int) -> tuple[np.ndarray, np.ndarray | None]:
        """(input, target or None) of image i, uint8 [R, R, C] each.

        Raises UserError, naming the image, where it cannot be read.
        """
        name = self._named(self._paths[i])
        try:
            image = decode.decode(lambda: self._files.open(self._paths[i]), name)
        except UnreadableError as error:
            raise UserError(f"--input: cannot read {error}; replace or remove it") from error
        if self.options.pairs in ("colorize", "inpaint"):
            target = self._target.square(self._target.base(image, name), name)
            made = pairs.made_input(target, self.options.pairs)
            grey = self.options.pairs == "colorize" and image.shape[2] == 1
            return made, None if grey else target  # a grey photo does not say what colours it had
        trained = self.options.pairs == "side_by_side"
        beside = trained and image.shape[1] == 2 * image.shape[0]
        if self.layout == "side_by_side" or (self.layout == "auto" and beside):
            stack = self._pair.square(self._pair.base(image, name), name)
            inputs = self._pair.parts[0]
            return stack[..., :inputs], stack[..., inputs:]
        return self._input.square(self._input.base(image, name), name), None


def _output_names(paths: list[str]) -> list[str]:
    """A name for what is made of each image: its path without the ending, with it where two would
    be one, numbered where that helps nothing. Inside the folder whatever an archive's names say."""
    inside = ["/".join(p for p in path.split("/") if p not in ("", "..")) for path in paths]
    stems = [name.rpartition(".")[0] for name in inside]
    shared, taken, names = Counter(stems), {RESERVED}, []
    for name, stem in zip(inside, stems, strict=True):
        chosen = name if shared[stem] > 1 or stem in taken else stem
        numbered = (f"{name}_{i}" for i in count(2))
        names.append(next(n for n in chain([chosen], numbered) if n not in taken))
        taken.add(names[-1])
    return names

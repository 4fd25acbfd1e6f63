"""Images in files: directories and zips of them."""

from pathlib import Path

import numpy as np

from gan_jax.data import decode, listing
from gan_jax.data.options import Options
from gan_jax.data.sources import Opened
from gan_jax.errors import UserError

VALIDATION_FOLDERS = ("val", "validation", "test")


class FileSource:
    """Image files, decoded when asked for."""

    known = (0, 0, 0)  # each file has its own shape

    def __init__(self, files: listing.Files, names: list[str], labels: list[int]) -> None:
        self.files = files
        self.names = names
        self.labels = labels

    def __len__(self) -> int:
        return len(self.names)

    def image(self, i: int) -> np.ndarray:
        return decode.decode(lambda: self.files.open(self.names[i]), self.name(i))

    def label(self, i: int) -> int:
        return self.labels[i]

    def name(self, i: int) -> str:
        return f"{self.files.root}/{self.names[i]}"

    def shape(self, i: int) -> tuple[int, int, int]:
        return decode.shape_of(lambda: self.files.open(self.names[i]), self.name(i))


def open_folder(options: Options) -> Opened:
    """A directory or zip of images, labels by config.data.labels, a validation part by folders.

    The validation part is data.validation_path; or the sub-folder data.validation_split beside
    data.train_split; or val, validation or test where `train` exists too; or left to a fraction.
    """
    files = listing.open_files(options.path, "config.data.path")
    found = split_folders(files, options)
    parts = [(part, listing.image_names(part)) for part in found]
    labels, class_names, origin = listing.classes(parts, options.labels)
    sources = [FileSource(*part, labels=own) for part, own in zip(parts, labels, strict=True)]
    validation = sources[1] if len(sources) == 2 else None
    return Opened(sources[0], validation, class_names, origin, sorted_by_class=True)


def split_folders(files: listing.Files, options: Options) -> list[listing.Files]:
    """[training images] or [training images, validation images], by the rules of `open_folder`."""
    if options.validation_path:
        _check_apart(options)
        return [files, listing.open_files(options.validation_path, "config.data.validation_path")]
    if options.validation_split == "fraction":
        return [files]
    if options.validation_split:
        for key in ("train_split", "validation_split"):
            name = getattr(options, key)
            if not files.has_folder(name):
                raise UserError(
                    f"config.data.{key}={name}: {files.root} has no such sub-folder; name one that "
                    "exists, or leave config.data.validation_split empty"
                )
        check_distinct(options)
        return [files.folder(options.train_split), files.folder(options.validation_split)]
    if files.has_folder(options.train_split):
        for name in VALIDATION_FOLDERS:
            if files.has_folder(name) and name != options.train_split:
                return [files.folder(options.train_split), files.folder(name)]
    if options.train_split != "train":
        raise UserError(
            f"config.data.train_split={options.train_split}: not a sub-folder of {files.root} "
            "beside one "
            "to validate on; name both config.data.train_split and config.data.validation_split"
        )
    return [files]


def _check_apart(options: Options) -> None:
    """UserError when one of the two paths lies in the other: their images would overlap."""
    train, validation = (Path(p).resolve() for p in (options.path, options.validation_path))
    if train.is_relative_to(validation) or validation.is_relative_to(train):
        raise UserError(
            f"config.data.validation_path={options.validation_path} overlaps with config.data.path="
            f"{options.path}; give two separate places, or leave config.data.validation_path empty"
        )


def check_distinct(options: Options) -> None:
    """UserError when the two named splits are the same, or one is a folder of the other."""
    train, validation = (
        s.strip("/").removeprefix("./") for s in (options.train_split, options.validation_split)
    )
    nested = train.startswith(f"{validation}/") or validation.startswith(f"{train}/")
    if train == validation or nested:
        raise UserError(
            f"config.data.validation_split={options.validation_split} overlaps with "
            "config.data.train_split="
            f"{options.train_split}; name two splits that share no image"
        )

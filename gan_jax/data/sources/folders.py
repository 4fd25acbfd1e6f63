"""Sources of image files: directories and zips."""

import functools
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gan_jax.data import header_cache
from gan_jax.data.config import Options
from gan_jax.data.progress import IMAGES
from gan_jax.data.sources import decode, listing
from gan_jax.data.sources.arrays import Opened
from gan_jax.data.sources.places import Directory, Files, extension, share_files
from gan_jax.errors import UserError
from gan_jax.files import reason

TRAINING_FOLDERS = ("train", "training")
# the first of these that exists is used
VALIDATION_FOLDERS = ("val", "valid", "validation", "dev", "eval", "test", "testing")
# the same for data.reading=first
FIRST_VALIDATION_FOLDERS = ("val", "validation", "test")
FIRST_EXTENSIONS = ("jpg", "jpeg", "png", "gif")
SPLIT_FOLDERS = (*TRAINING_FOLDERS, *VALIDATION_FOLDERS)
LARGEST_FILE = 2**30  # bytes of the file of one image
DEPTH_KEY = "config.data.deep_bits"
MAYBE_DEEP = ("png", "tif", "tiff")  # formats that may have 16 bits per channel
MOST_LOOKED_AT = 16  # images that are decoded to see how many bits they use
MOST_DARK_BITS = 14  # sets that use no more of 16 bits come from cameras with 10 to 14 bits


class FileSource:
    """Image files, which are decoded when they are needed."""

    known = (0, 0, 0)  # each file has its own shape
    work = IMAGES

    def __init__(
        self, files: Files, names: list[str], labels: list[int], bits: int = decode.DEEP_BITS
    ) -> None:
        """`bits` says how many bits grey images of more than 8 use (config.data.deep_bits)."""
        self.files = files
        self.names = names
        self.labels = labels
        self.bits = bits

    def __len__(self) -> int:
        return len(self.names)

    @functools.cached_property
    def fingerprint(self) -> str:
        """What identifies the files as they are now. Raises OSError."""
        archive = getattr(self.files, "archive", None)
        names = self.names if archive is None else [f"{self.files.root}/{n}" for n in self.names]
        return header_cache.fingerprint(archive or self.files.root, names, bool(archive))

    def image(self, i: int) -> np.ndarray:
        return decode.decode(self._opener(i), self.name(i), self.bits)

    def content(self, i: int) -> bytes:
        """The file of image i. Raises UnreadableError."""
        try:
            return self.files.read(self.names[i], LARGEST_FILE)
        except Exception as error:  # of the file or its archive
            raise decode.UnreadableError(f"{self.name(i)} ({reason(error)})") from error

    def reader(self, i: int) -> Callable[[], np.ndarray]:
        """A function that returns `image(i)` in any process."""
        opener = self.files.opener(self.names[i])
        return partial(decode.decode, opener, self.name(i), self.bits)

    def label(self, i: int) -> int:
        return self.labels[i]

    def name(self, i: int) -> str:
        return f"{self.files.root}/{self.names[i]}"

    def shape(self, i: int) -> tuple[int, int, int]:
        return decode.shape_of(self._opener(i), self.name(i))

    def _opener(self, i: int):
        return partial(self.files.open, self.names[i])

    def remarks(self, key: str = DEPTH_KEY) -> list[str]:
        """Lines to show a person: which other files are left out, and whether grey values use fewer
        or more bits than the setting called `key` says."""
        left_out = listing.left_out(self.files, self.names)
        found = [f"passed over in {self.files.root}: {left_out}"] if left_out else []
        return found + self._of_depth(key)

    def _of_depth(self, key: str) -> list[str]:
        deep = [i for i, name in enumerate(self.names) if extension(name) in MAYBE_DEEP]
        chosen = {deep[k * len(deep) // MOST_LOOKED_AT] for k in range(MOST_LOOKED_AT) if deep}
        largest, scaled = 0, True
        for i in sorted(chosen):
            try:
                found = decode.deepest(self._opener(i), self.name(i))
            except decode.UnreadableError:
                continue  # reported when the image is read
            if found[0] > largest:
                largest, scaled = found
        bits, ours = largest.bit_length(), self.bits if scaled else decode.DEEP_BITS
        if bits > ours:
            return [
                f"grey values reach {largest:,} here and all above {2**ours - 1:,} become white; "
                f"set {key}={bits}"
            ]
        if not largest or bits == ours or bits > MOST_DARK_BITS:
            return []
        remedy = f"{key}={bits} gives" if scaled and bits > 8 else "saved with 8 bits they have"
        return [
            f"values of 16 bits end at {largest:,} here, which is shown dark or black; {remedy} "
            "them their full range"
        ]


class Splits(NamedTuple):
    """The places of the images of each split, and a description of which folders these are."""

    parts: list[Files]  # [training images] or [training images, validation images]
    said: str


def open_folder(options: Options, depth_key: str = DEPTH_KEY) -> Opened:
    """A directory or zip of images, with labels as config.data.labels says, and with the splits of
    `split_folders`."""
    files = listing.open_files(options.path, "config.data.path")
    found = split_folders(files, options)
    parts = [(part, named(part, options)) for part in found.parts]
    first = options.reading == "first"
    labels, class_names, origin = listing.classes(parts, options.labels, first)
    sources = [
        FileSource(*part, own, options.deep_bits) for part, own in zip(parts, labels, strict=True)
    ]
    return Opened(
        sources[0],
        sources[1] if len(sources) == 2 else None,
        class_names,
        origin,
        sorted_by_class=True,
        remarks=remarks_of([found], sources, depth_key),
    )


def named(files: Files, options: Options) -> list[str]:
    """The images of a place, in order: files with an ending that config.data.reading accepts."""
    known = FIRST_EXTENSIONS if options.reading == "first" else decode.EXTENSIONS
    more = " and config.data.validation_path" if options.validation_path else ""
    return listing.image_names(files, f"config.data.path{more}", known)


def remarks_of(
    splits: list[Splits], sources: list[FileSource], depth_key: str = DEPTH_KEY
) -> tuple[str, ...]:
    """Lines to show a person: which folders are which split, and remarks on their files.

    `depth_key` is the name of the setting that says how deep grey files are."""
    said = [part.said for part in splits if part.said]
    return tuple(dict.fromkeys([*said, *(line for s in sources for line in s.remarks(depth_key))]))


def split_folders(files: Files, options: Options) -> Splits:
    """The places of the training images and, if there are any, of the validation images.

    The validation images are those of data.validation_path; or of the sub-folder
    data.validation_split beside data.train_split; or of the first of VALIDATION_FOLDERS beside
    `train`, in upper or lower case; otherwise a fraction will be taken. `train` counts as a split
    even if no other folder has images.

    Raises UserError for folders that do not exist or share images.
    """
    found = _split_folders(files, options)
    if len(found.parts) == 2:
        train, validation = found.parts
        shared = share_files(validation, train)
        if shared or train.found.real & validation.found.real:
            what = f"{shared} is a file" if shared else "links lead to folders"
            raise UserError(
                f"{validation.root}: {what} that {train.root} holds too, so images would be "
                "trained on and validated on; name two splits that share no image"
            )
    return found


def _split_folders(files: Files, options: Options) -> Splits:
    if options.validation_path:
        key = "config.data.validation_path"
        parts = [files, listing.open_files(options.validation_path, key)]
        _check_apart(options)
        return Splits([_below_labels(part) for part in parts], "")
    if options.validation_split == "fraction":
        return Splits([files], "")
    if options.validation_split:
        return _named_splits(files, options)
    if options.reading == "first":
        return _first_splits(files, options)
    folders = files.folders()
    train = _match(folders, (options.train_split,))
    if train is None and options.train_split == "train":
        train = _match(folders, TRAINING_FOLDERS)
    validation = _match([f for f in folders if f != train], VALIDATION_FOLDERS)
    if train is not None and validation is not None:
        return _splits(files, [train, validation])
    if train is not None and _alone(files, train):
        return _splits(files, [train])
    if options.train_split != "train":
        raise UserError(
            f"config.data.train_split={options.train_split}: not a sub-folder of {files.root} "
            "beside one to validate on; name both config.data.train_split and "
            "config.data.validation_split"
        )
    return Splits([files], "")


def _named_splits(files: Files, options: Options) -> Splits:
    names = []
    for key in ("train_split", "validation_split"):
        name = getattr(options, key)
        found = name if files.has_folder(name) else _match(files.folders(), (name,))
        if found is None:
            raise UserError(
                f"config.data.{key}={name}: {files.root} has no such sub-folder; name one that "
                "exists, or leave config.data.validation_split empty"
            )
        names.append(found)
    check_distinct(options)
    return _splits(files, names)


def _first_splits(files: Files, options: Options) -> Splits:
    """The splits of data.reading=first: `train` beside one of three names, spelled exactly so."""
    if files.has_folder(options.train_split):
        for name in FIRST_VALIDATION_FOLDERS:
            if files.has_folder(name) and name != options.train_split:
                return _splits(files, [options.train_split, name])
    return Splits([files], "")


def _match(folders: list[str], names: tuple[str, ...]) -> str | None:
    """The folder that matches the first of `names` that any folder matches, ignoring case; None if
    there is none."""
    for name in names:
        alike = [folder for folder in folders if folder.lower() == name.lower()]
        if alike:
            return name if name in alike else alike[0]
    return None


def _alone(files: Files, train: str) -> bool:
    """Whether all images lie in the folder `train`."""
    return all(name.startswith(f"{train}/") for name in files.images)


def _splits(files: Files, names: list[str]) -> Splits:
    """The named folders as splits, with a line about these and about folders that are not used."""
    others = [folder for folder in files.folders() if folder not in names]
    said = f"training images from {names[0]}/"
    if len(names) == 2:
        said += f", validation images from {names[1]}/"
    if others:
        said += f", not used: {listing.some([f'{folder}/' for folder in others])}"
    return Splits([files.folder(name) for name in names], said)


def _below_labels(files: Files) -> Files:
    """A folder named as a split, together with the dataset.json that may lie beside it."""
    is_split = isinstance(files, Directory) and files.root.name.lower() in SPLIT_FOLDERS
    return Directory(files.root, Directory(files.root.parent)) if is_split else files


def _check_apart(options: Options) -> None:
    """Raises UserError if one of the two paths lies in the other, so that images would overlap."""
    train, validation = (Path(os.path.realpath(p)) for p in (options.path, options.validation_path))
    if train.is_relative_to(validation) or validation.is_relative_to(train):
        raise UserError(
            f"config.data.validation_path={options.validation_path} overlaps with config.data.path="
            f"{options.path}; give two separate places, or leave config.data.validation_path empty"
        )


def check_distinct(options: Options) -> None:
    """Raises UserError if the two named splits are the same, or one is a folder in the other."""
    train, validation = (
        s.strip("/").removeprefix("./") for s in (options.train_split, options.validation_split)
    )
    nested = train.startswith(f"{validation}/") or validation.startswith(f"{train}/")
    if train == validation or nested:
        raise UserError(
            f"config.data.validation_split={options.validation_split} overlaps with "
            f"config.data.train_split={options.train_split}; name two splits that share no image"
        )

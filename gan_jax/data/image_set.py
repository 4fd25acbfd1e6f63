"""A set of images named by one string, for metrics: in order, in batches, nothing cropped.

    DIR, FILE.zip            image files, sub-folders included, sorted by path
    FILE.npz, FILE.npz:NAME  uint8 [N, H, W] or [N, H, W, C]; NAME if the file holds several arrays
    tfds:NAME, tfds:NAME:SPLIT   a prepared data set below TFDS_DATA_DIR; without SPLIT: test

An npz is read as a stream, so that a file of many gigabytes only needs the memory of a batch.
"""

import dataclasses
import math
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gan_jax import files, npz
from gan_jax.data.config import Options
from gan_jax.data.sources import listing
from gan_jax.data.sources.arrays import NPY, is_npy
from gan_jax.data.sources.decode import DEEP_BITS, UnreadableError, to_channels
from gan_jax.data.sources.folders import SPLIT_FOLDERS, FileSource
from gan_jax.data.sources.listing import MOST_CLASSES
from gan_jax.data.sources.places import Files
from gan_jax.data.sources.tfds import open_tfds
from gan_jax.errors import UserError, short

ARRAYS = {  # the images of an npz and the labels that belong to them, in order of preference
    "images": "labels",
    "arr_0": "arr_1",
    "x_test": "y_test",
    "x_validation": "y_validation",
    "x_train": "y_train",
}
DAMAGED = (OSError, npz.NpzError)  # what reading an npz raises
Images = list[np.ndarray] | np.ndarray


@dataclass(frozen=True)
class ImageSet:
    """Images in order.

    `batches(size)` yields uint8 images of 1 or 3 channels: an array [size, H, W, C] if all of a
    batch have the same shape, else a list; the last batch may be shorter.
    """

    title: str
    count: int
    batches: Callable[[int], Iterator[Images]]
    labels: np.ndarray | None = None  # int [count]
    class_names: tuple[str, ...] = ()
    shape: tuple[int, int, int] | None = None  # height, width, channels, if known to be the same
    files: tuple[str, ...] = ()  # names of the images' files; () if they have none
    names: tuple[str, ...] = ()  # the same without endings
    remarks: tuple[str, ...] = ()  # lines to show a person: what is left out, and why
    unlabelled: str = ""  # why there are no labels, if files might have had some

    def __len__(self) -> int:
        return self.count

    def file(self, row: int) -> str:
        """The name of image `row` in messages: its file, or its number."""
        return f"{self.title}/{self.files[row]}" if self.files else f"{self.title}[{row}]"


def of_array(images: np.ndarray, labels: np.ndarray | None = None, title: str = "") -> ImageSet:
    """A set of images in memory, uint8 [N, H, W, C]."""

    def batches(size: int) -> Iterator[np.ndarray]:
        for start in range(0, len(images), size):
            yield images[start : start + size]

    return ImageSet(title, len(images), batches, labels, shape=tuple(images.shape[1:]))


def is_npz(word: str) -> bool:
    """Whether a word names an npz file, or one of its arrays: FILE.npz, FILE.npz:NAME."""
    return bool(_NPZ.fullmatch(word))


_NPZ = re.compile(r"(?P<file>.*\.npz)(?::(?P<array>.+))?", re.IGNORECASE | re.DOTALL)


def refuse_npy(word: str, key: str) -> None:
    """Raises UserError if a word names an .npy, the file of a single array without a name."""
    if is_npy(Path(word)) or is_npy(Path(word.rpartition(":")[0])):
        raise UserError(f"{key}={word}: {NPY}")


def open_set(word: str, key: str, limit: int = 0, bits: int = DEEP_BITS) -> ImageSet:
    """Opens the set that `word` names; see the top of this file.

    Args:
      key: the argument or flag that named it, for messages.
      limit: at most this many images, spread evenly over the set; 0 for all.
      bits: how many bits grey files of 16 bits use.

    Raises UserError for a set that does not exist, cannot be read or holds no images.
    """
    if not word:
        raise UserError(f"{key} is missing: name a folder, a .zip, an .npz or tfds:NAME")
    if word.startswith("tfds:"):
        return _tfds(word, key, limit, bits)
    refuse_npy(word, key)
    if is_npz(word):
        named = _NPZ.fullmatch(word)
        return _npz(Path(named["file"]), named["array"] or "", key, limit)
    if not os.path.exists(word):
        raise UserError(
            f"{key}={word}: does not exist; name where the images are now: a folder, a .zip, an "
            ".npz or tfds:NAME[:SPLIT]"
        )
    place = listing.open_files(word, key)
    # pairs have the same name without the ending, so endings must not influence the order
    names = sorted(listing.image_names(place, key), key=lambda n: n.rpartition(".")[0].split("/"))
    splits = _splits(names)
    labels, class_names, unlabelled = _classes(place, names, splits)
    source = FileSource(place, names, labels, bits)
    remarks = (*source.remarks("deep_bits"), *([splits] if splits else []))
    found = _of_source(source, bool(class_names), class_names, str(place.root), key, limit)
    chosen = tuple(names[row] for row in spread(len(names), limit))
    stems = tuple(name.rpartition(".")[0] for name in chosen)
    return dataclasses.replace(
        found, files=chosen, names=stems, remarks=remarks, unlabelled=unlabelled
    )


def _splits(names: list[str]) -> str:
    """A remark if all folders at the top are splits, and so are not classes; else ""."""
    tops = {name.partition("/")[0].lower() for name in names if "/" in name}
    if not tops or not tops <= set(SPLIT_FOLDERS):
        return ""
    taken = ", ".join(sorted(tops))
    return f"the images of all splits are taken, without classes: {taken}; name one for its own"


def _classes(place: Files, names: list[str], splits: str) -> tuple[list[int], tuple[str, ...], str]:
    """(labels, class names, why there are none). No error, since most metrics need no classes."""
    unlabelled = splits
    if not splits:
        try:
            (labels,), class_names, _ = listing.classes([(place, names)], "auto")
            return labels, class_names, ""
        except UserError as error:
            unlabelled = str(error)
    return [0] * len(names), (), unlabelled


def _tfds(word: str, key: str, limit: int, bits: int) -> ImageSet:
    _, name, split = [*word.split(":", 2), ""][:3]
    try:
        options = Options(source="tfds", name=name, train_split=split or "test", deep_bits=bits)
        opened = open_tfds(options)
    except UserError as error:  # its message is about config.data
        raise UserError(f"{key}={word}: cannot be read below TFDS_DATA_DIR ({error})") from error
    labelled = bool(opened.class_names)
    return _of_source(opened.train, labelled, opened.class_names, word, key, limit)


def _of_source(source, labelled: bool, class_names, title: str, key: str, limit: int) -> ImageSet:
    rows = spread(len(source), limit)

    def read(row: int) -> np.ndarray:
        try:
            image = source.image(int(row))
        except UnreadableError as error:
            raise UserError(f"{key}: cannot read {error}; replace or remove it") from error
        return to_channels(image, 1 if image.shape[2] < 3 else 3)

    def batches(size: int) -> Iterator[Images]:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            parts = [rows[start : start + size] for start in range(0, len(rows), size)]
            ahead = [[pool.submit(read, row) for row in part] for part in parts[:2]]
            for place in range(len(parts)):
                images = [future.result() for future in ahead.pop(0)]
                if place + 2 < len(parts):
                    ahead.append([pool.submit(read, row) for row in parts[place + 2]])
                alike = len({image.shape for image in images}) == 1
                yield np.stack(images) if alike else images

    labels = np.asarray([source.label(int(row)) for row in rows]) if labelled else None
    return ImageSet(title, len(rows), batches, labels, tuple(class_names))


def _npz(path: Path, array: str, key: str, limit: int) -> ImageSet:
    if not os.path.isfile(path):
        raise UserError(
            f"{key}={path}: no such file; name where the images are now: a folder, a .zip or an "
            ".npz"
        )
    try:
        with npz.opened(path) as stored:
            name, partner = _named(stored.names, path, array, key)
            shape, fortran, dtype = stored.header(name)
            labels = _labels(stored, partner, shape) if partner else None
    except DAMAGED as error:
        raise UserError(
            f"{key}={path}: not a readable npz of plain arrays ({files.reason(error)})"
        ) from error
    good = len(shape) == 3 or (len(shape) == 4 and 1 <= shape[3] <= 4)
    if dtype != np.uint8 or fortran or not good or 0 in shape:
        order = " in Fortran order" if fortran else ""
        raise UserError(
            f"{key}={path}: {name} is {dtype} {list(shape)}{order}; accepted: uint8 [N, H, W] or "
            "[N, H, W, C] in C order, with C in 1..4 and no axis of 0; convert it"
        )
    shape = (*shape, 1)[:4]
    depth = 1 if shape[3] < 3 else 3
    rows = spread(shape[0], limit)

    def batches(size: int) -> Iterator[np.ndarray]:
        for part in _stream(path, name, shape, rows, size, key):
            yield np.stack([to_channels(image, depth) for image in part])

    classes = tuple(map(str, range(int(labels.max()) + 1))) if labels is not None else ()
    chosen = None if labels is None else labels[rows].astype(np.int64)
    return ImageSet(f"{path}:{name}", len(rows), batches, chosen, classes, (*shape[1:3], depth))


def _named(held: list[str], path: Path, array: str, key: str) -> tuple[str, str]:
    """(name of the array of images, of the one with their labels or ""); `array` "" finds one."""
    name = array or next((n for n in ARRAYS if n in held), "")
    if name not in held:
        others = f"; accepted are {', '.join(ARRAYS)}, or {path.name}:NAME for another"
        raise UserError(
            f"{key}={path}: holds {listing.some(held) or 'no arrays'}"
            + (f" and no {short(array)}" if array else others)
        )
    partner = ARRAYS.get(name, "")
    return name, partner if partner in held else ""


def _labels(stored: npz.Npz, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """The class numbers of the images of an array of this shape; None if an array beside it holds
    something else, such as other identifiers."""
    found = stored.header(name)
    numbers = found.dtype.kind in "iu" and (math.prod(found.shape),) == shape[:1]
    if not numbers and not found.dtype.hasobject:  # of which `read` says that it is refused
        return None
    labels = stored.read(name).reshape(-1)
    good = labels.size and labels.min() >= 0 and labels.max() < MOST_CLASSES
    return labels if good else None


def _stream(path: Path, name: str, shape, rows: np.ndarray, size: int, key: str):
    """The rows (ascending) of an array in an npz, `size` at a time."""
    length = int(np.prod(shape[1:]))
    try:
        with npz.opened(path) as stored, stored.stream(name) as (_, stream):
            at, part = 0, []
            for row in rows:
                stream.skip((int(row) - at) * length)
                at = int(row) + 1
                part.append(np.frombuffer(stream.read(length), np.uint8).reshape(shape[1:]))
                if len(part) == size:
                    yield part
                    part = []
            if part:
                yield part
    except DAMAGED as error:
        raise UserError(
            f"{key}={path}: cannot be read to its end ({files.reason(error)})"
        ) from error


def spread(count: int, limit: int) -> np.ndarray:
    """`limit` of `count` rows at equal distances, or all of them: int [n], ascending."""
    if not 0 < limit < count:
        return np.arange(count)
    return np.arange(limit) * count // limit

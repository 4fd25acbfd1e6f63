"""The protocol that every source of images follows, and the sources held in memory."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from gan_jax import files, npz
from gan_jax.data.config import Options
from gan_jax.data.published.places import advice
from gan_jax.data.sources import idx
from gan_jax.data.sources.listing import MOST_CLASSES, some
from gan_jax.errors import UserError

DIGITS = Path(__file__).with_name("mnist_subset.npz")


class Source(Protocol):
    """Images by number. `image` may raise UnreadableError; `name` is for messages.

    A source whose images take time has `work`, a `gan_jax.data.progress.Work` that says how long
    one takes and what is done. One whose images follow from numbers may have a `recipe`, see
    `gan_jax.data.kept_pictures`.
    """

    known: tuple[int, int, int]  # height, width, channels if the same for all images; 0: not known

    def __len__(self) -> int: ...
    def image(self, i: int) -> np.ndarray: ...  # uint8 [H, W, C], C in 1..4
    def label(self, i: int) -> int: ...  # 0 without labels
    def name(self, i: int) -> str: ...
    def shape(self, i: int) -> tuple[int, int, int]: ...  # without decoding where possible


@dataclass(frozen=True)
class Opened:
    """A source whose splits and labels are known.

    If `validation` is None, a fraction of `train` is to be taken for it. `sorted_by_class` says
    that the first n images would be of one class.
    """

    train: Source
    validation: Source | None
    class_names: tuple[str, ...]  # () without labels, whatever `label` returns
    labels_from: str = ""  # for the console; "": the source's own labels
    sorted_by_class: bool = False
    remarks: tuple[str, ...] = ()  # lines to show a person: what the splits are, …


class ArraySource:
    """Images and labels held in memory."""

    def __init__(self, images: np.ndarray, labels: np.ndarray | None, title: str) -> None:
        """`images` uint8 [N, H, W] or [N, H, W, C], `labels` integers [N] or None."""
        self.images = images[..., None] if images.ndim == 3 else images  # [N, H, W, C]
        self.labels = labels
        self.title = title
        self.known = self.images.shape[1:]

    def __len__(self) -> int:
        return len(self.images)

    def image(self, i: int) -> np.ndarray:
        return self.images[i]

    def label(self, i: int) -> int:
        return 0 if self.labels is None else int(self.labels[i])

    def name(self, i: int) -> str:
        return f"{self.title}[{i}]"

    def shape(self, i: int) -> tuple[int, int, int]:
        return self.known


def open_digits(options: Options) -> Opened:
    """The subset of MNIST that comes with the package: 10,000 and 2,000 images, 28x28 grey."""
    return _open_npz_file(DIGITS, options)


def open_idx(options: Options) -> Opened:
    """A directory of MNIST's or Fashion-MNIST's idx files; t10k is the validation split."""
    directory = Path(options.path)
    if not os.path.isdir(directory):
        raise UserError(
            f"config.data.path={options.path}: no such directory; config.data.source=idx wants "
            f"the one that holds train-images-idx3-ubyte[.gz]{advice(options.path)}"
        )
    parts = {part: idx.read_part(directory, part) for part in ("train", "t10k")}
    if parts["train"] is None:
        raise UserError(
            f"config.data.path={options.path}: train-images-idx3-ubyte[.gz] is missing; put the "
            "data set's idx files there"
        )
    sources = {
        part: None if found is None else ArraySource(*found, title=f"{directory}/{part}")
        for part, found in parts.items()
    }
    return _settle(sources["train"], sources["t10k"], (), options)


def open_npz(options: Options) -> Opened:
    """An npz file of uint8 images and integer labels, under one of these groups of names.

    x_train, y_train with x_test, y_test or x_validation, y_validation; images, labels; arr_0,
    arr_1. Only the first images of a group are required.
    """
    path = Path(options.path)
    if not os.path.isfile(path):
        raise UserError(
            f"config.data.path={options.path}: no such file; config.data.source=npz wants an .npz"
            f"{advice(options.path)}"
        )
    if is_npy(path):
        raise UserError(f"config.data.path={options.path}: {NPY}")
    return _open_npz_file(path, options)


NPY = (
    "not a readable npz: it is an .npy, one array without a name; make an .npz of it: "
    "numpy.savez('images.npz', images=numpy.load('FILE.npy'))"
)


def is_npy(path: Path) -> bool:
    """Whether a file holds a single array as numpy.save writes it, whatever its name."""
    try:
        with files.opened(path) as file:
            return file.read(6) == b"\x93NUMPY"
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return False


NAMES = "class_names"
GROUPS = (  # images and labels
    *(("x_train", "y_train"), ("images", "labels"), ("arr_0", "arr_1")),
    *(("x_validation", "y_validation"), ("x_test", "y_test")),
)


def _open_npz_file(path: Path, options: Options) -> Opened:
    try:
        with npz.opened(path) as stored:
            held = stored.names
            found = [_read_group(stored, path, *group) for group in GROUPS]
            names = _read_names(stored, f"{path}:{NAMES}") if NAMES in held else ()
    except (OSError, npz.NpzError) as error:
        raise UserError(
            f"{path}: not a readable npz of plain arrays ({files.reason(error)}); write it with "
            "np.savez"
        ) from error
    train = next(filter(None, found[:3]), None)
    validation = next(filter(None, found[3:]), None)
    if train is None:
        raise UserError(
            f"{path}: holds {some(held) or 'nothing'}; accepted: x_train (with y_train, "
            "x_test, y_test), images (with labels), or arr_0 (with arr_1)"
        )
    return _settle(train, validation, names, options)


def _read_group(stored: npz.Npz, path: Path, images: str, labels: str) -> ArraySource | None:
    """The images of a group and their labels, whose shapes are checked before they are read."""
    if images not in stored.names:
        return None
    title = f"{path}:{images}"
    header = stored.header(images)
    if not header.dtype.hasobject:  # of which `read` says that it is refused
        _check_images(header, title)
    pixels = stored.read(images)
    if labels not in stored.names:
        return ArraySource(pixels, None, title)
    count, where = header.shape[0], f"{path}:{labels}"
    _check_labels(stored.header(labels), count, where)
    return ArraySource(pixels, _checked_numbers(stored.read(labels), where), title)


def _read_names(stored: npz.Npz, title: str) -> tuple[str, ...]:
    """The names of the classes."""
    shape, _, dtype = stored.header(NAMES)
    if len(shape) != 1 or dtype.kind not in "SUiu" or shape[0] > MOST_CLASSES:
        raise UserError(
            f"{title}: is {dtype} {list(shape)}; accepted: texts [K], one name for each of at most "
            f"{MOST_CLASSES} classes"
        )
    names = stored.read(NAMES)
    return tuple(n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n) for n in names)


def _check_images(header: npz.Header, title: str) -> None:
    shape = header.shape
    good = header.dtype == np.uint8 and (
        len(shape) == 3 or (len(shape) == 4 and 1 <= shape[3] <= 4)
    )
    if not good or not header.size:
        raise UserError(
            f"{title}: is {header.dtype} {list(shape)}; accepted: uint8 [N, H, W] or "
            "[N, H, W, C] with C in 1..4 and N > 0; convert it"
        )


def _check_labels(header: npz.Header, count: int, title: str) -> None:
    if header.shape not in ((count,), (count, 1)) or header.dtype.kind not in "iu":
        raise UserError(
            f"{title}: is {header.dtype} {list(header.shape)} beside {count} images; accepted: "
            f"integers [{count}], one class number per image"
        )


def _checked_numbers(labels: np.ndarray, title: str) -> np.ndarray:
    labels = labels.reshape(-1)
    for label in (labels.min(), labels.max()) if labels.size else ():
        if not 0 <= label < MOST_CLASSES:
            raise UserError(
                f"{title}: holds {label}; class numbers lie from 0 to {MOST_CLASSES - 1}"
            )
    return labels


def _settle(
    train: ArraySource,
    validation: ArraySource | None,
    class_names: tuple[str, ...],
    options: Options,
) -> Opened:
    """Applies config.data.labels and config.data.validation_split to a source that has labels and
    splits of its own."""
    validation = _own_validation(validation, options)
    parts = [train] if validation is None else [train, validation]
    if options.labels == "none" or any(part.labels is None for part in parts):
        return Opened(train, validation, (), "none")
    count = max(int(part.labels.max()) for part in parts) + 1
    if len(class_names) < count:
        class_names = tuple(str(c) for c in range(count))
    return Opened(train, validation, class_names)


def _own_validation(validation: ArraySource | None, options: Options) -> ArraySource | None:
    if options.train_split != "train":
        raise UserError(
            f"config.data.train_split={options.train_split}: config.data.source={options.source} "
            "trains on its training part only; leave it at 'train'"
        )
    if options.validation_split == "fraction":
        return None
    if options.validation_split not in ("", "test", "t10k", "validation"):
        raise UserError(
            f"config.data.validation_split={options.validation_split} is unknown for "
            f"config.data.source={options.source}; accepted: '' (the source's own part, else a "
            "fraction), validation, test, t10k (the source's own part), fraction"
        )
    if options.validation_split and validation is None:
        raise UserError(
            f"config.data.validation_split={options.validation_split}: {options.path} has no "
            "such part; leave it empty and set config.data.validation_fraction"
        )
    return validation

"""`config.data` → Data: opens the source, makes splits, checks files, keeps images in memory."""

import dataclasses
import os
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from gan_jax.buckets import syncing
from gan_jax.data import config as config_data
from gan_jax.data import gallery, identities, pairs
from gan_jax.data.config import Options
from gan_jax.data.drawn_faces.source import open_drawn_faces
from gan_jax.data.examples import Examples
from gan_jax.data.pipeline import Classes, Data, Rows, whole_batch
from gan_jax.data.prepare import Prepare, check_shapes
from gan_jax.data.progress import Progress, Silent
from gan_jax.data.published import places
from gan_jax.data.sources import listing
from gan_jax.data.sources.arrays import Opened, open_digits, open_idx, open_npz
from gan_jax.data.sources.folders import open_folder
from gan_jax.data.sources.shards import open_shards
from gan_jax.data.sources.synthetic import open_synthetic
from gan_jax.data.sources.tfds import open_tfds
from gan_jax.errors import UserError

OPEN = {
    "digits": open_digits,
    "idx": open_idx,
    "npz": open_npz,
    "folder": open_folder,
    "shards": open_shards,
    "tfds": open_tfds,
    "synthetic": open_synthetic,
    "drawn_faces": open_drawn_faces,
}


def make(
    config: Any,
    own_rows: Callable[[int], Rows] = whole_batch,
    seed: int = 0,
    workers: int = 1,
    progress: Progress = Silent,
    decoding: str = "auto",
) -> Data:
    """Opens the data set that `config` (the section `config.data`) describes.

    Args:
        config: any object with the attributes of `defaults()`.
        own_rows: gives the rows of a batch of a given size that this process delivers.
        seed: seed of the training order, crops and flips.
        workers: how many images are decoded at a time, -1 for as many as there are cores; with 0
            each batch is made when it is needed.
        progress: makes bars for what may take long; see gan_jax.data.progress.
        decoding: whether threads or processes decode; see gan_jax.data.decoding.

    The images' headers are read at once, before any training, and decoded images are kept in memory
    if they fit into data.cache_mb, the training images first.

    Raises UserError for everything that can be wrong with the config or the files.
    """
    options = _located(config)
    found = _open(options)
    channels = _prepare(found.splits, options, progress)
    empty = _empty_classes(found.splits["train"], len(found.class_names))
    remarks = found.remarks
    if empty:
        named = listing.some([found.class_names[label] for label in empty])
        remarks = (*remarks, f"classes without a training image, which are not drawn: {named}")
    return Data(
        found.splits,
        options,
        Classes(found.class_names, empty),
        "; ".join([_describe(found, channels, options), *remarks]),
        own_rows,
        seed,
        workers,
        decoding,
    )


def class_names(config: Any) -> tuple[str, ...]:
    """The names of the classes that `make` would find, () without labels.

    Nothing else is checked. Raises UserError as `make` does.
    """
    return _open(_located(config)).class_names


def _located(config: Any) -> Options:
    """The checked options, in which every place is one on this disk, and `path` says where the data
    are."""
    options = config_data.read(config)
    given = {name: getattr(options, name) for name in config_data.PLACES}
    fetched = {name: str(syncing.fetched(place)) for name, place in given.items() if place}
    fetched["path"] = places.find(fetched.get("path", ""))
    return dataclasses.replace(options, **fetched)


class Opening(NamedTuple):
    """The splits and classes of a config's sources, before any image is read."""

    splits: dict[str, Examples | identities.IdentityExamples]
    class_names: tuple[str, ...]
    labels_from: str  # a description of where the labels come from
    remarks: tuple[str, ...]  # lines to show a person


def _open(options: Options) -> Opening:
    if options.pairs == "identities":
        opened = None if options.source == "folder" else OPEN[options.source](options)
        divided, remarks = gallery.divide(options, opened)
        splits = {
            name: identities.IdentityExamples(members, options, training=name == "train")
            for name, members in divided.items()
        }
        return Opening(splits, splits["train"].names, "the identities", remarks)
    opener = pairs.open_folders if options.pairs == "folders" else OPEN[options.source]
    opened = opener(options)
    if options.pairs not in ("none", *pairs.LABELLED):
        opened = dataclasses.replace(opened, class_names=(), labels_from="none")
    splits = {
        name: Examples(source, indices, len(opened.class_names), options)
        for name, (source, indices) in _divide(opened, options).items()
    }
    return Opening(splits, opened.class_names, opened.labels_from, opened.remarks)


def _prepare(
    splits: dict[str, Examples | identities.IdentityExamples],
    options: Options,
    progress: Progress,
) -> int:
    """Checks the shape of every image and keeps images in memory as far as data.cache_mb allows,
    the training images first; returns the channels, 1 or 3."""
    # a split whose rows are made of several images has the single ones as `images`
    stored = {name: getattr(examples, "images", examples) for name, examples in splits.items()}
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        shapes = {
            name: _shapes(examples, options, pool, progress) for name, examples in stored.items()
        }
        _check_shapes(stored, shapes, options)
        channels = _channels(stored, shapes, options)
        parts = _parts(channels, options)
        budget = options.cache_mb * 2**20
        for name, examples in stored.items():
            examples.prepare = Prepare(options, parts)
            training = name == "train"
            budget -= examples.keep(pool, budget, shapes[name], training, progress)
    return channels


def _empty_classes(train: Examples | identities.IdentityExamples, classes: int) -> tuple[int, ...]:
    """The classes without training images; () if labels are not known before images are read."""
    labels = getattr(train.source, "labels", None)
    if not classes or labels is None or not isinstance(train, Examples):
        return ()
    held = np.asarray(labels)[train.indices]
    return tuple(int(label) for label in np.setdiff1d(np.arange(classes), held))


def _divide(opened: Opened, options: Options) -> dict[str, tuple[Any, np.ndarray]]:
    """(source, numbers of its images) of each split: {"train": …, "validation": …}."""
    permute = np.random.default_rng(options.split_seed).permutation
    count = len(opened.train)
    if opened.validation is None:
        held_out = round(count * options.validation_fraction)
        if options.validation_fraction > 0 and count > 1:
            held_out = min(max(1, held_out), count - 1)
        order = permute(count)
        train, validation = order[held_out:], (opened.train, order[:held_out])
    else:
        # the first n images of a directory are of one class, so it gets a fixed random order
        order = permute if opened.sorted_by_class else np.arange
        train = order(count)
        validation = (opened.validation, order(len(opened.validation)))
    if options.limit:
        train = train[: options.limit]
    return {"train": (opened.train, train), "validation": validation}


def _check_shapes(splits: dict[str, Examples], shapes: dict[str, list], options: Options) -> None:
    found = (
        (shape, splits[name].name(row)) for name in splits for row, shape in enumerate(shapes[name])
    )
    try:
        check_shapes(found, options)
    except UserError as error:
        if options.pairs != "identities":
            raise
        raise UserError(f"{error}; the mode align makes aligned faces of one size") from error


def _shapes(
    examples: Examples, options: Options, pool: Executor, progress: Progress
) -> list[tuple[int, int, int] | None]:
    """The shape of every image, by row; [] if they are not needed."""
    height, width, channels = examples.source.known
    if height and width and channels:
        found = [examples.source.known] * len(examples)
    elif channels and options.resize not in ("none", "plain_crop") and options.pairs == "none":
        return []
    elif hasattr(examples.source, "shapes"):
        found = [(*shape,) for shape in examples.source.shapes[examples.indices].tolist()]
    else:
        found = examples.scan(pool, progress)
    if options.pairs not in pairs.STACKED:
        return found
    return [
        shape and pairs.half_shape(shape, examples.name(row)) for row, shape in enumerate(found)
    ]


def _parts(channels: int, options: Options) -> tuple[int, ...]:
    """The channels of the images in a stack: (input, target), or those of a single image."""
    if options.pairs not in pairs.STACKED:
        return (channels,)
    return pairs.channels(options, channels), channels


def _channels(splits: dict[str, Examples], shapes: dict[str, list], options: Options) -> int:
    if options.channels != "as_is":
        return 1 if options.channels == "grey" else 3
    if options.pairs == "colorize":
        return 3
    found = {shape[2] for known in shapes.values() for shape in known if shape is not None}
    found |= {examples.source.known[2] for examples in splits.values() if len(examples)} - {0}
    if not found:
        raise UserError(
            f"config.data.source={options.source}, config.data.path={options.path}: none of the "
            "images can be read; check the files, or set config.data.on_error=raise to see the "
            "reason"
        )
    return 1 if found <= {1, 2} else 3


def _describe(found: Opening, channels: int, options: Options) -> str:
    """One line for the console: the source, how many images of what kind, and their labels."""
    where = options.name or options.path
    title = f"{options.source} {where}" if where and options.source != "digits" else options.source
    counts = " + ".join(
        f"{len(examples):,} {name}" for name, examples in found.splits.items() if len(examples)
    )
    of_identities = options.pairs == "identities"
    held = identities.describe(found.splits) if of_identities else f"{counts} images"
    left_out = identities.describe_left_out(found.splits) if of_identities else ""
    colours = {1: "greyscale", 3: "RGB"}[channels]
    said = [] if options.pairs == "none" else [_pairing(options)]
    if found.class_names:
        told = f"{len(found.class_names)} classes"
        if found.labels_from:
            told += f" ({found.labels_from})"
        plain = listing.only_count(found.class_names)
        said.append(told if plain else f"{told}: {listing.some([*found.class_names])}")
    return (
        f"{title}: {held}, {options.resolution}x{options.resolution} {colours}, "
        f"{', '.join(said) or 'no labels'}{left_out}"
    )


def _pairing(options: Options) -> str:
    """A description of which image of a pair is the input and which the target."""
    if options.pairs in pairs.STACKED:
        a, b = ("A", "B") if options.direction == "a_to_b" else ("B", "A")
        sides = {"side_by_side": "left and right halves", "folders": "path and path_b"}
        return f"{a} to {b} ({options.direction}; A and B are {sides[options.pairs]})"
    if options.pairs == "identities":
        return "photos to caricatures"
    if options.pairs == "upscale":
        small = pairs.input_side(options)
        return f"upscale from {small}x{small}"
    return options.pairs

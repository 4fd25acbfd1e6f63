"""Checks of a config's values, and the reading of places and lists as people write them."""

import os
import re
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from gan_jax.buckets.addresses import is_address
from gan_jax.errors import ArgumentError, UserError, at_least, one_of, short

DATA_PATHS = (  # keys of `data` that name a place
    "path",
    "path_b",
    "validation_path",
    "validation_path_b",
    "train_list",
    "validation_list",
)
QUALITY_PATHS = ("inception", "lpips", "segmenter", "recogniser", "classifier")
MADE_HERE = ("digits", "synthetic", "drawn_faces")  # sources that come with gan_jax
# types of the items of tuples that are empty by default
ITEMS = {"augment": {str}, "channel_mult": {int, float}}
BOUNDS = {  # key: lowest accepted value
    "seed": 0,
    "run.keep": 1,
    "run.workers": -1,
    "run.sample_count": 1,
    "run.patience": 0,
    "run.save_minutes": 0,
    "run.devices": 0,
    "mesh.data": 0,
    "mesh.fsdp": 1,
    "mesh.least_mb": 0,
    "run.sync_seconds": 1,
    "run.save_retries": 0,
    "run.nonfinite_limit": 1,
    "quality.samples": 2,
    "quality.classifier_width": 1,
    "quality.seed": 0,
    "quality.kid_subsets": 1,
    "quality.kid_subset_size": 2,
    "quality.splits": 1,
}
DECODING = ("auto", "threads", "processes")
ON_NONFINITE = ("stop", "skip", "rollback")
SEEDS = 2**32  # of numpy's generators
SIZES = 2**31  # nothing that a config counts is as many


def check(config: ConfigDict) -> None:
    """Raises UserError for a number out of range that no other room checks."""
    values = dict(_leaves(config))
    for key, lowest in BOUNDS.items():
        at_least(f"config.{key}", values[key], lowest)
    one_of("config.run.on_nonfinite", config.run.on_nonfinite, ON_NONFINITE)
    one_of("config.run.decoding", config.run.decoding, DECODING)
    steps_per_call(config)
    for key, value in values.items():
        limit = SEEDS if key in ("seed", "quality.seed") else SIZES
        if isinstance(value, int) and abs(value) >= limit:
            raise UserError(f"config.{key}={short(value)}: must be below {limit}")
    for name, pair in config.restore.items():
        if len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise UserError(
                f"config.restore.{name}={tuple(pair)}: give a source and a glob, such as "
                "\"('runs/a', '*')\""
            )


def steps_per_call(config: ConfigDict) -> int:
    """config.run.steps_per_call as a number, 0 for auto.

    Raises UserError unless it is "auto" or a whole number of at least 1.
    """
    text = config.run.steps_per_call.strip()
    if text == "auto":
        return 0
    # isdigit accepts digits that int does not read
    count = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if not 1 <= count < SIZES:
        raise UserError(
            f"config.run.steps_per_call={short(text)!r}: write auto, or a whole number of at "
            "least 1"
        )
    return count


def check_types(config: ConfigDict, usual: ConfigDict) -> None:
    """Raises UserError for a value whose type is not that of the same key in `usual`, the defaults.

    ml_collections checks types too, but accepts None, and any items inside a tuple.
    """
    expected = dict(_leaves(usual))
    for key, value in _leaves(config):
        wanted = expected.get(key, value)
        if isinstance(wanted, tuple):
            _check_items(key, value, wanted)
        else:
            _check_value(key, value, wanted)


def _check_value(key: str, value: Any, wanted: Any) -> None:
    if value == "None":
        raise UserError(
            f"config.{key}='None' would be read as a name; an empty value, --config.{key}=, "
            "means none"
        )
    if value is None or not _is_a(value, type(wanted)):
        raise UserError(
            f"config.{key}={value!r}: a value of type {type(wanted).__name__} is expected, such as "
            f"the default, {wanted!r}"
        )


def _check_items(key: str, value: Any, wanted: tuple) -> None:
    # an empty default shows no type: ITEMS has it, or else the system checks the items
    kinds = {type(item) for item in wanted} or ITEMS.get(key.rpartition(".")[2], {object})
    several = isinstance(value, (tuple, list))
    items = value if several else (None,)
    if not all(item is not None and any(_is_a(item, kind) for kind in kinds) for item in items):
        names = " or ".join(sorted(kind.__name__ for kind in kinds))
        raise UserError(
            f"config.{key}={tuple(value) if several else value!r}: a tuple of {names} is expected, "
            f"such as the default, {wanted!r}; () for none"
        )


def _is_a(value: Any, kind: type) -> bool:
    """Whether a value is of a kind; an int is a float, a bool is no number."""
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _leaves(section: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        if isinstance(value, ConfigDict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def words(text: str) -> tuple[str, ...]:
    """The items of a list that a person wrote: "fid, kid" → ("fid", "kid")."""
    return tuple(filter(None, (part.strip() for part in text.split(","))))


def expand_lists(config: ConfigDict) -> None:
    """Splits names that were written as one word ("fid, kid"). In place."""
    config.quality.metrics = words(",".join(config.quality.metrics))
    if "augment" in config:
        config.augment = words(",".join(config.augment))


def expand_home(config: ConfigDict) -> None:
    """Replaces ~ by the home folder in every key that names a place. In place."""
    for section, names in ((config.data, DATA_PATHS), (config.quality, QUALITY_PATHS)):
        for name in names:
            section[name] = os.path.expanduser(section[name])
    for name, pair in config.restore.items():
        if pair and isinstance(pair[0], str):
            config.restore[name] = (os.path.expanduser(pair[0].strip()), *pair[1:])


def places(text: str) -> dict[str, str]:
    """Places of the data by key: "DIR" → {"path": "DIR"}, "path=DIR,validation_path=DIR2" → both.

    ~ is the home folder. Raises an ArgumentError that names "data" for a key that the section
    `data` does not have, and for a place that does not exist.
    """
    text = text.strip()
    if not text:
        return {}
    pairs = text.split(",")
    if not re.match(r"\w+=", text) or os.path.exists(text):
        pairs = [f"path={text}"]
    found = {}
    for part in pairs:
        name, _, place = (word.strip() for word in part.partition("="))
        if name not in DATA_PATHS or not place:
            raise ArgumentError(
                "data",
                f"={text}: write a folder or file, or keys and places such as "
                f"path=DIR,validation_path=DIR2; accepted keys are {', '.join(DATA_PATHS)}",
            )
        found[name] = os.path.expanduser(place)
        if not is_address(found[name]) and not os.path.exists(found[name]):
            raise ArgumentError(
                "data", f": {found[name]} does not exist; name where the data are now"
            )
    return found


def move_data(config: ConfigDict, found: dict[str, str]) -> None:
    """Sets, in place, where the data of a run are now; `found` is the result of `places`.

    Raises an ArgumentError that names "data" if the data come with gan_jax and have no place.
    """
    if found and config.data.source in MADE_HERE:
        raise ArgumentError(
            "data",
            f": the data of this run are config.data.source={config.data.source!r}, which come "
            "with gan_jax; leave it out",
        )
    config.data.update(found)

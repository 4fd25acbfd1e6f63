"""Configs: systems and their defaults, variants, config files, and how two configs differ.

A ConfigDict is read here, in each system's `build`, in `data.make` and in the rooms from run
upwards; everything else takes plain arguments. Values are checked in `gan_jax.config_checks`.
"""

import importlib
import json
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from gan_jax import files
from gan_jax.config_checks import (
    DATA_PATHS,
    QUALITY_PATHS,
    check,
    check_types,
    expand_home,
    expand_lists,
    move_data,
    places,
    words,
)
from gan_jax.config_files import find, load, shipped, sibling
from gan_jax.errors import UserError, near_miss, one_of

__all__ = [
    "DATA_PATHS",
    "QUALITY_PATHS",
    "SYSTEMS",
    "as_built",
    "check",
    "defaults",
    "differences",
    "find",
    "flat",
    "load_file",
    "may_change",
    "move_data",
    "places",
    "plain",
    "prepare",
    "resolve",
    "shipped",
    "sibling",
    "tiny",
    "typed",
    "variants",
    "words",
]


class Systems(Mapping):
    """Modules by the name of their system; each is imported when it is first asked for."""

    def __init__(self, *names: str):
        self._names = names

    def __getitem__(self, name: str) -> ModuleType:
        if name not in self._names:
            raise KeyError(name)
        return importlib.import_module(f"gan_jax.systems.{name}")

    def __contains__(self, name: object) -> bool:
        return name in self._names  # without an import

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


SYSTEMS = Systems(
    "gan", "classifier", "pix2pix", "progan", "diffusion", "noisy_classifier", "warpgan"
)

MEMORY = ("microbatches", "model.remat")  # keys by which a step takes less memory
RUN = dict(
    # intervals: "500" or "500 steps", "2 epochs", "20000 images"; "0" for never; where a system
    # has a rhythm of its own (progan) also "1 tick"
    steps="20 epochs",
    log_every="100",
    sample_every="1 epoch",
    eval_every="1 epoch",
    quality_every="0",  # scores of generated images, see `quality`
    save_every="1 epoch",
    save_minutes=10.0,  # also save when the last save was this long ago; 0: by save_every only
    keep=2,  # how many of the newest states are kept
    keep_every="0",  # the interval of states that are kept for good; a multiple of save_every
    patience=0,  # evaluations without a better `best.metric` before the run stops; 0: never
    sample_count=64,  # images in a grid
    devices=0,  # 0: all
    compile_ahead=True,  # compile for the next batch size or resolution while this one trains
    # steps that share a call of a program where nothing is due before the last of them; auto: as
    # many as save time, 1 where steps are long or few
    steps_per_call="auto",
    workers=-1,  # images decoded at a time; -1: as many as there are cores, 1 if all are in memory
    decoding="auto",  # what decodes them: threads | processes | auto, processes for 8 and more
    sync_seconds=60.0,  # between copies of the run's folder to a bucket, if it is in one
    save_retries=5,  # how often a save that fails is tried again, with pauses of 1, 2, 4, … s
    on_nonfinite="stop",  # a step that is not finite: stop | skip | rollback (to a good state)
    nonfinite_limit=10,  # how many steps in a row may be skipped; how often the run may go back
)
MESH = dict(
    data=0,  # parts of a batch on devices with the same part of the state; 0: what there is
    fsdp=1,  # parts of the state; 1: every device holds all of it
    least_mb=1.0,  # smaller arrays of the state are not split
)
QUALITY = dict(
    samples=2000,  # images drawn for each measurement, seeds 0, 1, …
    metrics=("fd_classifier", "classes"),  # see docs/metrics.md
    split="",  # real images: validation | train; "": validation where there is one
    inception="",  # file with the weights of the Inception network; "": cached by an earlier use
    resize="tf1",  # how images are resized for it: tf1 | clean | bilinear
    lpips="",  # file with the weights of LPIPS; "": cached by an earlier use
    segmenter="",  # folder of a segmenter's run, for translations of label maps
    recogniser="",  # folder of an identity classifier's run, for rank1
    seed=2020,  # of random subsets, orders and directions
    kid_subsets=100,
    kid_subset_size=1000,  # at most
    splits=10,  # of the Inception Score
    few=False,  # whether Fréchet distances may use fewer images than features (marked as biased)
    classifier="",  # folder of a classifier's run; "": one is trained first, beside this run
    classifier_steps="1500",
    classifier_width=16,
)


def defaults(system: str) -> ConfigDict:
    """The complete config of a system with its default values, typed and locked.

    Sections: system, seed, data, the system's own, quality, best, restore, run, mesh. A config file
    changes what its experiment changes; `launch.py --dry_run` prints all of it. As it is, it trains
    on images that come with gan_jax. Raises UserError for a system that does not exist.
    """
    from gan_jax import data  # here, since it takes a second to import

    one_of("config.system", system, SYSTEMS)
    module = SYSTEMS[system]
    own = dict(module.defaults())
    measured, chosen = own.pop("quality", {}), own.pop("best", {})
    read = own.pop("data", {})
    config = dict(
        system=system,
        seed=0,
        data=data.defaults() | read,
        **own,
        quality=QUALITY | measured,
        best=dict(metric="val/loss", mode="min") | chosen,
        # where the first weights of a net come from: (a run, a checkpoint, or a .pth, .npz or .pkl
        # file; a glob over names); "" for its own initialisation
        restore=dict.fromkeys((*own["optim"], *getattr(module, "FROZEN", ())), ("", "*")),
        run=dict(RUN),
        mesh=dict(MESH),
    )
    return ConfigDict(config).lock()


def variants(text: str, accepted: tuple[str, ...]) -> tuple[str, ...]:
    """The variants named after the colon of --config=configs/x.py:a,b.

    Raises UserError for one that the config does not have.
    """
    chosen = tuple(filter(None, text.replace(" ", "").split(",")))
    for name in chosen:
        if name not in accepted:
            raise UserError(
                f"variant {name!r}: this config has {', '.join(accepted)}"
                f"{near_miss(name, accepted)}"
            )
    return chosen


def tiny(config: ConfigDict, resolution: int = 8, channels: str = "grey") -> ConfigDict:
    """Turns any config, in place, into one that trains for a few seconds on synthetic data.

    Images, batches, networks and the run become small. What is trained does not change: the
    objective, losses, processes, schedules and the switches of the networks.
    """
    config.data.source = "synthetic"
    config.data.update(
        path="", name="", validation_split="", validation_path="", validation_fraction=0.25
    )
    config.data.update(path_b="", validation_path_b="")
    if config.data.labels == "folder":
        config.data.labels = "auto"
    if config.data.pairs == "folders":
        config.data.pairs = "side_by_side"
    config.data.update(resolution=resolution, channels=channels, resize="none", pad=0, limit=0)
    config.data.update(synthetic_size=64, synthetic_classes=4)
    config.data.load_resolution = resolution + 2
    if config.data.pairs == "identities":
        config.data.update(source="drawn_faces", train_list="", validation_list="")
        config.data.update(identities=16, validation_identities=4, photos=2, caricatures=2)
    config.update(batch_size=8, microbatches=1)
    config.run.update(steps="6", log_every="2", sample_every="3", eval_every="3", save_every="3")
    config.run.update(sample_count=8)
    if config.run.quality_every != "0":
        config.run.quality_every = "3"
    config.quality.update(samples=16, classifier_steps="4", classifier_width=4, few=True)
    SYSTEMS[config.system].tiny(config)
    return config


def load_file(path: str, variant: str = "") -> ConfigDict:
    """`get_config(variant)` of a config file, or of a config that comes with gan_jax.

    `path` is a file, or a name such as "dcgan_mnist". Raises an ArgumentError that names "config"
    if there is neither, and UserError for a variant that the config does not have.
    """
    return load(find(path)).get_config(variant)


def prepare(config: ConfigDict) -> None:
    """Expands, in place, what people abbreviate: ~ in every key that names a place, and lists of
    names that were written as one word ("fid, kid").

    Raises UserError for a value whose type is not that of the key's default.
    """
    check_types(config, defaults(config.system))
    expand_lists(config)
    expand_home(config)


def resolve(config: ConfigDict, devices: int, stored: dict[str, Any] | None = None) -> None:
    """Replaces, in place, the values "auto", which a run decides once, at its start.

    They come from the config that the run has `stored`, if there is one, and otherwise from the
    number of devices. `data.reading`, the rules by which folders are read, also comes from
    `stored`, because a run of the first revision keeps the rules of that revision.
    """
    if stored and config.data.reading == "auto":
        config.data.reading = stored["data"]["reading"]
    for key, choose in getattr(SYSTEMS[config.system], "AUTO", {}).items():
        section, name = key.split(".")
        if config[section][name] == "auto":
            config[section][name] = stored[section][name] if stored else choose(devices)


def as_built(config: ConfigDict) -> ConfigDict:
    """The config from which the system of an existing run is built.

    Options that the run's networks do not have are set to their default values; the rest is the
    same. A new run that sets such an option is refused, but earlier revisions ignored some of them,
    and a run that began in this way can go on.
    """
    found = getattr(SYSTEMS[config.system], "unused", lambda config: {})(config)
    if not found:
        return config
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(found)
    return config


def plain(config: ConfigDict) -> dict[str, Any]:
    """A config as JSON values (tuples become lists)."""
    return json.loads(config.copy_and_resolve_references().to_json())


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of a tree by dotted name: {"optim.gen.lr": 1e-4}."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def without_places(config: ConfigDict) -> dict[str, Any]:
    """The values of a config by dotted name, without the places of the data, which may differ
    between hosts."""
    places = {f"data.{name}" for name in DATA_PATHS}
    return {key: value for key, value in flat(plain(config)).items() if key not in places}


def typed(values: dict[str, Any]) -> ConfigDict:
    """The inverse of `plain`: a config whose types and tuples are those of the system's defaults.

    Raises UserError for values that do not fit the defaults.
    """
    config = defaults(values.get("system", ""))
    config.data.reading = "first"  # what runs used before this key existed
    try:
        config.update(values)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"the saved config does not fit this version of gan_jax: {files.reason(error)}"
        ) from None
    return config


def may_change(key: str) -> bool:
    """Whether a key may change when a run resumes.

    Keys under `run` may: they say how long the run is and what it writes. So may the devices'
    `mesh`, and what saves memory at the cost of time, because a step computes the same (only what
    is drawn at random, such as masks of dropout, is drawn for each part of a batch by itself); and
    the places and the channels of the data, because what comes of them is compared instead.
    """
    compared = {f"data.{name}" for name in (*DATA_PATHS, "channels", "input_channels")}
    return key.startswith(("run.", "mesh.")) or key in compared or key in MEMORY


def differences(old: dict, new: dict, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """{"optim.gen.lr": (old, new)} for every leaf that differs; None stands for a missing leaf."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found |= differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found[f"{prefix}{key}"] = (a, b)
    return found

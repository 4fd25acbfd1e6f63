"""Configs: defaults, reading, comparing.

ConfigDicts come in here and in api; nothing else reads them but systems/*.make and data.make.
"""

import importlib.util
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from gan_jax import data
from gan_jax.errors import UserError
from gan_jax.systems import (
    classifier,
    diffusion,
    gan,
    noisy_classifier,
    pix2pix,
    progan,
    warpgan,
)

SYSTEMS = {
    "gan": gan,
    "classifier": classifier,
    "pix2pix": pix2pix,
    "progan": progan,
    "diffusion": diffusion,
    "noisy_classifier": noisy_classifier,
    "warpgan": warpgan,
}

RUN = dict(
    # intervals: "500" or "500 steps", "2 epochs", "20000 images"; "0" for never; where a system
    # has a rhythm of its own (progan) also "1 tick"
    steps="20 epochs",
    log_every="100",
    sample_every="1 epoch",
    eval_every="1 epoch",
    quality_every="0",  # scores of generated images, see `quality`
    save_every="1 epoch",
    save_minutes=10.0,  # a state at least this often as well; 0: by steps only
    keep=2,  # newest states kept
    keep_every="0",  # states kept for good; a multiple of save_every
    patience=0,  # evaluations without a better `best.metric` before the run stops; 0: never
    sample_count=64,  # images in a grid
    devices=0,  # 0: all
    compile_ahead=True,  # where batch or resolution will change: compiled beside the training
    workers=1,  # threads that prepare batches
)
QUALITY = dict(
    samples=2000,  # images drawn for each measurement, seeds 0, 1, …
    metrics=("fd_classifier", "classes"),  # see docs/metrics.md
    split="",  # real images: validation | train; "": validation where there is one
    inception="",  # file with the weights of the Inception network; "": those named before
    resize="tf1",  # how images come to its size: tf1 | clean | bilinear
    lpips="",  # file with the weights of LPIPS; "": genuine ones named before
    segmenter="",  # folder of a segmenter's run, for translations of label maps
    recogniser="",  # folder of an identity classifier's run, for rank1
    seed=2020,  # of random subsets, orders and directions
    kid_subsets=100,
    kid_subset_size=1000,  # at most
    splits=10,  # of the Inception Score
    few=False,  # Fréchet distances of fewer images than features too, marked as biased
    classifier="",  # folder of a classifier's run; "": one is trained first, beside this run
    classifier_steps="1500",
    classifier_width=16,
)
DATA_PATHS = (  # keys of `data` that name a place
    "path",
    "path_b",
    "validation_path",
    "validation_path_b",
    "train_list",
    "validation_list",
)
QUALITY_PATHS = ("inception", "lpips", "segmenter", "recogniser", "classifier")
ITEMS = {"augment": {str}, "channel_mult": {int, float}}  # of tuples that are empty by default
MADE_HERE = ("digits", "synthetic", "drawn_faces")  # sources that lie nowhere


def may_change(key: str) -> bool:
    """Whether a resumption may change a key: how long a run is and what it writes, and where its
    data are now, whose sizes are looked at instead."""
    return key.startswith("run.") or key in {f"data.{name}" for name in DATA_PATHS}


def prepare(config: ConfigDict) -> None:
    """Replaces ~ by the home folder in every key that names a place, and takes lists of names
    apart that were written as one word ("fid, kid"). In place.

    Raises UserError for a value that is of another type than the key's default.
    """
    check_types(config)
    config.quality.metrics = words(",".join(config.quality.metrics))
    if "augment" in config:
        config.augment = words(",".join(config.augment))
    for section, names in ((config.data, DATA_PATHS), (config.quality, QUALITY_PATHS)):
        for name in names:
            section[name] = os.path.expanduser(section[name])
    for name, pair in config.restore.items():
        if pair and isinstance(pair[0], str):
            config.restore[name] = (os.path.expanduser(pair[0].strip()), *pair[1:])


def words(text: str) -> tuple[str, ...]:
    """What a person lists: "fid, kid" → ("fid", "kid")."""
    return tuple(filter(None, (part.strip() for part in text.split(","))))


def check_types(config: ConfigDict) -> None:
    """Raises UserError for None, a wrong type, or one inside a tuple: ml_collections lets some
    pass."""
    usual = dict(_leaves(defaults(config.system)))
    for key, value in _leaves(config):
        wanted = usual.get(key, value)
        if not isinstance(wanted, tuple):
            if value == "None":
                raise UserError(
                    f"config.{key}='None': that would be a name; an empty value, --config.{key}=, "
                    "means none"
                )
            if not _is_a(value, type(wanted)) or value is None:
                name = type(wanted).__name__
                raise UserError(
                    f"config.{key}={value!r}: a value of type {name} is expected, such as the "
                    f"default, {wanted!r}"
                )
            continue
        # what an empty tuple may hold is known here or left to its system
        kinds = {type(item) for item in wanted} or ITEMS.get(key.rpartition(".")[2], {object})
        items = value if isinstance(value, (tuple, list)) else (None,)
        if not all(item is not None and any(_is_a(item, k) for k in kinds) for item in items):
            shown = tuple(value) if isinstance(value, (tuple, list)) else value
            names = " or ".join(sorted(k.__name__ for k in kinds))
            raise UserError(
                f"config.{key}={shown!r}: a tuple of {names} is expected, such as the default, "
                f"{wanted!r}; () for none"
            )


def _is_a(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _leaves(section: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        if isinstance(value, ConfigDict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def places(text: str) -> dict[str, str]:
    """What --data says: "DIR" → {"path": "DIR"}, "path=DIR,validation_path=DIR2" → both.

    ~ is the home folder. Raises UserError for a key that `data` does not have.
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
            raise UserError(
                f"--data={text}: write a folder or file, or keys and places such as "
                f"path=DIR,validation_path=DIR2; accepted keys are {', '.join(DATA_PATHS)}"
            )
        found[name] = os.path.expanduser(place)
        if not os.path.exists(found[name]):
            raise UserError(f"--data: {found[name]} does not exist; name where the data are now")
    return found


def move_data(config: ConfigDict, found: dict[str, str]) -> None:
    """Sets where the data of a run are now, as of `places`. In place."""
    if found and config.data.source in MADE_HERE:
        raise UserError(
            f"--data: the data of this run are config.data.source={config.data.source!r}, which "
            "come with gan_jax; leave it out"
        )
    config.data.update(found)


def defaults(system: str) -> ConfigDict:
    """The complete config of a system with its default values, typed and locked.

    Sections: system, seed, data, the system's own, quality, best, restore, run. A config file
    changes what its experiment changes; `launch.py --dry_run` prints all of it.
    """
    if system not in SYSTEMS:
        raise UserError(f"config.system={system!r}: accepted are {', '.join(SYSTEMS)}")
    own = dict(SYSTEMS[system].defaults())
    measured, chosen = own.pop("quality", {}), own.pop("best", {})
    config = dict(
        system=system,
        seed=0,
        data=data.defaults(),
        **own,
        quality=QUALITY | measured,
        best=dict(metric="val/loss", mode="min") | chosen,
        # where the first weights of a net come from: (a run, a checkpoint, or a .pth, .npz or .pkl
        # file; a glob over names); "" for its own initialisation
        restore=dict.fromkeys((*own["optim"], *getattr(SYSTEMS[system], "FROZEN", ())), ("", "*")),
        run=dict(RUN),
    )
    return ConfigDict(config).lock()


def resolve(config: ConfigDict, devices: int, stored: dict[str, Any] | None = None) -> None:
    """Replaces what a system decides once, at the run's start: values "auto". In place.

    By the run's own choice where its config is `stored`, else by the number of devices. A `stored`
    run also says how its folders are understood: those of the first revision keep its rules.
    """
    if stored and config.data.reading == "auto":
        config.data.reading = stored["data"]["reading"]
    for key, choose in getattr(SYSTEMS[config.system], "AUTO", {}).items():
        section, name = key.split(".")
        if config[section][name] == "auto":
            config[section][name] = stored[section][name] if stored else choose(devices)


def as_built(config: ConfigDict) -> ConfigDict:
    """The config that the system of a run is made from, where the run has begun already.

    The same, but for options that its networks do not have. A new run that sets one is refused;
    earlier revisions ignored some, and such a run goes on as it began.
    """
    found = getattr(SYSTEMS[config.system], "unused", lambda config: {})(config)
    if not found:
        return config
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(found)
    return config


BOUNDS = {  # key: lowest accepted value
    "seed": 0,
    "run.keep": 1,
    "run.workers": 0,
    "run.sample_count": 1,
    "run.patience": 0,
    "run.save_minutes": 0,
    "run.devices": 0,
    "quality.samples": 2,
    "quality.classifier_width": 1,
    "quality.seed": 0,
    "quality.kid_subsets": 1,
    "quality.kid_subset_size": 2,
    "quality.splits": 1,
}


def check(config: ConfigDict) -> None:
    """Raises UserError for numbers out of range that no other room checks."""
    for key, lowest in BOUNDS.items():
        value = config
        for part in key.split("."):
            value = value[part]
        if value < lowest:
            raise UserError(f"config.{key}={value}: must be at least {lowest}")
    for key, seed in (("seed", config.seed), ("quality.seed", config.quality.seed)):
        if seed >= 2**32:
            raise UserError(f"config.{key}={seed}: must be below {2**32}")
    for name, pair in config.restore.items():
        if len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise UserError(
                f"config.restore.{name}={tuple(pair)}: give a source and a glob, such as "
                "\"('runs/a', '*')\""
            )


def variants(text: str, accepted: tuple[str, ...]) -> tuple[str, ...]:
    """The variants named after the colon of --config=configs/x.py:a,b.

    Raises UserError for one that the config does not have.
    """
    chosen = tuple(filter(None, text.replace(" ", "").split(",")))
    for name in chosen:
        if name not in accepted:
            raise UserError(f"variant {name!r}: this config has {', '.join(accepted)}")
    return chosen


def tiny(config: ConfigDict, resolution: int = 8, channels: str = "grey") -> ConfigDict:
    """Turns any config into one that trains for seconds on synthetic data. In place."""
    config.data.source = "synthetic"
    config.data.update(
        path="", name="", validation_split="", validation_path="", validation_fraction=0.25
    )
    config.data.update(path_b="", validation_path_b="")
    if config.data.pairs == "folders":
        config.data.pairs = "side_by_side"
    config.data.update(resolution=resolution, channels=channels, resize="none", pad=0, limit=0)
    config.data.update(synthetic_size=64, synthetic_classes=4)
    if config.data.pairs == "identities":
        config.data.update(source="drawn_faces", train_list="", validation_list="")
        config.data.update(identities=16, validation_identities=4, photos=2, caricatures=2)
    config.batch_size = 8
    config.run.update(steps="6", log_every="2", sample_every="3", eval_every="3", save_every="3")
    config.run.update(sample_count=8)
    if config.run.quality_every != "0":
        config.run.quality_every = "3"
    config.quality.update(samples=16, classifier_steps="4", classifier_width=4, few=True)
    return config


def tiny_growth(config: ConfigDict) -> ConfigDict:
    """Turns a config of progan at its `tiny` size into one that grows from 4 px in 14 steps."""
    first = min(config.growth.initial_resolution, config.data.resolution)
    config.growth.update(preset="none", initial_resolution=first)
    config.growth.update(training_kimg=0.016, transition_kimg=0.032)
    config.growth.update(batch="", gen_rates="", disc_rates="", ticks="", repeats=1)
    config.model.update(fmap_base=32, fmap_max=8, z_dim=8)
    config.run.update(steps="14", sample_every="2", eval_every="2", save_every="2")
    if config.run.quality_every != "0":
        config.run.quality_every = "2"
    return config


def tiny_unet(model: ConfigDict) -> ConfigDict:
    """Turns a section of a U-Net or of its encoder into that of a network for 8 px. In place."""
    model.update(num_channels=8, num_res_blocks=0, channel_mult=(1, 2), norm_groups=4)
    model.update(attention_resolutions=(), num_head_channels=8, dtype="float32")
    return model


def tiny_diffusion(config: ConfigDict) -> ConfigDict:
    """Turns a config of diffusion, or of its classifier, at its `tiny` size into one that compiles
    fast; those that differ in sizes, rates and schedules only become one program. In place."""
    usual = defaults(config.system)
    tiny_unet(config.model)
    config.discrete.update(usual.discrete, schedule="cosine")
    config.optim.update(usual.optim)
    config.microbatches = 1
    if config.system == "diffusion":
        config.model.update(dropout=0.0, attention_order="legacy", num_heads=4)
        config.model.resblock_updown = True
        config.sampling.steps = "3"
    return config


def tiny_warpgan(config: ConfigDict) -> ConfigDict:
    """Turns a config of warpgan at its `tiny` size into one that compiles fast. In place."""
    usual = defaults("warpgan")
    config.model.update(width=4, blocks=1, control_width=8, disc_width=2, bottleneck=8)
    config.model.update(warp_head="pooled", disc_head="flat", logit_scale=1.0)
    config.loss.update(usual.loss)
    config.optim.update(usual.optim)
    return config


def load_file(path: str, variant: str = "") -> ConfigDict:
    """`get_config(variant)` of a config file."""
    if not Path(path).is_file():
        raise UserError(
            f"--config={path}: no such file; configs/ holds the ones that come with gan_jax"
        )
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(variant)


def plain(config: ConfigDict) -> dict[str, Any]:
    """A config as JSON values (tuples become lists)."""
    return json.loads(config.copy_and_resolve_references().to_json())


def typed(values: dict[str, Any]) -> ConfigDict:
    """The config that `plain` was made from: types and tuples come from the system's defaults."""
    config = defaults(values.get("system", ""))
    config.data.reading = "first"  # of runs from before there was a choice
    try:
        config.update(values)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"the saved config does not fit this version of gan_jax: {reason}"
        ) from None
    return config


def differences(old: dict, new: dict, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """{"optim.gen.lr": (old, new)} for every leaf that differs; a missing one is None."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found |= differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found[f"{prefix}{key}"] = (a, b)
    return found

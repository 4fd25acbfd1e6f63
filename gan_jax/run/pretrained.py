"""Models to use: that of a run, or the networks of a config with weights from a file."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from gan_jax import config as configs
from gan_jax.buckets import syncing
from gan_jax.core.system import Facts, System
from gan_jax.data import config as config_data
from gan_jax.data import pairs
from gan_jax.errors import ArgumentError
from gan_jax.interop import readers
from gan_jax.run.experiment import Experiment
from gan_jax.run.model import Model, load
from gan_jax.run.weights import restore_weights

Uses = Callable[[System], Sequence[str]]  # which nets of a system a mode needs


def opened(
    workdir: str | Path,
    state: str,
    config: ConfigDict | None,
    uses: Uses,
    mode: str,
    data: Mapping[str, str] | None = None,
) -> Model:
    """The model of a run or, if `workdir` is empty, of a config whose `restore` names weights.

    `state` and `data` are as in `load`; `data` may only be given for a model that translates its
    validation images. `mode` is named in errors. Raises UserError if neither a run nor weights are
    named.
    """
    if str(workdir):
        model = load(workdir, state, data)
        if data and not model.experiment.facts.input_channels:
            raise ArgumentError(
                "data", ": this model draws images without the run's data; leave it out"
            )
        return model
    if config is None:
        raise ArgumentError(
            "workdir",
            f" is missing: {mode} needs the folder of a run, or a config whose config.restore "
            "names weights",
        )
    return from_config(config, uses)


def from_config(config: ConfigDict, uses: Uses) -> Model:
    """A model that was not trained here: networks of a config, with weights that its `restore`
    names. Which weights were restored is logged.

    Args:
      config: changed in place, so that it no longer names any data.
      uses: gives the nets of the system for which weights must be named.

    Raises UserError if weights for a net are not named, or do not fit.
    """
    _without_data(config)
    experiment = Experiment(config, _facts(config))
    for net in uses(experiment.system):
        if not config.restore[net][0]:
            raise ArgumentError(
                "workdir",
                " is missing: name the folder of a run, or a file with weights, such as "
                f"config.restore.{net}=('net.pth', '*')",
            )
    state = restore_weights(experiment, experiment.fresh()).state
    # whatever depends on the step, such as a fade, is as after the end of training, at full size
    state = state.replace(step=experiment.mesh.copy(np.int32(experiment.last.end + 1)))
    stage = dataclasses.replace(experiment.last, resolution=experiment.facts.resolution)
    return Model(experiment, state, 0, stage)


def _without_data(config: ConfigDict) -> None:
    """Changes the config, in place, so that it names no data and one device, and checks it."""
    config.data.update(source="synthetic", path="", name="", path_b="")
    config.data.update(validation_path="", validation_path_b="", validation_split="")
    if config.data.pairs == "folders":
        config.data.pairs = "side_by_side"
    config.run.devices = 1
    config.mesh.update(data=0, fsdp=1)
    configs.prepare(config)
    configs.check(config)


def _facts(config: ConfigDict) -> Facts:
    """Facts of data that are not there. Only the shapes of images and the number of classes matter
    here."""
    options = config_data.read(config.data)
    channels = 1 if options.channels == "grey" else 3
    sources = (syncing.fetched(source) for source, _ in config.restore.values() if source)
    return Facts(
        options.resolution,
        channels,
        num_classes=max(map(readers.classes, sources), default=0),
        train_size=max(config.batch_size, 1),
        input_channels=pairs.channels(options, channels),
    )

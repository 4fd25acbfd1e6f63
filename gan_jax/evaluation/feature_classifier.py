"""The classifier whose features and classes samples are measured with.

It is the run that `config.quality.classifier` names, or one that is trained on the run's own data,
in the folder `classifier` of the run.
"""

import math
from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from gan_jax import config as configs
from gan_jax.errors import UserError
from gan_jax.run import class_names
from gan_jax.run import folder as folders
from gan_jax.run.experiment import Experiment
from gan_jax.run.model import Model, load

Say = Callable[[str], None]
Train = Callable[[ConfigDict, Path, Say], dict]  # as `gan_jax.train`


class Terminated(UserError):
    """A signal ended the training of the classifier; there is no run to summarise yet."""


def find(experiment: Experiment, folder: Path, say: Say, train: Train) -> Model:
    """The classifier for the run in `folder`, trained by `train` where that has not been done yet.

    Raises UserError where it does not fit the run's data, and Terminated.
    """
    named = experiment.config.quality.classifier
    if named:
        return _fitting(load(named), experiment)
    config, place = _config(experiment), folder / "classifier"
    finished = folders.read_summary(place).get("reason") == "finished"
    if not (finished and _as_trained(place, config)):
        # where one is finished, what its training says has been said before
        if not finished:
            say("classifier that will judge the samples:")
        summary = train(config, place, lambda text: None if finished else say(f"  {text}"))
        if summary["reason"] == "terminated":
            raise Terminated("stopped by a signal while the classifier was trained; run it again")
    return _fitting(load(place), experiment)


def _config(experiment: Experiment) -> ConfigDict:
    """The config of the classifier that is trained on the data of a run."""
    config, own = experiment.config, configs.defaults("classifier")
    with own.unlocked():
        own.data.update(config.data.to_dict())
        own.data.flip = False
        if own.data.pairs == "upscale":  # made of labelled images; it judges the large ones
            own.data.pairs = "none"
    own.seed, own.model.width = config.seed, config.quality.classifier_width
    own.best.update(metric="val/accuracy", mode="max")
    own.batch_size = min(own.batch_size, experiment.facts.train_size)
    own.run.update(
        steps=config.quality.classifier_steps,
        eval_every="0",
        save_every="0",
        log_every="250",
        # its batch need not divide by as many devices as the run's does
        devices=math.gcd(own.batch_size, experiment.mesh.size),
        workers=config.run.workers,
        keep=1,
    )
    return own


def _as_trained(folder: Path, config: ConfigDict) -> bool:
    """Whether the run in a folder is what `config` asks for; the folder is only read.

    Raises UserError as `folder.check` does.
    """
    lines: list[str] = []
    return folders.check(folder, config, lines.append) and not any("run.steps" in x for x in lines)


def _fitting(model: Model, experiment: Experiment) -> Model:
    """The model, if it is a classifier of the run's images and classes; else UserError."""
    found, wanted = model.experiment.facts, experiment.facts
    if "features" not in model.experiment.system.tasks:
        raise UserError("config.quality.classifier: that run is not a classifier's")
    if found[:3] != wanted[:3]:
        raise UserError(
            f"config.quality.classifier was trained on {found.resolution} px, "
            f"{found.channels} channels, {found.num_classes} classes; this run has "
            f"{wanted.resolution}, {wanted.channels}, {wanted.num_classes}"
        )
    other = class_names.disagree(found.class_names, wanted.class_names)
    if other:
        raise UserError(f"config.quality.classifier has learnt other classes: {other} of this run")
    return model

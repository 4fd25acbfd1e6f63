"""The classifier whose features and classes are used to measure samples.

It is the run that `config.quality.classifier` names, or else a classifier that is trained on the
run's own data, in the run's folder `classifier`.
"""

import logging
import math
from collections.abc import Callable
from pathlib import Path

import jax
from ml_collections import ConfigDict

from gan_jax import config as configs
from gan_jax import log
from gan_jax.core import cluster, shared_folder
from gan_jax.errors import UserError
from gan_jax.run import class_names, pictures
from gan_jax.run import folder as folders
from gan_jax.run.experiment import Experiment
from gan_jax.run.model import Model, load

logger = logging.getLogger(__name__)

BEST = {"metric": "val/accuracy", "mode": "max"}
Train = Callable[[ConfigDict, Path], dict]  # as `gan_jax.train`


class Terminated(UserError):
    """A signal ended the training of the classifier; the run itself has not begun."""


def find(experiment: Experiment, folder: Path, train: Train) -> Model:
    """The classifier for the run in `folder`; `train` trains it if that has not been done yet.

    Raises UserError if it does not fit the run's data, and Terminated if a signal ends its
    training.
    """
    named = experiment.config.quality.classifier
    if named:
        return _fitting(load(named), experiment)
    config, place = _config(experiment), folder / "classifier"
    finished, usable = cluster.decided("the classifier", lambda: _found(place, config))
    if not usable:
        if not finished:
            logger.info("training the classifier with which samples will be measured:")
        # what a finished training has to say was printed when it was trained
        with log.silenced() if finished else log.indented("  "):
            summary = train(config, place)
        if summary["reason"] == "terminated":
            raise Terminated("stopped by a signal while the classifier was trained; run it again")
    shared_folder.bring(place)
    return _fitting(load(place), experiment)


def _found(place: Path, config: ConfigDict) -> tuple[bool, bool]:
    """Whether a classifier has been trained at `place`, and whether nothing is left to do: it is
    that of `config`, and no kill came before its curves and its page were drawn."""
    finished = folders.read_summary(place).get("reason") == "finished"
    return finished, finished and _as_trained(place, config) and pictures.are_last(place)


def draw_missed(folder: Path) -> None:
    """Draws the last pictures of the classifier in a run's folder, if it is trained and they are
    not there."""
    place = folder / "classifier"
    if folders.read_summary(place).get("reason") == "finished":
        pictures.draw_missed(pictures.Refresher(BEST, place, ended=True))


def keep_length(experiment: Experiment, folder: Path) -> None:
    """Writes into a run's config how long the classifier in its folder has been trained, if it has:
    less than config.quality.classifier_steps where a budget had to be kept."""
    place = folder / "classifier"

    def steps() -> str | None:
        trained = folders.read_summary(place)
        return folders.read_config(place)["config"]["run"]["steps"] if trained else None

    own = not experiment.config.quality.classifier
    if own and (found := cluster.decided("the classifier's steps", steps)):
        experiment.config.quality.classifier_steps = found


def _config(experiment: Experiment) -> ConfigDict:
    """The config of the classifier that is trained on the data of a run."""
    config, own = experiment.config, configs.defaults("classifier")
    with own.unlocked():
        own.data.update(config.data.to_dict())
        own.data.flip = False
        if own.data.pairs == "upscale":  # the large images of these pairs are what is measured
            own.data.pairs = "none"
    own.seed, own.model.width = config.seed, config.quality.classifier_width
    own.best.update(BEST)
    each = jax.process_count()  # every process takes part with the same number of devices
    own.batch_size = max(min(own.batch_size, experiment.facts.train_size) // each, 1) * each
    own.run.update(
        steps=config.quality.classifier_steps,
        eval_every="0",
        save_every="0",
        log_every="250",
        # its batch size may not be a multiple of the run's number of devices
        devices=math.gcd(own.batch_size, experiment.mesh.size),
        workers=config.run.workers,
        decoding=config.run.decoding,
        save_retries=config.run.save_retries,
        keep=1,
    )
    return own


def _as_trained(folder: Path, config: ConfigDict) -> bool:
    """Whether the run in a folder was trained with `config`; nothing is written.

    Raises UserError as `folder.changed` does.
    """
    changed = folders.changed(folder, config)
    return changed is not None and "run.steps" not in changed


def _fitting(model: Model, experiment: Experiment) -> Model:
    """The model itself. Raises UserError unless it classifies images and classes like the run's."""
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

"""A run that shall end within a time: its parts are tried, and its config is made shorter.

What is chosen from the times of the parts is decided in `gan_jax.run.budget`.
"""

import contextlib
import itertools
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from gan_jax.core import cluster
from gan_jax.core.checkpoint import Checkpoints
from gan_jax.core.job import Progress
from gan_jax.core.system import Stage
from gan_jax.core.train_step import TrainCarry
from gan_jax.errors import ArgumentError
from gan_jax.evaluation import feature_classifier, quality
from gan_jax.report import grids
from gan_jax.run import budget as budgets
from gan_jax.run import folder as folders
from gan_jax.run import pictures, trial
from gan_jax.run.experiment import Experiment

logger = logging.getLogger(__name__)

CLASSIFIER = 0.25  # the share of a budget for the classifier with which samples are measured


def shortened(
    experiment: Experiment,
    folder: Path,
    budget: budgets.Budget,
    began: float,
    train: Callable[..., dict[str, Any]],
) -> tuple[Experiment, dict[str, Any]]:
    """The experiment with a length that fits into a budget, and what config.json says about that.

    Args:
      folder: that of the run, where a classifier may be trained first.
      began: when the budget began to run, as in time.time().
      train: `gan_jax.train`.

    The experiment's config is changed in place. Of several processes all take part, and the times
    are those of process 0, so that they choose the same. Raises ArgumentError if the budget is too
    small.
    """

    def measured() -> trial.Costs:
        measure = _quality(experiment, folder, budget, train)
        disk = folder if cluster.is_first() else None  # only process 0 writes more than a picture
        with (
            tempfile.TemporaryDirectory(prefix="trial-", dir=disk) as place,
            contextlib.closing(Checkpoints(Path(place) / "states", keep=1)) as states,
        ):
            rounds = _rounds(experiment, measure, states, Path(place))
            found = trial.costs(experiment, rounds, budget.seconds)
        feature_classifier.keep_length(experiment, folder)
        return found

    return budgets.choose(experiment, budget, measured, began, time.time)


def _rounds(
    experiment: Experiment, measure: quality.Quality | None, states: Checkpoints, folder: Path
) -> dict[str, trial.Round]:
    """What a run does at intervals, for a trial whose states go into `states` and whose other files
    into `folder`."""
    steps = itertools.count(1)

    def save(carry: TrainCarry, stage: Stage) -> None:
        states.save(next(steps), carry._asdict(), vars(Progress()))
        states.wait()

    found: dict[str, trial.Round] = {"save": save}
    if experiment.system.sample_step:
        grid = pictures.SampleGrid(experiment)

        def sample(carry: TrainCarry, stage: Stage) -> None:
            for name, images in grid.draw(carry.state, stage).items():
                grids.save_grid(folder / f"{name}.png", images, grid.titles)

        found["sample"] = sample
    if measure:
        found["quality"] = lambda carry, stage: measure(carry.state, stage)
    return found


def _quality(
    experiment: Experiment,
    folder: Path,
    budget: budgets.Budget,
    train: Callable[..., dict[str, Any]],
) -> quality.Quality | None:
    """What measures the images of a run, if it does, with a classifier that is trained within its
    share of the budget. If there is no time for that, the config is changed: nothing is measured.
    """

    def trained(config: ConfigDict, place: Path) -> dict[str, Any]:
        begun = folders.is_begun(place)
        return train(config, place, "" if begun else budget.part(CLASSIFIER))

    if not experiment.measures_quality:
        return None
    try:
        stage = experiment.system.stages[0]
        return quality.Quality(
            experiment, lambda: feature_classifier.find(experiment, folder, trained), stage
        )
    except ArgumentError as error:
        if error.name != "budget":
            raise
    experiment.config.run.quality_every = "0"
    logger.info(
        f"--budget={budget.text} leaves no time to train the classifier with which samples would "
        "be measured, so they are not; config.quality.classifier names one that is trained already"
    )
    return None

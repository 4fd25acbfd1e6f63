"""What measures a run's images: one object for each family of metrics that the config asks for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gan_jax.core.system import Batch, Stage, TrainState
from gan_jax.metrics.metric import MetricOptions
from gan_jax.run.experiment import Experiment
from gan_jax.run.model import Model


@dataclass(frozen=True)
class Task:
    """What is to be measured, for those that measure it."""

    experiment: Experiment
    names: tuple[str, ...]  # of all metrics, in the config's order
    split: str
    rows: np.ndarray  # of the split: the real images
    count: int  # images that are drawn each time
    options: MetricOptions
    stage: Stage  # the one that is measured first
    classifier: Callable[[], Model] | None  # called only where a metric needs one


class Measure:
    """The metrics of one family in one run, measured any number of times.

    A measurement is `begin`, `add` for each batch of drawn images, and `values`.
    """

    about: dict[str, Any]  # what it measures with, for quality.json
    remarks: tuple[str, ...] = ()  # what a person should know before the first measurement
    notes: tuple[str, ...] = ()  # what belongs beside the values of the last measurement
    of_drawn = True  # whether it looks at the images that the run draws

    def prepare(self, stage: Stage, stopped: Callable[[], bool]) -> None:
        """Computes what a stage of another resolution needs; ends early once `stopped()`."""

    def begin(self, stage: Stage) -> None:
        """Forgets the images of the last measurement."""

    def add(self, images: np.ndarray, batch: Batch) -> None:
        """Takes drawn images, uint8 [n, H, W, C], and the batch that they were drawn from.

        Raises ValueError for images that a metric cannot take.
        """

    def values(self, state: TrainState, stage: Stage) -> dict[str, float]:
        """The values by name. Raises ValueError where a metric cannot be computed."""
        raise NotImplementedError


class Family(Protocol):
    """A module of metrics. `families.FAMILIES` lists them."""

    def accepted(self, experiment: Experiment) -> tuple[str, ...]:
        """Names of the metrics that this run can be measured by."""

    def values(self, name: str) -> tuple[str, ...]:
        """Names of the values of one metric, or () where it is none of this family."""

    def check(self, experiment: Experiment) -> None:
        """Raises UserError for settings in `config.quality` that this run cannot be measured by."""

    def make(self, task: Task) -> Measure | None:
        """The measure, or None where no metric of the task is of this family.

        Raises UserError where weights or runs that it needs cannot be had, ValueError for images
        that a metric cannot take.
        """

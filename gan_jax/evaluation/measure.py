"""The interface of objects that measure a run's images, one for each family of metrics."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gan_jax.core.system import Batch, Stage, TrainState
from gan_jax.metrics.metric import MetricOptions
from gan_jax.run.experiment import Experiment
from gan_jax.run.model import Model


@dataclass(frozen=True)
class Task:
    """What a run is to be measured with, from which each family makes its measure."""

    experiment: Experiment
    names: tuple[str, ...]  # of all metrics, in the config's order
    split: str
    rows: np.ndarray  # int [n_real]: the real images, as rows of the split
    count: int  # how many images are sampled for each measurement
    options: MetricOptions
    stage: Stage  # the one that is measured first
    classifier: Callable[[], Model] | None  # called only if a metric needs a classifier
    folder: Path | None = None  # where statistics of the real images are kept, if anywhere


class Measure(ABC):
    """The metrics of one family in one run, measured any number of times.

    A measurement is a call of `begin`, of `add` for each batch of sampled images, and of `values`.
    A measure that needs nothing before or between leaves `prepare`, `begin` and `add` as they are.
    """

    about: dict[str, Any]  # the networks and files it measures with, for quality.json
    remarks: tuple[str, ...] = ()  # what a person should know before the first measurement
    notes: tuple[str, ...] = ()  # what a person should know about the last measurement's values
    of_drawn = True  # whether it needs sampled images; if not, `begin` and `add` are not called

    def prepare(self, stage: Stage, stopped: Callable[[], bool]) -> None:
        """Computes what a stage of another resolution needs; returns early once `stopped()`."""
        return

    def begin(self) -> None:
        """Discards the images of the last measurement."""
        return

    def add(self, images: np.ndarray, batch: Batch) -> None:
        """Takes sampled images, uint8 [n, H, W, C], and the batch that they were made from.

        Raises ValueError for images that a metric cannot take.
        """
        return

    @abstractmethod
    def values(self, state: TrainState, stage: Stage) -> dict[str, float]:
        """The values by name. Raises ValueError if a metric cannot be computed."""


class Family(Protocol):
    """A module of metrics. `families.FAMILIES` lists them."""

    def accepted(self, experiment: Experiment) -> tuple[str, ...]:
        """Names of the metrics of this family that suit the run."""

    def values(self, name: str) -> tuple[str, ...]:
        """Names of the values of one metric, or () if it belongs to another family."""

    def check(self, experiment: Experiment) -> None:
        """Raises UserError for settings in `config.quality` that do not suit the run."""

    def make(self, task: Task) -> Measure | None:
        """The measure, or None if no metric of the task belongs to this family.

        Raises UserError if weights or runs that it needs are missing or unsuitable, ValueError for
        images that a metric cannot take.
        """

"""The metrics of a run that translates, which compare each image with its own target."""

import numpy as np

from gan_jax.core.system import Batch, Stage, TrainState
from gan_jax.evaluation import networks
from gan_jax.evaluation.measure import Measure, Task
from gan_jax.metrics.paired import PAIRED, Pairs
from gan_jax.run.experiment import Experiment


def accepted(experiment: Experiment) -> tuple[str, ...]:
    """Names of the metrics of this family that suit the run."""
    # pairs of identities show the same person, but are not translations of each other
    aligned = experiment.config.data.pairs != "identities"
    return tuple(PAIRED) if experiment.facts.input_channels and aligned else ()


def values(name: str) -> tuple[str, ...]:
    """Names of the values that a metric gives, or () for another family's."""
    return (name,) if name in PAIRED else ()


def check(experiment: Experiment) -> None:
    """Does nothing: every run that these metrics suit can be measured."""


def make(task: Task) -> Measure | None:
    """The measure of this family's metrics, or None if the task names none of them."""
    return PairedMetrics(task) if any(name in PAIRED for name in task.names) else None


class PairedMetrics(Measure):
    """Means over the pairs of generated images and their targets."""

    def __init__(self, task: Task):
        self._names = [name for name in task.names if name in PAIRED]
        self._lpips, name = networks.perceptual(
            self._names, task.experiment.config.quality.lpips, "config.quality.lpips"
        )
        self.about = {"lpips": name} if name else {}
        self._pairs = Pairs(self._names, self._lpips)

    def begin(self) -> None:
        self._pairs = Pairs(self._names, self._lpips)

    def add(self, images: np.ndarray, batch: Batch) -> None:
        self._pairs.add(images, batch["target"])

    def values(self, state: TrainState, stage: Stage) -> dict[str, float]:
        return self._pairs.means()

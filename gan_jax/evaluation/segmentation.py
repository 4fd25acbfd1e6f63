"""The FCN score of a run that makes photos from label maps: a segmenter labels the photos again."""

import jax
import numpy as np

from gan_jax.core.system import Batch, Stage, TrainState
from gan_jax.errors import UserError
from gan_jax.evaluation import networks
from gan_jax.evaluation.measure import Measure, Task
from gan_jax.metrics import segmentation as fcn
from gan_jax.ops import palette
from gan_jax.run.experiment import Experiment
from gan_jax.run.model import load

NAME = "segmentation"


def accepted(experiment: Experiment) -> tuple[str, ...]:
    """Names of the metrics of this family that suit the run."""
    aligned = experiment.config.data.pairs != "identities"
    return (NAME,) if experiment.facts.input_channels and aligned else ()


def values(name: str) -> tuple[str, ...]:
    """Names of the values that a metric gives, or () for another family's."""
    return ("pixel_accuracy", "class_accuracy", "class_iou") if name == NAME else ()


def check(experiment: Experiment) -> None:
    """Raises UserError for a section `quality` that does not suit the run."""
    section = experiment.config.quality
    if NAME not in section.metrics:
        return
    if experiment.facts.input_channels != 3:
        raise UserError(
            "config.quality.metrics: segmentation needs inputs that are label maps in colour"
        )
    if not section.segmenter:
        raise UserError(
            "config.quality.segmenter is missing: the metric segmentation needs the run of a "
            "segmenter (configs/segmenter_facades.py trains one)"
        )


def make(task: Task) -> Measure | None:
    """The measure of this family's metrics, or None if the task names none of them."""
    if NAME not in task.names:
        return None
    return Segmentation(Segmenter(task.experiment.config.quality.segmenter))


class Segmenter:
    """(photos, the label maps they were made from) → confusion matrix [K, K].

    Raises UserError if the folder holds no run of a segmenter.
    """

    def __init__(self, folder: str):
        model = load(folder)
        if "classes" not in model.experiment.system.tasks:
            raise UserError(
                f"config.quality.segmenter={folder}: that run is not a segmenter's "
                "(config.model.output='pixels')"
            )
        self.model = model
        self.colours = np.asarray(model.config.model.palette)
        self.name = f"step {model.step} ({networks.digest(model)})"
        run, last = model.experiment.system.tasks["classes"].run, model.experiment.last
        self._run = jax.jit(lambda state, batch: run(state, batch, model.experiment.key, last))
        self._nearest = jax.jit(lambda maps: palette.nearest(maps, self.colours))

    def __call__(self, photos: np.ndarray, maps: np.ndarray) -> np.ndarray:
        found = self._run(self.model.state, {"input": photos})
        predicted = np.asarray(found["classes"])
        return fcn.confusion(np.asarray(self._nearest(maps)), predicted, len(self.colours))


class Segmentation(Measure):
    """The scores of generated photos against the label maps that they were made from."""

    def __init__(self, segmenter: Segmenter):
        self._segmenter = segmenter
        self._matrices: list[np.ndarray] = []
        self.about = {"segmenter": segmenter.name}

    def begin(self) -> None:
        self._matrices = []

    def add(self, images: np.ndarray, batch: Batch) -> None:
        self._matrices.append(self._segmenter(images, batch["input"]))

    def values(self, state: TrainState, stage: Stage) -> dict[str, float]:
        return fcn.scores(sum(self._matrices))

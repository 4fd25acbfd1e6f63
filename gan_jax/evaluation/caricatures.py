"""The metrics of caricatures: whom they show, and how far they exaggerate.

These metrics make their own images: the tasks `caricature` and `random_style` of the run's system
draw caricatures of people on whom the model was not trained.
"""

from collections.abc import Callable, Iterator

import numpy as np

from gan_jax.core.console import ProgressBar
from gan_jax.core.sampler import Sampler
from gan_jax.core.system import Batch, Stage, TrainState
from gan_jax.data.progress import Work, reported
from gan_jax.errors import UserError
from gan_jax.evaluation import networks, recogniser
from gan_jax.evaluation.measure import Measure, Task
from gan_jax.metrics import identification
from gan_jax.metrics.metric import CLASSIFIER
from gan_jax.metrics.registry import chosen
from gan_jax.run.experiment import Experiment

VALUES = {
    "rank1": ("rank1", "rank1_generated", "identity_cosine"),
    "exaggeration": tuple(
        f"exaggeration/{name}"
        for name in ("correlation", "correlation_centred", "slope", "magnitude")
    ),
}
"""The metrics, with the names of their values."""


def accepted(experiment: Experiment) -> tuple[str, ...]:
    """Names of the metrics of this family that suit the run."""
    return tuple(VALUES) if _of_identities(experiment) else ()


def values(name: str) -> tuple[str, ...]:
    """Names of the values that a metric gives, or () for another family's."""
    return VALUES.get(name, ())


def check(experiment: Experiment) -> None:
    """Raises UserError for a section `quality` that the run cannot be measured by."""
    if not _of_identities(experiment):
        return
    section, data = experiment.config.quality, experiment.config.data
    asked = [name for name in section.metrics if name in VALUES]
    if asked and not experiment.facts.validation_size:
        raise UserError(
            f"config.quality.metrics: {asked[0]} is measured on identities that are not trained "
            "on, and none are held out of this data"
        )
    if "rank1" in asked and not section.recogniser:
        raise UserError(
            "config.quality.recogniser is missing: the metric rank1 needs the run of an identity "
            "classifier (configs/identity_drawn.py or configs/identity_faces.py trains one)"
        )
    if "exaggeration" in asked and data.source != "drawn_faces":
        raise UserError(
            "config.quality.metrics: exaggeration needs to know where landmarks go, which is known "
            f"for config.data.source='drawn_faces' only, and not for {data.source!r}"
        )
    of_classifier = [*chosen(section.metrics, CLASSIFIER)]
    if of_classifier and not section.classifier:
        raise UserError(
            f"config.quality.classifier is missing: {of_classifier[0]} of caricatures needs the "
            "run of a classifier, and none can be trained beside this run, whose data are pairs"
        )


def make(task: Task) -> Measure | None:
    """The measure of this family's metrics, or None if the task names none of them."""
    return Caricatures(task) if any(name in VALUES for name in task.names) else None


def _of_identities(experiment: Experiment) -> bool:
    return experiment.config.data.pairs == "identities"


class Caricatures(Measure):
    """The metrics that were asked for; each makes its own pictures."""

    of_drawn = False

    def __init__(self, task: Task):
        seen = (task.experiment, task.split, np.arange(task.count))
        identities = Identities(*seen) if "rank1" in task.names else None
        exaggeration = Exaggeration(*seen) if "exaggeration" in task.names else None
        self._parts = [part for part in (identities, exaggeration) if part]
        self.about = {"recogniser": identities.name} if identities else {}
        self.remarks = (identities.note,) if identities and identities.note else ()

    def values(self, state: TrainState, stage: Stage) -> dict[str, float]:
        found: dict[str, float] = {}
        for part in self._parts:
            found |= part(state, stage)
        return found


class Identities:
    """(state, stage) → how often a recogniser finds the right person in the run's caricatures.

    The caricatures are made from the photos of `rows` of a split, photo n in the style of seed n,
    at scale 1. Each is searched among the photos of these rows, without the photo it was made from.
    The caricatures of the data are searched in the same way, so that all values have the same
    galleries.
    """

    def __init__(self, experiment: Experiment, split: str, rows: np.ndarray):
        self.experiment, self.split, self.rows = experiment, split, rows
        self._network, self.note = recogniser.open_recogniser(experiment, split)
        self.name = f"{self._network.name} ({self._network.fingerprint})"
        found, work = [], Work(5e-3, "photo", "recognising the people of {} photos")
        with reported(work, len(rows), ProgressBar) as done:
            for batch in self._read():
                faces = self._embedded(batch["input"]), self._embedded(batch["target"])
                found.append((batch["label"], *faces))
                done(sum(len(labels) for labels, _, _ in found))
        self._labels, self._photos, drawn = map(np.concatenate, zip(*found, strict=True))
        self._still = {
            "rank1_photo": self._rank1(self._photos),
            "rank1_caricature": self._rank1(drawn),
        }
        draw = _drawing(experiment)

        def made(*inputs):
            pictures = draw(*inputs)
            return {name: pictures[name] for name in ("warped", "image")}

        self._sampler = experiment.sampler(min(networks.chunk(experiment.mesh), len(rows)), made)

    def __call__(self, state: TrainState, stage: Stage) -> dict[str, float]:
        """`rank1` and `identity_cosine` of photos that are only warped, `rank1_generated` of the
        finished caricatures; `rank1_photo` and `rank1_caricature` do not depend on the model."""
        parts, first = [], 0
        for batch in self._read():
            seeds = np.arange(first, first := first + len(batch["label"]), dtype=np.int32)
            made = self._sampler(state, {"seed": seeds, "input": batch["input"]}, stage)
            parts.append([self._embedded(made[name]) for name in ("warped", "image")])
        warped, image = map(np.concatenate, zip(*parts, strict=True))
        return {
            "rank1": self._rank1(warped),
            "rank1_generated": self._rank1(image),
            "identity_cosine": identification.cosine(warped, self._photos),
            **self._still,
        }

    def _read(self) -> Iterator[Batch]:
        return networks.row_batches(self.experiment, self.split, self.rows)

    def _embedded(self, pixels: np.ndarray) -> np.ndarray:
        return self._network.extract(pixels, ("features",))["features"]

    def _rank1(self, probes: np.ndarray) -> float:
        own = np.arange(len(probes))
        return identification.rank1(probes, self._labels, self._photos, self._labels, own)


class Exaggeration:
    """(state, stage) → how the run's warps of `rows` of a split compare with the true caricatures.

    The data say where each landmark of a photo lies in the caricature of the same face.
    """

    def __init__(self, experiment: Experiment, split: str, rows: np.ndarray):
        self.experiment, self.split, self.rows = experiment, split, rows
        draw = _drawing(experiment)

        def moved(state: TrainState, batch: Batch, key, stage: Stage):
            flow = draw(state, batch, key, stage)["flow"]
            return {"moved": identification.movement(flow, batch["points"])}

        self._truth = experiment.data.truth(split, rows)
        options = experiment.system.sampling_options
        chunk = min(networks.chunk(experiment.mesh), len(rows))
        self._sampler = Sampler(moved, experiment.mesh, lambda x: x, chunk, options)

    def __call__(self, state: TrainState, stage: Stage) -> dict[str, float]:
        parts, first = [], 0
        for batch in networks.row_batches(self.experiment, self.split, self.rows):
            points = self._truth["landmarks"][first : first + len(batch["input"])]
            first += len(points)
            # the flow does not depend on the style, so all have the same seed
            given = {
                "seed": np.zeros(len(points), np.int32),
                "input": batch["input"],
                "points": points,
            }
            parts.append(self._sampler(state, given, stage)["moved"])
        found = identification.exaggeration(np.concatenate(parts), self._truth["displacement"])
        return {f"exaggeration/{name}": value for name, value in found.items()}


def _drawing(experiment: Experiment) -> Callable:
    """A function (state, batch, key, stage) → the result of the task `caricature` for photos
    `input`, each in the style of its `seed` [N], at scale 1."""
    draw, style = (experiment.system.tasks[name].run for name in ("caricature", "random_style"))

    def drawn(state: TrainState, batch: Batch, key, stage: Stage) -> dict:
        styled = {**batch, **style(state, batch, key, stage)}
        styled["scale"] = np.ones(len(batch["seed"]), np.float32)
        return draw(state, styled, key, stage)

    return drawn

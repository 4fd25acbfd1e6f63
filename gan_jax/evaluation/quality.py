"""The metrics of `config.quality`, which say how good a run's images are, during training or after.

Statistics of the real images are computed once. Every measurement then samples
`config.quality.samples` images, with seeds 0, 1, …, or translates as many validation pairs.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from gan_jax.core.system import Batch, Stage, TrainState
from gan_jax.data.progress import Progress, Silent
from gan_jax.errors import ArgumentError, UserError, short
from gan_jax.evaluation import networks, section
from gan_jax.evaluation.families import FAMILIES
from gan_jax.evaluation.measure import Family, Measure, Task
from gan_jax.evaluation.section import check
from gan_jax.files import read_json, reason, write_json
from gan_jax.metrics.metric import PIXELS, MetricOptions
from gan_jax.metrics.registry import METRICS
from gan_jax.metrics.sets import spread
from gan_jax.report.series import read_rows
from gan_jax.run import at_once
from gan_jax.run.experiment import Experiment
from gan_jax.run.model import Model

MOST_LISTED = 8  # differences in a message
# what earlier revisions did not write, because they measured in another way: a key of quality.json,
# the metric whose values it changed ("": all of the set), and how
SINCE = {
    "ms_ssim_pairs": ("ms_ssim", "ms_ssim compares images of one class now; its"),
    "distinct_real": ("", "images that several pairs share count once now;"),
}

logger = logging.getLogger(__name__)


class Quality:
    """(state, stage) → values by name. `about` says what they are measured with.

    Raises UserError if weights or runs that the metrics need are missing or unsuitable.
    """

    def __init__(
        self,
        experiment: Experiment,
        classifier: Callable[[], Model] | None,
        stage: Stage | None = None,
        folder: Path | None = None,
    ):
        """`classifier` is called if a metric needs one. `stage` is the one that will be measured
        first, by default the last. In `folder`, if any, statistics of the real images are kept."""
        check(experiment)
        self.experiment = experiment
        task = _task(experiment, classifier, stage or experiment.last, folder)
        self.count, self._chunk = task.count, networks.chunk(experiment.mesh)
        with _complaints():
            made = {_names(family, task): family.make(task) for family in FAMILIES}
        # the measures by the names of their metrics
        self._named = {names: measure for names, measure in made.items() if measure is not None}
        self._measures: list[Measure] = [*self._named.values()]
        self._of_drawn = [measure for measure in self._measures if measure.of_drawn]
        self.about: dict[str, Any] = {
            "n_real": len(task.rows),
            "n_fake": task.count,
            "real": task.split,
            "networks": {},
            "notes": [],
            **task.options.recorded(),
        }
        for measure in self._measures:
            self.about |= measure.about
            for remark in measure.remarks:
                logger.warning(f"note: {remark}")
        few = min(self._chunk, task.count)
        self._at_once = self._drawn_at_once() if self._of_drawn else few
        self._sampler = experiment.sampler(self._at_once, fits=self._at_once > few)
        self._noted: set[str] = set()

    def _drawn_at_once(self) -> int:
        """How many images of the last stage, which are the largest, are sampled at a time. They are
        measured a few at a time."""
        few = min(self._chunk, self.count)
        if not at_once.memory():
            return few
        made, batch = self.experiment, self.experiment.sample_batch(range(1))
        of_call = (made, made.system.sample_step, made.carry.state, batch, made.last)
        return max(at_once.images(*of_call, wanted=self.count), few)

    def prepare(self, state: TrainState, stage: Stage, stopped: Callable[[], bool]) -> None:
        """Prepares what a stage of another resolution needs: statistics and compiled programs.

        `state` holds shapes; `stopped` is true when the result is no longer needed.
        """
        for measure in self._of_drawn:
            if not stopped():
                measure.prepare(stage, stopped)
        if self._of_drawn and not stopped():
            batch = self.experiment.sample_batch(range(1))
            self._sampler.prepare(state, batch, stage, (self._weights(state, batch, stage),))

    def __call__(
        self, state: TrainState, stage: Stage, progress: Progress | None = None
    ) -> dict[str, float]:
        """Values for the averaged weights, or the raw ones if there are none; logs new notes.

        With `progress` it logs what it does before each part that may take long, and shows bars
        that `progress` makes; see gan_jax.data.progress.
        """
        found: dict[str, float] = {}
        say = logger.info if progress else logger.debug
        with _complaints():
            self._draw(state, stage, progress)
            for names, measure in self._named.items():
                say(f"computing {names}")
                found |= measure.values(state, stage)
                self._note(measure.notes)
        return found

    def _draw(self, state: TrainState, stage: Stage, progress: Progress | None) -> None:
        """Samples the images, if a metric needs any, and gives them to the measures."""
        for measure in self._of_drawn:
            measure.begin()
        if progress and self._of_drawn:
            logger.info(f"drawing {self.count:,} images, and measuring them")
        with closing((progress or Silent)(self.count, "image")) as done:
            drawn = 0
            for images, batch in self._drawn(state, stage):
                for measure in self._of_drawn:
                    measure.add(images, batch)
                done(drawn := drawn + len(images))

    def _drawn(self, state: TrainState, stage: Stage) -> Iterator[tuple[np.ndarray, Batch]]:
        """Batches of sampled images with what they were made from; none if no metric needs them."""
        name, count = "", self.count if self._of_drawn else 0
        for start in range(0, count, self._at_once):
            seeds = range(start, min(start + self._at_once, count))
            batch = self.experiment.sample_batch(seeds)
            name = name or self._weights(state, batch, stage)
            images = self._sampler(state, batch, stage, (name,))[name]
            for first in range(0, len(images), self._chunk):
                rows = slice(first, first + self._chunk)
                yield images[rows], {k: v[rows] for k, v in batch.items()}

    def _weights(self, state: TrainState, batch: Batch, stage: Stage) -> str:
        """The name of the weights to sample with: "ema" if there is one, else the first."""
        names = self._sampler.names(state, batch, stage)
        return "ema" if "ema" in names else names[0]

    def _note(self, notes: tuple[str, ...]) -> None:
        for note in dict.fromkeys(notes):
            if note not in self._noted:
                logger.warning(f"note: {note}")
        self._noted |= set(notes)


def _task(
    experiment: Experiment,
    classifier: Callable[[], Model] | None,
    stage: Stage,
    folder: Path | None,
) -> Task:
    """The task that the config's section `quality` describes. UserError if its split is empty."""
    asked, names = experiment.config.quality, tuple(experiment.config.quality.metrics)
    pairs = bool(experiment.facts.input_channels)
    validation = experiment.facts.validation_size > 0
    split = "validation" if pairs and validation else asked.split
    split = split or ("validation" if validation else "train")
    available = experiment.data.sizes[split]
    if not available:
        raise UserError(f"config.quality.split={split}: this data has no such images")
    # the first pairs are translated, so the real images are those of the first pairs too
    count = min(asked.samples, available) if pairs else asked.samples
    n_real = count if pairs else available
    if all(METRICS[name].network == PIXELS for name in names if name in METRICS):
        # metrics of pixels alone compare equally many images of both sets
        n_real = min(n_real, max(count, 2))
    return Task(
        experiment=experiment,
        names=names,
        split=split,
        rows=np.arange(n_real) if pairs else spread(available, n_real),
        count=count,
        options=MetricOptions(
            asked.seed, asked.kid_subsets, asked.kid_subset_size, asked.splits, asked.few
        ),
        stage=stage,
        classifier=classifier,
        folder=folder,
    )


def _names(family: Family, task: Task) -> str:
    """The names of the metrics of a task that belong to a family: "fid, kid"."""
    return ", ".join(name for name in task.names if family.values(name))


def _complaints():
    return section.complaints("config.quality.metrics", few=" (config.quality.few=True)")


def remember(folder: Path, about: dict[str, Any], write: bool = True) -> None:
    """Writes to quality.json what a run is measured with, if `write` is true.

    Raises ArgumentError if the run was measured with something else before: new values could not be
    compared with the old ones, nor with the best state that was chosen by them.
    """
    path = folder / "quality.json"
    if path.exists():
        old = _stored(path)
        for key, (metric, what) in SINCE.items():
            if key in about and key not in old and (not metric or _has_values(folder, metric)):
                logger.warning(
                    f"note: {what} earlier values, and a best state that was chosen by them, "
                    "cannot be compared with those from here on"
                )
        about = {k: old[k] for k in SINCE if k in old} | about
        changed = [k for k in {*old, *about} - {*SINCE} if old.get(k) != about.get(k)]
        if changed:
            listed = [
                f"{short(k)} ({short(old.get(k))}, now {about.get(k)})" for k in sorted(changed)
            ]
            more = f" and {len(listed) - MOST_LISTED} more" if len(listed) > MOST_LISTED else ""
            raise ArgumentError(
                "workdir",
                f"={folder}: its quality was measured with other "
                f"{', '.join(listed[:MOST_LISTED])}{more}; use what it began with, or another "
                "folder",
            )
    if write:
        write_json(path, about)


def _has_values(folder: Path, name: str) -> bool:
    """Whether metrics.jsonl holds values of a metric."""
    return any(name in row for row in read_rows(folder / "metrics.jsonl"))


def _stored(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {reason(error)}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} is damaged: it does not say what a run is measured with")
    return found

"""The metrics that compare the set of sampled images with the set of real ones, such as FID."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from gan_jax.core import cluster
from gan_jax.core.console import ProgressBar
from gan_jax.core.system import Batch, Stage, TrainState
from gan_jax.data.progress import Work, reported
from gan_jax.errors import UserError, one_of
from gan_jax.evaluation import networks
from gan_jax.evaluation.kept_statistics import Digest, Kept
from gan_jax.evaluation.measure import Measure, Task
from gan_jax.metrics.accumulate import Accumulator, accumulate
from gan_jax.metrics.features import RESIZES
from gan_jax.metrics.metric import (
    CLASSIFIER,
    INCEPTION,
    PIXELS,
    Context,
    Counts,
    Statistics,
)
from gan_jax.metrics.pixels import patched
from gan_jax.metrics.registry import METRICS, chosen, describe
from gan_jax.metrics.sets import compute, plan, spread
from gan_jax.report import grids
from gan_jax.run import class_names
from gan_jax.run.experiment import Experiment

MOST_COMPARED = 20_000  # real images of which MS-SSIM compares pairs


def accepted(experiment: Experiment) -> tuple[str, ...]:
    """Names of the metrics of this family that suit the run."""
    return tuple(METRICS)


def values(name: str) -> tuple[str, ...]:
    """Names of the values that a metric gives, or () for another family's."""
    return METRICS[name].values if name in METRICS else ()


def check(experiment: Experiment) -> None:
    """Raises UserError for a section `quality` that does not suit the run."""
    section = experiment.config.quality
    one_of("config.quality.resize", section.resize, RESIZES)
    metrics = [METRICS[name] for name in section.metrics if name in METRICS]
    by_class = [metric.name for metric in metrics if metric.by_class]
    if by_class and not experiment.system.labelled:
        raise UserError(
            f"config.quality.metrics: {by_class[0]} needs a generator that draws a class on demand"
        )
    if by_class and (other := _other_classes(experiment)):
        raise UserError(
            f"config.quality.metrics: {by_class[0]} compares images of one class, and {other}"
        )
    of_classifier = [*chosen(section.metrics, CLASSIFIER)]
    if of_classifier and not experiment.facts.num_classes:
        raise UserError(
            f"config.run.quality_every: {of_classifier[0]} needs a classifier and this data has no "
            "labels; name other config.quality.metrics, such as \"('fid',)\", or set it to 0 and "
            "config.best.metric to a validation value"
        )


def _other_classes(experiment: Experiment) -> str:
    """How the classes of the data differ from those that images are made for, which are a
    classifier's where it guides a model without classes; "" if they do not."""
    data, facts = experiment.data, experiment.facts
    if not data.num_classes:
        return "this data has no classes"
    if data.num_classes != facts.num_classes:
        return f"this data has {data.num_classes} classes, of {facts.num_classes} that are drawn"
    other = class_names.disagree(data.class_names, facts.class_names)
    return other and f"this data has other classes than those that are drawn: {other}"


def make(task: Task) -> Measure | None:
    """The measure of this family's metrics, or None if the task names none of them."""
    return SetMetrics(task) if any(name in METRICS for name in task.names) else None


class SetMetrics(Measure):
    """Compares sets; statistics of the real images are computed once for each resolution.

    At a stage of a lower resolution the real images are reduced to it, by means. Both sets are then
    enlarged by nearest neighbour, to 16 px or to the size on which a classifier was trained.
    """

    def __init__(self, task: Task):
        self.task = task
        self.experiment = task.experiment
        # an image that several pairs share counts once, or its neighbours would be its copies
        self._rows = self.experiment.data.distinct(task.split, task.rows)
        self.names = [name for name in task.names if name in METRICS]
        self.networks = networks.feature_networks(
            self.names,
            self.experiment.mesh,
            self.experiment.config.quality.inception,
            "config.quality.inception",
            self.experiment.config.quality.resize,
            lambda: networks.of_classifier(task.classifier()),
            max(task.count, len(self._rows)),
        )
        self._context = Context(
            self.networks, task.options, tuple(self.experiment.data.class_names)
        )
        self._least = self._least_side()
        self._pairs = [name for name in self.names if METRICS[name].pairs]  # MS-SSIM
        self._others = [name for name in self.names if name not in self._pairs]
        # of one class where images are drawn by class, and often enough
        drawn, translates = self.experiment.drawn_classes, self.experiment.facts.input_channels
        by_class = self.experiment.system.labelled and not translates
        self._one_class = (
            by_class and task.count > len(drawn) and not _other_classes(self.experiment)
        )
        self.about: dict[str, Any] = {
            "networks": {k: describe(v, self.names) for k, v in self.networks.items()},
            "notes": plan(self.names, Counts(len(self._rows), task.count), self._context),
        }
        if self._pairs and self._one_class:
            self.about["ms_ssim_pairs"] = "of one class"
        if len(self._rows) < len(task.rows):
            self.about["distinct_real"] = len(self._rows)
        self._kept = None
        if task.folder is not None:
            about = self.about["networks"]
            kept = Kept(task.folder, self._others, self.networks, about, len(self._rows))
            self._kept = kept if kept.useful else None
        side = task.stage.resolution
        count = len(self._rows if self._others else self._pair_rows())
        with reported(self._work(), count, ProgressBar) as done:
            self._real = {side: self._accumulated(side, done=done)}
        self._check_classes(self._real[side])
        self.begin()

    def _work(self) -> Work:
        """The measuring of the real images, which Inception makes long."""
        seconds = 0.02 if INCEPTION in self.networks else 5e-4
        return Work(seconds, "image", f"measuring {{}} real images ({self.task.split})")

    def _least_side(self) -> int:
        """The side in pixels to which smaller images are enlarged, 0 for none."""
        facts = self.experiment.facts
        if CLASSIFIER in self.networks:
            return facts.resolution  # classifiers take images of one size
        grows = self.experiment.system.stages[0].resolution < facts.resolution
        return 16 if grows else 0  # SWD needs 16 px

    def _check_classes(self, real: dict[str, Statistics]) -> None:
        """Raises ValueError for a class with too few images to be compared, before any images are
        sampled."""
        if self.experiment.facts.input_channels:
            return  # images are made for the classes of the pairs
        drawn = self.experiment.seed_labels(np.arange(self.task.count))
        for name in self.names:
            metric = METRICS[name]
            if metric.by_class:
                moments = real[metric.network].moments
                counts = {k[1]: m.count for k, m in moments.items() if isinstance(k, tuple)}
            elif metric.pairs and self._one_class:
                counts = {k: 2 * pairs for k, (_, pairs) in real[metric.network].pairs.items()}
            else:
                continue
            labels = np.repeat([*counts], [*counts.values()]), drawn
            sizes = len(self.task.rows), self.task.count
            plan([name], Counts(*sizes, labels, metric.pairs), self._context)

    def _accumulated(
        self,
        side: int,
        until: Callable[[Iterable], Iterable] = iter,
        done: Callable[[int], None] = lambda count: None,
    ) -> dict[str, Statistics]:
        """The statistics of the real images, reduced to a side.

        Classes that are never sampled, since they have no training images, are left out.
        """
        found = self._of_sets(side, until, done)
        if self._pairs:
            batches = until(self._real_batches(side, self._pair_rows()))
            shown = {} if self._others else {"done": done}  # progress is that of the first pass
            pairs = self._statistics(batches, self._pairs, real=True, **shown)[PIXELS].pairs
            found.setdefault(PIXELS, Statistics()).pairs = pairs
        undrawn = set(self.experiment.facts.empty_classes)
        for statistics in found.values():
            moments = statistics.moments
            for key in [k for k in moments if isinstance(k, tuple) and k[1] in undrawn]:
                del moments[key]
        return found

    def _of_sets(
        self, side: int, until: Callable[[Iterable], Iterable], done: Callable[[int], None]
    ) -> dict[str, Statistics]:
        """The same without MS-SSIM."""
        found = self._from_kept(side, until, done) if self._others else {}
        if found is None:
            digest, batches = Digest(), until(self._real_batches(side, self._rows))
            batches = digest.passing(batches) if self._kept else batches
            found = self._statistics(batches, self._others, real=True, done=done)
            if self._kept and digest.count == len(self._rows):
                found[INCEPTION] = self._kept.keep(side, digest.mark(), found[INCEPTION])
        return found

    def _pair_rows(self) -> np.ndarray:
        """The real images that MS-SSIM compares, in an order of their own.

        Neighbouring images may be alike, as those of a class in a sorted folder are, or the frames
        of a film; sampled ones are independent. Translations are compared as their targets are.
        """
        rows = self._rows
        if self.experiment.facts.input_channels:
            return rows
        return np.random.default_rng(self.task.options.seed).permutation(rows)[:MOST_COMPARED]

    def _from_kept(
        self, side: int, until: Callable[[Iterable], Iterable], done: Callable[[int], None]
    ) -> dict[str, Statistics] | None:
        """The same, if those of Inception are kept: only other networks then see the images. None
        if nothing is kept, or the images have changed."""
        mark = self._kept.mark(side) if self._kept else ""
        if not mark:
            return None
        digest = Digest()
        batches = digest.passing(until(self._real_batches(side, self._rows)))
        found = self._statistics(batches, self._kept.others, real=True, done=done)
        if not cluster.all_agree("the real images", digest.mark() == mark):
            return None
        return {**found, INCEPTION: self._kept.read(side)}

    def _statistics(
        self,
        batches: Iterable,
        names: Sequence[str],
        real: bool,
        done: Callable[[int], None] = lambda count: None,
    ) -> dict[str, Statistics]:
        return accumulate(
            batches, names, self.networks, self.task.options.seed, real,
            self._patch_rows(real), done, self._one_class,
        )  # fmt: skip

    def _patch_rows(self, real: bool) -> np.ndarray:
        """The images of a set that SWD takes patches from."""
        n_real, n_fake = len(self._rows), self.task.count
        return spread(n_real if real else n_fake, patched(n_real, n_fake))

    def prepare(self, stage: Stage, stopped: Callable[[], bool]) -> None:
        """Computes the real statistics at another resolution, and compiles programs on the way.

        With several processes it does nothing, because all must run programs in the same order.
        """
        side = stage.resolution
        if side in self._real or jax.process_count() > 1:
            return

        def until(batches: Iterable) -> Iterator:
            return itertools.takewhile(lambda _: not stopped(), batches)

        real = self._accumulated(side, until)
        rows = np.resize(self._rows, self.task.count)
        stand_ins = self._statistics(until(self._real_batches(side, rows)), self.names, real=False)
        if not stopped():
            compute(self.names, real, stand_ins, self._context)
            self._real[side] = real

    def begin(self) -> None:
        self._drawn = Accumulator(
            self.names, self.networks, self.task.options.seed, False, self._patch_rows(False),
            self._one_class,
        )  # fmt: skip

    def add(self, images: np.ndarray, batch: Batch) -> None:
        self._drawn.add(self._enlarged(images), batch.get("label"))

    def values(self, state: TrainState, stage: Stage) -> dict[str, float]:
        side = stage.resolution
        if side not in self._real:
            self._real[side] = self._accumulated(side)
        for lower in [k for k in list(self._real) if k < side]:  # resolutions only grow
            del self._real[lower]
        found, notes = compute(self.names, self._real[side], self._drawn.finish(), self._context)
        self.notes = tuple(notes)
        self.begin()  # frees the memory of the statistics, which may be large
        return found

    def _enlarged(self, images: np.ndarray) -> np.ndarray:
        return grids.enlarged(images, max(self._least // images.shape[1], 1))

    def _real_batches(
        self, side: int, rows: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        name = "target" if self.experiment.facts.input_channels else "image"
        for batch in networks.row_batches(self.experiment, self.task.split, rows):
            yield self._enlarged(_reduced(batch[name], side)), batch.get("label")


def _reduced(images: np.ndarray, side: int) -> np.ndarray:
    """uint8 [n, R, R, C] → [n, side, side, C]: means of blocks, rounded."""
    count, size, _, channels = images.shape
    if size == side:
        return images
    block = size // side
    parts = images.reshape(count, side, block, side, block, channels)
    return np.rint(parts.mean(axis=(2, 4), dtype=np.float32)).astype(np.uint8)

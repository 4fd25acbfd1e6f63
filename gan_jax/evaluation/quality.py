"""How good a run's images are: the same figures as `--mode=metrics`, during training and after it.

Real images are streamed once; then every measurement draws `config.quality.samples` images, of the
seeds 0, 1, …, or translates the validation pairs, and compares.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gan_jax.core.system import Batch, Stage, TrainState
from gan_jax.errors import UserError
from gan_jax.evaluation import networks
from gan_jax.evaluation.networks import CHUNK
from gan_jax.files import write_json
from gan_jax.metrics import segmentation
from gan_jax.metrics.gather import gather
from gan_jax.metrics.paired import PAIRED, Pairs
from gan_jax.metrics.registry import CLASSIFIER, METRICS, PIXELS, Settings, describe
from gan_jax.metrics.sets import figures, patched, plan, spread
from gan_jax.ops import palette
from gan_jax.report import grids
from gan_jax.run.experiment import Experiment
from gan_jax.run.model import Model, load

OF_CARICATURES = ("rank1", "exaggeration")
SPLITS = ("", "validation", "train")


def figure_names(experiment: Experiment) -> list[str]:
    """The figures that the config's metrics give, as far as they do not depend on the data."""
    found = []
    for name in experiment.config.quality.metrics:
        given = METRICS[name].figures if name in METRICS else (name,)
        given = networks.RUN_METRICS.get(name, given)
        found += [figure for figure in given if not figure.endswith("_std")]
    return found


def check(experiment: Experiment) -> None:
    """Raises UserError for a section `config.quality` that this run cannot measure by."""
    section, pairs = experiment.config.quality, bool(experiment.facts.input_channels)
    extra = (*PAIRED, "segmentation") if pairs else ()
    if experiment.config.data.pairs == "identities":  # a caricature is not the photo's target
        extra = OF_CARICATURES
    networks.check_names(section.metrics, "config.quality.metrics", extra)
    networks.check_resize(section.resize, "config.quality.resize")
    if pairs and section.split:
        raise UserError(
            f"config.quality.split={section.split!r}: translations are compared with their own "
            "targets, of validation where there is one; leave it empty"
        )
    if "segmentation" in section.metrics and experiment.facts.input_channels != 3:
        raise UserError(
            "config.quality.metrics: segmentation needs inputs that are label maps in colour"
        )
    if section.split not in SPLITS:
        raise UserError(
            f"config.quality.split={section.split!r}: accepted are '', validation, train"
        )
    by_class = [n for n in section.metrics if n in METRICS and METRICS[n].by_class]
    if by_class and not experiment.system.labelled:
        raise UserError(
            f"config.quality.metrics: {by_class[0]} needs a generator that draws a class on demand"
        )
    judged = [n for n in section.metrics if n in METRICS and METRICS[n].network == CLASSIFIER]
    if judged and not experiment.facts.num_classes:
        raise UserError(
            f"config.run.quality_every: {judged[0]} judges samples by a classifier and this data "
            "has no labels; name other config.quality.metrics, such as \"('fid',)\", or set it to "
            "0 and config.best.metric to a validation value"
        )
    if "segmentation" in section.metrics and not section.segmenter:
        raise UserError(
            "config.quality.segmenter is missing: the metric segmentation needs the run of a "
            "segmenter (configs/segmenter_facades.py trains one)"
        )
    if experiment.config.data.pairs == "identities":
        _check_caricatures(experiment, judged)


def _check_caricatures(experiment: Experiment, judged: list[str]) -> None:
    """`check` of what photos and caricatures of identities are measured by."""
    section, data = experiment.config.quality, experiment.config.data
    asked = [name for name in section.metrics if name in OF_CARICATURES]
    if asked and not experiment.facts.validation_size:
        raise UserError(
            f"config.quality.metrics: {asked[0]} is measured on identities that are not trained "
            "on, and this data holds none out"
        )
    if "rank1" in asked and not section.recogniser:
        raise UserError(
            "config.quality.recogniser is missing: the metric rank1 needs the run of an identity "
            "classifier (configs/identity_drawn.py or configs/identity_faces.py trains one)"
        )
    if "exaggeration" in asked and data.source != "drawn_faces":
        raise UserError(
            f"config.quality.metrics: exaggeration needs to know where landmarks go, which "
            f"config.data.source='drawn_faces' tells, and not {data.source!r}"
        )
    if judged and not section.classifier:
        raise UserError(
            f"config.quality.classifier is missing: {judged[0]} of caricatures needs the run of a "
            "classifier, and none can be trained beside this run, whose data are pairs"
        )


class Quality:
    """(state, stage) → figures. `about` says what they are measured with.

    Raises UserError where weights or runs that the metrics need cannot be had.
    """

    def __init__(
        self,
        experiment: Experiment,
        classifier: Callable[[], Model],
        say=print,
        stage: Stage | None = None,
    ):
        """`stage`: the one that will be measured first; the last one if none is given."""
        check(experiment)
        section = experiment.config.quality
        self.experiment, self.names, self._say = experiment, tuple(section.metrics), say
        self.settings = Settings(
            section.seed, section.kid_subsets, section.kid_subset_size, section.splits, section.few
        )
        self.by_sets = [name for name in self.names if name in METRICS]
        self.by_pairs = [name for name in self.names if name in PAIRED]
        pairs = bool(experiment.facts.input_channels)
        validation = experiment.facts.validation_size > 0
        self.split = "validation" if pairs and validation else section.split
        self.split = self.split or ("validation" if validation else "train")
        n_real = experiment.data.sizes[self.split]
        if not n_real:
            raise UserError(f"config.quality.split={self.split}: this data has no such images")
        # translations are of the first pairs, and so are what they are compared with
        self.count = min(section.samples, n_real) if pairs else section.samples
        self.n_real = self.count if pairs else n_real
        if all(METRICS[name].network == PIXELS for name in self.by_sets):
            # what looks at pixels alone looks at as many of either set
            self.n_real = min(self.n_real, max(self.count, 2))
        rows = np.arange(self.n_real) if pairs else spread(n_real, self.n_real)
        self._rows = rows  # of the split: which images are the real ones
        self.lpips, lpips_name = networks.perceptual(
            self.names, section.lpips, "config.quality.lpips"
        )
        self.networks = networks.networks(
            self.names, experiment.mesh, section.inception, "config.quality.inception",
            section.resize, classifier, max(self.count, self.n_real),
        )  # fmt: skip
        self.segmenter = _Segmenter(section.segmenter) if "segmentation" in self.names else None
        with _complaints():
            seen = (experiment, self.split, np.arange(self.count))
            recognised = networks.Identities(*seen) if "rank1" in self.names else None
            exaggerated = networks.Exaggeration(*seen) if "exaggeration" in self.names else None
        if recognised and recognised.note:
            say(f"note: {recognised.note}")
        self._of_caricatures = [judge for judge in (recognised, exaggerated) if judge]
        self.about: dict[str, Any] = {
            "n_real": self.n_real,
            "n_fake": self.count,
            "real": self.split,
            "networks": {k: describe(v, self.names) for k, v in self.networks.items()},
            **({"lpips": lpips_name} if lpips_name else {}),
            **({"segmenter": self.segmenter.name} if self.segmenter else {}),
            **({"recogniser": recognised.name} if recognised else {}),
            **self.settings.said(),
        }
        self._sampler = experiment.sampler(min(CHUNK, self.count))
        self._patched = patched(self.n_real, self.count)
        # classifiers know images of one size, SWD begins at 16 px
        whole = CLASSIFIER in self.networks
        grows = experiment.system.stages[0].resolution < experiment.facts.resolution
        self._least = experiment.facts.resolution if whole else 16 if grows else 0
        with _complaints():
            self.about["notes"] = plan(
                self.by_sets, self.n_real, self.count, self.networks, self.settings
            )
            first = (stage or experiment.last).resolution
            self._real = {first: self._gathered(first)}  # by side
            self._check_classes(self._real[first])
        self._told: set[str] = set()

    def _check_classes(self, real: dict) -> None:
        """ValueError for a class with too few images to be compared, before any are drawn."""
        if self.experiment.facts.input_channels:
            return  # drawn for the classes of the pairs
        drawn = self.experiment.seed_labels(np.arange(self.count))
        names = [name for name in self.by_sets if METRICS[name].by_class]
        for name in names:
            moments = real[METRICS[name].network].moments
            counts = {k[1]: m.count for k, m in moments.items() if isinstance(k, tuple)}
            labels = np.repeat([*counts], [*counts.values()]), drawn
            counted = self.n_real, self.count, self.networks, self.settings
            plan([name], *counted, labels, self.experiment.data.class_names)

    def _gathered(self, side: int, until=iter) -> dict:
        """What is kept of the real images, shrunk to a side; of classes that are not drawn, since
        no training image is of them, nothing by class."""
        found = gather(
            until(self._real_batches(side, self._rows)), self.by_sets, self.networks,
            self.settings.seed, True, spread(self.n_real, self._patched),
        )  # fmt: skip
        undrawn = set(self.experiment.facts.empty_classes)
        for kept in found.values():
            for key in [k for k in kept.moments if isinstance(k, tuple) and k[1] in undrawn]:
                del kept.moments[key]
        return found

    def prepare(self, state: TrainState, stage: Stage, stopped: Callable[[], bool]) -> None:
        """What a stage of another resolution needs: real images, and compiled programs. `state`
        is in shapes; `stopped` tells when it is not wanted any more.

        Several processes run programs in one order only, so there nothing is run, only compiled.
        """
        if stopped():
            return
        side = stage.resolution
        if side not in self._real and jax.process_count() == 1:
            until = lambda batches: itertools.takewhile(lambda _: not stopped(), batches)  # noqa: E731
            real = self._gathered(side, until)
            rows = np.resize(self._rows, self.count)
            standins = gather(
                until(self._real_batches(side, rows)), self.by_sets, self.networks,
                self.settings.seed, False, spread(self.count, self._patched),
            )  # fmt: skip
            if stopped():
                return
            figures(
                self.by_sets, real, standins, self.networks, self.settings,
                self.experiment.data.class_names,
            )  # fmt: skip
            self._real[side] = real
        batch = self.experiment.sample_batch(range(1))
        self._sampler.prepare(state, batch, stage, (self._weights(state, batch, stage),))

    def _weights(self, state: TrainState, batch: Batch, stage: Stage) -> str:
        names = self._sampler.names(state, batch, stage)
        return "ema" if "ema" in names else names[0]

    def __call__(self, state: TrainState, stage: Stage) -> dict[str, float]:
        """Figures of the averaged weights where there are any. Each note is said once.

        At a stage of a lower resolution the real images are shrunk to it, by means. Both are then
        enlarged by nearest neighbour, to 16 px or what a classifier was trained on.
        """
        side = stage.resolution
        if side not in self._real:
            self._real[side] = self._gathered(side)
        for lower in [k for k in list(self._real) if k < side]:  # sides only grow
            del self._real[lower]
        pairs = Pairs(self.by_pairs, self.lpips)
        read: list[np.ndarray] = []  # the segmenter's answers, as confusion matrices
        told: dict[str, float] = {}
        with _complaints():
            for judge in self._of_caricatures:
                told |= judge(state, stage)
            if not (self.by_sets or self.by_pairs or self.segmenter):
                return told
            fake = gather(
                self._fake_batches(state, stage, pairs, read), self.by_sets, self.networks,
                self.settings.seed, False, spread(self.count, self._patched),
            )  # fmt: skip
            found, notes = figures(
                self.by_sets, self._real[side], fake, self.networks, self.settings,
                self.experiment.data.class_names,
            )  # fmt: skip
        for note in set(notes) - self._told:
            self._say(f"note: {note}")
        self._told |= set(notes)
        found |= told
        if self.by_pairs:
            found |= pairs.means()
        return found | (segmentation.scores(sum(read)) if self.segmenter else {})

    def _seen(self, images: np.ndarray) -> np.ndarray:
        """Images of a lower resolution as the figures see them: of `_least` px or more."""
        return grids.enlarged(images, max(self._least // images.shape[1], 1))

    def _real_batches(
        self, side: int, rows: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        name = "target" if self.experiment.facts.input_channels else "image"
        for start in range(0, len(rows), CHUNK):
            batch = self.experiment.data.rows(self.split, rows[start : start + CHUNK])
            yield self._seen(_shrunk(batch[name], side)), batch.get("label")

    def _fake_batches(
        self, state: TrainState, stage: Stage, pairs: Pairs, read: list[np.ndarray]
    ) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Images as they are drawn; translations are compared on the way."""
        name = ""
        for start in range(0, self.count, CHUNK):
            batch = self.experiment.sample_batch(range(start, min(start + CHUNK, self.count)))
            name = name or self._weights(state, batch, stage)
            images = self._sampler(state, batch, stage, (name,))[name]
            if self.by_pairs:
                pairs.add(images, batch["target"])
            if self.segmenter:
                read.append(self.segmenter(images, batch["input"]))
            yield self._seen(images), batch.get("label")


def _shrunk(images: np.ndarray, side: int) -> np.ndarray:
    """uint8 [n, R, R, C] → [n, side, side, C]: means of blocks, rounded."""
    count, size, _, channels = images.shape
    if size == side:
        return images
    block = size // side
    parts = images.reshape(count, side, block, side, block, channels)
    return np.rint(parts.mean(axis=(2, 4), dtype=np.float32)).astype(np.uint8)


class _Segmenter:
    """Photos and the label maps they were made of → confusion matrix [K, K]."""

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
        return segmentation.confusion(np.asarray(self._nearest(maps)), predicted, len(self.colours))


def _complaints():
    return networks.complaints("config.quality.metrics", few=" (config.quality.few=True)")


def remember(folder: Path, about: dict[str, Any], write: bool = True) -> None:
    """Keeps what a run's figures are measured with in quality.json, where `write`.

    Raises UserError where the run was measured otherwise before: its figures, and the best state
    that was chosen by them, could not be compared.
    """
    path = folder / "quality.json"
    if path.exists():
        old = json.loads(path.read_text())
        changed = [k for k in {*old, *about} if old.get(k) != about.get(k)]
        if changed:
            raise UserError(
                f"--workdir={folder}: its quality was measured with other "
                + ", ".join(f"{k} ({old.get(k)}, now {about.get(k)})" for k in sorted(changed))
                + "; use what it began with, or another --workdir"
            )
    if write:
        write_json(path, about)

"""What is kept of a set of images that streams by, and the figures that two such sets give.

A metric is named once (METRICS); from the names asked for follows what has to be kept of each set:
means and covariances, features, patches. Images themselves are never kept.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from gan_jax.metrics import swd
from gan_jax.metrics.coverage import coverage
from gan_jax.metrics.diversity import diversity
from gan_jax.metrics.features import Images, Network
from gan_jax.metrics.inception_score import inception_score
from gan_jax.metrics.kid import kid
from gan_jax.metrics.manifold import prdc
from gan_jax.ops.frechet import Moments, frechet_distance

Labels = Sequence[int] | np.ndarray | None
INCEPTION, CLASSIFIER, PIXELS = "inception", "classifier", "pixels"
FEW = "biased by few images"
MOST_PATCHED = 16384  # images whose patches SWD compares, as in the paper
ROWS = 512  # features are merged into the moments so many at a time: a merge costs D² whatever n


@dataclass(frozen=True)
class Settings:
    """What the figures depend on beside the images, and is said with them."""

    seed: int = 2020  # KID's subsets, the Inception Score's order, SWD's patches and directions
    kid_subsets: int = 100
    kid_subset_size: int = 1000  # at most; smaller sets are taken whole
    splits: int = 10  # of the Inception Score
    few: bool = False  # a Fréchet distance of fewer images than features is given, and marked

    def said(self) -> dict[str, int]:
        """What is written beside figures; of few images there is a note."""
        return {name: value for name, value in asdict(self).items() if name != "few"}


class Metric(NamedTuple):
    """One name of `--metrics`: the figures it gives and what must be kept for them."""

    network: str
    figures: tuple[str, ...]
    moments: tuple[str, ...] = ()  # taps
    features: tuple[str, ...] = ()
    of_real: bool = True  # whether real images matter
    by_class: bool = False
    patches: bool = False
    pairs: bool = False


def _metrics() -> dict[str, Metric]:
    found = {}
    for network, end, frechet, kernel in (
        (INCEPTION, "", "fid", "kid"),
        (CLASSIFIER, "_classifier", "fd", "kd"),
    ):
        one = {"features": ("features",)}
        found |= {
            f"{frechet}{end}": Metric(network, (f"{frechet}{end}",), moments=("features",)),
            f"{kernel}{end}": Metric(network, (f"{kernel}{end}", f"{kernel}{end}_std"), **one),
            f"{kernel}_rbf{end}": Metric(
                network, (f"{kernel}_rbf{end}", f"{kernel}_rbf{end}_std"), **one
            ),
            f"is{end}": Metric(
                network, (f"is{end}", f"is{end}_std"), features=("logits",), of_real=False
            ),
            f"pr{end}": Metric(
                network, (f"precision{end}", f"recall{end}", f"f_score{end}"), **one
            ),
            f"pr_strict{end}": Metric(
                network, (f"precision_strict{end}", f"recall_strict{end}"), **one
            ),
            f"dc{end}": Metric(network, (f"density{end}", f"coverage{end}"), **one),
            f"{frechet}_by_class{end}": Metric(
                network, (f"{frechet}_by_class{end}",), moments=("features",), by_class=True
            ),
        }
    for tap in ("64", "192", "768"):
        found[f"fid_{tap}"] = Metric(INCEPTION, (f"fid_{tap}",), moments=(tap,))
    found["sfid"] = Metric(INCEPTION, ("sfid",), moments=("spatial",))
    found["classes"] = Metric(
        CLASSIFIER, ("class_entropy", "class_confidence"), features=("logits",), of_real=False
    )
    found["swd"] = Metric(PIXELS, ("swd",), patches=True)
    found["ms_ssim"] = Metric(PIXELS, ("ms_ssim",), pairs=True)
    return found


METRICS = _metrics()
"""Every metric of two sets that need not be paired."""


@dataclass
class Kept:
    """What is kept of one set under one network, after `gather`."""

    count: int = 0
    moments: dict[str, Moments] = field(default_factory=dict)  # by tap, and by (tap, class)
    features: dict[str, np.ndarray] = field(default_factory=dict)  # by tap, [N, D] float32
    patches: swd.Patches | None = None
    pairs: tuple[float, int] = (0.0, 0)  # sum of MS-SSIM, and of how many pairs of neighbours


def chosen(names: Sequence[str], network: str) -> dict[str, Metric]:
    """The metrics among `names` that are of this network (INCEPTION, CLASSIFIER or PIXELS)."""
    known = [name for name in names if name in METRICS]  # the rest is of pairs
    return {name: METRICS[name] for name in known if METRICS[name].network == network}


def gather(
    batches: Iterable[tuple[Images, Sequence[int] | None]],
    names: Sequence[str],
    networks: Mapping[str, Network],
    seed: int,
    real: bool,
    patch_rows: Sequence[int] = (),
    done: Callable[[int], None] = lambda count: None,
) -> dict[str, Kept]:
    """Streams a set once, past every network that the metrics `names` need.

    What is kept depends on the images and their order, not on how they come in batches.

    Args:
      batches: uint8 images, an array [n, H, W, C] or a list, and their classes or None.
      networks: by INCEPTION and CLASSIFIER, those that are needed.
      seed: of SWD's patches.
      real: whether it is the set of real images, of which less is needed.
      patch_rows: which images SWD looks at, ascending (`spread`); as many of each set.
      done: told the number of images behind it after every batch.

    Returns:
      What is kept, by network. Class moments are there under (tap, class).

    Raises:
      ValueError: images that SWD or MS-SSIM cannot take; `str` of it is for people.
    """
    kept = {network: Kept() for network in (INCEPTION, CLASSIFIER, PIXELS)}
    wanted = {
        network: [m for m in chosen(names, network).values() if m.of_real or not real]
        for network in kept
    }
    kept = {network: kept[network] for network in kept if chosen(names, network)}
    buffers = {network: _Buffer(kept[network], wanted[network]) for network in kept}
    # each set has a stream of its own under the one seed
    rng = np.random.default_rng((seed, int(real)))
    pixels = _Pixels(kept.get(PIXELS, Kept()), chosen(names, PIXELS), rng, patch_rows)
    count = 0
    for images, classes in batches:
        for network, buffer in buffers.items():
            if network != PIXELS and buffer.taps:
                buffer.add(networks[network].extract(images, buffer.taps), classes)
        pixels.add(images)
        count += len(images)
        done(count)
    for network, buffer in buffers.items():
        kept[network].count = count
        buffer.close()
    return kept


class _Pixels:
    """What looks at the images themselves: patches of some, and MS-SSIM of the images 0 and 1, 2
    and 3, … of the stream, of which an odd one waits for the next batch."""

    def __init__(
        self,
        kept: Kept,
        metrics: Mapping[str, Metric],
        rng: np.random.Generator,
        patch_rows: Sequence[int],
    ):
        self.kept, self.names, self.rows = kept, list(metrics), np.asarray(patch_rows, int)
        self.paired = any(m.pairs for m in metrics.values())
        if any(m.patches for m in metrics.values()):
            kept.patches = swd.Patches(rng)
        self._shape: tuple[int, ...] | None = None
        self._seen = 0
        self._waiting: np.ndarray | None = None  # [1, H, W, C]

    def add(self, images: Images) -> None:
        if not self.names:
            return
        images = self._one_shape(images)
        here = self.rows[(self.rows >= self._seen) & (self.rows < self._seen + len(images))]
        if self.kept.patches is not None and len(here):
            self.kept.patches.add(images[here - self._seen])
        self._seen += len(images)
        if self.paired:
            self._pair(images)

    def _pair(self, images: np.ndarray) -> None:
        if self._waiting is not None:
            images = np.concatenate([self._waiting, images])
        found = len(images) // 2
        self._waiting = images[2 * found :] if len(images) % 2 else None
        if found:
            total, pairs = self.kept.pairs
            value = diversity(images[: 2 * found])
            self.kept.pairs = (total + found * value, pairs + found)

    def _one_shape(self, images: Images) -> np.ndarray:
        """The batch as an array. Raises ValueError for several shapes, in it or over batches."""
        shapes = {np.shape(image) for image in images} | ({self._shape} if self._shape else set())
        if len(shapes) > 1:
            found = " and ".join(str(list(shape)) for shape in sorted(shapes)[:2])
            raise ValueError(f"{self.names[0]} takes images of one shape, found {found}")
        self._shape = next(iter(shapes), self._shape)
        return np.asarray(images)


class _Buffer:
    """Collects features of batches; ROWS of them at a time are merged, however they come."""

    def __init__(self, kept: Kept, metrics: Sequence[Metric]):
        self.kept = kept
        self.plain = {tap for m in metrics if not m.by_class for tap in m.moments}
        self.classed = {tap for m in metrics if m.by_class for tap in m.moments}
        self.whole = {tap for m in metrics for tap in m.features}
        self.taps = sorted(self.plain | self.classed | self.whole)
        self.waiting: dict[str, list[np.ndarray]] = {tap: [] for tap in self.taps}
        self.classes: list[np.ndarray] = []
        self.parts: dict[str, list[np.ndarray]] = {tap: [] for tap in self.whole}

    def add(self, features: dict[str, np.ndarray], classes: Sequence[int] | None) -> None:
        for tap, values in features.items():
            self.waiting[tap].append(values)
            if tap in self.whole:
                self.parts[tap].append(values)
        if self.classed and classes is not None:
            self.classes.append(np.asarray(classes))
        while sum(map(len, next(iter(self.waiting.values())))) >= ROWS:
            self._merge(ROWS)

    def _merge(self, most: int) -> None:
        """Merges the first `most` rows that wait, and keeps the rest waiting."""
        whole = {tap: np.concatenate(values) for tap, values in self.waiting.items() if values}
        rows = {tap: values[:most] for tap, values in whole.items()}
        for tap in self.plain & rows.keys():
            self.kept.moments.setdefault(tap, Moments()).add(rows[tap])
        if self.classed and self.classes:
            every = np.concatenate(self.classes)
            classes, self.classes = every[:most], [every[most:]]
            for tap in self.classed & rows.keys():
                for label in np.unique(classes):
                    of_class = self.kept.moments.setdefault((tap, int(label)), Moments())
                    of_class.add(rows[tap][classes == label])
        self.waiting = {tap: [whole[tap][most:]] if tap in whole else [] for tap in self.taps}

    def close(self) -> None:
        self._merge(ROWS)  # fewer than that wait
        self.kept.features = {tap: np.concatenate(parts) for tap, parts in self.parts.items()}


def plan(
    names: Sequence[str],
    n_real: int,
    n_fake: int,
    networks: Mapping[str, Network],
    settings: Settings,
    labels: tuple[Labels, Labels] = (None, None),
    class_names: Sequence[str] = (),
) -> list[str]:
    """What the numbers of images alone say of the figures to come, before any feature is computed.

    Args:
      n_real: 0 where it is not known.
      labels: classes of the real and of the other images; metrics by class are looked at where both
        are known.

    Returns:
      The notes that belong beside the figures.

    Raises:
      ValueError: as `figures`.
    """
    enough(names, n_real, n_fake, settings)
    notes, smaller = [], min(n for n in (n_real, n_fake) if n) if n_real or n_fake else 0
    for name in names:
        metric = METRICS[name]
        if metric.moments and not metric.by_class:
            width = networks[metric.network].widths[metric.moments[0]]
            notes += _few(metric.figures[0], smaller, width, settings)
        if metric.by_class and all(part is not None for part in labels):
            counts = [Counter(map(int, part)) for part in labels]
            width = networks[metric.network].widths[metric.moments[0]]
            notes += _by_class_notes(metric.figures[0], *counts, width, settings, class_names)
        if name.startswith(("kid", "kd")):
            notes += _subsets(name, smaller, settings)[1]
        if metric.patches and patched(n_real, n_fake) < max(n_real, n_fake):
            notes.append(f"{name}: {patched(n_real, n_fake)} images of each set")
    return notes


def enough(names: Sequence[str], n_real: int, n_fake: int, settings: Settings) -> None:
    """ValueError for a metric that cannot be measured on so few images at all; 0: not known."""
    for name in names:
        metric = METRICS[name]
        if name.startswith("is") and 0 < n_fake < settings.splits:
            raise ValueError(
                f"{name}: splits = {settings.splits} of {n_fake} images; give more images, or set "
                f"splits to {n_fake} or less"
            )
        least, why = 1, ""
        if name.startswith(("pr", "dc")):
            least, why = neighbours(name) + 1, f" (k = {neighbours(name)} neighbours of each)"
        elif metric.moments or metric.pairs or name.startswith(("kid", "kd")):
            least = 2
        counts = {"real": n_real if metric.of_real else 0, "generated": n_fake}
        if any(0 < count < least for count in counts.values()):
            found = " and ".join(f"{n} {kind}" for kind, n in counts.items() if n)
            raise ValueError(
                f"{name}: needs {least} images or more of a set{why}, found {found}; give more, "
                "or leave it out"
            )


def neighbours(name: str) -> int:
    """How many neighbours span the manifolds of a precision, recall, density or coverage."""
    return 5 if name.startswith(("pr_strict", "dc")) else 3


def _by_class_notes(
    name: str,
    real: Mapping[int, int],
    fake: Mapping[int, int],
    width: int,
    settings: Settings,
    class_names: Sequence[str],
) -> list[str]:
    """Notes of the classes with few images; {class: number of images} of both sets. ValueError for
    a class with too few to be compared, or that is in the real set alone."""
    notes = []
    for label in sorted(real):
        shown = class_names[label] if label < len(class_names) else label
        title = f"{name}/{shown}"
        if not fake.get(label):
            raise ValueError(f"{name}: the second set has no image of class {shown}")
        few = min(real[label], fake[label])
        if few < 2:
            raise ValueError(
                f"{title}: {real[label]} real and {fake[label]} generated images of this class; a "
                "distance needs two or more of each, so give more or leave the class out"
            )
        notes += _few(title, few, width, settings)
    return notes


def patched(n_real: int, n_fake: int) -> int:
    """Of how many images of each set SWD compares the patches: as many of both, and a limit."""
    return min(n_real, n_fake, MOST_PATCHED)


def spread(count: int, wanted: int) -> np.ndarray:
    """`wanted` of `count` rows at equal distances: a sorted set gives some of every class."""
    return np.arange(wanted) * count // max(wanted, 1)


@dataclass
class _Around:
    """What every comparison needs beside the two sets."""

    networks: Mapping[str, Network]
    settings: Settings
    class_names: Sequence[str]
    notes: list[str] = field(default_factory=list)
    manifolds: dict[tuple, dict[str, float]] = field(default_factory=dict)  # shared by pr and dc


def figures(
    names: Sequence[str],
    real: Mapping[str, Kept],
    fake: Mapping[str, Kept],
    networks: Mapping[str, Network],
    settings: Settings,
    class_names: Sequence[str] = (),
) -> tuple[dict[str, float], list[str]]:
    """The figures of the metrics `names`, and the notes that belong beside them.

    Raises:
      ValueError: sets that a metric cannot be measured on; `str` of it is for people.
    """
    around = _Around(networks, settings, class_names)
    found: dict[str, float] = {}
    for name in names:
        network = METRICS[name].network
        found |= _measure(name, real.get(network, Kept()), fake[network], around)
    return found, around.notes


def _measure(name: str, real: Kept, fake: Kept, around: _Around) -> dict[str, float]:
    """The figures of one metric."""
    metric, settings = METRICS[name], around.settings
    tap = (metric.moments or metric.features or ("",))[0]
    if metric.by_class:
        return _by_class(metric.figures[0], tap, real, fake, around)
    if metric.moments:
        return {metric.figures[0]: _frechet(name, tap, real, fake, around)}
    if metric.patches:
        rng = np.random.default_rng(settings.seed)
        by_level = swd.distances(real.patches, fake.patches, rng)
        average = by_level.pop("average")
        return {"swd": average} | {f"swd/{level}": value for level, value in by_level.items()}
    if metric.pairs:
        return {"ms_ssim": _pair_mean(fake), "ms_ssim_real": _pair_mean(real)}
    ours = fake.features[tap]
    if name == "classes":
        values, histogram = coverage(ours)
        return values | {f"class_fraction/{i}": float(share) for i, share in enumerate(histogram)}
    if name.startswith("is"):
        values = inception_score(ours, splits=settings.splits, seed=settings.seed)
        return dict(zip(metric.figures, values, strict=True))
    theirs = real.features[tap]
    if name.startswith(("kid", "kd")):
        size, notes = _subsets(name, min(len(ours), len(theirs)), settings)
        around.notes += notes
        values = kid(
            theirs, ours, subsets=settings.kid_subsets, subset_size=size, seed=settings.seed,
            kernel="rbf" if "rbf" in name else "polynomial",
        )  # fmt: skip
        return dict(zip(metric.figures, values, strict=True))
    k = neighbours(name)
    strict = k == 5
    key = (metric.network, tap, strict)
    if key not in around.manifolds:
        around.manifolds[key] = prdc(theirs, ours, k=k, strict=strict)
    values = around.manifolds[key]
    kinds = ("precision", "recall", "f_score", "density", "coverage")
    return {
        figure: next(values[kind] for kind in kinds if figure.startswith(kind))
        for figure in metric.figures
    }


def _subsets(name: str, smaller: int, settings: Settings) -> tuple[int, list[str]]:
    """The size of KID's subsets, and the note that they are smaller than asked for."""
    size = min(settings.kid_subset_size, smaller)
    return size, [f"{name}: subsets of {size} images"] if size < settings.kid_subset_size else []


def _pair_mean(kept: Kept) -> float:
    total, pairs = kept.pairs
    if not pairs:
        raise ValueError("ms_ssim needs two images or more")
    return total / pairs


def _few(name: str, images: int, width: int, settings: Settings) -> list[str]:
    """The note that a covariance is of few images; ValueError where nobody asked for that."""
    if images > width:
        return []
    if not settings.few:
        raise ValueError(
            f"{name}: {images} images are too few for features of width {width}, whose "
            f"covariance needs {width + 1} or more; give more, or ask for the biased figure"
        )
    return [f"{name}: {FEW} ({images} for {width} features)"]


def _frechet(name: str, tap: str, real: Kept, fake: Kept, around: _Around) -> float:
    ours, theirs = fake.moments[tap], real.moments[tap]
    # 0: another program's moments, of it does not say how many
    few = min(m.count for m in (ours, theirs) if m.count)
    width = around.networks[METRICS[name].network].widths[tap]
    around.notes += _few(METRICS[name].figures[0], few, width, around.settings)
    return frechet_distance(theirs.mean, theirs.cov, ours.mean, ours.cov)


def _by_class(name: str, tap: str, real: Kept, fake: Kept, around: _Around) -> dict[str, float]:
    """The distance of each class, and their mean under the metric's own name."""
    counts = [
        {key[1]: m.count for key, m in kept.moments.items() if isinstance(key, tuple)}
        for kept in (real, fake)
    ]
    if not counts[0]:
        raise ValueError(f"{name}: needs labels on both sides")
    width = around.networks[METRICS[name].network].widths[tap]
    around.notes += _by_class_notes(name, *counts, width, around.settings, around.class_names)
    found = {}
    for label in sorted(counts[0]):
        ours, theirs = fake.moments[tap, label], real.moments[tap, label]
        named = label < len(around.class_names)
        title = f"{name}/{around.class_names[label] if named else label}"
        found[title] = frechet_distance(theirs.mean, theirs.cov, ours.mean, ours.cov)
    return {name: float(np.mean(list(found.values())))} | found


def describe(network: Network, names: Sequence[str] = ()) -> dict[str, Any]:
    """What identifies a network, as it is written beside the figures of the metrics `names`."""
    found = {"network": network.name, "weights": network.fingerprint, "resize": network.resize}
    scored = any(m.features == ("logits",) for m in chosen(names, INCEPTION).values())
    return found | ({"logits": network.logits} if scored and network.logits else {})

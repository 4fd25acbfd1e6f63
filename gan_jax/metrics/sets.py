"""The figures that two sets of images give, of what is kept of each (`gather`).

A metric is named once (METRICS, in `registry`); from the names asked for follows what has to be
kept of each set.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gan_jax.metrics import swd
from gan_jax.metrics.coverage import coverage
from gan_jax.metrics.features import Network
from gan_jax.metrics.gather import Kept
from gan_jax.metrics.inception_score import inception_score
from gan_jax.metrics.kid import kid
from gan_jax.metrics.manifold import prdc
from gan_jax.metrics.registry import METRICS, Settings
from gan_jax.ops.frechet import frechet_distance

Labels = Sequence[int] | np.ndarray | None
FEW = "biased by few images"
MOST_PATCHED = 16384  # images whose patches SWD compares, as in the paper


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

"""The metrics of pixels, without a network: sliced Wasserstein distance and MS-SSIM."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from gan_jax.metrics import swd
from gan_jax.metrics.metric import Context, Counts, Labels, Metric, Statistics

MOST_PATCHED = 16384  # images whose patches SWD compares, as in the paper


def patched(n_real: int, n_fake: int) -> int:
    """The number of images of each set whose patches SWD compares: equal, and limited."""
    return min(n_real, n_fake, MOST_PATCHED)


@dataclass(frozen=True)
class SlicedWasserstein(Metric):
    """`swd`, the mean over the levels of a Laplacian pyramid, and `swd/<side>` for each level."""

    patches = True

    def notes(self, counts: Counts, context: Context) -> list[str]:
        taken = patched(counts.real, counts.fake)
        if taken < max(counts.real, counts.fake):
            return [f"{self.name}: {taken} images of each set"]
        return []

    def compute(self, real: Statistics, fake: Statistics, context: Context) -> dict[str, float]:
        rng = np.random.default_rng(context.options.seed)
        by_level = swd.distances(real.patches, fake.patches, rng)
        average = by_level.pop("average")
        return {"swd": average} | {f"swd/{level}": value for level, value in by_level.items()}


@dataclass(frozen=True)
class MsSsim(Metric):
    """How alike a set's images are: `ms_ssim` of the second set, `ms_ssim_real` of the real.

    Where images of one class are compared (`Counts.one_class`), the values are means over the
    classes of which both sets have two images or more, whatever the sizes of the classes.
    """

    pairs = True

    @property
    def least(self) -> tuple[int, str]:
        return 2, ""

    def notes(self, counts: Counts, context: Context) -> list[str]:
        if counts.one_class:
            classes = comparable(counts.labels)
            if not classes:
                raise ValueError(
                    f"{self.name}: compares images of one class, and there is no class of which "
                    "both sets have two images or more; give more, or leave it out"
                )
            return [f"{self.name}: images of one class are compared (classes: {len(classes)})"]
        if any(labels is not None for labels in counts.labels):
            return [
                f"{self.name}: neighbouring images are compared, since the sets do not have the "
                "same classes with two images or more of each; neighbours in a folder that is "
                "sorted by class are mostly of one"
            ]
        return []

    def compute(self, real: Statistics, fake: Statistics, context: Context) -> dict[str, float]:
        classes = real.pairs.keys() & fake.pairs.keys()
        if not classes:
            raise ValueError(f"{self.name} needs two images or more, of one class if there are any")
        return {"ms_ssim": _mean(fake, classes), "ms_ssim_real": _mean(real, classes)}


def comparable(labels: Sequence[Labels]) -> set[int]:
    """The classes of which each of the sets has two images or more; none if one has no classes."""
    found = []
    for own in labels:
        classes, counts = np.unique([] if own is None else np.asarray(own), return_counts=True)
        found.append(set(classes[counts > 1].tolist()))
    return set.intersection(*found)


def _mean(statistics: Statistics, classes: Collection[int | None]) -> float:
    """The mean over classes of the mean over each one's pairs."""
    totals = (statistics.pairs[label] for label in classes)
    return math.fsum(total / pairs for total, pairs in totals) / len(classes)

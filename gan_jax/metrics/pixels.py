"""The metrics of pixels, without a network: sliced Wasserstein distance and MS-SSIM."""

import math
from collections.abc import Collection
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

    Where both sets have classes, images of one class are compared, and the values are means over
    the classes of which both sets have two images or more, whatever the sizes of the classes.
    """

    pairs = True

    @property
    def least(self) -> tuple[int, str]:
        return 2, ""

    def notes(self, counts: Counts, context: Context) -> list[str]:
        labelled = [labels is not None for labels in counts.labels]
        if all(labelled):
            classes = _twice(counts.labels[0]) & _twice(counts.labels[1])
            if not classes:
                raise ValueError(
                    f"{self.name}: compares images of one class, and there is no class of which "
                    "both sets have two images or more; give more, or leave it out"
                )
            return [f"{self.name}: the mean over {len(classes)} classes, of pairs within each"]
        if any(labelled) and counts.real and counts.fake:
            return [
                f"{self.name}: neighbouring images are compared, since the sets do not have the "
                "same classes; neighbours in a folder that is sorted by class are mostly of one"
            ]
        return []

    def compute(self, real: Statistics, fake: Statistics, context: Context) -> dict[str, float]:
        classes = real.pairs.keys() & fake.pairs.keys()
        if not classes:
            raise ValueError(f"{self.name} needs two images or more, of one class if there are any")
        return {"ms_ssim": _mean(fake, classes), "ms_ssim_real": _mean(real, classes)}


def _twice(labels: Labels) -> set[int]:
    """The classes of two images or more."""
    classes, counts = np.unique(np.asarray(labels), return_counts=True)
    return set(classes[counts > 1].tolist())


def _mean(statistics: Statistics, classes: Collection[int | None]) -> float:
    """The mean over classes of the mean over each one's pairs."""
    totals = (statistics.pairs[label] for label in classes)
    return math.fsum(total / pairs for total, pairs in totals) / len(classes)

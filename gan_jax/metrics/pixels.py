"""The metrics of pixels, without a network: sliced Wasserstein distance and MS-SSIM."""

from dataclasses import dataclass

import numpy as np

from gan_jax.metrics import swd
from gan_jax.metrics.metric import Context, Counts, Metric, Statistics

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
    """How alike a set's images are: `ms_ssim` of the second set, `ms_ssim_real` of the real."""

    pairs = True

    @property
    def least(self) -> tuple[int, str]:
        return 2, ""

    def compute(self, real: Statistics, fake: Statistics, context: Context) -> dict[str, float]:
        return {"ms_ssim": _pair_mean(fake), "ms_ssim_real": _pair_mean(real)}


def _pair_mean(statistics: Statistics) -> float:
    total, pairs = statistics.pairs
    if not pairs:
        raise ValueError("ms_ssim needs two images or more")
    return total / pairs

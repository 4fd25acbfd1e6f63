"""The interface of a metric of two sets: the statistics it needs and how it is computed.

A family of metrics, such as the Fréchet distances, is a subclass of `Metric` in a file of its own;
one metric is a row of `registry.METRICS`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from gan_jax.metrics.features import Network
from gan_jax.ops.frechet import Moments

INCEPTION, CLASSIFIER, PIXELS = "inception", "classifier", "pixels"
Labels = Sequence[int] | np.ndarray | None


@dataclass(frozen=True)
class MetricOptions:
    """Options on which the values of metrics depend; they are recorded with the values."""

    seed: int = 2020  # KID's subsets, the Inception Score's order, SWD's patches and directions
    kid_subsets: int = 100
    kid_subset_size: int = 1000  # at most; of smaller sets all images are used
    splits: int = 10  # of the Inception Score
    few: bool = False  # allow a Fréchet distance of fewer images than features, with a note

    def recorded(self) -> dict[str, int]:
        """The options that are written beside the values; for `few` there is a note instead."""
        return {
            "seed": self.seed,
            "kid_subsets": self.kid_subsets,
            "kid_subset_size": self.kid_subset_size,
            "splits": self.splits,
        }


@dataclass
class Statistics:
    """The statistics of one set of images with one network, from `accumulate`."""

    count: int = 0
    moments: dict[Any, Moments] = field(default_factory=dict)  # by tap, and by (tap, class)
    features: dict[str, np.ndarray] = field(default_factory=dict)  # by tap, [N, D] float32
    patches: Any = None  # swd.Patches
    # (sum of MS-SSIM over pairs of images, number of pairs), by the class of the pairs, or for None
    pairs: dict[int | None, tuple[float, int]] = field(default_factory=dict)


class Counts(NamedTuple):
    """The numbers of images to be compared, known before any feature is computed."""

    real: int  # 0 if it is not known
    fake: int  # 0 if there is no second set
    labels: tuple[Labels, Labels] = (None, None)  # classes of the real and of the other images
    one_class: bool = False  # whether images of one class are compared with each other (MS-SSIM)

    @property
    def smaller(self) -> int:
        """The smaller of the known numbers, 0 if neither is known."""
        return min((n for n in (self.real, self.fake) if n), default=0)


@dataclass
class Context:
    """What a comparison needs besides the two sets, and the notes that metrics add."""

    networks: Mapping[str, Network]
    options: MetricOptions
    class_names: Sequence[str] = ()
    notes: list[str] = field(default_factory=list)
    shared: dict[tuple, Any] = field(default_factory=dict)  # results that several metrics use


@dataclass(frozen=True)
class Metric(ABC):
    """One metric of two sets. Subclasses override whatever is different for them."""

    name: str
    network: str  # INCEPTION, CLASSIFIER or PIXELS

    of_real: ClassVar[bool] = True  # whether real images matter
    by_class: ClassVar[bool] = False
    patches: ClassVar[bool] = False  # whether it needs patches of the images
    pairs: ClassVar[bool] = False  # whether it needs the MS-SSIM of pairs of images within a set
    moments: ClassVar[tuple[str, ...]] = ()  # the taps whose means and covariances it needs
    features: ClassVar[tuple[str, ...]] = ()  # the taps whose features it needs of every image

    @property
    def values(self) -> tuple[str, ...]:
        """Names of the values that it always has; there may be others, depending on the data."""
        return (self.name,)

    @property
    def least(self) -> tuple[int, str]:
        """The smallest number of images it can be computed on, and why, for the message."""
        return 1, ""

    def check(self, counts: Counts, options: MetricOptions) -> None:
        """Raises ValueError if a set has too few images for this metric."""
        least, why = self.least
        known = {"real": counts.real if self.of_real else 0, "generated": counts.fake}
        if any(0 < count < least for count in known.values()):
            found = " and ".join(f"{n} {kind}" for kind, n in known.items() if n)
            raise ValueError(
                f"{self.name}: needs {least} images or more of a set{why}, found {found}; give "
                "more, or leave it out"
            )

    def notes(self, counts: Counts, context: Context) -> list[str]:
        """Notes that follow from the numbers of images alone. Raises ValueError if `compute` would
        for these numbers."""
        return []

    @abstractmethod
    def compute(self, real: Statistics, fake: Statistics, context: Context) -> dict[str, float]:
        """The metric's values by name. Raises ValueError if it cannot be computed for the sets."""

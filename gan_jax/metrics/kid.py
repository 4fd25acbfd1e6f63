"""Kernel inception distance: an unbiased MMD² between two sets of features, over random subsets.

Bińkowski, Sutherland, Arbel & Gretton 2018, "Demystifying MMD GANs", arXiv 1801.01401.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gan_jax.metrics.metric import Context, Counts, Metric, MetricOptions, Statistics

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Rows [m, D] and [n, D] in float64 → their kernel values [m, n]."""


@dataclass(frozen=True)
class Polynomial:
    """(gamma x·y + coef0)^degree; gamma None is 1/D."""

    degree: int = 3
    gamma: float | None = None
    coef0: float = 1.0

    def __call__(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        gamma = 1 / x.shape[1] if self.gamma is None else self.gamma
        return (gamma * (x @ y.T) + self.coef0) ** self.degree


@dataclass(frozen=True)
class Rbf:
    """exp(-‖x - y‖² / (2 sigma²)), sigma > 0."""

    sigma: float = 10.0

    def __call__(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        # ‖x‖² + ‖y‖² - 2 x·y cancels badly far from the origin, and a shift changes no distance
        centre = y.mean(axis=0)
        x, y = x - centre, y - centre
        squares = np.square(x).sum(axis=1, keepdims=True) + np.square(y).sum(axis=1) - 2 * (x @ y.T)
        return np.exp(-squares.clip(0) / (2 * self.sigma**2))


KERNELS: dict[str, Kernel] = {"polynomial": Polynomial(), "rbf": Rbf()}


def kid(
    real: np.ndarray,
    fake: np.ndarray,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 2020,
    kernel: str | Kernel = "polynomial",
) -> tuple[float, float]:
    """Mean and standard deviation of the unbiased MMD² over random subsets.

    `np.random.RandomState(seed)` picks, subset by subset, first the rows of `fake` and then those
    of `real`, each without replacement. That is torch-fidelity's order when its `input1` is the
    generated set, so the same features, seed and options give the same values; with the sets
    exchanged, values differ by the noise of sampling. Kernels are evaluated in float64, where
    torch-fidelity stays in the float32 of its features.

    Work arrays have subset_size² and subset_size · D numbers, however large the sets are.

    Args:
      real, fake: [N, D] and [M, D], any float type; only for the pool features of the Inception
        network may the result be called KID.
      subsets: how many pairs of subsets are sampled, ≥ 1.
      subset_size: rows per subset, 2 ≤ subset_size ≤ N, M.
      seed: seed of the sampling.
      kernel: a name in KERNELS, or a kernel with other parameters.

    Returns:
      (mean, population standard deviation) over subsets. For sets of the same distribution the mean
      may be slightly negative, as an unbiased estimate of 0 must be; nan if a sampled feature is.

    Raises:
      ValueError: an unknown kernel, features that are not [N, D] of one width, fewer than
        subset_size of them, or subsets or subset_size too small.
    """
    real, fake = np.asarray(real), np.asarray(fake)
    if isinstance(kernel, str):
        if kernel not in KERNELS:
            raise ValueError(f"kernel {kernel!r} is unknown; there are {', '.join(KERNELS)}")
        kernel = KERNELS[kernel]
    _check(real, fake, subsets, subset_size)
    random = np.random.RandomState(seed)
    values = np.empty(subsets)
    for i in range(subsets):
        x = fake[random.choice(len(fake), subset_size, replace=False)].astype(np.float64)
        y = real[random.choice(len(real), subset_size, replace=False)].astype(np.float64)
        within = sum(_off_diagonal_mean(kernel(rows, rows)) for rows in (x, y))
        values[i] = within - 2 * kernel(x, y).mean()
    return float(values.mean()), float(values.std())


def _check(real: np.ndarray, fake: np.ndarray, subsets: int, subset_size: int) -> None:
    """Raises ValueError for arguments that `kid` cannot take."""
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"features are [N, D] of one width, found real {real.shape} and fake {fake.shape}"
        )
    if subsets < 1 or subset_size < 2:
        raise ValueError(
            f"subsets = {subsets} must be 1 or more, subset_size = {subset_size} 2 or more"
        )
    for name, features in (("real", real), ("fake", fake)):
        if len(features) < subset_size:
            raise ValueError(
                f"subset_size = {subset_size} but only {len(features)} {name} features; "
                f"set subset_size to {min(len(real), len(fake))} or less, or use more images"
            )


def _off_diagonal_mean(square: np.ndarray) -> float:
    """Mean of [m, m] without the diagonal: a point's kernel with itself would bias the estimate."""
    m = len(square)
    return (square.sum() - np.trace(square)) / (m * (m - 1))


@dataclass(frozen=True)
class Kid(Metric):
    """`kid` of the features of two sets, with the deviation under `<name>_std`."""

    kernel: str = "polynomial"  # a name in KERNELS

    features = ("features",)

    @property
    def values(self) -> tuple[str, ...]:
        return self.name, f"{self.name}_std"

    @property
    def least(self) -> tuple[int, str]:
        return 2, ""

    def notes(self, counts: Counts, context: Context) -> list[str]:
        return self._subsets(counts.smaller, context.options)[1]

    def compute(self, real: Statistics, fake: Statistics, context: Context) -> dict[str, float]:
        ours, theirs = fake.features["features"], real.features["features"]
        options = context.options
        size, notes = self._subsets(min(len(ours), len(theirs)), options)
        context.notes += notes
        found = kid(
            theirs,
            ours,
            subsets=options.kid_subsets,
            subset_size=size,
            seed=options.seed,
            kernel=self.kernel,
        )
        return dict(zip(self.values, found, strict=True))

    def _subsets(self, smaller: int, options: MetricOptions) -> tuple[int, list[str]]:
        """The size of the subsets, and a note if it is smaller than asked for."""
        size = min(options.kid_subset_size, smaller)
        small = size < options.kid_subset_size
        return size, [f"{self.name}: subsets of {size} images"] if small else []

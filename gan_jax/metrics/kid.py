"""Kernel inception distance: an unbiased MMD² between two sets of features, over random subsets.

Bińkowski, Sutherland, Arbel & Gretton 2018, "Demystifying MMD GANs", arXiv 1801.01401.
"""

import numpy as np

KERNELS = ("polynomial", "rbf")


def kid(
    real: np.ndarray,
    fake: np.ndarray,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 2020,
    kernel: str = "polynomial",
    degree: int = 3,
    gamma: float | None = None,
    coef0: float = 1.0,
    sigma: float = 10.0,
) -> tuple[float, float]:
    """Mean and standard deviation of the unbiased MMD² over random subsets.

    `np.random.RandomState(seed)` picks, subset by subset, first the rows of `fake` and then those
    of `real`, each without replacement. That is torch-fidelity's order when its `input1` is the
    generated set, so the same features, seed and options give its numbers; they differ in the
    noise of the draw when the sets change places. Kernels are evaluated in float64, where
    torch-fidelity keeps the float32 of its features.

    Work arrays hold subset_size² and subset_size · D numbers, however large the sets are.

    Args:
      real, fake: [N, D] and [M, D], any float type; the pool features of the Inception network
        where the result is to be called KID.
      subsets: how many pairs of subsets are drawn, ≥ 1.
      subset_size: rows per subset, 2 ≤ subset_size ≤ N, M.
      seed: of the draws.
      kernel: "polynomial", (gamma x·y + coef0)^degree, or "rbf", exp(-‖x - y‖² / (2 sigma²)).
      degree, gamma, coef0: of the polynomial; gamma None is 1/D.
      sigma: width of the rbf kernel, > 0.

    Returns:
      (mean, population standard deviation) over subsets. The mean is slightly negative for sets of
      the same distribution, as an unbiased estimate of 0 must be; nan where a drawn feature is.

    Raises:
      ValueError: an unknown kernel, features that are not [N, D] of one width, fewer than
        subset_size of them, or subsets or subset_size too small.
    """
    real, fake = np.asarray(real), np.asarray(fake)
    if kernel not in KERNELS:
        raise ValueError(f"kernel {kernel!r} is unknown; there are {', '.join(KERNELS)}")
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
    gamma = 1 / real.shape[1] if gamma is None else gamma

    def similarity(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Kernel values [m, m]."""
        if kernel == "rbf":
            return _rbf(x, y, sigma)
        return (gamma * (x @ y.T) + coef0) ** degree

    random = np.random.RandomState(seed)
    values = np.empty(subsets)
    for i in range(subsets):
        x = fake[random.choice(len(fake), subset_size, replace=False)].astype(np.float64)
        y = real[random.choice(len(real), subset_size, replace=False)].astype(np.float64)
        within = sum(_off_diagonal_mean(similarity(rows, rows)) for rows in (x, y))
        values[i] = within - 2 * similarity(x, y).mean()
    return float(values.mean()), float(values.std())


def _rbf(x: np.ndarray, y: np.ndarray, sigma: float) -> np.ndarray:
    """exp(-‖x - y‖² / (2 sigma²)), [m, m]."""
    # ‖x‖² + ‖y‖² - 2 x·y cancels badly far from the origin, and distances do not mind a shift
    centre = y.mean(axis=0)
    x, y = x - centre, y - centre
    squares = np.square(x).sum(axis=1, keepdims=True) + np.square(y).sum(axis=1) - 2 * (x @ y.T)
    return np.exp(-squares.clip(0) / (2 * sigma**2))


def _off_diagonal_mean(square: np.ndarray) -> float:
    """Mean of [m, m] without the diagonal: a point's kernel with itself would bias the estimate."""
    m = len(square)
    return (square.sum() - np.trace(square)) / (m * (m - 1))

"""Fréchet distance between Gaussians, and the means and covariances it needs: numpy, float64."""

import numpy as np
from scipy.linalg import lapack


class Moments:
    """Mean and covariance of features that arrive in batches, without storing the features.

    Batches are merged by Chan's update (Chan, Golub & LeVeque 1979), so neither the order nor the
    size of batches matters beyond rounding.
    """

    def __init__(self) -> None:
        self.count = 0
        self._known = False  # moments from elsewhere, of an unknown number of features
        self._mean: np.ndarray | None = None  # [D]
        self._scatter: np.ndarray | None = None  # [D, D], Σ (x - mean)(x - mean)ᵀ

    @classmethod
    def of(cls, mean: np.ndarray, cov: np.ndarray, count: int = 0) -> "Moments":
        """Moments [D], [D, D] of `count` features that were computed before. With `count` 0 the
        number is not known, and no features can be added."""
        made = cls()
        made.count, made._mean = count, np.asarray(mean, np.float64)
        made._scatter = np.asarray(cov, np.float64) * max(count - 1, 1)
        made._known = count == 0
        return made

    def add(self, features: np.ndarray) -> None:
        """Adds features [N, D] of any float type.

        Raises:
          ValueError: not two axes, or another D than before.
        """
        features = np.asarray(features, np.float64)
        if features.ndim != 2:
            raise ValueError(f"features are [N, D], found shape {features.shape}")
        if not len(features):
            return
        if self._known:
            raise ValueError("these moments are of an unknown number of features")
        mean = features.mean(axis=0)
        centred = features - mean
        scatter = centred.T @ centred
        if self._mean is None:
            self.count, self._mean, self._scatter = len(features), mean, scatter
            return
        if mean.shape != self._mean.shape:
            raise ValueError(f"features of width {mean.size} after width {self._mean.size}")
        total = self.count + len(features)
        delta = mean - self._mean
        self._scatter += scatter + np.outer(delta, delta) * (self.count * len(features) / total)
        self._mean = self._mean + delta * (len(features) / total)
        self.count = total

    @property
    def mean(self) -> np.ndarray:
        """The mean, [D]. Raises ValueError before the first feature."""
        if self._mean is None:
            raise ValueError("no features were added")
        return self._mean

    @property
    def cov(self) -> np.ndarray:
        """The covariance, [D, D], divided by n - 1. Raises ValueError below two features."""
        if self._known:
            return self._scatter
        if self.count < 2:
            raise ValueError(f"a covariance needs two features or more, found {self.count}")
        return self._scatter / (self.count - 1)


def frechet_distance(
    mean_1: np.ndarray, cov_1: np.ndarray, mean_2: np.ndarray, cov_2: np.ndarray
) -> float:
    """‖μ₁-μ₂‖² + tr(C₁ + C₂ - 2 (C₁C₂)^½), never negative (Dowson & Landau 1982).

    With C₁ = LLᵀ, the eigenvalues of C₁C₂ other than zero are those of LᵀC₂L, which is symmetric; a
    general matrix square root gives imaginary parts where C is singular. L has as many columns as
    C₁ has ranks, so that few images take little time; the matrix of the lower rank is the one that
    is factored.

    Args:
      mean_1, mean_2: [D].
      cov_1, cov_2: [D, D], symmetric, positive semi-definite, possibly singular.

    Returns:
      The squared distance; nan if an input is not finite.
    """
    parts = [np.asarray(part, np.float64) for part in (mean_1, cov_1, mean_2, cov_2)]
    if not all(np.isfinite(part).all() for part in parts):
        return float("nan")
    mean_1, cov_1, mean_2, cov_2 = parts
    one, other = _factor(cov_1), _factor(cov_2)
    factor, cov = (one, cov_2) if one.shape[1] <= other.shape[1] else (other, cov_1)
    cross = np.sqrt(np.linalg.eigvalsh(factor.T @ cov @ factor).clip(0)).sum()
    difference = mean_1 - mean_2
    distance = difference @ difference + np.trace(cov_1) + np.trace(cov_2) - 2 * cross
    return max(float(distance), 0.0)


def _factor(cov: np.ndarray) -> np.ndarray:
    """L [D, rank] with LLᵀ = cov [D, D], by a Cholesky factorisation with pivots, which ends where
    no more than rounding is left (Higham 1990)."""
    packed, pivots, rank, _ = lapack.dpstrf(cov, lower=True)
    factor = np.empty((len(cov), rank))
    factor[pivots - 1] = np.tril(packed)[:, :rank]
    return factor

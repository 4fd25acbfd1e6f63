"""Precision and recall, density and coverage: fidelity and variety from balls around the samples.

Precision and recall: Kynkäänniemi, Karras, Laine, Lehtinen & Aila 2019, "Improved Precision and
Recall Metric for Assessing Generative Models", arXiv 1904.06991. Density and coverage: Naeem, Oh,
Uh, Choi & Yoo 2020, "Reliable Fidelity and Diversity Metrics for Generative Models",
arXiv 2002.09797.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from gan_jax.metrics.metric import Context, Metric, Statistics


def prdc(
    real: np.ndarray, fake: np.ndarray, *, k: int = 3, strict: bool = False, block: int = 2048
) -> dict[str, float]:
    """Precision, recall, density and coverage of generated features.

    Every sample has a ball whose radius is the distance to its k-th neighbour in its own set. The
    sample itself does not count as a neighbour, but another one at the same place does. With r_i
    the radius of real x_i, i < N, and s_j that of fake y_j, j < M:

      precision  share of fakes that lie in the ball of some real sample
      recall     share of real samples that lie in the ball of some fake
      f_score    2 P R / (P + R), 0 where both are 0
      density    number of pairs with y_j in the ball of x_i, divided by k M
      coverage   share of real samples with a fake in their ball

    Published numbers follow two conventions, and differ by them:

      torch-fidelity and the evaluator of guided diffusion   k=3, strict=False (the defaults)
      StudioGAN and the prdc package                         k=5, strict=True

    Distances are computed by matrix products; but radii, and every pair so close to a border that
    the rounding of a product could decide it, are computed as sums of squared differences in
    float64. So the result does not depend on `block`, large means cost no precision, and ties,
    which copied training images cause, are decided by `strict`. It is slow if a large part of both
    sets is a single point.

    Besides the features it needs about ten arrays of block² or block · D float64 numbers.

    Args:
      real, fake: [N, D] and [M, D], any float type; may be memory-mapped.
      k: which neighbour makes the radius, 1 ≤ k < N, M.
      strict: whether a point on the border of a ball is outside (d < r) or inside (d <= r).
      block: rows per block; speed and memory only.

    Returns:
      The five values by name, each in [0, 1] except density in [0, N/k]; all nan if a feature is
      not finite.

    Raises:
      ValueError: features that are not [N, D] of one width, k out of range, or block < 1.
    """
    real, fake = np.asarray(real), np.asarray(fake)
    _check(real, fake, k, block)
    totals = real.sum(axis=0, dtype=np.float64) + fake.sum(axis=0, dtype=np.float64)
    if not np.isfinite(totals).all():
        return dict.fromkeys(("precision", "recall", "f_score", "density", "coverage"), np.nan)
    # products of vectors with a large common mean leave few digits for their distance
    centre = totals / (len(real) + len(fake))
    inside = np.less if strict else np.less_equal
    faithful, recalled, population = _memberships(real, fake, k, inside, centre, block)
    precision, recall = faithful.mean(), recalled.mean()
    both = precision + recall
    return {
        "precision": float(precision),
        "recall": float(recall),
        "f_score": float(2 * precision * recall / both) if both else 0.0,
        "density": float(population.sum() / (k * len(fake))),
        "coverage": float((population > 0).mean()),
    }


def _check(real: np.ndarray, fake: np.ndarray, k: int, block: int) -> None:
    """Raises ValueError for arguments that `prdc` cannot take."""
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"features are [N, D] of one width, found real {real.shape} and fake {fake.shape}"
        )
    for name, features in (("real", real), ("fake", fake)):
        if not 1 <= k < len(features):
            raise ValueError(
                f"k = {k} neighbours besides itself for each of {len(features)} {name} features; "
                "set k to 1 or more and below the size of both sets"
            )
    if block < 1:
        raise ValueError(f"block = {block} rows, must be 1 or more")


def _memberships(
    real: np.ndarray,
    fake: np.ndarray,
    k: int,
    inside: Callable[[np.ndarray, np.ndarray], np.ndarray],
    centre: np.ndarray,
    block: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which samples lie in which balls.

    Returns bool [M], fakes that lie in some real ball; bool [N], real samples that lie in some fake
    ball; int [N], the number of fakes in the ball of each real sample.
    """
    real_radii = _squared_radii(real, k, centre, block)  # [N]
    fake_radii = _squared_radii(fake, k, centre, block)  # [M]
    faithful = np.zeros(len(fake), bool)
    recalled = np.zeros(len(real), bool)
    population = np.zeros(len(real), np.int64)
    for i, rows in _blocks(real, centre, block):
        for j, columns in _blocks(fake, centre, block):
            squares, errors = _squared_distances(rows, columns)
            own, others = real_radii[i, None], fake_radii[None, j]
            close = np.abs(squares - own) <= errors
            close |= np.abs(squares - others) <= errors
            x, y = np.nonzero(close)
            squares[x, y] = _measured(real, x + i.start, fake, y + j.start, block)
            in_real_ball = inside(squares, own)
            faithful[j] |= in_real_ball.any(axis=0)
            population[i] += in_real_ball.sum(axis=1)
            recalled[i] |= inside(squares, others).any(axis=1)
    return faithful, recalled, population


def _squared_radii(features: np.ndarray, k: int, centre: np.ndarray, block: int) -> np.ndarray:
    """Squared distance of each row to the k-th closest of the other rows, [N]."""
    radii = np.empty(len(features))
    for i, rows in _blocks(features, centre, block):
        nearest = np.full((len(rows), k), np.inf)
        places = np.zeros((len(rows), k), np.int64)
        for j, columns in _blocks(features, centre, block):
            squares, _ = _squared_distances(rows, columns)
            if j == i:
                # the sample itself is excluded by place, since a duplicate has distance 0 too
                np.fill_diagonal(squares, np.inf)
            candidates = np.concatenate([nearest, squares], axis=1)
            order = np.argpartition(candidates, k - 1, axis=1)[:, :k]
            nearest = np.take_along_axis(candidates, order, axis=1)
            earlier = np.take_along_axis(places, order.clip(max=k - 1), axis=1)
            places = np.where(order < k, earlier, order - k + j.start)
        own = np.repeat(np.arange(i.start, i.stop), k)
        measured = _measured(features, own, features, places.ravel(), block)
        radii[i] = measured.reshape(-1, k).max(axis=1)
    return radii


def _blocks(
    features: np.ndarray, centre: np.ndarray, block: int
) -> Iterator[tuple[slice, np.ndarray]]:
    """Places of the next rows, and the rows minus `centre` in float64."""
    for start in range(0, len(features), block):
        place = slice(start, min(start + block, len(features)))
        yield place, features[place] - centre


def _squared_distances(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """‖x - y‖² of all pairs by a matrix product, [n, m], and bounds of its rounding error."""
    lengths = np.einsum("nd,nd->n", x, x)[:, None] + np.einsum("md,md->m", y, y)
    squares = x @ y.T
    squares *= -2
    squares += lengths
    squares.clip(0, out=squares)
    # Higham 2002, 3.1: an inner product of D terms errs by D u |x|·|y|, u = eps / 2. Three of them,
    # the subtraction of the centre and _measured itself stay below twice (D + 4) eps of the lengths
    lengths *= 2 * (x.shape[1] + 4) * np.finfo(np.float64).eps
    return squares, lengths


def _measured(
    x: np.ndarray, x_places: np.ndarray, y: np.ndarray, y_places: np.ndarray, block: int
) -> np.ndarray:
    """‖x - y‖² of single pairs by their differences, [P].

    The order of summation depends on D alone, so that equal pairs have equal distances at any
    place, and the distance is symmetric in x and y.
    """
    squares = np.empty(len(x_places))
    for start in range(0, len(squares), block):
        part = slice(start, start + block)
        differences = x[x_places[part]].astype(np.float64) - y[y_places[part]]
        squares[part] = np.square(differences).sum(axis=1)
    return squares


@dataclass(frozen=True)
class Manifold(Metric):
    """Those values of `prdc` that `kinds` names, each as `<kind><end>`."""

    kinds: tuple[str, ...] = ()
    end: str = ""
    k: int = 3
    strict: bool = False

    features = ("features",)

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(f"{kind}{self.end}" for kind in self.kinds)

    @property
    def least(self) -> tuple[int, str]:
        return self.k + 1, f" (k = {self.k} neighbours of each)"

    def compute(self, real: Statistics, fake: Statistics, context: Context) -> dict[str, float]:
        key = ("prdc", self.network, self.k, self.strict)
        if key not in context.shared:
            features = real.features["features"], fake.features["features"]
            context.shared[key] = prdc(*features, k=self.k, strict=self.strict)
        found = context.shared[key]
        return {f"{kind}{self.end}": found[kind] for kind in self.kinds}

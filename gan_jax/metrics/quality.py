"""Quality of a generator by a small classifier's eyes: Fréchet distance and class coverage.

Features of the project's own classifiers are far smaller than Inception's: these distances are
comparable with one another for the same classifier, and never with published FID.
"""

from collections.abc import Callable, Iterator

import numpy as np

from gan_jax.metrics.coverage import coverage
from gan_jax.ops.frechet import Moments, frechet_distance

Draw = Callable[[np.ndarray], np.ndarray]
"""Seeds [batch] → images uint8 [batch, H, W, C]."""
Features = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Images uint8 [batch, H, W, C] → logits [batch, K] and features [batch, D]."""

NAMES = ["fd_classifier", "class_entropy", "class_confidence"]
"""The single figures that `measure` gives."""


def real_moments(features: Features, images: np.ndarray, batch: int) -> Moments:
    """Mean and covariance of real images' features, to hand to `measure`.

    Args:
      features: always called with `batch` images, so it compiles once.
      images: uint8 [N, H, W, C], N ≥ 1.
      batch: images per call; the last batch is filled up and its filling left out of the result.
    """
    moments = Moments()
    for part, count in _full_batches(images, batch):
        _, values = features(part)
        moments.add(np.asarray(values)[:count])
    return moments


def measure(
    draw: Draw, features: Features, real_moments: Moments, seeds: np.ndarray, batch: int
) -> dict[str, float]:
    """Scores of the images that `seeds` give.

    Args:
      draw, features: always called with `batch` seeds or images, so they compile once.
      real_moments: of real images, under the same `features`.
      seeds: [N], N ≥ 2, one image each.
      batch: images per call; the last batch repeats its last seed and leaves these images out.

    Returns:
      `fd_classifier`, the Fréchet distance to the real images; `class_entropy` in nats and
      `class_confidence` (coverage.py); `class_fraction/0`, `class_fraction/1`, … that sum to 1.

    Raises:
      ValueError: fewer than two seeds.
    """
    if len(seeds) < 2:
        raise ValueError(f"a Fréchet distance needs two images or more, found {len(seeds)} seeds")
    moments, logits = Moments(), []
    for part, count in _full_batches(np.asarray(seeds), batch):
        scores, values = features(draw(part))
        moments.add(np.asarray(values)[:count])
        logits.append(np.asarray(scores)[:count])
    classes, histogram = coverage(np.concatenate(logits))
    distance = frechet_distance(moments.mean, moments.cov, real_moments.mean, real_moments.cov)
    fractions = {f"class_fraction/{i}": float(share) for i, share in enumerate(histogram)}
    return {"fd_classifier": distance, **classes, **fractions}


def _full_batches(rows: np.ndarray, batch: int) -> Iterator[tuple[np.ndarray, int]]:
    """Slices of exactly `batch` rows, the last one filled with its last row, and how many count."""
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        filling = np.repeat(part[-1:], batch - len(part), axis=0)
        yield np.concatenate([part, filling]), len(part)

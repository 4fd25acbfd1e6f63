"""Inception Score: are single images classified with confidence, and do all classes occur?

Salimans, Goodfellow, Zaremba, Cheung, Radford & Chen 2016, "Improved Techniques for Training GANs",
arXiv 1606.03498.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from gan_jax.metrics.metric import Context, Counts, Metric, MetricOptions, Statistics


def inception_score(
    logits: np.ndarray, *, splits: int = 10, shuffle: bool = True, seed: int = 2020
) -> tuple[float, float]:
    """exp of the mean KL(p(y|x) ‖ p(y)) for each split, where p(y) is that of the split.

    The images of split i are those from i·N // splits up to (i + 1)·N // splits, after a
    permutation by `np.random.RandomState(seed)`: torch-fidelity's convention. The evaluator of
    guided diffusion splits into chunks of 5000 images in their order instead, which
    `splits=N // 5000, shuffle=False` gives where 5000 divides N; StudioGAN has one split.

    Args:
      logits: [N, K], any float type. For published Inception Scores they are the 1008 outputs
        of the network of 2015, without the bias of the last layer.
      splits: how many parts, 1 ≤ splits ≤ N.
      shuffle: permute the images first, so that a set sorted by class is not split by class.
      seed: of the permutation.

    Returns:
      (mean, population standard deviation) over splits. The score of a split lies between 1, if all
      images are classified alike, and K, if they are classified with certainty and uniformly over
      the classes; nan if a logit is.

    Raises:
      ValueError: not two axes, or fewer images than splits.
    """
    logits = np.asarray(logits)
    if logits.ndim != 2:
        raise ValueError(f"logits are [N, K], found shape {logits.shape}")
    count = len(logits)
    if not 1 <= splits <= count:
        raise ValueError(
            f"splits = {splits} of {count} images; set splits between 1 and the number of images"
        )
    order = np.random.RandomState(seed).permutation(count) if shuffle else np.arange(count)
    edges = [i * count // splits for i in range(splits + 1)]
    scores = [_score(logits[order[start:end]].astype(np.float64)) for start, end in pairwise(edges)]
    return float(np.mean(scores)), float(np.std(scores))


def _score(logits: np.ndarray) -> float:
    """The score of one split, float64 [n, K]."""
    conditional = logits - _log_sum_exp(logits, axis=1)  # log p(y|x), [n, K]
    # the mean over images is computed from logarithms: p(y) of a very unlikely class would
    # underflow to 0, and 0 · log 0 would make the score nan
    marginal = _log_sum_exp(conditional, axis=0) - np.log(len(logits))  # log p(y), [1, K]
    divergence = np.sum(np.exp(conditional) * (conditional - marginal), axis=1)
    return float(np.exp(divergence.mean()))


def _log_sum_exp(x: np.ndarray, axis: int) -> np.ndarray:
    largest = x.max(axis=axis, keepdims=True)
    return largest + np.log(np.exp(x - largest).sum(axis=axis, keepdims=True))


@dataclass(frozen=True)
class InceptionScore(Metric):
    """`inception_score` of the second set's logits. No real images are needed."""

    of_real = False
    features = ("logits",)

    @property
    def values(self) -> tuple[str, ...]:
        return self.name, f"{self.name}_std"

    def check(self, counts: Counts, options: MetricOptions) -> None:
        if 0 < counts.fake < options.splits:
            raise ValueError(
                f"{self.name}: splits = {options.splits} of {counts.fake} images; give more "
                f"images, or set splits to {counts.fake} or less"
            )

    def compute(self, real: Statistics, fake: Statistics, context: Context) -> dict[str, float]:
        options = context.options
        found = inception_score(fake.features["logits"], splits=options.splits, seed=options.seed)
        return dict(zip(self.values, found, strict=True))

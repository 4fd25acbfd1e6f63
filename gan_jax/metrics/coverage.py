"""The classes of a classifier that a set of images covers, which shows mode collapse."""

from dataclasses import dataclass

import numpy as np

from gan_jax.metrics.metric import Context, Metric, Statistics


def coverage(logits: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """Class statistics of a set of images.

    Args:
      logits: [N, K], those of a classifier, N ≥ 1.

    Returns:
      `class_entropy`, the entropy of the histogram in nats (ln K if all classes are equally
      frequent, 0 if there is only one), and `class_confidence`, the mean largest probability; then
      the histogram [K], the share of images whose largest logit is that of the class (it sums to
      1). Both values are nan if any logit is, which argmax would take for a class.

    Raises:
      ValueError: not two axes, or no images.
    """
    logits = np.asarray(logits, np.float64)
    if logits.ndim != 2 or not len(logits):
        raise ValueError(f"logits are [N, K] with N >= 1, found shape {logits.shape}")
    histogram = np.bincount(logits.argmax(axis=1), minlength=logits.shape[1]) / len(logits)
    if np.isnan(logits).any():
        return {"class_entropy": float("nan"), "class_confidence": float("nan")}, histogram
    shifted = logits - logits.max(axis=1, keepdims=True)
    confidence = 1 / np.exp(shifted).sum(axis=1)  # softmax at its largest entry, [N]
    seen = histogram[histogram > 0]
    entropy = -np.sum(seen * np.log(seen)) + 0.0  # + 0.0: one class gives -0.0
    values = {"class_entropy": float(entropy), "class_confidence": float(confidence.mean())}
    return values, histogram


@dataclass(frozen=True)
class Classes(Metric):
    """`coverage`, and the histogram as `class_fraction/<i>`; it needs no real images."""

    of_real = False
    features = ("logits",)
    values = ("class_entropy", "class_confidence")

    def compute(self, real: Statistics, fake: Statistics, context: Context) -> dict[str, float]:
        values, histogram = coverage(fake.features["logits"])
        return values | {f"class_fraction/{i}": float(share) for i, share in enumerate(histogram)}

"""The metrics of two sets of images, computed from the statistics of each (`accumulate`)."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from gan_jax.metrics.metric import Context, Counts, MetricOptions, Statistics
from gan_jax.metrics.registry import METRICS


def plan(names: Sequence[str], counts: Counts, context: Context) -> list[str]:
    """The notes that follow from the numbers of images alone, before any feature is computed.

    Metrics by class are only considered if the labels of both sets are known.

    Raises:
      ValueError: as `compute`.
    """
    enough(names, counts, context.options)
    return [note for name in names for note in METRICS[name].notes(counts, context)]


def enough(names: Sequence[str], counts: Counts, options: MetricOptions) -> None:
    """Raises ValueError if there are too few images for one of the metrics."""
    for name in names:
        METRICS[name].check(counts, options)


def compute(
    names: Sequence[str],
    real: Mapping[str, Statistics],
    fake: Mapping[str, Statistics],
    context: Context,
) -> tuple[dict[str, float], list[str]]:
    """The values of the metrics `names`, and the notes that belong beside them.

    Args:
      real, fake: statistics by network, from `accumulate`.

    Raises:
      ValueError: a metric cannot be computed for the sets; its message may be shown to users.
    """
    context = dataclasses.replace(context, notes=[], shared={})
    found: dict[str, float] = {}
    for name in names:
        metric = METRICS[name]
        found |= metric.compute(
            real.get(metric.network, Statistics()), fake[metric.network], context
        )
    return found, context.notes


def spread(count: int, wanted: int) -> np.ndarray:
    """`wanted` of `count` rows at equal distances, so a sorted set gives some of every class."""
    return np.arange(wanted) * count // max(wanted, 1)

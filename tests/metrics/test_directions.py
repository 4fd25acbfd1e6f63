"""Which way a metric is better."""

import pytest

from gan_jax.metrics.directions import HIGHER, LOWER, direction
from gan_jax.metrics.paired import PAIRED
from gan_jax.metrics.registry import METRICS

NEITHER = ("ms_ssim", "ms_ssim_real")  # to be compared with each other


def test_every_metric_has_a_direction():
    """A new metric has to say it."""
    assert not {*LOWER} & {*HIGHER}
    names = [value for metric in METRICS.values() for value in metric.values]
    undecided = [name for name in (*names, *PAIRED) if not direction(name)]
    assert [n for n in undecided if not n.endswith("_std") and n not in NEITHER] == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fid", "min"),
        ("fd_classifier", "min"),
        ("fd_by_class_classifier/3", "min"),
        ("swd/16", "min"),
        ("precision_strict_classifier", "max"),
        ("val/psnr", "max"),
        ("val/l1", "min"),
        ("kid_std", ""),
        ("class_fraction/3", ""),
        ("val/gen", ""),
        ("val/accuracy_fake", ""),
        ("loss/gen", ""),
    ],
)
def test_directions(name, expected):
    assert direction(name) == expected

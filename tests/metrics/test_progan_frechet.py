"""Fréchet distance from feature rows, against the function that ProGAN's authors used."""

import pytest

from gan_jax.ops.frechet import Moments, frechet_distance
from tests.helpers.golden_rule import load


@pytest.mark.parametrize(
    ("case", "rtol", "atol"),
    [("d8", 1e-5, 1e-5), ("d16_rank_deficient", 1e-3, 1e-5), ("d5_same", 0, 1e-5)],
)
def test_frechet_golden(case, rtol, atol):
    _, arrays = load("progan/metrics_frechet")
    sides = []
    for side in "xy":
        rows = arrays[f"in/{case}_{side}"]
        moments = Moments()
        for part in (rows[:5], rows[5:]):
            moments.add(part)
        sides += [moments.mean, moments.cov]
    expected = 0 if case == "d5_same" else float(arrays[f"out/{case}"])
    assert frechet_distance(*sides) == pytest.approx(expected, rel=rtol, abs=atol)

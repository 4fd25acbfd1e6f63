"""The Fréchet distance of stored features, against torch-fidelity and a float64 check."""

import numpy as np
import pytest

from gan_jax.ops.frechet import Moments, frechet_distance
from tests.helpers.golden_rule import load

_, GOLDEN = load("metrics/fid")
PAIRS = [("a", "b"), ("b", "a"), ("a", "small"), ("small", "b"), ("a", "collapsed")]


def moments(name, cuts=()):
    result = Moments()
    for part in np.split(GOLDEN[f"in/{name}"], cuts):
        result.add(part)
    return result


def distance(one, other, cuts=()):
    one, other = moments(one, cuts), moments(other, cuts)
    return frechet_distance(one.mean, one.cov, other.mean, other.cov)


@pytest.mark.parametrize("cuts", [(), (1, 17, 30)])
@pytest.mark.parametrize("pair", PAIRS, ids="_".join)
def test_distances(pair, cuts):
    found, name = distance(*pair, cuts), "out/" + "_".join(pair)
    np.testing.assert_allclose(found, GOLDEN[name], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found, GOLDEN[f"{name}_f64_symmetric"], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["a", "b", "small", "collapsed"])
def test_distance_to_itself_is_zero_and_not_below(name):
    # rank 39 and lower of width 64 among them
    assert 0 <= distance(name, name) <= 1e-6


def test_every_stored_number_is_used():
    used = {"out/" + "_".join(pair) for pair in [*PAIRS, ("a", "a")]}
    used |= {f"{name}_f64_symmetric" for name in used}
    used |= {"out/mu_a", "out/sigma_a_diag", "out/sigma_a_trace"}
    assert {name for name in GOLDEN if name.startswith("out/")} == used
    for name in ("out/a_a", "out/a_a_f64_symmetric"):
        np.testing.assert_allclose(distance("a", "a"), GOLDEN[name], rtol=0, atol=1e-6)


def test_mean_and_covariance():
    found = moments("a", (100, 101))
    np.testing.assert_allclose(found.mean, GOLDEN["out/mu_a"], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(np.diag(found.cov), GOLDEN["out/sigma_a_diag"], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(np.trace(found.cov), GOLDEN["out/sigma_a_trace"], rtol=1e-6)

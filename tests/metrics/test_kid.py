"""KID: the reference's numbers, its draws, closed forms, and what is refused."""

import tracemalloc

import numpy as np
import pytest

from gan_jax.metrics.kid import Polynomial, Rbf, kid
from tests.helpers.golden_rule import load

META, GOLDEN = load("metrics/kid")


def options(run):
    gamma = run["kid_kernel_poly_gamma"]
    kernels = {
        "poly": Polynomial(
            degree=run["kid_kernel_poly_degree"],
            gamma=None if gamma == "1/d" else gamma,
            coef0=run["kid_kernel_poly_coef0"],
        ),
        "rbf": Rbf(run.get("kid_kernel_rbf_sigma", 10.0)),
    }
    return dict(
        subsets=run["kid_subsets"],
        subset_size=run["kid_subset_size"],
        seed=run["rng_seed"],
        kernel=kernels[run["kid_kernel"]],
    )


@pytest.mark.parametrize("i", range(4))
def test_the_numbers_of_torch_fidelity(i):
    run = options(META["options"]["runs"][i])
    fake, real = GOLDEN["in/a"], GOLDEN["in/b"]  # its input1 is the generated set
    found = kid(real.astype(np.float64), fake.astype(np.float64), **run)
    expected = GOLDEN["out/mean_f64"][i], GOLDEN["out/std_f64"][i]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    as_float32 = GOLDEN["out/mean"][i], GOLDEN["out/std"][i]
    np.testing.assert_allclose(found, as_float32, rtol=1e-4, atol=1e-5)
    assert kid(real, fake, **run) == found  # float32 features are converted, not computed with


def test_a_set_against_itself_is_slightly_negative():
    a = GOLDEN["in/a"]
    mean, _ = kid(a[::-1], a, subsets=10, subset_size=100)
    assert mean == pytest.approx(float(GOLDEN["out/self_mean"]), rel=1e-4, abs=1e-5)
    assert mean < 0


def test_the_fake_set_is_drawn_first():
    fake, real = np.random.default_rng(0).normal(size=(2, 30, 3))
    random = np.random.RandomState(5)
    x = fake[random.choice(30, 7, replace=False)]
    y = real[random.choice(30, 7, replace=False)]
    found = kid(real, fake, subsets=1, subset_size=7, seed=5)
    assert found[0] == pytest.approx(brute_force(x, y, lambda p, q: (p @ q / 3 + 1) ** 3))
    assert found[1] == 0
    swapped = kid(fake, real, subsets=1, subset_size=7, seed=5)
    assert swapped[0] != pytest.approx(found[0], rel=1e-3)


def brute_force(x, y, k):
    """Pair by pair."""
    m = len(x)
    pairs = [(i, j) for i in range(m) for j in range(m)]
    within = sum(k(x[i], x[j]) + k(y[i], y[j]) for i, j in pairs if i != j)
    return within / (m * (m - 1)) - 2 * sum(k(x[i], y[j]) for i, j in pairs) / m**2


@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_rbf_by_pairs_even_far_from_the_origin(shift):
    x, y = np.random.default_rng(1).normal(size=(2, 9, 4)) + shift
    found, _ = kid(y, x, subsets=2, subset_size=9, kernel=Rbf(1.5))
    near = brute_force(x, y, lambda p, q: np.exp(-np.sum((p - q) ** 2) / (2 * 1.5**2)))
    assert found == pytest.approx(near, rel=1e-7)


def test_options_of_the_polynomial():
    x, y = np.random.default_rng(2).normal(size=(2, 8, 5))
    found, _ = kid(y, x, subsets=1, subset_size=8, kernel=Polynomial(1, 2.0, -0.5))
    assert found == pytest.approx(brute_force(x, y, lambda p, q: 2 * p @ q - 0.5))
    # an MMD² of the linear kernel is that of the means, and the constant cancels
    linear, _ = kid(y, x, subsets=1, subset_size=8, kernel=Polynomial(1, 2.0, 7.0))
    assert linear == pytest.approx(found)


def test_farther_is_larger():
    random = np.random.default_rng(3)
    real = random.normal(size=(400, 8))
    shifted = [random.normal(size=(400, 8)) + shift for shift in (0, 0.5, 1)]
    for kernel in ("polynomial", "rbf"):
        values = [kid(real, s, subsets=10, subset_size=200, kernel=kernel)[0] for s in shifted]
        assert abs(values[0]) < values[1] / 10
        assert values[1] < values[2]


def test_memory_is_that_of_a_subset():
    sets = np.random.default_rng(4).normal(size=(2, 20_000, 4)).astype(np.float32)
    tracemalloc.start()
    kid(*sets, subsets=2, subset_size=50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6  # all pairs would be 3.2e9 bytes


def test_what_is_refused():
    a, b = np.zeros((30, 4)), np.zeros((20, 4))
    with pytest.raises(ValueError, match="30 real features; set subset_size to 20 or less"):
        kid(a, b)
    with pytest.raises(ValueError, match="only 20 fake features"):
        kid(a, b, subset_size=25)
    with pytest.raises(ValueError, match="kernel 'poly' is unknown; there are polynomial, rbf"):
        kid(a, b, subset_size=5, kernel="poly")
    with pytest.raises(ValueError, match=r"real \(30, 4\) and fake \(30, 5\)"):
        kid(a, np.zeros((30, 5)), subset_size=5)
    with pytest.raises(ValueError, match="of one width"):
        kid(np.zeros(30), b, subset_size=5)
    with pytest.raises(ValueError, match="subset_size = 1 2 or more"):
        kid(a, b, subset_size=1)
    with pytest.raises(ValueError, match="subsets = 0 must be 1 or more"):
        kid(a, b, subsets=0, subset_size=5)


def test_a_nan_is_not_hidden():
    a = np.ones((5, 2))
    a[3, 0] = np.nan
    for kernel in ("polynomial", "rbf"):
        assert np.isnan(kid(a, np.ones((5, 2)), subsets=2, subset_size=5, kernel=kernel)).all()

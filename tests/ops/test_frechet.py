"""Moments that arrive in pieces, and Fréchet distances with known values."""

import numpy as np
import pytest

from gan_jax.ops.frechet import Moments, frechet_distance


def moments(features, *cuts):
    result = Moments()
    for part in np.split(features, cuts):
        result.add(part)
    return result


def test_pieces_give_the_moments_of_the_whole():
    x = np.random.default_rng(0).normal(1e3, 2, (97, 5))  # a large mean: sums of squares would fail
    found = moments(x, 1, 1, 30, 96)  # with an empty piece and single rows
    assert found.count == 97
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.cov, np.cov(x, rowvar=False), rtol=1e-9, atol=1e-12)
    whole = moments(x)
    np.testing.assert_allclose(found.cov, whole.cov, rtol=1e-9, atol=1e-12)


def test_float32_features_are_added_up_in_float64():
    x = np.random.default_rng(0).normal(100, 1, (50, 3)).astype(np.float32)
    np.testing.assert_allclose(
        moments(x, 20).cov, np.cov(x.astype(np.float64), rowvar=False), rtol=1e-10
    )


def test_too_few_or_unlike_features_are_errors():
    with pytest.raises(ValueError, match="no features"):
        _ = Moments().mean
    with pytest.raises(ValueError, match="found 1"):
        _ = moments(np.ones((1, 3))).cov
    with pytest.raises(ValueError, match="width 4 after width 3"):
        moments(np.ones((2, 3))).add(np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"\[N, D\]"):
        Moments().add(np.ones((2, 3, 1)))


def covariance(seed, width, rank=None):
    random = np.random.default_rng(seed)
    factor = random.normal(size=(width, rank or width))
    return factor @ factor.T


def test_distance_of_diagonal_gaussians():
    a, b = np.array([1.0, 4.0, 9.0]), np.array([4.0, 4.0, 0.0])
    found = frechet_distance(np.zeros(3), np.diag(a), np.array([1.0, 2.0, 3.0]), np.diag(b))
    assert found == pytest.approx(14 + (1 - 2) ** 2 + 0 + 3**2, abs=1e-6)


def test_distance_of_gaussians_that_do_not_commute():
    # in two dimensions tr (C₁C₂)^½ = √(tr C₁C₂ + 2 √det C₁C₂)
    a, b = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.8], [-0.8, 3.0]])
    product = a @ b
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    expected = np.trace(a) + np.trace(b) - 2 * root
    assert frechet_distance(np.zeros(2), a, np.zeros(2), b) == pytest.approx(expected, abs=1e-6)


def test_scaling_and_shifting_have_closed_forms():
    cov, shift = covariance(0, 20), np.linspace(-1, 1, 20)
    found = frechet_distance(np.zeros(20), cov, shift, 9 * cov)
    assert found == pytest.approx(shift @ shift + 4 * np.trace(cov), abs=1e-6)  # (3 - 1)² tr C


@pytest.mark.parametrize("rank", [40, 7, 1])
def test_distance_to_itself_is_zero_even_when_singular(rank):
    cov, mean = covariance(1, 40, rank), np.arange(40.0)
    assert 0 <= frechet_distance(mean, cov, mean, cov) <= 1e-6


def test_distance_is_symmetric_and_never_negative():
    a, b = covariance(2, 15, 4), covariance(3, 15)
    one, other = (frechet_distance(np.zeros(15), *pair) for pair in [(a, np.ones(15), b)] * 2)
    assert one == other
    swapped = frechet_distance(np.ones(15), b, np.zeros(15), a)
    assert swapped == pytest.approx(one, abs=1e-5)
    nothing = np.zeros((15, 15))
    assert frechet_distance(np.zeros(15), nothing, np.zeros(15), nothing) == 0


def test_features_that_are_not_finite_give_nan_and_no_crash():
    assert np.isnan(frechet_distance(np.zeros(2), np.eye(2), np.zeros(2), np.full((2, 2), np.inf)))
    assert np.isnan(frechet_distance(np.array([np.nan, 0]), np.eye(2), np.zeros(2), np.eye(2)))


def test_few_features_of_many_dimensions():
    """Covariances of rank 3 and 5 in 400 dimensions, against the definition in the three that both
    span: beyond them the product is zero."""
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.normal(size=(400, 5)))[0]
    small = np.diag([4.0, 9.0, 1.0, 0.0, 0.0])
    large = np.diag([1.0, 4.0, 25.0, 16.0, 2.0])
    covs = [basis @ part @ basis.T for part in (small, large)]
    expected = small.trace() + large.trace() - 2 * np.sqrt(small @ large).trace()
    for one, other in (covs, covs[::-1]):
        found = frechet_distance(np.zeros(400), one, np.zeros(400), other)
        assert found == pytest.approx(expected, rel=1e-12)

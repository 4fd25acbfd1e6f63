"""Inception score: the reference's numbers, closed forms, and what is refused."""

import numpy as np
import pytest

from gan_jax.metrics.inception_score import inception_score
from tests.helpers.golden_rule import load

META, GOLDEN = load("metrics/isc")


@pytest.mark.parametrize("i", range(5))
def test_the_numbers_of_torch_fidelity(i):
    found = inception_score(GOLDEN["in/logits"], **META["options"]["runs"][i])
    np.testing.assert_allclose(found, (GOLDEN["out/mean"][i], GOLDEN["out/std"][i]), rtol=1e-9)


def test_the_defaults_are_those_of_the_first_run():
    assert META["options"]["runs"][0] == {"splits": 10, "shuffle": True, "seed": 2020}
    logits = GOLDEN["in/logits"]
    assert inception_score(logits) == inception_score(logits, **META["options"]["runs"][0])


def test_bounds_are_one_and_the_number_of_classes():
    certain = 1e4 * np.tile(np.eye(10), (6, 1))  # other classes underflow to probability 0
    assert inception_score(certain, splits=1) == pytest.approx((10, 0))
    assert inception_score(certain[:1].repeat(60, 0)) == pytest.approx((1, 0))
    assert inception_score(np.zeros((60, 10))) == pytest.approx((1, 0))


def test_a_class_that_no_image_comes_near_is_no_nan():
    logits = np.zeros((4, 3))
    logits[:2, 0] = logits[2:, 1] = 2000
    assert inception_score(logits, splits=1) == pytest.approx((2, 0))


def test_worked_out_by_hand():
    # probabilities (3/4, 1/4) and (1/4, 3/4): p(y) is uniform, each KL is ln 2 minus the entropy
    entropy = -0.75 * np.log(0.75) - 0.25 * np.log(0.25)
    logits = 500 + np.log([[3, 1], [1, 3]])
    mean, std = inception_score(logits, splits=1)
    assert mean == pytest.approx(2 * np.exp(-entropy))
    assert std == 0


def test_a_constant_added_to_an_image_changes_nothing():
    logits = GOLDEN["in/logits"].astype(np.float64)
    shifted = logits + np.linspace(-300, 300, len(logits))[:, None]
    np.testing.assert_allclose(inception_score(shifted), inception_score(logits), rtol=1e-10)


def test_splits_of_a_sorted_set_are_of_one_class_unless_shuffled():
    certain = 100 * np.eye(5)[np.repeat(np.arange(5), 40)]
    assert inception_score(certain, splits=5, shuffle=False) == pytest.approx((1, 0))
    mean, std = inception_score(certain, splits=5)
    assert 4 < mean < 5
    assert std > 0
    assert inception_score(certain, splits=5, seed=1) != (mean, std)


def test_uneven_splits_leave_out_no_image():
    # splits of 3, 3 and 4: the last has the only second class, one image in four
    certain = 100 * np.eye(2)[[0] * 9 + [1]]
    parts = [1, 1, np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25))]
    found = inception_score(certain, splits=3, shuffle=False)
    assert found == pytest.approx((np.mean(parts), np.std(parts)))


def test_what_is_refused():
    with pytest.raises(ValueError, match="splits = 10 of 9 images"):
        inception_score(np.zeros((9, 4)))
    with pytest.raises(ValueError, match="splits = 0"):
        inception_score(np.zeros((9, 4)), splits=0)
    with pytest.raises(ValueError, match=r"\[N, K\], found shape \(9,\)"):
        inception_score(np.zeros(9))


def test_a_nan_is_not_hidden():
    logits = np.zeros((20, 3))
    logits[7, 1] = np.nan
    assert np.isnan(inception_score(logits)).all()

"""Class coverage and nearest neighbours."""

import numpy as np
import pytest

from gan_jax.metrics.coverage import coverage
from gan_jax.metrics.neighbours import nearest


def test_coverage_of_every_class_and_of_one():
    values, histogram = coverage(100 * np.tile(np.eye(10), (3, 1)))
    assert values["class_entropy"] == pytest.approx(np.log(10))
    assert values["class_confidence"] == pytest.approx(1)
    np.testing.assert_allclose(histogram, 0.1)
    values, histogram = coverage(100 * np.eye(10)[[3] * 5])
    assert values["class_entropy"] == 0
    np.testing.assert_array_equal(histogram, np.eye(10)[3])


def test_coverage_worked_out_by_hand():
    # probabilities (3/4, 1/4) three times and (1/4, 3/4), the last from logits far from 0
    ln3 = np.log(3)
    values, histogram = coverage(np.array([[ln3, 0], [ln3, 0], [ln3, 0], [1000, 1000 + ln3]]))
    np.testing.assert_allclose(histogram, [0.75, 0.25])
    assert values["class_entropy"] == pytest.approx(-0.75 * np.log(0.75) - 0.25 * np.log(0.25))
    assert values["class_confidence"] == pytest.approx(0.75)


def test_coverage_of_broken_logits():
    values, _ = coverage(np.array([[np.nan, 0.0], [1.0, 0.0]]))
    assert np.isnan(values["class_entropy"])
    assert np.isnan(values["class_confidence"])
    with pytest.raises(ValueError, match="N >= 1"):
        coverage(np.zeros((0, 10)))


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_nearest_equals_brute_force_in_any_block_size(block):
    random = np.random.default_rng(0)
    queries, bank = random.normal(size=(5, 4)), random.normal(size=(50, 4))
    distances = np.linalg.norm(queries[:, None] - bank[None], axis=2)
    order = np.argsort(distances, axis=1)[:, :3]
    indices, found = nearest(queries.astype(np.float32), bank.astype(np.float32), 3, block)
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_allclose(found, np.take_along_axis(distances, order, 1), rtol=1e-5)
    assert found.dtype == np.float32


def test_nearest_finds_copies_among_uint8_images_and_settles_ties_by_index():
    bank = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1)).astype(np.uint8)
    bank[11] = bank[2]
    indices, distances = nearest(bank[[2, 7]], bank, 2, block=5)
    assert indices[0].tolist() == [2, 11]
    assert indices[1, 0] == 7
    np.testing.assert_array_equal(distances[0], 0)
    assert distances[1, 1] > 0


def test_nearest_does_not_lose_small_distances_of_large_vectors():
    bank = np.full((3, 1000), 200.0, np.float32)
    bank[1, 0] += 0.25
    _, distances = nearest(bank[:1], bank[1:2], 1)
    np.testing.assert_allclose(distances, [[0.25]], rtol=1e-5)


def test_nearest_refuses_what_cannot_be():
    with pytest.raises(ValueError, match="k = 4"):
        nearest(np.zeros((1, 2)), np.zeros((3, 2)), 4)
    with pytest.raises(ValueError, match="queries have 2"):
        nearest(np.zeros((1, 2)), np.zeros((3, 5)), 1)

"""Class coverage, nearest neighbours, and the scores of a generator."""

import numpy as np
import pytest

from gan_jax.metrics.coverage import coverage
from gan_jax.metrics.neighbours import nearest
from gan_jax.metrics.quality import measure, real_moments


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


REALS = np.random.default_rng(0).integers(0, 256, (50, 2, 2, 1)).astype(np.uint8)


def features(images):
    """Four pixels as features; the class is the first pixel's quarter of the range."""
    assert images.shape == (8, 2, 2, 1)  # always a full batch
    assert images.dtype == np.uint8
    pixels = images.reshape(8, 4).astype(np.float32)
    return 1000 * np.eye(4)[images[:, 0, 0, 0] // 64], pixels


def draw(seeds):
    assert seeds.shape == (8,)
    return REALS[seeds % 50]


def test_a_perfect_generator_scores_zero_distance_and_the_classes_of_the_data():
    scores = measure(draw, features, real_moments(features, REALS, 8), np.arange(50), 8)
    assert 0 <= scores["fd_classifier"] < 1e-6
    fractions = np.bincount(REALS[:, 0, 0, 0] // 64, minlength=4) / 50
    found = [scores[f"class_fraction/{i}"] for i in range(4)]
    np.testing.assert_allclose(found, fractions)
    assert scores["class_entropy"] == pytest.approx(-np.sum(fractions * np.log(fractions)))
    assert scores["class_confidence"] == 1
    assert set(map(type, scores.values())) == {float}


def test_the_filling_of_the_last_batch_does_not_count():
    real = real_moments(features, REALS, 8)
    assert real.count == 50
    np.testing.assert_allclose(real.mean, REALS.reshape(50, 4).mean(0))
    np.testing.assert_allclose(real.cov, np.cov(REALS.reshape(50, 4), rowvar=False))


def test_a_collapsed_generator_is_seen():
    real = real_moments(features, REALS, 8)
    scores = measure(lambda seeds: draw(0 * seeds), features, real, np.arange(20), 8)
    assert scores["class_entropy"] == 0
    difference = REALS[0].reshape(4) - real.mean
    expected = difference @ difference + np.trace(real.cov)  # a point has no covariance
    assert scores["fd_classifier"] == pytest.approx(expected)
    with pytest.raises(ValueError, match="found 1 seeds"):
        measure(draw, features, real, np.arange(1), 8)

"""Multi-scale SSIM and diversity by it: ProGAN's own numbers, properties, refusals."""

import jax
import numpy as np
import pytest

from gan_jax.metrics.diversity import _score, diversity
from gan_jax.ops.images import ssim
from gan_jax.ops.ms_ssim import WEIGHTS, ms_ssim, ms_ssim_terms
from tests.helpers.golden_rule import load

score = jax.jit(ms_ssim, static_argnums=2)
terms = jax.jit(ms_ssim_terms, static_argnums=2)


def pairs(arrays, side, dtype):
    return (arrays[f"in/{name}_{side}"].transpose(0, 2, 3, 1).astype(dtype) for name in "ab")


@pytest.mark.parametrize("side", [32, 64, 128])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-4), (np.float64, 1e-6)])
def test_golden(side, dtype, rtol):
    meta, arrays = load("progan/metrics_msssim")
    assert list(WEIGHTS) == meta["options"]["weights"]
    with jax.enable_x64(dtype is np.float64):
        x, y = pairs(arrays, side, dtype)
        values, levels = np.asarray(score(x, y, 255.0)), np.asarray(terms(x, y, 255.0))
    assert values.dtype == levels.dtype == dtype
    np.testing.assert_allclose(values, arrays[f"out/pair_{side}"], rtol=rtol)
    np.testing.assert_allclose(values.mean(), arrays[f"out/batch_{side}"], rtol=rtol)
    # terms go through 0, their errors are of the size of 1
    np.testing.assert_allclose(levels, arrays[f"out/levels_{side}"], rtol=rtol, atol=1e-6)
    if dtype is np.float64:
        # from the fourth level on the original rounds squares to float32
        expected = arrays[f"out/levels_{side}"][:3]
        np.testing.assert_allclose(levels[:3], expected, rtol=1e-10)


@pytest.mark.parametrize("side", [32, 64, 128])
def test_diversity_golden(side):
    _, arrays = load("progan/metrics_msssim")
    a, b = pairs(arrays, side, np.uint8)
    images = np.stack([a, b], axis=1).reshape(-1, side, side, 3)
    (expected,) = arrays[f"out/api_{side}"]
    assert diversity(images) == pytest.approx(expected, rel=1e-4)


def noise(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def test_equal_images_score_one_in_any_shape_and_range():
    for shape in [(2, 16, 16, 1), (1, 17, 45, 3), (1, 64, 20, 2)]:
        x, y = noise(0, *shape), noise(1, *shape)
        np.testing.assert_allclose(score(x, x, 255.0), 1, rtol=1e-6)
        assert (np.asarray(score(x, y, 255.0)) < 0.5).all()
        np.testing.assert_allclose(score(x, y, 255.0), score(y, x, 255.0), atol=1e-6)
        unit = score(x / np.float32(255), y / np.float32(255), 1.0)
        np.testing.assert_allclose(unit, score(x, y, 255.0), rtol=1e-4)


def test_finest_level_is_plain_ssim():
    x = noise(0, 2, 32, 40, 3)
    y = (x // 2 + noise(1, 2, 32, 40, 3) // 2).astype(np.uint8)
    np.testing.assert_allclose(terms(x, y, 255.0)[0, 0], ssim(x, y, 255.0), rtol=1e-5)


def test_reversed_structure_counts_as_zero():
    x = noise(0, 1, 32, 32, 1)
    assert np.asarray(terms(x, 255 - x, 255.0))[:, 1].min() < 0
    np.testing.assert_array_equal(score(x, 255 - x, 255.0), 0)


def test_diversity_pairs_neighbours_and_leaves_the_last_out():
    """More pairs than one batch of this shape takes."""
    images = noise(0, 2 * 70 + 1, 16, 16, 3)
    images[1::2] = images[:-1:2] // 2 + images[1::2] // 2
    values = np.asarray(score(images[:-1:2], images[1::2], 255.0))
    assert diversity(images) == pytest.approx(values.mean(), rel=1e-5)
    assert diversity(images[:-1]) == diversity(images)
    assert diversity(images[1:]) < diversity(images) - 0.1
    assert diversity(np.repeat(images[:3], 2, axis=0)) == pytest.approx(1, rel=1e-6)


def test_diversity_compiles_once_per_shape():
    diversity(noise(0, 2, 16, 16, 3))
    compiled = _score._cache_size()
    for count in (3, 8, 200):
        diversity(noise(0, count, 16, 16, 3))
    assert _score._cache_size() == compiled


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 32, 32, 3), np.uint8),
        np.zeros((4, 32, 15, 3), np.uint8),
        np.zeros((4, 32, 32), np.uint8),
        np.zeros((4, 32, 32, 3), np.float32),
    ],
)
def test_diversity_refuses(images):
    with pytest.raises(ValueError, match=r"two or more uint8 images.*16 pixels or more, found"):
        diversity(images)


def test_ms_ssim_refuses():
    with pytest.raises(ValueError, match=r"16 pixels or more, found \(32, 15\)"):
        ms_ssim(np.zeros((1, 32, 15, 1)), np.zeros((1, 32, 15, 1)), 1.0)
    with pytest.raises(ValueError, match="images of one shape"):
        ms_ssim(np.zeros((1, 32, 32, 1)), np.zeros((1, 32, 32, 3)), 1.0)

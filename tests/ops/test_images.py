"""Pixels, PSNR, SSIM and resizing: golden conversions, closed forms, properties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.ops import images, resize
from tests.helpers.golden_rule import load


def test_uint8_conversion_golden():
    _, arrays = load("guided_diffusion/data/uint8_conversion")
    found = images.to_uint8(arrays["in/x"].transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(found, arrays["out/uint8"])
    np.testing.assert_array_equal(images.to_uint8(arrays["in/grid"]), arrays["out/grid_uint8"])
    jitted = jax.jit(images.to_uint8)(arrays["in/grid"])
    np.testing.assert_array_equal(jitted, arrays["out/grid_uint8"])


def test_to_unit_covers_the_range_and_comes_back_within_a_level():
    levels = np.arange(256, dtype=np.uint8)
    unit = images.to_unit(levels)
    assert unit.dtype == jnp.float32
    assert (unit[0], unit[255]) == (-1, 1)
    np.testing.assert_allclose(unit, (levels - 127.5) / 127.5, rtol=1e-6)
    lost = levels.astype(int) - np.asarray(images.to_uint8(unit)).astype(int)
    assert set(lost) <= {0, 1}


def test_flip_mirrors_only_the_chosen():
    x = jnp.arange(12).reshape(2, 2, 3, 1)
    out = np.asarray(images.flip(x, jnp.array([True, False])))
    np.testing.assert_array_equal(out[0, :, :, 0], [[2, 1, 0], [5, 4, 3]])
    np.testing.assert_array_equal(out[1], x[1])


def test_psnr_closed_form():
    psnr = jax.jit(images.psnr)
    x = np.zeros((3, 4, 4, 1), np.float32)
    y = x + np.float32([0.2, 0.02, 0.0]).reshape(3, 1, 1, 1)
    found = np.asarray(psnr(x, y, 2.0))
    np.testing.assert_allclose(found[:2], [20, 40], rtol=1e-5)
    assert found[2] == np.inf
    pixels = np.zeros((3, 4, 4, 1), np.uint8)
    np.testing.assert_allclose(psnr(pixels, pixels + 255, 255), 0, atol=1e-6)


ssim = jax.jit(images.ssim, static_argnums=2)


def test_ssim_closed_forms():
    x = jax.random.uniform(jax.random.key(0), (2, 16, 20, 3), minval=-1)
    np.testing.assert_array_equal(ssim(x, x, 2.0), 1)
    # constant images: no variance, the luminance term alone
    a, b, c1 = 0.3, 0.7, (0.01 * 2) ** 2
    flat = jnp.ones_like(x)
    expected = (2 * a * b + c1) / (a * a + b * b + c1)
    np.testing.assert_allclose(ssim(a * flat, b * flat, 2.0), expected, rtol=1e-5)
    np.testing.assert_allclose(ssim(x, x[::-1], 2.0), ssim(x[::-1], x, 2.0), atol=1e-6)
    # light where the other is dark, at the same level: all structure is reversed
    assert (ssim(5 + x, 5 - x, 2.0) < -0.9).all()


def test_ssim_equals_its_formula_window_by_window():
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (2, 1, 16, 20, 3)).astype(np.uint8)
    y = (x // 2 + y // 2).astype(np.uint8)
    g = np.exp(-0.5 * (np.arange(11) - 5) ** 2 / 1.5**2)
    g = np.outer(g, g) / g.sum() ** 2
    values = []
    for channel in range(3):
        for top in range(6):
            for left in range(10):
                window = (0, slice(top, top + 11), slice(left, left + 11), channel)
                a, b = x[window].astype(float), y[window].astype(float)
                ma, mb = (g * a).sum(), (g * b).sum()
                va, vb = (g * (a - ma) ** 2).sum(), (g * (b - mb) ** 2).sum()
                cov = (g * (a - ma) * (b - mb)).sum()
                c1, c2 = 2.55**2, 7.65**2
                values.append(
                    (2 * ma * mb + c1)
                    * (2 * cov + c2)
                    / ((ma * ma + mb * mb + c1) * (va + vb + c2))
                )
    np.testing.assert_allclose(ssim(x, y, 255.0), [np.mean(values)], rtol=1e-5)


def test_psnr_and_ssim_equal_scikit_images():
    """structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False) and
    peak_signal_noise_ratio of scikit-image 0.26.0 on these images."""
    random = np.random.RandomState(7)
    x = random.rand(3, 40, 48, 3) * 2 - 1
    y = np.clip(x + 0.3 * random.randn(3, 40, 48, 3), -1, 1)
    y[1], y[2] = x[1] * 0.5 + 0.1, random.rand(40, 48, 3) * 2 - 1
    expected = [0.5797747061002975, 0.06264916194940748, 0.008122006228157242]
    x, y = x.astype(np.float32), y.astype(np.float32)
    np.testing.assert_allclose(ssim(x, y, 2.0), expected, rtol=1e-5, atol=1e-6)
    expected = [17.2609313254673, 16.195427386086518, 7.732857866546824]
    np.testing.assert_allclose(images.psnr(x, y, 2.0), expected, rtol=1e-5)


def test_ssim_refuses_images_smaller_than_its_window():
    with pytest.raises(ValueError, match="11 pixels or more, found 10"):
        images.ssim(jnp.zeros((1, 16, 10, 1)), jnp.zeros((1, 16, 10, 1)), 2.0)


@pytest.mark.parametrize(
    ("golden", "rule"),
    [("tf1_bilinear", resize.tf1_bilinear), ("torch_bilinear", resize.bilinear)],
)
def test_resize_golden(golden, rule):
    meta, arrays = load(f"resize/{golden}")
    rule = jax.jit(rule, static_argnums=(1, 2))
    for case in meta["options"]["cases"]:
        i, size = case["index"], case["out_hw"]
        step = 1 if case["stored"] == "all" else 13
        found = rule(arrays[f"in/img_{i}"], *size)[::step, ::step]
        np.testing.assert_allclose(found, arrays[f"out/y_{i}"], rtol=1e-6, atol=1e-3)
        if f"out/area_{i}" in arrays:
            found = resize.area(arrays[f"in/img_{i}"], *size)
            np.testing.assert_allclose(found, arrays[f"out/area_{i}"], rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("rule", [resize.tf1_bilinear, resize.bilinear, resize.area])
def test_resizing_keeps_constants_batches_and_dtypes(rule):
    x = np.full((2, 3, 7, 5, 2), 0.7, np.float32)
    resized, same = jax.jit(lambda x: (rule(x, 4, 9), rule(x, 7, 5)))(x)
    assert resized.shape == (2, 3, 4, 9, 2)
    np.testing.assert_allclose(resized, 0.7, rtol=1e-6)
    np.testing.assert_array_equal(same, x)
    for given, expected in [(jnp.uint8, jnp.float32), (jnp.bfloat16, jnp.bfloat16)]:
        pixels = jax.ShapeDtypeStruct((3, 3, 1), given)
        assert jax.eval_shape(lambda x: rule(x, 2, 2), pixels).dtype == expected


def test_resizing_is_differentiable():
    slopes = jax.jit(jax.grad(lambda x: resize.area(x, 2, 2).sum()))(jnp.zeros((4, 4, 1)))
    np.testing.assert_allclose(slopes, 1 / 4)

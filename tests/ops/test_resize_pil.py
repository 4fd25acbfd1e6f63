"""Pillow's float resize against numbers of the original, and the rules without a compiler."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.data import resize as pillow
from gan_jax.ops import resize
from tests.helpers.golden_rule import load

RULES = [resize.tf1_bilinear, resize.bilinear, resize.area, resize.antialiased]
SIZES = [  # larger, smaller, one axis each way, unchanged, from a single pixel
    ((5, 7), (13, 11)),
    ((20, 16), (7, 9)),
    ((9, 30), (21, 8)),
    ((8, 8), (8, 8)),
    ((1, 1), (4, 3)),
    ((40, 33), (299, 299)),
]


@pytest.mark.parametrize("name", ["bicubic", "bilinear", "lanczos", "box"])
def test_antialiased_equals_pillow(name):
    meta, arrays = load("resize/clean_pil")
    assert len(meta["options"]["cases"]) == 6
    for case in meta["options"]["cases"]:
        j = case["index"]
        resized = resize.antialiased(arrays[f"in/img_{j}"], *case["out_hw"], name)
        assert resized.dtype == jnp.float32
        assert resized.shape == (*case["out_hw"], 3)
        if case["stored"] != "all":
            resized = resized[::13, ::13]
        np.testing.assert_allclose(resized, arrays[f"out/{name}_{j}"], rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("name", resize.FILTERS)
def test_pixels_on_the_edge_of_a_filter_count_as_pillows(name):
    """Three pixels become two: the middle one lies on the edge of both boxes."""
    image = np.random.default_rng(4).integers(0, 256, (9, 6, 3), np.uint8)
    found = resize.antialiased(image, 6, 4, name)
    expected = pillow.resize_float(image, 6, 4, name)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-3)


def test_bicubic_is_what_antialiased_does_unasked():
    image = np.random.default_rng(0).integers(0, 256, (9, 8, 3), np.uint8)
    found = resize.antialiased(image, 5, 12)
    np.testing.assert_array_equal(found, resize.antialiased(image, 5, 12, "bicubic"))
    assert np.abs(found - resize.antialiased(image, 5, 12, "bilinear")).max() > 1


def test_antialiased_keeps_leading_axes_and_channels():
    images = np.random.default_rng(1).uniform(0, 255, (2, 3, 6, 5, 1)).astype(np.float32)
    resized = resize.antialiased(images, 4, 9)
    assert resized.shape == (2, 3, 4, 9, 1)
    single = resize.antialiased(images[1, 2], 4, 9)
    np.testing.assert_allclose(resized[1, 2], single, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize(("source", "target"), SIZES)
@pytest.mark.parametrize("rule", RULES)
def test_host_equals_the_compiled_rule(rule, source, target):
    image = np.random.default_rng(2).integers(0, 256, (*source, 3), np.uint8)
    resized = resize.on_host(rule, image, *target)
    assert isinstance(resized, np.ndarray)
    assert resized.dtype == np.float32
    assert resized.shape == (*target, 3)
    compiled = jax.jit(rule, static_argnums=(1, 2))(image, *target)
    np.testing.assert_allclose(resized, compiled, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("rule", RULES)
def test_host_takes_grey_and_float_images_too(rule):
    image = np.random.default_rng(3).uniform(0, 255, (11, 6, 1)).astype(np.float32)
    resized = resize.on_host(rule, image, 7, 13)
    assert resized.shape == (7, 13, 1)
    coloured = resize.on_host(rule, np.repeat(image, 3, axis=2), 7, 13)
    np.testing.assert_allclose(coloured, np.repeat(resized, 3, axis=2), rtol=1e-6, atol=1e-4)


def test_overshoot_of_an_edge_is_clipped():
    """A cubic swings past both sides of an edge, where there are no pixel values any more."""
    image = np.zeros((8, 8, 1), np.uint8)
    image[:, 4:] = 255
    matrix = resize._antialiased("bicubic", 8, 24)
    unclipped = 255 * matrix[:, 4:].sum(axis=1)
    assert unclipped.min() < -5
    assert unclipped.max() > 260
    for resized in (
        resize.antialiased(image, 24, 24),
        resize.on_host(resize.antialiased, image, 24, 24),
    ):
        assert float(resized.min()) == 0
        assert float(resized.max()) == 255
        expected = np.clip(unclipped, 0, 255)
        np.testing.assert_allclose(resized[12, :, 0], expected, rtol=1e-6, atol=1e-3)

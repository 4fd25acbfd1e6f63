"""Classes of pixels by their colour, and colours of classes."""

import jax
import numpy as np
import pytest

from gan_jax.ops import palette

COLOURS = ((0, 0, 222), (0, 48, 255), (255, 80, 0), (175, 0, 0), (255, 255, 255))


def brute_force(images, colours) -> np.ndarray:
    """The first colour of the smallest squared distance, in whole numbers, pixel by pixel."""
    found = np.zeros(images.shape[:-1], int)
    for place in np.ndindex(found.shape):
        distances = [
            sum((int(a) - int(b)) ** 2 for a, b in zip(images[place], c, strict=True))
            for c in colours
        ]
        found[place] = distances.index(min(distances))
    return found


def test_nearest_against_brute_force():
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 7, 3)).astype(np.uint8)
    found = jax.jit(palette.nearest)(images, np.array(COLOURS, np.uint8))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, brute_force(images, COLOURS))
    # whatever the type of the same values, and of the palette
    for dtype in (np.int32, np.float32):
        np.testing.assert_array_equal(palette.nearest(images.astype(dtype), COLOURS), found)
    with jax.enable_x64(True):
        doubles = palette.nearest(images.astype(np.float64), COLOURS)
        assert doubles.dtype == np.int32
        np.testing.assert_array_equal(doubles, found)


def test_ties_go_to_the_lower_index():
    """A grey half way between two of the palette; a colour that is there twice."""
    greys = ((90, 90, 90), (100, 100, 100), (110, 110, 110))
    images = np.array([[95] * 3, [105] * 3, [94] * 3, [96] * 3, [106] * 3], np.uint8)
    np.testing.assert_array_equal(palette.nearest(images, greys), [0, 1, 0, 1, 2])
    twice = ((10, 20, 30), (10, 20, 30))
    np.testing.assert_array_equal(palette.nearest(np.zeros((4, 3), np.uint8), twice), [0] * 4)


def test_the_largest_distances_are_told_apart():
    """One grey level beside a distance of 195,000: float32 holds it."""
    far = ((255, 255, 255), (255, 255, 254))
    np.testing.assert_array_equal(palette.nearest(np.zeros((1, 3), np.uint8), far), [1])


def test_fractions():
    images = np.array([[0.0, 0.0, 127.4], [0.0, 0.0, 127.6]], np.float32)
    np.testing.assert_array_equal(palette.nearest(images, ((0, 0, 0), (0, 0, 255))), [0, 1])


def test_colours_and_back():
    index = np.random.default_rng(1).integers(0, len(COLOURS), (3, 5, 4))
    drawn = palette.colours(index, COLOURS)
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn, np.array(COLOURS)[index])
    np.testing.assert_array_equal(palette.nearest(drawn, COLOURS), index)


@pytest.mark.parametrize("wrong", [(), ((1, 2),), (1, 2, 3), np.zeros((0, 3), np.uint8)])
def test_palettes_that_are_none(wrong):
    with pytest.raises(ValueError, match=r"\[K, 3\]"):
        palette.nearest(np.zeros((2, 3), np.uint8), wrong)
    with pytest.raises(ValueError, match=r"\[K, 3\]"):
        palette.colours(np.zeros((2,), int), wrong)


def test_grey_images_are_refused():
    with pytest.raises(ValueError, match="RGB"):
        palette.nearest(np.zeros((2, 4, 4, 1), np.uint8), COLOURS)

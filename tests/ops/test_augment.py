"""DiffAugment and instance noise: ranges, the same draw for real and fake, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.ops import augment

BATCH, SIDE = 64, 16
KEY = jax.random.key(0)
RGB = jax.random.uniform(jax.random.key(1), (BATCH, SIDE, SIDE, 3), minval=-1, maxval=1)
color, translation, cutout, everything = (
    jax.jit(augment.policy(names))
    for names in (("color",), ("translation",), ("cutout",), ("color", "translation", "cutout"))
)


def test_color_draws_stay_in_their_ranges_and_differ_per_example():
    grey = jnp.full((BATCH, SIDE, SIDE, 3), 0.25)  # no saturation, no contrast: brightness alone
    shift = np.asarray(color(grey, KEY) - grey)
    per_example = shift[:, 0, 0, 0]
    np.testing.assert_allclose(
        shift, np.broadcast_to(per_example[:, None, None, None], shift.shape)
    )
    assert per_example.min() < -0.3
    assert per_example.max() > 0.3
    assert np.abs(per_example).max() <= 0.5
    # over all pixels of an image brightness is the mean's change; contrast the spread's, of greys
    one = jnp.broadcast_to(RGB[:1, :, :, :1], (BATCH, SIDE, SIDE, 3))
    contrast = np.asarray(color(one, KEY)).std((1, 2, 3)) / np.asarray(one).std((1, 2, 3))
    assert 0.5 <= contrast.min() < 0.7
    assert 1.3 < contrast.max() <= 1.5
    # saturation: the spread between channels beyond what contrast did, same key
    tint = RGB - RGB.mean(-1, keepdims=True)
    out = np.asarray(color(RGB, KEY))
    spread = (out - out.mean(-1, keepdims=True)).std((1, 2, 3)) / np.asarray(tint).std((1, 2, 3))
    saturation = spread / contrast
    assert 0 <= saturation.min() < 0.4
    assert 1.6 < saturation.max() <= 2 + 1e-5


def test_grey_images_keep_their_shape_under_color():
    x = RGB[..., :1]
    out = np.asarray(color(x, KEY))
    centred = out - out.mean((1, 2, 3), keepdims=True)
    reference = np.asarray(x - x.mean((1, 2, 3), keepdims=True))
    ratio = centred.std((1, 2, 3)) / reference.std((1, 2, 3))  # contrast, and nothing else
    np.testing.assert_allclose(centred, reference * ratio[:, None, None, None], atol=1e-5)


def test_translation_shifts_by_whole_pixels_and_fills_with_zero():
    out = np.asarray(translation(RGB, KEY))
    most = 2  # an eighth of 16
    shifts = set()
    for before, after in zip(np.asarray(RGB), out, strict=True):
        padded = np.pad(before, [(most, most), (most, most), (0, 0)])
        found = [
            (top, left)
            for top in range(2 * most + 1)
            for left in range(2 * most + 1)
            if np.array_equal(padded[top : top + SIDE, left : left + SIDE], after)
        ]
        assert len(found) == 1
        shifts.add(found[0])
    assert {top for top, _ in shifts} == {left for _, left in shifts} == set(range(5))


def test_cutout_removes_one_rectangle_of_half_the_side():
    out = np.asarray(cutout(RGB, KEY))
    hole = (out == 0).all(-1)  # [B, H, W]
    np.testing.assert_array_equal(out[~hole], np.asarray(RGB)[~hole])
    centres = set()
    for mask in hole:
        rows, columns = mask.any(1), mask.any(0)
        np.testing.assert_array_equal(mask, rows[:, None] & columns[None])  # a rectangle
        for span in (rows, columns):
            places = np.flatnonzero(span)
            assert len(places) == places[-1] - places[0] + 1
            # the whole half, unless the image's edge cuts it
            assert len(places) == SIDE // 2 or places[0] == 0 or places[-1] == SIDE - 1
            assert SIDE // 4 <= len(places) <= SIDE // 2
            centres.add(places[0])
    assert len(centres) > 5


def test_one_key_is_one_transform_for_real_and_fake():
    # every part is affine in the image for a fixed key: T(a) - T(b) = T(a - b) - T(0)
    fake = RGB[::-1]
    zero = everything(jnp.zeros_like(RGB), KEY)
    difference = everything(RGB, KEY) - everything(fake, KEY)
    np.testing.assert_allclose(difference, everything(RGB - fake, KEY) - zero, atol=1e-5)
    np.testing.assert_array_equal(everything(RGB, KEY), everything(RGB, KEY))
    assert (everything(RGB, KEY) != everything(RGB, jax.random.key(5))).any()


def test_leaving_one_out_does_not_change_the_others():
    step_by_step = cutout(translation(color(RGB, KEY), KEY), KEY)
    np.testing.assert_allclose(everything(RGB, KEY), step_by_step, atol=1e-6)
    np.testing.assert_array_equal(augment.policy(())(RGB, KEY), RGB)


def test_gradients_flow_through_what_is_still_visible():
    slopes = jax.jit(jax.grad(lambda x: jnp.sum(cutout(translation(x, KEY), KEY))))(RGB)
    visible = np.asarray(cutout(translation(jnp.ones_like(RGB), KEY), KEY)).sum((1, 2, 3))
    slopes = np.asarray(slopes)
    np.testing.assert_allclose(slopes.sum((1, 2, 3)), visible)
    assert set(np.unique(slopes)) == {0, 1}
    slopes = jax.jit(jax.grad(lambda x: jnp.sum(everything(x, KEY) ** 2)))(RGB)
    assert np.isfinite(slopes).all()
    assert (np.abs(slopes).max((1, 2, 3)) > 0).all()


def test_sides_may_differ_and_be_odd():
    x = jax.ShapeDtypeStruct((2, 9, 14, 1), jnp.bfloat16)
    out = jax.eval_shape(augment.policy(("color", "translation", "cutout")), x, KEY)
    assert (out.shape, out.dtype) == (x.shape, x.dtype)


def test_an_unknown_augmentation_names_the_known_ones():
    with pytest.raises(UserError, match=r"'blur'.*color, translation, cutout"):
        augment.policy(("color", "blur"))


def test_instance_noise_has_its_sigma_and_ends_exactly():
    noise = jax.jit(augment.instance_noise)
    assert abs(np.asarray(noise(RGB, KEY, 0.3) - RGB).std() - 0.3) < 0.01
    np.testing.assert_array_equal(noise(RGB, KEY, 0.0), RGB)
    sigma = jax.jit(lambda step: augment.noise_sigma(step, 0.3, 1000))
    np.testing.assert_allclose([sigma(0), sigma(250), sigma(999)], [0.3, 0.225, 0.0003], rtol=1e-4)
    assert sigma(1000) == sigma(10**6) == 0
    with pytest.raises(UserError, match="found 0"):
        augment.noise_sigma(0, 0.3, 0)

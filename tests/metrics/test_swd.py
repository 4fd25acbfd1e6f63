"""Sliced Wasserstein distance and its pyramid: ProGAN's own numbers, properties, refusals."""

import tempfile
import tracemalloc

import jax
import numpy as np
import pytest

from gan_jax.metrics import swd
from gan_jax.metrics.swd import Descriptors, Patches, distances, sliced_wasserstein
from gan_jax.ops import pyramid
from tests.helpers.golden_rule import load


@pytest.fixture(scope="module")
def golden():
    _, arrays = load("progan/metrics_swd_r32")
    images = {name: arrays[f"in/{name}"].transpose(0, 2, 3, 1) for name in ("reals", "fakes")}
    return {**arrays, **images}


def channels_first(x):
    return np.asarray(x).transpose(0, 3, 1, 2)


def patches(images, seed=0, **options):
    found = Patches(np.random.default_rng(seed), **{"patches_per_image": 8, **options})
    found.add(images)
    return found


def noise(seed, count=8, side=32, channels=3):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, side, side, channels)).astype(np.uint8)


# ---------------------------------------------------------------- pyramid


def test_pyramid_golden(golden):
    """Sums of a few bits each, so float32 holds them exactly."""
    reals = golden["reals"]
    fine, coarse = map(channels_first, jax.jit(pyramid.laplacian, static_argnums=1)(reals[:2], 2))
    np.testing.assert_array_equal(fine, golden["out/laplacian_32"])
    np.testing.assert_array_equal(coarse, golden["out/laplacian_16"])
    down = channels_first(pyramid.down(reals[:1]))
    np.testing.assert_array_equal(down, golden["out/pyr_down"])
    up = channels_first(pyramid.up(reals[:1, ::4, ::4]))
    np.testing.assert_array_equal(up, golden["out/pyr_up"])
    halved = np.round(channels_first(pyramid.halve(reals[:2])))
    np.testing.assert_array_equal(halved, golden["out/downscale_lod1"])


def test_a_laplacian_pyramid_gives_its_image_back():
    @jax.jit
    def there_and_back(x):
        levels = pyramid.laplacian(x, 3)
        assert [level.shape[1:3] for level in levels] == [(32, 16), (16, 8), (8, 4)]
        return pyramid.reconstruct(levels)

    x = noise(0, 2)[:, :, :16]
    np.testing.assert_allclose(there_and_back(x), x, atol=1e-4)
    with jax.enable_x64(True):
        # 8 bits and 8 more for each halving: doubles round nowhere
        np.testing.assert_array_equal(there_and_back(x.astype(np.float64)), x)
    (only,) = pyramid.laplacian(x, 1)
    np.testing.assert_array_equal(only, x)


def test_halving_counts_the_end_of_an_odd_side_twice():
    x = np.arange(15, dtype=np.float32).reshape(1, 3, 5, 1)
    expected = [[3, 5, 6.5], [10.5, 12.5, 14]]
    np.testing.assert_array_equal(pyramid.halve(x)[0, :, :, 0], expected)


def test_pyramids_refuse_sides_they_cannot_halve():
    with pytest.raises(ValueError, match="even sides of 4 or more"):
        pyramid.laplacian(np.zeros((1, 12, 16, 1)), 4)  # 3 pixels after two halvings
    with pytest.raises(ValueError, match="even sides of 4 or more"):
        pyramid.down(np.zeros((1, 8, 2, 1)))
    with pytest.raises(ValueError, match="one level or more, found 0"):
        pyramid.laplacian(np.zeros((1, 8, 8, 1)), 0)


# ---------------------------------------------------------------- against the original


def test_patches_golden(golden):
    places = np.stack([golden["in/desc_y"], golden["in/desc_x"]], axis=-1).reshape(2, 5, 2)
    found = swd.take_patches(golden["reals"][:2], places, 7)
    np.testing.assert_array_equal(found, golden["out/desc"])
    axes = (0, 2, 3)
    standardised = Descriptors(golden["out/desc"], found.mean(axes), found.std(axes))[:]
    np.testing.assert_allclose(standardised, golden["out/desc_final"], atol=1e-5)


def test_sliced_wasserstein_golden(golden):
    directions = np.concatenate(golden["in/sw_dirs_raw"], axis=1)
    found = sliced_wasserstein(golden["in/sw_A"], golden["in/sw_B"], directions)
    np.testing.assert_allclose(found, golden["out/sw"], rtol=1e-5)


def original_centres(random, count, resolutions, per_image=128):
    """Level by level, all columns of a batch before all rows."""
    centres = np.empty((count, len(resolutions), per_image, 2), int)
    for index, side in enumerate(resolutions):
        for axis in (1, 0):
            drawn = random.randint(3, side - 3, count * per_image)
            centres[:, index, :, axis] = drawn.reshape(count, per_image)
    return centres


def test_whole_metric_equals_the_originals_runs(golden):
    """Warm-up, reals and fakes with one generator in the original's order of draws."""
    unused = np.random.default_rng(0)
    for seed, run in enumerate(golden["out/swd_runs"]):
        random = np.random.RandomState(1000 + seed)
        for images, expected in zip(("reals", "reals", "fakes"), run, strict=True):
            found = Patches(unused)
            found.add(golden[images], original_centres(random, 16, (32, 16)))
            if images == "reals":
                real = found  # the original compares a pass of reals with itself
            values = distances(real, found, random)
            assert list(values) == [32, 16, "average"]
            np.testing.assert_allclose(list(values.values()), expected, rtol=1e-4)


def test_own_draws_are_within_the_originals_spread(golden):
    fakes = golden["out/swd_runs"][:, 2]
    real = patches(golden["reals"], seed=0, patches_per_image=128)
    fake = patches(golden["fakes"], seed=1, patches_per_image=128)
    values = list(distances(real, fake, np.random.default_rng(2)).values())
    assert (np.abs(values - fakes.mean(axis=0)) < 5 * fakes.std(axis=0)).all()


# ---------------------------------------------------------------- properties


def test_a_set_is_at_no_distance_from_itself_and_distances_are_symmetric():
    a, b = patches(noise(0)), patches(noise(1), seed=1)
    assert set(distances(a, a, np.random.default_rng(0)).values()) == {0.0}
    there, back = (distances(*two, np.random.default_rng(0)) for two in [(a, b), (b, a)])
    assert there == back
    assert min(there.values()) > 0
    # comparing changes neither set, and the seed decides all
    assert distances(a, b, np.random.default_rng(0)) == there
    assert distances(a, b, np.random.default_rng(1)) != there
    again = distances(patches(noise(0)), patches(noise(1), seed=1), np.random.default_rng(0))
    assert again == there


@pytest.mark.parametrize("channels", [1, 3])
def test_batches_do_not_matter(channels):
    """300 images are more than are worked on at once."""
    images = noise(0, 300, 32, channels)
    whole = patches(images, patches_per_image=3)
    split = Patches(np.random.default_rng(0), patches_per_image=3)
    for part in np.split(images, [1, 3, 3, 120]):
        split.add(part)
    for side in (32, 16):
        a, b = whole.descriptors(side), split.descriptors(side)
        assert a.patches.shape == (900, channels, 7, 7)
        assert a.patches.dtype == np.float32
        np.testing.assert_array_equal(a.patches, b.patches)
        np.testing.assert_allclose(a[:], b[:], atol=1e-5)
        rows = a[:].reshape(900, channels, -1)
        np.testing.assert_allclose(rows.mean(axis=(0, 2)), 0, atol=1e-4)
        np.testing.assert_allclose(rows.std(axis=(0, 2)), 1, atol=1e-4)
    # sets can be looked at half way
    before = split.descriptors(16).patches.copy()
    split.add(images[:2])
    np.testing.assert_array_equal(split.descriptors(16).patches[:900], before)
    assert len(split.descriptors(16)) == 906


def test_centres_cover_all_places_and_no_other():
    """Patches of one pixel of an image that holds its own places."""
    rows, columns = np.mgrid[:16, :16]
    image = np.stack([rows, columns], axis=-1)[None].astype(np.uint8)
    for size, least, most in [(1, 0, 15), (7, 3, 12)]:
        found = patches(image, patches_per_image=4000, size=size).descriptors(16).patches
        centre = found[:, :, size // 2, size // 2].astype(int)
        assert (centre.min(), centre.max()) == (least, most)
        counts = np.bincount(centre[:, 0] * 16 + centre[:, 1])
        assert (counts > 0).sum() == (most - least + 1) ** 2
        # a patch has its columns first
        np.testing.assert_array_equal(found[:, 1, :, 0], found[:, 1, :, -1])
        if size > 1:
            assert (np.diff(found[:, 1, :, 0], axis=1) == 1).all()


def test_colours_that_no_longer_go_together_are_seen_and_a_common_shift_is_not():
    def flat_colours(seed, grey):
        random = np.random.default_rng(seed)
        colours = random.integers(40, 200, (60, 1, 1, 3))
        colours = colours[..., :1] if grey else colours
        return (colours + random.integers(0, 20, (60, 32, 32, 3))).astype(np.uint8)

    def distance(a, b):
        sets = patches(a, patches_per_image=32), patches(b, seed=1, patches_per_image=32)
        return distances(*sets, np.random.default_rng(0))

    real = flat_colours(0, grey=True)
    floor = distance(real, real)
    other = distance(real, flat_colours(1, grey=False))
    assert other[16] > 3 * floor[16]
    assert floor["average"] > 0
    # every set is standardised by itself
    assert distance(real, real + 30)[16] == pytest.approx(floor[16], rel=1e-3)


def test_blurred_images_differ_most_on_the_fine_level():
    real, other = noise(0, 40), noise(1, 40)
    blurred = np.asarray(pyramid.up(pyramid.down(real.astype(np.float32)))).astype(np.uint8)
    real, other, blurred = (
        patches(images, seed, patches_per_image=128)
        for seed, images in enumerate([real, other, blurred])
    )
    floor = distances(real, other, np.random.default_rng(0))
    found = distances(real, blurred, np.random.default_rng(0))
    assert found[32] > 3 * floor[32]
    assert found[32] > found[16]


def test_images_without_contrast_give_numbers():
    flat = patches(np.full((4, 32, 32, 1), 77, np.uint8))
    assert set(distances(flat, flat, np.random.default_rng(0)).values()) == {0.0}
    found = distances(patches(noise(0, 4, channels=1)), flat, np.random.default_rng(0))
    assert np.isfinite(list(found.values())).all()
    assert min(found.values()) > 100


def test_large_sets_live_in_nameless_files(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    images, other = noise(0), patches(noise(1), seed=1)
    bytes_per_level = 8 * 8 * 3 * 49 * 4
    small = patches(images, in_memory=bytes_per_level)
    large = Patches(np.random.default_rng(0), 8, in_memory=bytes_per_level - 1)
    for part in np.split(images, 4):
        large.add(part)
    assert isinstance(large.descriptors(32).patches, np.memmap)
    assert not isinstance(small.descriptors(32).patches, np.memmap)
    np.testing.assert_array_equal(large.descriptors(32).patches, small.descriptors(32).patches)
    found = [distances(s, other, np.random.default_rng(0)) for s in (small, large)]
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert list(tmp_path.iterdir()) == []
    for some in (small, large):
        with pytest.raises(ValueError, match="read-only"):
            some.descriptors(32).patches[0] = 0


def test_memory_for_projections_is_bounded():
    random = np.random.default_rng(0)
    a, b = random.standard_normal((2, 50_000, 4)).astype(np.float32)
    directions = random.standard_normal((4, 64))
    whole = sliced_wasserstein(a, b, directions)
    tracemalloc.start()
    try:
        parts = sliced_wasserstein(a, b, directions, memory=2 * 2**20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert parts == pytest.approx(whole, rel=1e-6)
    assert peak < 4 * 2**20  # all directions at once take 24 MiB
    assert sliced_wasserstein(a, b, directions[:, :1], memory=1) > 0


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 8, 8, 3), np.uint8),
        np.zeros((2, 48, 48, 3), np.uint8),
        np.zeros((2, 32, 64, 3), np.uint8),
        np.zeros((32, 32, 3), np.uint8),
        np.zeros((2, 32, 32, 3), np.float32),
    ],
)
def test_refused_images(images):
    some = Patches(np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"uint8 images \[B, side, side, C\].*16, 32, 64.*found"):
        some.add(images)
    assert some.resolutions == []


def test_refused_sets_and_options():
    rng = np.random.default_rng(0)
    a = patches(noise(0))
    with pytest.raises(ValueError, match=r"shape \[16, 16, 3\] after images of shape \[32, 32, 3"):
        a.add(noise(0, side=16))
    with pytest.raises(ValueError, match="no level of 8 pixels"):
        a.descriptors(8)
    with pytest.raises(ValueError, match="levels"):
        distances(a, patches(noise(0, side=16)), rng)
    with pytest.raises(ValueError, match="levels"):
        distances(Patches(rng), Patches(rng), rng)
    for other in (noise(0, count=7), noise(0, channels=1)):
        with pytest.raises(ValueError, match="as many patches of one shape"):
            distances(a, patches(other), rng)
    with pytest.raises(ValueError, match="3 and 2 points"):
        sliced_wasserstein(np.zeros((3, 4)), np.zeros((2, 4)), np.ones((4, 1)))
    for size in (6, 17, -1):
        with pytest.raises(ValueError, match="odd side from 1 to 15"):
            Patches(rng, size=size)
    with pytest.raises(ValueError, match="one patch or more, found 0"):
        Patches(rng, patches_per_image=0)


@pytest.mark.parametrize(
    ("centres", "message"),
    [
        (np.full((1, 2, 4, 2), 8), r"shape \[1, 2, 8, 2\]"),
        (np.full((1, 2, 8, 2), 2), "closer than 3"),
        (np.full((1, 2, 8, 2), 13), "closer than 3"),
    ],
)
def test_refused_centres(centres, message):
    some = Patches(np.random.default_rng(0), patches_per_image=8)
    with pytest.raises(ValueError, match=message):
        some.add(noise(0, count=1), centres)

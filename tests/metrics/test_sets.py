"""Metrics of two sets of images under invented feature networks."""

import numpy as np
import pytest

from gan_jax.metrics import swd
from gan_jax.metrics.accumulate import accumulate
from gan_jax.metrics.diversity import diversity
from gan_jax.metrics.features import Network
from gan_jax.metrics.frechet import FEW
from gan_jax.metrics.kid import kid
from gan_jax.metrics.metric import (
    CLASSIFIER,
    INCEPTION,
    Context,
    Counts,
    MetricOptions,
    Statistics,
)
from gan_jax.metrics.registry import METRICS
from gan_jax.metrics.sets import compute, plan
from gan_jax.ops.frechet import Moments, frechet_distance
from tests.helpers.invented_networks import batches, coded, compare, network
from tests.helpers.pictures import squares

WIDTH = 4


def gaussian(count, mean, std, seed=0):
    """Rows whose own mean and standard deviations are exactly these, uncorrelated."""
    rows = np.random.default_rng(seed).normal(size=(count, WIDTH))
    rows -= rows.mean(axis=0)
    root = np.linalg.cholesky(np.cov(rows, rowvar=False))
    return rows @ np.linalg.inv(root).T * std + mean


# ---------------------------------------------------------------- Fréchet distances

TWO = np.concatenate(
    [gaussian(60, [0, 0, 0, 0], [1, 1, 2, 3]), gaussian(40, [1, -2, 0, 2], [1, 2, 2, 5], 1)]
)
REAL, FAKE = coded(range(60)), coded(range(60, 100))
TAPS = [  # each metric of one distance, its network and what it compares
    ("fid", INCEPTION, "features"),
    ("sfid", INCEPTION, "spatial"),
    ("fid_64", INCEPTION, "64"),
    ("fid_192", INCEPTION, "192"),
    ("fid_768", INCEPTION, "768"),
    ("fd_classifier", CLASSIFIER, "features"),
]


@pytest.mark.parametrize(("name", "kind", "tap"), TAPS)
def test_distance_of_known_gaussians(name, kind, tap):
    networks = {kind: network(**{tap: TWO})}
    found, notes = compare(name, REAL, FAKE, networks)
    # squared differences of means and of standard deviations
    assert found == {name: pytest.approx((1 + 4 + 4) + (1 + 4), rel=1e-5)}
    assert notes == []
    assert compare(name, FAKE, REAL, networks)[0][name] == pytest.approx(found[name])


def test_a_set_is_at_no_distance_from_itself():
    networks = {INCEPTION: network(features=100 + 30 * TWO)}
    found, _ = compare("fid", coded(range(100)), coded(range(99, -1, -1)), networks)
    assert 0 <= found["fid"] <= 1e-3


def test_few_images_are_refused_unless_asked_for():
    networks = {INCEPTION: network(features=TWO)}
    for count in (2, WIDTH):
        message = rf"fid: {count} images are too few.* width 4.* 5 or more.*biased value"
        for pair in ((REAL[:count], FAKE), (REAL, FAKE[:count])):
            with pytest.raises(ValueError, match=message):
                compare("fid", *pair, networks)
            found, notes = compare("fid", *pair, networks, settings=MetricOptions(few=True))
            assert found["fid"] > 0
            assert notes == [f"fid: {FEW} ({count} for 4 features)"]
    for settings in (MetricOptions(), MetricOptions(few=True)):
        _, notes = compare("fid", REAL[: WIDTH + 1], FAKE, networks, settings=settings)
        assert notes == []
    with pytest.raises(ValueError, match="two features or more, found 1"):
        compare("fid", REAL, FAKE[:1], networks, settings=MetricOptions(few=True))


def test_moments_of_an_unknown_number_of_images():
    """The number that is known decides."""
    networks = {INCEPTION: network(features=TWO)}
    real = Moments.of(TWO[:60].mean(axis=0), np.cov(TWO[:60], rowvar=False))
    real = {INCEPTION: Statistics(moments={"features": real})}
    for count in (4, 40):
        fake = accumulate(batches(FAKE[:count]), ["fid"], networks, 0, False)
        if count == 4:
            with pytest.raises(ValueError, match="4 images are too few"):
                compute(["fid"], real, fake, Context(networks, MetricOptions()))
        else:
            found, _ = compute(["fid"], real, fake, Context(networks, MetricOptions()))
            assert found["fid"] == pytest.approx(14, rel=1e-5)


# ---------------------------------------------------------------- by class


def by_class(labels, class_names=(), settings=None, name="fid_by_class"):
    """Values of REAL and FAKE with (fake, real) labels."""
    kind = METRICS[name].network
    networks, settings = {kind: network(features=TWO)}, settings or MetricOptions()
    found = [
        accumulate(batches(images, 7, own), [name], networks, 0, bool(is_real))
        for is_real, (images, own) in enumerate(zip((FAKE, REAL), labels, strict=True))
    ]
    return compute([name], found[1], found[0], Context(networks, settings, class_names))


@pytest.mark.parametrize("name", ["fid_by_class", "fd_by_class_classifier"])
def test_the_distance_of_each_class_and_their_mean(name):
    labels = np.arange(40) % 2, np.arange(60) // 30
    found, notes = by_class(labels, ("ant",), name=name)
    expected = []
    for label in (0, 1):
        fake, real = TWO[60:][labels[0] == label], TWO[:60][labels[1] == label]
        moments = [(rows.mean(axis=0), np.cov(rows, rowvar=False)) for rows in (real, fake)]
        expected.append(frechet_distance(*moments[0], *moments[1]))
    # a class without a name has its number
    assert list(found) == [name, f"{name}/ant", f"{name}/1"]
    values = [np.mean(expected), *expected]
    np.testing.assert_allclose(list(found.values()), values, rtol=1e-5)
    assert notes == []


def test_two_classes_of_one_name_have_two_values():
    """As the cranes of ImageNet, a bird and a machine."""
    labels = np.arange(40) % 3, np.arange(60) % 3
    plain, _ = by_class(labels)
    found, _ = by_class(labels, ("crane", "heron", "crane"))
    name = "fid_by_class"
    assert list(found) == [name, f"{name}/crane (0)", f"{name}/heron", f"{name}/crane (2)"]
    assert list(found.values()) == list(plain.values())
    context = Context({INCEPTION: network(features=TWO)}, MetricOptions(few=True), ("a", "a"))
    few = plan([name], Counts(6, 6, ([0, 0, 0, 1, 1, 1],) * 2), context)
    assert [note.partition(":")[0] for note in few] == [f"{name}/a (0)", f"{name}/a (1)"]


def test_classes_that_do_not_fit():
    fake, real = np.arange(40) % 2, np.arange(60) // 20
    with pytest.raises(ValueError, match="second set has no image of class 2"):
        by_class((fake, real))
    with pytest.raises(ValueError, match="labels on both sides"):
        by_class((fake, None))
    with pytest.raises(ValueError, match="no image of class 0"):
        by_class((None, real))
    few = np.where(np.arange(60) < 4, 0, 1)
    with pytest.raises(ValueError, match=r"fid_by_class/0: 4 images are too few"):
        by_class((fake, few))
    found, notes = by_class((fake, few), settings=MetricOptions(few=True))
    assert notes == [f"fid_by_class/0: {FEW} (4 for 4 features)"]
    assert found["fid_by_class"] > 0
    # a class of the second set alone is left out, and said to be
    found, notes = by_class((np.arange(40) % 3, np.arange(60) % 2), ("a", "b", "c"))
    assert list(found) == ["fid_by_class", "fid_by_class/a", "fid_by_class/b"]
    assert notes == ["fid_by_class: classes that the first set does not have are left out (c)"]


# ---------------------------------------------------------------- features of every image


@pytest.mark.parametrize("kernel", ["polynomial", "rbf"])
def test_kernel_distances_and_the_note_of_smaller_subsets(kernel):
    end = "" if kernel == "polynomial" else "_rbf"
    networks = {INCEPTION: network(features=TWO), CLASSIFIER: network(features=TWO[::-1])}
    settings = MetricOptions(seed=3, kid_subsets=7, kid_subset_size=20)
    for name, rows in ((f"kid{end}", TWO), (f"kd{end}_classifier", TWO[::-1])):
        rows = rows.astype(np.float32)
        found, notes = compare(name, REAL, FAKE, networks, settings=settings)
        options = dict(subsets=7, seed=3, kernel=kernel)
        expected = kid(rows[:60], rows[60:], subset_size=20, **options)
        assert found == dict(zip((name, f"{name}_std"), expected, strict=True))
        assert notes == []
        # both smaller than the default of 1000
        smaller = MetricOptions(seed=3, kid_subsets=7)
        found, notes = compare(name, REAL, FAKE, networks, settings=smaller)
        expected = kid(rows[:60], rows[60:], subset_size=40, **options)
        assert found == dict(zip((name, f"{name}_std"), expected, strict=True))
        assert notes == [f"{name}: subsets of 40 images"]


def test_a_collapsed_generator_is_precise_and_recalls_nothing():
    """And a set that is wider than the real one is the other way round."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(200, WIDTH))
    rows = np.concatenate([rows, 1e-3 * random.normal(size=(100, WIDTH))])
    whole, spot = coded(range(200)), coded(range(200, 300))
    networks = {INCEPTION: network(features=rows), CLASSIFIER: network(features=rows)}
    names = "pr,pr_strict,dc,pr_classifier,pr_strict_classifier,dc_classifier"
    found, _ = compare(names, whole, spot, networks)
    for end in ("", "_strict", "_classifier", "_strict_classifier"):
        assert found[f"precision{end}"] == 1
        assert found[f"recall{end}"] == 0
    distances = np.linalg.norm(rows[:200, None] - rows[None, :200], axis=2)
    radii = np.sort(distances, axis=1)[:, 5]  # behind the point itself
    balls = (np.linalg.norm(rows[:200], axis=1) < radii).sum()  # that hold the one spot
    for end in ("", "_classifier"):
        assert found[f"f_score{end}"] == 0
        assert found[f"density{end}"] == pytest.approx(balls / 5)
        assert found[f"coverage{end}"] == balls / 200
    found, _ = compare(names, spot, whole, networks)
    for end in ("", "_strict", "_classifier", "_strict_classifier"):
        assert found[f"precision{end}"] == 0
        assert found[f"recall{end}"] == 1


def test_inception_scores_of_certain_classes():
    """K classes, each as frequent and each certain, score K; one class scores 1."""
    networks = {kind: network(logits=100 * np.eye(4)) for kind in (INCEPTION, CLASSIFIER)}
    settings = MetricOptions(splits=1)
    for name in ("is", "is_classifier"):
        for numbers, score in ((np.arange(40) % 4, 4), (np.zeros(40, int), 1)):
            found, _ = compare(name, REAL, coded(numbers), networks, settings=settings)
            assert found == pytest.approx({name: score, f"{name}_std": 0})
    found, _ = compare(
        "is", REAL, coded(np.arange(40) % 4), networks, settings=MetricOptions(splits=5)
    )
    assert found["is_std"] > 0
    with pytest.raises(ValueError, match="splits = 10 of 3 images"):
        compare("is", REAL, coded(range(3)), networks)


PHOTOS = np.random.default_rng(0).integers(0, 256, (50, 2, 2, 1)).astype(np.uint8)


def pixel_network():
    """Four pixels as features; the class is the first pixel's quarter of the range."""

    def extract(images, taps):
        assert images.dtype == np.uint8
        found = {
            "features": images.reshape(-1, 4).astype(np.float32),
            "logits": 1000 * np.eye(4)[images[:, 0, 0, 0] // 64],
        }
        return {tap: found[tap] for tap in taps}

    return Network("pixels", "0123", "none", {"features": 4, "logits": 4}, extract)


def test_a_perfect_generator_scores_zero_distance_and_the_classes_of_the_data():
    networks = {CLASSIFIER: pixel_network()}
    found, notes = compare("fd_classifier,classes", PHOTOS, PHOTOS, networks, size=8)
    assert 0 <= found["fd_classifier"] < 1e-6
    fractions = np.bincount(PHOTOS[:, 0, 0, 0] // 64, minlength=4) / 50
    shares = [found[f"class_fraction/{i}"] for i in range(4)]
    np.testing.assert_allclose(shares, fractions)
    assert found["class_entropy"] == pytest.approx(-np.sum(fractions * np.log(fractions)))
    assert found["class_confidence"] == 1
    assert set(map(type, found.values())) == {float}
    assert notes == []


def test_a_collapsed_generator_is_seen():
    networks = {CLASSIFIER: pixel_network()}
    fake = np.repeat(PHOTOS[:1], 20, axis=0)
    found, _ = compare("fd_classifier,classes", PHOTOS, fake, networks, size=8)
    assert found["class_entropy"] == 0
    pixels = PHOTOS.reshape(50, 4)
    difference = pixels[0] - pixels.mean(axis=0)
    # a point has no covariance
    expected = difference @ difference + np.trace(np.cov(pixels, rowvar=False))
    assert found["fd_classifier"] == pytest.approx(expected)


# ---------------------------------------------------------------- pixels


def test_patches_of_as_many_images_of_each_set():
    real, fake = squares(20), squares(12, seed=1) // 2
    found, _ = compare("swd", real, fake, {}, patches=12, size=5)
    assert list(found) == ["swd", "swd/16"]
    # not the first ones: a sorted set would be compared by its first classes
    rows = [0, 1, 3, 5, 6, 8, 10, 11, 13, 15, 16, 18]
    same, _ = compare("swd", real[rows], fake, {}, patches=12)
    assert found == same
    context = Context({}, MetricOptions())
    assert plan(["swd"], Counts(20, 12), context) == ["swd: 12 images of each set"]
    assert plan(["swd"], Counts(12, 12), context) == []
    assert found["swd"] > compare("swd", real[:12], real, {}, patches=12)[0]["swd"] > 0


def test_the_levels_of_a_sliced_wasserstein_distance():
    real, fake = squares(6, 64), squares(6, 64, seed=1)
    found, _ = compare("swd", real, fake, {}, patches=6, settings=MetricOptions(seed=5))
    assert list(found) == ["swd", "swd/64", "swd/32", "swd/16"]
    patches = [swd.Patches(np.random.default_rng((5, part))) for part in (1, 0)]
    for some, images in zip(patches, (real, fake), strict=True):
        some.add(images)
    expected = swd.distances(*patches, np.random.default_rng(5))
    assert found.pop("swd") == expected.pop("average")
    assert found == {f"swd/{level}": value for level, value in expected.items()}


@pytest.mark.parametrize("size", [1, 2, 3, 6, 50])
def test_pairs_of_a_set_and_of_the_real_one(size):
    real, fake = squares(11), squares(9, seed=1) // 4
    fake[1::2] = fake[:-1:2]  # each pair twice the same image
    found, _ = compare("ms_ssim", real, fake, {}, size=size)
    assert list(found) == ["ms_ssim", "ms_ssim_real"]
    assert found["ms_ssim"] == pytest.approx(1, abs=1e-5)
    assert found["ms_ssim_real"] == pytest.approx(diversity(real), abs=1e-6)
    assert found["ms_ssim_real"] < 0.9


@pytest.mark.parametrize("size", [1, 3, 50])
def test_images_of_one_class_are_compared_where_they_are_drawn_by_class(size):
    """Two classes in turn, as a generator draws them, each of which has collapsed."""
    real, fake, labels = squares(13), squares(10, seed=1) // 4, np.arange(13) % 2
    fake[::2], fake[1::2] = fake[0], fake[1]
    every = dict(size=size, labels=(labels[:10], labels))
    found, _ = compare("ms_ssim", real, fake, {}, one_class=True, **every)
    # each class counts alike, also in the real set, where the first has one image more
    of_class = [[diversity(images[k::2]) for k in (0, 1)] for images in (fake, real)]
    assert of_class[0] == pytest.approx([1, 1], abs=1e-5)
    expected = np.mean(of_class, axis=1)
    assert list(found.values()) == pytest.approx(expected, abs=1e-6)
    plain, _ = compare("ms_ssim", real, fake, {}, **every)
    assert plain["ms_ssim"] == pytest.approx(diversity(fake), abs=1e-6)
    assert plain["ms_ssim"] < 0.7


def test_classes_of_which_only_one_set_has_two_images_do_not_count():
    real, fake = squares(6), squares(5, seed=1)
    labels = np.array([0, 1, 1, 2, 0]), np.array([0, 0, 1, 2, 2, 0])
    found, _ = compare("ms_ssim", real, fake, {}, labels=labels, one_class=True)
    expected = diversity(fake[[0, 4]]), diversity(real[:2])
    assert list(found.values()) == pytest.approx(expected, abs=1e-6)
    context = Context({}, MetricOptions())
    notes = plan(["ms_ssim"], Counts(6, 5, labels[::-1], True), context)
    assert notes == ["ms_ssim: images of one class are compared (classes: 1)"]
    labels = np.arange(5), labels[1]
    with pytest.raises(ValueError, match="no class of which both sets have two images or more"):
        plan(["ms_ssim"], Counts(6, 5, labels[::-1], True), context)
    with pytest.raises(ValueError, match="of one class if there are any"):
        compare("ms_ssim", real, fake, {}, labels=labels, one_class=True)


def test_images_that_pixels_cannot_be_compared_of():
    fine, listed = squares(4), [squares(1)[0], squares(1, 32)[0]]

    for name in ("swd", "ms_ssim"):
        with pytest.raises(ValueError, match=f"{name} takes images of one shape"):
            compare(name, fine, listed, {}, patches=4)
    for wrong in (squares(4, 12), squares(4, 24), squares(4, 32)[:, :, :16]):
        with pytest.raises(ValueError, match=r"side of 16, 32, 64.*found uint8 \[4, "):
            compare("swd", wrong, wrong, {}, patches=4)
    for other in (squares(4, 32), squares(4, channels=1)):
        with pytest.raises(ValueError, match=r"two sets with"):
            compare("swd", fine, other, {}, patches=4)
    with pytest.raises(ValueError, match=r"sides of 16 pixels or more, found uint8 \[4, 8"):
        compare("ms_ssim", fine, squares(4, 8), {})
    for pair in ((fine, fine[:1]), (fine[:1], fine)):
        with pytest.raises(ValueError, match="ms_ssim needs two images or more"):
            compare("ms_ssim", *pair, {})

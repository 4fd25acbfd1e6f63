"""All metrics of two sets at once: each as alone, whatever the batches, nothing in vain."""

import re

import numpy as np
import pytest

from gan_jax.metrics.accumulate import accumulate
from gan_jax.metrics.metric import CLASSIFIER, INCEPTION, PIXELS, MetricOptions
from gan_jax.metrics.registry import METRICS, chosen, describe
from gan_jax.ops.frechet import Moments
from tests.helpers.invented_networks import batches, coded, compare, network
from tests.helpers.pictures import squares

WIDTH, CLASSES = 4, 5
MANY = np.random.default_rng(9).normal(size=(1200, WIDTH))
EVERY = {
    INCEPTION: network(
        features=MANY,
        logits=5 * np.random.default_rng(1).normal(size=(1200, CLASSES)),
        spatial=MANY[:, ::-1],
        **{"64": MANY[:, :2], "192": MANY[:, 1:], "768": MANY + 1},
    ),
    CLASSIFIER: network(
        features=2 * MANY, logits=5 * np.random.default_rng(2).normal(size=(1200, CLASSES))
    ),
}
BOTH = coded(range(600), 15), coded(range(600, 1200), 15)  # more than are merged at once
LABELS = [np.arange(600) % 3, np.arange(600) // 200]
EXTRAS = {  # by the name of the metric, values whose names depend on the data
    "swd": r"swd/\d+",
    "ms_ssim": r"ms_ssim_real",
    "classes": r"class_fraction/\d",
    "fid_by_class": r"fid_by_class/\d",
    "fd_by_class_classifier": r"fd_by_class_classifier/\d",
}


ALL = ",".join(METRICS)


def everything(names=ALL, size=50, **options):
    settings = MetricOptions(kid_subsets=5, kid_subset_size=100, **options)
    return compare(
        names, *BOTH, EVERY, settings=settings, size=size, patches=20, labels=LABELS
    )  # fmt: skip


def test_every_metric_gives_its_values_alone_as_with_all_others():
    together, notes = everything()
    assert notes == []
    left = dict(together)
    for name, metric in METRICS.items():
        alone, _ = everything(name)
        assert list(alone)[: len(metric.values)] == list(metric.values)
        for extra in list(alone)[len(metric.values) :]:
            assert re.fullmatch(EXTRAS[name], extra), extra
        assert (len(alone) > len(metric.values)) == (name in EXTRAS)
        assert np.isfinite(list(alone.values())).all()
        assert {value: left.pop(value) for value in alone} == alone
    assert left == {}


def test_metrics_by_network():
    names = list(METRICS)
    parts = [chosen(names, kind) for kind in (INCEPTION, CLASSIFIER, PIXELS)]
    assert {name: metric for part in parts for name, metric in part.items()} == METRICS
    assert list(chosen(["fid", "swd", "kd_classifier"], CLASSIFIER)) == ["kd_classifier"]


@pytest.mark.parametrize("size", [1, 3, 50])
def test_batches_do_not_matter(size):
    """All at once, or in batches that do not meet the merges, nor the pairs of MS-SSIM."""
    found, _ = everything(size=size)
    whole, _ = everything(size=600)
    assert found.keys() == whole.keys()
    for name, value in whole.items():
        assert found[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize("size", [1, 32, 600])
def test_the_same_rows_are_merged_whatever_the_batches(size, monkeypatch):
    merged = []
    add = Moments.add
    monkeypatch.setattr(Moments, "add", lambda self, x: (merged.append(len(x)), add(self, x)))
    accumulate(batches(BOTH[0], size), ["fid"], EVERY, 0, False)
    assert merged == [512, 88]


@pytest.mark.parametrize("name", ["swd", "ms_ssim"])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_images_of_two_shapes_are_refused_in_any_batches(name, size):
    """Also where no batch holds both, and where the others are not looked at."""
    both = [*squares(4), *squares(4, 32)]
    parts = [both[start : start + size] for start in range(0, len(both), size)]
    with pytest.raises(ValueError, match=rf"{name} takes images of one shape, found \[16, 16, "):
        accumulate([(part, None) for part in parts], [name], {}, 0, False, range(2))


def test_a_list_of_images_is_as_good_as_an_array():
    names = "fid,kid,is"
    real, fake = (list(images) for images in BOTH)
    settings = MetricOptions(kid_subsets=5, kid_subset_size=100)
    assert compare(names, real, fake, EVERY, settings=settings) == everything(names)


def test_the_seed_decides_what_is_random():
    first, again, other = (everything(seed=seed)[0] for seed in (0, 0, 1))
    assert first == again
    changed = {name for name in first if first[name] != other[name]}
    assert {"kid", "kid_std", "kd_classifier", "is", "is_std", "swd", "swd/16"} <= changed
    assert not {"fid", "sfid", "precision", "coverage", "class_entropy", "ms_ssim"} & changed


def test_what_is_accumulated_and_how_often_the_network_is_asked():
    asked = []

    def extract(images, taps):
        asked.append((len(images), tuple(taps)))
        return EVERY[INCEPTION].extract(images, taps)

    networks = {INCEPTION: EVERY[INCEPTION]._replace(extract=extract)}
    told = []
    names = ["fid", "kid", "is", "fid_64"]
    found = accumulate(batches(BOTH[0][:70], 32), names, networks, 0, False, done=told.append)
    taps = ("64", "features", "logits")
    assert asked == [(32, taps), (32, taps), (6, taps)]
    assert told == [32, 64, 70]
    assert list(found) == [INCEPTION]
    assert found[INCEPTION].count == 70
    assert set(found[INCEPTION].moments) == {"64", "features"}
    assert found[INCEPTION].moments["features"].count == 70
    np.testing.assert_allclose(found[INCEPTION].moments["features"].mean, MANY[:70].mean(axis=0))
    assert set(found[INCEPTION].features) == {"features", "logits"}
    assert found[INCEPTION].features["logits"].shape == (70, CLASSES)


def test_real_images_are_not_looked_at_for_metrics_that_need_none():
    def refuse(images, taps):
        raise AssertionError("features of real images")

    networks = {kind: EVERY[kind]._replace(extract=refuse) for kind in EVERY}
    names = ["is", "classes", "is_classifier"]
    found = accumulate(batches(BOTH[0]), names, networks, 0, True)
    assert all(part.features == {} and part.moments == {} for part in found.values())


def test_what_identifies_a_network_is_said():
    found = describe(network("tiny", features=MANY))
    assert found == {"network": "tiny", "weights": "0123", "resize": "none"}

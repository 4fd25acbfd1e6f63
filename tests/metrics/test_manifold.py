"""Precision, recall, density, coverage: brute force, ties, reference numbers, blocks, collapse."""

import tracemalloc

import numpy as np
import pytest

from gan_jax.metrics.manifold import prdc
from tests.helpers.golden_rule import load

NAMES = ("precision", "recall", "f_score", "density", "coverage")


def brute_force(real, fake, k, strict):
    """The definitions, on all distances at once."""
    real, fake = real.astype(np.float64), fake.astype(np.float64)

    def distances(x, y):
        return np.square(x[:, None] - y[None]).sum(axis=2)

    def radii(x):
        others = distances(x, x) + np.diag(np.full(len(x), np.inf))
        return np.sort(others, axis=1)[:, k - 1]

    inside = np.less if strict else np.less_equal
    cross = distances(real, fake)
    in_real = inside(cross, radii(real)[:, None])
    precision = in_real.any(axis=0).mean()
    recall = inside(cross, radii(fake)[None]).any(axis=1).mean()
    f_score = 2 * precision * recall / (precision + recall) if precision + recall else 0
    density = in_real.sum() / (k * len(fake))
    return dict(
        zip(NAMES, (precision, recall, f_score, density, in_real.any(axis=1).mean()), strict=True)
    )


def sets(seed=0, n=200, m=180, width=5, shift=0.0):
    random = np.random.default_rng(seed)
    real = random.normal(size=(n, width)) + shift
    fake = 0.9 * random.normal(size=(m, width)) + 0.4 + shift
    return real.astype(np.float32), fake.astype(np.float32)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3, 5, 20, 179])
def test_equals_brute_force(k, strict):
    real, fake = sets()
    expected = brute_force(real, fake, k, strict)
    assert prdc(real, fake, k=k, strict=strict) == pytest.approx(expected, abs=1e-12)
    if k <= 5:
        assert all(0 < expected[name] < 1 for name in NAMES if name != "density")


@pytest.mark.parametrize("block", [1, 7, 64, 80, 89, 10_000])
def test_any_block_gives_the_same_values(block):
    real, fake = sets(1, 90, 80)
    fake[:20] = real[:20]  # ties, which rounding would break differently from block to block
    for strict in (False, True):
        found = prdc(real, fake, strict=strict, block=block)
        assert found == prdc(real, fake, strict=strict)
        assert found == pytest.approx(brute_force(real, fake, 3, strict), abs=1e-12)


TIES = (
    np.array([(0, 0), (3, 4), (6, 8), (9, 12), (20, 0)]),
    np.array([(3, 4), (0, 5), (26, 8), (6, 0)]),
)


@pytest.mark.parametrize(
    ("k", "strict", "expected"),
    [
        (1, False, (1.0, 0.8, 2.0, 0.8)),
        (1, True, (1.0, 0.8, 1.0, 0.4)),
        (2, False, (1.0, 1.0, 1.25, 1.0)),
        (2, True, (1.0, 1.0, 0.875, 0.6)),
    ],
)
@pytest.mark.parametrize("block", [1, 2, 3, 100])
@pytest.mark.parametrize("dtype", [np.int64, np.float16, np.float32, np.float64])
def test_points_on_the_border_are_in_or_out_as_asked(k, strict, expected, block, dtype):
    found = prdc(*(points.astype(dtype) for points in TIES), k=k, strict=strict, block=block)
    values = tuple(found[name] for name in ("precision", "recall", "density", "coverage"))
    assert values == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 1e4, 3e8])
def test_ties_survive_a_large_mean(shift):
    # float64 holds all points exactly, but not their squares at the last shift, nor their mean
    for strict in (False, True):
        expected = prdc(*TIES, k=1, strict=strict)
        assert prdc(*(points + shift for points in TIES), k=1, strict=strict) == expected


@pytest.mark.parametrize("shift", [1e3, 1e7, 1e9])
def test_a_large_mean_costs_no_digits(shift):
    random = np.random.default_rng(2)
    real, fake = random.normal(size=(150, 20)), random.normal(size=(120, 20)) + 0.2
    real, fake = real + shift, fake + shift
    for strict in (False, True):
        found = prdc(real, fake, strict=strict, block=50)
        assert found == pytest.approx(brute_force(real, fake, 3, strict), abs=1e-12)


@pytest.mark.parametrize("block", [33, 100, 2048])
def test_a_generator_that_copies_the_training_set(block):
    # each ball holds its centre, k - 1 points and one on its border, in features of full precision
    real = np.random.default_rng(3).normal(3, 1, size=(300, 512)).astype(np.float32)
    fake = np.random.default_rng(4).permutation(real)
    open_balls = prdc(real, fake, k=5, strict=True, block=block)
    assert open_balls == dict.fromkeys(NAMES, 1.0)
    closed = prdc(real, fake, k=5, strict=False, block=block)
    assert closed == {**dict.fromkeys(NAMES, 1.0), "density": 6 / 5}


def test_real_points_on_the_border_of_fake_balls():
    # the mirror image of a nearest neighbour lies on the border of that ball and in no other one;
    # multiples of 2⁻³⁰ make it exact, while their products are rounded
    fake = np.round(np.random.default_rng(10).normal(size=(200, 256)) * 2**30) / 2**30
    distances = np.square(fake[:, None] - fake).sum(axis=2) + np.diag(np.full(200, np.inf))
    real = 2 * fake - fake[distances.argmin(axis=1)]
    assert prdc(real, fake, k=1, block=64)["recall"] == 1
    assert prdc(real, fake, k=1, strict=True, block=64)["recall"] == 0


def test_duplicates_are_neighbours_at_distance_zero():
    pair = np.array([[0.1, 0.2], [0.1, 0.2], [5.3, 5.7], [5.3, 5.7]])
    fake = np.array([[0.1, 0.2], [0.15, 0.2], [9, 9], [7, 7]])
    # the first neighbour of each real point is its twin, so the balls are points
    found = prdc(pair, fake, k=1)
    assert found["precision"] == 0.25
    assert found["density"] == 0.5  # the copy lies in two balls, of four fakes
    assert found["coverage"] == 0.5
    assert prdc(pair, fake, k=1, strict=True)["density"] == 0
    # the second one is a point of the other pair, where the copy lies on the border
    assert prdc(pair, fake, k=2)["density"] == (2 + 2 + 4 + 4) / (2 * 4)
    assert prdc(pair, fake, k=2, strict=True)["density"] == (2 + 2 + 3 + 3) / (2 * 4)


@pytest.mark.parametrize("name", ["fake", "collapsed"])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_the_numbers_of_torch_fidelity(name, k):
    _, golden = load("metrics/prc")
    found = prdc(golden["in/real"], golden[f"in/{name}"], k=k)
    values = [found[part] for part in ("precision", "recall", "f_score")]
    np.testing.assert_allclose(values, golden[f"out/{name}_k{k}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["fake", "collapsed"])
@pytest.mark.parametrize("k", [3, 5])
def test_the_numbers_of_the_prdc_package(name, k):
    _, golden = load("metrics/prdc")
    found = prdc(golden["in/real"], golden[f"in/{name}"], k=k, strict=True)
    values = [found[part] for part in ("precision", "recall", "density", "coverage")]
    np.testing.assert_allclose(values, golden[f"out/{name}_k{k}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("spread", [0.0, 1e-3])
@pytest.mark.parametrize("strict", [False, True])
def test_a_collapsed_generator_is_precise_and_recalls_nothing(spread, strict):
    random = np.random.default_rng(5)
    real = random.normal(size=(300, 8))
    fake = real[7] + spread * random.normal(size=(200, 8))
    found = prdc(real, fake, strict=strict)
    assert found["precision"] == 1
    assert found["recall"] <= 1 / 300
    assert found["f_score"] < 0.01
    assert found["coverage"] < 0.05


def test_wild_samples_are_imprecise_but_recall_much():
    random = np.random.default_rng(6)
    real, fake = random.normal(size=(300, 8)), 4 * random.normal(size=(300, 8))
    found = prdc(real, fake)
    assert found["precision"] < 0.1
    assert found["recall"] > 0.9


def test_sets_far_apart_score_zero():
    real, fake = sets(7)
    assert prdc(real, fake + 1000) == dict.fromkeys(NAMES, 0.0)


def test_memory_is_that_of_a_block():
    real, fake = sets(8, 2000, 1900, 16)
    tracemalloc.start()
    prdc(real, fake, block=128)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * 128 * 128 * 8 < 2000 * 1900 / 2  # bytes


def test_what_is_refused():
    a, b = np.zeros((30, 4)), np.zeros((3, 4))
    with pytest.raises(ValueError, match="k = 3 neighbours besides itself for each of 3 fake"):
        prdc(a, b)
    with pytest.raises(ValueError, match="each of 3 real"):
        prdc(b, a)
    with pytest.raises(ValueError, match="k = 0"):
        prdc(a, b, k=0)
    with pytest.raises(ValueError, match=r"real \(30, 4\) and fake \(30, 5\)"):
        prdc(a, np.zeros((30, 5)))
    with pytest.raises(ValueError, match=r"\[N, D\]"):
        prdc(a, np.zeros((30, 2, 2)))
    with pytest.raises(ValueError, match="block = -1"):
        prdc(a, a, block=-1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_feature_that_is_not_finite_gives_nan(bad):
    real, fake = sets(9)
    fake[5, 2] = bad
    found = prdc(real, fake)
    assert tuple(found) == NAMES
    assert np.isnan(list(found.values())).all()

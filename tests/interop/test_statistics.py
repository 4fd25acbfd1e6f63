"""Statistics of sets of images: ours there and back, those of other programs, and refusals."""

import json
import pickle

import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.interop import statistics

FEATURES, SPATIAL = ("inception", "features"), ("inception", "spatial")
META = {
    "n_real": 50,
    "networks": {"inception": {"network": "n", "weights": "w", "resize": "tf1"}},
    "seed": 3,
}


def moments(width, seed=0):
    """Mean [width] and covariance [width, width]."""
    rows = np.random.default_rng(seed).normal(size=(2 * width, width))
    return rows.mean(axis=0), np.cov(rows, rowvar=False)


def complaint(path):
    with pytest.raises(UserError) as caught:
        statistics.read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert "statistics" in message
    return message


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for place, (mean, cov) in expected.items():
        np.testing.assert_array_equal(found[place][0], mean)
        np.testing.assert_array_equal(found[place][1], cov)


@pytest.fixture
def ours(tmp_path):
    """A file with all there can be, and what is in it."""
    of = {
        FEATURES: moments(6),
        SPATIAL: moments(3, 1),
        ("inception", "64"): moments(2, 2),
        ("classifier", "features"): moments(4, 3),
    }
    rows = {
        FEATURES: np.arange(12, dtype=np.float32).reshape(2, 6),
        ("classifier", "logits"): np.ones((5, 10), np.float32),
    }
    statistics.write(tmp_path / "ours.npz", of, rows, META)
    return tmp_path / "ours.npz", of, rows


def test_there_and_back(ours):
    path, of, rows = ours
    found, features, meta = statistics.read(path)
    assert_same(found, of)
    assert features.keys() == rows.keys()
    for place, array in rows.items():
        assert features[place].dtype == np.float32
        np.testing.assert_array_equal(features[place], array)
    assert meta == META


def test_equal_statistics_are_equal_files(ours):
    path, of, rows = ours
    statistics.write(path.with_name("again.npz"), of, rows, META)
    assert path.read_bytes() == path.with_name("again.npz").read_bytes()


def test_other_programs_find_their_names(ours):
    """What pytorch-fid and guided diffusion's evaluator look up in an npz."""
    path, of, _ = ours
    with np.load(path, allow_pickle=False) as stored:
        for names, place in ((("mu", "sigma"), FEATURES), (("mu_s", "sigma_s"), SPATIAL)):
            for name, array in zip(names, of[place], strict=True):
                np.testing.assert_array_equal(stored[name], array)
        np.testing.assert_array_equal(stored["mean/inception/64"], of["inception", "64"][0])
        assert not any(name.startswith("mean/inception/features") for name in stored.files)
        assert json.loads(str(stored["meta"])) == META


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_moments_of_other_programs(tmp_path, dtype):
    path, (mean, cov) = tmp_path / "a.npz", moments(6)
    np.savez(path, mu=mean.astype(dtype), sigma=cov.astype(dtype))
    found, features, meta = statistics.read(path)
    assert_same(found, {FEATURES: (mean.astype(dtype), cov.astype(dtype))})
    assert found[FEATURES][0].dtype == np.float64
    assert (features, meta) == ({}, {})
    assert statistics.holds_statistics(path)


def test_a_reference_batch_of_guided_diffusion(tmp_path):
    """Moments of both kinds, and the images beside them, which are not read."""
    pool, spatial = moments(6), moments(3, 1)
    np.savez(
        tmp_path / "a.npz",
        arr_0=np.zeros((4, 8, 8, 3), np.uint8),
        mu=pool[0],
        sigma=pool[1],
        mu_s=spatial[0],
        sigma_s=spatial[1],
    )
    found, features, meta = statistics.read(tmp_path / "a.npz")
    assert_same(found, {FEATURES: pool, SPATIAL: spatial})
    assert (features, meta) == ({}, {})


def test_a_file_can_be_told_from_images(ours, tmp_path):
    path = ours[0]
    assert statistics.holds_statistics(path)
    statistics.write(tmp_path / "rows.npz", {}, {FEATURES: np.ones((2, 6))}, META)
    assert statistics.holds_statistics(tmp_path / "rows.npz")
    statistics.write(tmp_path / "64.npz", {("inception", "64"): moments(2)}, {}, META)
    assert statistics.holds_statistics(str(tmp_path / "64.npz"))
    # a set of images may have a note with it
    np.savez(tmp_path / "images.npz", arr_0=np.zeros((4, 8, 8, 3), np.uint8), meta=np.array("x"))
    assert not statistics.holds_statistics(tmp_path / "images.npz")
    (tmp_path / "text.npz").write_text("no archive")
    whole = bytearray(path.read_bytes())
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    place = whole.rindex(b"PK\1\2")  # the list of what the archive holds
    whole[place : place + 4] = bytes(4)
    (tmp_path / "list.npz").write_bytes(whole)
    for name in ("text.npz", "cut.npz", "list.npz", "nothing.npz", ""):
        assert not statistics.holds_statistics(tmp_path / name)


MEAN, COV = moments(6)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"mu": MEAN, "sigma": COV[:5, :5]}, ["mu (6,)", "sigma (5, 5)"]),
        ({"mu": MEAN[None], "sigma": COV}, ["mu (1, 6)"]),
        ({"mu": MEAN, "sigma": np.diag(COV)}, ["sigma (6,)"]),
        ({"mu": MEAN, "sigma": COV, "mu_s": MEAN, "sigma_s": COV[1:]}, ["mu_s", "sigma_s (5, 6)"]),
        ({"mean/inception/64": MEAN}, ["cov/inception/64"]),
        ({"mean/a/b": MEAN, "cov/a/b": COV[1:]}, ["mean/a/b", "cov/a/b (5, 6)"]),
        ({"mu": np.array(["a"]), "sigma": np.eye(1)}, ["mu holds <U1"]),
        ({"mu": MEAN, "sigma": COV, "meta": np.array("{")}, []),
        ({"mu": MEAN, "sigma": COV, "meta": np.array("[1]")}, ["meta is '[1]'"]),
        ({"mu": MEAN, "sigma": COV, "meta": np.array('{"networks": 3}')}, ["meta is"]),
        ({"meta": np.array('{"networks": {"inception": {"network": "x"}}}')}, ["meta is"]),
        ({"mu": MEAN, "sigma": COV, "meta": np.array('{"n_real": "50"}')}, ["meta is"]),
    ],
    ids=[
        *("smaller", "row", "diagonal", "spatial", "lonely", "named", "words", "json", "list"),
        *("networks", "network", "count"),
    ],
)
def test_statistics_that_do_not_fit(tmp_path, arrays, words):
    np.savez(tmp_path / "a.npz", **arrays)
    message = complaint(tmp_path / "a.npz")
    for word in words:
        assert word in message


@pytest.mark.parametrize("name", ["mu", "sigma", "meta", "features/inception/features"])
def test_nothing_in_a_file_is_executed(tmp_path, name):
    """An array of objects is a pickle, and unpickling runs what the file says."""

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    arrays = {"mu": MEAN, "sigma": COV, "meta": np.array("{}")}
    np.savez(tmp_path / "a.npz", **{**arrays, name: np.array([Trap()], object)})
    assert f"the array '{name}' holds Python objects" in complaint(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Trap()))
    complaint(tmp_path / "b.npz")
    assert not (tmp_path / "sprung").exists()


def test_files_that_cannot_be_read(ours, tmp_path):
    path = ours[0]
    complaint(tmp_path / "nothing.npz")
    complaint(tmp_path)
    np.save(tmp_path / "array.npy", MEAN)
    complaint(tmp_path / "array.npy")
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:size])
        complaint(path)


def test_a_damaged_file(tmp_path):
    rows = np.random.default_rng(0).normal(size=(60, 60))
    np.savez_compressed(tmp_path / "a.npz", mu=rows[0], sigma=rows)
    whole = (tmp_path / "a.npz").read_bytes()
    for place in (60, len(whole) // 2):
        raw = bytearray(whole)
        raw[place : place + 30] = b"\xff" * 30
        (tmp_path / "a.npz").write_bytes(raw)
        complaint(tmp_path / "a.npz")

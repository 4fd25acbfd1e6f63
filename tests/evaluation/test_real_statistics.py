"""Statistics of real images: saved, of other programs, and refused where they do not fit."""

import json

import numpy as np
import pytest

from gan_jax.interop import inception, statistics
from tests.helpers.one_line import assert_refused
from tests.helpers.two_sets import (
    FEW_KID,
    OTHERS,
    PHOTOS,
    WIDTH,
    complaint,
    mean_colours,
    npz,
    run,
)

# ---------------------------------------------------------------- saved and used

SAVED = "fid,sfid,fid_64,kid,kid_rbf,is,pr,dc,fd_classifier,kd_classifier,classes"


def test_saved_statistics_give_the_same_values(sets, tmp_path):
    stats = str(tmp_path / "new" / "stats.npz")
    expected, _ = run(*sets, SAVED, **FEW_KID)
    made, lines = run(*sets, SAVED, **FEW_KID, save_stats=stats)
    assert made == expected
    assert f"statistics of 40 real images in {stats}" in lines
    found, _ = run(stats, sets[1], SAVED, **FEW_KID)
    assert found["figures"] == pytest.approx(expected["figures"], rel=1e-9)
    assert found == {**expected, "real": stats, "figures": found["figures"]}
    assert json.loads(json.dumps(found)) == found


def test_statistics_without_a_second_set(sets, tmp_path):
    stats = str(tmp_path / "stats.npz")
    result, lines = run(sets[0], "", save_stats=stats)
    assert result == {}
    assert lines == [f"statistics of 40 real images in {stats}"]
    assert run(stats, sets[1])[0]["figures"] == pytest.approx(run(*sets)[0]["figures"])
    _, _, meta = statistics.read(stats)
    about = {"network": inception.GENUINE, "weights": inception.FINGERPRINT, "resize": "tf1"}
    assert meta == {"n_real": 40, "networks": {"inception": about}, "seed": 2020}


def test_few_real_images_are_still_few_when_they_are_saved(sets, tmp_path):
    stats = str(tmp_path / "stats.npz")
    run(sets[0], "", save_stats=stats, count=4)
    assert "4 images are too few" in complaint("metrics", stats, sets[1])
    result, _ = run(stats, sets[1], few=True)
    assert result["n_real"] == 4
    assert result["notes"] == ["fid: biased by few images (4 for 4 features)"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resize": "clean"}, ["resize tf1", "resize clean"]),
        ({"inception": "abcd"}, [inception.FINGERPRINT, "abcd"]),
        ({"names": "fd_classifier"}, ["no such network", "classifier of step 3"]),
    ],
    ids=["resize", "weights", "network"],
)
def test_statistics_made_otherwise_are_refused(sets, tmp_path, change, words):
    stats = str(tmp_path / "stats.npz")
    run(sets[0], "", save_stats=stats)
    message = complaint("real", stats, sets[1], **change)
    for word in (f"real={stats}", "not comparable", *words):
        assert word in message


def foreign(path, width=WIDTH, **more):
    """A file of another program, with the moments of PHOTOS."""
    rows = mean_colours(PHOTOS)[:, :width].astype(np.float64)
    np.savez(path, mu=rows.mean(axis=0), sigma=np.cov(rows, rowvar=False), **more)
    return str(path)


def test_files_of_other_programs(sets, tmp_path):
    """They do not say what made them: there is one network it can be, and the user knows how images
    came to its size."""
    stats = foreign(tmp_path / "a.npz")
    result, lines = run(stats, sets[1])
    assert result["figures"] == pytest.approx(run(*sets)[0]["figures"])
    assert (result["n_real"], result["n_fake"]) == (None, 30)
    assert "an unknown number of real and 30 generated images, seed 2020" in lines
    for resize in ("tf1", "clean", "bilinear"):
        found, _ = run(stats, sets[1], resize=resize)
        taken = f"{stats} does not say how it was made: taken as {inception.GENUINE}"
        assert found["notes"] == [f"{taken}, resize {resize}"]
    message = complaint("real", stats, sets[1], inception="abcd")
    assert f"made with {inception.GENUINE} ({inception.FINGERPRINT}), resize tf1" in message
    assert "not comparable" in message
    assert "no such network" in complaint("real", stats, sets[1], "fd_classifier")
    # the number of fakes is the only one there is to judge by
    assert "4 images are too few" in complaint("metrics", stats, sets[1], count=4)


def test_a_reference_batch_with_images_in_it(sets, tmp_path):
    rows = mean_colours(PHOTOS)[:, :2].astype(np.float64)
    spatial = {"mu_s": rows.mean(axis=0), "sigma_s": np.cov(rows, rowvar=False)}
    stats = foreign(tmp_path / "a.npz", arr_0=PHOTOS, **spatial)
    found, _ = run(stats, sets[1], "fid,sfid")
    assert found["figures"] == pytest.approx(run(*sets, "fid,sfid")[0]["figures"])
    assert "metric 'kid'" in complaint("real", stats, sets[1], "fid,kid")
    # by the name of the array it is the images
    found, _ = run(f"{stats}:arr_0", sets[1], "kid", **FEW_KID)
    assert found["figures"] == run(*sets, "kid", **FEW_KID)[0]["figures"]


def test_statistics_of_another_layer(sets, tmp_path):
    message = complaint("real", foreign(tmp_path / "a.npz", width=3), sets[1])
    assert "holds moments of 3 features where metric 'fid' compares 4" in message


def test_statistics_that_do_not_hold_what_is_needed(sets, tmp_path):
    stats = str(tmp_path / "stats.npz")
    run(sets[0], "", "fid,kid", save_stats=stats)
    run(stats, sets[1], "fid,kid,pr,is", **FEW_KID)  # is needs nothing of them
    for name in ("sfid", "fid_64"):
        message = complaint("real", stats, sets[1], f"fid,{name}")
        for words in (f"real={stats}", f"'{name}'", "save their statistics again"):
            assert words in message
    # these can never be saved, and it is not said that they can
    labelled = npz(tmp_path / "labelled.npz", OTHERS, labels=np.arange(30) % 2)
    for name in ("swd", "ms_ssim", "fid_by_class"):
        message = complaint("real", stats, labelled, name)
        assert f"'{name}'" in message
        assert "save" not in message


def test_what_statistics_cannot_be_used_for(sets, tmp_path):
    stats = str(tmp_path / "stats.npz")
    run(sets[0], "", save_stats=stats)
    assert "needs images" in complaint("real", stats, sets[1], "fid,psnr")
    assert "needs images" in complaint("real", stats, sets[1], save_stats=f"{tmp_path}/b.npz")
    labelled = npz(tmp_path / "labelled.npz", PHOTOS, labels=np.arange(40) % 2)
    for name in ("is", "fid_by_class"):
        message = complaint("save_stats", labelled, "", name, save_stats=f"{tmp_path}/c.npz")
        assert "save_stats: these metrics have no statistics" in message
    (tmp_path / "file").write_text("")
    message = complaint("save_stats", sets[0], "", save_stats=f"{tmp_path}/file/b.npz")
    assert "file/b.npz cannot be written" in message
    np.savez(tmp_path / "broken.npz", mu=np.zeros(4), sigma=np.eye(3))
    broken = f"{tmp_path}/broken.npz"
    assert_refused(f"^{broken}: not readable statistics", run, broken, sets[1])

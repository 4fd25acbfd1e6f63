"""Two sets that are compared by class or in pairs, and sets that cannot be compared."""

import json

import numpy as np
import pytest

from gan_jax.evaluation import comparison, networks
from gan_jax.metrics.paired import paired
from tests.helpers.one_line import refused_argument
from tests.helpers.two_sets import (
    LARGE,
    OTHERS,
    PHOTOS,
    complaint,
    folder,
    npz,
    run,
    stand_in_of_known_widths,
)

# ---------------------------------------------------------------- by class


def test_classes_by_sub_folders_and_by_numbers(monkeypatch, sets, tmp_path):
    monkeypatch.setattr(networks, "CHUNK", 7)
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
    message = complaint("fake", real, fake, "fid_by_class")
    assert message.endswith("cat, bee, dog")
    fake = folder(tmp_path / "c", OTHERS[::3], names[::3])
    assert complaint("fake", real, fake, "fid_by_class").endswith("bee, cat")
    # folders called by numbers are in the order of the numbers, as classes of an npz are
    labelled = npz(tmp_path / "labelled.npz", OTHERS, labels=np.arange(30) % 11)
    numbers = [f"{i % 11}/{i:02}" for i in range(30)]
    same = folder(tmp_path / "d", OTHERS, numbers)
    message = complaint("metrics", labelled, same, "fid_by_class")
    assert "3 images are too few" in message
    later = [f"{i % 11 + 1}/{i:02}" for i in range(30)]
    moved = folder(tmp_path / "e", OTHERS, later)
    message = complaint("fake", labelled, moved, "fid_by_class")
    assert message.endswith("or have other numbers: 1, 10, 2, 3, 4, 5, 6, 7, 8, 9")
    assert run(real, fake, "fid")[0]["n_fake"] == 10


def test_a_class_or_all_labels_missing(sets, tmp_path):
    labelled = npz(tmp_path / "a.npz", PHOTOS, labels=np.arange(40) % 3)
    two = npz(tmp_path / "b.npz", OTHERS, labels=np.arange(30) % 2)
    assert "no image of class 2" in complaint("metrics", labelled, two, "fid_by_class")
    assert complaint("fake", labelled, sets[1], "fid_by_class").startswith("fake=")
    message = complaint("real", sets[0], two, "fd_by_class_classifier")
    assert message.startswith("real=")
    assert "has no labels" in message


def test_similarity_within_the_classes_that_both_sets_have(tmp_path):
    """A sorted folder beside images whose classes take turns: each class is one colour here."""
    of = np.arange(12) % 2
    colours = (LARGE // 8 + 200 * of[:, None, None, None]).astype(np.uint8)
    real = folder(tmp_path / "a", colours, [f"{'ac'[k]}/{i:02}" for i, k in enumerate(of)])
    fake = npz(tmp_path / "b.npz", colours, labels=of)
    found, _ = run(real, fake, "ms_ssim")
    assert found["figures"]["ms_ssim"] == pytest.approx(found["figures"]["ms_ssim_real"], abs=1e-6)
    assert found["notes"] == ["ms_ssim: images of one class are compared (classes: 2)"]
    # without the classes of both, neighbours are compared, and a note says so
    others = folder(tmp_path / "c", colours, [f"{'bd'[k]}/{i:02}" for i, k in enumerate(of)])
    alone = npz(tmp_path / "e.npz", colours, labels=np.arange(12))
    for second in (npz(tmp_path / "d.npz", colours), others, alone):
        plain, _ = run(real, second, "ms_ssim")
        [note] = plain["notes"]
        assert note.startswith("ms_ssim: neighbouring images are compared, since the sets do not")
        assert plain["figures"]["ms_ssim_real"] == pytest.approx(
            found["figures"]["ms_ssim_real"], abs=1e-6
        )


def test_folders_of_other_names_are_other_classes(sets, tmp_path):
    """Words on one side and folders called by numbers on the other."""
    names = [f"{('ant', 'bee', 'cat')[i % 3]}/{i:02}" for i in range(30)]
    real = folder(tmp_path / "a", OTHERS, names)
    fake = folder(tmp_path / "b", OTHERS, [f"{i % 4}/{i:02}" for i in range(30)])
    assert "the same classes in both sets" in complaint("fake", real, fake, "fid_by_class")
    parts = folder(tmp_path / "c", OTHERS, [f"{('train', 'val')[i % 2]}/{i:02}" for i in range(30)])
    message = complaint("real", parts, fake, "fid_by_class")
    assert "has no labels, which a metric by class needs (the images of all splits" in message


# ---------------------------------------------------------------- pairs

NEAR = np.clip(PHOTOS.astype(int) + 9, 0, 255).astype(np.uint8)


def test_pairs_by_file_names(tmp_path):
    names = [f"p{i:02}" for i in range(12)]
    real = folder(tmp_path / "real", LARGE, names)
    changed = 255 - LARGE
    fake = folder(tmp_path / "fake", changed[::-1], names[::-1])
    result, _ = run(real, fake, "l1,psnr,ssim")
    assert result["figures"] == pytest.approx(paired(("l1", "psnr", "ssim"), [(changed, LARGE)]))
    assert (result["n_real"], result["n_fake"]) == (12, 12)
    assert "networks" not in result
    assert json.loads(json.dumps(result)) == result


def test_pairs_whatever_the_endings(tmp_path):
    names = ["a", "a.k", "b"]
    greys = [np.full((16, 16), level, np.uint8) for level in (40, 120, 200)]
    real = folder(tmp_path / "real", greys, names)
    fake = folder(tmp_path / "fake", greys, names, "jpg")
    result, _ = run(real, fake, "l1")
    assert result["figures"]["l1"] < 0.01  # a.k.png beside a.jpg would be far apart


@pytest.mark.parametrize("key", ["real", "fake"])
def test_names_that_two_images_share_make_no_pairs(tmp_path, key):
    """Both sets have the names a and b, and three images."""
    greys = [np.full((16, 16), level, np.uint8) for level in (40, 120, 200)]
    sets = {name: folder(tmp_path / name, greys, ["a", "b", "c"]) for name in ("real", "fake")}
    (tmp_path / key / "c.png").rename(tmp_path / key / "a.jpg")
    found = complaint(key, *sets.values(), "l1")
    assert "two images are called a but for their endings" in found


def test_pairs_in_batches_and_of_several_shapes(monkeypatch, tmp_path):
    monkeypatch.setattr(networks, "CHUNK", 5)
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
    assert complaint("fake", real, fake, "l1").endswith(f"no partner: {alone}{more}")
    assert complaint("fake", fake, real, "l1").endswith(f"no partner: {alone}{more}")


def test_pairs_by_place_where_there_are_no_names(tmp_path):
    real = folder(tmp_path / "real", LARGE)
    result, _ = run(real, npz(tmp_path / "a.npz", LARGE), "l1,psnr")
    assert result["figures"] == {"l1": 0, "psnr": 100}
    message = complaint("fake", real, npz(tmp_path / "b.npz", LARGE[:5]), "psnr")
    assert "12 real and 5 generated images" in message
    result, _ = run(real, npz(tmp_path / "b.npz", LARGE[::3]), "psnr", count=4)
    assert result["figures"] == {"psnr": 100}


def test_pairs_that_cannot_be_compared(tmp_path):
    real = npz(tmp_path / "real.npz", LARGE)
    for index, other in enumerate((LARGE[:, :10], LARGE[..., :1])):
        message = complaint("fake", real, npz(tmp_path / f"{index}.npz", other), "l1")
        assert message.startswith("fake: images are compared in pairs of one shape")
        assert (
            f"real.npz:images[0] is 16x16 pixels, RGB, {tmp_path}/{index}.npz:images[0]" in message
        )
        assert "bring both sets to one size" in message
    small = npz(tmp_path / "small.npz", LARGE[:, :8, :8])
    assert "11 pixels or more" in complaint("metrics", small, small, "ssim")


def test_lpips_and_its_name(monkeypatch, tmp_path):
    def perceptual(names, file, key):
        assert (names, file, key) == (("l1", "lpips"), "lpips.pth", "lpips")
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
    assert "40 real and 30 generated images" in complaint("fake", *sets, "fid,l1")


# ---------------------------------------------------------------- shapes


def test_sets_of_two_shapes(unasked, tmp_path):
    large, wide = folder(tmp_path / "large", LARGE), np.zeros((12, 32, 32, 3), np.uint8)
    other = folder(tmp_path / "other", wide, [f"b{i}" for i in range(12)])
    message = complaint("fake", large, other, "fid,swd", few=True)
    assert message.startswith("fake: ")
    for word in (
        "other/b0.png is 32x32 pixels, RGB",
        "large/000.png is 16x16 pixels, RGB",
        "swd",
    ):
        assert word in message
    message = complaint("fake", large, other, "fid,l1", few=True)
    assert "no partner" in message
    other = folder(tmp_path / "same_names", wide)
    message = complaint("fake", large, other, "fid,l1", few=True)
    assert "same_names/000.png is 32x32 pixels, RGB" in message
    message = complaint("real", large, other, "kd_classifier")
    for word in (
        "real: ",
        "large/000.png is 16x16",
        "trained on 6x8 pixels, RGB",
        "leave kd_class",
    ):
        assert word in message


@pytest.mark.parametrize("name", ["swd", "ms_ssim", "kd_classifier"])
def test_a_set_whose_images_differ_in_shape(monkeypatch, tmp_path, name):
    """The first image that differs is named, with the one that it differs from."""
    monkeypatch.setattr(networks, "feature_networks", stand_in_of_known_widths)
    shape = (8, 6, 3) if name == "kd_classifier" else (32, 32, 3)
    images = [np.zeros(shape, np.uint8)] * 10
    odd = [*images[:7], np.zeros((40, 32, 1), np.uint8), *images[8:]]
    real, fake = folder(tmp_path / "real", images), folder(tmp_path / "fake", odd)
    message = complaint("real", fake, real, name)
    assert message.startswith("real: ")
    assert "fake/007.png is 32x40 pixels, grey" in message
    if name != "kd_classifier":
        assert "fake/000.png is 32x32 pixels, RGB" in message
        assert f"or leave {name} out" in message


def test_wrong_sets(sets, tmp_path):
    none = "^ is empty: accepted are fid,"
    refused_argument("metrics", none, comparison.compare, *sets, ())
    (tmp_path / "empty").mkdir()
    for argument, pair, message in (
        ("real", ("", sets[1]), "^ is missing"),
        ("fake", (sets[0], ""), "^ is missing"),
        ("real", ("nothing", sets[1]), "^=nothing: does not exist"),
        ("fake", (sets[0], "nothing"), "^=nothing: does not exist"),
        ("fake", (sets[0], f"{tmp_path}/empty"), f"^: {tmp_path}/empty: holds no"),
    ):
        refused_argument(argument, message, run, *pair)
    broken = folder(tmp_path / "broken", OTHERS)
    (tmp_path / "broken" / "007.png").write_text("no image")
    message = complaint("fake", sets[0], broken)
    assert message.startswith("fake: ")
    assert "007.png" in message

"""Every source, read from files made here."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from gan_jax.errors import UserError
from tests.helpers.data_sections import make
from tests.helpers.source_files import (
    BLUE,
    GREEN,
    RED,
    class_folders,
    class_shades,
    idx_directory,
    picture,
    shades,
)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx(tmp_path, suffix):
    made = make(**idx_directory(tmp_path, suffix))
    assert made.sizes == {"train": 12, "validation": 5}
    assert (made.num_classes, made.channels) == (4, 1)
    everything = made.all("train")
    np.testing.assert_array_equal(everything["image"].reshape(12, 9), np.arange(108).reshape(12, 9))
    assert everything["label"].tolist() == [0, 1, 2, 3] * 3


def test_idx_without_a_second_part_or_labels(tmp_path):
    section = idx_directory(tmp_path, parts=[("train", 10)])
    assert make(**section).sizes == {"train": 9, "validation": 1}
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    made = make(**section)
    assert (made.num_classes, made.class_names) == (0, ())
    assert not made.all("train")["label"].any()


def test_idx_can_keep_its_second_part_out_of_it(tmp_path):
    section = idx_directory(tmp_path)
    made = make(**section, validation_split="fraction", validation_fraction=0.25)
    assert made.sizes == {"train": 9, "validation": 3}
    assert make(**section, validation_split="t10k").sizes == {"train": 12, "validation": 5}


@pytest.mark.parametrize(
    ("names", "validation"),
    [
        (("x_train", "y_train", "x_test", "y_test"), 4),
        (("x_train", "y_train", "x_validation", "y_validation"), 4),
        (("images", "labels"), 1),
        (("arr_0", "arr_1"), 1),
    ],
)
def test_npz(tmp_path, names, validation):
    x, y = np.full((8, 4, 4, 3), RED, np.uint8), np.arange(8)[:, None] % 3  # CIFAR's labels: [N, 1]
    arrays = [x, y, x[:4], y[:4]][: len(names)]
    np.savez(tmp_path / "a.npz", **dict(zip(names, arrays, strict=True)))
    made = make(source="npz", path=str(tmp_path / "a.npz"), resolution=4)
    assert made.sizes == {"train": 12 - 4 - validation if validation == 1 else 8} | {
        "validation": validation
    }
    assert (made.channels, made.num_classes) == (3, 3)
    assert made.all("train")["image"][0, 0, 0].tolist() == list(RED)


def test_npz_labels_can_be_left_out(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=np.zeros((8, 4, 4), np.uint8), y_train=np.arange(8))
    section = {"source": "npz", "path": str(tmp_path / "a.npz"), "resolution": 4}
    assert make(**section).num_classes == 8
    without = make(**section, labels="none")
    assert without.num_classes == 0
    assert not without.all("train")["label"].any()
    assert "no labels" in without.description


def test_folder_classes_from_sub_folders(tmp_path):
    made = make(**class_folders(tmp_path))
    assert made.sizes == {"train": 9, "validation": 1}
    assert made.class_names == ("ant", "cat")
    assert shades(made.all("train")) | shades(made.all("validation")) == class_shades()
    assert "sub-folders" in made.description
    assert make(**class_folders(tmp_path), labels="none").num_classes == 0


def test_first_images_of_a_folder_are_of_several_classes(tmp_path):
    made = make(**class_folders(tmp_path, count=10), limit=8)
    assert made.sizes["train"] == 8
    assert set(made.all("train")["label"].tolist()) == {0, 1}


def test_folder_splits_by_path(tmp_path):
    section = class_folders(tmp_path / "a")
    class_folders(tmp_path / "b", count=3, shift=20)
    made = make(**section, validation_path=str(tmp_path / "b"))
    assert made.sizes == {"train": 10, "validation": 6}
    assert shades(made.all("train")) == class_shades()
    assert shades(made.all("validation")) == class_shades(3, shift=20)


@pytest.mark.parametrize("name", ["val", "validation", "test"])
def test_folder_splits_by_sub_folder(tmp_path, name):
    class_folders(tmp_path / "train")
    class_folders(tmp_path / name, count=2, shift=20)
    picture(tmp_path / name / "bee" / "0.png", BLUE)  # classes count over both parts
    made = make(source="folder", path=str(tmp_path), resolution=6)
    assert made.sizes == {"train": 10, "validation": 5}
    assert made.class_names == ("ant", "bee", "cat")
    whole = make(source="folder", path=str(tmp_path), resolution=6, validation_split="fraction")
    assert sum(whole.sizes.values()) == 15


def test_folder_splits_by_name(tmp_path):
    class_folders(tmp_path / "good")
    class_folders(tmp_path / "odd", count=2)
    section = {"source": "folder", "path": str(tmp_path), "resolution": 6}
    made = make(**section, train_split="odd", validation_split="good")
    assert made.sizes == {"train": 4, "validation": 10}


@pytest.mark.parametrize("around", ["", "export/"])
def test_zip_is_read_like_its_folder(tmp_path, around):
    section = class_folders(tmp_path / "pictures")
    with zipfile.ZipFile(tmp_path / "pictures.ZIP", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((tmp_path / "pictures").rglob("*.png"), reverse=True):
            archive.write(path, around + path.relative_to(tmp_path / "pictures").as_posix())
        archive.writestr("__MACOSX/._0.png", b"not an image")
    folder = make(**section)
    for cache_mb in (1, 0):
        zipped = make(**section | {"path": str(tmp_path / "pictures.ZIP")}, cache_mb=cache_mb)
        assert zipped.class_names == folder.class_names
        for split in ("train", "validation"):
            a, b = zipped.all(split), folder.all(split)
            assert all(np.array_equal(a[key], b[key]) for key in b)


def test_zip_with_train_and_val(tmp_path):
    class_folders(tmp_path / "train")
    class_folders(tmp_path / "val", count=2, shift=20)
    with zipfile.ZipFile(tmp_path / "both.zip", "w") as archive:
        for path in tmp_path.rglob("*.png"):
            archive.write(path, path.relative_to(tmp_path).as_posix())
    made = make(source="folder", path=str(tmp_path / "both.zip"), resolution=6)
    assert made.sizes == {"train": 10, "validation": 4}
    assert shades(made.all("validation")) == class_shades(2, shift=20)


def test_dataset_json(tmp_path):
    colours = {"00/a.png": (3, RED), "00/b.png": (0, GREEN), "01/c.png": (1, BLUE)}
    for name, (_, colour) in colours.items():
        picture(tmp_path / name, colour)
    labels = [[name, label] for name, (label, _) in colours.items()]
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    section = {"source": "folder", "path": str(tmp_path), "resolution": 6}
    made = make(**section, validation_fraction=0.0)
    assert made.num_classes == 4
    assert shades(made.all("train")) == set(colours.values())
    assert make(**section, labels="folder").class_names == ("00", "01")
    (tmp_path / "dataset.json").write_text('{"labels": null}')
    assert make(**section).class_names == ("00", "01")


def test_prefix_only_when_asked_for(tmp_path):
    for name, colour in (("cat_1.jpg", RED), ("ant_x_1.gif", GREEN), ("cat_2.JPEG", BLUE)):
        picture(tmp_path / name, colour)
    section = {"source": "folder", "path": str(tmp_path), "resolution": 6}
    assert make(**section).num_classes == 0
    made = make(**section, labels="prefix", validation_fraction=0.0)
    assert made.class_names == ("ant", "cat")
    assert sorted(made.all("train")["label"].tolist()) == [0, 1, 1]


def test_hidden_files_and_other_files_are_left_alone(tmp_path):
    section = class_folders(tmp_path)
    for name in ("cat/._0.png", ".ipynb_checkpoints/0.png", "cat/notes.txt", "cat/a.heic", "png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no image")
    assert sum(make(**section).sizes.values()) == 10


def one_image(tmp_path, image, name="a.png", **saving):
    image.save(tmp_path / name, **saving)
    made = make(
        source="folder", path=str(tmp_path), resolution=4, resize="squash", resize_filter="box"
    )
    return made.all("train")["image"][0]


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_exif_orientation_is_honoured(tmp_path, name):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 250  # left half bright; tag 6 means: turn right, so the top becomes bright
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / name, exif=exif)
    section = {"source": "folder", "path": str(tmp_path), "resolution": 8, "resize": "crop"}
    image = make(**section).all("train")["image"][0]  # centre of 8 wide, 16 high
    assert image[:3].min() > 200
    assert image[-3:].max() < 50
    with pytest.raises(UserError, match="is 8x16"):
        make(**section | {"resize": "none"})


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_alpha_is_dropped_plainly(tmp_path, mode):
    colour = {"RGBA": (*RED, 0), "LA": (77, 0), "P": 1}[mode]
    image = Image.new(mode, (4, 4), colour)
    saving = {}
    if mode == "P":
        image.putpalette([0, 0, 0, *RED])
        saving = {"transparency": 1}
    expected = [77] if mode == "LA" else list(RED)
    assert one_image(tmp_path, image, **saving)[0, 0].tolist() == expected


def test_sixteen_bits_keep_the_high_byte(tmp_path):
    deep = np.full((4, 4), 0xAB12, np.uint16)
    assert one_image(tmp_path, Image.fromarray(deep))[0, 0].tolist() == [0xAB]


def test_one_bit_and_cmyk(tmp_path):
    assert one_image(tmp_path, Image.new("1", (4, 4), 1))[0, 0].tolist() == [255]
    (tmp_path / "a.png").unlink()
    image = one_image(tmp_path, Image.new("CMYK", (4, 4), (0, 0, 0, 0)), "a.jpg")
    assert image[0, 0].tolist() == [255, 255, 255]


def test_one_coloured_image_makes_the_set_rgb(tmp_path):
    Image.new("L", (4, 4), 90).save(tmp_path / "grey.png")
    section = {"source": "folder", "path": str(tmp_path), "resolution": 4}
    assert make(**section).channels == 1
    picture(tmp_path / "red.png", size=(4, 4))
    made = make(**section, validation_fraction=0.0)
    assert made.channels == 3
    assert {tuple(p) for p in made.all("train")["image"][:, 0, 0].tolist()} == {(90,) * 3, RED}
    assert make(**section, channels="grey").channels == 1


@pytest.mark.parametrize(("channels", "count"), [("grey", 1), ("rgb", 3), ("as_is", 3)])
def test_synthetic(channels, count):
    section = {"source": "synthetic", "channels": channels, "resolution": 8}
    made = make(**section)
    assert (made.sizes, made.num_classes) == ({"train": 256, "validation": 26}, 10)
    train, validation = made.all("train"), made.all("validation")
    assert train["image"].shape == (256, 8, 8, count)
    assert train["label"].tolist() == [i % 10 for i in range(256)]
    pictures = [image.tobytes() for image in (*train["image"], *validation["image"])]
    assert len(set(pictures)) == 282
    again = make(**section, synthetic_size=50, validation_fraction=0.0)
    np.testing.assert_array_equal(again.all("train")["image"], train["image"][:50])
    brightest = train["image"].max(axis=(1, 2)).astype(int)  # [N, C]
    looks = [brightest[train["label"] == k].mean(axis=0) for k in (0, 9)]
    assert np.abs(looks[0] - looks[1]).max() > 20  # by hue, or by grey level

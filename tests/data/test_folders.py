"""Other people's folders and zips: which formats, splits, classes and places are understood, and
that whatever is passed over is said."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from gan_jax.data import image_set
from gan_jax.data.sources import decode
from tests.helpers.data_sections import complaint, make, section
from tests.helpers.source_files import (
    BLUE,
    GREEN,
    RED,
    class_folders,
    class_shades,
    picture,
    shades,
)

# formats


@pytest.mark.parametrize("extension", decode.EXTENSIONS)
def test_every_listed_ending_is_read(tmp_path, extension):
    """In capitals too, from folders, by metrics and as an input."""
    picture(tmp_path / f"A.{extension.upper()}", RED, format=next(
        name for name, endings in decode.FORMATS.items() if extension in endings
    ))  # fmt: skip
    image = make(**section(tmp_path)).all("train")["image"][0]
    assert np.abs(image[0, 0].astype(int) - RED).max() < 25  # some formats lose
    (batch,) = image_set.open_set(str(tmp_path), "--real").batches(4)
    np.testing.assert_array_equal(batch[0], image)


def test_other_formats_are_not_opened_whatever_they_are_called(tmp_path, monkeypatch):
    """Pillow would run Ghostscript on an EPS."""
    from PIL import EpsImagePlugin

    def never(*args, **kwargs):
        raise AssertionError("another program would be started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", never)
    Image.new("RGB", (6, 6), RED).save(tmp_path / "a.png", format="EPS")
    assert "not an image of a format that is read: JPEG, PNG" in complaint(**section(tmp_path))
    Image.new("RGB", (6, 6), RED).save(tmp_path / "a.png", format="PPM")
    assert "not an image of a format that is read" in complaint(**section(tmp_path))


def test_what_is_passed_over_is_counted(tmp_path):
    for i in range(3):
        picture(tmp_path / f"{i}.png", RED)
    for name in ("a.heic", "b.heic", "notes.txt", "README", ".hidden.png"):
        (tmp_path / name).write_bytes(b"no image")
    said = make(**section(tmp_path)).description
    where = f"passed over in {tmp_path}: "
    kinds = said.partition(where)[2].split(", ")
    assert sorted(kinds) == [".heic (2)", ".txt (1)", "hidden (1)", "without an ending (1)"]
    found = image_set.open_set(str(tmp_path), "--real")
    assert found.remarks == (said[said.index(where) :],)


def test_a_class_that_vanished_is_an_error(tmp_path):
    class_folders(tmp_path)
    (tmp_path / "dog").mkdir()
    assert "dog: would be a class and holds no image that is read (no file at all)" in complaint(
        **section(tmp_path)
    )
    (tmp_path / "dog" / "a.heic").write_bytes(b"x")
    message = complaint(**section(tmp_path))
    for word in ("dog", ".heic (1)", "webp", "config.data.labels=none"):
        assert word in message
    assert make(**section(tmp_path, labels="none")).num_classes == 0
    (tmp_path / "dog" / "a.heic").rename(tmp_path / "dog" / "a.txt")
    assert make(**section(tmp_path)).class_names == ("ant", "cat")  # notes are no class


# splits


@pytest.mark.parametrize(
    ("folders", "validation"),
    [
        (("Train", "Test"), "Test"),
        (("TRAIN", "VAL"), "VAL"),
        (("train", "valid"), "valid"),
        (("training", "dev"), "dev"),
        (("train", "valid", "test"), "valid"),
        (("train", "Dev", "test"), "Dev"),
        (("train", "test", "val", "validation"), "val"),
    ],
)
def test_split_folders(tmp_path, folders, validation):
    for k, name in enumerate(folders):
        class_folders(tmp_path / name, count=3, shift=12 * k)
    made = make(**section(tmp_path))
    assert (made.sizes, made.class_names) == ({"train": 6, "validation": 6}, ("ant", "cat"))
    expected = class_shades(3, shift=12 * folders.index(validation))
    assert shades(made.all("validation")) == expected
    said = f"training images from {folders[0]}/, validation images from {validation}/"
    assert said in made.description
    others = sorted(set(folders) - {folders[0], validation})
    assert ("not used: " + ", ".join(f"{o}/" for o in others) in made.description) == bool(others)


def test_train_alone_is_a_split(tmp_path):
    class_folders(tmp_path / "train")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").touch()
    made = make(**section(tmp_path))
    assert (made.sizes, made.class_names) == ({"train": 9, "validation": 1}, ("ant", "cat"))
    assert "training images from train/" in made.description
    picture(tmp_path / "bus" / "0.png", BLUE)  # a train among other vehicles is a class
    assert make(**section(tmp_path)).class_names == ("bus", "train")


def test_named_splits_in_other_capitals(tmp_path):
    class_folders(tmp_path / "Good")
    class_folders(tmp_path / "Odd", count=2)
    made = make(**section(tmp_path), train_split="odd", validation_split="good")
    assert made.sizes == {"train": 4, "validation": 10}


def test_splits_that_share_a_folder_by_a_link(tmp_path):
    class_folders(tmp_path / "train")
    (tmp_path / "val").mkdir()
    picture(tmp_path / "val" / "ant" / "0.png")
    (tmp_path / "val" / "cat").symlink_to(tmp_path / "train" / "cat")
    assert "share no image" in complaint(**section(tmp_path))


# labels


def labelled(root, names):
    rows = [[name, k % 3] for k, name in enumerate(names)]
    (root / "dataset.json").write_text(json.dumps({"labels": rows}))


@pytest.mark.parametrize("how", ["beside", "above", "path", "zip"])
def test_dataset_json_beside_and_above_splits(tmp_path, how):
    names = [f"train/{i}.png" for i in range(6)] + [f"val/{i}.png" for i in range(3)]
    root = tmp_path / "set"
    inner = root / "faces" if how in ("above", "zip") else root
    for k, name in enumerate(names):
        picture(inner / name, (100 + k % 3, 0, 0))
    labelled(root, [str((inner / name).relative_to(root)) for name in names])
    options = section(inner)
    if how == "path":
        options = section(root / "train", validation_path=str(root / "val"))
    if how == "above":
        options = section(root, train_split="faces/train", validation_split="faces/val")
    if how == "zip":
        options["path"] = str(tmp_path / "set.zip")
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
            for path in root.rglob("*.*"):
                archive.write(path, path.relative_to(root).as_posix())
    made = make(**options)
    assert (made.sizes, made.num_classes) == ({"train": 6, "validation": 3}, 3)
    assert "dataset.json" in made.description
    for split in ("train", "validation"):
        found = made.all(split)
        np.testing.assert_array_equal(found["label"], found["image"][:, 0, 0, 0] - 100)


def test_numeric_folders_are_numbered_by_their_numbers(tmp_path):
    for number in range(12):
        picture(tmp_path / str(number) / "0.png", (20 * number, 0, 0))
    made = make(**section(tmp_path, validation_fraction=0.0))
    assert made.class_names == tuple(map(str, range(12)))
    found = made.all("train")
    np.testing.assert_array_equal(20 * found["label"], found["image"][:, 0, 0, 0])
    old = make(**section(tmp_path, reading="first"))  # as runs of earlier revisions
    assert old.class_names[:4] == ("0", "1", "10", "11")
    (tmp_path / "x").mkdir()
    picture(tmp_path / "x" / "0.png")
    assert make(**section(tmp_path)).class_names[:3] == ("0", "1", "10")  # not all are numbers


def test_names_of_classes_are_said(tmp_path):
    assert "2 classes (sub-folders): ant, cat" in make(**class_folders(tmp_path)).description


def test_classes_without_a_training_image(tmp_path):
    images, labels = np.zeros((40, 6, 6), np.uint8), np.arange(40) % 4 + 1
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    made = make(source="npz", path=str(tmp_path / "a.npz"), resolution=6)
    assert (made.num_classes, made.empty_classes) == (5, (0,))
    assert "classes without a training image, which are not drawn: 0" in made.description
    class_folders(tmp_path / "train")
    picture(tmp_path / "val" / "bee" / "0.png", GREEN)
    made = make(**section(tmp_path, validation_split="val"))
    assert (made.class_names, made.empty_classes) == (("ant", "bee", "cat"), (1,))
    assert "not drawn: bee" in made.description


@pytest.mark.parametrize("label", [10**8, -1])
def test_numbers_that_are_no_classes(tmp_path, label):
    picture(tmp_path / "a.png")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": [["a.png", label]]}))
    assert "integers from 0 to 99999" in complaint(**section(tmp_path))
    np.savez(tmp_path / "a.npz", images=np.zeros((1, 6, 6), np.uint8), labels=np.array([label]))
    assert str(label) in complaint(source="npz", path=str(tmp_path / "a.npz"), resolution=6)


def test_splits_are_no_classes_for_metrics(tmp_path):
    for name in ("train", "Test"):
        class_folders(tmp_path / name, count=2)
    found = image_set.open_set(str(tmp_path), "--real")
    assert (len(found), found.labels) == (8, None)
    assert "the images of all splits are taken, without classes: test, train" in found.remarks[0]


def test_the_first_reading_is_that_of_earlier_revisions(tmp_path):
    """For runs that began with it: formats, splits and the order of classes."""
    for name in ("train", "valid"):
        class_folders(tmp_path / name, count=2)
    picture(tmp_path / "train" / "ant" / "x.webp")
    (tmp_path / "train" / "dog").mkdir()
    made = make(**section(tmp_path, reading="first", validation_fraction=0.0))
    assert (made.sizes["train"], made.class_names) == (8, ("train", "valid"))
    (tmp_path / "valid").rename(tmp_path / "val")
    made = make(**section(tmp_path, reading="first"))
    assert (made.sizes, made.class_names) == ({"train": 4, "validation": 4}, ("ant", "cat"))
    picture(tmp_path / "valid.png")
    assert "config.data.reading='older'" in complaint(**section(tmp_path, reading="older"))

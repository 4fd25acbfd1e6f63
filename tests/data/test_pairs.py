"""Pairs: which half is which, what is drawn for both alike, what is refused."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_jax import data
from gan_jax.data import pairs
from gan_jax.data.inputs import Inputs
from gan_jax.errors import UserError
from tests.helpers.data_sections import Section, Stage
from tests.helpers.one_line import assert_refused, refused_argument
from tests.helpers.pictures import noise, save

RED, BLUE = (250, 10, 20), (10, 20, 250)


def section(**options) -> Section:
    return Section(**{"resolution": 16, "labels": "none", **options})


def make(**options):
    return data.make(section(**options))


def flat(colour, height=16, width=16) -> np.ndarray:
    return np.broadcast_to(np.uint8(colour), (height, width, 3)).copy()


def scene(seed: int, height=40, width=40) -> np.ndarray:
    return noise(1, height, width, seed=seed)[0]


def red_and_blue(folder: Path, count: int = 4) -> Path:
    for i in range(count):
        save(folder / f"train/{i}.png", np.concatenate([flat(RED), flat(BLUE)], axis=1))
        save(folder / f"val/{i}.png", np.concatenate([flat(RED), flat(BLUE)], axis=1))
    return folder


@pytest.mark.parametrize("direction", ["a_to_b", "b_to_a"])
def test_direction_by_name(tmp_path, direction):
    """A is the left half, red; the direction is said in words."""
    made = make(
        source="folder", path=str(red_and_blue(tmp_path)), pairs="side_by_side", direction=direction
    )
    given, wanted = (RED, BLUE) if direction == "a_to_b" else (BLUE, RED)
    for split in ("train", "validation"):
        batch = next(iter(made(split, Stage(), 0)))
        assert set(batch) - {"valid"} == {"input", "target"}
        assert (batch["input"] == np.uint8(given)).all()
        assert (batch["target"] == np.uint8(wanted)).all()
    assert direction in made.description
    assert ("B to A" in made.description) == (direction == "b_to_a")
    assert made.sizes == {"train": 4, "validation": 4}
    assert (made.input_channels, made.channels, made.num_classes) == (3, 3, 0)


def test_two_folders_are_the_same_as_one(tmp_path):
    """A and B under one name, whatever the ending; sub-folders and zips as well."""
    for split in ("train", "val"):
        for i in range(3):
            a, b = scene(i), scene(100 + i)
            save(tmp_path / f"one/{split}/{i}.png", np.concatenate([a, b], axis=1))
            save(tmp_path / f"a/{split}/{i}.png", a)
            save(tmp_path / f"b/{split}/{i}.PNG", b)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for file in sorted((tmp_path / "b").rglob("*.PNG")):
            archive.write(file, f"b/{file.relative_to(tmp_path / 'b')}")
    shared = dict(source="folder", resize="squash", direction="b_to_a")
    one = make(path=str(tmp_path / "one"), pairs="side_by_side", **shared)
    for b in ("b", "b.zip"):
        two = make(path=str(tmp_path / "a"), path_b=str(tmp_path / b), pairs="folders", **shared)
        for split in ("train", "validation"):
            x, y = (made.all(split) for made in (one, two))
            for name in ("input", "target"):
                np.testing.assert_array_equal(x[name], y[name])


@pytest.mark.parametrize("resize", ["jitter", "plain_crop", "random_crop"])
def test_random_crops_and_flips_are_joint_and_never_on_validation(tmp_path, resize):
    """Both halves show the same picture: whatever is drawn, they must stay equal."""
    for i in range(4):
        for split in ("train", "val"):
            save(tmp_path / f"{split}/{i}.png", np.concatenate([scene(i), scene(i)], axis=1))
    made = make(
        source="folder", path=str(tmp_path), pairs="side_by_side", resize=resize,
        load_resolution=20, flip=True,
    )  # fmt: skip
    batches = [b for b, _ in zip(made("train", Stage(), 0), range(8), strict=False)]
    for batch in batches:
        np.testing.assert_array_equal(batch["input"], batch["target"])
    seen = {image.tobytes() for batch in batches for image in batch["input"]}
    assert len(seen) > 8  # four pictures, sixteen draws
    again = next(iter(made("train", Stage(), 5)))
    np.testing.assert_array_equal(again["input"], batches[5]["input"])
    first, second = ([b["input"] for b in made("validation", Stage(), 0)] for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    plain = make(source="folder", path=str(tmp_path), pairs="side_by_side", resize="squash")
    if resize == "jitter":  # validation goes straight to the resolution
        for a, b in zip(first, plain("validation", Stage(), 0), strict=True):
            np.testing.assert_array_equal(a, b["input"])


def test_jitter_is_a_crop_of_the_larger_square(tmp_path):
    """Every training image is one of the 5 x 5 places, mirrored or not."""
    picture = scene(0)
    save(tmp_path / "train/0.png", np.concatenate([picture, picture], axis=1))
    save(tmp_path / "val/0.png", np.concatenate([picture, picture], axis=1))
    made = make(
        source="folder", path=str(tmp_path), pairs="side_by_side", resize="jitter",
        load_resolution=20, flip=True,
    )  # fmt: skip
    large = np.asarray(Image.fromarray(picture).resize((20, 20), Image.Resampling.BICUBIC))
    places = {}
    for top in range(5):
        for left in range(5):
            crop = large[top : top + 16, left : left + 16]
            places[crop.tobytes()] = (top, left, False)
            places[np.ascontiguousarray(crop[:, ::-1]).tobytes()] = (top, left, True)

    drawn = [
        places[np.ascontiguousarray(b["target"][0]).tobytes()]
        for b, _ in zip(made("train", Stage(1), 0), range(80), strict=False)
    ]
    assert {top for top, *_ in drawn} == {left for _, left, _ in drawn} == set(range(5))
    assert 20 < sum(mirrored for *_, mirrored in drawn) < 60


def test_grey_and_rgba_files(tmp_path):
    """Grey files among coloured ones, an alpha channel, and a grey input for a coloured target."""
    pair = np.concatenate([flat(RED), flat(BLUE)], axis=1)
    for split in ("train", "val"):
        save(tmp_path / f"{split}/0.png", pair)
        save(tmp_path / f"{split}/1.png", pair, "L")
        save(tmp_path / f"{split}/2.png", pair, "RGBA")
    shared = dict(source="folder", path=str(tmp_path), pairs="side_by_side")
    made = make(**shared).all("train")
    assert made["input"].shape == made["target"].shape == (3, 16, 16, 3)
    grey = make(**shared, input_channels="grey")
    assert (grey.input_channels, grey.channels) == (1, 3)
    assert grey.all("train")["input"].shape == (3, 16, 16, 1)
    both = make(**shared, channels="grey")
    assert (both.input_channels, both.channels) == (1, 1)


def test_colorize_and_inpaint_make_their_inputs(tmp_path):
    for i in range(4):
        save(tmp_path / f"{i}.png", scene(i))
    shared = dict(source="folder", path=str(tmp_path), resize="squash", validation_fraction=0.25)
    plain = make(**shared).all("train")["image"]
    made = make(**shared, pairs="colorize")
    found = made.all("train")
    assert (made.input_channels, made.channels) == (1, 3)
    np.testing.assert_array_equal(found["target"], plain)
    np.testing.assert_array_equal(found["input"], pairs.lightness(plain))
    found = make(**shared, pairs="inpaint").all("train")
    np.testing.assert_array_equal(found["target"], plain)
    assert (found["input"][:, 4:12, 4:12] == 255).all()
    outside = np.ones((16, 16), bool)
    outside[4:12, 4:12] = False
    np.testing.assert_array_equal(found["input"][:, outside], plain[:, outside])


def test_lightness_of_known_colours():
    """White, black, sRGB red (L* 53.24) and mid grey (L* 53.59); a grey image like its colours."""
    colours = np.uint8([[255, 255, 255], [0, 0, 0], [255, 0, 0], [128, 128, 128]])
    expected = np.round(np.array([100, 0, 53.2408, 53.5850]) * 2.55)
    np.testing.assert_array_equal(pairs.lightness(colours)[:, 0], expected)
    levels = np.arange(256, dtype=np.uint8)[:, None]
    np.testing.assert_array_equal(
        pairs.lightness(levels), pairs.lightness(levels.repeat(3, axis=1))
    )


def test_synthetic_pairs_show_a_picture_and_its_map():
    made = make(source="synthetic", pairs="side_by_side", channels="rgb", synthetic_size=8)
    found = made.all("train")
    assert found["input"].shape == found["target"].shape == (8, 16, 16, 3)
    ground = (found["target"] == 0).all(axis=-1)
    assert 0.2 < ground.mean() < 0.9


def test_what_cannot_be_paired(tmp_path):
    """One line that names files and keys."""
    save(tmp_path / "odd/0.png", scene(0, 16, 33))
    save(tmp_path / "odd/1.png", scene(0, 16, 32))
    for i in range(14):
        save(tmp_path / f"a/{i:02d}.png", scene(i))
    for i in range(12, 16):
        save(tmp_path / f"b/{i:02d}.png", scene(i, 40 if i else 20))
    save(tmp_path / "c/00.png", scene(0))
    save(tmp_path / "d/00.png", scene(0, 20, 20))
    (tmp_path / "text").mkdir()
    (tmp_path / "text/0.png").write_text("no image")
    (tmp_path / "text/1.txt").write_text("no image")
    beside = dict(source="folder", pairs="side_by_side", resize="squash")
    folders = dict(source="folder", pairs="folders", resize="squash")

    def path(name):
        return str(tmp_path / name)

    cases = [
        (dict(beside, path=path("odd")), ["0.png", "33x16", "unequal"]),
        (
            dict(folders, path=path("a"), path_b=path("b")),
            ["14 images have no partner", "00.png (only in A)", "09.png", "and 4 more"],
        ),
        (dict(folders, path=path("c"), path_b=path("d")), ["00.png", "40x40", "20x20"]),
        (dict(beside, path=path("text")), ["0.png", "not an image"]),
        (dict(beside, path=path("a"), resize="plain_crop", resolution=64), ["20x40", "64"]),
        (dict(beside, path=path("a"), resize="none"), ["20x40", "16"]),
        (dict(folders, path=path("a")), ["config.data.path_b"]),
        (dict(beside, path=path("a"), path_b=path("b")), ["config.data.path_b", "folders"]),
        (dict(source="digits", pairs="folders", path_b="x"), ["config.data.source=folder"]),
        (dict(beside, path=path("a"), resize="jitter", load_resolution=8), ["load_resolution=8"]),
        (dict(beside, path=path("a"), direction="left"), ["left", "b_to_a"]),
        (dict(beside, path=path("a"), pairs="twins"), ["twins", "side_by_side"]),
        (dict(source="digits", pairs="colorize", direction="b_to_a"), ["config.data.direction"]),
        (dict(source="digits", pairs="colorize", channels="grey"), ["config.data.channels"]),
        (dict(source="digits", pairs="inpaint", input_channels="grey"), ["input_channels"]),
    ]
    for options, words in cases:
        message = assert_refused(None, make, **options)
        for word in words:
            assert word in message, (word, message)


def test_the_test_folder_is_left_alone(tmp_path):
    """Training images are those of train, validation images those of val, never of test."""
    for number, split in enumerate(("train", "val", "test")):
        pair = np.concatenate([flat((number, 0, 0)), flat((number, 9, 9))], axis=1)
        save(tmp_path / f"{split}/0.png", pair)
    made = make(source="folder", path=str(tmp_path), pairs="side_by_side")
    assert made.sizes == {"train": 1, "validation": 1}
    assert made.all("train")["input"][0, 0, 0, 0] == 0
    assert made.all("validation")["input"][0, 0, 0, 0] == 1
    other = make(source="folder", path=str(tmp_path), pairs="side_by_side", validation_split="test")
    assert other.all("validation")["input"][0, 0, 0, 0] == 2


def test_two_folders_must_be_split_alike(tmp_path):
    for split in ("a/train", "a/val", "b/train", "b/test", "c/train"):
        save(tmp_path / split / "0.png", scene(0, 16, 16))
    both = dict(source="folder", pairs="folders", path=str(tmp_path / "a"))
    for b, words in (("b", ["val", "test", "config.data.validation_split"]), ("c", ["none"])):
        message = assert_refused(None, make, **both, path_b=str(tmp_path / b))
        for word in words:
            assert word in message


def test_names_that_differ_only_by_the_ending(tmp_path):
    """They cannot be told apart as partners."""
    save(tmp_path / "a/0.png", scene(0))
    save(tmp_path / "a/0.jpg", scene(0))
    save(tmp_path / "b/0.png", scene(0))
    with pytest.raises(UserError, match="one name but for the ending"):
        make(
            source="folder", pairs="folders", resize="squash",
            path=str(tmp_path / "a"), path_b=str(tmp_path / "b"),
        )  # fmt: skip


def test_inputs_of_a_trained_model(tmp_path):
    """Single and side-by-side pictures, by shape or by word; names; other kinds of pairs."""
    save(tmp_path / "in/wide.png", np.concatenate([flat(RED), flat(BLUE)], axis=1))
    save(tmp_path / "in/deep/single.png", flat(BLUE, 30, 20))
    save(tmp_path / "in/deep/single.jpg", flat(BLUE))
    save(tmp_path / "in/grey.png", flat(BLUE), "L")
    config = section(source="synthetic", pairs="side_by_side", direction="b_to_a", resize="jitter")
    inputs = Inputs(str(tmp_path / "in"), config, 3, 3)
    assert inputs.names == ["deep/single.jpg", "deep/single.png", "grey", "wide"]
    for i in range(3):
        x, y = inputs.read(i)
        assert x.shape == (16, 16, 3)
        assert y is None
    x, y = inputs.read(3)
    assert (x == np.uint8(BLUE)).all()
    assert (y == np.uint8(RED)).all()
    x, y = Inputs(str(tmp_path / "in"), config, 3, 3, "single").read(3)
    assert y is None
    assert (x[:, 0] == np.uint8(RED)).all()
    refused_argument("layout", "^=left: accepted", Inputs, str(tmp_path), config, 3, 3, "left")
    assert_refused("^input=/no/where: does not exist", Inputs, "/no/where", config, 3, 3)
    colours = Inputs(str(tmp_path / "in"), section(source="synthetic", pairs="colorize"), 1, 3)
    x, y = colours.read(2)
    assert y is None  # a grey photo does not say what colours it had
    assert x.shape == (16, 16, 1)
    x, y = colours.read(1)
    np.testing.assert_array_equal(x, pairs.lightness(y))
    assert x.shape == (16, 16, 1)


def test_names_of_outputs(tmp_path):
    """Each only once, none outside the folder, none in the place of the contact sheet."""
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        save(tmp_path / "x.png", flat(RED))
        names = ("../up.png", "/abs.png", "contact_sheet.jpg", "x.jpg", "x.png", "x.png.jpg")
        for name in names:
            archive.write(tmp_path / "x.png", name)
    config = section(source="synthetic", pairs="side_by_side")
    names = Inputs(str(tmp_path / "in.zip"), config, 3, 3).names
    assert len(set(names)) == len(names) == 5  # folders that begin with a dot are not looked at
    assert "contact_sheet" not in names
    assert not any(name.startswith(("/", "..")) for name in names)


def test_unreadable_inputs_are_left_out_on_demand(tmp_path):
    save(tmp_path / "a.png", flat(RED))
    (tmp_path / "b.png").write_text("no image")
    with pytest.raises(UserError, match="cannot read"):
        Inputs(str(tmp_path), section(source="synthetic", pairs="side_by_side"), 3, 3)
    config = section(source="synthetic", pairs="side_by_side", on_error="skip")
    assert Inputs(str(tmp_path), config, 3, 3).names == ["a"]

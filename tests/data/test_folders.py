"""Other people's folders and zips: which formats, splits, classes and places are understood, and
that whatever is passed over is said."""

import json
import os
import socket
import stat
import struct
import zipfile
import zlib
from functools import partial

import numpy as np
import pytest
from PIL import Image

from gan_jax.data import image_set
from gan_jax.data.sources import decode, places
from gan_jax.report import grids
from tests.data.test_errors import complaint
from tests.data.test_sources import (
    BLUE,
    GREEN,
    RED,
    class_folders,
    class_shades,
    make,
    picture,
    shades,
)


def read(path):
    """(the image, its shape by the header alone)."""
    opener = partial(open, path, "rb")
    return decode.decode(opener, path.name), decode.shape_of(opener, path.name)


def section(path, **changes):
    return {"source": "folder", "path": str(path), "resolution": 6, **changes}


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


# zips


def test_zip_with_backslashes(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, colour in (("cat", RED), ("dog", GREEN)):
            for i in range(4):
                picture(tmp_path / "x.png", colour)
                info = zipfile.ZipInfo("x")
                info.filename = f"set\\{name}\\{i}.png"  # the constructor would turn them
                archive.writestr(info, (tmp_path / "x.png").read_bytes())
    made = make(**section(tmp_path / "a.zip"))
    assert made.class_names == ("cat", "dog")
    assert len({tuple(p) for p in made.all("train")["image"][:, 0, 0].tolist()}) == 2


@pytest.mark.parametrize("beside", [".DS_Store", "README.md", "LICENSE", "__MACOSX/._set"])
def test_zip_with_files_beside_its_only_folder(tmp_path, beside):
    class_folders(tmp_path / "train")
    class_folders(tmp_path / "val", count=2)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in tmp_path.rglob("*.png"):
            archive.write(path, f"faces/{path.relative_to(tmp_path).as_posix()}")
        archive.writestr(beside, b"nothing")
    made = make(**section(tmp_path / "a.zip"))
    assert (made.sizes, made.class_names) == ({"train": 10, "validation": 4}, ("ant", "cat"))


def patched_zip(path, count=3, method=None, flags=0):
    """A stored zip, its central directory and local headers changed to another method or flags."""
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(count):
            picture(path.with_suffix(".png"), (10 * i, 0, 0))
            archive.writestr(f"{i}.png", path.with_suffix(".png").read_bytes())
    data = bytearray(path.read_bytes())
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.find(signature)  # of the first member only
        data[start + at : start + at + 2] = flags.to_bytes(2, "little")
        if method is not None:
            data[start + at + 2 : start + at + 4] = method.to_bytes(2, "little")
    path.with_suffix(".png").unlink()
    path.write_bytes(data)


@pytest.mark.parametrize("how", [{"method": 9}, {"flags": 1}, {"method": 97}])
def test_unreadable_members_of_a_zip(tmp_path, how):
    """Deflate64, encrypted, unknown: one line, or another image by config.data.on_error."""
    patched_zip(tmp_path / "a.zip", **how)
    options = section(tmp_path / "a.zip", validation_fraction=0.0)
    assert "cannot read" in (message := complaint(**options))
    assert "a.zip/0.png" in message
    made = make(**options, on_error="skip")
    shown = sorted(set(made.all("train")["image"][:, 0, 0, 0].tolist()))
    assert (made.skipped, shown) == (1, [10, 20])


def test_links_in_a_zip_are_no_images(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        picture(tmp_path / "x.png")
        archive.write(tmp_path / "x.png", "x.png")
        link = zipfile.ZipInfo("y.png")
        link.create_system = 3
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "x.png")
    made = make(**section(tmp_path / "a.zip"))
    assert sum(made.sizes.values()) == 1
    assert "links in the zip (1)" in made.description


# links, pipes, folders of the system


def test_each_real_folder_is_read_once(tmp_path):
    class_folders(tmp_path / "images", count=4)
    (tmp_path / "images" / "cat" / "up").symlink_to("..")
    (tmp_path / "images" / "aardvark").symlink_to("cat")  # comes first by name, and is a link
    (tmp_path / "images" / "gone").symlink_to("nowhere")
    made = make(**section(tmp_path / "images"))
    assert (sum(made.sizes.values()), made.class_names) == (8, ("ant", "cat"))
    assert "links to folders read already (2)" in made.description
    assert "broken links (1)" in made.description


def test_links_to_folders_elsewhere_are_followed(tmp_path):
    class_folders(tmp_path / "store")
    (tmp_path / "images").mkdir()
    for name in ("ant", "cat"):
        (tmp_path / "images" / name).symlink_to(tmp_path / "store" / name)
    made = make(**section(tmp_path / "images"))
    assert (sum(made.sizes.values()), made.class_names) == (10, ("ant", "cat"))


def test_pipes_and_sockets_are_no_images(tmp_path, monkeypatch):
    picture(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("c.png")
        made = make(**section(tmp_path))
        found = image_set.open_set(str(tmp_path), "--real")
    assert sum(made.sizes.values()) == len(found) == 1
    assert "pipes, sockets or devices (2)" in made.description
    assert "neither a directory nor a .zip" in complaint(**section(tmp_path / "b.png"))


@pytest.mark.parametrize(
    "name", ["@eaDir", "#recycle", "$RECYCLE.BIN", ".thumbnails", "lost+found", "__MACOSX"]
)
@pytest.mark.parametrize("zipped", [False, True])
def test_folders_of_the_system_are_no_classes(tmp_path, name, zipped):
    options = class_folders(tmp_path / "images", count=4)
    picture(tmp_path / "images" / name / "0.png" / "thumb.jpg")
    picture(tmp_path / "images" / "cat" / name / "thumb.jpg")
    if zipped:
        options["path"] = str(tmp_path / "a.zip")
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for path in (tmp_path / "images").rglob("*.*g"):
                archive.write(path, path.relative_to(tmp_path / "images").as_posix())
    made = make(**options)
    assert (sum(made.sizes.values()), made.class_names) == (8, ("ant", "cat"))
    assert "passed over" in made.description


# single files


@pytest.mark.parametrize("tag", [(0x010E, (1.5,)), (0x0100, 1.5), (0x9286, 7), (0x8769, "x")])
def test_orientation_beside_odd_tags(tmp_path, tag):
    """A good JPEG, one tag of an unusual type: it is turned as viewers show it."""
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 250
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(pixels)
    try:
        exif[tag[0]] = tag[1]
        image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    except Exception:  # Pillow cannot write this one: by hand below
        image.save(tmp_path / "a.jpg", exif=odd_exif(tag[0]), quality=95)
    shown, shape = read(tmp_path / "a.jpg")
    assert shown.shape == shape == (16, 8, 3)
    assert shown[:6].min() > 200
    assert shown[-6:].max() < 50


def odd_exif(tag: int) -> bytes:
    """Orientation 6, and `tag` as one float in a place where another type belongs."""
    entries = sorted([(0x0112, 3, 6 << 0), (tag, 11, 0x3FC00000)])
    body = b"".join(
        t.to_bytes(2, "little") + k.to_bytes(2, "little") + (1).to_bytes(4, "little")
        + v.to_bytes(4, "little")
        for t, k, v in entries
    )  # fmt: skip
    head = b"Exif\0\0II*\0\x08\0\0\0" + len(entries).to_bytes(2, "little")
    return head + body + b"\0\0\0\0"


def test_tiffs_are_turned_once(tmp_path):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 250
    Image.fromarray(pixels).save(tmp_path / "a.tif", tiffinfo={0x0112: 6})
    shown, shape = read(tmp_path / "a.tif")
    assert shown.shape == shape == (16, 8, 3)
    assert shown[:6].min() > 200


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_twelve_bits_are_announced_and_scaled(tmp_path, extension):
    for i in range(3):
        ramp = np.linspace(0, 4080 - i, 36).astype(np.uint16).reshape(6, 6)
        Image.fromarray(ramp).save(tmp_path / f"{i}.{extension}")
    said = make(**section(tmp_path)).description
    assert "end at 4,080" in said
    assert "config.data.deep_bits=12" in said
    assert "deep_bits=12" in image_set.open_set(str(tmp_path), "--real").remarks[0]
    made = make(**section(tmp_path, deep_bits=12))
    assert "deep_bits" not in made.description
    assert made.all("train")["image"].max() == 255
    assert "config.data.deep_bits=8" in complaint(**section(tmp_path, deep_bits=8))
    assert "config.data.deep_bits=17" in complaint(**section(tmp_path, deep_bits=17))


# sheets


def test_sheets_are_left_out_by_every_reader(tmp_path):
    """Marked ones by their mark, those of earlier revisions by their names."""
    pixels = np.full((6, 6, 3), 9, np.uint8)
    for name in ("a.png", "000001_ema.png", "sheets/mine.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        grids.save_png(tmp_path / name, pixels)
    for name in ("sheets/contact_sheet.png", "000002_ema.png", "reals.png"):
        grids.save_sheet(tmp_path / name, pixels)
    for name in ("contact_sheet.png", "grid.png"):
        grids.save_png(tmp_path / name, pixels)
    found = image_set.open_set(str(tmp_path), "--real")
    assert found.names == ("000001_ema", "a", "sheets/mine")
    assert "contact sheets (5)" in found.remarks[0]
    made = make(**section(tmp_path, labels="none"))
    assert sum(made.sizes.values()) == 3
    assert "contact sheets (5)" in made.description
    assert places.SHEET_FOLDER == grids.SHEET_FOLDER
    assert decode.MARK == grids.MARK


# what use has found beside


def test_links_to_themselves_and_in_a_ring(tmp_path):
    options = class_folders(tmp_path, count=2)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "cat" / "x.png").symlink_to("y.png")
    (tmp_path / "cat" / "y.png").symlink_to("x.png")
    made = make(**options)
    assert (sum(made.sizes.values()), made.class_names) == (4, ("ant", "cat"))
    assert "broken links (3)" in made.description


def test_a_file_linked_into_both_splits(tmp_path):
    class_folders(tmp_path / "train", count=3)
    (tmp_path / "val" / "ant").mkdir(parents=True)
    (tmp_path / "val" / "ant" / "0.png").symlink_to(tmp_path / "train" / "ant" / "deep" / "0.png")
    message = complaint(**section(tmp_path))
    assert "ant/0.png is a file that" in message
    assert "share no image" in message


def zipped(path, names):
    picture(path.with_suffix(".png"))
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            info = zipfile.ZipInfo("x")
            info.filename = name
            archive.writestr(info, path.with_suffix(".png").read_bytes())
    path.with_suffix(".png").unlink()
    return section(path)


@pytest.mark.parametrize(
    ("around", "beside"),
    [
        ("./", []),
        ("/home/user/", []),
        ("a/b/", []),
        ("set//", []),
        ("data/", ["docs/readme.txt"]),
        ("data/", ["grid.png"]),
        ("", []),
    ],
)
def test_folders_around_the_images_of_a_zip(tmp_path, around, beside):
    names = [f"{around}{kind}/{i}.png" for kind in ("cat", "dog") for i in range(3)]
    made = make(**zipped(tmp_path / "a.zip", [*names, *beside]))
    assert (sum(made.sizes.values()), made.class_names) == (6, ("cat", "dog"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_come_twice_in_a_zip_are_said(tmp_path):
    made = make(**zipped(tmp_path / "a.zip", ["cat/0.png", "./cat/0.png", "dog/0.png"]))
    assert sum(made.sizes.values()) == 2
    assert "names that come twice in the zip (1)" in made.description


def test_sheets_beside_train_alone(tmp_path):
    class_folders(tmp_path / "train")
    grids.save_png(tmp_path / "grid.png", np.zeros((6, 6, 3), np.uint8))
    assert make(**section(tmp_path)).class_names == ("ant", "cat")


def test_floating_point_and_dark_pictures(tmp_path):
    Image.fromarray(np.full((6, 6), 0.5, np.float32)).save(tmp_path / "a.tif")
    assert "floating-point pixels are not read" in complaint(**section(tmp_path))
    (tmp_path / "a.tif").unlink()
    Image.fromarray(np.full((6, 6), 60_000, np.uint16)).save(tmp_path / "a.png")
    said = make(**section(tmp_path, deep_bits=12)).description
    assert "grey values reach 60,000 here and all above 4,095 become white" in said
    assert "config.data.deep_bits=16" in said


def deep_png(path, values, colour):
    """A PNG of 16 bits a channel (colour type 2: RGB, 4: grey with alpha), which Pillow cannot
    write."""

    def chunk(name, data):
        whole = name + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    height, width, _ = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    body = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2)])
def test_twelve_bits_in_colour_are_announced(tmp_path, colour, channels):
    deep_png(tmp_path / "a.png", np.full((6, 6, channels), 4000, np.uint16), colour)
    said = make(**section(tmp_path)).description
    assert "values of 16 bits end at 4,095 here" in said
    assert "saved with 8 bits" in said
    deep_png(tmp_path / "a.png", np.full((6, 6, channels), 60_000, np.uint16), colour)
    assert "values of 16 bits" not in make(**section(tmp_path)).description


def test_metrics_read_fewer_bits_when_told(tmp_path):
    Image.fromarray(np.full((6, 6), 4095, np.uint16)).save(tmp_path / "a.png")
    found = image_set.open_set(str(tmp_path), "--real")
    assert "deep_bits=12 gives them" in found.remarks[0]
    (batch,) = image_set.open_set(str(tmp_path), "--real", bits=12).batches(1)
    assert batch.max() == 255


def test_orientation_of_a_png_in_its_xmp(tmp_path):
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    Image.new("RGB", (16, 8)).save(tmp_path / "a.png", pnginfo=info)
    shown, shape = read(tmp_path / "a.png")
    assert shown.shape == shape


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


def test_pictures_that_are_merely_dim_are_not_announced(tmp_path):
    Image.fromarray(np.full((6, 6), 20_000, np.uint16)).save(tmp_path / "a.png")
    assert "16 bits" not in make(**section(tmp_path)).description

"""Zips, links, pipes, folders of the system and sheets: what is read of a place, and what is passed
over."""

import os
import socket
import stat
import zipfile

import numpy as np
import pytest

from gan_jax.data import image_set
from gan_jax.data.sources import decode, listing, places
from gan_jax.report import grids
from tests.helpers import hostile
from tests.helpers.data_sections import complaint, make, section
from tests.helpers.source_files import GREEN, RED, class_folders, picture


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


def test_sheets_are_left_out_by_every_reader(tmp_path):
    """Marked ones by their mark, those of earlier revisions by their names."""
    pixels = np.full((6, 6, 3), 9, np.uint8)
    for name in ("a.png", "000001_ema.png", "sheets/mine.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        grids.save_png(tmp_path / name, pixels)
    for name in (
        "sheets/contact_sheet.png", "000002_ema.png", "000002_ema_0.99.png", "reals.png",
    ):  # fmt: skip
        grids.save_sheet(tmp_path / name, pixels)
    for name in ("contact_sheet.png", "grid.png"):
        grids.save_png(tmp_path / name, pixels)
    found = image_set.open_set(str(tmp_path), "--real")
    assert found.names == ("000001_ema", "a", "sheets/mine")
    assert "contact sheets (6)" in found.remarks[0]
    made = make(**section(tmp_path, labels="none"))
    assert sum(made.sizes.values()) == 3
    assert "contact sheets (6)" in made.description
    assert places.SHEET_FOLDER == grids.SHEET_FOLDER
    assert decode.MARK == grids.MARK


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


@pytest.mark.parametrize(
    "name", ["../../evil.png", "cat/../../evil.png", "..\\evil.png", "a/" * 99]
)
def test_names_in_a_zip_never_lead_out_of_it(tmp_path, name):
    """Whoever writes a picture for each name stays in his own folder."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in (f"{name}evil.png", "cat/0.png", "dog/0.png"):
            picture(tmp_path / "x.png", GREEN)
            archive.writestr(path, (tmp_path / "x.png").read_bytes())
    files = listing.open_files(str(tmp_path / "a.zip"), "--input")
    assert sorted(files.images) == ["cat/0.png", "dog/0.png"]
    made = make(**section(tmp_path / "a.zip"))
    assert "names that lead out of the archive or are too long (1)" in made.description


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_come_twice_in_a_zip_are_said(tmp_path):
    made = make(**zipped(tmp_path / "a.zip", ["cat/0.png", "./cat/0.png", "dog/0.png"]))
    assert sum(made.sizes.values()) == 2
    assert "names that come twice in the archive (1)" in made.description


def test_a_member_that_only_unpacks_to_much_is_no_image(tmp_path):
    """Some of Pillow's readers take a whole file into memory."""
    (tmp_path / "a.zip").write_bytes(hostile.zip_bomb("a.webp", 2**29, b"RIFF\0\0\0\x7fWEBPVP8L"))
    assert "would unpack from" in complaint(**section(tmp_path / "a.zip"))


def test_places_that_cannot_be_are_one_line(tmp_path):
    (tmp_path / "a").symlink_to("a")
    class_folders(tmp_path / "data")
    for place in (tmp_path / "a", tmp_path / "a" / "b", tmp_path / ("x" * 300), "x" * 5000, "a\0b"):
        assert "does not exist" in complaint(**section(place)) or place == tmp_path / "a"
        validation = dict(validation_path=str(place))
        assert "validation_path" in complaint(**section(tmp_path / "data"), **validation)


def test_sheets_beside_train_alone(tmp_path):
    class_folders(tmp_path / "train")
    grids.save_png(tmp_path / "grid.png", np.zeros((6, 6, 3), np.uint8))
    assert make(**section(tmp_path)).class_names == ("ant", "cat")

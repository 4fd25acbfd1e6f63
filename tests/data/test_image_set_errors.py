"""Sets of images that cannot be opened or read: one line that names what is wrong."""

import zipfile

import numpy as np
import pytest

from gan_jax.data.image_set import open_set
from gan_jax.errors import UserError
from tests.helpers.image_sets import complaint, npz
from tests.helpers.pictures import noise, save


def test_nothing_named():
    message = complaint("")
    for word in ("missing", ".zip", ".npz", "tfds:"):
        assert word in message


def test_what_is_not_there_or_holds_no_images(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no image")
    assert "does not exist" in complaint(f"{tmp_path}/nothing")
    assert "neither a directory nor a .zip" in complaint(f"{tmp_path}/notes.txt")
    assert "no such file" in complaint(f"{tmp_path}/nothing.npz")
    assert "no such file" in complaint(f"{tmp_path}/nothing.npz:images")
    assert "holds no image" in complaint(f"{tmp_path}/empty")
    assert ".txt (1)" in complaint(str(tmp_path), "--real")


def test_an_image_that_cannot_be_read(tmp_path):
    for index, image in enumerate(noise(6, 16, 16)):
        save(tmp_path / f"{index}.png", image)
    whole = (tmp_path / "4.png").read_bytes()
    (tmp_path / "4.png").write_bytes(whole[: len(whole) // 2])
    assert "4.png" in complaint(str(tmp_path))
    (tmp_path / "4.png").write_text("no image")
    assert "4.png" in complaint(str(tmp_path))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (noise().astype(np.float32), ["float32 [7, 5, 6, 3]"]),
        (noise().astype(np.int64), ["int64 [7, 5, 6, 3]"]),
        (noise() > 9, ["bool"]),
        (np.asfortranarray(noise()), ["uint8 [7, 5, 6, 3] in Fortran order"]),
        (noise(channels=5), ["uint8 [7, 5, 6, 5]"]),
        (noise().transpose(0, 3, 1, 2).copy(), ["uint8 [7, 3, 5, 6]"]),
        (noise()[0, :, :, 0].copy(), ["uint8 [5, 6]"]),
        (noise()[:0], ["uint8 [0, 5, 6, 3]"]),
        (noise()[:, :0], ["uint8 [7, 0, 6, 3]"]),
        (np.uint8(3), ["uint8 []"]),
        (np.array([{}]), ["object [1]"]),
    ],
    ids=[
        "float",
        "long",
        "bool",
        "fortran",
        "channels",
        "channels_first",
        "one",
        "none",
        "flat",
        "scalar",
        "objects",
    ],
)
def test_arrays_that_are_no_images(tmp_path, array, words):
    message = complaint(npz(tmp_path / "a.npz", images=array))
    for word in ("a.npz: images is", *words, "accepted: uint8 [N, H, W]", "convert"):
        assert word in message


def test_arrays_that_are_not_in_the_file(tmp_path):
    word = npz(tmp_path / "a.npz", images=noise(), extra=noise())
    message = complaint(f"{word}:samples")
    assert "holds images, extra and no samples" in message
    message = complaint(npz(tmp_path / "b.npz", pictures=noise()))
    assert "holds pictures; accepted are images, arr_0" in message
    assert "b.npz:NAME" in message
    with zipfile.ZipFile(tmp_path / "c.npz", "w"):
        pass
    assert "holds no arrays" in complaint(f"{tmp_path}/c.npz")


def damage(path, place, count=30):
    """Overwrites `count` bytes."""
    raw = bytearray(path.read_bytes())
    raw[place : place + count] = b"\xff" * count
    path.write_bytes(raw)


@pytest.mark.parametrize("compressed", [False, True])
def test_an_npz_that_is_cut_off_or_damaged(tmp_path, compressed):
    path = tmp_path / "a.npz"
    word = npz(path, compressed, images=noise(40, 32, 32))
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:size])
        assert "a.npz" in complaint(word)
    # the array's head, its middle, and the list of what the file holds
    for place in (60, len(whole) // 2, whole.rindex(b"PK\1\2")):
        path.write_bytes(whole)
        damage(path, place)
        assert "a.npz" in complaint(word)


def test_an_array_that_ends_before_its_shape_says(tmp_path):
    word = npz(tmp_path / "a.npz", images=noise(8))
    with zipfile.ZipFile(word) as archive:
        raw = archive.read("images.npy")
    with zipfile.ZipFile(word, "w") as archive:
        archive.writestr("images.npy", raw[: -5 * 90 - 1])  # two images and most of a third
    assert "ends early" in complaint(word)
    # the rows 0 and 4: the end is met between them
    with pytest.raises(UserError, match=r"--fake=.*ends early"):
        list(open_set(word, "--fake", limit=2).batches(1))


def test_a_file_under_the_wrong_name(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"no archive at all")
    assert "not a readable npz" in complaint(f"{tmp_path}/a.npz")
    with (tmp_path / "b.npz").open("wb") as file:
        np.save(file, noise())
    assert "not a readable npz" in complaint(f"{tmp_path}/b.npz")
    np.savez(tmp_path / "c.npz", images=noise(1), labels=np.array([{}]))
    assert "not a readable npz of plain arrays" in complaint(f"{tmp_path}/c.npz")
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("images.npy", b"not numpy's format")
    assert "not a readable npz" in complaint(f"{tmp_path}/d.npz")

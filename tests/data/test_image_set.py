"""Sets of images as the metrics read them: every way to name one, order, batches, and refusals."""

import json
import tracemalloc
import zipfile

import numpy as np
import pytest
from tensorflow_datasets.core import constants

from gan_jax.data.image_set import of_array, open_set
from tests.helpers.image_sets import complaint, npz, read
from tests.helpers.pictures import noise, save
from tests.helpers.prepared_tfds import prepare


@pytest.fixture
def classes(tmp_path):
    """Two sub-folders with 4 and 3 images, and the images in the order of their paths."""
    pixels = noise()
    names = [f"ant/{i}.png" for i in range(4)] + [f"cat/in/{i}.png" for i in range(3)]
    for name, image in zip(reversed(names), pixels[::-1], strict=True):
        save(tmp_path / "classes" / name, image)
    return tmp_path / "classes", pixels


# ---------------------------------------------------------------- files


def check_classes(found, pixels):
    assert len(found) == found.count == 7
    assert [len(batch) for batch in found.batches(3)] == [3, 3, 1]
    for size in (1, 3, 7, 100):
        np.testing.assert_array_equal(read(found, size), pixels)
    assert found.labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert found.class_names == ("ant", "cat")
    assert found.names == ("ant/0", "ant/1", "ant/2", "ant/3", "cat/in/0", "cat/in/1", "cat/in/2")


def test_a_folder_in_the_order_of_paths_with_sub_folders_as_classes(classes):
    folder, pixels = classes
    (folder / "ant" / "notes.txt").write_text("no image")
    found = open_set(str(folder), "--real")
    check_classes(found, pixels)
    assert found.title == str(folder)


@pytest.mark.parametrize("around", ["", "export/"])
def test_a_zip_is_read_like_its_folder(classes, around):
    folder, pixels = classes
    with zipfile.ZipFile(folder.parent / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*.png"), reverse=True):
            archive.write(path, around + path.relative_to(folder).as_posix())
    check_classes(open_set(str(folder.parent / "a.zip"), "--real"), pixels)


def test_a_flat_folder_has_no_classes(tmp_path):
    for index, image in enumerate(noise(3)):
        save(tmp_path / f"{index}.png", image)
    found = open_set(str(tmp_path), "--real")
    assert (found.labels, found.class_names) == (None, ())
    assert found.names == ("0", "1", "2")


def test_images_beside_sub_folders_are_read_without_classes(tmp_path):
    pixels = noise(2)
    save(tmp_path / "a.png", pixels[0])
    save(tmp_path / "b" / "c.png", pixels[1])
    found = open_set(str(tmp_path), "--real")
    np.testing.assert_array_equal(read(found), pixels)
    assert (found.labels, found.class_names) == (None, ())


def test_classes_of_a_table(classes):
    folder, _ = classes
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    table = {"labels": [[name, index % 3] for index, name in enumerate(names)]}
    (folder / "dataset.json").write_text(json.dumps(table))
    found = open_set(str(folder), "--real")
    assert found.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert found.class_names == ("0", "1", "2")


def test_endings_do_not_decide_the_order(tmp_path):
    """Sorted with its ending, a.jpg is before a.k.jpg, but a.png behind a.k.png."""
    for ending in ("jpg", "png"):
        for name in ("a", "a.k", "b"):
            save(tmp_path / ending / f"{name}.{ending}", noise(1)[0])
        assert open_set(str(tmp_path / ending), "--real").names == ("a", "a.k", "b")


def test_images_of_several_shapes_come_as_a_list(tmp_path):
    sizes = [(4, 4), (4, 4), (4, 6), (5, 4), (8, 8)]
    pixels = [noise(1, *size, seed=i)[0] for i, size in enumerate(sizes)]
    for index, image in enumerate(pixels):
        save(tmp_path / f"{index}.png", image)
    found = open_set(str(tmp_path), "--real")
    assert found.shape is None
    batches = list(found.batches(2))
    assert isinstance(batches[0], np.ndarray)
    assert isinstance(batches[1], list)
    assert batches[2].shape == (1, 8, 8, 3)  # alone it is of one shape
    for image, expected in zip((i for batch in batches for i in batch), pixels, strict=True):
        np.testing.assert_array_equal(image, expected)


def test_grey_keeps_one_channel_and_alpha_is_dropped(tmp_path):
    pixels = noise(3, channels=4)
    save(tmp_path / "0.png", pixels[0, :, :, :1])
    save(tmp_path / "1.png", pixels[1, :, :, :2])  # grey and alpha
    save(tmp_path / "2.png", pixels[2])
    grey, other = open_set(str(tmp_path), "--real").batches(2)
    np.testing.assert_array_equal(grey, pixels[:2, :, :, :1])
    np.testing.assert_array_equal(other, pixels[2:, :, :, :3])
    (mixed,) = open_set(str(tmp_path), "--real").batches(3)
    assert [image.shape for image in mixed] == [(5, 6, 1), (5, 6, 1), (5, 6, 3)]


# ---------------------------------------------------------------- npz

ORDER = ("images", "arr_0", "x_test", "x_validation", "x_train")
PARTNERS = ("labels", "arr_1", "y_test", "y_validation", "y_train")


@pytest.mark.parametrize("first", range(5))
def test_an_npz_gives_the_first_array_it_has(tmp_path, first):
    pixels = {name: noise(4, seed=i) for i, name in enumerate(ORDER)}
    labels = {name: np.arange(4) + i for i, name in enumerate(PARTNERS)}
    held = {name: pixels[name] for name in ORDER[first:]}
    held |= {name: labels[name] for name in PARTNERS[first:]}
    word = npz(tmp_path / "a.npz", **dict(reversed(held.items())))
    found = open_set(word, "--real")
    np.testing.assert_array_equal(read(found), pixels[ORDER[first]])
    assert found.labels.tolist() == labels[PARTNERS[first]].tolist()
    assert found.class_names == tuple(map(str, range(4 + first)))
    assert found.title == f"{tmp_path}/a.npz:{ORDER[first]}"
    assert (found.shape, found.names) == ((5, 6, 3), ())


def test_an_array_of_an_npz_by_name(tmp_path):
    pixels = noise(4)
    word = npz(tmp_path / "a.npz", images=noise(3, seed=1), labels=np.arange(3), samples=pixels)
    found = open_set(f"{word}:samples", "--real")
    np.testing.assert_array_equal(read(found), pixels)
    assert (found.labels, found.class_names) == (None, ())
    assert open_set(f"{word}:images", "--real").labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("channels", [0, 1, 2, 3, 4])
def test_channels_of_an_npz(tmp_path, channels, compressed):
    pixels = noise(4, channels=max(channels, 1))
    stored = pixels if channels else pixels[:, :, :, 0]
    found = open_set(npz(tmp_path / "a.npz", compressed, images=stored), "--real")
    kept = 1 if channels < 3 else 3
    assert found.shape == (5, 6, kept)
    assert [len(batch) for batch in found.batches(3)] == [3, 1]
    np.testing.assert_array_equal(read(found), pixels[:, :, :, :kept])
    np.testing.assert_array_equal(read(found, 1), read(found, 50))  # any number of times


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.array([2, 0, 1, 0], np.uint8), [2, 0, 1, 0]),
        (np.array([[2], [0], [1], [0]]), [2, 0, 1, 0]),  # CIFAR's
        (np.eye(4, dtype=int), None),
        (np.array([0.5, 1, 2, 3]), None),
        (np.array(["a", "b", "a", "b"]), None),
        (np.arange(3), None),
    ],
    ids=["bytes", "column", "one_hot", "floats", "words", "too_few"],
)
def test_labels_that_are_a_class_for_each_image(tmp_path, labels, expected):
    found = open_set(npz(tmp_path / "a.npz", arr_0=noise(4), arr_1=labels), "--real")
    if expected is None:
        assert (found.labels, found.class_names) == (None, ())
    else:
        assert found.labels.tolist() == expected
        assert found.class_names == ("0", "1", "2")
    assert len(read(found)) == 4


@pytest.mark.parametrize("compressed", [False, True])
def test_an_npz_is_a_stream(tmp_path, monkeypatch, compressed):
    """6 MB pass through the memory of a few batches."""
    pixels = np.repeat(noise(20, 32, 32), 100, axis=0)
    word = npz(tmp_path / "a.npz", compressed, images=pixels, labels=np.arange(2000))

    def refuse(*args, **options):
        raise AssertionError("the whole array is read")

    monkeypatch.setattr(np, "load", refuse)
    rows = 0
    tracemalloc.start()
    try:
        for batch in open_set(word, "--real").batches(16):
            np.testing.assert_array_equal(batch, pixels[rows : rows + 16])
            rows += 16
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert rows == 2000
    assert peak < 2**20


def test_an_array_in_memory():
    pixels = noise()
    found = of_array(pixels, np.arange(7), "samples")
    assert [len(batch) for batch in found.batches(3)] == [3, 3, 1]
    np.testing.assert_array_equal(read(found), pixels)
    assert (found.count, found.shape, found.title) == (7, (5, 6, 3), "samples")
    assert found.labels.tolist() == list(range(7))


# ---------------------------------------------------------------- tfds


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with a tfds data set of 9 + 4 images, prepared without TensorFlow."""
    root = tmp_path_factory.mktemp("tfds")
    prepare(root, 9, 4)
    return root


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("tfds:tiny_pictures", range(9, 13)),
        ("tfds:tiny_pictures:", range(9, 13)),
        ("tfds:tiny_pictures:train", range(9)),
    ],
)
def test_tfds(prepared, monkeypatch, word, expected):
    monkeypatch.setattr(constants, "DATA_DIR", str(prepared))  # tfds reads TFDS_DATA_DIR but once
    found = open_set(word, "--real")
    reds = read(found)[:, 0, 0, 0].tolist()
    assert sorted(reds) == list(expected)
    assert found.labels.tolist() == [red % 2 for red in reds]
    assert found.class_names == ("ant", "cat")
    assert (found.title, found.names) == (word, ())
    limited = open_set(word, "--real", limit=2)
    assert read(limited)[:, 0, 0, 0].tolist() == [reds[0], reds[len(reds) // 2]]


def test_a_part_of_a_tfds_split(prepared, monkeypatch):
    monkeypatch.setattr(constants, "DATA_DIR", str(prepared))
    assert len(open_set("tfds:tiny_pictures:train[:3]", "--real")) == 3


def test_tfds_that_is_not_there(prepared, monkeypatch):
    monkeypatch.setattr(constants, "DATA_DIR", str(prepared))
    for word in ("tfds:no_such_set", "tfds:tiny_pictures:dev", "tfds:"):
        assert "TFDS_DATA_DIR" in complaint(word)
    assert "dev" in complaint("tfds:tiny_pictures:dev")


# ---------------------------------------------------------------- limit


@pytest.mark.parametrize("kind", ["folder", "npz", "compressed"])
@pytest.mark.parametrize(
    ("limit", "rows"),
    [
        (1, [0]),
        (3, [0, 3, 6]),
        (4, [0, 2, 5, 7]),
        (9, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (10, list(range(10))),
        (99, list(range(10))),
        (0, list(range(10))),
    ],
)
def test_a_limit_takes_the_same_rows_evenly_in_any_batches(tmp_path, kind, limit, rows):
    pixels = noise(10)
    if kind == "folder":
        for index, image in enumerate(pixels):
            save(tmp_path / f"c{index // 5}" / f"{index}.png", image)
        word = str(tmp_path)
    else:
        labels = np.arange(10) // 5
        word = npz(tmp_path / "a.npz", kind == "compressed", images=pixels, labels=labels)
    found = open_set(word, "--real", limit=limit)
    assert len(found) == len(rows)
    assert found.labels.tolist() == [row // 5 for row in rows]
    assert found.names == (tuple(f"c{r // 5}/{r}" for r in rows) if kind == "folder" else ())
    assert found.class_names in (("c0", "c1"), ("0", "1"))
    for size in (1, 2, 3, 50):
        np.testing.assert_array_equal(read(found, size), pixels[rows])

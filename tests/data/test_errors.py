"""What a user can get wrong: one line that names the key or file, what is accepted, what to do."""

import gzip
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from gan_jax import data
from gan_jax.errors import UserError
from tests.helpers.data_sections import Stage, complaint, make
from tests.helpers.source_files import class_folders, idx_directory, picture


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": "mnist"}, "data.source='mnist' digits idx npz folder tfds synthetic"),
        ({"channels": "gray"}, "data.channels='gray' grey rgb as_is"),
        ({"resize": "fit"}, "data.resize='fit' none crop random_crop squash"),
        ({"resize_filter": "area"}, "data.resize_filter='area' bicubic bilinear lanczos box"),
        ({"labels": "names"}, "data.labels='names' none auto folder prefix json"),
        ({"on_error": "ignore"}, "data.on_error='ignore' raise skip"),
        ({"validation_fraction": 1.0}, "data.validation_fraction=1.0 [0, 1)"),
        ({"resolution": 0}, "data.resolution=0 at least 1"),
        ({"pad": -1}, "data.pad=-1 at least 0"),
        ({"pad_value": 256}, "data.pad_value=256 from 0 to 255"),
        ({"limit": -1}, "data.limit=-1 at least 0"),
        ({"source": "folder"}, "data.path data.source=folder"),
        ({"source": "npz"}, "data.path data.source=npz"),
        ({"source": "idx"}, "data.path data.source=idx"),
        ({"source": "tfds"}, "data.name data.source=tfds"),
        ({"labels": "folder"}, "data.labels=folder data.source=folder digits"),
        ({"validation_path": "x"}, "data.validation_path data.source=folder digits"),
        ({"validation_split": "dev"}, "data.validation_split=dev validation, test, t10k"),
        ({"train_split": "test"}, "data.train_split=test 'train'"),
        ({"resolution": 31}, "28x28 data.resolution=31 data.resolution=28 data.resize data.pad"),
        ({"pad": 1}, "30x30 data.pad=1 data.resolution=28"),
    ],
)
def test_config_values(changes, words):
    message = complaint(**changes)
    for word in words.split(" "):
        assert word in message


def test_wrong_types_of_any_object():
    section = SimpleNamespace(**data.defaults() | {"flip": "yes"})
    with pytest.raises(UserError, match=r"data\.flip='yes': a bool is expected"):
        data.make(section)
    section = SimpleNamespace(**data.defaults() | {"validation_fraction": 0})
    assert data.make(section).sizes["train"] == 10_000


def test_missing_places(tmp_path):
    nowhere = str(tmp_path / "nowhere")
    for source in ("folder", "npz", "idx"):
        message = complaint(source=source, path=nowhere)
        assert f"data.path={nowhere}" in message
    (tmp_path / "a.txt").touch()
    assert "neither a directory nor a .zip" in complaint(
        source="folder", path=str(tmp_path / "a.txt")
    )
    message = complaint(source="folder", path=str(tmp_path))
    for word in (str(tmp_path), "no image", ".txt (1)", ".jpg .jpeg .jpe .jfif .png .gif"):
        assert word in message
    assert "train-images-idx3-ubyte" in complaint(source="idx", path=str(tmp_path))
    (tmp_path / "a.zip").write_bytes(b"no zip")
    assert "not a readable zip" in complaint(source="folder", path=str(tmp_path / "a.zip"))
    zipfile.ZipFile(tmp_path / "b.zip", "w").close()
    assert "no image" in complaint(source="folder", path=str(tmp_path / "b.zip"))
    section = class_folders(tmp_path / "good")
    message = complaint(**section, validation_path=nowhere)
    assert f"data.validation_path={nowhere}" in message


def test_damaged_idx(tmp_path):
    section = idx_directory(tmp_path, ".gz")
    images, labels = (tmp_path / f"train-{n}-ubyte.gz" for n in ("images-idx3", "labels-idx1"))
    whole, own = images.read_bytes(), labels.read_bytes()
    images.write_bytes(whole[:-9])
    assert f"{images}: damaged" in complaint(**section)
    images.write_bytes(gzip.compress(gzip.decompress(whole)[:-1]))
    assert "12x3x3 bytes, 107 follow" in complaint(**section)
    images.write_bytes(own)
    assert "starts with 0x00000801" in complaint(**section)
    images.write_bytes(gzip.compress(b""))
    assert "fetch it again" in complaint(**section)
    images.write_bytes(whole)
    labels.write_bytes((tmp_path / "t10k-labels-idx1-ubyte.gz").read_bytes())
    assert "5 labels for the 12 images" in complaint(**section)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.zeros(3)}, ["holds x;", "x_train", "images", "arr_0"]),
        ({"images": np.zeros((2, 4, 4, 3), np.float32)}, ["images", "float32", "uint8"]),
        ({"images": np.zeros((2, 3, 4, 5), np.uint8)}, ["[2, 3, 4, 5]", "[N, H, W, C]"]),
        ({"images": np.zeros((0, 4, 4), np.uint8)}, ["[0, 4, 4]", "N > 0"]),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.zeros(3, int)}, ["2 images"]),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.zeros(2)}, ["float64", "integers"]),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": -np.ones(2, int)}, ["-1", "0"]),
        ({"images": np.array([None])}, ["npz of plain arrays"]),
    ],
)
def test_npz(tmp_path, arrays, words):
    np.savez(tmp_path / "a.npz", **arrays)
    message = complaint(source="npz", path=str(tmp_path / "a.npz"), resolution=4)
    for word in words:
        assert word in message
    assert str(tmp_path) in message


def test_npz_damaged_or_without_the_split(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"no npz")
    section = {"source": "npz", "path": str(path), "resolution": 4}
    assert "not a readable npz" in complaint(**section)
    np.savez(path, images=np.zeros((4, 4, 4), np.uint8))
    assert "data.validation_split=test" in complaint(**section, validation_split="test")


def broken_folder(tmp_path, kind, name="2.png"):
    for i in range(6):
        picture(tmp_path / f"{i}.png", (10 * i, 100, 100))
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2] if kind == "cut" else b"no image")
    return {
        "source": "folder",
        "path": str(tmp_path),
        "resolution": 6,
        "validation_fraction": 0.0,
    }


@pytest.mark.parametrize("kind", ["cut", "foreign"])
@pytest.mark.parametrize("cache_mb", [1, 0])
def test_unreadable_image_is_named(tmp_path, kind, cache_mb):
    section = broken_folder(tmp_path, kind)

    def train():  # what is not kept in memory is met in the reading thread
        next(make(**section, cache_mb=cache_mb)("train", Stage(6), 0))

    with pytest.raises(UserError, match=r"cannot read .*/2\.png .*data\.on_error=skip") as caught:
        train()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["cut", "foreign"])
def test_unreadable_image_can_be_skipped(tmp_path, kind):
    section = broken_folder(tmp_path, kind)
    kept, read = (make(**section, on_error="skip", cache_mb=mb) for mb in (1, 0))
    assert kept.skipped == 1
    a, b = kept.all("train"), read.all("train")
    assert read.skipped == 1
    np.testing.assert_array_equal(a["image"], b["image"])
    shown = a["image"][:, 0, 0, 0].tolist()
    assert sorted(set(shown)) == [0, 10, 30, 40, 50]
    double = max(set(shown), key=shown.count)
    first = shown.index(double)
    assert shown[(first + 1) % 6] == double or shown[first - 1] == double  # the next one stands in


def test_nothing_readable(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    section = {"source": "folder", "path": str(tmp_path), "on_error": "skip"}
    assert "none of the" in complaint(**section)
    assert "none of its 1 images" in complaint(**section, channels="rgb")


def test_mixed_and_wrong_sizes_show_before_training(tmp_path):
    for i, size in enumerate([(6, 6), (6, 6), (8, 5)]):
        picture(tmp_path / f"{i}.png", size=size)
    section = {"source": "folder", "path": str(tmp_path), "resolution": 6, "cache_mb": 0}
    message = complaint(**section)
    for word in ("2.png is 8x5", ".png is 6x6", "data.resize=crop", "squash"):
        assert word in message
    (tmp_path / "0.png").unlink()
    (tmp_path / "1.png").unlink()
    message = complaint(**section)
    assert "is 8x5" in message
    assert "data.resolution=6" in message


def test_labels_that_are_absent(tmp_path):
    picture(tmp_path / "a.png")
    section = {"source": "folder", "path": str(tmp_path), "resolution": 6}
    assert "a.png: lies in no sub-folder" in complaint(**section, labels="folder")
    assert "dataset.json is absent" in complaint(**section, labels="json")
    picture(tmp_path / "cat" / "b.png")
    assert "a.png: lies in no sub-folder" in complaint(**section)
    table = tmp_path / "dataset.json"
    table.write_text('{"labels": null}')
    assert "dataset.json is absent or holds no labels" in complaint(**section, labels="json")
    table.write_text('{"labels": [["a.png", 0]]}')
    assert "no class for cat/b.png" in complaint(**section)
    table.write_text('{"labels": [["a.png", 0], ["cat/b.png", "x"]]}')
    assert "cat/b.png has class 'x'" in complaint(**section)
    for damaged in ("{", "[]", '{"labels": [1]}'):
        table.write_text(damaged)
        assert "dataset.json: cannot be read" in complaint(**section)


def test_folders_that_overlap(tmp_path):
    section = class_folders(tmp_path / "a")
    inside = str(tmp_path / "a" / "cat")
    assert "overlaps with config.data.path" in complaint(**section, validation_path=section["path"])
    assert "overlaps with config.data.path" in complaint(**section, validation_path=inside)
    same = complaint(**section, train_split="cat", validation_split="cat")
    assert "validation_split=cat overlaps with config.data.train_split=cat" in same
    nested = complaint(**section, train_split="cat", validation_split="cat/deep")
    assert "overlaps" in nested
    assert "data.validation_split=dog" in complaint(
        **section, train_split="cat", validation_split="dog"
    )
    assert "data.train_split=dog" in complaint(**section, train_split="dog")

"""Shards: written from any source, read by process, the same bits as the source."""

import io
import itertools
import json
import os
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from gan_jax import data
from gan_jax.data import sharding, storing
from gan_jax.data.sources import decode, shards
from gan_jax.modes.actions.store import store
from tests.helpers import lsun, prepared_tfds
from tests.helpers.data_sections import Stage, complaint, joined, share, typed
from tests.helpers.one_line import assert_refused, refused_argument


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photos of several formats and sizes, in two splits and three classes; one is turned by its
    EXIF tag, one is grey, one cannot be read."""
    root = tmp_path_factory.mktemp("photos")
    for i in range(26):
        place = root / ("train" if i < 20 else "val") / "cab"[i % 3]
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (12 + i, 16, 3), np.uint8)
        image = Image.fromarray(pixels[..., 0] if i == 4 else pixels)
        exif = Image.Exif()
        exif[decode.ORIENTATION] = 6 if i == 5 else 1
        image.save(place / f"{i:02}.{('png', 'jpg', 'webp')[i % 3]}", exif=exif)
    (root / "train" / "a" / "99.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def written(folder, tmp_path_factory):
    """The shards of the photos as they are."""
    out = tmp_path_factory.mktemp("shards") / "photos"
    assert store(folder, out) == {"kept": 26, "unreadable": 1}
    return out


def opened(source, path, *own_rows, **changes):
    section = {"source": source, "path": str(path), "resolution": 8, "resize": "random_crop"}
    section |= {"flip": True, "cache_mb": 0, "on_error": "skip"}
    return data.make(typed(**section | changes), *own_rows)


def batches(made, split="train", size=4):
    return list(itertools.islice(made(split, Stage(size), 0), 6))


def assert_same_data(a, b, splits=("train", "validation")):
    assert a.class_names == b.class_names
    assert (a.channels, a.num_classes) == (b.channels, b.num_classes)
    assert {name: a.sizes[name] for name in splits} == {name: b.sizes[name] for name in splits}
    for split in splits:
        for one, other in zip(batches(a, split), batches(b, split), strict=True):
            for key in one:
                np.testing.assert_array_equal(one[key], other[key])


@pytest.fixture(scope="module")
def readable(folder, tmp_path_factory):
    """The photos without the one that cannot be read."""
    root = tmp_path_factory.mktemp("readable")
    for path in folder.rglob("*.*"):
        if path.name != "99.png":
            place = root / path.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path)
    return root


def test_training_from_shards_is_training_from_the_folder(readable, written):
    """Files are stored byte by byte, so crops, flips, classes, splits and order are the same."""
    for changes in ({}, {"labels": "none"}, {"resize": "squash", "channels": "grey"}):
        assert_same_data(
            opened("folder", readable, **changes), opened("shards", written, **changes)
        )


def test_a_fraction_is_the_same_fraction(readable, tmp_path):
    store(readable / "train", tmp_path / "shards")
    sources = (("folder", readable / "train"), ("shards", tmp_path / "shards"))
    assert_same_data(*(opened(*source, validation_fraction=0.3, limit=9) for source in sources))


@pytest.mark.parametrize("encoding", storing.ENCODINGS)
def test_squares_are_those_that_training_would_crop(readable, tmp_path, encoding):
    store(readable, tmp_path / "shards", 10, encoding=encoding)
    photos = opened("folder", readable, resize="crop", resolution=10)
    squares = opened("shards", tmp_path / "shards", resize="none", resolution=10)
    assert_same_data(photos, squares)
    index = shards.read_index(tmp_path / "shards")
    assert index["verdicts"] == {"resized": 26}


def test_squashed_squares_in_a_zip(readable, tmp_path):
    counts = store(readable, tmp_path / "a.zip", 10, "squash")
    assert counts == {"resized": 26}
    photos = opened("folder", readable, resize="squash", resolution=10)
    assert_same_data(photos, opened("folder", tmp_path / "a.zip", resize="none", resolution=10))
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        names = archive.namelist()
    assert {name.rpartition("/")[0] for name in names} == {
        f"{split}/{name}" for split in ("train", "validation") for name in "abc"
    }
    lines = (tmp_path / "a.report.jsonl").read_text().splitlines()
    assert [json.loads(line)["stored"] for line in lines] == names


def test_grey_files_of_twelve_bits(tmp_path, lines):
    """What is resized is stored with 8 bits, and so is what has the size already: a run cannot say
    of the one that it has 12 bits, and not of the other."""
    (tmp_path / "photos").mkdir()
    for side in (10, 14, 12, 11):  # a batch
        ramp = np.linspace(0, 4095, side * side).astype(np.uint16).reshape(side, side)
        Image.fromarray(ramp).save(tmp_path / "photos" / f"{side}.png")
    store(tmp_path / "photos", tmp_path / "dark", 10)
    assert any("values of 16 bits end at 4,095" in line and " deep_bits=12 " in line
               for line in lines)  # fmt: skip
    lines.clear()
    assert store(tmp_path / "photos", tmp_path / "shards", 10, deep_bits=12) == {
        "converted": 1, "resized": 3,
    }  # fmt: skip
    assert not any("16 bits" in line for line in lines)
    asked = {"resolution": 10, "validation_fraction": 0}
    photos = opened("folder", tmp_path / "photos", resize="crop", deep_bits=12, **asked)
    assert_same_data(
        photos, opened("shards", tmp_path / "shards", resize="none", **asked), ("train",)
    )
    assert store(tmp_path / "photos", tmp_path / "a.zip", deep_bits=12) == {"converted": 4}
    asked["resize"] = "crop"
    assert_same_data(
        opened("folder", tmp_path / "photos", deep_bits=12, **asked),
        opened("folder", tmp_path / "a.zip", **asked), ("train",),
    )  # fmt: skip
    asked.pop("resize")
    dark = opened("shards", tmp_path / "dark", resize="none", **asked)
    assert dark.all("train")["image"].max() < 16
    refused_argument("deep_bits", "^=8", store, "photos", tmp_path / "more", 10, deep_bits=8)


def test_a_process_reads_only_its_own_records(written, monkeypatch):
    whole = opened("shards", written)
    parts = [opened("shards", written, share(index, 2)) for index in range(2)]
    read, content = [], shards.ShardSource.content

    def noted(source, i):
        read.append(i)
        return content(source, i)

    monkeypatch.setattr(shards.ShardSource, "content", noted)
    expected = batches(whole)
    shares = []
    for part in parts:
        read.clear()
        shares.append(batches(part))
        assert len(read) <= (6 + 4) * 2  # two of the four rows of a batch, and four batches ahead
    for k, batch in enumerate(expected):
        for key in batch:
            own = joined([share_of_one[k][key] for share_of_one in shares])
            np.testing.assert_array_equal(own, batch[key])


def test_no_header_is_read(written, monkeypatch):
    def refuse(*_):
        raise AssertionError("a header was read")

    monkeypatch.setattr(decode, "shape_of", refuse)
    made = opened("shards", written, channels="as_is")
    assert made.channels == 3


# ---------------------------------------------------------------- writing


def test_a_verdict_about_each_file(folder, written):
    lines = [json.loads(line) for line in (written / shards.REPORT).read_text().splitlines()]
    assert len(lines) == 27
    assert [line["file"] for line in lines if line["verdict"] == "unreadable"] == [
        f"{folder}/train/a/99.png"
    ]
    [bad] = [line for line in lines if "reason" in line]
    assert "not an image" in bad["reason"]
    last = {"split": "validation", "file": f"{folder}/val/c/24.png", "verdict": "kept"}
    assert lines[-1] == {**last, "class": "c", "stored": "validation-00000.array_record[5]"}


def content_of(place):
    return {path.name: path.read_bytes() for path in place.iterdir()}


def test_a_call_that_was_interrupted_goes_on(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sharding, "SHARD_BYTES", 4000)
    store(folder, tmp_path / "whole")
    out, made, stored = tmp_path / "shards", [], storing.stored

    def interrupted(*args):
        made.append(args[1])
        if len(made) > 14:
            raise KeyboardInterrupt
        return stored(*args)

    with monkeypatch.context() as patch:
        patch.setattr(storing, "stored", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store(folder, out)
    first = out / "train-00000.array_record"
    before = first.stat().st_mtime_ns
    assert "holds no shards" in complaint(source="shards", path=str(out))
    refused_argument("out", "part of other shards", store, folder, out, side=9)
    assert store(folder, out) == {"kept": 26, "unreadable": 1}
    assert first.stat().st_mtime_ns == before
    assert content_of(out) == content_of(tmp_path / "whole")
    assert len(shards.read_index(out)["splits"]["train"]) > 2


def test_nothing_that_is_there_is_replaced(folder, written, tmp_path):
    before = content_of(written)
    (written / sharding.WORK).mkdir()  # which a kill after the last write has left
    assert store(folder, written) == {"kept": 26, "unreadable": 1}
    refused_argument("out", "other shards", store, folder, written, side=9)
    assert content_of(written) == before
    (tmp_path / "notes.txt").touch()
    refused_argument("out", "is not empty", store, folder, tmp_path)
    (tmp_path / "a.zip").touch()
    refused_argument("out", "exists", store, folder, tmp_path / "a.zip")
    refused_argument("out", "missing", store, folder, "")
    refused_argument("source", "does not exist", store, tmp_path / "none", tmp_path / "out")
    assert_refused("side=-1", store, folder, tmp_path / "out", side=-1)


def test_the_lock_is_released_before_it_is_removed(readable, tmp_path, monkeypatch):
    """A network file system would keep the folder of a file that is open."""
    remove, removed = shutil.rmtree, []

    def checked(path, **options):
        with sharding.alone(path / sharding.LOCK, "out"):
            removed.append(path)
        remove(path, **options)

    monkeypatch.setattr(sharding.shutil, "rmtree", checked)
    store(readable, tmp_path / "out")
    assert removed == [tmp_path / "out" / sharding.WORK]
    assert not removed[0].exists()


def test_a_set_without_a_readable_image(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.png").write_bytes(b"no image")
    for out in ("shards", "a.zip"):
        assert_refused("none of 1 images can be read", store, tmp_path / "a", tmp_path / out)
    assert not (tmp_path / "a.zip").exists()


# ---------------------------------------------------------------- other sources


def test_packed_tars_of_tars(readable, tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as outer:
        for name in "abc":
            packed = io.BytesIO()
            with tarfile.open(fileobj=packed, mode="w") as inner:
                for path in sorted((readable / "train" / name).iterdir()):
                    inner.add(path.resolve(), path.name)
            info = tarfile.TarInfo(f"{name}.tar")
            info.size = len(packed.getvalue())
            outer.addfile(info, io.BytesIO(packed.getvalue()))
    store(tmp_path / "a.tar.gz", tmp_path / "shards")
    sources = (("folder", readable / "train"), ("shards", tmp_path / "shards"))
    assert_same_data(*(opened(*source) for source in sources))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "shards"]
    (tmp_path / "b.tgz").write_bytes((tmp_path / "a.tar.gz").read_bytes()[:-100])
    (tmp_path / "c.tar.bz2").write_bytes(b"BZh9, or rather not")
    before = sorted(tmp_path.iterdir())
    for name in ("b.tgz", "c.tar.bz2"):
        refused_argument("source", "is damaged", store, tmp_path / name, tmp_path / "other")
    assert sorted(tmp_path.iterdir()) == before


def test_an_lmdb_of_lsun(tmp_path):
    (tmp_path / "lmdb").mkdir()
    (tmp_path / "lmdb" / "data.mdb").write_bytes(lsun.content())
    assert store(tmp_path / "lmdb", tmp_path / "shards", 6) == {"kept": 59, "resized": 1}
    section = {"resize": "none", "resolution": 6, "flip": False, "validation_fraction": 0.0}
    made = opened("shards", tmp_path / "shards", **section)
    assert made.num_classes == 0
    reds = made.all("train")["image"][:, 0, 0, 0].tolist()
    assert len(reds) == lsun.COUNT
    assert {*range(lsun.COUNT)} - {lsun.LONG} <= {*reds}  # that one was resized


def test_a_tfds_data_set(tmp_path, monkeypatch):
    prepared_tfds.prepare(tmp_path / "tfds", 12, 4)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    for words, split in (("train,test", "test"), ("train", "")):
        out = tmp_path / f"shards{split}"
        store(f"tfds:tiny_pictures:{words}", out)
        changes = {"resolution": 4, "resize": "crop", "validation_split": split}
        original = opened("tfds", tmp_path / "tfds", name="tiny_pictures", **changes)
        assert_same_data(original, opened("shards", out, **changes | {"validation_split": ""}))


# ---------------------------------------------------------------- damage


@pytest.fixture
def copied(written, tmp_path):
    """A copy of the shards, and a function that says what is wrong with it."""
    shutil.copytree(written, tmp_path / "copy")
    return tmp_path / "copy", lambda: complaint(source="shards", path=str(tmp_path / "copy"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "other"}, "no index of shards"),
        ({"version": 2}, "version 2, and 1 is read"),
        ({"classes": [1]}, "`classes` is no list of names"),
        ({"classes": ["a"]}, "labels or shapes are out of range"),
        ({"splits": {}}, "`splits` is to name train"),
        ({"splits": {"train": [{"file": "../a", "count": 1, "bytes": 1}]}}, "no list of shards"),
        ({"splits": {"train": [{"file": "a.array_record"}]}}, "no list of shards"),
        ({"splits": {"train": [{"file": "a.array_record", "count": 1, "bytes": 9}]}}, "is missing"),
        ({"sorted_by_class": 1}, "is missing"),
    ],
)
def test_an_index_that_makes_no_sense(copied, changes, words):
    folder, said = copied
    index = json.loads((folder / shards.INDEX).read_text())
    (folder / shards.INDEX).write_text(json.dumps(index | changes))
    message = said()
    assert words in message
    assert "--mode=prepare" in message


def test_damaged_shards(copied):
    folder, said = copied
    shard, arrays = folder / "train-00000.array_record", folder / shards.ARRAYS
    whole, numbers = shard.read_bytes(), arrays.read_bytes()
    raw = bytearray(whole)
    raw[2_000:2_020] = bytes(20)
    shard.write_bytes(raw)  # found by its checksum when a record is read
    made = opened("shards", folder, on_error="raise", flip=False)
    assert_refused(r"train-00000\.array_record\[\d+\].*mismatch.*on_error=skip", made.all, "train")
    shard.write_bytes(b"\0" * len(whole))
    made = opened("shards", folder, on_error="raise")
    assert_refused("cannot read", made.all, "train")
    shard.write_bytes(whole[:-1])
    assert f"has {len(whole) - 1:,} bytes, not {len(whole):,}" in said()
    shard.unlink()
    os.mkfifo(shard)
    assert "is missing" in said()
    shard.unlink()
    shard.write_bytes(whole)
    arrays.write_bytes(numbers[:-50])
    assert "index.npz" in said()
    np.savez(arrays, train_labels=np.zeros(3, np.int32))
    assert "train_labels is int32 [3]" in said()


def test_splits_that_shards_lack(written, tmp_path, readable):
    path = str(written)
    assert "train_split=val" in complaint(source="shards", path=path, train_split="val")
    assert "accepted" in complaint(source="shards", path=path, validation_split="test")
    store(readable / "train", tmp_path / "one")
    message = complaint(source="shards", path=str(tmp_path / "one"), validation_split="validation")
    assert "no such part" in message
    assert "config.data.path is empty" in complaint(source="shards")
    assert "holds no shards" in complaint(source="shards", path=str(tmp_path))

"""Packed archives whose images are stored: what is left of them, and what is said of mistakes."""

import errno
import io
import tarfile

import pytest
from PIL import Image

from gan_jax import data
from gan_jax.data import incoming, sharding, storing
from gan_jax.data.sources.folders import FileSource
from gan_jax.modes.actions.store import store
from tests.helpers.data_sections import typed
from tests.helpers.one_line import assert_refused, refused_argument


@pytest.fixture
def packed(tmp_path):
    """Two packed archives, whose members have the same names."""
    for name, level in (("one", 9), ("two", 200)):
        image = io.BytesIO()
        Image.new("L", (6, 6), level).save(image, "PNG")
        with tarfile.open(tmp_path / f"{name}.tgz", "w:gz") as archive:
            info = tarfile.TarInfo("a.png")
            info.size = len(image.getvalue())
            archive.addfile(info, io.BytesIO(image.getvalue()))
    return tmp_path / "one.tgz", tmp_path / "two.tgz"


def test_an_interrupted_call_leaves_no_images_to_another_archive(packed, tmp_path, monkeypatch):
    one, two = packed
    out = tmp_path / "shards"

    def unpacked():
        return sorted(path.name for path in tmp_path.glob("shards.*"))

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(storing, "stored", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store(one, out)
    [kept] = unpacked()
    refused_argument("out", "part of other shards", store, two, out)
    assert unpacked() == [kept]  # and nothing of the other one
    with monkeypatch.context() as patch:
        patch.setattr(incoming, "PIECE", "unpacked again")
        assert store(one, out) == {"kept": 1}
    assert unpacked() == []
    section = {"source": "shards", "path": str(out), "resolution": 6, "validation_fraction": 0.0}
    made = data.make(typed(**section))
    assert (made.all("train")["image"] == 9).all()
    refused_argument("out", "other shards", store, two, out)
    assert unpacked() == []


def test_what_is_wrong_is_said_of_the_place_where_it_is(packed, tmp_path, monkeypatch):
    source, _ = packed

    def broken(*_):
        raise OSError(errno.EIO, "the cable is out")

    with monkeypatch.context() as patch:
        patch.setitem(incoming.PACKED, ".tgz", broken)
        # before anything is unpacked
        refused_argument("out", "is not empty", store, source, tmp_path)
        (tmp_path / "a.zip").touch()
        refused_argument("out", "exists", store, source, tmp_path / "a.zip")
        refused_argument("source", "cable", store, source, tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(FileSource, "content", broken)
        for out in ("out", "b.zip"):
            said = assert_refused("cable", store, source, tmp_path / out)
            assert "a.png cannot be read" in said
    with sharding.alone(tmp_path / "out" / sharding.WORK / sharding.LOCK, "out"):
        refused_argument("out", "another process", store, source, tmp_path / "out")
    assert not list(tmp_path.glob("out.*"))

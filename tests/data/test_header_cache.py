"""The headers of a large set are read once, and again where a file has changed."""

import os
import shutil
import zipfile

import pytest

from gan_jax.data import header_cache
from gan_jax.data.array_cache import Kind
from gan_jax.data.sources import decode
from tests.helpers.data_sections import complaint, make, section
from tests.helpers.source_files import class_folders, picture


@pytest.fixture
def read(monkeypatch, tmp_path):
    """The names of the images whose headers were read; every set counts as large."""
    monkeypatch.setattr(header_cache, "LEAST", 1)
    monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path / "cache"))
    names, shape_of = [], decode.shape_of

    def noted(open_file, name):
        names.append(name.rpartition("/")[2])
        return shape_of(open_file, name)

    monkeypatch.setattr(decode, "shape_of", noted)
    return names


def test_a_second_start_reads_no_header(read, tmp_path):
    source = class_folders(tmp_path / "a")
    first = make(**source)
    assert len(read) == 10
    read.clear()
    again = make(**source)
    assert read == []
    assert again.description == first.description
    make(**source, split_seed=5)  # another split of the same files
    assert read == []
    (entry,) = (tmp_path / "cache" / header_cache.KIND.folder).iterdir()
    entry.write_bytes(entry.read_bytes()[:-30])
    make(**source)
    assert len(read) == 10


def test_a_file_that_has_changed_is_noticed(read, tmp_path):
    source = class_folders(tmp_path / "a")
    make(**source)
    picture(tmp_path / "a" / "cat" / "deep" / "0.png", size=(7, 6))
    assert "0.png is 7x6" in complaint(**source)
    os.remove(tmp_path / "a" / "cat" / "deep" / "0.png")
    assert sum(make(**source).sizes.values()) == 9


def test_a_zip_is_known_by_its_own_time(read, tmp_path):
    class_folders(tmp_path / "a")
    shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path / "a")
    make(**section(tmp_path / "a.zip"))
    read.clear()
    make(**section(tmp_path / "a.zip"))
    assert read == []
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        archive.writestr("more.txt", "")
    make(**section(tmp_path / "a.zip"))
    assert len(read) == 10


def test_an_unreadable_image_is_looked_at_every_time(read, tmp_path):
    source = class_folders(tmp_path / "a")
    (tmp_path / "a" / "cat" / "x.png").write_bytes(b"no image")
    assert make(**source, on_error="skip").skipped == 1
    read.clear()
    assert make(**source, on_error="skip").skipped == 1
    assert read == ["x.png"]
    assert "x.png" in complaint(**source)


def test_without_a_place_for_it_headers_are_read_again(read, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path / "file"))
    source = class_folders(tmp_path / "a")
    for _ in range(2):
        read.clear()
        make(**source)
        assert len(read) == 10


def test_old_entries_go(read, tmp_path, monkeypatch):
    monkeypatch.setattr(header_cache, "KIND", Kind("headers", 2))
    for k in range(3):
        make(**class_folders(tmp_path / f"{k}", count=2))
        for entry in (tmp_path / "cache" / header_cache.KIND.folder).iterdir():
            os.utime(entry, (entry.stat().st_mtime - 10,) * 2)
    assert len(list((tmp_path / "cache" / header_cache.KIND.folder).iterdir())) == 2
    read.clear()
    make(**class_folders(tmp_path / "9", count=2))
    make(**{**section(tmp_path / "2")})
    assert len(read) == 4

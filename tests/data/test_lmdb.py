"""LMDB, as LSUN is published, read without its library; the file was written by lmdb 3.0.0."""

import lzma
from pathlib import Path

import numpy as np
import pytest

from gan_jax.data.sources import lmdb
from gan_jax.errors import UserError
from tests.helpers.one_line import assert_refused

GOLDEN = Path(__file__).parents[1] / "golden" / "data" / "lsun.mdb.xz"
COUNT, LONG = 60, 7  # number 7 is too long for its page


@pytest.fixture(scope="module")
def content():
    return lzma.decompress(GOLDEN.read_bytes())


@pytest.fixture
def folder(tmp_path, content):
    (tmp_path / lmdb.FILE).write_bytes(content)
    return tmp_path


def test_every_value_is_found_in_the_order_of_the_keys(folder):
    source = lmdb.open_lmdb(folder, "input").train
    assert len(source) == COUNT
    assert source.found.keys == [b"%040x" % i for i in range(COUNT)]
    for i in range(COUNT):
        expected = np.full((6, 6, 3), (i, 2 * i, 255 - i), np.uint8)
        if i == LONG:
            expected = np.random.default_rng(i).integers(0, 256, (50, 40, 3), np.uint8)
        np.testing.assert_array_equal(source.image(i), expected)
        assert source.shape(i) == expected.shape
    assert source.name(1) == f"{folder}/{1:040x}"


def test_a_folder_without_an_lmdb(tmp_path):
    assert not lmdb.is_lmdb(tmp_path)
    assert_refused(r"input=.*data\.mdb is not a readable LMDB", lmdb.open_lmdb, tmp_path, "input")


def test_damaged_files_end_in_one_line_or_in_values(folder, content):
    """A tenth of the damage lies where the file says how it is built."""
    rng, refused = np.random.default_rng(0), 0
    for case in range(300):
        raw = bytearray(content)
        page = int(rng.integers(len(raw) // 4096)) * 4096
        place = page + int(rng.integers(256 if case % 2 else 4096))
        raw[place : place + 4] = rng.bytes(4) if case % 3 else bytes([255] * 4)
        raw = raw[: int(rng.integers(len(raw)))] if case % 10 == 0 else raw
        (folder / lmdb.FILE).write_bytes(raw)
        try:
            found = lmdb.open_lmdb(folder, "input").train.found
        except UserError:
            refused += 1
            continue
        assert all(value.start + value.size <= len(raw) for value in found.values)
    assert refused > 30


def test_pages_in_a_circle_come_to_an_end(folder, content):
    """The branch at the root names itself."""
    raw = bytearray(content)
    root = int.from_bytes(raw[16 + 24 + 48 + 40 :][:8], "little")
    other = int.from_bytes(raw[4096 + 16 + 24 + 48 + 40 :][:8], "little")
    for number in (root, other):
        page = raw[number * 4096 : number * 4096 + 4096]
        node = int.from_bytes(page[16:18], "little")
        if page[10] & lmdb.BRANCH:
            raw[number * 4096 + node : number * 4096 + node + 6] = number.to_bytes(6, "little")
    (folder / lmdb.FILE).write_bytes(raw)
    assert_refused("circle", lmdb.open_lmdb, folder, "input")

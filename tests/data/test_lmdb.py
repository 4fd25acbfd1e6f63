"""LMDB, as LSUN is published, read without its library."""

import numpy as np
import pytest

from gan_jax.data.sources import lmdb
from gan_jax.errors import UserError
from tests.helpers import lsun
from tests.helpers.one_line import assert_refused


@pytest.fixture(scope="module")
def content():
    return lsun.content()


@pytest.fixture
def folder(tmp_path, content):
    (tmp_path / lmdb.FILE).write_bytes(content)
    return tmp_path


def test_every_value_is_found_in_the_order_of_the_keys(folder):
    source = lmdb.open_lmdb(folder, "input").train
    assert len(source) == lsun.COUNT
    assert source.found.keys == [b"%040x" % i for i in range(lsun.COUNT)]
    for i in range(lsun.COUNT):
        expected = lsun.picture(i)
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


def test_nodes_of_a_page_do_not_share_its_bytes(folder, content):
    """Many pointers to one node with a long key would be a large list out of a small file."""
    raw, page = bytearray(content), 4096
    for start in range(0, len(raw), page):
        if raw[start + 10] & lmdb.LEAF and raw[start + 12] > lmdb.HEADER:
            node = 1024  # its key has 2,000 bytes, its value none
            raw[start + node : start + node + lmdb.NODE] = bytes([0, 0, 0, 0, 0, 0, 208, 7])
            raw[start + lmdb.HEADER : start + node] = node.to_bytes(2, "little") * 504
            raw[start + 12 : start + 14] = node.to_bytes(2, "little")
    (folder / lmdb.FILE).write_bytes(raw)
    assert_refused("page overlap", lmdb.open_lmdb, folder, "input")


def test_values_do_not_share_their_bytes(folder, content):
    """All nodes of a page say that they hold one long value."""
    raw = bytearray(content)
    long = lmdb.open_lmdb(folder, "input").train.found.values[lsun.LONG]
    for i, page in enumerate(range(0, len(raw), 4096)):
        if i < 2 or raw[page : page + 12] != i.to_bytes(8, "little") + bytes([0, 0, lmdb.LEAF, 0]):
            continue
        end = int.from_bytes(raw[page + 12 : page + 14], "little")
        for at in range(page + lmdb.HEADER, page + end, 2):
            node = page + int.from_bytes(raw[at : at + 2], "little")
            key = int.from_bytes(raw[node + 6 : node + 8], "little")
            raw[node : node + 6] = long.size.to_bytes(4, "little") + bytes([lmdb.LONG, 0])
            begin = node + lmdb.NODE + key
            raw[begin : begin + 8] = (long.start // 4096).to_bytes(8, "little")
    (folder / lmdb.FILE).write_bytes(raw)
    assert_refused("values overlap", lmdb.open_lmdb, folder, "input")


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

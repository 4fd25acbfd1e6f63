"""Arrays of an .npz come as numpy itself would read them, within bounds."""

import io
import zipfile

import numpy as np
import pytest

from gan_jax import npz, zips
from tests.helpers import hostile_arrays

ARRAYS = {
    "float32": np.arange(6, dtype=np.float32).reshape(2, 3),
    "big endian": np.arange(6, dtype=">f8"),
    "fortran": np.asfortranarray(np.arange(24, dtype=np.int16).reshape(2, 3, 4)),
    "scalar": np.array(2.5),
    "empty": np.zeros((0, 3), np.float32),
    "bool": np.array([True, False]),
    "half": np.ones(3, np.float16),
    "complex": np.array([1 + 2j]),
    "text": np.array(["é", "bc"]),
    "no text": np.array([""], "U0"),
    "bytes": np.array([b"ab"]),
    "unsigned": np.array([2**64 - 1], np.uint64),
    "many": np.arange(3_000_000, dtype=np.int32),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_as_numpy_reads_them(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    with npz.opened(tmp_path / "a.npz") as stored, np.load(tmp_path / "a.npz") as expected:
        assert stored.names == list(ARRAYS)
        for name, array in ARRAYS.items():
            found = stored.read(name)
            np.testing.assert_array_equal(found, expected[name], err_msg=name)
            assert found.dtype == array.dtype.newbyteorder("="), name
            assert found.flags.writeable, name
            header = stored.header(name)
            assert (header.shape, header.dtype) == (array.shape, expected[name].dtype), name


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_header_is_read(tmp_path, version):
    out = io.BytesIO()
    np.lib.format.write_array(out, ARRAYS["float32"], version)
    (tmp_path / "a.npz").write_bytes(hostile_arrays.npz(out.getvalue(), "a"))
    with npz.opened(tmp_path / "a.npz") as stored:
        np.testing.assert_array_equal(stored.read("a"), ARRAYS["float32"])


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<i4', 'fortran_order': False, 'shape': (2L, 1L)}",  # Python 2
        "{'shape':(2,1),'descr':'<i4','fortran_order':False}",
    ],
)
def test_headers_of_other_programs_are_read(tmp_path, header):
    raw = hostile_arrays.npy(header=header, data=np.array([5, 7], "<i4").tobytes())
    (tmp_path / "a.npz").write_bytes(hostile_arrays.npz(raw, "a"))
    with npz.opened(tmp_path / "a.npz") as stored:
        assert stored.read("a").tolist() == [[5], [7]]


def test_a_file_may_grow_only_so_far_if_its_reader_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "_ANY_GROWTH", 2**12)
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(2**15), b=np.zeros(2**7))
    for growth, names in ((0, "ab"), (1000, "ab"), (10, "b")):
        with npz.opened(tmp_path / "a.npz", growth) as stored:
            for name in names:
                stored.read(name)
    with (
        npz.opened(tmp_path / "a.npz", 10) as stored,
        pytest.raises(npz.NpzError, match="its arrays have more than"),
    ):
        stored.read("a")


def test_a_wrong_checksum_is_found(tmp_path):
    np.savez(tmp_path / "a.npz", a=ARRAYS["many"])
    raw = bytearray((tmp_path / "a.npz").read_bytes())
    raw[len(raw) // 2] ^= 1
    (tmp_path / "a.npz").write_bytes(raw)
    with npz.opened(tmp_path / "a.npz") as stored, pytest.raises(npz.NpzError, match="CRC"):
        stored.read("a")


def test_members_at_the_same_place_are_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(hostile_arrays.shared_member(40, 1000))
    with (
        pytest.raises(zipfile.BadZipFile, match="longer than the whole file"),
        zips.opened(tmp_path / "a.zip"),
    ):
        pass

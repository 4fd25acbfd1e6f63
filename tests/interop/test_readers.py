"""Which reader a file of weights belongs to, and what every reader answers."""

import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.interop import readers
from gan_jax.interop.formats import npz_file, torch_file
from tests.helpers.golden_rule import GOLDEN

CHECKPOINT = str(GOLDEN / "warpgan_checkpoint" / "ckpt-7")


@pytest.fixture
def files(tmp_path):
    """A file of each kind by suffix; the pickle is damaged."""
    npz_file.write_npz(tmp_path / "a.npz", {"params": {"down1": {"kernel": np.ones((2, 3))}}})
    layer = {"conv.0.weight": np.ones((4, 3, 2, 2), np.float32)}
    torch_file.write(tmp_path / "a.pth", layer)
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02")
    return tmp_path


def test_every_kind_is_recognised_by_one_reader(files):
    sources = (CHECKPOINT, *(str(files / f"a.{end}") for end in ("pth", "npz", "pkl")))
    for expected, source in zip(readers.READERS, sources, strict=True):
        assert [reader for reader in readers.READERS if reader.recognises(source)] == [expected]
        assert readers.find(source) is expected


def test_what_is_no_such_file_belongs_to_no_reader(files):
    for source in ("", str(files), str(files / "none.pth"), str(files / "none.pkl")):
        assert readers.find(source) is None
        assert readers.classes(source) == 0
        assert readers.differences(source, None, {}) == []


def test_arrays_and_what_is_known_of_them(files):
    found = readers.find(str(files / "a.pth")).arrays(str(files / "a.pth"), "gen")
    assert {name: array.shape for name, array in found.items()} == {
        "params/conv_0/kernel": (2, 2, 3, 4)
    }
    npz = str(files / "a.npz")
    assert list(readers.find(npz).arrays(npz, "gen")) == ["params/down1/kernel"]
    assert readers.classes(CHECKPOINT) == 2
    assert readers.kind(CHECKPOINT, []).startswith("WarpGAN")
    assert readers.kind(npz, ["params/encoder_1/kernel"]) == "original generator"
    assert readers.kind(npz, ["params/conv/kernel"]) == ""


def test_a_damaged_file_is_a_mistake_of_the_user(files):
    damaged = str(files / "a.pkl")
    for ask in (readers.classes, lambda source: readers.find(source).arrays(source, "gen")):
        with pytest.raises(UserError, match="damaged or cut short"):
            ask(damaged)

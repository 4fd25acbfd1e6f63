"""Files with the weights of MTCNN: PyTorch's, an npz, and those that do not fit."""

from pathlib import Path

import jax
import numpy as np
import pytest

from gan_jax.interop import mtcnn as interop
from gan_jax.interop.formats import npz_file, torch_file
from tests.helpers.mtcnn_files import SHAPES, state_dict, write
from tests.helpers.one_line import assert_refused


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("weights"))


def test_npz_is_the_same(folder, tmp_path):
    params = interop.read(folder)
    npz_file.write_npz(tmp_path / "mtcnn.npz", params)
    with np.load(tmp_path / "mtcnn.npz") as stored:
        assert stored["pnet/conv1/kernel"].shape == (3, 3, 3, 10)
        assert stored["rnet/dense4/kernel"].shape == (576, 128)
    again = interop.read(tmp_path / "mtcnn.npz")
    assert jax.tree.all(jax.tree.map(np.array_equal, params, again))


def test_weights_that_do_not_fit(folder, tmp_path):
    assert_refused("does not exist", interop.read, tmp_path / "absent")
    assert_refused("has no pnet.pt, rnet.pt, onet.pt", interop.read, tmp_path)
    (tmp_path / "det1.npy").write_bytes(b"x")
    assert_refused("another kind", interop.read, tmp_path / "det1.npy")
    for name in SHAPES:
        torch_file.write(tmp_path / f"{name}.pt", state_dict("rnet" if name == "onet" else name))
    assert_refused(r"conv1.bias is \[28\] in .*onet.pt, expected \[32\]", interop.read, tmp_path)
    torch_file.write(tmp_path / "onet.pt", {**state_dict("onet"), "more": np.ones(2, np.float32)})
    assert_refused("tensor more .* none of onet's", interop.read, tmp_path)
    params = interop.read(folder)
    del params["rnet"]["prelu4"]
    npz_file.write_npz(tmp_path / "cut.npz", params)
    assert_refused("rnet/prelu4/slope is absent", interop.read, tmp_path / "cut.npz")
    npz_file.write_npz(tmp_path / "other.npz", {"gen": np.ones(2)})
    assert_refused("holds gen", interop.read, tmp_path / "other.npz")

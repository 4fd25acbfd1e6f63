"""PyTorch-GAN's networks: names and layouts, there and back, and what does not fit."""

import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.interop import pytorch_gan
from gan_jax.interop.formats import npz_file, torch_file
from tests.helpers import golden_rule

NETWORKS = [
    (file, key)
    for file in ("gan_forward", "dcgan_forward", "wgan_gp")
    for key in ("state_dict_G", "state_dict_D")
]


def network(file: str, key: str) -> dict[str, np.ndarray]:
    meta, _ = golden_rule.load(f"gan/{file}")
    return golden_rule.weights(meta, key)


@pytest.mark.parametrize(("file", "key"), NETWORKS)
def test_trees_hold_every_tensor_and_go_back(tmp_path, file, key):
    tensors = network(file, key)
    params, stats = pytorch_gan.to_trees(tensors)
    again = pytorch_gan.from_trees(params, stats)
    assert sorted(again) == sorted(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(again[name], tensor, strict=True, err_msg=name)

    torch_file.write(tmp_path / "net.pth", again)
    loaded = pytorch_gan.load(tmp_path / "net.pth", params, stats)
    assert_trees(loaded, (params, stats))


def assert_trees(found, expected):
    if isinstance(expected, dict | tuple):
        assert type(found) is type(expected)
        assert len(found) == len(expected)
        for key in expected if isinstance(expected, dict) else range(len(expected)):
            assert_trees(found[key], expected[key])
    else:
        np.testing.assert_array_equal(found, expected, strict=True)


def test_dcgan_generator_lands_where_the_networks_look():
    tensors = network("dcgan_forward", "state_dict_G")
    params, stats = pytorch_gan.to_trees(tensors)
    assert set(params) == {
        *("l1_0", "conv_blocks_0", "conv_blocks_2", "conv_blocks_3"),
        *("conv_blocks_6", "conv_blocks_7", "conv_blocks_9"),
    }
    assert set(params["conv_blocks_3"]) == {"scale", "bias"}
    assert set(stats) == {"batch_stats"}
    assert set(stats["batch_stats"]) == {"conv_blocks_0", "conv_blocks_3", "conv_blocks_7"}
    assert set(stats["batch_stats"]["conv_blocks_0"]) == {"mean", "var"}
    assert params["l1_0"]["kernel"].shape == (100, 8192)
    assert params["conv_blocks_6"]["kernel"].shape == (3, 3, 128, 64)
    o, i, h, w = 5, 7, 0, 2
    assert (
        params["conv_blocks_6"]["kernel"][h, w, i, o] == tensors["conv_blocks.6.weight"][o, i, h, w]
    )
    assert params["l1_0"]["kernel"][3, 11] == tensors["l1.0.weight"][11, 3]
    var = stats["batch_stats"]["conv_blocks_3"]["var"]
    np.testing.assert_array_equal(var, tensors["conv_blocks.3.running_var"])


def test_network_without_norms_has_no_stats():
    params, stats = pytorch_gan.to_trees(network("gan_forward", "state_dict_D"))
    assert stats == {}
    assert set(params) == {"model_0", "model_2", "model_4"}


@pytest.mark.parametrize(("file", "key"), NETWORKS)
def test_export_is_in_pytorchs_own_order(file, key):
    tensors = network(file, key)
    shuffled = {name: tensors[name] for name in sorted(tensors)}
    assert list(pytorch_gan.from_trees(*pytorch_gan.to_trees(shuffled))) == list(tensors)


def test_load_takes_shapes_and_gives_the_dtypes_asked_for(tmp_path):
    tensors = network("dcgan_forward", "state_dict_D")
    torch_file.write(tmp_path / "disc.pth", tensors)
    params, stats = pytorch_gan.to_trees(
        {name: np.empty(t.shape, np.float64) for name, t in tensors.items()}
    )
    params, stats = pytorch_gan.load(tmp_path / "disc.pth", params, stats)
    assert params["model_0"]["kernel"].dtype == np.float64
    np.testing.assert_array_equal(
        stats["batch_stats"]["model_6"]["mean"], tensors["model.6.running_mean"]
    )


def test_mismatch_lists_tensors_with_both_shapes(tmp_path):
    tensors = network("dcgan_forward", "state_dict_G")
    like = pytorch_gan.to_trees(tensors)
    changed = dict(tensors)
    changed["conv_blocks.9.weight"] = np.zeros((3, 64, 3, 3), np.float32)
    changed["extra.0.bias"] = np.zeros(2, np.float32)
    del changed["l1.0.bias"]
    torch_file.write(tmp_path / "gen.pth", changed)
    with pytest.raises(UserError) as caught:
        pytorch_gan.load(tmp_path / "gen.pth", *like)
    message = str(caught.value)
    assert "\n" not in message
    assert "gen.pth does not fit the network, 3 of 20 tensors differ: " in message
    assert "l1.0.bias absent in the file, [8192] in the network; " in message
    assert "conv_blocks.9.weight [3, 64, 3, 3] in the file, [1, 64, 3, 3] in the network" in message
    assert "extra.0.bias [2] in the file, absent in the network" in message


def test_long_mismatch_is_cut_at_ten(tmp_path):
    torch_file.write(tmp_path / "a.pth", network("gan_forward", "state_dict_G"))
    like = pytorch_gan.to_trees(network("dcgan_forward", "state_dict_G"))
    with pytest.raises(UserError, match=r"; and \d+ more; choose the config") as caught:
        pytorch_gan.load(tmp_path / "a.pth", *like)
    assert str(caught.value).count(" in the network") == 10


def test_strange_tensors_are_named():
    with pytest.raises(UserError, match=r"tensor conv\.0\.weight \[1, 2, 3\] is none of"):
        pytorch_gan.to_trees({"conv.0.weight": np.zeros((1, 2, 3))})
    with pytest.raises(UserError, match=r"tensor conv\.0\.gain"):
        pytorch_gan.to_trees({"conv.0.gain": np.zeros(3)})
    with pytest.raises(ValueError, match="params/embedding/kernel has no counterpart"):
        pytorch_gan.from_trees({"embedding": {"kernel": np.zeros((2, 3))}}, {})


def test_npz_round_trip(tmp_path):
    params, stats = pytorch_gan.to_trees(network("dcgan_forward", "state_dict_D"))
    tree = {"params": params, "stats": stats, "step": np.int64(7), "file": np.float16([1, 2])}
    npz_file.write_npz(tmp_path / "a.npz", tree)
    first = (tmp_path / "a.npz").read_bytes()
    assert_trees(npz_file.read_npz(tmp_path / "a.npz"), tree)
    npz_file.write_npz(tmp_path / "a.npz", tree)
    assert (tmp_path / "a.npz").read_bytes() == first
    with np.load(tmp_path / "a.npz", allow_pickle=False) as stored:
        assert stored["params/model_0/kernel"].shape == (3, 3, 1, 16)


def test_npz_refuses_objects_and_damage(tmp_path):
    with pytest.raises(ValueError, match="x is no array of numbers"):
        npz_file.write_npz(tmp_path / "a.npz", {"x": np.array([{}])})
    with pytest.raises(ValueError, match="without '/'"):
        npz_file.write_npz(tmp_path / "a.npz", {"a/b": np.zeros(1)})
    assert list(tmp_path.iterdir()) == []
    np.savez(tmp_path / "objects.npz", x=np.array([{}]))
    npz_file.write_npz(tmp_path / "cut.npz", {"x": np.zeros(1000)})
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:500])
    np.save(tmp_path / "single.npy", np.zeros(3))
    for name in ("objects.npz", "cut.npz", "single.npy", "none.npz"):
        with pytest.raises(UserError, match=name) as caught:
            npz_file.read_npz(tmp_path / name)
        assert "\n" not in str(caught.value)

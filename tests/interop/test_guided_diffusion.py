"""OpenAI's .pt files: names and layouts, there and back, and what is refused."""

import functools
import os
import pickle
import zipfile

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from ml_collections import ConfigDict

from gan_jax.errors import UserError
from gan_jax.interop import guided_diffusion
from gan_jax.interop.formats import torch_file
from gan_jax.models import unet
from tests.helpers import golden_rule
from tests.helpers.hostile import Call

FOLDER = golden_rule.GOLDEN / "guided_diffusion"
GENUINE = FOLDER / "trainstep" / "checkpoint_files"
# each genuine file, and the name of its values in checkpoint.npz
FILES = {
    "model000005": "final",
    "ema_0.9_000005": "final_ema0.9",
    "ema_0.99_000005": "final_ema0.99",
}
NETWORKS = [
    f"{kind}/{path.stem}"
    for kind in ("unet", "classifier")
    for path in sorted((FOLDER / kind).glob("*.npz"))
]


@functools.cache
def meta(network: str) -> dict:
    return golden_rule.load(f"guided_diffusion/{network}")[0]


@functools.cache
def tensors(network: str) -> dict[str, np.ndarray]:
    return golden_rule.weights(meta(network), "state_dict")


def label(network: str) -> str:
    if network.startswith("classifier"):
        return "noisy classifier"
    return "super-resolution unet" if "superres" in network else "diffusion unet"


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor, strict=True, err_msg=name)


def assert_same_trees(found: dict, expected: dict):
    jax.tree.map(functools.partial(np.testing.assert_array_equal, strict=True), found, expected)


def test_all_golden_networks_are_there():
    assert len(NETWORKS) == 15
    assert len({label(network) for network in NETWORKS}) == 3


@pytest.mark.parametrize("network", NETWORKS)
def test_trees_go_back_in_pytorchs_order(network):
    given = tensors(network)
    assert guided_diffusion.identify(given) == label(network)
    params, stats = guided_diffusion.to_trees(dict(reversed(given.items())))
    assert stats == {}
    assert guided_diffusion.mismatches(given, params) == []
    back = guided_diffusion.from_trees(params, stats)
    assert_same(back, given)
    assert_same_trees(guided_diffusion.to_trees(back)[0], params)


@pytest.mark.parametrize("file", FILES)
def test_genuine_file_is_exact_both_ways(tmp_path, file):
    given = guided_diffusion.state_dict(GENUINE / f"{file}.pt")
    described, arrays = golden_rule.load("guided_diffusion/trainstep/checkpoint")
    assert [[name, [*t.shape]] for name, t in given.items()] == described["state_dict"]
    values = {
        n.split("/", 2)[2]: a for n, a in arrays.items() if n.startswith(f"out/{FILES[file]}/")
    }
    assert len(values) > 20
    for name, value in values.items():
        np.testing.assert_array_equal(given[name], value, strict=True, err_msg=name)

    trees = guided_diffusion.to_trees(given)
    params = trees[0]
    np.testing.assert_array_equal(params["out_0"]["bias"], values["out.0.bias"])
    torch_file.write(tmp_path / "back.pt", guided_diffusion.from_trees(*trees))
    back = guided_diffusion.state_dict(tmp_path / "back.pt")
    assert_same(back, given)
    assert_same_trees(guided_diffusion.to_trees(back), trees)


def test_names_and_elements_are_where_the_rule_puts_them():
    given = tensors("unet/unet_b_updown_new_headch")
    params, _ = guided_diffusion.to_trees(given)
    o, i, h, w = 3, 11, 1, 2
    conv = given["input_blocks.3.0.in_layers.2.weight"]
    assert params["input_blocks_3_0"]["in_layers_2"]["kernel"][h, w, i, o] == conv[o, i, h, w]
    assert params["time_embed_0"]["kernel"][i, o] == given["time_embed.0.weight"][o, i]
    assert (
        params["middle_block_1"]["qkv"]["kernel"][i, o] == given["middle_block.1.qkv.weight"][o, i]
    )
    assert params["label_emb"]["embedding"][o, i] == given["label_emb.weight"][o, i]
    assert params["output_blocks_1_2"]["out_layers_0"].keys() == {"scale", "bias"}
    assert params["out_2"]["kernel"].shape == (3, 3, 32, 6)
    plain, _ = guided_diffusion.to_trees(tensors("unet/unet_a_legacy_heads4"))
    assert params.keys() - plain.keys() >= {"label_emb", "input_blocks_5_0"}
    assert set(plain["input_blocks_2_0"]) == {"op"}
    assert set(plain["output_blocks_1_2"]) == {"conv"}
    given = tensors("classifier/classifier_attention")
    pool = guided_diffusion.to_trees(given)[0]["out_2"]
    places = given["out.2.positional_embedding"]
    np.testing.assert_array_equal(pool["positional_embedding"], places, strict=True)
    assert pool["c_proj"]["kernel"][i, o] == given["out.2.c_proj.weight"][o, i, 0]


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_arrives_as_float32(tmp_path, dtype):
    given = guided_diffusion.state_dict(GENUINE / "model000005.pt")
    half = {n: t.astype(dtype if t.ndim > 2 else t.dtype) for n, t in given.items()}
    torch_file.write(tmp_path / "half.pt", half)
    params, stats = guided_diffusion.to_trees(guided_diffusion.state_dict(tmp_path / "half.pt"))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}
    expected = {name: tensor.astype(np.float32) for name, tensor in half.items()}
    assert_same(guided_diffusion.from_trees(params, stats), expected)


def test_prefix_of_distributed_data_parallel_is_dropped(tmp_path):
    given = guided_diffusion.state_dict(GENUINE / "model000005.pt")
    prefixed = {f"module.{name}": tensor for name, tensor in given.items()}
    assert guided_diffusion.identify(prefixed) == "diffusion unet"
    trees = guided_diffusion.to_trees(prefixed)
    assert_same(guided_diffusion.from_trees(*trees), given)
    assert guided_diffusion.mismatches(prefixed, trees[0]) == []
    torch_file.write(tmp_path / "a.pt", prefixed)
    assert_same(guided_diffusion.state_dict(tmp_path / "a.pt"), given)


def test_trees_are_those_of_our_networks():
    """The names and shapes that gan_jax.models.unet asks for."""
    image, time = jnp.zeros((1, 16, 16, 3)), jnp.zeros(1)
    options = dict(num_channels=32, num_res_blocks=1, resblock_updown=True)
    model = unet.defaults() | options | dict(channel_mult=(1, 2, 2), attention_resolutions=(8, 4))
    given = tensors("unet/unet_b_updown_new_headch")
    network = unet.unet(ConfigDict(model | dict(class_cond=True)), 16, 3, 6, 1000)
    key, none = jax.random.key(0), jnp.zeros(1, int)
    params, stats = jax.eval_shape(network.init, key, image, time, none)
    assert guided_diffusion.mismatches(given, params) == []
    assert jax.tree.structure((params, stats)) == jax.tree.structure(
        guided_diffusion.to_trees(given)
    )

    model = unet.classifier_defaults() | options
    model |= dict(channel_mult=(1, 2), attention_resolutions=(8,), num_head_channels=32)
    network = unet.noisy_classifier(ConfigDict(model), 16, 10)
    params, stats = jax.eval_shape(network.init, key, image, time)
    assert guided_diffusion.mismatches(tensors("classifier/classifier_attention"), params) == []


def test_another_architecture_is_told_tensor_by_tensor():
    given = dict(tensors("unet/unet_a_legacy_heads4"))
    params, _ = guided_diffusion.to_trees(given)
    del given["out.0.bias"]
    given["out.2.weight"] = given["out.2.weight"][:3]
    given["input_blocks.3.1.qkv.weight"] = np.zeros((96, 32, 1), np.float32)
    given["input_blocks.10.0.op.weight"] = np.zeros((2, 2, 3, 3), np.float32)
    here = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
    told = [
        "input_blocks.3.1.qkv.weight: (96, 32, 1) in the file, (384, 128, 1) here",
        "input_blocks.10.0.op.weight: (2, 2, 3, 3) in the file, absent here",
        "out.0.bias: absent in the file, (64,) here",
        "out.2.weight: (3, 64, 3, 3) in the file, (6, 64, 3, 3) here",
    ]
    for tree in (params, here):
        assert guided_diffusion.mismatches(given, tree) == told
    assert guided_diffusion.mismatches(given, params, most=1) == [told[0], "and 3 more"]


STRANGE = {
    "input_blocks.1.0.attn.weight": (64, 64),
    "input_blocks.1.0.skip_connection.weight": (64, 64, 1, 1),  # the channels stay the same
    "input_blocks.2.0.op.running_mean": (64,),
    "input_blocks.07.0.op.weight": (64, 64, 3, 3),
    "input_blocks.900000.0.op.weight": (64, 64, 3, 3),
    "middle_block.1.qkv.weight": (384, 128, 3),
    "middle_block.1.norm.weight": (8, 8),
    "output_blocks.3.3.conv.weight": (64, 64, 3, 3),
    "out.2.positional_embedding": (64, 65),
    "": (1,),
}


@pytest.mark.parametrize("name", STRANGE)
def test_strange_tensor_is_named(name):
    strange = {name: np.zeros(STRANGE[name], np.float32)}
    with pytest.raises(UserError, match="is none of the diffusion unet's") as caught:
        guided_diffusion.to_trees(tensors("unet/unet_a_legacy_heads4") | strange)
    assert str(caught.value).startswith(f"tensor {name} {list(STRANGE[name])} float32 is none")
    assert "\n" not in str(caught.value)


def test_whole_numbers_are_no_weights():
    strange = {"out.0.bias": np.zeros(64, np.int64)}
    with pytest.raises(UserError, match=r"tensor out\.0\.bias \[64\] int64 is none of"):
        guided_diffusion.to_trees(tensors("unet/unet_a_legacy_heads4") | strange)


@pytest.mark.parametrize(
    ("network", "missing", "named"),
    [
        ("unet/unet_a_legacy_heads4", "time_embed.2.bias", "time_embed.2.bias"),
        ("unet/unet_a_legacy_heads4", "input_blocks.2.0.op.weight", "input_blocks.2.0.op.weight"),
        ("unet/unet_a_legacy_heads4", "input_blocks.1.", "input_blocks.1.0.in_layers.0.weight"),
        ("unet/unet_a_legacy_heads4", "middle_block.2.", "middle_block.2.in_layers.0.weight"),
        ("unet/unet_a_legacy_heads4", "output_blocks.3.", "output_blocks.3.0.in_layers.0.weight"),
        ("unet/unet_a_legacy_heads4", "input_blocks.3.", "input_blocks.3.0.in_layers.0.weight"),
        ("unet/superres_cond", "output_blocks.0.0.s", "output_blocks.0.0.skip_connection.weight"),
        ("classifier/classifier_attention", "out.2.pos", "out.2.positional_embedding"),
        ("classifier/classifier_spatial_v2", "out.1.weight", "out.1.weight"),
    ],
)  # fmt: skip
def test_missing_tensor_is_named(network, missing, named):
    given = {n: t for n, t in tensors(network).items() if not n.startswith(missing)}
    with pytest.raises(UserError) as caught:
        guided_diffusion.to_trees(given)
    assert str(caught.value) == f"tensor {named} of the {label(network)} is missing"


def test_other_networks_are_none_of_them():
    foreign = [
        ("gan/dcgan_forward", "state_dict_G"),
        ("pix2pix/junyanz_unet_128_batch", "state_dict"),
    ]
    others = [golden_rule.weights(golden_rule.load(file)[0], key) for file, key in foreign]
    given = tensors("unet/unet_a_legacy_heads4")
    headless = {name: tensor for name, tensor in given.items() if not name.startswith("out.")}
    for other in (*others, headless, {}, {"time_embed.0.weight": np.zeros((0, 0), np.float32)}):
        assert guided_diffusion.identify(other) is None
        with pytest.raises(UserError, match="no network of guided-diffusion has") as caught:
            guided_diffusion.to_trees(other)
        assert "\n" not in str(caught.value)


def test_foreign_trees_are_refused():
    params, _ = guided_diffusion.to_trees(tensors("classifier/classifier_adaptive"))
    leaf = {"kernel": np.zeros((2, 3), np.float32)}
    for extra, stats, named in [
        ({"final": {"mean": leaf["kernel"]}}, {}, "params/final/mean has no counterpart"),
        ({}, {"batch_stats": {"a": leaf}}, "stats/batch_stats/a/kernel has no counterpart"),
        ({"final": leaf}, {}, r"tensor final\.weight \[3, 2\] float32 is none"),
    ]:
        with pytest.raises(ValueError, match=named):
            guided_diffusion.from_trees(params | extra, stats)
    with pytest.raises(ValueError, match=r"tensor out\.0\.weight of the noisy classifier is miss"):
        guided_diffusion.from_trees({n: t for n, t in params.items() if n != "out_0"}, {})


def test_truncated_file_is_one_line(tmp_path):
    whole = (GENUINE / "model000005.pt").read_bytes()
    path = tmp_path / "cut.pt"
    for length in (0, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut\.pt is (damaged or cut short|not a)") as caught:
            guided_diffusion.state_dict(path)
        assert "\n" not in str(caught.value)


def pickled(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{path.stem}/data.pkl", pickle.dumps(content, 2))
    return path


def test_hostile_pickle_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = {"time_embed.0.weight": Call(os.system, "touch ran")}
    path = pickled(tmp_path / "model000005.pt", content)
    with pytest.raises(UserError, match=rf"asks to run {os.name}\.system, .*: refused, nothing"):
        guided_diffusion.state_dict(path)
    assert os.listdir(tmp_path) == [path.name]


def test_optimisers_state_is_called_that(tmp_path):
    content = {"state": {}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "params": [0]}]}
    path = pickled(tmp_path / "opt000005.pt", content)
    with pytest.raises(UserError) as caught:
        guided_diffusion.state_dict(path)
    assert str(caught.value) == (
        f"{path} holds an optimiser's state and no network: give the model*.pt or ema_*.pt that "
        "was saved beside it"
    )
    with pytest.raises(UserError, match=r"holds no state dict \('epoch' is a int"):
        guided_diffusion.state_dict(pickled(tmp_path / "other.pt", {"epoch": 3}))

"""pix2pix networks of PyTorch-GAN and of junyanz: names and layouts, there and back."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.interop import pix2pix, trees
from gan_jax.interop.formats import torch_file
from gan_jax.models import pix2pix as models
from gan_jax.models.network import functional
from gan_jax.run import weights
from tests.helpers import golden_rule

NETWORKS = [
    (path.stem, key)
    for path in sorted((golden_rule.GOLDEN / "pix2pix").glob("*.npz"))
    for key in golden_rule.load(f"pix2pix/{path.stem}")[0]
    if key.startswith("state_dict")
]
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def network(file: str, key: str = "state_dict") -> dict[str, np.ndarray]:
    meta, _ = golden_rule.load(f"pix2pix/{file}")
    return golden_rule.weights(meta, key)


def label(file: str, key: str) -> str:
    family = "pytorch_gan" if file.startswith("pytorch_gan") else "original"
    part = "generator" if "unet" in file or "generator" in file else "discriminator"
    part = {"G": "generator", "D": "discriminator"}.get(key[-1], part)
    return f"{family} {part}"


def shapes(file: str, key: str) -> tuple[dict, dict]:
    """(params, stats) of the library's own network with the golden file's options."""
    options = golden_rule.load(f"pix2pix/{file}")[0]["options"]
    family, part = label(file, key).split()
    kind = (models.GENERATORS if part == "generator" else models.DISCRIMINATORS)[family]
    fields = {}
    if family == "original" and part == "generator":
        fields = dict(width=options["ngf"], depth=options["num_downs"], norm=options["norm"])
    elif family == "original":
        layers = options.get("n_layers", options.get("n_layers_D"))
        fields = dict(width=options["ndf"], layers=layers, norm=options["norm"])
    return initialised(kind(**fields))


def initialised(module) -> tuple[dict, dict]:
    size = 2**module.depth if isinstance(module, models.Generator) else 64
    images = [jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)]
    images *= 1 if isinstance(module, models.Generator) else 2
    return jax.eval_shape(functional(module).init, jax.random.key(0), *images)


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor, strict=True, err_msg=name)


def assert_fits(trees, like):
    described = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), trees)
    assert described == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), like)


@pytest.mark.parametrize(("file", "key"), NETWORKS)
def test_trees_are_the_networks_own_and_go_back(file, key):
    tensors = network(file, key)
    assert pix2pix.identify(tensors) == label(file, key)
    trees = pix2pix.to_trees(dict(reversed(tensors.items())))
    assert_fits(trees, shapes(file, key))
    assert_same(pix2pix.from_trees(*trees), tensors)


def test_all_golden_networks_are_there():
    assert len(NETWORKS) == 17
    assert {label(*case) for case in NETWORKS} == {
        f"{family} {part}"
        for family in ("original", "pytorch_gan")
        for part in ("generator", "discriminator")
    }


def from_shapes(module) -> tuple[dict, dict]:
    """Trees in which every tensor is different."""
    leaves, tree = jax.tree.flatten(initialised(module))
    filled = [np.full(leaf.shape, n, leaf.dtype) for n, leaf in enumerate(leaves)]
    return jax.tree.unflatten(tree, filled)


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("kind", [*models.GENERATORS.values(), *models.DISCRIMINATORS.values()])
def test_every_size_goes_to_pytorch_and_back(kind, norm):
    modules = [kind(width=2, norm=norm)]
    if issubclass(kind, models.Generator):
        modules = [kind(width=2, norm=norm, depth=depth) for depth in (2, 3, 6)]
    elif kind is models.OriginalDiscriminator:
        modules = [kind(width=2, norm=norm, layers=n) for n in range(5)]
    for module in modules:
        trees = from_shapes(module)
        tensors = pix2pix.from_trees(*trees)
        family = "original" if kind.__name__.startswith("Original") else "pytorch_gan"
        assert pix2pix.identify(tensors).split()[0] == family
        again = pix2pix.to_trees(tensors)
        jax.tree.map(functools.partial(np.testing.assert_array_equal, strict=True), again, trees)


def test_batch_norms_of_pytorch_gan_are_behind_its_convolutions():
    gen = pix2pix.from_trees(*from_shapes(models.PyTorchGanGenerator(2, "batch", depth=3)))
    expected = ["down1.model.0.weight", "down2.model.0.weight"]
    expected += [f"down2.model.1.{leaf}" for leaf in NORM] + ["down3.model.0.weight"]
    for n in (1, 2):
        expected += [f"up{n}.model.0.weight", *(f"up{n}.model.1.{leaf}" for leaf in NORM)]
    assert list(gen) == [*expected, "final.2.weight", "final.2.bias"]
    disc = pix2pix.from_trees(*from_shapes(models.PyTorchGanDiscriminator(2, "batch")))
    assert [name for name in disc if name.endswith("running_mean")] == [
        f"model.{n}.running_mean" for n in (3, 6, 9)
    ]


def test_kernels_turn_element_by_element():
    tensors = network("junyanz_unet_128_batch")
    params, stats = pix2pix.to_trees(tensors)
    i, o, h, w = 3, 11, 1, 2
    conv = tensors["model.model.1.model.1.weight"]  # [O, I, H, W]
    assert params["encoder_2"]["kernel"][h, w, i, o] == conv[o, i, h, w]
    level7 = "model.model.1" + ".model.3" * 5 + ".model"
    deconv = tensors[f"{level7}.3.weight"]  # [I, O, H, W], the innermost
    assert params["decoder_7"]["kernel"][h, w, i, o] == deconv[i, o, h, w]
    assert params["decoder_1"]["kernel"][h, w, i, 2] == tensors["model.model.3.weight"][i, 2, h, w]
    np.testing.assert_array_equal(params["decoder_7_norm"]["scale"], tensors[f"{level7}.4.weight"])
    np.testing.assert_array_equal(
        stats["batch_stats"]["decoder_2_norm"]["var"], tensors["model.model.1.model.6.running_var"]
    )
    given = network("pytorch_gan_discriminator")
    disc, _ = pix2pix.to_trees(given)
    assert disc["conv_4"]["kernel"][h, w, i, 0] == given["model.12.weight"][0, i, h, w]


@pytest.mark.parametrize(
    "file", ["junyanz_unet_128_instance", "junyanz_D_pixel_batch", "pytorch_gan_discriminator"]
)
def test_prefix_of_data_parallel_is_dropped(file):
    tensors = network(file)
    prefixed = {f"module.{name}": tensor for name, tensor in tensors.items()}
    assert pix2pix.identify(prefixed) == pix2pix.identify(tensors)
    assert_same(pix2pix.from_trees(*pix2pix.to_trees(prefixed)), tensors)


@pytest.mark.parametrize(
    ("file", "norms"),
    [
        ("junyanz_unet_128_instance", ["model.model.1.model.2", "model.model.1.model.3.model.6"]),
        ("junyanz_D_basic3_instance", ["model.3", "model.6", "model.9"]),
        ("junyanz_D_pixel_instance", ["net.3"]),
        ("pytorch_gan_discriminator", ["model.3"]),
    ],
)
def test_statistics_of_instance_norms_are_left_out(file, norms):
    tensors = network(file)
    old = dict(tensors)
    for norm in norms:
        old |= {f"{norm}.{leaf}": np.ones(8, np.float32) for leaf in NORM[2:4]}
        old[f"{norm}.num_batches_tracked"] = np.int64(3)
    params, stats = pix2pix.to_trees(old)
    assert stats == {}
    assert_same(pix2pix.from_trees(params, stats), tensors)


@pytest.mark.parametrize(
    ("file", "name", "shape"),
    [
        ("junyanz_unet_128_instance", "model.model.1.model.7.weight", (16, 8, 4, 4)),
        ("junyanz_unet_128_instance", "model.model.1.model.4.weight", (8,)),
        ("junyanz_unet_128_instance", "model.model.1.model.1.running_mean", (8,)),
        ("junyanz_unet_128_batch", "model.model.1.model.3.model.1.weight", (32, 16, 3, 3)),
        ("junyanz_D_basic3_batch", "adv_layer.0.bias", (1,)),
        ("junyanz_D_pixel_batch", "net.7.weight", (1, 16, 1, 1)),
        ("pytorch_gan_discriminator", "model.12.bias", (1,)),
    ],
)
def test_strange_tensor_is_named(file, name, shape):
    tensors = network(file) | {name: np.zeros(shape, np.float32)}
    with pytest.raises(UserError) as caught:
        pix2pix.to_trees(tensors)
    assert str(caught.value).startswith(f"tensor {name} {list(shape)} is none of the ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("junyanz_unet_128_batch", "model.model.1.model.5.weight"),
        ("junyanz_unet_128_batch", "model.model.1.model.6.running_var"),
        ("pytorch_gan_discriminator", "model.8.weight"),
    ],
)
def test_missing_tensor_is_named(file, name):
    tensors = network(file)
    del tensors[name]
    with pytest.raises(UserError, match=rf"^tensor {name} of the \w+ \w+ is missing$"):
        pix2pix.to_trees(tensors)


@pytest.mark.parametrize("key", ["state_dict_G", "state_dict_D"])
@pytest.mark.parametrize("file", ["gan_forward", "dcgan_forward", "wgan_gp"])
def test_other_networks_are_none_of_them(file, key):
    meta, _ = golden_rule.load(f"gan/{file}")
    tensors = golden_rule.weights(meta, key)
    assert pix2pix.identify(tensors) is None
    with pytest.raises(UserError, match="no network of pix2pix has the tensors") as caught:
        pix2pix.to_trees(tensors)
    assert "\n" not in str(caught.value)


def test_lookalikes_are_none_of_them():
    disc = network("junyanz_D_basic3_batch")
    # DCGAN's discriminator has the same places, without biases
    dcgan = {k: v for k, v in disc.items() if k not in ("model.0.bias", "model.11.bias")}
    three = {k: v[..., :3, :3] if v.ndim == 4 else v for k, v in disc.items()}
    vectors = dict(disc, **{"model.11.weight": np.zeros((100, 64, 4, 4), np.float32)})
    # PyTorch-GAN's U-Net had 3x3 kernels once
    unet = pix2pix.from_trees(*from_shapes(models.PyTorchGanGenerator(2, depth=3)))
    assert pix2pix.identify(unet)
    unet = {k: v[..., :3, :3] if v.ndim == 4 else v for k, v in unet.items()}
    for tensors in (dcgan, three, vectors, unet, {}, {"model.0.weight": np.zeros((2, 3))}):
        assert pix2pix.identify(tensors) is None


def test_foreign_trees_are_refused():
    params, stats = pix2pix.to_trees(network("junyanz_D_basic3_batch"))
    extra = {**params, "adv_layer_0": {"kernel": np.zeros((2, 3))}}
    with pytest.raises(ValueError, match="params/adv_layer_0/kernel has no counterpart"):
        pix2pix.from_trees(extra, stats)
    with pytest.raises(ValueError, match="params/model_0/kernel has no counterpart"):
        pix2pix.from_trees({"model_0": {"kernel": np.zeros((2, 3))}}, {})
    with pytest.raises(ValueError, match="nothing has no counterpart"):
        pix2pix.from_trees({}, {})


def test_restoring_tells_the_networks_apart(tmp_path):
    def restored(tensors):
        torch_file.write(tmp_path / "net.pth", tensors)
        return weights.arrays(str(tmp_path / "net.pth"), "gen", "config.restore.gen")

    tensors = network("junyanz_D_pixel_batch")
    params, stats = pix2pix.to_trees(tensors)
    found = restored({f"module.{name}": tensor for name, tensor in tensors.items()})
    expected = trees.named_leaves(params, stats)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, strict=True, err_msg=name)
    assert "stats/batch_stats/norm_1/mean" in found

    meta, _ = golden_rule.load("gan/gan_forward")
    assert "params/model_0/kernel" in restored(golden_rule.weights(meta, "state_dict_D"))

"""The 2015 Inception network: golden taps from uint8 on, its layout, and what features may not
depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.core.mesh import Mesh, gather
from gan_jax.metrics import features
from gan_jax.models import inception
from gan_jax.ops import resize
from tests.helpers.golden_rule import load
from tests.helpers.golden_rule import weights as rule_weights

GOLDEN = {"32x32": (32, 32, 3), "100x80": (100, 80, 3)}
NAMES = {  # taps of a feature network by their names in the golden files
    "64": "64",
    "192": "192",
    "768": "768",
    "2048": "features",
    "logits_unbiased": "logits",
    "logits": "logits_biased",
}
SIDE = 299


def fold(tensors: dict, layer: str) -> dict[str, np.ndarray]:
    """The convolution that a convolution and its batch norm are together."""
    norm = {name: tensors[f"{layer}.bn.{name}"] for name in ("bias", "running_mean", "running_var")}
    factor = 1 / np.sqrt(norm["running_var"].astype(np.float64) + 1e-3)
    kernel = tensors[f"{layer}.conv.weight"].transpose(2, 3, 1, 0) * factor
    bias = norm["bias"] - norm["running_mean"] * factor
    return {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}


@pytest.fixture(scope="module")
def params():
    meta, _ = load("metrics/inception_rule_32x32")
    tensors = rule_weights(meta, "state_dict")
    found = {layer: fold(tensors, layer) for layer in inception.layers()}
    return found | {"fc": {"kernel": tensors["fc.weight"].T, "bias": tensors["fc.bias"]}}


def of_inception(params, how="tf1", devices=1, batch=1):
    identity = ("rule", "0123", "")
    return features.of_inception(params, identity, how, Mesh(devices), gather, batch)


@pytest.fixture(scope="module")
def network(params):
    return of_inception(params)


def golden_image(name: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """An image [H, W, 3] and its taps."""
    _, arrays = load(f"metrics/inception_rule_{name}")
    image = arrays["in/image"].transpose(1, 2, 0)
    assert image.dtype == np.uint8
    assert image.shape == GOLDEN[name]
    return image, {tap: arrays[f"out/{tap}"] for tap in NAMES}


def random_images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("form", ["array", "list"])
@pytest.mark.parametrize("name", GOLDEN)
def test_taps_equal_the_reference(network, name, form):
    """A list is resized on the host, an array on the device."""
    image, expected = golden_image(name)
    found = network.extract(image[None] if form == "array" else [image], tuple(NAMES.values()))
    assert sorted(found) == sorted(NAMES.values())
    for tap, values in expected.items():
        value = found[NAMES[tap]]
        assert value.dtype == np.float32
        assert value.shape == (1, network.widths[NAMES[tap]]) == (1, len(values))
        np.testing.assert_allclose(value[0], values, rtol=1e-4, atol=1e-5, err_msg=tap)


def test_layers_are_those_of_the_reference():
    meta, _ = load("metrics/inception_rule_32x32")
    shapes = {name: tuple(shape) for name, shape in meta["state_dict"]}
    found = {
        f"{layer}.conv.weight": (outputs, inputs, *kernel)
        for layer, (kernel, inputs, outputs) in inception.layers().items()
    }
    assert found == {name: shape for name, shape in shapes.items() if len(shape) == 4}


def test_number_of_parameters(params):
    layers = inception.layers()
    assert len(layers) == 94
    biases = sum(layer.outputs for layer in layers.values())
    kernels = sum(np.prod(layer.kernel) * layer.inputs * layer.outputs for layer in layers.values())
    assert kernels + biases == 21_768_352
    # a state dict has a mean, a variance and a beta where we have a bias
    assert (4 * len(layers), kernels + 3 * biases) == (376, 21_802_784)
    held = {layer: leaves for layer, leaves in params.items() if layer != "fc"}
    assert sum(leaf.size for leaf in jax.tree.leaves(held)) == 21_768_352


def shape_of(params, batch=2):
    """What `apply` returns for these taps, computing nothing."""
    image = jax.ShapeDtypeStruct((batch, SIDE, SIDE, 3), jnp.float32)
    return lambda taps: jax.eval_shape(lambda p, x: inception.apply(p, x, taps), params, image)


def test_every_tap_has_its_width(params):
    found = shape_of(params)(list(inception.TAPS))
    assert {tap: (leaf.shape, leaf.dtype) for tap, leaf in found.items()} == {
        tap: ((2, width), jnp.float32) for tap, width in inception.TAPS.items()
    }
    assert inception.TAPS["spatial"] == 2023


@pytest.mark.parametrize(
    ("tap", "last"),
    [
        ("64", "Conv2d_2b_3x3"),
        ("192", "Conv2d_4a_3x3"),
        ("768", "Mixed_6e.branch_pool"),
        ("2048", "Mixed_7c.branch_pool"),
    ],
)
def test_layers_behind_a_tap_are_not_needed(params, tap, last):
    # the first eight characters name the block, and blocks are in alphabetical order
    kept = {layer: leaves for layer, leaves in params.items() if layer[:8] <= last[:8]}
    assert last in kept
    assert "fc" not in kept
    assert list(shape_of(kept)([tap])) == [tap]
    del kept[last]
    with pytest.raises(KeyError, match=last):
        shape_of(kept)([tap])


def test_order_of_taps_does_not_matter(params):
    assert sorted(shape_of(params)(["logits", "64", "2048"])) == ["2048", "64", "logits"]


def test_unknown_tap_is_named(params, network):
    with pytest.raises(ValueError, match=r"tap 'pool_3'; accepted: 64, 192, 768, 2048"):
        shape_of(params)(["64", "pool_3"])
    with pytest.raises(ValueError, match=r"tap 'pool_3'; accepted"):
        network.extract(random_images(1, 8, 8, 3), ["pool_3"])


@pytest.mark.parametrize(
    "shape", [(1, 298, 299, 3), (1, 299, 300, 3), (1, 299, 299, 1), (299, 299, 3), (1, 3, 299, 299)]
)
def test_images_of_another_size_are_named(shape):
    with pytest.raises(ValueError, match=r"takes \[B, 299, 299, 3\], found \(") as caught:
        inception.apply({}, jnp.zeros(shape), ["64"])
    assert str(shape) in str(caught.value)


def test_unknown_resize_is_named():
    with pytest.raises(ValueError, match=r"resize 'legacy'; accepted: tf1, clean, bilinear"):
        of_inception({}, how="legacy")


def test_network_says_what_it_is(params, network):
    assert network[:3] == ("rule", "0123", "tf1")
    assert network.widths == {
        "64": 64, "192": 192, "768": 768, "features": 2048, "spatial": 2023,
        "logits": 1008, "logits_biased": 1008,
    }  # fmt: skip
    without = {layer: leaves for layer, leaves in params.items() if layer != "fc"}
    assert sorted(of_inception(without).widths) == ["192", "64", "768", "features", "spatial"]


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    """To 1e-5 of the largest feature."""
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_features_know_nothing_of_batch_size_and_devices(params):
    images = random_images(5, 32, 32, 3)
    images[3] = golden_image("32x32")[0]
    taps = ("features", "spatial")
    expected = of_inception(params, batch=2).extract(images, taps)
    assert {tap: value.shape for tap, value in expected.items()} == {
        "features": (5, 2048),
        "spatial": (5, 2023),
    }
    # the images differ by far more than the rounding that is allowed below
    apart = np.abs(expected["features"][:, None] - expected["features"]).max(axis=2)
    assert (apart + np.eye(5) > 1e-3 * np.abs(expected["features"]).max()).all()
    golden = golden_image("32x32")[1]["2048"]
    np.testing.assert_allclose(expected["features"][3], golden, rtol=1e-4, atol=1e-5)
    for devices, batch in ((1, 3), (2, 2)):
        found = of_inception(params, devices=devices, batch=batch).extract(images, taps)
        for tap in taps:
            assert_close(found[tap], expected[tap])


def test_images_of_several_sizes_are_resized_one_by_one(network):
    images = [
        golden_image("100x80")[0],
        golden_image("32x32")[0],
        random_images(20, 45, 1),  # grey
        random_images(SIDE, SIDE, 3, seed=1),
    ]
    together = network.extract(images, ["192"])["192"]
    alone = [network.extract(image[None], ["192"])["192"] for image in images]
    assert_close(together, np.concatenate(alone))
    np.testing.assert_allclose(together[1], golden_image("32x32")[1]["192"], rtol=1e-4, atol=1e-5)


def test_grey_is_three_equal_channels(network):
    grey = random_images(2, 24, 31, 1)
    colour = np.repeat(grey, 3, axis=3)
    expected = network.extract(colour, ["64"])["64"]
    assert_close(network.extract(grey, ["64"])["64"], expected)
    assert_close(network.extract(list(grey), ["64"])["64"], expected)


def test_spatial_tap_is_the_start_of_a_branch_pixel_by_pixel(params, monkeypatch):
    entered, block = {}, inception._block_c

    def record(params, name, x):
        entered[name] = x
        return block(params, name, x)

    monkeypatch.setattr(inception, "_block_c", record)

    @jax.jit
    def run(params, x):
        found = inception.apply(params, x, ["spatial"])
        return found["spatial"], entered["Mixed_6d"]

    image = random_images(1, SIDE, SIDE, 3).astype(np.float32)
    spatial, x = (np.asarray(array) for array in run(params, (image - 128) / 128))
    branch = params["Mixed_6d.branch1x1"]
    expected = np.maximum(x[0] @ branch["kernel"][0, 0] + branch["bias"], 0)  # [17, 17, 192]
    assert spatial.shape == (1, 2023)
    assert len(np.unique(expected[..., :7])) > 1000
    in_order = [expected[row, column, c] for row, column, c in np.ndindex(17, 17, 7)]
    assert_close(spatial[0], np.array(in_order))


RESIZES = {"tf1": resize.tf1_bilinear, "clean": resize.antialiased, "bilinear": resize.bilinear}


@pytest.fixture
def traced(monkeypatch):
    """Replaces the network by one that returns its pixels; holds the precision of its products."""
    precisions = []

    def pixels(params, x, taps):
        precisions.append(jax.config.jax_default_matmul_precision)
        assert (x.dtype, x.shape[1:]) == (jnp.float32, (SIDE, SIDE, 3))
        return dict.fromkeys(taps, x[:, ::13, ::13])

    monkeypatch.setattr(inception, "apply", pixels)
    return precisions


def scaled(pixels, how):
    return (pixels - 127.5) / 127.5 if how == "bilinear" else (pixels - 128) / 128


@pytest.mark.parametrize("how", RESIZES)
def test_each_resize_is_its_rule_and_pixels_are_scaled(traced, how):
    assert sorted(RESIZES) == sorted(features.RESIZES)
    network = of_inception({}, how=how, batch=2)
    assert network.resize == how
    images = random_images(3, 40, 350, 3)
    resized = np.asarray(RESIZES[how](images, SIDE, SIDE))[:, ::13, ::13]
    for form in (images, list(images)):
        found = network.extract(form, ["features"])["features"]
        np.testing.assert_allclose(found, scaled(resized, how), rtol=1e-6, atol=1e-5)
    assert set(traced) == {"highest"}


@pytest.mark.parametrize("how", RESIZES)
def test_images_of_the_networks_size_stay_as_they_are(traced, how):
    images = random_images(2, SIDE, SIDE, 3)
    images[0, 0, 0], images[1, 0, 0] = 0, 255
    network = of_inception({}, how=how, batch=2)
    found = network.extract(images, ["features"])["features"]
    expected = scaled(images[:, ::13, ::13].astype(np.float32), how)
    # 128 is a power of two and divides exactly
    np.testing.assert_array_max_ulp(found, expected, maxulp=2 if how == "bilinear" else 0)
    # pytorch-fid's networks see white as 1
    assert (found.min(), found.max()) == (-1, 1 if how == "bilinear" else 127 / 128)

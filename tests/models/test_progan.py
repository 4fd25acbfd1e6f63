"""The growing networks of ProGAN: the original's numbers, and what must hold besides."""

import functools
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.models import progan
from gan_jax.models.layers import MinibatchStddev, average_pool, leaky_relu, upsample
from tests.helpers import golden_rule, progan_golden

ATOL = 1e-5  # of the largest value
NETWORKS = sorted(p.stem for p in (golden_rule.GOLDEN / "progan").glob("networks_*.npz"))
OPTIONS = {
    "use_wscale": "equalized",
    "use_pixelnorm": "pixel_norm",
    "use_leakyrelu": "leaky",
    "normalize_latents": "normalize_latents",
    "fmap_decay": "fmap_decay",
    "latent_size": "z_dim",
    "mbstd_group_size": "minibatch_stddev",
}


def build(resolution: int = 16, colours: int = 3, classes: int = 0, **options):
    model = SimpleNamespace(**{**progan.defaults(), **options})
    return progan.build(model, resolution, colours, classes)


def of_golden(meta: dict):
    """The networks that a golden file's options describe."""
    given = meta["options"]
    own = {OPTIONS[name]: value for name, value in {**given["G"], **given["D"]}.items()}
    for name in ("fmap_base", "fmap_max", "fused_scale"):
        own[name] = given[name]
    return build(given["resolution"], given["num_channels"], given["label_size"], **own)


def place(resolution: int, lod: float) -> tuple[int, float]:
    """Side and fade at a level of detail."""
    return resolution >> math.floor(lod), lod - math.floor(lod)


def to_nhwc(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(np.asarray(x, np.float32), 1, -1)


def assert_near(found, expected, what: str, share: float = ATOL):
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape, what
    if expected.size:
        error = np.abs(found - expected).max()
        assert error <= share * np.abs(expected).max(), f"{what}: off by {error}"


@functools.cache
def both(gen, disc):
    """G and D as one program per side: their outputs on given latents, labels and images."""

    @functools.partial(jax.jit, static_argnums=5)
    def run(params, z, label, image, fade, side):
        made, _ = gen.apply(params["G"], {}, z, label, side, fade)
        judged, _ = disc.apply(params["D"], {}, image, None, side, fade)
        return made, judged

    return run


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_give_the_originals_numbers(name):
    meta, arrays = golden_rule.load(f"progan/{name}")
    resolution = meta["options"]["resolution"]
    wscale = meta["options"]["G"].get("use_wscale", True)
    params = {net: progan_golden.params(meta, net, wscale) for net in "GD"}
    run = both(*of_golden(meta))
    for row, lod in enumerate(arrays["in/lods"]):
        side, fade = place(resolution, lod)
        image = progan_golden.images(arrays["in/images"], side)
        made, (score, logits) = run(
            params, arrays["in/latents"], arrays["in/labels"], image, np.float32(fade), side
        )
        what = f"{name} at lod {lod}"
        full = np.kron(made, np.ones((1, resolution // side, resolution // side, 1)))
        assert_near(full, to_nhwc(arrays[f"out/G_lod{lod:g}"]), f"G of {what}")
        assert_near(score[:, None], arrays["out/D_scores"][row], f"scores of {what}")
        assert_near(logits, arrays["out/D_labels"][row], f"logits of {what}")


def test_all_golden_networks_are_there():
    assert len(NETWORKS) == 7


def weighted(name: str, x, **options):
    """A layer with the golden weight of that name and no bias."""
    shapes = {n: tuple(s) for n, s in golden_rule.load("progan/layers")[0]["variables"]}
    kernel = progan_golden.rule(f"L_{name}/weight", shapes[f"L_{name}/weight"])
    if name == "up_conv":
        kernel = kernel[::-1, ::-1].swapaxes(2, 3)
    params = {"kernel": jnp.asarray(kernel), "bias": jnp.zeros(7)}
    return progan.Weighted(7, **options).apply({"params": params}, x)


@jax.jit
def layers(whole, v):
    """Every layer of the golden file by its name there; a word more tells two ways apart."""
    x = whole[:2]
    found = {
        "pixel_norm": progan.pixel_norm(whole),
        "pixel_norm_vec": progan.pixel_norm(v),
        "pixel_norm_zero": progan.pixel_norm(jnp.zeros((1, 5))),
        "upscale2": upsample(x),
        "downscale2": average_pool(x),
        "leaky_relu": leaky_relu(x),
        "conv3": weighted("conv3", x),
        "conv1_gain1": weighted("conv1_gain1", x, kernel_size=1, gain=1.0),
        "dense": weighted("dense", v, kernel_size=0),
        "dense_gain": weighted("dense_gain", v, kernel_size=0, gain=progan.GAIN / 4),
        "bias": x + progan_golden.rule("L_bias/bias", (5,)),
    }
    for fused in (False, True):
        for name, resize in (("up_conv", "up"), ("conv_down", "down")):
            found[f"{name} {fused}"] = weighted(name, x, resize=resize, fused=fused)
    for group in (1, 2, 4, 8, 16):
        found[f"mbstd_g{group}"] = MinibatchStddev(group).apply({}, whole)[:, 0, 0, -1]
    return found


def test_layers_give_the_originals_numbers():
    _, arrays = golden_rule.load("progan/layers")
    found = layers(to_nhwc(arrays["in/x"]), arrays["in/v"])
    for name, value in found.items():
        expected = arrays[f"out/{name.split()[0]}"]
        expected = to_nhwc(expected) if expected.ndim == 4 else expected
        assert_near(value, expected, name)
    assert {name.split()[0] for name in found} == {
        name.removeprefix("out/") for name in arrays if name.startswith("out/")
    }


@pytest.mark.parametrize(
    ("resolution", "gen_count", "disc_count"),
    [
        (1024, 23_079_115, 23_087_249),
        (256, 23_044_309, 23_052_353),
        (128, 22_933_394, 22_941_313),
        (32, 20_719_628, 20_726_785),
    ],
)
def test_parameters_are_as_many_as_the_originals(resolution, gen_count, disc_count):
    def count(net, *inputs):
        init = functools.partial(net.init, jax.random.key(0))
        shapes, stats = jax.eval_shape(lambda *given: init(*given, resolution, 0.0), *inputs)
        assert stats == {}
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))

    gen, disc = build(resolution)
    label = jnp.zeros((1, 0))
    assert count(gen, jnp.zeros((1, 512)), label) == gen_count
    image = jax.ShapeDtypeStruct((1, resolution, resolution, 3), jnp.float32)
    assert count(disc, image, label) == disc_count


SMALL = dict(fmap_base=32, fmap_max=8, z_dim=6)
CLASSES = 3


@functools.cache
def small(**options):
    return build(16, 2, CLASSES, **{**SMALL, **options})


@functools.cache
def given(batch: int = 4):
    """Params of the small networks, with biases, and inputs, all of float32."""
    nets = {net: small()[index] for index, net in enumerate("GD")}
    inputs = {"G": (batch, SMALL["z_dim"]), "D": (batch, 16, 16, 2)}
    random = np.random.default_rng(0)

    def normal(shape):
        return random.normal(size=shape).astype(np.float32)

    label = np.eye(CLASSES, dtype=np.float32)[random.integers(CLASSES, size=batch)]
    params = {}
    for name, net in nets.items():
        shapes, _ = jax.eval_shape(
            lambda x, net=net: net.init(jax.random.key(0), x, label, 16, 0.0), normal(inputs[name])
        )
        params[name] = jax.tree.map(lambda leaf: normal(leaf.shape), shapes)
    return params, normal(inputs["G"]), label


@functools.cache
def chain():
    """A scalar of images and their scores, with its gradients, as one program per side."""
    gen, disc = small()

    def total(params, z, label, fade, side):
        image, _ = gen.apply(params["G"], {}, z, label, side, fade)
        (score, logits), _ = disc.apply(params["D"], {}, image, label, side, fade)
        return jnp.mean(score**2) + jnp.mean(logits**2) + jnp.mean(image**2)

    return jax.jit(jax.grad(total), static_argnums=4)


def assert_same_in_double(run):
    """`run(fused)` twice, in float64: the same numbers but for rounding."""
    with jax.enable_x64(True):
        plain, fused = (run(fused) for fused in (False, True))
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(plain), jax.tree.leaves(fused), strict=True
    ):
        assert a.dtype == jnp.float64
        assert_near(b, a, jax.tree_util.keystr(path), 1e-12)


@pytest.mark.parametrize("resize", ["up", "down"])
def test_a_fused_layer_is_the_plain_one(resize):
    random = np.random.default_rng(4)
    x, kernel, bias = (random.normal(size=s) for s in ((2, 4, 4, 3), (3, 3, 3, 5), (5,)))

    def run(fused: bool):
        layer = progan.Weighted(5, resize=resize, fused=fused)

        def value(x, params):
            return jnp.sum(jnp.sin(layer.apply({"params": params}, x)))

        def norm(x, params):
            return jnp.sum(jax.grad(value)(x, params) ** 3)

        def total(*given):
            return value(*given) + norm(*given)

        params = {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}
        return jax.jit(jax.value_and_grad(total, argnums=(0, 1)))(jnp.asarray(x), params)

    assert_same_in_double(run)


def test_a_fused_generator_is_the_plain_one():
    params, *inputs = given()

    def run(fused: bool):
        gen, _ = small(fused_scale=fused)
        double = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (params["G"], *inputs))

        def total(params, z, label):
            image, _ = gen.apply(params, {}, z, label, 8, 0.3)
            return jnp.sum(jnp.sin(image)), image

        return jax.jit(jax.value_and_grad(total, has_aux=True))(*double)

    assert_same_in_double(run)


def test_an_unfused_discriminator_is_another_function():
    """It takes means behind the activation, the fused one before it, as in the original."""
    params, z, label = given()
    image = np.random.default_rng(5).normal(size=(4, 8, 8, 2)).astype(np.float32)
    plain, fused = (
        both(*small(fused_scale=f))(params, z, label, image, np.float32(0.3), 8)[1][0]
        for f in (False, True)
    )
    assert np.abs(plain - fused).max() > 1e-3


def levels(grads: dict) -> dict[str, float]:
    """The largest gradient of every layer of both networks."""
    return {
        f"{net}/{layer}": max(float(np.abs(leaf).max()) for leaf in leaves.values())
        for net, tree in grads.items()
        for layer, leaves in tree.items()
    }


def test_levels_that_are_not_in_use_get_no_gradient():
    run = chain()
    for side, fade, idle in (
        (8, 0.5, ["16"]),
        (8, 0.0, ["16", "rgb4"]),  # the lower head has faded out
        (8, 1.0, ["16", "to_rgb8"]),  # what is new has not come in yet
        (4, 0.0, ["16", "8"]),
    ):
        for layer, largest in levels(run(*given(), np.float32(fade), side)).items():
            used = not any(name in layer for name in idle)
            used = used and not (fade == 1 and layer in HIDDEN)
            assert (largest > 0) == used, (side, fade, layer, largest)


# at fade 1, what leads to the new head of G and from the new one of D
HIDDEN = {
    *(f"{net}/block8_conv{k}" for net in "GD" for k in (0, 1)),
    "D/from_rgb8",
}


def test_fade_goes_from_the_lower_side_to_the_upper():
    params, z, label = given()
    gen, disc = small()
    run = both(gen, disc)
    image = np.random.default_rng(1).normal(size=(4, 8, 8, 2)).astype(np.float32)

    def at(fade):
        return run(params, z, label, image, np.float32(fade), 8)

    low, judged = run(params, z, label, np.asarray(average_pool(image)), np.float32(0), 4)
    old, old_judged = at(1)
    np.testing.assert_allclose(old, upsample(low), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(old_judged[0], judged[0], rtol=1e-5, atol=1e-5)
    new, _ = at(0)
    mixed, _ = at(0.25)
    np.testing.assert_allclose(mixed, 0.75 * new + 0.25 * old, rtol=1e-5, atol=1e-5)


def test_labels_are_normalised_with_the_latents():
    params, z, label = given()

    def apply(z, label, **options):
        return small(**options)[0].apply(params["G"], {}, z, label, 4, 0.0)[0]

    image = apply(z, label)
    np.testing.assert_allclose(apply(3 * z, 3 * label), image, rtol=1e-4, atol=1e-4)
    assert np.abs(apply(3 * z, label) - image).max() > 1e-2
    assert np.abs(apply(z, np.roll(label, 1, axis=1)) - image).max() > 1e-2
    free = dict(normalize_latents=False, pixel_norm=False)
    assert np.abs(apply(3 * z, 3 * label, **free) - apply(z, label, **free)).max() > 1e-2


def test_minibatch_statistics_are_of_strided_groups():
    params, _, _ = given()
    _, disc = small(minibatch_stddev=2)
    judge = jax.jit(lambda image: disc.apply(params["D"], {}, image, None, 4, 0.0)[0][0])
    image = np.random.default_rng(2).normal(size=(4, 4, 4, 2)).astype(np.float32)
    score = judge(image)
    for order in ([2, 1, 0, 3], [1, 0, 3, 2], [3, 2, 1, 0]):  # groups stay {0, 2} and {1, 3}
        np.testing.assert_allclose(judge(image[order]), score[jnp.array(order)], rtol=1e-4)
    order = np.array([1, 0, 2, 3])
    assert np.abs(judge(image[order]) - score[order]).max() > 1e-3


def test_half_precision_stays_near_single():
    params, z, label = given()
    image = np.random.default_rng(3).normal(size=(4, 8, 8, 2)).astype(np.float32)
    found, expected = (
        jax.tree.leaves(both(*small(dtype=dtype))(params, z, label, image, np.float32(0.3), 8))
        for dtype in ("bfloat16", "float32")
    )
    for half, single in zip(found, expected, strict=True):
        assert half.dtype == single.dtype == jnp.float32
        assert np.isfinite(half).all()
        assert 0 < np.abs(half - single).max() < 0.05 * np.abs(single).max()


@pytest.mark.parametrize("group", [0, 1])
def test_no_statistics_without_groups(group):
    """As in the original, a group of one is none."""
    _, disc = small(minibatch_stddev=group)
    image, label = jnp.ones((2, 16, 16, 2)), jnp.zeros((2, CLASSES))
    shapes, _ = jax.eval_shape(lambda k: disc.init(k, image, label, 16, 0.0), jax.random.key(0))
    assert shapes["block4_conv"]["kernel"].shape == (3, 3, 8, 8)


def test_the_smallest_network_has_one_side():
    gen, disc = build(4, 1, 0, **SMALL)

    def run(key):
        z, label = jnp.ones((2, 6)), jnp.zeros((2, 0))
        params, _ = gen.init(key, z, label, 4, 0.0)
        assert set(params) == {"block4_dense", "block4_conv", "to_rgb4"}
        image, _ = gen.apply(params, {}, z, label, 4, 0.0)
        params, _ = disc.init(key, image, label, 4, 0.0)
        assert set(params) == {"block4_conv", "block4_dense0", "block4_dense1", "from_rgb4"}
        return image, disc.apply(params, {}, image, label, 4, 0.0)[0]

    image, (score, logits) = jax.eval_shape(run, jax.random.key(0))
    assert (image.shape, score.shape, logits.shape) == ((2, 4, 4, 1), (2,), (2, 0))

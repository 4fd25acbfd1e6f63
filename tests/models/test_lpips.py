"""LPIPS against the paper's formula in numpy, and what a distance of images has to keep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.models.lpips import Features, lpips
from gan_jax.models.network import functional

SMALLEST = {"alexnet": 31, "vgg16": 16}
# Convolutions as (features, side, stride, padding), "pool" where a pool lies, "map" behind the
# layers that are compared: the tables of both papers, not ours.
VGG_BLOCKS = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)
LISTS = {
    "alexnet": [
        *((64, 11, 4, 2), "map", "pool", (192, 5, 1, 2), "map", "pool"),
        *((384, 3, 1, 1), "map", (256, 3, 1, 1), "map", (256, 3, 1, 1), "map"),
    ],
    "vgg16": [
        step
        for block in VGG_BLOCKS
        for step in [*[(features, 3, 1, 1) for features in block], "map", "pool"]
    ],
}
POOLED = {"alexnet": 3, "vgg16": 2}  # side of the pooling windows, which move by 2


def images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def weights(kind: str) -> dict:
    """By rule: kernels that keep the size of features, small biases, heads in [0, 1]."""
    random = np.random.default_rng(7)
    params: dict = {"features": {}}
    channels, convs, heads = 3, 0, 0
    for step in LISTS[kind]:
        if step == "map":
            head = random.uniform(size=(1, 1, channels, 1)).astype(np.float32)
            params[f"head_{heads}"] = {"kernel": head}
            heads += 1
        elif step != "pool":
            features, side, _, _ = step
            kernel = random.standard_normal((side, side, channels, features), np.float32)
            kernel *= np.float32((2 / (side * side * channels)) ** 0.5)
            bias = 0.1 * random.standard_normal(features, np.float32)
            params["features"][f"conv_{convs}"] = {"kernel": kernel, "bias": bias}
            channels, convs = features, convs + 1
    return params


def windows(x: np.ndarray, side: int, stride: int) -> np.ndarray:
    """[B, H, W, C] → [B, H', W', C, side, side]."""
    every = np.lib.stride_tricks.sliding_window_view(x, (side, side), (1, 2))
    return every[:, ::stride, ::stride]


def numpy_maps(kind: str, params: dict, x: np.ndarray) -> list[np.ndarray]:
    """The five maps in float64."""
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    # ImageNet's figures are for [0, 1]; LPIPS rounds what they become in [-1, 1].
    h = (x.astype(np.float64) - np.round(2 * mean - 1, 3)) / np.round(2 * deviation, 3)
    maps, convs = [], 0
    for step in LISTS[kind]:
        if step == "map":
            maps.append(h)
        elif step == "pool":
            h = windows(h, POOLED[kind], 2).max((4, 5))
        else:
            _, side, stride, padding = step
            conv = params["features"][f"conv_{convs}"]
            h = np.pad(h, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
            columns = windows(h, side, stride)  # [B, H', W', C, kh, kw]
            kernel = conv["kernel"].astype(np.float64)
            h = np.tensordot(columns, kernel, ((4, 5, 3), (0, 1, 2))) + conv["bias"]
            h, convs = np.maximum(h, 0), convs + 1
        if len(maps) == 5:
            return maps
    raise AssertionError


def numpy_lpips(kind: str, params: dict, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    total = np.zeros(len(x))
    pairs = zip(numpy_maps(kind, params, x), numpy_maps(kind, params, y), strict=True)
    for level, pair in enumerate(pairs):
        a, b = (h / (np.sqrt(np.sum(h**2, 3, keepdims=True)) + 1e-10) for h in pair)
        head = params[f"head_{level}"]["kernel"].reshape(-1)
        total += np.mean((a - b) ** 2 @ head, (1, 2))
    return total


@pytest.fixture(scope="module")
def alexnet():
    """A function of two batches [2, 35, 43, 3]."""
    params = weights("alexnet")
    apply = jax.jit(lpips("alexnet").apply)
    return lambda x, y: np.asarray(apply(params, x, y))


X, Y = images(2, 35, 43, 3, seed=1), images(2, 35, 43, 3, seed=2)


def test_alexnet_distance_is_the_papers_formula(alexnet):
    expected = numpy_lpips("alexnet", weights("alexnet"), X, Y)
    np.testing.assert_allclose(alexnet(X, Y), expected, rtol=1e-5)
    near = X + np.float32(0.02) * Y
    expected = numpy_lpips("alexnet", weights("alexnet"), X, near)
    assert (expected < 0.1).all()
    np.testing.assert_allclose(alexnet(X, near), expected, rtol=1e-4)


def test_vgg16_distance_is_the_papers_formula():
    x, y = images(1, 17, 20, 3, seed=3), images(1, 17, 20, 3, seed=4)
    params = weights("vgg16")
    found = jax.jit(lpips("vgg16").apply)(params, x, y)
    np.testing.assert_allclose(found, numpy_lpips("vgg16", params, x, y), rtol=1e-5)


def test_it_is_a_distance(alexnet):
    np.testing.assert_allclose(alexnet(X, X), 0, atol=1e-9)
    np.testing.assert_allclose(alexnet(X, Y), alexnet(Y, X), rtol=1e-6)
    assert alexnet(X, Y).shape == (2,)
    assert (alexnet(X, Y) > 0.1).all()
    steps = [alexnet(X, X + np.float32(size) * Y) for size in (0.01, 0.1, 1)]
    assert (np.diff(steps, axis=0) > 0).all()


def test_pairs_know_nothing_of_their_batch(alexnet):
    both = alexnet(X, Y)
    np.testing.assert_allclose(alexnet(X[::-1], Y[::-1]), both[::-1], rtol=1e-6)
    other = images(1, 35, 43, 3, seed=5)
    mixed = alexnet(np.concatenate([X[:1], other]), np.concatenate([Y[:1], -other]))
    np.testing.assert_allclose(mixed[0], both[0], rtol=1e-6)


def test_gradient_is_finite_where_all_features_are_0():
    """The length of a pixel's features has no derivative there; the image's gradient has."""
    params = weights("alexnet")
    for conv in ("conv_3", "conv_4"):  # nothing gets through the last two layers
        params["features"][conv]["bias"] = np.full(256, -1e4, np.float32)
    x, y = images(1, 31, 31, 3, seed=1), images(1, 31, 31, 3, seed=2)
    step = jax.jit(jax.value_and_grad(lambda y: lpips("alexnet").apply(params, x, y).sum()))
    value, gradient = step(y)
    assert np.isfinite(gradient).all()
    closer, _ = step(y - 1e-3 * gradient / np.linalg.norm(gradient))
    # the gradient is the slope: a step of length 1e-3 against it gains 1e-3 of its length
    np.testing.assert_allclose(value - closer, 1e-3 * np.linalg.norm(gradient), rtol=0.05)


@pytest.mark.parametrize(
    ("kind", "convolutions", "heads"),
    # parameters of torchvision's vgg16.features and alexnet.features; channels of the five maps
    [("vgg16", 14_714_688, 1472), ("alexnet", 2_469_696, 1152)],
)
def test_size_of_the_networks(kind, convolutions, heads):
    side = SMALLEST[kind]
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    params = jax.eval_shape(lambda x: lpips(kind).init(jax.random.key(0), x, x), image)
    assert sum(leaf.size for leaf in jax.tree.leaves(params.pop("features"))) == convolutions
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == heads
    assert jax.tree.structure(params) == jax.tree.structure(
        {f"head_{level}": {"kernel": 0} for level in range(5)}
    )


def test_initial_heads_are_the_distance_without_calibration():
    @jax.jit
    def some_leaves(x):  # the rest of the network is never drawn
        params = lpips("alexnet").init(jax.random.key(0), x, x)
        heads = [params[f"head_{level}"]["kernel"] for level in range(5)]
        return heads, params["features"]["conv_1"]["kernel"]

    heads, kernel = some_leaves(jnp.zeros((1, 31, 31, 3)))
    assert all((head == 1).all() for head in heads)
    assert float(jnp.std(kernel)) == pytest.approx((2 / (5 * 5 * 64)) ** 0.5, rel=0.02)


def last_side(kind: str, side: int) -> int:
    """Of the coarsest map, 0 where a pooling window does not fit."""
    for step in LISTS[kind][: -1 if kind == "vgg16" else None]:
        if step == "pool":
            side = (side - POOLED[kind]) // 2 + 1 if side >= POOLED[kind] else 0
        elif step != "map":
            _, window, stride, padding = step
            side = (side + 2 * padding - window) // stride + 1 if side else 0
    return side


@pytest.mark.parametrize("kind", SMALLEST)
def test_smallest_images(kind):
    """One pixel remains in the coarsest map of the smallest image, nothing of a smaller one."""
    side = SMALLEST[kind]
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    features, params = functional(Features(kind)), weights(kind)["features"]
    maps = jax.eval_shape(lambda x: features.apply(params, {}, x)[0], image)
    assert maps[-1].shape[1:3] == (1, 1)
    assert (last_side(kind, side), last_side(kind, side - 1)) == (1, 0)
    for height, width in ((side - 1, 64), (64, side - 1)):
        x = jnp.zeros((1, height, width, 3))
        message = f"{height}x{width} pixels; LPIPS of {kind} needs {side} and more"
        with pytest.raises(ValueError, match=message):
            lpips(kind).apply({}, x, x)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ((1, 64, 64, 1), (1, 64, 64, 1)),  # grey
        ((1, 64, 64, 3), (2, 64, 64, 3)),
        ((1, 64, 64, 3), (1, 64, 32, 3)),
        ((64, 64, 3), (64, 64, 3)),
        ((1, 3, 64, 64), (1, 3, 64, 64)),
    ],
)
def test_images_of_another_shape_are_named(x, y):
    with pytest.raises(ValueError, match=r"LPIPS compares two of \[B, H, W, 3\]") as caught:
        lpips("alexnet").apply({}, jnp.zeros(x), jnp.zeros(y))
    assert str(list(y)) in str(caught.value)


def test_unknown_kind_is_named():
    with pytest.raises(ValueError, match=r"kind is 'squeeze'; accepted: vgg16, alexnet"):
        lpips("squeeze")


def test_distance_is_at_least_float32():
    def apply(x):
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), weights("alexnet"))
        return lpips("alexnet").apply(params, x, x)

    image = jax.ShapeDtypeStruct((3, 31, 31, 3), jnp.bfloat16)
    assert jax.eval_shape(apply, image) == jax.ShapeDtypeStruct((3,), jnp.float32)


def test_no_device_may_round_the_products():
    x = jax.ShapeDtypeStruct((1, 31, 31, 3), jnp.float32)
    program = str(jax.make_jaxpr(lpips("alexnet").apply)(weights("alexnet"), x, x))
    assert program.count("Precision.HIGHEST") >= 10
    assert "precision=None" not in program

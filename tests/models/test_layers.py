"""Layers against their definitions: convolutions, norms, minibatch layers, initialisers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.models import convolution, layers
from gan_jax.models.network import functional

# (kernel, strides, padding, height, width)
CONVS = [(k, 2, p, 7, 8) for k in (2, 3, 4, 5) for p in (0, 1)]
CONVS += [(3, 1, 1, 5, 6), (4, 1, 1, 7, 5), (1, 1, 0, 3, 4), (5, 2, 2, 6, 7), (4, 2, 1, 2, 2)]
CONVS += [(3, 2, 1, 1, 1), (7, 3, 3, 9, 8)]
# (kernel, strides, padding, output padding, height, width)
TRANSPOSED = [(k, 2, p, 0, 3, 4) for k in (2, 3, 4, 5) for p in (0, 1)]
TRANSPOSED += [(3, 2, 1, 1, 3, 2), (4, 2, 1, 1, 3, 3), (3, 1, 1, 0, 4, 3), (4, 2, 1, 0, 1, 1)]
TRANSPOSED += [(5, 3, 1, 2, 3, 3)]


def arrays(*shapes, seed=0):
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape).astype(np.float32) for shape in shapes]


def conv_by_hand(x, kernel, strides, padding):
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    kh, kw = kernel.shape[:2]
    rows, cols = (x.shape[1] - kh) // strides + 1, (x.shape[2] - kw) // strides + 1
    y = np.zeros((x.shape[0], rows, cols, kernel.shape[3]))
    for i, j in np.ndindex(rows, cols):
        window = x[:, i * strides : i * strides + kh, j * strides : j * strides + kw]
        y[:, i, j] = np.einsum("bhwc,hwco->bo", window, kernel)
    return y


def transposed_by_hand(x, kernel, strides, padding, output_padding):
    kh, kw = kernel.shape[:2]
    rows, cols = ((n - 1) * strides for n in x.shape[1:3])
    y = np.zeros(
        (x.shape[0], rows + kh + output_padding, cols + kw + output_padding, kernel.shape[3])
    )
    for i, j in np.ndindex(*x.shape[1:3]):
        stamp = np.einsum("bc,hwco->bhwo", x[:, i, j], kernel)
        y[:, i * strides : i * strides + kh, j * strides : j * strides + kw] += stamp
    return y[:, padding : y.shape[1] - padding, padding : y.shape[2] - padding]


def value_and_slope(function):
    """The value of a convolution, and the gradients of a loss with a gradient penalty in it."""

    def run(x, kernel):
        y = function(x, kernel)
        weights = jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)

        def loss(x, kernel):
            return jnp.sum(jnp.sin(function(x, kernel)) * weights)

        def penalised(x, kernel):
            value, slope = jax.value_and_grad(loss)(x, kernel)
            return value + jnp.sum(slope**2)

        return y, jax.grad(penalised, (0, 1))(x, kernel)

    return run


def compare_forms(cases, function, by_hand):
    inputs = [arrays((2, *case[-2:], 3), (case[0], case[0], 3, 4)) for case in cases]

    def all_of(form):
        return jax.jit(
            lambda inputs: [
                value_and_slope(lambda x, k, case=case: function(x, k, *case[1:-2], form))(*pair)
                for case, pair in zip(cases, inputs, strict=True)
            ]
        )(inputs)

    native, explicit = all_of("native"), all_of("explicit")
    for case, pair, a, b in zip(cases, inputs, native, explicit, strict=True):
        expected = by_hand(*pair, *case[1:-2])
        np.testing.assert_allclose(a[0], expected, atol=1e-5, rtol=1e-5, err_msg=str(case))
        for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            scale = max(1.0, float(jnp.max(jnp.abs(one))))
            np.testing.assert_allclose(other, one, atol=1e-5 * scale, rtol=0, err_msg=str(case))


def test_convolution_forms_agree():
    compare_forms(CONVS, convolution.conv, conv_by_hand)


def test_transposed_convolution_forms_agree():
    compare_forms(TRANSPOSED, convolution.conv_transpose, transposed_by_hand)


def test_products_of_matrices_for_few_pixels_agree_too(monkeypatch):
    """What large kernels on small images are computed by, at sizes where every case is one."""
    monkeypatch.setattr(convolution, "LARGE_KERNEL", 1)
    compare_forms(CONVS, convolution.conv, conv_by_hand)
    compare_forms(TRANSPOSED, convolution.conv_transpose, transposed_by_hand)


def test_large_kernels_on_small_images_take_that_way():
    """256 x 256 channels: no convolution is left in the program, forwards and backwards."""
    x, kernel = arrays((2, 4, 4, 256), (4, 4, 256, 256))

    def program(function, *arguments):
        def loss(x, kernel):
            return jnp.sum(jnp.square(function(x, kernel, *arguments, form="explicit")))

        return jax.jit(jax.grad(loss, (0, 1))).lower(x, kernel).as_text()

    assert "stablehlo.convolution" not in program(convolution.conv, 2, 1)
    assert "stablehlo.convolution" not in program(convolution.conv_transpose, 2, 1)
    x = np.zeros((2, 64, 64, 256), np.float32)
    assert "stablehlo.convolution" in program(convolution.conv, 2, 1)


def test_third_derivatives_stay_available():
    x, kernel = arrays((1, 4, 4, 1), (4, 4, 1, 1))

    def third(form):
        def f(k):
            return jnp.sum(jnp.sin(convolution.conv(x, k, 2, 1, form)))

        for _ in range(3):
            f = (lambda g: lambda k: jnp.sum(jnp.square(jax.grad(g)(k))))(f)
        return jax.jit(f)(kernel)

    np.testing.assert_allclose(third("explicit"), third("native"), rtol=1e-4)


def test_unknown_form_is_refused():
    x, kernel = arrays((1, 4, 4, 1), (4, 4, 1, 1))
    with pytest.raises(ValueError, match="accepted: auto, native, explicit"):
        convolution.conv(x, kernel, 2, 1, "fast")


def test_layers_hold_pytorchs_parameters():
    x = jnp.ones((2, 5, 6, 3))
    conv = alone(layers.Conv, features=4, kernel_size=3, strides=2, padding=1)
    params, stats = conv.init(jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, params) == {"kernel": (3, 3, 3, 4), "bias": (4,)}
    assert stats == {}
    y, _ = conv.apply(params, stats, x)
    expected = conv_by_hand(np.asarray(x), np.asarray(params["kernel"]), 2, 1) + params["bias"]
    np.testing.assert_allclose(y, expected, atol=1e-5)
    deconv = alone(layers.ConvTranspose, features=4, use_bias=False)
    params, _ = deconv.init(jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, params) == {"kernel": (4, 4, 3, 4)}
    assert deconv.apply(params, {}, x)[0].shape == (2, 10, 12, 4)


class Alone(nn.Module):
    """One layer as a network."""

    kind: type[nn.Module]
    options: tuple

    @nn.compact
    def __call__(self, x, *rest, train=False):
        layer = self.kind(**dict(self.options), name="layer")
        if self.kind in (layers.MinibatchStddev, layers.MinibatchDiscrimination):
            return layer(x)
        return layer(x, train, *rest)


def alone(kind, **options):
    """The layer's functions, its own parameters and statistics at the root."""
    network = functional(Alone(kind, tuple(options.items())))

    def init(key, *inputs):
        params, stats = network.init(key, *inputs)
        return params.get("layer", {}), stats

    def apply(params, stats, *inputs, **rest):
        return network.apply({"layer": params}, stats, *inputs, **rest)

    return network._replace(init=init, apply=apply)


@pytest.mark.parametrize("name", list(layers.INITIALIZERS))
def test_initialisers(name):
    conv = alone(layers.Conv, features=64, weight_init=name)
    params, _ = jax.jit(conv.init)(jax.random.key(1), jnp.zeros((1, 4, 4, 32)))
    kernel, bias = np.asarray(params["kernel"]), np.asarray(params["bias"])
    fan_in, fan_out = 9 * 32, 9 * 64
    bound = fan_in**-0.5
    deviation = {
        "default": bound / 3**0.5,
        "normal_0.02": 0.02,
        "xavier": (2 / (fan_in + fan_out)) ** 0.5,
        "he": (2 / fan_in) ** 0.5,
        "lecun": fan_in**-0.5,
        "orthogonal": fan_in**-0.5,
    }[name]
    np.testing.assert_allclose(kernel.std(), deviation, rtol=0.03)
    if name == "default":
        assert np.abs(kernel).max() <= bound
    if name in ("default", "normal_0.02"):  # DCGAN leaves biases as PyTorch starts them
        assert 0.5 * bound < np.abs(bias).max() <= bound
    else:
        assert not bias.any()
    if name == "orthogonal":
        flat = kernel.reshape(-1, 64)
        np.testing.assert_allclose(flat.T @ flat, np.eye(64), atol=1e-5)


def test_batch_norm_keeps_pytorchs_statistics():
    norm = alone(layers.BatchNorm, eps=0.8)
    (x,) = arrays((3, 2, 2, 5))
    params, stats = norm.init(jax.random.key(0), x)
    params = {"scale": jnp.arange(5.0), "bias": jnp.ones(5)}
    y, new = jax.jit(lambda s, x: norm.apply(params, s, x, train=True))(stats, x)
    flat = x.reshape(-1, 5)
    expected = (x - flat.mean(0)) / np.sqrt(flat.var(0) + 0.8) * np.arange(5.0) + 1
    np.testing.assert_allclose(y, expected, atol=1e-5)
    new = new["batch_stats"]["layer"]
    np.testing.assert_allclose(new["mean"], 0.1 * flat.mean(0), atol=1e-6)
    np.testing.assert_allclose(new["var"], 0.9 + 0.1 * flat.var(0, ddof=1), atol=1e-6)
    still, same = norm.apply(params, stats, x)  # evaluation: mean 0, variance 1 so far
    np.testing.assert_allclose(still, x / np.sqrt(1.8) * np.arange(5.0) + 1, atol=1e-5)
    assert same is stats


def test_batch_norm_per_class():
    norm = alone(layers.BatchNorm, num_classes=3)
    x, scale, bias = arrays((4, 2, 2, 5), (3, 5), (3, 5))
    label = jnp.array([2, 0, 0, 1])
    start, stats = norm.init(jax.random.key(0), x, label)
    assert jnp.all(start["scale"] == 1)
    assert jnp.all(start["bias"] == 0)
    y, _ = norm.apply({"scale": scale, "bias": bias}, stats, x, label)
    plain, _ = norm.apply(start, stats, x, label)
    expected = plain * scale[label][:, None, None] + bias[label][:, None, None]
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_batch_norm_variance_survives_a_large_mean():
    norm = alone(layers.BatchNorm, affine=False)
    x = arrays((64, 2))[0] + 3000
    params, stats = norm.init(jax.random.key(0), x)
    y, _ = norm.apply(params, stats, x, train=True)
    np.testing.assert_allclose(np.std(y, axis=0), 1, rtol=1e-2)


def test_spectral_norm_divides_by_the_largest_singular_value():
    (x,) = arrays((2, 6, 6, 3))
    plain = alone(layers.Conv, features=8, use_bias=False)
    net = alone(layers.Conv, features=8, use_bias=False, spectral_norm=True)
    params, stats = net.init(jax.random.key(0), x)
    start = plain.init(jax.random.key(0), x)[0]  # the initial weights are not rescaled
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.all(a == b)), params, start))
    apply = jax.jit(lambda s: net.apply(params, s, x, train=True))
    for _ in range(60):
        y, stats = apply(stats)
    largest = np.linalg.svd(np.asarray(params["kernel"]).reshape(-1, 8), compute_uv=False)[0]
    np.testing.assert_allclose(y, plain.apply(params, {}, x)[0] / largest, atol=1e-5)
    assert net.apply(params, stats, x)[1] is stats  # evaluation leaves the vector alone


def test_spectral_norm_has_no_gradient_along_the_kernel():
    net = alone(layers.Dense, features=3, spectral_norm=True)
    (x,) = arrays((4, 5))
    params, stats = net.init(jax.random.key(0), x)

    def loss(params):
        return jnp.sum(jnp.sin(net.apply(params, stats, x)[0]))

    slope = jax.jit(jax.grad(loss))(params)["kernel"]
    assert float(jnp.abs(slope).max()) > 0.1
    # scaling the kernel changes nothing
    np.testing.assert_allclose(jnp.sum(slope * params["kernel"]), 0, atol=1e-5)


def test_minibatch_stddev_takes_strided_groups():
    (x,) = arrays((6, 3, 3, 2))
    layer = alone(layers.MinibatchStddev, group_size=3)
    y, _ = layer.apply({}, {}, x)
    assert y.shape == (6, 3, 3, 3)
    np.testing.assert_array_equal(y[..., :2], x)
    for first in (0, 1):  # groups 0 2 4 and 1 3 5
        figure = np.sqrt(x[first::2].var(0) + 1e-8).mean()
        np.testing.assert_allclose(y[first::2, ..., 2], figure, rtol=1e-5)
    features, _ = alone(layers.MinibatchStddev, group_size=16).apply({}, {}, x[:, 0, 0])
    np.testing.assert_allclose(features[:, -1], x[:, 0, 0].std(0).mean(), rtol=1e-5)
    with pytest.raises(ValueError, match="a batch of 6 does not divide into groups of 4"):
        alone(layers.MinibatchStddev, group_size=4).apply({}, {}, x)


def test_minibatch_discrimination_sums_over_the_others():
    x, kernel = arrays((4, 5), (5, 6))
    layer = alone(layers.MinibatchDiscrimination, kernels=3, dims=2)
    y, _ = layer.apply({"kernel": kernel}, {}, x)
    m = (x @ kernel).reshape(4, 3, 2)
    expected = np.zeros((4, 3))
    for i, j, b in np.ndindex(4, 4, 3):
        if i != j:
            expected[i, b] += np.exp(-np.abs(m[i, b] - m[j, b]).sum())
    np.testing.assert_array_equal(y[:, :5], x)
    np.testing.assert_allclose(y[:, 5:], expected, rtol=1e-4, atol=1e-7)
    collapsed, _ = layer.apply({"kernel": kernel}, {}, np.repeat(x[:1], 4, axis=0))
    np.testing.assert_allclose(collapsed[:, 5:], 3, rtol=1e-6)


def test_resampling():
    x = jnp.arange(2 * 3 * 4, dtype=jnp.float32).reshape(1, 2, 3, 4)
    large = layers.upsample(x)
    np.testing.assert_array_equal(large, np.repeat(np.repeat(x, 2, axis=1), 2, axis=2))
    np.testing.assert_array_equal(layers.average_pool(large), x)
    np.testing.assert_array_equal(layers.max_pool(large), x)
    np.testing.assert_allclose(layers.leaky_relu(jnp.array([-1.0, 2.0])), [-0.2, 2.0], rtol=1e-6)


def test_dropout_drops_whole_channels():
    class Drop(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            return layers.dropout(x, 0.5, train)

    network = functional(Drop())
    x = jnp.ones((8, 3, 3, 16))
    y, _ = network.apply({}, {}, x, train=True, key=jax.random.key(0))
    y = np.asarray(y)
    assert np.all(y == y[:, :1, :1])
    assert set(np.unique(y)) == {0.0, 2.0}
    assert 0.3 < (y == 0).mean() < 0.7
    assert np.all(np.asarray(network.apply({}, {}, x)[0]) == 1)

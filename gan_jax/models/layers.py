"""The layers of all networks, with PyTorch's arithmetic where that differs from flax's.

The parameters of a layer are called kernel, scale and bias, its batch statistics mean and var.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import initializers

from gan_jax.errors import UserError
from gan_jax.models import convolution
from gan_jax.models.precision import like, single

Init = Callable[..., Array]
MOMENTUM = 0.1  # of batch normalisation, PyTorch's meaning: the weight of the new batch


class Initializer(NamedTuple):
    """How a layer's kernel and bias start, given its fan-in, and a normalisation's scale."""

    kernel: Callable[[int], Init]
    bias: Callable[[int], Init]
    scale: Init


def _uniform(fan_in: int) -> Init:
    # kaiming_uniform(a=sqrt(5)) is uniform within 1/sqrt(fan_in), and so is PyTorch's bias.
    bound = fan_in**-0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -bound, bound
    )


def _plain(kernel: Init, scale: Init = initializers.ones) -> Initializer:
    return Initializer(lambda fan_in: kernel, lambda fan_in: initializers.zeros, scale)


def _normal_around_one(key: Array, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
    return 1 + 0.02 * jax.random.normal(key, shape, dtype)


INITIALIZERS = {
    "default": Initializer(_uniform, _uniform, initializers.ones),
    # DCGAN and PyTorch-GAN initialise kernels and norms again, but leave biases to PyTorch
    "normal_0.02": Initializer(
        lambda fan_in: initializers.normal(0.02), _uniform, _normal_around_one
    ),
    "xavier": _plain(initializers.xavier_uniform()),
    "he": _plain(initializers.he_normal()),
    "orthogonal": _plain(initializers.orthogonal()),
    "lecun": _plain(initializers.lecun_normal()),
}


def initializer(name: str) -> Initializer:
    """The initializer of a name: "default" is PyTorch's, "normal_0.02" DCGAN's; biases of all
    others are zero.

    Raises ValueError for a name that is not in INITIALIZERS.
    """
    if name not in INITIALIZERS:
        raise ValueError(f"init is {name!r}; accepted: {', '.join(INITIALIZERS)}")
    return INITIALIZERS[name]


class Conv(nn.Module):
    """torch.nn.Conv2d on [B, H, W, C]: explicit `padding` on every side; kernel [kh, kw, C, O].

    Here and below, `train` only matters to spectral norm, and weights are cast to the type of x if
    that is half precision; other types are promoted.
    """

    features: int
    kernel_size: int = 3
    strides: int = 1
    padding: int = 0
    use_bias: bool = True
    weight_init: str = "default"
    kernel_init: Init | None = None  # in place of what weight_init names
    bias_init: Init | None = None
    spectral_norm: bool = False
    form: str = "auto"  # see gan_jax.models.convolution

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel, bias = _weights(self, x, shape, self.kernel_size**2 * x.shape[-1], train)
        y = convolution.conv(x, kernel, self.strides, self.padding, self.form)
        return y if bias is None else y + bias


class ConvTranspose(nn.Module):
    """torch.nn.ConvTranspose2d on [B, H, W, C].

    The kernel [kh, kw, C, O] is PyTorch's [C, O, kh, kw] transposed by (2, 3, 0, 1).
    """

    features: int
    kernel_size: int = 4
    strides: int = 2
    padding: int = 1
    output_padding: int = 0
    use_bias: bool = True
    weight_init: str = "default"
    kernel_init: Init | None = None
    bias_init: Init | None = None
    spectral_norm: bool = False
    form: str = "auto"

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        # PyTorch computes the fan-in from the second axis of its kernel, even when transposed
        kernel, bias = _weights(self, x, shape, self.kernel_size**2 * self.features, train)
        y = convolution.conv_transpose(
            x, kernel, self.strides, self.padding, self.output_padding, self.form
        )
        return y if bias is None else y + bias


class Dense(nn.Module):
    """torch.nn.Linear on [..., C]; the kernel [C, O] is PyTorch's transposed."""

    features: int
    use_bias: bool = True
    weight_init: str = "default"
    kernel_init: Init | None = None
    bias_init: Init | None = None
    spectral_norm: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        kernel, bias = _weights(self, x, (x.shape[-1], self.features), x.shape[-1], train)
        y = x @ kernel
        return y if bias is None else y + bias


def _weights(
    layer: Any, x: Array, shape: tuple[int, ...], fan_in: int, train: bool
) -> tuple[Array, Array | None]:
    """The kernel of that shape, and the bias if the layer has one, for its input x."""
    start = initializer(layer.weight_init)
    kernel = layer.param("kernel", layer.kernel_init or start.kernel(fan_in), shape)
    if layer.spectral_norm:
        kernel = _spectral_norm(layer, kernel, train)
    if not layer.use_bias:
        return like(x, kernel), None
    bias = layer.param("bias", layer.bias_init or start.bias(fan_in), shape[-1:])
    return like(x, kernel), like(x, bias)


def _spectral_norm(layer: nn.Module, kernel: Array, train: bool) -> Array:
    """The kernel divided by its largest singular value (Miyato et al. 2018, algorithm 1).

    There is one step of power iteration per call; the vector u is only updated if `train`. flax's
    own SpectralNorm is not used because it also rescales the initial parameters.
    """
    matrix = single(kernel.reshape(-1, kernel.shape[-1]))
    stored = layer.variable(
        "batch_stats",
        "u",
        lambda: _unit(jax.random.normal(layer.make_rng("params"), matrix.shape[-1:])),
    )
    frozen = jax.lax.stop_gradient(matrix)
    v = _unit(frozen @ stored.value)
    u = _unit(v @ frozen)
    if train:
        stored.value = u
    return kernel / (v @ matrix @ u).astype(kernel.dtype)


def _unit(vector: Array) -> Array:
    return vector / (jnp.linalg.norm(vector) + 1e-12)


class BatchNorm(nn.Module):
    """torch.nn.BatchNorm on [B, ..., C]; with `num_classes`, scale and bias per class.

    It normalises with the biased variance, but updates the running variance with the unbiased one;
    `momentum` is PyTorch's, the weight of the new batch. Statistics are at least float32.
    """

    eps: float = 1e-5
    momentum: float = MOMENTUM
    affine: bool = True
    num_classes: int = 0
    weight_init: str = "default"

    @nn.compact
    def __call__(self, x: Array, train: bool, label: Array | None = None) -> Array:
        features = x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, features)
        running_var = self.variable("batch_stats", "var", jnp.ones, features)
        h = single(x)
        mean, var = running_mean.value, running_var.value
        if train:
            axes = tuple(range(x.ndim - 1))
            count = x.size // x.shape[-1]
            if count < 2:
                raise UserError(
                    "batch norm needs more than one value per channel to train on: raise "
                    "config.batch_size above 1, or choose a network without it"
                )
            mean = jnp.mean(h, axes)
            var = jnp.mean(jnp.square(h - mean), axes)
            unbiased = var * (count / max(count - 1, 1))
            running_mean.value += self.momentum * (mean - running_mean.value)
            running_var.value += self.momentum * (unbiased - running_var.value)
        multiplier = jax.lax.rsqrt(var + self.eps)
        if self.affine:
            shape = (self.num_classes, *features) if self.num_classes else features
            scale = self.param("scale", initializer(self.weight_init).scale, shape)
            bias = self.param("bias", initializers.zeros, shape)
            if self.num_classes:
                place = (-1, *(1,) * (x.ndim - 2), *features)  # [B, 1, 1, C]
                scale, bias = scale[label].reshape(place), bias[label].reshape(place)
            h = (h - mean) * (multiplier * scale) + bias
        else:
            h = (h - mean) * multiplier
        return h.astype(x.dtype)


def instance_norm(x: Array, eps: float = 1e-5) -> Array:
    """torch.nn.InstanceNorm2d without affine on [B, H, W, C]: each image and channel by itself.

    It divides by the biased standard deviation, so a 1x1 image would become 0. Moments are at least
    float32.
    """
    h = single(x)
    centred = h - jnp.mean(h, (1, 2), keepdims=True)
    var = jnp.mean(jnp.square(centred), (1, 2), keepdims=True)
    return (centred * jax.lax.rsqrt(var + eps)).astype(x.dtype)


class Embed(nn.Module):
    """One vector per class: label [B] → [B, features]."""

    num_classes: int
    features: int
    weight_init: str = "default"
    spectral_norm: bool = False

    @nn.compact
    def __call__(self, label: Array, train: bool = False) -> Array:
        start = initializer(self.weight_init).kernel(self.num_classes)
        if self.weight_init == "default":
            start = initializers.normal(1.0)  # torch.nn.Embedding's
        kernel = self.param("kernel", start, (self.num_classes, self.features))
        if self.spectral_norm:
            kernel = _spectral_norm(self, kernel, train)
        return kernel[label]


class MinibatchStddev(nn.Module):
    """Adds a channel with the standard deviation inside a group of the batch (ProGAN, section 3).

    [B, ..., C] → [B, ..., C + 1]. A group takes every (B / group size)-th example; its size is the
    smaller of `group_size` and B. Raises ValueError if that does not divide B.
    """

    group_size: int = 4

    @nn.compact
    def __call__(self, x: Array) -> Array:
        batch = x.shape[0]
        size = min(self.group_size, batch)
        if batch % size:
            raise ValueError(f"a batch of {batch} does not divide into groups of {size}")
        groups = x.reshape(size, batch // size, *x.shape[1:])
        deviation = jnp.sqrt(jnp.var(groups, axis=0) + 1e-8)
        figure = jnp.mean(deviation, axis=tuple(range(1, x.ndim)))  # [B / size]
        figure = jnp.tile(figure, size).reshape(batch, *(1,) * (x.ndim - 1))
        return jnp.concatenate([x, jnp.broadcast_to(figure, (*x.shape[:-1], 1))], axis=-1)


class MinibatchDiscrimination(nn.Module):
    """How close an example is to the others of its batch (Salimans et al. 2016, section 3.2).

    M = x T for T [A, kernels, dims]; o_b(i) = sum over j ≠ i of exp(-|M_ib - M_jb|_1).
    [B, A] → [B, A + kernels]. The kernel is T as [A, kernels * dims].
    """

    kernels: int = 50
    dims: int = 5
    weight_init: str = "default"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        start = initializer(self.weight_init).kernel(x.shape[-1])
        kernel = self.param("kernel", start, (x.shape[-1], self.kernels * self.dims))
        m = (x @ kernel).reshape(-1, self.kernels, self.dims)  # [B, kernels, dims]
        distance = jnp.sum(jnp.abs(m[:, None] - m[None]), axis=-1)  # [B, B, kernels]
        others = 1 - jnp.eye(x.shape[0], dtype=m.dtype)[..., None]
        return jnp.concatenate([x, jnp.sum(jnp.exp(-distance) * others, axis=1)], axis=-1)


def leaky_relu(x: Array) -> Array:
    """x where positive, 0.2 x elsewhere."""
    return jax.nn.leaky_relu(x, 0.2)


def dropout(x: Array, rate: float, train: bool) -> Array:
    """Inside a module: drops features of [B, F], whole channels of [B, H, W, C] (Dropout2d)."""
    if rate == 0:
        return x
    spatial = tuple(range(1, x.ndim - 1))
    return nn.Dropout(rate, broadcast_dims=spatial, deterministic=not train)(x)


def upsample(x: Array) -> Array:
    """Nearest neighbour, twice as large: [B, H, W, C] → [B, 2H, 2W, C]."""
    b, h, w, c = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c))
    return x.reshape(b, 2 * h, 2 * w, c)


def average_pool(x: Array) -> Array:
    """Means of 2x2 pixels: [B, H, W, C] → [B, H / 2, W / 2, C], an odd last row left out."""
    b, h, w, c = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2]
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))


def max_pool(x: Array) -> Array:
    """Largest of 2x2 pixels: [B, H, W, C] → [B, H / 2, W / 2, C], an odd last row left out.

    The derivative goes to the first of the largest values, as in PyTorch. JAX's derivative of a
    maximum goes to the values that equal it; but XLA may compute the values a second time with
    other rounding, and then none of them does.
    """
    h, w = (n // 2 * 2 for n in x.shape[1:3])
    above, below = (_larger(x[:, row:h:2, 0:w:2], x[:, row:h:2, 1:w:2]) for row in (0, 1))
    return _larger(above, below)


def _larger(a: Array, b: Array) -> Array:
    """The larger value; NaN if either is NaN."""
    return jnp.where((a >= b) | jnp.isnan(a), a, b)

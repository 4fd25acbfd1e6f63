"""The Inception network by which FID, KID and the Inception Score are defined, for inference.

TensorFlow's graph of 2015-12-05 (Szegedy et al. 2015, "Rethinking the Inception Architecture"),
which differs from the published network and from torchvision's: its batch norms have an epsilon of
1e-3 and no scale, average pools leave the padding out of the count, the last block pools by its
maximum, and it has 1008 classes. Batch norms arrive folded into kernels and biases
(`interop/inception.py`).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

SIDE = 299
"""Height and width of the images that the network takes."""
CLASSES = 1008
EPSILON = 1e-3  # of the batch norms
POOL = "branch_pool"

TAPS = {
    "64": 64,  # after the first max pool, averaged over space
    "192": 192,  # after the second
    "768": 768,  # after Mixed_6e
    "2048": 2048,  # after Mixed_7c: what FID and KID use
    "spatial": 17 * 17 * 7,  # for sFID: seven channels of Mixed_6d's first branch, not averaged
    "logits_unbiased": CLASSES,  # for the Inception Score
    "logits": CLASSES,
}
"""The features that the network can return, and their widths."""

Params = Mapping[str, Mapping[str, Array]]


class Layer(NamedTuple):
    """One convolution, its batch norm and ReLU: height and width of its kernel, channels."""

    kernel: tuple[int, int]
    inputs: int
    outputs: int


ONE, THREE, FIVE, ROW, COLUMN = (1, 1), (3, 3), (5, 5), (1, 7), (7, 1)
Chain = Sequence[tuple[tuple[int, int], int]]  # convolutions in a row: kernel and outputs of each


def layers() -> dict[str, Layer]:
    """Every convolution by its name in PyTorch's state dicts ("Mixed_5b.branch1x1")."""
    return {
        "Conv2d_1a_3x3": Layer(THREE, 3, 32),
        "Conv2d_2a_3x3": Layer(THREE, 32, 32),
        "Conv2d_2b_3x3": Layer(THREE, 32, 64),
        "Conv2d_3b_1x1": Layer(ONE, 64, 80),
        "Conv2d_4a_3x3": Layer(THREE, 80, 192),
        **_layers_a("Mixed_5b", 192, 32),
        **_layers_a("Mixed_5c", 256, 64),
        **_layers_a("Mixed_5d", 288, 64),
        **_chains(
            "Mixed_6a", 288,
            branch3x3=[(THREE, 384)],
            branch3x3dbl=[(ONE, 64), (THREE, 96), (THREE, 96)],
        ),
        **_layers_c("Mixed_6b", 128),
        **_layers_c("Mixed_6c", 160),
        **_layers_c("Mixed_6d", 160),
        **_layers_c("Mixed_6e", 192),
        **_chains(
            "Mixed_7a", 768,
            branch3x3=[(ONE, 192), (THREE, 320)],
            branch7x7x3=[(ONE, 192), (ROW, 192), (COLUMN, 192), (THREE, 192)],
        ),
        **_layers_e("Mixed_7b", 1280),
        **_layers_e("Mixed_7c", 2048),
    }  # fmt: skip


def _chains(name: str, inputs: int, **chains: Chain) -> dict[str, Layer]:
    """The layers of a block whose branches are chains of convolutions with the same input."""
    found = {}
    for branch, chain in chains.items():
        channels = inputs
        for place, (kernel, outputs) in enumerate(chain, 1):
            suffix = f"_{place}" if len(chain) > 1 else ""
            found[f"{name}.{branch}{suffix}"] = Layer(kernel, channels, outputs)
            channels = outputs
    return found


def _layers_a(name: str, inputs: int, pool: int) -> dict[str, Layer]:
    return _chains(
        name, inputs,
        branch1x1=[(ONE, 64)],
        branch5x5=[(ONE, 48), (FIVE, 64)],
        branch3x3dbl=[(ONE, 64), (THREE, 96), (THREE, 96)],
        branch_pool=[(ONE, pool)],
    )  # fmt: skip


def _layers_c(name: str, n: int) -> dict[str, Layer]:
    return _chains(
        name, 768,
        branch1x1=[(ONE, 192)],
        branch7x7=[(ONE, n), (ROW, n), (COLUMN, 192)],
        branch7x7dbl=[(ONE, n), (COLUMN, n), (ROW, n), (COLUMN, n), (ROW, 192)],
        branch_pool=[(ONE, 192)],
    )  # fmt: skip


def _layers_e(name: str, inputs: int) -> dict[str, Layer]:
    found = _chains(
        name, inputs,
        branch1x1=[(ONE, 320)],
        branch3x3=[(ONE, 384), ((1, 3), 384)],
        branch3x3dbl=[(ONE, 448), (THREE, 384), ((1, 3), 384)],
        branch_pool=[(ONE, 192)],
    )  # fmt: skip
    # the last convolution of these two chains is a pair of convolutions side by side
    for branch, place in (("branch3x3", 2), ("branch3x3dbl", 3)):
        found[f"{name}.{branch}_{place}a"] = found.pop(f"{name}.{branch}_{place}")
        found[f"{name}.{branch}_{place}b"] = Layer((3, 1), 384, 384)
    return found


def apply(params: Params, x: Array, taps: Sequence[str]) -> dict[str, Array]:
    """Features of images.

    Args:
      params: by layer name, kernel [kh, kw, I, O] and bias [O] with the batch norm folded in; for
        logits also `fc` with kernel [2048, 1008] and bias [1008].
      x: [B, 299, 299, 3], (pixels - 128) / 128.
      taps: names in TAPS. Layers after the last one that is needed are not computed.

    Returns:
      The features by name, [B, TAPS[name]] each.

    Raises:
      ValueError: images of another size, or an unknown tap.
    """
    if x.shape[1:] != (SIDE, SIDE, 3):
        raise ValueError(f"the Inception network takes [B, {SIDE}, {SIDE}, 3], found {x.shape}")
    for name in taps:
        if name not in TAPS:
            raise ValueError(f"tap {name!r}; accepted: {', '.join(TAPS)}")
    found: dict[str, Array] = {}
    wanted = set(taps)

    def done(name: str, features: Array) -> bool:
        """Stores the mean over space if it is wanted; returns whether all taps are stored now."""
        if name in wanted:
            found[name] = jnp.mean(features, axis=(1, 2))
        return wanted <= found.keys()

    h = _conv(params, "Conv2d_1a_3x3", x, strides=2)  # [B, 149, 149, 32]
    h = _conv(params, "Conv2d_2a_3x3", h)
    h = _conv(params, "Conv2d_2b_3x3", h, padding=1)
    h = _max_pool(h, 2)  # [B, 73, 73, 64]
    if done("64", h):
        return found
    h = _conv(params, "Conv2d_3b_1x1", h)
    h = _conv(params, "Conv2d_4a_3x3", h)
    h = _max_pool(h, 2)  # [B, 35, 35, 192]
    if done("192", h):
        return found
    for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        h = _block_a(params, name, h)
    h = _block_b(params, "Mixed_6a", h)  # [B, 17, 17, 768]
    for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        h = _block_c(params, name, h)
        if name == "Mixed_6d" and "spatial" in wanted:
            # the block's output begins with that branch
            found["spatial"] = h[..., :7].reshape(h.shape[0], -1)
    if done("768", h):
        return found
    h = _block_d(params, "Mixed_7a", h)  # [B, 8, 8, 1280]
    h = _block_e(params, "Mixed_7b", h)
    h = _block_e(params, "Mixed_7c", h)  # [B, 8, 8, 2048]
    if done("2048", h):
        return found
    unbiased = jnp.mean(h, axis=(1, 2)) @ params["fc"]["kernel"]
    logits = {"logits_unbiased": unbiased, "logits": unbiased + params["fc"]["bias"]}
    return found | {name: value for name, value in logits.items() if name in wanted}


def _conv(
    params: Params, name: str, x: Array, strides: int = 1, padding: int | tuple[int, int] = 0
) -> Array:
    """The convolution called `name`, its batch norm and a ReLU."""
    rows, columns = (padding, padding) if isinstance(padding, int) else padding
    y = lax.conv_general_dilated(
        x, params[name]["kernel"], (strides, strides), ((rows, rows), (columns, columns)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip
    return jax.nn.relu(y + params[name]["bias"])


def _fan_out(params: Params, names: Sequence[str], x: Array, pooled: str = "") -> list[Array]:
    """Several 1x1 convolutions of one input as a single product of matrices.

    The one called `pooled` reads the average pool of the input. Since both are linear, the pool can
    come after the product instead, where there are fewer channels.
    """
    kernels = [params[name]["kernel"][0, 0] for name in names]
    products = x @ jnp.concatenate(kernels, axis=1)
    ends = np.cumsum([kernel.shape[1] for kernel in kernels])[:-1]
    found = []
    for name, y in zip(names, jnp.split(products, ends, axis=-1), strict=True):
        y = _average_pool(y) if name == pooled else y
        found.append(jax.nn.relu(y + params[name]["bias"]))
    return found


def _block_a(params: Params, name: str, x: Array) -> Array:
    heads = [f"{name}.{head}" for head in ("branch1x1", "branch5x5_1", "branch3x3dbl_1", POOL)]
    one, five, double, pool = _fan_out(params, heads, x, pooled=heads[-1])
    five = _conv(params, f"{name}.branch5x5_2", five, padding=2)
    double = _conv(params, f"{name}.branch3x3dbl_2", double, padding=1)
    double = _conv(params, f"{name}.branch3x3dbl_3", double, padding=1)
    return jnp.concatenate([one, five, double, pool], axis=-1)


def _block_b(params: Params, name: str, x: Array) -> Array:
    three = _conv(params, f"{name}.branch3x3", x, strides=2)
    double = _conv(params, f"{name}.branch3x3dbl_1", x)
    double = _conv(params, f"{name}.branch3x3dbl_2", double, padding=1)
    double = _conv(params, f"{name}.branch3x3dbl_3", double, strides=2)
    return jnp.concatenate([three, double, _max_pool(x, 2)], axis=-1)


def _block_c(params: Params, name: str, x: Array) -> Array:
    row, column = (0, 3), (3, 0)
    heads = [f"{name}.{head}" for head in ("branch1x1", "branch7x7_1", "branch7x7dbl_1", POOL)]
    one, seven, double, pool = _fan_out(params, heads, x, pooled=heads[-1])
    for place, padding in ((2, row), (3, column)):
        seven = _conv(params, f"{name}.branch7x7_{place}", seven, padding=padding)
    for place, padding in ((2, column), (3, row), (4, column), (5, row)):
        double = _conv(params, f"{name}.branch7x7dbl_{place}", double, padding=padding)
    return jnp.concatenate([one, seven, double, pool], axis=-1)


def _block_d(params: Params, name: str, x: Array) -> Array:
    heads = ("branch3x3_1", "branch7x7x3_1")
    three, seven = _fan_out(params, [f"{name}.{head}" for head in heads], x)
    three = _conv(params, f"{name}.branch3x3_2", three, strides=2)
    seven = _conv(params, f"{name}.branch7x7x3_2", seven, padding=(0, 3))
    seven = _conv(params, f"{name}.branch7x7x3_3", seven, padding=(3, 0))
    seven = _conv(params, f"{name}.branch7x7x3_4", seven, strides=2)
    return jnp.concatenate([three, seven, _max_pool(x, 2)], axis=-1)


def _block_e(params: Params, name: str, x: Array) -> Array:
    heads = [f"{name}.{head}" for head in ("branch1x1", "branch3x3_1", "branch3x3dbl_1", POOL)]
    if name == "Mixed_7c":  # pools by its maximum
        one, three, double = _fan_out(params, heads[:-1], x)
        (pool,) = _fan_out(params, heads[-1:], _max_pool(x, 1, padding=1))
    else:
        one, three, double, pool = _fan_out(params, heads, x, pooled=heads[-1])
    double = _conv(params, f"{name}.branch3x3dbl_2", double, padding=1)
    pairs = [
        _conv(params, f"{name}.{branch}{side}", y, padding=padding)
        for branch, y in (("branch3x3_2", three), ("branch3x3dbl_3", double))
        for side, padding in (("a", (0, 1)), ("b", (1, 0)))
    ]
    return jnp.concatenate([one, *pairs, pool], axis=-1)


def _average_pool(x: Array) -> Array:
    """Means over those of 3x3 pixels that lie inside the image, at stride 1: same shape."""
    zeros = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = zeros[:, :-2] + zeros[:, 1:-1] + zeros[:, 2:]
    total = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    inside = [np.convolve(np.ones(n), np.ones(3), "same") for n in x.shape[1:3]]
    count = np.outer(*inside)[:, :, None]
    return total * jnp.asarray(1 / count, x.dtype)


def _max_pool(x: Array, strides: int, padding: int = 0) -> Array:
    """Maxima of 3x3 pixels, first along one axis and then along the other."""
    if padding:
        sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
        x = jnp.pad(x, sides, constant_values=-jnp.inf)
    for axis in (1, 2):
        last = x.shape[axis] - 2
        parts = [
            lax.slice_in_dim(x, i, i + last - (last - 1) % strides, strides, axis) for i in range(3)
        ]
        x = jnp.maximum(jnp.maximum(parts[0], parts[1]), parts[2])
    return x

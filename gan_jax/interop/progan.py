"""ProGAN's networks of the original ↔ this library's parameter trees.

https://github.com/tkarras/progressive_growing_of_gans (networks.py, tfutil.py). A network is a
table of its layers in the original's order, each with both names; which network it is and its
final resolution R are read off the names that are there.

    4x4/Dense/weight        block4_dense/kernel     columns turn from C, H, W into H, W, C
    4x4/Dense0/weight       block4_dense0/kernel    rows do
    8x8/Conv0_up/weight     block8_conv0/kernel     [h, w, O, I], flipped in h and w → [h, w, I, O]
    16x16/Conv1_down/weight block16_conv1/kernel    as it is, like all other kernels and biases
    ToRGB_lod2/weight       to_rgb{R/4}/kernel      the level of detail n is the side R / 2^n

Without fused scaling the resizing layers are called Conv0 and Conv1, and nothing is flipped; each
layer may have either name. The variable "lod" belongs to the schedule and is left out.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from gan_jax.errors import UserError
from gan_jax.interop.formats.numpy_pickle import listed
from gan_jax.interop.trees import Tree, named_leaves, shown

SMALLEST, LARGEST = 4, 2**14
PIXELS = SMALLEST * SMALLEST
_LEAVES = {"weight": "kernel", "bias": "bias"}


class Layer(NamedTuple):
    """name: ours; original: the name without resizing inside; with it, "_up" or "_down" follows.

    kind: conv, up, down, to_rgb, from_rgb, first (the convolution that may see a minibatch
    statistic as one more channel), spread (the dense layer that makes the first map), flat (the one
    after the last map), dense.
    """

    name: str
    original: str
    kind: str = "conv"


def to_trees(arrays: Mapping[str, np.ndarray]) -> Tree:
    """The variables of one network, named as above, as a parameter tree.

    Raises:
        UserError: none of ProGAN's networks, a variable that the network does not have, one that it
            lacks, or one of another shape.
    """
    found = {name: np.asarray(array) for name, array in arrays.items() if name != "lod"}
    net, resolution = identify(found)
    label = f"ProGAN's {net} of {resolution}x{resolution}"
    params: Tree = {}
    width = colours = 0  # of what the next layer sees, as far as known
    for layer in _layers(net, resolution):
        fused = f"{layer.original}_{layer.kind}"
        module = fused if f"{fused}/weight" in found else layer.original
        for leaf in _LEAVES:
            if f"{module}/{leaf}" not in found:
                raise UserError(f"variable {module}/{leaf} of {label} is missing")
        weight, bias = (found.pop(f"{module}/{leaf}") for leaf in _LEAVES)
        flipped = module == fused and layer.kind == "up"
        inputs, outputs = _widths(layer.kind, weight.shape, flipped)
        if not _fits(layer.kind, inputs, outputs, width, colours) or bias.shape != (outputs,):
            raise UserError(
                f"variables {module}/weight {shown(weight.shape)} and bias {shown(bias.shape)} "
                f"are not of a shape that {label} has"
            )
        if layer.kind == "to_rgb":
            colours = outputs
        else:
            width, colours = outputs, inputs if layer.kind == "from_rgb" else colours
        params[layer.name] = {"kernel": _turned(layer.kind, weight, flipped), "bias": bias}
    for name, array in found.items():
        raise UserError(f"variable {listed(name)} {shown(array.shape)} is none of {label}")
    return params


def from_trees(params: Mapping[str, Any], resolution: int, fused: bool) -> dict[str, np.ndarray]:
    """The inverse of `to_trees`: all variables but "lod", in the original's order.

    Raises:
        ValueError: a leaf too many or too few for a network of that final resolution.
    """
    given = named_leaves(params, {})
    net = "generator" if "block4_dense" in params else "discriminator"
    found = {}
    for layer in _layers(net, resolution):
        resized = fused and layer.kind in ("up", "down")
        module = f"{layer.original}_{layer.kind}" if resized else layer.original
        for leaf, ours in _LEAVES.items():
            path = f"params/{layer.name}/{ours}"
            if path not in given:
                raise ValueError(f"{path} of a {net} of {resolution}x{resolution} is missing")
            array = np.asarray(given.pop(path))
            if leaf == "weight":
                array = _turned(layer.kind, array, resized and layer.kind == "up", back=True)
            found[f"{module}/{leaf}"] = array
    for path in given:
        raise ValueError(f"{path} has no counterpart in a {net} of {resolution}x{resolution}")
    return found


def identify(names: Mapping[str, Any]) -> tuple[str, int]:
    """(generator or discriminator, final resolution)."""
    heads = {"generator": "ToRGB_lod0", "discriminator": "FromRGB_lod0"}
    nets = [net for net, head in heads.items() if f"{head}/weight" in names]
    blocks = (re.match(r"(\d{1,5})x\1/", name) for name in names)
    resolution = max((int(block[1]) for block in blocks if block), default=0)
    fits = SMALLEST <= resolution <= LARGEST and resolution & (resolution - 1) == 0
    if len(nets) != 1 or not fits:
        raise UserError(
            f"no network of ProGAN has the variables {listed(', '.join(list(names)[:3]))}, …: "
            "accepted are 4x4/Conv/weight, …, ToRGB_lod0/bias of a generator or FromRGB_lod0/bias "
            "of a discriminator"
        )
    return nets[0], resolution


def _layers(net: str, resolution: int) -> list[Layer]:
    """All layers of a network in the original's order."""
    sides = [2**k for k in range(2, resolution.bit_length())]
    rgb = {side: f"RGB_lod{len(sides) - 1 - place}" for place, side in enumerate(sides)}
    if net == "generator":
        layers = [Layer("block4_dense", "4x4/Dense", "spread"), Layer("block4_conv", "4x4/Conv")]
        for n in sides:
            if n > SMALLEST:
                layers.append(Layer(f"block{n}_conv0", f"{n}x{n}/Conv0", "up"))
                layers.append(Layer(f"block{n}_conv1", f"{n}x{n}/Conv1"))
            layers.append(Layer(f"to_rgb{n}", f"To{rgb[n]}", "to_rgb"))
        return layers
    layers = []
    for n in reversed(sides):
        layers.append(Layer(f"from_rgb{n}", f"From{rgb[n]}", "from_rgb"))
        if n > SMALLEST:
            layers.append(Layer(f"block{n}_conv0", f"{n}x{n}/Conv0"))
            layers.append(Layer(f"block{n}_conv1", f"{n}x{n}/Conv1", "down"))
    return [
        *layers,
        Layer("block4_conv", "4x4/Conv", "first"),
        Layer("block4_dense0", "4x4/Dense0", "flat"),
        Layer("block4_dense1", "4x4/Dense1", "dense"),
    ]


def _widths(kind: str, shape: tuple[int, ...], flipped: bool) -> tuple[int, int]:
    """Channels in and out of a weight in the original's layout; (0, 0) for any other shape."""
    taps = (1, 1) if kind in ("to_rgb", "from_rgb") else (3, 3)
    taps = () if kind in ("spread", "flat", "dense") else taps
    if len(shape) != len(taps) + 2 or shape[:-2] != taps:
        return 0, 0
    inputs, outputs = reversed(shape[-2:]) if flipped else shape[-2:]
    if (outputs if kind == "spread" else inputs if kind == "flat" else 0) % PIXELS:
        return 0, 0
    return inputs // (PIXELS if kind == "flat" else 1), outputs // (
        PIXELS if kind == "spread" else 1
    )


def _fits(kind: str, inputs: int, outputs: int, width: int, colours: int) -> bool:
    """Whether the channels match what is known: `width` of a map and `colours`, else 0."""
    if not inputs or not outputs:
        return False
    if kind == "from_rgb":
        return inputs == (colours or inputs) and outputs == (width or outputs)
    if kind == "to_rgb":
        return inputs == width and outputs == (colours or outputs)
    return kind == "spread" or inputs == width or (kind == "first" and inputs == width + 1)


def _turned(kind: str, kernel: np.ndarray, flipped: bool, back: bool = False) -> np.ndarray:
    """The original's kernel in our layout, or the other way `back`."""
    if kind == "spread":
        kernel = _reordered(kernel, back)
    elif kind == "flat":
        kernel = _reordered(kernel.T, back).T
    elif flipped:
        kernel = kernel[::-1, ::-1].swapaxes(2, 3)
    return np.ascontiguousarray(kernel)


def _reordered(matrix: np.ndarray, back: bool) -> np.ndarray:
    """Columns in the order channel, row, column → row, column, channel, or `back`."""
    rows, columns = matrix.shape
    split = (PIXELS, columns // PIXELS) if back else (columns // PIXELS, PIXELS)
    return matrix.reshape(rows, *split).swapaxes(1, 2).reshape(rows, columns)

"""PyTorch's pix2pix networks ↔ this library's parameter trees, in two families.

`pytorch_gan`: https://github.com/eriklindernoren/PyTorch-GAN (implementations/pix2pix).
`original`: https://github.com/junyanz/pytorch-CycleGAN-and-pix2pix (models/networks.py). Its U-Net
nests each level inside the one above, so that names grow by "model.3." per level.

A network is a table of its layers in PyTorch's order, each with both names; size and family are
read off the names that are there. Convolutions turn from [O, I, H, W] into [H, W, I, O], transposed
ones from [I, O, H, W]. `num_batches_tracked` is ignored on the way in and 0 on the way out.

Instance norms have no tensors, but files of PyTorch before 0.4 hold running statistics of them.
They are left out, as junyanz' own loader does (models/base_model.py).
"""

from collections.abc import Callable, Container, Iterable, Mapping
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from gan_jax.errors import UserError
from gan_jax.interop.pytorch_gan import (
    AXES_IN,
    AXES_OUT,
    STAT_LEAF,
    TORCH_LEAF,
)
from gan_jax.interop.trees import Tree, named_leaves, shown

_DECONV = (2, 3, 0, 1)  # IOHW → HWIO, and its own inverse
_IN = {"conv": AXES_IN[4], "deconv": _DECONV}
_OUT = {"conv": AXES_OUT[4], "deconv": _DECONV}
_LEAVES = {
    "conv": ("kernel", "bias"),
    "deconv": ("kernel", "bias"),
    "norm": ("scale", "bias", "mean", "var"),
}
_NORM = ("weight", "bias", *STAT_LEAF)


class Layer(NamedTuple):
    """torch: PyTorch's name of the module; name: ours; kind: conv, deconv or norm."""

    torch: str
    name: str
    kind: str = "conv"
    bias: bool = True  # whether it may have one


class Layout(NamedTuple):
    """A network's layers in PyTorch's order; side: of its kernels."""

    label: str
    layers: list[Layer]
    side: int = 4


def identify(state_dict: Mapping[str, np.ndarray]) -> str | None:
    """The kind of network in a state dict: "pytorch_gan generator", "pytorch_gan discriminator",
    "original generator", "original discriminator", or None if it is not from pix2pix."""
    layout = _layout_of_tensors(_bare(state_dict))
    return layout.label if layout else None


def family(names: Iterable[str]) -> str:
    """Which generator arrays named as here ("params/down1/kernel") belong to; "" for none."""
    layers = {name.split("/")[1] for name in names if name.count("/") > 1}
    for label, first in (("pytorch_gan", {"down1", "up1"}), ("original", {"encoder_1"})):
        if first <= layers:
            return f"{label} generator"
    return ""


def to_trees(state_dict: Mapping[str, np.ndarray]) -> tuple[Tree, Tree]:
    """A state dict of either family as (params, stats); stats is {} without batch norms.

    The prefix "module." of DataParallel is dropped.

    Raises:
        UserError: none of pix2pix's networks, a tensor that the network does not have, or one that
            it lacks.
    """
    tensors = _bare(state_dict)
    layout = _layout_of_tensors(tensors)
    if layout is None:
        raise UserError(
            f"no network of pix2pix has the tensors {', '.join(list(tensors)[:3])}, …: "
            "accepted are generators and discriminators of PyTorch-GAN's and junyanz' pix2pix"
        )
    layers = {layer.torch: layer for layer in layout.layers}
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        if module not in layers or not _fits(layers[module], leaf, tensor, layout.side):
            raise UserError(
                f"tensor {name} {shown(tensor.shape)} is none of the {layout.label}'s: accepted "
                f"are weight and bias of {layout.side}x{layout.side} convolutions where pix2pix "
                "has them, and weight, bias, running_mean and running_var of batch norms"
            )
    params: Tree = {}
    batch_stats: Tree = {}
    for layer in layout.layers:
        names = {leaf: f"{layer.torch}.{leaf}" for leaf in _NORM}
        own = {leaf: tensors[name] for leaf, name in names.items() if name in tensors}
        if layer.kind == "norm" and not own.keys() & {"weight", "bias"}:
            continue  # an instance norm, or none at all
        for leaf in _NORM if layer.kind == "norm" else ("weight",):
            if leaf not in own:
                raise UserError(f"tensor {names[leaf]} of the {layout.label} is missing")
        if layer.kind == "norm":
            params[layer.name] = {"scale": own["weight"], "bias": own["bias"]}
            batch_stats[layer.name] = {STAT_LEAF[leaf]: own[leaf] for leaf in STAT_LEAF}
        else:
            kernel = own.pop("weight").transpose(_IN[layer.kind])
            params[layer.name] = {"kernel": np.ascontiguousarray(kernel), **own}
    return params, {"batch_stats": batch_stats} if batch_stats else {}


def from_trees(params: Mapping[str, Any], stats: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The inverse of `to_trees`: a state dict in PyTorch's names, layouts and order.

    Raises:
        ValueError: none of pix2pix's networks, or a leaf that they do not have.
    """
    given = named_leaves(params, stats)
    layout = _layout_of_params(params)
    found = {}
    for layer in layout.layers if layout else ():
        for leaf in _LEAVES[layer.kind]:
            collection = "stats/batch_stats" if leaf in ("mean", "var") else "params"
            path = f"{collection}/{layer.name}/{leaf}"
            if path not in given or (leaf == "bias" and not layer.bias):
                continue
            array = np.asarray(given.pop(path))
            axes = _OUT[layer.kind] if leaf == "kernel" else (0,)
            found[f"{layer.torch}.{TORCH_LEAF[leaf]}"] = np.ascontiguousarray(array.transpose(axes))
            if leaf == "var":
                found[f"{layer.torch}.num_batches_tracked"] = np.zeros((), np.int64)
    if given or not layout:
        raise ValueError(f"{next(iter(given), 'nothing')} has no counterpart in pix2pix's networks")
    return found


def _bare(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix("module."): np.asarray(t) for name, t in state_dict.items()}


def _fits(layer: Layer, leaf: str, tensor: np.ndarray, side: int) -> bool:
    if layer.kind == "norm":
        return leaf == "num_batches_tracked" or (leaf in _NORM and tensor.ndim == 1)
    if leaf == "weight":
        return tensor.ndim == 4 and tensor.shape[2:] == (side, side)
    return leaf == "bias" and layer.bias and tensor.ndim == 1


def _layout_of_tensors(tensors: Mapping[str, np.ndarray]) -> Layout | None:
    """The one whose first, second and last kernel are there; the rest may be damaged."""
    candidates = [
        _pytorch_gan_generator(_run(tensors, "down{}.model.0.weight", 1)),
        _original_generator(1 + _run(tensors, "{}.1.weight", 2, _nested)),
        # before the original's, which have the same names up to the last convolution
        _pytorch_gan_discriminator(),
        _original_discriminator(_run(tensors, "model.{}.weight", 0, lambda k: 2 + 3 * k) - 1),
        _pixel_discriminator(),
    ]
    for layout in candidates:
        convs = [layer for layer in layout.layers if layer.kind != "norm"]
        if len(convs) < 3:
            continue
        anchors = [tensors.get(f"{layer.torch}.weight") for layer in (*convs[:2], convs[-1])]
        if any(t is None or t.shape[2:] != (layout.side,) * 2 for t in anchors):
            continue
        # other discriminators of this shape exist: DCGAN's begins without a bias
        patches = anchors[-1].shape[0] == 1 and f"{convs[0].torch}.bias" in tensors
        if layout.label.endswith("generator") or patches:
            return layout
    return None


def _layout_of_params(params: Mapping[str, Any]) -> Layout | None:
    if "encoder_1" in params:
        return _original_generator(_run(params, "encoder_{}", 1))
    if "down1" in params:
        return _pytorch_gan_generator(_run(params, "down{}", 1))
    convs = _run(params, "conv_{}", 0)
    if convs < 3:
        return None
    if np.shape(params["conv_0"].get("kernel"))[:2] == (1, 1):
        return _pixel_discriminator()
    if convs == 5 and "bias" not in params["conv_4"]:
        return _pytorch_gan_discriminator()
    return _original_discriminator(convs - 2)


def _run(names: Container[str], pattern: str, first: int, place: Callable[[int], Any] = int) -> int:
    """How many names follow each other without a gap: the pattern with place(first), …"""
    return next(k for k in count() if pattern.format(place(first + k)) not in names)


def _nested(level: int) -> str:
    """Where the original U-Net keeps the layers of level 2, 3, …"""
    return "model.model.1" + ".model.3" * (level - 2) + ".model"


def _pytorch_gan_generator(depth: int) -> Layout:
    layers = []
    for i in range(1, depth + 1):
        layers.append(Layer(f"down{i}.model.0", f"down{i}", bias=False))
        if 1 < i < depth:
            layers.append(Layer(f"down{i}.model.1", f"down{i}_norm", "norm"))
    for i in range(1, depth):
        layers.append(Layer(f"up{i}.model.0", f"up{i}", "deconv", bias=False))
        layers.append(Layer(f"up{i}.model.1", f"up{i}_norm", "norm"))
    return Layout("pytorch_gan generator", [*layers, Layer("final.2", "final")])


def _original_generator(depth: int) -> Layout:
    layers = [Layer("model.model.0", "encoder_1")]
    for i in range(2, depth + 1):
        layers.append(Layer(f"{_nested(i)}.1", f"encoder_{i}"))
        if i < depth:
            layers.append(Layer(f"{_nested(i)}.2", f"encoder_{i}_norm", "norm"))
    for i in range(depth, 1, -1):
        # the innermost level has neither a norm on the way down nor a level inside
        index = 3 if i == depth else 5
        layers.append(Layer(f"{_nested(i)}.{index}", f"decoder_{i}", "deconv"))
        layers.append(Layer(f"{_nested(i)}.{index + 1}", f"decoder_{i}_norm", "norm"))
    return Layout("original generator", [*layers, Layer("model.model.3", "decoder_1", "deconv")])


def _pytorch_gan_discriminator() -> Layout:
    layers = [Layer("model.0", "conv_0"), *_blocks(3)]
    return Layout("pytorch_gan discriminator", [*layers, Layer("model.12", "conv_4", bias=False)])


def _original_discriminator(n: int) -> Layout:
    layers = [Layer("model.0", "conv_0"), *_blocks(n), Layer(f"model.{2 + 3 * n}", f"conv_{n + 1}")]
    return Layout("original discriminator", layers)


def _pixel_discriminator() -> Layout:
    layers = [
        Layer("net.0", "conv_0"),
        Layer("net.2", "conv_1"),
        Layer("net.3", "norm_1", "norm"),
        Layer("net.5", "conv_2"),
    ]
    return Layout("original discriminator", layers, side=1)


def _blocks(n: int) -> list[Layer]:
    """The convolutions 1 to n of a patch discriminator, each with the norm after it."""
    pairs = [
        (Layer(f"model.{3 * k - 1}", f"conv_{k}"), Layer(f"model.{3 * k}", f"norm_{k}", "norm"))
        for k in range(1, n + 1)
    ]
    return [layer for pair in pairs for layer in pair]

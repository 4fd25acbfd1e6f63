"""PyTorch-GAN's generators and discriminators ↔ this library's parameter trees.

https://github.com/eriklindernoren/PyTorch-GAN (gan.py, dcgan.py, wgan_gp.py). Modules here carry
the PyTorch names with the dot before the index replaced by an underscore:

    conv_blocks.3.weight        params["conv_blocks_3"]["kernel"], or ["scale"] of a norm
    conv_blocks.3.bias          params["conv_blocks_3"]["bias"]
    conv_blocks.3.running_mean  stats["batch_stats"]["conv_blocks_3"]["mean"]
    conv_blocks.3.running_var   stats["batch_stats"]["conv_blocks_3"]["var"]

Convolutions turn from [O, I, H, W] into [H, W, I, O], dense layers from [O, I] into [I, O]. Dense
layers beside an image keep PyTorch's order of channel, row, column: the networks here flatten and
unflatten in that order, so no weight is permuted. `num_batches_tracked`, which plain running
averages do not use, is ignored on the way in and 0 on the way out.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from gan_jax.errors import UserError
from gan_jax.interop.formats import torch_file
from gan_jax.interop.trees import Tree, named_leaves, shown

AXES_IN = {4: (2, 3, 1, 0), 2: (1, 0)}  # OIHW → HWIO, OI → IO
AXES_OUT = {4: (3, 2, 0, 1), 2: (1, 0)}
TORCH_LEAF = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
STAT_LEAF = {"running_mean": "mean", "running_var": "var"}
_LISTED = 10


def to_trees(state_dict: Mapping[str, np.ndarray]) -> tuple[Tree, Tree]:
    """A PyTorch-GAN state dict as (params, stats); stats is {} without batch norms.

    Raises:
        UserError: a tensor that no layer of these networks has.
    """
    params: Tree = {}
    batch_stats: Tree = {}
    for name, tensor in state_dict.items():
        module, _, leaf = name.rpartition(".")
        module = module.replace(".", "_")
        array = np.asarray(tensor)
        if leaf == "num_batches_tracked":
            continue
        if leaf in STAT_LEAF and array.ndim == 1:
            batch_stats.setdefault(module, {})[STAT_LEAF[leaf]] = array
        elif leaf == "weight" and array.ndim in AXES_IN:
            kernel = np.ascontiguousarray(array.transpose(AXES_IN[array.ndim]))
            params.setdefault(module, {})["kernel"] = kernel
        elif leaf in ("weight", "bias") and array.ndim == 1 and module:
            params.setdefault(module, {})["scale" if leaf == "weight" else "bias"] = array
        else:
            raise UserError(
                f"tensor {name} {shown(array.shape)} is none of PyTorch-GAN's: accepted are "
                "weight, bias, running_mean and running_var of dense, convolution and batch norm "
                "layers"
            )
    return params, {"batch_stats": batch_stats} if batch_stats else {}


def from_trees(params: Mapping[str, Any], stats: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The inverse of `to_trees`: a state dict in PyTorch's names, layouts and order.

    Raises:
        ValueError: a leaf that PyTorch-GAN's networks do not have.
    """
    found = {}
    for path, leaf in named_leaves(params, stats).items():
        name = _torch_name(path)
        if name == path:
            raise ValueError(f"{path} has no counterpart in PyTorch-GAN's networks")
        array = np.asarray(leaf)
        axes = AXES_OUT[array.ndim] if path.endswith("/kernel") else range(array.ndim)
        found[name] = np.ascontiguousarray(array.transpose(axes))
        if name.endswith(".running_var"):
            counter = name.replace("running_var", "num_batches_tracked")
            found[counter] = np.zeros((), np.int64)
    return {name: found[name] for name in sorted(found, key=_torch_order)}


def load(
    path: str | os.PathLike[str], params_like: Mapping[str, Any], stats_like: Mapping[str, Any]
) -> tuple[Tree, Tree]:
    """Reads a `.pth` file into trees like the given ones.

    Args:
        path: what PyTorch-GAN's user saved with `torch.save(generator.state_dict(), path)`.
        params_like: the network's parameters, or their shapes and dtypes (`jax.eval_shape`).
        stats_like: its statistics, {} without batch norms.

    Returns:
        (params, stats), numpy arrays with the dtypes of the given trees.

    Raises:
        UserError: the file is unreadable, or its tensors are not the network's: the first ten
            mismatches with both shapes.
    """
    state_dict = torch_file.state_dict(path)
    expected = {
        _torch_name(at): _torch_shape(at, leaf.shape)
        for at, leaf in named_leaves(params_like, stats_like).items()
    }
    given = {
        name: tensor.shape
        for name, tensor in state_dict.items()
        if not name.endswith("num_batches_tracked")
    }
    wrong = [
        f"{name} {shown(given.get(name))} in the file, {shown(expected.get(name))} in the network"
        for name in sorted(expected.keys() | given.keys(), key=_torch_order)
        if given.get(name) != expected.get(name)
    ]
    if wrong:
        more = f"; and {len(wrong) - _LISTED} more" if len(wrong) > _LISTED else ""
        raise UserError(
            f"{path} does not fit the network, {len(wrong)} of {len(expected)} tensors differ: "
            f"{'; '.join(wrong[:_LISTED])}{more}; choose the config that the file was trained with"
        )
    leaves = named_leaves(*to_trees(state_dict))
    # An absent collection and an empty one are the same to the file, not to the caller.
    return _like(params_like, "params", leaves), _like(stats_like, "stats", leaves)


def _like(tree: Mapping[str, Any], path: str, leaves: Mapping[str, np.ndarray]) -> Tree:
    if isinstance(tree, Mapping):
        return {key: _like(child, f"{path}/{key}", leaves) for key, child in tree.items()}
    return leaves[path].astype(tree.dtype)


def _torch_name(path: str) -> str:
    """PyTorch's name of the leaf at `path`, or `path` itself if it has none."""
    match = re.fullmatch(r"(?:params|stats/batch_stats)/(\w+)_(\d+)/(\w+)", path)
    if not match or match[3] not in TORCH_LEAF:
        return path
    return f"{match[1]}.{match[2]}.{TORCH_LEAF[match[3]]}"


def _torch_shape(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    axes = AXES_OUT.get(len(shape), ()) if path.endswith("/kernel") else ()
    return tuple(shape[axis] for axis in axes) if axes else tuple(shape)


def _torch_order(name: str) -> tuple:
    """Sorts as PyTorch lists a module: blocks, indices as numbers, then a layer's own tensors."""
    blocks = ("l1", "conv_blocks", "model", "adv_layer")
    tensors = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    match = re.fullmatch(r"(\w+)\.(\d+)\.(\w+)", name)
    if not match or match[1] not in blocks or match[3] not in tensors:
        return (len(blocks), 0, 0, name)
    return (blocks.index(match[1]), int(match[2]), tensors.index(match[3]), name)

"""Parameter trees as other programs see them: leaves by name, and shapes in words."""

from collections.abc import Mapping
from typing import Any

from jax import tree_util

Tree = dict[str, Any]


def named_leaves(params: Mapping[str, Any], stats: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves by path: params/conv_blocks_3/kernel, stats/batch_stats/conv_blocks_3/mean."""
    return named({"params": params, "stats": stats})


def named(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves of nested dicts by path, such as params/dense/kernel, in the order of sorted keys."""
    leaves = tree_util.tree_leaves_with_path(tree)
    return {tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def shown(shape: tuple[int, ...] | None) -> str:
    """A shape as errors print it: [64, 3, 4, 4]."""
    return "absent" if shape is None else str(list(shape))

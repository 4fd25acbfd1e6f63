"""An operation that ties where one array lies to where another one does, without naming a mesh.

jax had it as jax.experimental.shard_alike up to version 0.11.0. It says nothing to XLA but that
both are members of a group whose members are split over the devices in the same way.
"""

import itertools

import jax
from jax import Array
from jax.extend.core import Primitive
from jax.extend.mlir.dialects import sdy
from jax.interpreters import ad, batching, mlir

_numbers = itertools.count()  # of groups: no two in a program may be the same


def split_alike(x: Array, y: Array) -> Array:
    """x, split over the devices as y is, which has the same shape; nothing else changes."""
    return _tie.bind(x, y)


_tie = Primitive("shard_alike")
_tie.def_impl(lambda x, y: x)
_tie.def_abstract_eval(lambda x, y: x)


def _lowered(context: mlir.LoweringRuleContext, x, y):
    if jax.config.jax_use_shardy_partitioner:  # the older partitioner does not know groups
        group = next(_numbers)
        sdy.sharding_group(x, group)
        sdy.sharding_group(y, group)
    return [x]


def _derivative(values, tangents):
    (x, y), (slope, _) = values, tangents
    return split_alike(x, y), slope


def _batched(values, axes):
    (x, y), (axis, other) = values, axes
    return (split_alike(x, y) if axis == other else x), axis


mlir.register_lowering(_tie, _lowered)
ad.primitive_jvps[_tie] = _derivative
batching.primitive_batchers[_tie] = _batched

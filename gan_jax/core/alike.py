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

_numbers = itertools.count()  # of groups


def split_alike(x: Array, y: Array) -> Array:
    """x, split over the devices as y is, which has the same shape; nothing else changes."""
    return _tie.bind(x, y)[0]


_tie = Primitive("shard_alike")
_tie.multiple_results = True  # as a view of both: see gan_jax.core.liveness
_tie.def_impl(lambda x, y: [x, y])
_tie.def_abstract_eval(lambda x, y: [x, y])


def _lowered(context: mlir.LoweringRuleContext, x, y):
    if jax.config.jax_use_shardy_partitioner:  # the older partitioner is told nothing
        group = next(_numbers)
        sdy.sharding_group(x, group)
        sdy.sharding_group(y, group)
    return [x, y]


def _derivative(values, tangents):
    return _tie.bind(*values), [*tangents]


def _batched(values, axes):
    tied = axes[0] == axes[1]
    return (_tie.bind(*values) if tied else [*values]), [*axes]


mlir.register_lowering(_tie, _lowered)
ad.primitive_jvps[_tie] = _derivative
batching.primitive_batchers[_tie] = _batched

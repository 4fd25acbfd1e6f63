"""Networks as pairs of pure functions: all that the rest of the project sees of flax.linen."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
from jax import Array

from gan_jax import splitting

PyTree = Any


class Network(NamedTuple):
    """A network without its parameters.

    init(key, *inputs) → (params, stats), jittable. `stats` holds the arrays that are not trained,
    by flax collection ({"batch_stats": {...}}), or is {}.
    apply(params, stats, *inputs, train=False, key=None) → (output, stats): the statistics are
    updated if `train`, otherwise unchanged. `key` is only needed for dropout.
    """

    init: Callable[..., tuple[PyTree, PyTree]]
    apply: Callable[..., tuple[Any, PyTree]]


def functional(module: nn.Module) -> Network:
    """The pure functions of a module whose `__call__` takes the inputs and `train`."""

    def init(key: Array, *inputs: Any) -> tuple[PyTree, PyTree]:
        variables = dict(module.init({"params": key}, *inputs, train=False))
        return variables.pop("params", {}), variables

    def apply(
        params: PyTree, stats: PyTree, *inputs: Any, train: bool = False, key: Array | None = None
    ) -> tuple[Any, PyTree]:
        variables = splitting.whole({"params": params, **stats})
        rngs = None if key is None else {"dropout": key}
        if not (train and stats):
            return module.apply(variables, *inputs, train=train, rngs=rngs), stats
        output, updated = module.apply(
            variables, *inputs, train=train, rngs=rngs, mutable=list(stats)
        )
        return output, {**stats, **updated}

    return Network(init, apply)

"""Functions of several images at once, such as a minibatch standard deviation, applied to groups
whose size does not depend on the batch size."""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array


def by_groups(function: Callable[..., Any], size: int, *arrays: Array) -> Any:
    """Applies `function` to every `size` consecutive rows of arrays [B, ...] and joins the results:
    [B, ...].

    A size of 0 or 1 means a single group of all rows.

    Raises:
      ValueError: a size that does not divide B.
    """
    count = len(arrays[0])
    if size < 2 or size == count:
        return function(*arrays)
    if count % size:
        raise ValueError(f"a batch of {count} does not divide into groups of {size}")
    split = [a.reshape(count // size, size, *a.shape[1:]) for a in arrays]
    made = jax.vmap(function)(*split)
    return jax.tree.map(lambda a: a.reshape(count, *a.shape[2:]), made)

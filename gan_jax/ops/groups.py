"""Batches taken apart and put together.

Functions of several images at once, such as a minibatch standard deviation, are applied to groups
whose size does not depend on the batch size. Batches that go through a network together are
interleaved: behind each other, the first of them would lie on the first devices alone.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
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


def interleaved(*batches: Array) -> Array:
    """n arrays [B, ...] as one [B·n, ...]: row k of all of them, then row k + 1.

    Where the rows of each lie split over devices, the rows of the result lie there too.
    """
    joined = jnp.stack(batches, axis=1)
    return joined.reshape(-1, *joined.shape[2:])


def parted(joined: Array, n: int) -> list[Array]:
    """The n arrays [B, ...] that `interleaved` has joined."""
    rows = joined.reshape(-1, n, *joined.shape[1:])
    return [rows[:, index] for index in range(n)]

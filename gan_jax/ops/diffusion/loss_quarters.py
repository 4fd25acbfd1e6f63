"""Quarters of the time of a diffusion chain, for which losses are logged separately.

A mean over all t hides much, since losses near t = 0 and near t = T differ by orders of magnitude.
Quarter k of a chain of T steps holds the t with ⌊4t/T⌋ = k, as in the logs of Nichol & Dhariwal.
"""

import itertools

import jax
import jax.numpy as jnp

from gan_jax.errors import UserError

COUNT = 4


def names(steps: int) -> tuple[str, ...]:
    """Names of the quarters of 0..steps-1, as metrics have them: ("t0-249", "t250-499", …).

    Raises:
      UserError: fewer than four steps, so that some quarter would be empty.
    """
    if steps < COUNT:
        raise UserError(f"a chain of {steps} steps: at least {COUNT} are needed, one a quarter")
    starts = [-(-k * steps // COUNT) for k in range(COUNT + 1)]  # the first t with 4t/T >= k
    return tuple(f"t{a}-{b - 1}" for a, b in itertools.pairwise(starts))


def index(t: jax.Array, steps: int) -> jax.Array:
    """The quarter, 0..3, of each t in 0..steps-1: int32, of t's shape."""
    return jnp.asarray(t, jnp.int32) * COUNT // steps


def means(values: jax.Array, quarter: jax.Array, last: jax.Array) -> jax.Array:
    """The mean of each quarter's values: [4] in the type of `last`.

    Args:
      values: [B].
      quarter: int [B], see `index`.
      last: [4], the mean of a quarter that has no value.
    """
    member = quarter[None, :] == jnp.arange(COUNT)[:, None]  # [4, B]
    count = jnp.sum(member, axis=1)
    # `where` and not a product, because 0 · inf would make the other quarters NaN
    total = jnp.sum(jnp.where(member, values[None, :], 0), axis=1)
    return jnp.where(count > 0, total / jnp.maximum(count, 1), last).astype(last.dtype)

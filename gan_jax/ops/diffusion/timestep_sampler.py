"""Which time steps a batch trains on: evenly, or in proportion to how large their losses are.

Drawing t with probability p_t and weighing its loss by 1/(T p_t) leaves the expected loss as it is;
p_t ∝ √E[L_t²] makes its variance least (Nichol & Dhariwal 2021, section 3.3). What is known of the
losses is a few arrays, so that it can be part of a checkpoint.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

SAMPLERS = ("uniform", "loss_second_moment")

HISTORY = 10
"""How many losses are remembered of each time step."""
UNIFORM_SHARE = 0.001
"""The share of the probability that is spread evenly, so that no step is forgotten."""


class History(NamedTuple):
    """The last losses of every time step."""

    losses: Array
    """[T, 10]: a ring, the newest at place (seen - 1) mod 10. Zeros where nothing is known yet."""
    seen: Array
    """int32 [T]: how many losses have come."""


def empty(steps: int, dtype: DTypeLike = jnp.float32) -> History:
    """The history of T steps of which no loss is known."""
    return History(jnp.zeros((steps, HISTORY), dtype), jnp.zeros(steps, jnp.int32))


def warm(history: History) -> Array:
    """Whether 10 losses of every step are known: a bool."""
    return jnp.all(history.seen >= HISTORY)


def weights(history: History) -> Array:
    """How often each step is to be drawn, [T]: ones until every step has 10 losses, then
    probabilities."""
    scale = jnp.sqrt(jnp.mean(jnp.square(history.losses), axis=1))
    total = jnp.maximum(jnp.sum(scale), jnp.finfo(scale.dtype).tiny)
    uniform = UNIFORM_SHARE / len(scale)
    share = (1 - UNIFORM_SHARE) * scale / total + uniform
    return jnp.where(warm(history), share, jnp.ones_like(share))


def draw(key: Array, weights: Array, batch: int) -> tuple[Array, Array]:
    """t int32 [B] in proportion to weights [T], and what its losses are to be multiplied with so
    that their mean estimates that over all steps, 1/(T p_t): [B]."""
    share = weights / jnp.sum(weights)
    t = jax.random.choice(key, len(weights), (batch,), p=share).astype(jnp.int32)
    return t, 1 / (len(weights) * share[t])


def draw_uniform(key: Array, steps: int, batch: int) -> tuple[Array, Array]:
    """t int32 [B], every step equally likely, and weights of one: [B]."""
    t = jax.random.randint(key, (batch,), 0, steps, jnp.int32)
    return t, jnp.ones(batch)


def even_places(numbers: Array, u: Array) -> Array:
    """Places in [0, 1) of the images with these numbers in their set, int [B]: float32 [B].

    Image k lies at the fractional part of k/φ + u, φ the golden ratio and u in [0, 1), []. That is
    a function of k alone, and any n images in a row, or every K-th of them where classes come in
    turn, lie nearly evenly whatever n.
    """
    # in whole numbers modulo 2^32: a float32 product would lose the places of large k
    turned = numbers.astype(jnp.uint32) * jnp.uint32(2654435769)  # 2^32/φ
    places = turned.astype(jnp.float32) / 2.0**32 + u
    return jnp.clip(places - jnp.floor(places), 0, 1 - 1e-6)


def at_places(places: Array, steps: int) -> Array:
    """The steps of 0..T-1 at places in [0, 1): int32, of their shape."""
    return jnp.minimum((places * steps).astype(jnp.int32), steps - 1)


def update(history: History, t: Array, losses: Array) -> History:
    """The history after the losses [B] of the steps t [B], in the order of the batch: the newest
    10 of every step are kept. The losses are those before any weight."""
    same = t[:, None] == t[None, :]
    earlier = jnp.tril(same, k=-1).sum(axis=1)
    later = jnp.triu(same, k=1).sum(axis=1)
    place = (history.seen[t] + earlier) % HISTORY
    # of more than 10 losses of one step in a batch the first would be overwritten: left out, since
    # the order in which equal places are written is not defined
    row = jnp.where(later < HISTORY, t, len(history.seen))
    kept = history.losses.at[row, place].set(losses.astype(history.losses.dtype), mode="drop")
    return History(kept, history.seen.at[t].add(1))

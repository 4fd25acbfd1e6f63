"""Sampling the time steps of a batch: uniformly, or in proportion to how large their losses are.

Sampling t with probability p_t and weighting its loss by 1/(T p_t) leaves the expected loss as it
is; p_t ∝ √E[L_t²] minimises its variance (Nichol & Dhariwal 2021, section 3.3). The history of
losses is a few arrays, so that it can be part of a checkpoint.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

SAMPLERS = ("uniform", "loss_second_moment")

HISTORY = 10
"""How many losses of each time step are remembered."""
UNIFORM_SHARE = 0.001
"""The share of the probability that is spread uniformly, so that every step can be sampled."""


class History(NamedTuple):
    """The last losses of every time step."""

    losses: Array
    """[T, 10]: a ring buffer, the newest at place (seen - 1) mod 10; zeros where none is known."""
    seen: Array
    """int32 [T]: how many losses of each step there have been."""


def empty(steps: int, dtype: DTypeLike = jnp.float32) -> History:
    """The history of T steps of which no loss is known."""
    return History(jnp.zeros((steps, HISTORY), dtype), jnp.zeros(steps, jnp.int32))


def warm(history: History) -> Array:
    """Whether 10 losses of every step are known: a bool."""
    return jnp.all(history.seen >= HISTORY)


def weights(history: History) -> Array:
    """Weights in proportion to which steps are to be sampled, [T]: ones until every step has 10
    losses, then probabilities."""
    scale = jnp.sqrt(jnp.mean(jnp.square(history.losses), axis=1))
    total = jnp.maximum(jnp.sum(scale), jnp.finfo(scale.dtype).tiny)
    uniform = UNIFORM_SHARE / len(scale)
    share = (1 - UNIFORM_SHARE) * scale / total + uniform
    return jnp.where(warm(history), share, jnp.ones_like(share))


def draw(key: Array, weights: Array, batch: int) -> tuple[Array, Array]:
    """Samples t in proportion to weights [T]: int32 [B]. Also returns the factors 1/(T p_t) [B] of
    their losses, with which the mean of a batch estimates the mean over all steps."""
    share = weights / jnp.sum(weights)
    t = jax.random.choice(key, len(weights), (batch,), p=share).astype(jnp.int32)
    return t, 1 / (len(weights) * share[t])


def draw_uniform(key: Array, steps: int, batch: int) -> tuple[Array, Array]:
    """Samples t int32 [B] with every step equally likely; returns it and factors of one, [B]."""
    t = jax.random.randint(key, (batch,), 0, steps, jnp.int32)
    return t, jnp.ones(batch)


def even_places(numbers: Array, u: Array) -> Array:
    """Places in [0, 1) of the images with these numbers in their set, int [B]: float32 [B].

    Image k lies at the fractional part of k/φ + u, φ the golden ratio and u in [0, 1), []. That is
    a function of k alone, and for any n the places of n images in a row, or of every K-th image if
    classes come in turn, are spread nearly evenly.
    """
    # in whole numbers modulo 2^32, because a float32 product has no digits left for large k
    turned = numbers.astype(jnp.uint32) * jnp.uint32(2654435769)  # 2^32/φ
    places = turned.astype(jnp.float32) / 2.0**32 + u
    return jnp.clip(places - jnp.floor(places), 0, 1 - 1e-6)


def at_places(places: Array, steps: int) -> Array:
    """The steps of 0..T-1 at places in [0, 1): int32, of their shape."""
    return jnp.minimum((places * steps).astype(jnp.int32), steps - 1)


def update(history: History, t: Array, losses: Array) -> History:
    """The history with the losses [B] of the steps t [B] added, in the order of the batch; the
    newest 10 losses of every step are remembered. The losses must be unweighted."""
    same = t[:, None] == t[None, :]
    earlier = jnp.tril(same, k=-1).sum(axis=1)
    later = jnp.triu(same, k=1).sum(axis=1)
    place = (history.seen[t] + earlier) % HISTORY
    # if a batch has more than 10 losses of one step, the first ones are left out: others would
    # overwrite them, and the order in which equal places are written is not defined
    row = jnp.where(later < HISTORY, t, len(history.seen))
    kept = history.losses.at[row, place].set(losses.astype(history.losses.dtype), mode="drop")
    return History(kept, history.seen.at[t].add(1))

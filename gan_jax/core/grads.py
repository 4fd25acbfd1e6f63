"""Gradients that a plain jax.grad does not give: microbatches, and two networks at once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gan_jax import backend
from gan_jax.core.system import PyTree


def accumulate(
    loss: Callable[..., tuple[jax.Array, PyTree]],
    params: PyTree,
    batch: PyTree,
    key: jax.Array,
    n: int,
) -> tuple[PyTree, PyTree]:
    """Mean gradient of `loss(params, part, key) → (scalar, aux)` over n microbatches, and the aux.

    Every leaf of `batch` and of aux is an array of examples: [B, …] of the batch, [B / n, …] of a
    part; aux comes back as [B, …] in the order of the batch. The batch is split as (B/n, n) and
    swapped, so that each device contributes to every part and no data moves between devices.
    Raises ValueError when B does not divide by n.
    """
    if n == 1:
        return jax.grad(loss, has_aux=True)(params, batch, key)

    def split(x):
        if x.shape[0] % n:
            raise ValueError(f"a batch of {x.shape[0]} does not divide into {n} microbatches")
        return jnp.swapaxes(x.reshape(x.shape[0] // n, n, *x.shape[1:]), 0, 1)

    def body(total, part):
        index, part = part
        grads, aux = jax.grad(loss, has_aux=True)(params, part, jax.random.fold_in(key, index))
        return jax.tree.map(jnp.add, total, grads), aux

    # summed as they come: n gradients at once would take the memory that microbatches save
    zeros = jax.tree.map(jnp.zeros_like, params)
    # on a CPU the loop is unrolled, because XLA runs convolutions inside a loop slowly there
    straight = backend.kind() == "cpu"
    parts = (jnp.arange(n), jax.tree.map(split, batch))
    total, aux = jax.lax.scan(body, zeros, parts, unroll=straight)

    def whole(a: jax.Array) -> jax.Array:
        return jnp.swapaxes(a, 0, 1).reshape(-1, *a.shape[2:])

    return jax.tree.map(lambda g: g / n, total), jax.tree.map(whole, aux)


def two_networks(
    forward: Callable[[PyTree, PyTree], tuple[jax.Array, jax.Array, Any]],
    gen_params: PyTree,
    disc_params: PyTree,
) -> tuple[PyTree, PyTree, Any]:
    """(generator's gradients, discriminator's gradients, aux) from one forward pass.

    `forward(gen_params, disc_params) → (gen_loss, disc_loss, aux)`; each loss is differentiated
    with respect to its own network only. One jax.vjp, two pullbacks.
    """

    def losses(gen, disc):
        gen_loss, disc_loss, aux = forward(gen, disc)
        return (gen_loss, disc_loss), aux

    (gen_loss, disc_loss), pull, aux = jax.vjp(losses, gen_params, disc_params, has_aux=True)
    gen_grads, _ = pull((jnp.ones_like(gen_loss), jnp.zeros_like(disc_loss)))
    _, disc_grads = pull((jnp.zeros_like(gen_loss), jnp.ones_like(disc_loss)))
    return gen_grads, disc_grads, aux

"""Gradients that a plain jax.grad does not give: microbatches, and two networks at once."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gan_jax import backend
from gan_jax.core.system import Net, PyTree, Stage, TrainState
from gan_jax.errors import UserError, at_least


class Seen(NamedTuple):
    """What a part of a batch gives beside its gradients, three trees of arrays."""

    rows: PyTree = ()  # of its examples, [B / n, …]: joined to [B, …] in the order of the batch
    means: PyTree = ()  # over its examples: averaged over the parts
    same: PyTree = ()  # alike in all parts, as the vectors of spectral norm are: of the last one


def accumulate(
    loss: Callable[..., tuple[jax.Array, PyTree]],
    params: PyTree,
    batch: PyTree,
    key: jax.Array,
    n: int,
) -> tuple[PyTree, PyTree]:
    """Mean gradient of `loss(params, part, key) → (scalar, aux)` over n microbatches, and the aux.

    Every leaf of `batch` and of aux is an array of examples: [B, …] of the batch, [B / n, …] of a
    part; see `in_parts`.
    """

    def seen(params: PyTree, part: PyTree, key: jax.Array) -> tuple[jax.Array, Seen]:
        value, aux = loss(params, part, key)
        return value, Seen(rows=aux)

    grads, found = average(seen, params, batch, key, n)
    return grads, found.rows


def average(
    loss: Callable[..., tuple[jax.Array, Seen]],
    params: PyTree,
    batch: PyTree,
    keys: PyTree,
    n: int,
) -> tuple[PyTree, Seen]:
    """Mean gradient of `loss(params, part, keys) → (scalar, Seen)` over n microbatches; see
    `in_parts`."""
    return in_parts(partial(jax.grad(loss, has_aux=True), params), batch, keys, n)


def in_parts(
    gradient: Callable[[PyTree, PyTree], tuple[PyTree, Seen]], batch: PyTree, keys: PyTree, n: int
) -> tuple[PyTree, Seen]:
    """Mean of `gradient(part, keys) → (gradients, Seen)` over n microbatches.

    Every leaf of `batch` is an array of examples [B, …], of a part [B / n, …]. The batch is split
    as (B/n, n) and swapped, so that each device contributes to every part and no data moves between
    devices. A key of a part is that of the batch with the part's number folded in; one part alone
    is given the batch and the keys as they are. Raises ValueError when B does not divide by n.
    """
    if n == 1:
        return gradient(batch, keys)

    def split(x):
        if x.shape[0] % n:
            raise ValueError(f"a batch of {x.shape[0]} does not divide into {n} microbatches")
        return jnp.swapaxes(x.reshape(x.shape[0] // n, n, *x.shape[1:]), 0, 1)

    def one(numbered):
        index, part = numbered
        return gradient(part, jax.tree.map(lambda key: jax.random.fold_in(key, index), keys))

    def body(total, numbered):
        grads, seen = one(numbered)
        sums = jax.tree.map(jnp.add, total, (grads, seen.means))
        return sums, (seen.rows, seen.same)

    parts = (jnp.arange(n), jax.tree.map(split, batch))
    shapes = jax.eval_shape(one, jax.tree.map(lambda x: x[0], parts))
    # summed as they come: n gradients at once would take the memory that microbatches save
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (shapes[0], shapes[1].means))
    # on a CPU the loop is unrolled, because XLA runs convolutions inside a loop slowly there
    straight = backend.kind() == "cpu"
    totals, (rows, same) = jax.lax.scan(body, zeros, parts, unroll=straight)

    def whole(a: jax.Array) -> jax.Array:
        return jnp.swapaxes(a, 0, 1).reshape(-1, *a.shape[2:])

    grads, means = jax.tree.map(lambda total: total / n, totals)
    return grads, Seen(jax.tree.map(whole, rows), means, jax.tree.map(lambda a: a[-1], same))


def check_parts(parts: int, batch_size: int, name: str = "config.batch_size") -> None:
    """Raises UserError unless a batch divides into `parts`, the key `config.microbatches`.

    `name` is what the message calls the batch size.
    """
    at_least("config.microbatches", parts, 1)
    if batch_size % parts:
        raise UserError(
            f"config.microbatches={parts}: must divide {name}={batch_size}; set "
            "config.microbatches=1 or another divisor"
        )


def check_shared(parts: int, stages: Iterable[Stage], devices: int) -> None:
    """Raises UserError unless `devices` can share each of `parts` of a stage's batch evenly."""
    for stage in stages:
        if parts > 1 and stage.batch_size % (devices * parts):
            raise UserError(
                f"config.microbatches={parts}: the {stage.batch_size} images of a step make parts "
                f"that do not divide by {devices} devices; set config.microbatches=1 or to fewer "
                "parts, use a larger batch, or set config.run.devices"
            )


def check_unmixed(parts: int, init: Callable[[], TrainState]) -> None:
    """Raises UserError for several `parts` if a network of the state that `init()` gives has batch
    norm, whose statistics would be those of a part."""
    if parts == 1:
        return

    def normalises(net: Net) -> bool:
        paths = jax.tree_util.tree_leaves_with_path(net.stats)
        return any(getattr(path[-1], "key", "") == "mean" for path, _ in paths)

    names = [name for name, net in jax.eval_shape(init).nets.items() if normalises(net)]
    if names:
        raise refused(parts, f"batch norm, in {' and '.join(names)}, is over the whole batch")


def check_groups(parts: int, batch_size: int, group: int, name: str = "config.batch_size") -> None:
    """Raises UserError unless `parts` of a batch hold whole groups of the minibatch standard
    deviation.

    A group is every (B / group)-th example, and so are the groups of a part: they are the same.
    `name` is what the message calls the batch size.
    """
    size = min(group, batch_size)
    if parts > 1 and size > 1 and batch_size // parts % size:
        why = (
            f"the {batch_size // parts} images of a part, of {name}={batch_size}, do not divide "
            f"into groups of {size} for the minibatch standard deviation"
        )
        raise refused(parts, why)


def refused(parts: int, why: str) -> UserError:
    """The refusal of `config.microbatches`, because of something that mixes a batch's examples."""
    return UserError(f"config.microbatches={parts}: {why}; set it to 1")


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

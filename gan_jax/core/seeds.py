"""Random values for images: functions of each image's seed alone, whatever else is in the batch."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from gan_jax.core.system import Array, Batch


def latents_of(batch: Batch, key: Array, length: int) -> Array:
    """The latents of a sampling batch, [N, length]: its `z`, or else one drawn for each `seed`.

    Where the batch has `truncation` [N], values beyond ± truncation are drawn again (the truncation
    trick, Brock et al. 2019).
    """
    if "z" in batch:
        return batch["z"]

    def draw(seed: Array, truncation: Array | None) -> Array:
        own = jax.random.fold_in(key, seed)
        if truncation is None:
            return jax.random.normal(own, (length,))
        return jax.random.truncated_normal(own, -truncation, truncation, (length,))

    over = (0, 0 if "truncation" in batch else None)
    return jax.vmap(draw, over)(batch["seed"], batch.get("truncation"))


def numbers_of(batch: Batch, count: int) -> Array:
    """The positions of a batch's images in the validation set, int32 [count]: its `seed`, or, if it
    has none, 0, 1, …, as for the first images of the set."""
    return batch["seed"] if "seed" in batch else jnp.arange(count, dtype=jnp.int32)


def classes_of(seeds: Array, key: Array, classes: Sequence[int]) -> Array:
    """One of `classes`, drawn for each of `seeds` [N]: int32 [N]."""
    own = jax.vmap(jax.random.fold_in, (None, 0))(key, seeds)
    places = jax.vmap(lambda k: jax.random.randint(k, (), 0, len(classes)))(own)
    return jnp.asarray(classes, jnp.int32)[places]


def noise_of(seeds: Array, key: Array, shape: tuple[int, ...]) -> Callable[[Array], Array]:
    """A function from the number of a sampling step, int32 [], to normal noise [N, *shape].

    The noise for each of `seeds` [N] depends on that seed and the step alone.
    """
    own = jax.vmap(jax.random.fold_in, (None, 0))(key, seeds)

    def noise_at(step: Array) -> Array:
        keys = jax.vmap(jax.random.fold_in, (0, None))(own, step)
        return jax.vmap(lambda k: jax.random.normal(k, shape))(keys)

    return noise_at

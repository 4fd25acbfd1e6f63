"""A history of generated images from which the discriminator is shown (Shrivastava et al. 2017)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Pool(NamedTuple):
    """`images` [P, ...], of which the first `count` (int32 []) are filled."""

    images: Array
    count: Array


def empty(size: int, shape: tuple[int, ...], dtype=jnp.float32) -> Pool:
    """Room for `size` images of the given shape."""
    return Pool(jnp.zeros((size, *shape), dtype), jnp.zeros((), jnp.int32))


def query(pool: Pool, images: Array, key: Array) -> tuple[Pool, Array]:
    """What the discriminator sees in place of `images` [B, ...], one after the other.

    Until the pool is full an image is stored and returned. Then, with probability 1/2 each, it is
    returned, or it takes the place of a random stored one, which is returned instead.
    """
    size = pool.images.shape[0]

    def one(pool: Pool, given: tuple[Array, Array]) -> tuple[Pool, Array]:
        image, key = given
        swap_key, place_key = jax.random.split(key)
        filling = pool.count < size
        swap = ~filling & jax.random.bernoulli(swap_key)
        place = jnp.where(filling, pool.count, jax.random.randint(place_key, (), 0, size))
        stored = pool.images[place]
        kept = pool.images.at[place].set(jnp.where(filling | swap, image, stored))
        return Pool(kept, pool.count + filling), jnp.where(swap, stored, image)

    return jax.lax.scan(one, pool, (images, jax.random.split(key, images.shape[0])))

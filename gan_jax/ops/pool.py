"""A pool of earlier fakes that the discriminator may be shown again (Shrivastava et al. 2017)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Pool(NamedTuple):
    """`images` [P, ...], of which the first `count` (int32 []) places are filled."""

    images: Array
    count: Array


def empty(size: int, shape: tuple[int, ...], dtype=jnp.float32) -> Pool:
    """An empty pool with room for `size` images of the given shape."""
    return Pool(jnp.zeros((size, *shape), dtype), jnp.zeros((), jnp.int32))


def query(pool: Pool, images: Array, key: Array) -> tuple[Pool, Array]:
    """The new pool, and the images [B, ...] that the discriminator sees in place of `images`.

    Images are handled one after the other. Until the pool is full, an image is stored and returned.
    After that, with probability 1/2 each, an image is returned as it is, or it replaces a random
    stored one, which is returned instead.
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

"""The pool of earlier fakes that a discriminator is shown again."""

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.ops import pool


def test_half_of_the_images_are_swapped_for_stored_ones():
    """The pool fills first; then it swaps half of the images, and loses none."""
    images = jnp.arange(400, dtype=jnp.float32).reshape(200, 2)
    start = pool.empty(10, (2,))
    after, seen = jax.jit(pool.query)(start, images[:10], jax.random.key(0))
    np.testing.assert_array_equal(seen, images[:10])
    np.testing.assert_array_equal(after.images, images[:10])
    assert int(after.count) == 10
    last, shown = jax.jit(pool.query)(after, images[10:], jax.random.key(1))
    old = np.asarray(shown[:, 0] != images[10:, 0])
    assert 0.4 < old.mean() < 0.6
    # an image that was not shown at once is in the pool, or was shown later, and never twice
    given = {tuple(row) for row in np.asarray(images)}
    met = [tuple(row) for row in np.asarray(shown)] + [
        tuple(row) for row in np.asarray(last.images)
    ]
    assert len(met) == len(set(met)) == 200
    assert set(met) == given
    again = jax.jit(pool.query)(after, images[10:], jax.random.key(1))[1]
    np.testing.assert_array_equal(again, shown)

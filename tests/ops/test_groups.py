"""Functions of groups of consecutive rows, and batches that are interleaved."""

import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.ops.groups import by_groups, interleaved, parted

ROWS = np.arange(24, dtype=np.float32).reshape(12, 2)


@pytest.mark.parametrize("size", [2, 3, 4, 6])
def test_rows_see_those_of_their_own_group(size):
    found = by_groups(lambda x, y: (x + jnp.mean(y, axis=0), y), size, ROWS, 2 * ROWS)
    means = (2 * ROWS).reshape(-1, size, 2).mean(axis=1)
    np.testing.assert_allclose(found[0], ROWS + means.repeat(size, axis=0), rtol=1e-6)
    np.testing.assert_array_equal(found[1], 2 * ROWS)


@pytest.mark.parametrize("size", [0, 1, 12])
def test_one_group_of_all(size):
    found = by_groups(lambda x: x - jnp.mean(x, axis=0), size, ROWS)
    np.testing.assert_allclose(found, ROWS - ROWS.mean(axis=0), rtol=1e-6)


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="a batch of 12 does not divide into groups of 5"):
        by_groups(lambda x: x, 5, ROWS)


def test_interleaved_batches_keep_rows_of_a_number_together_and_come_apart_again():
    batches = [ROWS, 10 * ROWS, 100 * ROWS]
    joined = interleaved(*batches)
    np.testing.assert_array_equal(joined[3:6], np.stack([x[1] for x in batches]))
    assert joined.shape == (36, 2)
    for found, known in zip(parted(joined, 3), batches, strict=True):
        np.testing.assert_array_equal(found, known)

"""Nested dicts of arrays."""

import jax
import numpy as np


def assert_same(found: dict, expected: dict, place: str = "") -> None:
    """Equal names, numbers, shapes and dtypes."""
    assert found.keys() == expected.keys(), place
    for key, value in expected.items():
        if isinstance(value, dict):
            assert_same(found[key], value, f"{place}/{key}")
        else:
            np.testing.assert_array_equal(found[key], value, strict=True, err_msg=f"{place}/{key}")


def assert_same_bits(found, expected) -> None:
    """Equal structures, and every array the same bit for bit."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True
    ):
        place = jax.tree_util.keystr(path)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes(), place


def stirred(tree, rng: np.random.Generator, amount: float = 0.02):
    """The tree with noise on every float32: a kernel that begins at zero, as the last one of
    WarpGAN's decoder, would make every image the same grey."""

    def noisy(x):
        return x + amount * rng.standard_normal(x.shape).astype(np.float32)

    return jax.tree.map(lambda x: noisy(x) if x.dtype == np.float32 else x, tree)

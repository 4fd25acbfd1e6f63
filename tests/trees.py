"""Nested dicts of arrays."""

import numpy as np


def assert_same(found: dict, expected: dict, place: str = "") -> None:
    """Equal names, numbers, shapes and dtypes."""
    assert found.keys() == expected.keys(), place
    for key, value in expected.items():
        if isinstance(value, dict):
            assert_same(found[key], value, f"{place}/{key}")
        else:
            np.testing.assert_array_equal(found[key], value, strict=True, err_msg=f"{place}/{key}")

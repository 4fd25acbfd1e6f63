"""Errors as a user sees them."""

import pytest

from gan_jax.errors import UserError


def assert_refused(match: str, call, *args, **kwargs) -> str:
    """It is one line for the user."""
    with pytest.raises(UserError, match=match) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)

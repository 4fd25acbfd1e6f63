"""Errors as a user sees them."""

import re

import pytest

from gan_jax.errors import ArgumentError, UserError


def assert_refused(match: str | None, call, /, *args, **kwargs) -> str:
    """The message of the UserError that the call raises: one line that holds `match`, if given."""
    with pytest.raises(UserError, match=match) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def refused_argument(name: str, match: str, call, /, *args, **kwargs) -> str:
    """The message of the ArgumentError that the call raises for its parameter `name`.

    It is one line that begins with the name, and the rest holds the regular expression `match`.
    """
    with pytest.raises(ArgumentError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.name == name, message
    rest = message.removeprefix(name)
    assert rest != message, message
    assert rest[0] in ":= ", message  # the name is whole
    assert re.search(match, rest), message
    return message

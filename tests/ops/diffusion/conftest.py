"""What the tests of diffusion share."""

import jax
import pytest


@pytest.fixture
def double():
    """The test computes in double precision."""
    with jax.enable_x64(True):
        yield

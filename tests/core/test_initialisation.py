"""The program that makes the first weights is compiled fast, and makes the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.core.train_step import LEVEL, options_of_a_single_run


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        ("", {LEVEL: 1}),
        ("--xla_force_host_platform_device_count=8", {LEVEL: 1}),
        (f"--{LEVEL}=0", None),
    ],
)
def test_a_level_that_the_environment_asks_for_is_kept(monkeypatch, flags, options):
    monkeypatch.setenv("XLA_FLAGS", flags)
    assert options_of_a_single_run() == options


def test_the_weights_have_the_same_bits_at_every_level():
    def draw(key):
        keys = jax.random.split(key, 3)
        normal = 0.02 * jax.random.normal(keys[0], (16, 16)) + 1
        uniform = jax.random.uniform(keys[1], (16, 16), minval=-0.3, maxval=0.3)
        orthogonal = jax.nn.initializers.orthogonal()(keys[2], (16, 16))
        return normal, uniform, orthogonal, normal / jnp.linalg.norm(normal)

    key = jax.random.key(3)
    made = [jax.jit(draw, compiler_options={LEVEL: level})(key) for level in (1, 3)]
    for fast, usual in zip(*made, strict=True):
        np.testing.assert_array_equal(fast, usual)

"""Functions of a system are run through once, for any devices, and keep what they return."""

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.core.mesh import Mesh
from gan_jax.core.system import Stage
from gan_jax.core.tracing import once

STAGE = Stage(4, 8, 0, 1)


def test_one_trace_serves_shapes_every_mesh_and_every_program():
    seen = []

    def step(state, batch, stage):
        seen.append(stage)
        return {"state": state + batch["x"].mean(), "other": (batch["x"] * 2,)}

    traced = once(step)
    jax.eval_shape(lambda s, b: traced(s, b, STAGE), jnp.zeros(()), {"x": jnp.zeros(8)})
    for devices in (1, 8):
        mesh = Mesh(devices)
        state, batch = mesh.copy(np.float32(1)), mesh.put({"x": np.arange(8, dtype=np.float32)})
        found = jax.jit(lambda s, b: traced(s, b, STAGE))(state, batch)
        assert found["state"] == 1 + 3.5
        np.testing.assert_array_equal(found["other"][0], 2 * np.arange(8))
    assert seen == [STAGE]
    traced(jnp.zeros(()), {"x": jnp.zeros(4)}, STAGE)
    traced(jnp.zeros(()), {"x": jnp.zeros(8)}, Stage(8, 8, 0, 1))
    assert len(seen) == 3
    assert traced.__wrapped__ is step


def test_python_numbers_and_doubles_keep_their_types():
    traced = once(lambda x, stage: x * 2)
    assert traced(jnp.float16(1), STAGE).dtype == jnp.float16
    assert jax.jit(lambda: traced(3, STAGE) + jnp.float16(1))().dtype == jnp.float16
    with jax.enable_x64(True):
        assert traced(np.float64(1), STAGE).dtype == np.float64

"""Two processes of four devices compute what one device does, whatever the system."""

from pathlib import Path

import jax
import numpy as np
import pytest

from gan_jax.core import saved_states
from gan_jax.core.mesh import fetch
from gan_jax.core.train_step import TrainCarry
from tests.helpers import contract
from tests.helpers.processes import drivers
from tests.processes import topologies

TIGHT = 1e-9  # of float64: rounding stays below 1e-12


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Folders with the states of both processes, by program."""
    folder = tmp_path_factory.mktemp("topologies")
    with drivers(topologies, folder) as group:
        ended = group.wait(1800)
    assert [process.status for process in ended] == [0, 0], [process.err for process in ended]
    assert ended[0].out.splitlines()[-1] == "done"  # the other one prints nothing
    return folder


@pytest.mark.parametrize("program", contract.FLOAT32)
def test_one_device_equals_two_processes_whose_state_is_split(program, trained):
    """Ten steps in float64. The single device begins with a state that was saved by the processes,
    and after five steps with another one: their bytes do not depend on the devices."""
    experiment = topologies.experiment_of(program, 1, 1)
    shapes = experiment.shapes()
    states = saved_states.states_in(trained / program)
    assert sorted(states) == [*topologies.SAVED]
    with jax.enable_x64(True):
        exact = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(
                x.shape, np.float64 if x.dtype == np.float32 else x.dtype, sharding=x.sharding
            ),
            shapes,
        )
        for first, last in ((0, 5), (5, 10)):
            tree, _ = saved_states.read(states[first], exact)
            carry = TrainCarry(**tree)
            for _, after in topologies.steps(experiment, carry, first, last):
                carry = after
            found = saved_states.named(fetch(carry.state))
            expected = saved_states.read_arrays(states[last])
            for name, value in found.items():
                other = expected[f"state/{name}"]
                np.testing.assert_allclose(other, value, TIGHT, TIGHT, err_msg=name)

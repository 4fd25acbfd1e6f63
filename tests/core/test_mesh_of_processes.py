"""A mesh over two processes whose devices alternate in it, as they do on a TPU."""

import numpy as np

from gan_jax.core.saved_states import read_arrays
from tests.helpers.processes import started

PROCESS = """
import sys
from pathlib import Path
import jax
import numpy as np
from tests.helpers.processes import join
process, folder = join(), Path(sys.argv[1])
from gan_jax.core.checkpoint import Checkpoints
from gan_jax.core.mesh import Mesh, fetch, gather
from gan_jax.errors import UserError

# 0, 1, 1, 0, 0, 1, 1, 0 by process
by_process = [iter([d for d in jax.devices() if d.process_index == p]) for p in (0, 1)]
order = [next(by_process[p]) for p in (0, 1, 1, 0, 0, 1, 1, 0)]
mesh = Mesh(data=2, fsdp=4, least_mb=0, available=order)
assert [d.process_index for d in mesh.mesh.devices.flat] == [0, 1, 1, 0, 0, 1, 1, 0]

own = mesh.own_rows(16)
assert own.tolist() == [[0, 1, 6, 7, 8, 9, 14, 15], [2, 3, 4, 5, 10, 11, 12, 13]][process]
images = np.random.default_rng(0).standard_normal((16, 3)).astype(np.float32)
batch = mesh.put({"image": images[own], "label": np.arange(16)[own]})
np.testing.assert_array_equal(gather(batch["image"]), images)
np.testing.assert_array_equal(gather(batch["label"]), np.arange(16))
several = mesh.put_several([{"image": images[own]}, {"image": images[own] + 1}])["image"]
np.testing.assert_array_equal(gather(several), [images, images + 1])
one = batch["image"].sharding.addressable_devices_indices_map(images.shape)
two = several.sharding.addressable_devices_indices_map(several.shape)
assert {device: rows[1] for device, rows in two.items()} == {d: r[0] for d, r in one.items()}

half = Mesh(4, available=order)  # fewer devices than there are: two of each process
assert half.size == 4 and len(half.split.addressable_devices) == 2
np.testing.assert_array_equal(gather(half.put(images[half.own_rows(16)])), images)
try:
    Mesh(3, available=order)
except UserError as error:
    assert "each of 2 processes" in str(error)

state = {"kernel": np.arange(64.0, dtype=np.float32).reshape(4, 16), "step": np.int32(3)}
laid = mesh.lay(state)
assert not laid["kernel"].is_fully_addressable
np.testing.assert_array_equal(fetch(laid)["kernel"], state["kernel"])
mean = jax.jit(lambda x: x.mean(0), out_shardings=mesh.replicated)(batch["image"])
np.testing.assert_allclose(fetch(mean), images.mean(0), rtol=1e-5, atol=1e-6)
assert fetch(mesh.copy(jax.random.key_data(jax.random.key(1)))).tolist() == [0, 1]

states = Checkpoints(folder)
states.save(3, laid, {"n": 1})
states.wait()
step, back, meta = states.restore_newest(half.shape(state))
assert (step, meta) == (3, {"n": 1})
np.testing.assert_array_equal(fetch(back)["kernel"], state["kernel"])
back = states.restore_newest(mesh.shape(state))[1]
assert back["kernel"].sharding == laid["kernel"].sharding
np.testing.assert_array_equal(fetch(back)["kernel"], state["kernel"])
states.close()
print("done")
"""


def test_rows_and_states_of_processes_whose_devices_alternate(tmp_path):
    with started([[PROCESS, tmp_path / "states"]] * 2, "tests.helpers.processes:run") as group:
        ended = group.wait()
    assert [process.status for process in ended] == [0, 0], [process.err for process in ended]
    assert ended[0].out.splitlines()[-1] == "done"  # the other one prints nothing
    # one file holds all of an array, whatever the devices were
    saved = read_arrays(tmp_path / "states" / "3")
    np.testing.assert_array_equal(saved["kernel"], np.arange(64.0).reshape(4, 16))

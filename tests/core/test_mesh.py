"""Batches split along the devices, everything else copied to all of them, or split as well."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from gan_jax import splitting
from gan_jax.core.mesh import Mesh, _of_each_process, fetch, gather, split_as
from gan_jax.core.system import Stage
from gan_jax.errors import UserError


def test_all_devices_or_some():
    available = len(jax.devices())
    assert Mesh().size == available
    assert Mesh(1).size == 1
    for devices in (available + 1, -1):
        with pytest.raises(UserError, match=rf"{devices}: there are {available} dev") as error:
            Mesh(devices)
        assert "\n" not in str(error.value)


def test_a_batch_that_does_not_divide_is_named_with_one_that_does():
    mesh = Mesh()
    mesh.size = 8  # as on a machine with eight devices
    mesh.check((Stage(4, 16, 0, 1), Stage(8, 8, 1, 1)))
    with pytest.raises(UserError, match=r"batch_size 20 does not divide by 8 devices.* 16"):
        mesh.check((Stage(4, 16, 0, 1), Stage(8, 20, 1, 1)), "batch_size")
    with pytest.raises(UserError, match=r"3 does not divide by 8 devices.* 8"):
        mesh.check((Stage(4, 3, 0, 1),))


def test_put_splits_copy_replicates_gather_and_fetch_bring_back():
    mesh = Mesh()
    rows = 2 * mesh.size
    batch = {
        "image": np.arange(rows * 4, dtype=np.uint8).reshape(rows, 2, 2, 1),
        "label": np.arange(rows, dtype=np.int32),
    }
    split = mesh.put(batch)
    for name, array in split.items():
        assert array.shape == batch[name].shape
        assert array.dtype == batch[name].dtype
        assert {s.data.shape[0] for s in array.addressable_shards} == {2}
        np.testing.assert_array_equal(gather(array), batch[name])
    copied = mesh.copy(batch)
    for name, array in copied.items():
        assert len(array.addressable_shards) == mesh.size
        assert {s.data.shape for s in array.addressable_shards} == {batch[name].shape}
    fetched = fetch(copied)
    for name, array in fetched.items():
        assert isinstance(array, np.ndarray)
        np.testing.assert_array_equal(array, batch[name])


def test_a_mean_over_a_split_batch_is_over_the_whole_batch():
    mesh = Mesh()
    x = np.random.default_rng(0).standard_normal((4 * mesh.size, 3)).astype(np.float32)
    mean = jax.jit(lambda x: x.mean(0), out_shardings=mesh.replicated)(mesh.put(x))
    np.testing.assert_allclose(fetch(mean), x.mean(0), rtol=1e-5, atol=1e-6)


def test_shapes_carry_the_sharding_that_a_restore_needs():
    mesh = Mesh()
    shape = mesh.shape({"a": np.zeros((3, 2), np.float32)})["a"]
    assert (shape.shape, shape.dtype) == ((3, 2), np.float32)
    assert shape.sharding == mesh.replicated


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_what_is_drawn_for_a_batch_is_made_where_its_images_lie(dtype):
    """The loss of fakes alone, as a generator has it: each device computes its share of it."""
    width, rows = 64, 8 * len(jax.devices())

    def fakes(images, weights, key, tied):
        z = jax.random.normal(key, (rows, width))
        z = split_as(images, z) if tied else z
        return jnp.mean(jnp.tanh(z @ weights) @ weights)

    work, values = {}, {}
    for devices, tied in ((1, True), (8, True), (8, False)):
        mesh = Mesh(devices)
        images = mesh.put(np.ones((rows, 4, 4, 3), dtype))
        weights, key = mesh.copy((np.eye(width, dtype=np.float32), jax.random.key(0)))
        jitted = jax.jit(fakes, static_argnums=3, out_shardings=mesh.replicated)
        program = jitted.lower(images, weights, key, tied).compile()
        work[devices, tied] = program.cost_analysis()["flops"]
        values[devices, tied] = program(images, weights, key)
    whole = work[1, True]
    assert work[8, True] < 1.1 * whole / 8
    assert work[8, False] > 0.9 * whole
    for value in values.values():
        np.testing.assert_allclose(value, values[1, True], rtol=1e-5)


def test_a_mesh_has_as_many_devices_as_it_was_asked_for():
    shapes = {
        (): (8, 1), (4,): (4, 1), (0, 2): (2, 1), (0, 2, 4): (2, 4), (0, 0, 8): (1, 8),
        (4, 0, 2): (2, 2), (6, 3, 2): (3, 2),
    }  # fmt: skip
    for arguments, shape in shapes.items():
        mesh = Mesh(*arguments)
        assert mesh.mesh.devices.shape == shape
        assert mesh.size == shape[0] * shape[1]
        assert mesh.splits_state == (shape[1] > 1)
    for arguments in ((0, 0, 3), (4, 4, 2), (0, 4, 4), (0, 9)):
        with pytest.raises(
            UserError, match=r"config.mesh.fsdp=\d: \d devices do not make"
        ) as error:
            Mesh(*arguments)
        assert "\n" not in str(error.value)


def test_each_process_gives_as_many_devices_as_another_in_the_order_of_the_machine():
    def device(number, process):
        return SimpleNamespace(id=number, process_index=process)

    # the order of a TPU v4-32, by process
    machine = [device(n, p) for n, p in enumerate((0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3))]
    assert [d.id for d in _of_each_process(machine, 8)] == [0, 1, 2, 3, 4, 5, 6, 7]
    machine = [device(n, p) for n, p in enumerate((0, 0, 1, 1, 1, 1, 0, 0))]
    assert [d.id for d in _of_each_process(machine, 4)] == [0, 1, 2, 3]
    assert [d.id for d in _of_each_process(machine, 8)] == [*range(8)]
    with pytest.raises(
        UserError, match=r"run\.devices=3: each of 2 processes takes the same number"
    ):
        _of_each_process(machine, 3)


def test_the_largest_axis_of_a_large_array_is_split():
    mesh = Mesh(data=2, fsdp=4, least_mb=0.001)
    shapes = {
        (16, 64): P(None, "fsdp"), (64, 16): P("fsdp"), (32, 32): P(None, "fsdp"),
        (3, 3, 40, 30): P(None, None, "fsdp"), (9, 30): P(), (262,): P(), (264,): P("fsdp"),
        (63, 8): P(None, "fsdp"), (63, 7): P(), (): P(),
    }  # fmt: skip
    for shape, spec in shapes.items():
        assert mesh.place(np.zeros(shape, np.float32)).spec == spec, shape
    assert mesh.place(np.zeros((16, 8), np.float32)) == mesh.replicated  # 512 bytes
    everything = Mesh(least_mb=0)
    assert everything.place(np.zeros((64, 64), np.float32)) == everything.replicated
    state = {"a": np.arange(1024, dtype=np.float32).reshape(16, 64), "b": np.ones(3)}
    laid = mesh.lay(state)
    assert laid["a"].addressable_shards[0].data.shape == (16, 16)
    assert mesh.shape(state)["a"].sharding == laid["a"].sharding
    np.testing.assert_array_equal(fetch(laid)["a"], state["a"])


def test_placed_and_whole_are_about_the_mesh_of_the_block():
    mesh, x = Mesh(data=2, fsdp=4, least_mb=0), np.ones((8, 4), np.float32)

    def both(x):
        return splitting.placed(x), splitting.whole(x)

    assert all(same is x for same in both(x))
    with Mesh(least_mb=0).splitting():
        assert all(same is x for same in both(x))
    with mesh.splitting():
        split, copied = jax.jit(both)(mesh.copy(x))
    assert split.sharding.spec == P("fsdp")
    assert copied.sharding.spec == P()
    assert all(same is x for same in both(x))


def test_a_tie_changes_no_number():
    """Nor a derivative, one by one and several at a time."""
    rows, drawn = jnp.arange(12.0).reshape(4, 3), jnp.linspace(1, 2, 4)

    def loss(drawn):
        return jnp.sum(jnp.square(split_as(rows, drawn)))

    np.testing.assert_allclose(jax.jit(jax.grad(loss))(drawn), 2 * drawn)
    np.testing.assert_allclose(loss(drawn), jnp.sum(drawn**2), rtol=1e-6)
    found = jax.vmap(loss)(jnp.stack([drawn, 2 * drawn]))
    np.testing.assert_allclose(found[1], 4 * loss(drawn), rtol=1e-6)

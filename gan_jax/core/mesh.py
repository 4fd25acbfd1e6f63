"""Where arrays live: on one mesh of devices. Batches are split along it, the rest is copied or, if
the config asks for it, large arrays of the state are split as well (FSDP).

Code inside jit sees global arrays, so means, batch statistics and minibatch statistics are over
the whole batch, whatever the number of devices.
"""

import functools
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from gan_jax import splitting
from gan_jax.core.alike import split_alike
from gan_jax.core.system import Array, PyTree, Stage
from gan_jax.errors import UserError

DATA, FSDP = "data", "fsdp"


class Mesh:
    """Two axes, "data" and "fsdp". A batch is split over both, the state over "fsdp" alone.

    Attributes:
      size: the number of devices.
      splits_state: whether large arrays of the state are split over "fsdp".
      replicated: the sharding of what every device holds whole.
      split: the sharding of a batch, [B, …].
      split_several: the sharding of several batches, [K, B, …], each split like one.
    """

    def __init__(
        self,
        devices: int = 0,
        data: int = 0,
        fsdp: int = 1,
        least_mb: float = 1.0,
        available: Sequence[jax.Device] | None = None,
    ):
        """
        Args:
          devices: how many are used, the same number of each process; 0: all.
          data: how many parts of the batch are computed on devices with the same part of the state;
            0: as many as there are devices for.
          fsdp: into how many parts the state is split; 1: every device holds all of it.
          least_mb: arrays of the state with fewer megabytes (2^20 bytes) are held whole.
          available: the devices to choose from, in this order; None: all.

        Raises UserError if there are not as many devices, or they do not make a mesh.
        """
        available = jax.devices() if available is None else list(available)
        wanted = devices_wanted(devices, data, fsdp, len(available))
        chosen = _of_each_process(available, wanted)
        # jax.make_mesh defaults to Explicit axes, which reject ordinary GAN code
        made = jax.make_mesh(
            (wanted // fsdp, fsdp), (DATA, FSDP), (AxisType.Auto,) * 2, devices=chosen
        )
        self._lay_out(made, fsdp, least_mb)

    def _lay_out(self, mesh: jax.sharding.Mesh | AbstractMesh, fsdp: int, least_mb: float) -> None:
        """Sets all attributes for jax's mesh, whose axes are DATA and FSDP."""
        self.mesh, self.size, self.splits_state = mesh, mesh.size, fsdp > 1
        self._fsdp, self._least = fsdp, least_mb * 2**20
        self.replicated = NamedSharding(mesh, PartitionSpec())
        self.split = NamedSharding(mesh, PartitionSpec((DATA, FSDP)))
        self.split_several = NamedSharding(mesh, PartitionSpec(None, (DATA, FSDP)))

    def check(self, stages: tuple[Stage, ...], key: str = "batch size") -> None:
        """Raises UserError if a stage's batch size is not a multiple of the number of devices.

        `key` is what the message calls the batch size.
        """
        for stage in stages:
            if stage.batch_size % self.size:
                near = max(stage.batch_size // self.size, 1) * self.size
                raise UserError(
                    f"{key} {stage.batch_size} does not divide by {self.size} devices; "
                    f"use a multiple such as {near}, or set config.run.devices"
                )

    def own_rows(self, count: int) -> np.ndarray:
        """The rows of a global batch of `count` that this process delivers, in ascending order:
        int64 [b].

        Devices of a process need not lie beside each other in a mesh: on a TPU they are ordered by
        their place in the machine. So the rows of a process need not either.
        """
        return _own_rows(self.split, count)

    def put(self, batch: PyTree) -> PyTree:
        """This process's rows of a batch, numpy [b, …] in the order of `own_rows`, as global arrays
        [B, …] split along the mesh."""
        return self._put(jax.tree.map(np.asarray, batch), self.split, 0)

    def put_several(self, batches: Sequence[PyTree]) -> PyTree:
        """K batches, each as for `put`, as global arrays [K, B, …]; every row lies on the device to
        which `put` takes it."""
        return self._put(jax.tree.map(lambda *x: np.stack(x), *batches), self.split_several, 1)

    def _put(self, batch: PyTree, place: NamedSharding, axis: int) -> PyTree:
        """Arrays whose axis number `axis` has this process's rows, as global arrays."""
        if jax.process_count() == 1:
            return jax.device_put(batch, place)

        def spread(x: np.ndarray) -> jax.Array:
            count = x.shape[axis] * self.size // len(place.addressable_devices)
            own = self.own_rows(count)

            def part(index: tuple[slice, ...]) -> np.ndarray:
                rows = range(*index[axis].indices(count))
                first = np.searchsorted(own, rows[0])
                return x[(slice(None),) * axis + (slice(first, first + len(rows)),)]

            shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
            return jax.make_array_from_callback(shape, place, part)

        return jax.tree.map(spread, batch)

    def rows(self, count: int, shape: tuple[int, ...], dtype) -> jax.ShapeDtypeStruct:
        """The shape of an array that `put` makes: `count` rows of `shape`, over all devices."""
        return jax.ShapeDtypeStruct((count, *shape), dtype, sharding=self.split)

    def rows_of_several(self, rows: jax.ShapeDtypeStruct, batches: int) -> jax.ShapeDtypeStruct:
        """The shape of an array that `put_several` makes of so many batches; `rows` is that of one,
        as `rows` gives it."""
        shape = (batches, *rows.shape)
        return jax.ShapeDtypeStruct(shape, rows.dtype, sharding=self.split_several)

    def copy(self, tree: PyTree) -> PyTree:
        """The arrays of a tree, copied to every device."""
        return self._laid(tree, jax.tree.map(lambda x: self.replicated, tree))

    def lay(self, tree: PyTree) -> PyTree:
        """The arrays of a state, which every process holds whole, each where `place` says."""
        return self._laid(tree, self.places(tree))

    def _laid(self, tree: PyTree, places: PyTree) -> PyTree:
        if jax.process_count() == 1:
            return jax.device_put(tree, places)
        return jax.tree.map(_spread, tree, places)  # device_put only reaches this process's devices

    def place(self, x: Array | jax.ShapeDtypeStruct) -> NamedSharding:
        """The sharding of an array of the state.

        Its largest axis that divides is split over "fsdp", the last one of several. Arrays that are
        small, or have no such axis, are replicated.
        """
        if not self.splits_state or math.prod(x.shape) * x.dtype.itemsize < self._least:
            return self.replicated
        for axis in sorted(range(len(x.shape)), key=lambda axis: (-x.shape[axis], -axis)):
            if x.shape[axis] % self._fsdp == 0:
                return NamedSharding(self.mesh, PartitionSpec(*(None,) * axis, FSDP))
        return self.replicated

    def places(self, tree: PyTree) -> PyTree:
        """The sharding of each array of a state."""
        return jax.tree.map(self.place, tree)

    def shape(self, tree: PyTree) -> PyTree:
        """The shapes of a state with the shardings of `place`, as a restore needs them."""
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.place(x)), tree
        )

    def placed(self, tree: PyTree) -> PyTree:
        """Inside jit, the arrays of a state, each where `place` says."""
        return jax.lax.with_sharding_constraint(tree, self.places(tree))

    def whole(self, tree: PyTree) -> PyTree:
        """Inside jit, the arrays of a state on every device."""
        return jax.lax.with_sharding_constraint(tree, self.replicated)

    def splitting(self) -> AbstractContextManager[None]:
        """The block in which `gan_jax.splitting` is about this mesh, if it splits the state at all.

        A jitted function opens it around a step, so that it is there while the step is traced.
        """
        return splitting.over(self if self.splits_state else None)


@functools.lru_cache(maxsize=32)  # of batch sizes: it is asked for with every batch
def _own_rows(split: NamedSharding, count: int) -> np.ndarray:
    """See `Mesh.own_rows`."""
    parts = split.addressable_devices_indices_map((count,)).values()
    found = np.unique(np.concatenate([np.arange(count)[rows] for (rows,) in parts]))
    found.flags.writeable = False  # all callers share it
    return found


def devices_wanted(devices: int, data: int, fsdp: int, available: int) -> int:
    """The number of devices of a mesh, of which there are `available`; the rest as for `Mesh`.

    Raises UserError if the arguments do not fit each other.
    """
    if not 0 <= devices <= available:
        raise UserError(
            f"config.run.devices={devices}: there are {available} devices; use 0 for all of them"
        )
    wanted = devices or (data * fsdp or available)
    if wanted % fsdp or (data and data * fsdp != wanted) or wanted > available:
        asked = f"config.mesh.data={data}, " if data else ""
        raise UserError(
            f"{asked}config.mesh.fsdp={fsdp}: {devices or available} devices do not make such a "
            "mesh; data times fsdp is the number of devices, and data=0 takes what there is"
        )
    return wanted


def _of_each_process(available: Sequence[jax.Device], wanted: int) -> list[jax.Device]:
    """The first devices of each process, as many of one as of another, in the order they have.

    Raises UserError if the processes cannot have the same number.
    """
    processes = {device.process_index for device in available}
    if wanted % len(processes):
        raise UserError(
            f"config.run.devices={wanted}: each of {len(processes)} processes takes the same "
            "number of devices; use a multiple"
        )
    left = dict.fromkeys(processes, wanted // len(processes))
    chosen = []
    for device in available:
        if left[device.process_index]:
            left[device.process_index] -= 1
            chosen.append(device)
    return chosen


def _spread(x: Array, place: NamedSharding) -> jax.Array:
    """An array or key that every process holds whole, as one global array."""
    if isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_spread(jax.random.key_data(x), place))
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        return jax.device_put(x, place)
    values = np.asarray(x)
    return jax.make_array_from_callback(values.shape, place, lambda index: values[index])


def split_as(rows: Array, drawn: PyTree) -> PyTree:
    """The same arrays [B, …], each split over the devices as `rows` [B, …] of the batch are.

    What a step draws for each example goes through here. Nothing else tells XLA that it belongs to
    the batch, and every device would make the whole of it, and all that is computed from it. No
    mesh is named, so that one trace of a step serves any number of devices.
    """
    row = rows[(slice(None), *(0,) * (rows.ndim - 1))]

    def tied(x: Array) -> Array:
        return split_alike(x, jax.lax.broadcast_in_dim(row, x.shape, (0,)).astype(x.dtype))

    return jax.tree.map(tied, drawn)


def fetch(tree: PyTree) -> PyTree:
    """Arrays as numpy arrays on this host. All processes of a cluster take part, as in `gather`."""
    if jax.process_count() == 1:
        return jax.tree.map(np.asarray, jax.device_get(tree))
    return jax.tree.map(gather, tree)


def is_here(array: Array) -> bool:
    """Whether this host holds the whole of an array."""
    return (
        not isinstance(array, jax.Array) or array.is_fully_replicated or array.is_fully_addressable
    )


def gather(array: Array) -> np.ndarray:
    """An array as a whole, on every host; if it is split, all processes have to ask for it."""
    if jax.process_count() == 1 or is_here(array):
        return np.asarray(jax.device_get(array))
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))

"""Where arrays live: on one mesh of all devices. Batches are split along it, the rest is copied.

Code inside jit sees global arrays, so means, batch statistics and minibatch statistics are over
the whole batch, whatever the number of devices.
"""

from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental.shard_alike import shard_alike
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gan_jax.core.system import Array, PyTree, Stage
from gan_jax.errors import UserError

DATA = "data"


class Mesh:
    """One axis, "data". `replicated` and `split` are the two shardings there are."""

    def __init__(self, devices: int = 0, available: Sequence[jax.Device] | None = None):
        available = jax.devices() if available is None else list(available)
        if not 0 <= devices <= len(available):
            raise UserError(
                f"config.run.devices={devices}: this process sees {len(available)} devices; use 0 "
                "for all of them"
            )
        chosen = available[: devices or len(available)]
        # jax.make_mesh defaults to Explicit axes, which reject ordinary GAN code
        self.mesh = jax.make_mesh(
            (len(chosen),), (DATA,), axis_types=(AxisType.Auto,), devices=chosen
        )
        self.size = len(chosen)
        self.replicated = NamedSharding(self.mesh, PartitionSpec())
        self.split = NamedSharding(self.mesh, PartitionSpec(DATA))

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

    def put(self, batch: PyTree) -> PyTree:
        """This process's share of a batch, numpy [b, …], as global arrays split along the
        mesh."""
        return jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(self.split, np.asarray(x)), batch
        )

    def rows(self, count: int, shape: tuple[int, ...], dtype) -> jax.ShapeDtypeStruct:
        """The shape of an array that `put` makes: `count` rows of `shape`, over all devices."""
        return jax.ShapeDtypeStruct((count, *shape), dtype, sharding=self.split)

    def copy(self, tree: PyTree) -> PyTree:
        """The arrays of a tree, copied to every device."""
        if jax.process_count() == 1:
            return jax.device_put(tree, self.replicated)
        return jax.tree.map(self._whole, tree)  # device_put only reaches this process's devices

    def _whole(self, x) -> jax.Array:
        """An array or key that every process holds, as one global array."""
        if isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(self._whole(jax.random.key_data(x)))
        return jax.make_array_from_process_local_data(self.replicated, np.asarray(x))

    def shape(self, tree: PyTree) -> PyTree:
        """The shapes of `tree` with the replicated sharding, as a restore needs them."""
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.replicated), tree
        )


def split_as(rows: Array, drawn: PyTree) -> PyTree:
    """The same arrays [B, …], each split over the devices as `rows` [B, …] of the batch are.

    What a step draws for each example goes through here. Nothing else tells XLA that it belongs to
    the batch, and every device would make the whole of it, and all that is computed from it. No
    mesh is named, so that one trace of a step serves any number of devices.
    """
    row = rows[(slice(None), *(0,) * (rows.ndim - 1))]

    def tied(x: Array) -> Array:
        return shard_alike(x, jax.lax.broadcast_in_dim(row, x.shape, (0,)).astype(x.dtype))[0]

    return jax.tree.map(tied, drawn)


def fetch(tree: PyTree) -> PyTree:
    """Replicated or single-process arrays as numpy arrays on this host."""
    return jax.tree.map(np.asarray, jax.device_get(tree))


def gather(array: jax.Array) -> np.ndarray:
    """A split array as a whole, on every host."""
    if jax.process_count() == 1:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))

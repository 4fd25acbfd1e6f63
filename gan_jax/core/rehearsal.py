"""The first call of several steps, compared bit for bit with as many single ones.

A compiler may join operations otherwise in a program of several steps, and what is joined is
rounded otherwise. No rule says where that happens, so it is tried, on the steps that a run makes.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np

from gan_jax.core import cluster
from gan_jax.core.mesh import Mesh, fetch
from gan_jax.core.system import Batch, PyTree, Stage
from gan_jax.core.train_step import TrainCarry

Call = Callable[..., tuple[TrainCarry, dict]]


class Rehearsal:
    """Makes calls in both ways; `single` and `several` are as in `core.train_step`."""

    def __init__(self, mesh: Mesh, single: Call, several: Call):
        self._mesh, self._single, self._several = mesh, single, several

    def __call__(
        self, carry: TrainCarry, batches: Sequence[Batch], key: jax.Array, stage: Stage
    ) -> tuple[TrainCarry, dict, bool]:
        """(carry, metrics [K], whether `several` may be used) after a step for each batch.

        It may not if single steps, made twice, give the same bits and `several` gives others. What
        single steps give is the result. The copies of the state that this takes are on the host.
        """
        before = fetch(carry)
        expected = self._one_by_one(carry, batches, key, stage)
        carry, metrics = self._several(
            self._laid(before), self._mesh.put_several(batches), key, stage
        )
        found = fetch((carry, metrics))
        same = functools.partial(_same, found, expected)
        if cluster.decided("whether a call gives the same bits", same):  # all go the same way
            return carry, metrics, True
        del carry, metrics, found, same  # else the devices would hold two states in what follows
        again = self._one_by_one(self._laid(before), batches, key, stage)
        return self._laid(expected[0]), expected[1], not _same(again, expected)

    def _one_by_one(
        self, carry: TrainCarry, batches: Sequence[Batch], key: jax.Array, stage: Stage
    ) -> tuple[TrainCarry, dict[str, np.ndarray]]:
        """The carry and the metrics [K] of single steps, on this host."""
        found = []
        for batch in batches:
            carry, metrics = self._single(carry, self._mesh.put(batch), key, stage)
            found.append(metrics)
        metrics = jax.tree.map(lambda *values: np.stack(values), *fetch(found))
        return fetch(carry), metrics

    def _laid(self, carry: TrainCarry) -> TrainCarry:
        """A carry of this host, on the devices."""
        return TrainCarry(**self._mesh.lay(carry._asdict()))


def _same(one: PyTree, other: PyTree) -> bool:
    """Whether all arrays of two trees of one structure have the same bits."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(x.dtype == y.dtype and x.tobytes() == y.tobytes() for x, y in pairs)

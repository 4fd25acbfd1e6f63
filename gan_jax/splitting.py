"""How a step that is being traced says where the arrays of a state lie.

Networks and optimizers call `whole` and `placed` on their arrays. Both do nothing, unless the step
is traced for a mesh that splits the state over its devices (`config.mesh.fsdp`).
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Protocol

PyTree = Any


class Mesh(Protocol):
    """What is asked of a mesh that splits the state; see `core.mesh.Mesh`."""

    def placed(self, tree: PyTree) -> PyTree: ...

    def whole(self, tree: PyTree) -> PyTree: ...


_mesh: ContextVar[Mesh | None] = ContextVar("mesh", default=None)


def mesh() -> Mesh | None:
    """The mesh for which a step is traced; None if it does not split the state."""
    return _mesh.get()


@contextlib.contextmanager
def over(mesh: Mesh | None) -> Iterator[None]:
    """In this block `placed` and `whole` are about `mesh`."""
    before = _mesh.set(mesh)
    try:
        yield
    finally:
        _mesh.reset(before)


def placed(tree: PyTree) -> PyTree:
    """The same arrays of a state, or gradients of them, each where the mesh has it.

    A step that leaves it to XLA where its gradients lie makes XLA split the activations likewise,
    and move them between the devices.
    """
    chosen = mesh()
    return tree if chosen is None else chosen.placed(tree)


def whole(tree: PyTree) -> PyTree:
    """The same arrays, on every device: a network is computed with all of its weights, and the
    batch stays where it is."""
    chosen = mesh()
    return tree if chosen is None else chosen.whole(tree)

"""Functions that Python runs through once, whatever devices their arrays lie on.

jax traces a jitted function again for each mesh, and `jax.eval_shape` traces it once more. A run
needs its steps several times when it starts: for the names of what they return, and for each
program. Tracing takes about a third of the time that compiling takes.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.extend

from gan_jax import backend, splitting
from gan_jax.core import ema
from gan_jax.core.system import System


def functions_once(system: System) -> System:
    """The same system, with its functions of arrays traced once for arrays of the same shapes."""
    sample = system.sample_step
    return system._replace(
        init=once(system.init),
        train_step=once(system.train_step),
        eval_step=once(system.eval_step),
        sample_step=sample and once(sample),
    )


def once(function: Callable) -> Callable:
    """The same function of arrays and, as its last argument, a stage.

    Only a mesh that splits the state has a trace of its own, since it is named in there, and each
    form of programs, and each choice of weights to sample with.
    """

    def of_mesh(*arguments: Any, **around: Any) -> Any:
        return function(*arguments)

    # what is around a call is an argument so that jax keeps the traces apart
    jitted = jax.jit(of_mesh, static_argnums=-1, static_argnames=("mesh", "form", "weights"))

    @functools.wraps(function)
    def traced(*arguments: Any) -> Any:
        *arrays, stage = arguments
        shapes = jax.tree.map(_shape, arrays)
        around = dict(mesh=splitting.mesh(), form=backend.form(), weights=ema.asked_for())
        found = jitted.trace(*shapes, stage, **around)
        values = jax.extend.core.jaxpr_as_fun(found.jaxpr)(*jax.tree.leaves(arrays))
        return jax.tree.unflatten(jax.tree.structure(found.out_info), values)

    return traced


def _shape(x: Any) -> jax.ShapeDtypeStruct:
    """The shape of an array, without the devices it lies on."""
    kind = jax.typeof(x)
    return jax.ShapeDtypeStruct(kind.shape, kind.dtype, weak_type=kind.weak_type)

"""What a run brings from the devices to this host.

JAX's own guard sees nothing of it on a CPU, where a value is read where it lies.
"""

from typing import NamedTuple

import jax
import numpy as np
from jax._src import array as jax_array
from jax._src.lib import guard_lib

from gan_jax.core.calls import Calls


class Transfer(NamedTuple):
    """One array that was read.

    Attributes:
      step: the step with which the last call ended; None: before the first one.
      said: whether it was asked for by name, as `jax.device_get` does.
    """

    step: int | None
    said: bool


def watched(patch) -> list[Transfer]:
    """The transfers from now on, in a list that grows; `patch` is a MonkeyPatch."""
    found, at = [], [None]

    def note() -> None:
        found.append(Transfer(at[0], bool(guard_lib.thread_local_state().explicit_device_get)))

    value = jax_array.ArrayImpl._value

    def read(array):
        note()
        return value.fget(array)

    patch.setattr(jax_array.ArrayImpl, "_value", property(read))
    for name in ("asarray", "array"):  # these read the memory of a CPU's array without `_value`
        patch.setattr(np, name, _noting(getattr(np, name), note))
    divided = Calls.of

    def of(self, stage, begun):
        for step, batches in divided(self, stage, begun):
            at[0] = step
            yield step, batches

    patch.setattr(Calls, "of", of)
    return found


def _noting(function, note):
    """The function of numpy, which notes where it is given an array of JAX."""

    def noted(value, *arguments, **options):
        if isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer):
            note()
        return function(value, *arguments, **options)

    return noted

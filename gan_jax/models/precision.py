"""The precision in which networks compute: `config.model.dtype`, one word for every system.

A network casts its input to that type, and its layers cast their weights to the type of their
input. Weights themselves stay in float32, and so do norms, statistics of a batch, the vectors of
spectral norm and the last layer, so that outputs, and with them all losses, are float32.
"""

import jax.numpy as jnp
from jax import Array

DTYPES = ("float32", "bfloat16", "float16")


def cast(x: Array, dtype: str) -> Array:
    """x in half precision if `dtype` asks for it; otherwise unchanged, even if it is float64."""
    return x if dtype == "float32" else x.astype(dtype)


def single(x: Array) -> Array:
    """x in float32 at least."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def like(x: Array, weight: Array) -> Array:
    """A weight for the input x: in the type of x if that is half precision, else unchanged."""
    return weight.astype(x.dtype) if x.dtype.itemsize < 4 else weight

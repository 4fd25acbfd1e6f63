"""The old names of `optim.Optimizer` and `optim.optimizers`."""

from gan_jax.core.optim import Optimizer as Player  # until the systems have moved
from gan_jax.core.optim import optimizers as make  # until the systems have moved

__all__ = ["Player", "make"]

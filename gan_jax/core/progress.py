"""The old name of `console.ProgressBar`."""

from gan_jax.core.console import ProgressBar as Progress  # until the others have moved

__all__ = ["Progress"]

"""Host-side data: sources, splits, preprocessing and batches, in numpy and Pillow on grain."""

from gan_jax.data.config import defaults
from gan_jax.data.make import class_names, make
from gan_jax.data.pipeline import Data

__all__ = ["Data", "class_names", "defaults", "make"]

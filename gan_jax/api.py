"""The names that configs, scripts and notebooks of earlier revisions import from here.

New code takes them from where they live: `gan_jax.config`, `gan_jax.training`, `gan_jax.run`.
"""

from gan_jax.config import (
    SYSTEMS,
    defaults,
    load_file,
    tiny,
    tiny_diffusion,
    tiny_growth,
    tiny_unet,
    tiny_warpgan,
    variants,
)
from gan_jax.run.caricaturist import warp
from gan_jax.run.experiment import Experiment as Setup
from gan_jax.run.model import load
from gan_jax.training import evaluate, train

__all__ = [
    "SYSTEMS",
    "Setup",
    "defaults",
    "evaluate",
    "load",
    "load_file",
    "tiny",
    "tiny_diffusion",
    "tiny_growth",
    "tiny_unet",
    "tiny_warpgan",
    "train",
    "variants",
    "warp",
]

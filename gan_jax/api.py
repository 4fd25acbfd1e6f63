"""The names that configs, scripts and notebooks of earlier revisions import from here.

New code takes them from where they live: `gan_jax.config`, `gan_jax.training`, `gan_jax.run`.
"""

from ml_collections import ConfigDict

from gan_jax import evaluating
from gan_jax.config import SYSTEMS, defaults, load_file, tiny, variants
from gan_jax.models import unet
from gan_jax.run import model as models
from gan_jax.run.caricaturist import warp
from gan_jax.run.experiment import Experiment as Setup
from gan_jax.training import train

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


def load(workdir, which: str = "newest", places=None):
    """`gan_jax.load`, whose parameters are called `state` and `data` now."""
    return models.load(workdir, which, places)


def evaluate(workdir, which: str = "newest", say=print, config=None, **more):
    """`gan_jax.evaluate`, whose parameters are called `state` and `data` now."""
    if "places" in more:
        more["data"] = more.pop("places")
    return evaluating.evaluate(workdir, which, say, config, **more)


def tiny_system(config: ConfigDict) -> ConfigDict:
    """Shrinks the sections of the config's own system, in place.

    `tiny` now does this too, but config files of earlier revisions still call this function after
    it. A second call changes nothing.
    """
    SYSTEMS[config.system].tiny(config)
    return config


tiny_diffusion = tiny_growth = tiny_warpgan = tiny_system


def tiny_unet(model: ConfigDict) -> ConfigDict:
    """Shrinks the section of a U-Net, or of its encoder, to a network for 8 px, in place."""
    model.update(unet.TINY)
    return model

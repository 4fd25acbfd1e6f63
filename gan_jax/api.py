"""The names that configs, scripts and notebooks of earlier revisions import from here.

New code takes them from where they live: `gan_jax.config`, `gan_jax.training`, `gan_jax.run`.
"""

import contextlib

from ml_collections import ConfigDict

from gan_jax import evaluating, log, training
from gan_jax.config import SYSTEMS, defaults, load_file, tiny, variants
from gan_jax.models import unet
from gan_jax.run import model as models
from gan_jax.run.caricaturist import warp
from gan_jax.run.experiment import Experiment as Setup

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


def train(config: ConfigDict, workdir, say=None):
    """`gan_jax.train`; `say`, if given, gets the lines that are printed otherwise."""
    with _told(say):
        return training.train(config, workdir)


def evaluate(workdir, which: str = "newest", say=None, config=None, **more):
    """`gan_jax.evaluate`, whose parameters are called `state` and `data` now.

    `say`, if given, gets the lines that are printed otherwise.
    """
    if "places" in more:
        more["data"] = more.pop("places")
    with _told(say):
        return evaluating.evaluate(workdir, which, config, **more)


def _told(say):
    """The context in which `say` gets the lines; None: they are printed."""
    return contextlib.nullcontext() if say is None else log.sent_to(say)


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

"""Prepares data sets and weights that others publish."""

import logging
from collections.abc import Callable
from pathlib import Path

from gan_jax.core.console import ProgressBar
from gan_jax.data.published import places, preparing
from gan_jax.data.published.sets import SETS
from gan_jax.errors import ArgumentError
from gan_jax.evaluation import networks
from gan_jax.interop import inception
from gan_jax.interop import lpips as lpips_files

logger = logging.getLogger(__name__)


def prepare(name: str, out: str | Path = "", by_hand: str = "") -> Path:
    """Makes the set `name` of `gan_jax.data.published.sets` in the folder `out`; returns its path.

    Args:
        out: "" for the folder in which configs look.
        by_hand: the published file, or a folder that holds all of them; "" to fetch them.

    Weights are read once, which puts them into the cache where the metrics find them.

    Raises UserError for a name that does not exist, and as `preparing.prepare` does.
    """
    if name not in SETS:
        known = ", ".join(SETS)
        if not name:
            raise ArgumentError("name", f" is missing: say what to prepare; accepted are {known}")
        raise ArgumentError("name", f"={name}: accepted are {known}")
    path = preparing.prepare(SETS[name], out or places.FOLDER, by_hand, ProgressBar)
    if name in READERS:
        logger.info(f"the metrics find them from now on, without a flag: {READERS[name](path)}")
    return path


def _read_inception(path: Path) -> str:
    """Reads and caches the Inception network; returns what identifies it."""
    weights = inception.load(path, "inception")
    return f"{weights.name} ({weights.fingerprint})"


def _read_lpips(folder: Path) -> str:
    """Reads both networks of LPIPS and caches VGG16, which is read last; returns its name."""
    lpips_files.read(folder / "alexnet.ckpt")
    _, name = networks.perceptual(("lpips",), str(folder / "vgg16.ckpt"), "lpips")
    return name


READERS: dict[str, Callable[[Path], str]] = {"inception": _read_inception, "lpips": _read_lpips}

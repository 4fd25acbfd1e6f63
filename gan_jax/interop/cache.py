"""Where weights that a user has named once are found again."""

import os
from collections.abc import Callable
from pathlib import Path


def folder() -> Path:
    """$GAN_JAX_CACHE, or gan_jax in the user's folder for caches. It need not exist."""
    if os.environ.get("GAN_JAX_CACHE"):
        return Path(os.environ["GAN_JAX_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gan_jax"


def keep(path: Path, write: Callable[[], None]) -> None:
    """Has `write` make the file `path`; where the disk does not allow it, nothing is lost."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write()
    except OSError:
        return

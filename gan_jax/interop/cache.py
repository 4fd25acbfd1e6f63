"""The cache of weights: what a user has named once is found again."""

import os
from collections.abc import Callable
from pathlib import Path


def folder() -> Path:
    """$GAN_JAX_CACHE, or gan_jax in the user's folder for caches. It need not exist."""
    if os.environ.get("GAN_JAX_CACHE"):
        return Path(os.environ["GAN_JAX_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gan_jax"


def keep(path: Path, write: Callable[[], None]) -> None:
    """Lets `write` make the file `path`. A disk that does not allow it is no error: the user can
    name the file again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write()
    except OSError:
        return

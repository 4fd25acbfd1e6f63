"""The cache of weights: a file that a user has named once is used again later."""

import os
from collections.abc import Callable
from pathlib import Path


def folder() -> Path:
    """$GAN_JAX_CACHE, or gan_jax in the user's folder for caches. It need not exist."""
    if os.environ.get("GAN_JAX_CACHE"):
        return Path(os.environ["GAN_JAX_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gan_jax"


def keep(path: Path, write: Callable[[], None]) -> None:
    """Calls `write`, which writes the file `path`. It is no error if the disk does not allow it:
    the user can name the file again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write()
    except OSError:
        return

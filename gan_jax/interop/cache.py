"""The cache of weights: a file that a user has named once is used again later."""

from collections.abc import Callable
from pathlib import Path

from gan_jax import caches


def place(name: str) -> Path | None:
    """The path of a file in the cache, which need not exist; None where there is no cache."""
    try:
        return caches.folder() / name
    except OSError:
        return None


def keep(path: Path, write: Callable[[], None]) -> None:
    """Calls `write`, which writes the file `path`. It is no error if the disk does not allow it:
    the user can name the file again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write()
    except OSError:
        return

"""Arrays that take long to make, kept between runs in the user's folder for caches.

Each kind has a folder of its own, with those entries that were used last. Where there is no place
to write, or an entry is damaged, they are made again.
"""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gan_jax import caches, files, npz


@dataclass(frozen=True)
class Kind:
    """One kind of arrays. A `key` is called for the name of an entry; an OSError of it means that
    there is none.

    Attributes:
      folder: the name of its folder, and of the array in an entry.
      most: how many entries are kept.
    """

    folder: str
    most: int

    def load(self, key: Callable[[], str], like: np.ndarray) -> np.ndarray | None:
        """The entry if it is there, with the shape and dtype of `like`; else None."""
        try:
            path = self._path(key())
            with npz.opened(path) as stored:
                header = stored.header(self.folder)
                if (header.shape, header.dtype) != (like.shape, like.dtype):
                    return None
                found = stored.read(self.folder)
            os.utime(path)
        except (OSError, KeyError, npz.NpzError):
            return None
        return found

    def keep(self, key: Callable[[], str], array: np.ndarray) -> None:
        """Stores an entry, if there is a place for it."""
        with contextlib.suppress(OSError):
            path = self._path(key())
            path.parent.mkdir(parents=True, exist_ok=True)
            with files.replacing(path) as unfinished, unfinished.open("wb") as file:
                np.savez(file, **{self.folder: array})
            entries = path.parent.glob("*.npz")
            newest = sorted(entries, key=lambda entry: entry.stat().st_mtime, reverse=True)
            for entry in newest[self.most :]:
                entry.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return caches.folder() / self.folder / f"{name}.npz"

"""Sections of config.data, and the data that they name."""

from collections.abc import Callable, Sequence

import numpy as np
from ml_collections import ConfigDict

from gan_jax import data
from tests.helpers.one_line import assert_refused


class Section:
    """config.data as a plain object: the defaults and what differs from them, of any type."""

    def __init__(self, **changes):
        self.__dict__ |= {**data.defaults(), **changes}


class Stage:
    """Of a stage what the data ask for."""

    def __init__(self, batch_size: int = 2, start: int = 0):
        self.batch_size, self.start = batch_size, start


def typed(**changes) -> ConfigDict:
    """config.data as a config holds it: of known keys, with values of the defaults' types."""
    section = ConfigDict(data.defaults())
    section.update(changes)
    return section


def share(process: int, count: int) -> Callable[[int], np.ndarray]:
    """The rows of one of `count` processes, which take turns with the rows of a batch."""
    return lambda batch_size: np.arange(process, batch_size, count)


def joined(shares: Sequence[np.ndarray]) -> np.ndarray:
    """A batch from the rows that each process has of it by `share`."""
    return np.stack(shares, axis=1).reshape(-1, *shares[0].shape[1:])


def make(**changes):
    """The data of `typed`."""
    return data.make(typed(**changes))


def complaint(**changes) -> str:
    """The one line with which `make` refuses its section."""
    return assert_refused(None, make, **changes)


def section(path, **changes) -> dict:
    """What names the pictures of 6 pixels in a folder or zip."""
    return {"source": "folder", "path": str(path), "resolution": 6, **changes}

"""Sections of config.data, and the data that they name."""

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


def make(**changes):
    """The data of `typed`."""
    return data.make(typed(**changes))


def complaint(**changes) -> str:
    """The one line with which `make` refuses its section."""
    return assert_refused(None, make, **changes)


def section(path, **changes) -> dict:
    """What names the pictures of 6 pixels in a folder or zip."""
    return {"source": "folder", "path": str(path), "resolution": 6, **changes}

"""Folders `photos` and `caricatures`, in upper or lower case, both with a folder for each person.

WarpGAN's pairs and the classes of a classifier of people follow from this layout by the same rule.
"""

from collections.abc import Callable, Sequence
from typing import Any

from gan_jax.errors import UserError

PHOTOS, CARICATURES = "photos", "caricatures"
BOTH = (PHOTOS, CARICATURES)
BELOW = "the folders below photos and caricatures"


def parted(path: str) -> tuple[str, str]:
    """(first folder in lower case, the folders below it) of the path of a file; "" for none."""
    folder = path.rpartition("/")[0]
    first, _, below = folder.partition("/")
    return first.lower(), below


def is_plain(paths: Sequence[str]) -> bool:
    """Whether there are both a folder `photos` and a folder `caricatures` at the top."""
    return {PHOTOS, CARICATURES} <= {parted(path)[0] for path in paths}


def class_rule(parts: list[tuple[Any, list[str]]]) -> tuple[Callable[[str], str], str]:
    """(function from the path of an image to its class, a description of where classes come from).

    The class is the first sub-folder. But if the first sub-folders of all parts together are
    exactly photos and caricatures, with folders in them, the class is the person, as with
    config.data.pairs=identities.

    Args:
        parts: (files, paths of images) of each split; every path has a folder.

    Raises UserError for an image that lies in no folder of a person although others do.
    """
    paths = [(files, path) for files, names in parts for path in names]
    tops = {parted(path)[0] for _, path in paths}
    strays = [(files, path) for files, path in paths if not parted(path)[1]]
    if tops != {PHOTOS, CARICATURES} or len(strays) == len(paths):
        return lambda path: path.partition("/")[0], "sub-folders"
    if strays:
        files, path = strays[0]
        raise UserError(
            f"{files.root}/{path}: lies in no folder of a person, and other images do; put it into "
            f"one, such as {path.partition('/')[0]}/<person>, or set config.data.labels=none"
        )
    return lambda path: parted(path)[1], BELOW

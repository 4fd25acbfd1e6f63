"""The shapes of a set's images, kept between runs, so that its headers are read once.

An entry is found by the names, lengths and times of all files: a set in which any of them has
changed is another set.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from gan_jax.data.array_cache import Kind

KIND = Kind("headers", 20)
RULES = b"2 "  # another number where a shape is read otherwise from the same file
LEAST = 10_000  # images; the headers of fewer are read in two seconds

Shapes = np.ndarray  # int32 [N, 3], rows of 0 where nothing is known


def load(source: Any) -> Shapes | None:
    """What is known of the images of a source, which may be nothing yet; None for a small set, and
    one whose files cannot be told apart from changed ones."""
    if len(source) < LEAST or not hasattr(source, "fingerprint"):
        return None
    empty = np.zeros((len(source), 3), np.int32)
    found = KIND.load(lambda: source.fingerprint, empty)
    return empty if found is None or found.min() < 0 else found


def keep(source: Any, shapes: Shapes) -> None:
    """Stores what is known of the images of a source, if there is a place for it."""
    KIND.keep(lambda: source.fingerprint, shapes)


def fingerprint(root: Path, names: list[str], single: bool) -> str:
    """What identifies the files `names` below a folder, or in an archive if `root` is a `single`
    file. Raises OSError for one that cannot be looked at."""
    digest = hashlib.sha256(RULES + os.fsencode(os.path.realpath(root)))
    places = [root] if single else [os.path.join(root, name) for name in names]
    for place in places:
        found = os.stat(place)
        digest.update(f"\n{found.st_size} {found.st_mtime_ns}".encode())
    for name in names:
        digest.update(f"\n{name}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()

"""The shapes of a set's images, kept between runs, so that its headers are read once.

An entry is found by the names, lengths and times of all files: a set in which any of them has
changed is another set. It lies in the user's folder for caches; without a place to write, headers
are read again.
"""

import contextlib
import hashlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from gan_jax import caches, files, npz

FOLDER = "headers"
ARRAY = "shapes"
LEAST = 10_000  # images; the headers of fewer are read in two seconds
MOST = 20  # sets that are kept, those used last

Shapes = np.ndarray  # int32 [N, 3], rows of 0 where nothing is known


def load(source: Any) -> Shapes | None:
    """What is known of the images of a source, which may be nothing yet; None for a small set, and
    one whose files cannot be told apart from changed ones."""
    if len(source) < LEAST or not hasattr(source, "fingerprint"):
        return None
    empty = np.zeros((len(source), 3), np.int32)
    try:
        path = _path(source)
        with npz.opened(path) as stored:
            header = stored.header(ARRAY)
            if (header.shape, header.dtype) != (empty.shape, empty.dtype):
                return empty
            found = stored.read(ARRAY)
        os.utime(path)
    except (OSError, KeyError, npz.NpzError):
        return empty
    return found if found.min() >= 0 else empty


def keep(source: Any, shapes: Shapes) -> None:
    """Stores what is known of the images of a source, if there is a place for it."""
    packed = io.BytesIO()
    np.savez(packed, **{ARRAY: shapes})
    with contextlib.suppress(OSError):
        path = _path(source)
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(path, packed.getvalue())
        _forget(path.parent)


def _path(source: Any) -> Path:
    return caches.folder() / FOLDER / f"{source.fingerprint}.npz"


def _forget(folder: Path) -> None:
    """Removes the entries beyond the newest MOST."""
    entries = sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in entries[MOST:]:
        path.unlink(missing_ok=True)


def fingerprint(root: Path, names: list[str], single: bool) -> str:
    """What identifies the files `names` below a folder, or in an archive if `root` is a `single`
    file. Raises OSError for one that cannot be looked at."""
    digest = hashlib.sha256(os.fsencode(os.path.realpath(root)))
    places = [root] if single else [os.path.join(root, name) for name in names]
    for place in places:
        found = os.stat(place)
        digest.update(f"\n{found.st_size} {found.st_mtime_ns}".encode())
    for name in names:
        digest.update(f"\n{name}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()

"""Names for weights that depend on their numbers alone, not on the file they came in."""

import hashlib
from collections.abc import Iterable

import numpy as np


def fingerprint(leaves: Iterable[tuple[str, np.ndarray]]) -> str:
    """16 hexadecimal digits: the start of SHA-256 over each leaf's label in UTF-8 and its numbers
    as little-endian float32, in the order given."""
    digest = hashlib.sha256()
    for label, array in leaves:
        digest.update(label.encode())
        digest.update(np.ascontiguousarray(array, "<f4").tobytes())
    return digest.hexdigest()[:16]

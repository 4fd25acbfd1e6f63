"""Sets of images as the metrics read them."""

import numpy as np

from gan_jax.data.image_set import ImageSet, open_set
from tests.helpers.one_line import assert_refused


def npz(path, compressed=False, **arrays) -> str:
    """Writes the arrays; returns the word that names the file."""
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return str(path)


def read(images: ImageSet, size=3) -> np.ndarray:
    """All images of a set in one array, read in batches of `size`."""
    return np.concatenate(list(images.batches(size)))


def complaint(word, key="--fake") -> str:
    """The one line that opening and reading what `word` names ends in."""
    message = assert_refused(None, lambda: [*open_set(word, key).batches(4)])
    assert key in message
    return message

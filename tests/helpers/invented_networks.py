"""Feature networks that look features up in a table, and the metrics of two sets under them."""

import numpy as np

from gan_jax.metrics.accumulate import accumulate
from gan_jax.metrics.features import Network
from gan_jax.metrics.metric import Context, MetricOptions
from gan_jax.metrics.sets import compute, spread


def coded(numbers, side=1):
    """Images whose first two pixels say which row of a table is theirs; grey noise below."""
    numbers = np.asarray(numbers)
    found = np.random.default_rng(0).integers(0, 256, (len(numbers), side + 1, side + 1, 1))
    found[:, 0, 0, 0], found[:, 0, 1, 0] = numbers // 256, numbers % 256
    return found.astype(np.uint8)


def network(name="tiny", **tables):
    """Looks features up by the number that an image carries."""
    tables = {tap: np.asarray(table, np.float32) for tap, table in tables.items()}

    def extract(images, taps):
        assert list(taps) == sorted(set(taps))
        rows = np.array([256 * int(i[0, 0, 0]) + int(i[0, 1, 0]) for i in images])
        return {tap: tables[tap][rows] for tap in taps}

    widths = {tap: table.shape[1] for tap, table in tables.items()}
    return Network(name, "0123", "none", widths, extract)


def batches(images, size=50, labels=None):
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        yield images[part], None if labels is None else labels[part]


def compare(
    names, real, fake, networks, *, settings=None, size=50, patches=0, labels=None, one_class=False
):
    """(values, notes) of two arrays of images; `labels` of both, the real ones last."""
    settings, names = settings or MetricOptions(), names.split(",")
    found = [
        accumulate(
            batches(images, size, labels and labels[is_real]),
            names,
            networks,
            settings.seed,
            bool(is_real),
            spread(len(images), patches),
            one_class=one_class,
        )
        for is_real, images in enumerate((fake, real))
    ]
    return compute(names, found[1], found[0], Context(networks, settings))

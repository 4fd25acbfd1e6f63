"""Statistics of the real images in a file: saved by one comparison, used by the next."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gan_jax.errors import ArgumentError
from gan_jax.files import writing
from gan_jax.interop import inception, statistics
from gan_jax.metrics.features import Network
from gan_jax.metrics.metric import CLASSIFIER, INCEPTION, PIXELS, Metric, Statistics
from gan_jax.metrics.registry import METRICS
from gan_jax.ops.frechet import Moments

About = Mapping[str, dict[str, Any]]
"""Networks by name, as `metrics.registry.describe` identifies them."""


def save(path: str, found: Mapping[str, Statistics], about: About, seed: int) -> int:
    """Writes the accumulated statistics of the real images; returns the number of images.

    Moments by class, patches and pairs are not written.

    Raises ArgumentError if there is nothing else to write, or the file cannot be written.
    """
    moments, rows = parts(found)
    if not moments and not rows:
        raise ArgumentError(
            "save_stats", ": these metrics have no statistics of real images that can be saved"
        )
    count = max(part.count for part in found.values())
    if jax.process_index() == 0:
        meta = {"n_real": count, "networks": about, "seed": seed}
        with writing(Path(path), "save_stats", "file"):
            statistics.write(Path(path), moments, rows, meta)
    return count


def parts(found: Mapping[str, Statistics]) -> tuple[dict, dict]:
    """(means and covariances, features), each by (network, tap), as `statistics.write` takes them.

    Moments by class, patches and pairs are not among them.
    """
    moments = {
        (network, tap): (m.mean, m.cov)
        for network, part in found.items()
        for tap, m in part.moments.items()
        if isinstance(tap, str)
    }
    rows = {(n, tap): array for n, part in found.items() for tap, array in part.features.items()}
    return moments, rows


def load(
    path: str, names: Sequence[str], networks: Mapping[str, Network], about: About
) -> tuple[dict[str, Statistics], int, list[str]]:
    """Reads statistics that `save` or another program has written.

    Returns (statistics by network; number of images, 0 if it is not known; notes). Raises
    ArgumentError if the file was made with other networks or lacks what the metrics `names` need,
    UserError if it cannot be read.
    """
    moments, rows, meta = statistics.read(path)
    notes = _check_networks(path, meta, about)
    count = int(meta.get("n_real", 0))
    return of_parts(path, names, networks, moments, rows, count), count, notes


def of_parts(
    path: str,
    names: Sequence[str],
    networks: Mapping[str, Network],
    moments: Mapping,
    rows: Mapping,
    count: int,
) -> dict[str, Statistics]:
    """The statistics by network that the metrics `names` need, from what `statistics.read` returns
    of the file `path`; they are of `count` images, 0 if that is not known.

    Raises ArgumentError if the file lacks some of it.
    """
    found = {network: Statistics() for network in (INCEPTION, CLASSIFIER, PIXELS)}
    for name in names:
        metric = METRICS[name]
        if not metric.of_real:
            continue
        part = found[metric.network]
        for tap in metric.moments:
            part.moments[tap] = Moments.of(*_moments(path, metric, tap, moments, networks), count)
        for tap in metric.features:
            if (metric.network, tap) not in rows:
                raise _lacking(path, metric)
            part.features[tap] = rows[metric.network, tap]
        if metric.network == PIXELS:
            raise _lacking(path, metric)
    return found


def _check_networks(path: str, meta: Mapping[str, Any], about: About) -> list[str]:
    """Notes on how the file was made. Raises ArgumentError if it was made with other networks."""
    notes = []
    for network, described in about.items():
        description = {k: v for k, v in described.items() if k != "logits"}
        theirs = meta.get("networks", {}).get(network)
        if not meta and network == INCEPTION:
            # files of other programs do not say, but all of them use the same network
            theirs = description | {"network": inception.GENUINE, "weights": inception.FINGERPRINT}
            notes.append(
                f"{path} does not say how it was made: taken as {inception.GENUINE}, resize "
                f"{description['resize']}"
            )
        if {k: v for k, v in (theirs or {}).items() if k != "logits"} != description:
            raise ArgumentError(
                "real",
                f"={path} was made with {in_words(theirs)}, and the generated images would be "
                f"measured with {in_words(description)}: such values are not comparable",
            )
    return notes


def _moments(
    path: str, metric: Metric, tap: str, moments: Mapping, networks: Mapping[str, Network]
) -> tuple[np.ndarray, np.ndarray]:
    """The stored mean [D] and covariance [D, D] that a metric needs."""
    place = (metric.network, tap)
    if metric.by_class or place not in moments:
        raise _lacking(path, metric)
    found, width = moments[place][0].size, networks[metric.network].widths[tap]
    if found != width:
        raise ArgumentError(
            "real",
            f"={path}: holds moments of {found} features where metric {metric.name!r} compares "
            f"{width}; save the statistics again",
        )
    return moments[place]


def _lacking(path: str, metric: Metric) -> ArgumentError:
    can_be_saved = not metric.by_class and metric.network != PIXELS
    again = ", or save their statistics again with this metric" if can_be_saved else ""
    return ArgumentError(
        "real",
        f"={path} does not hold what metric {metric.name!r} needs of the real images; name the "
        f"images{again}",
    )


def in_words(description: Mapping[str, Any] | None) -> str:
    """A network's name, fingerprint and resize, for messages."""
    if not description:
        return "no such network"
    return "{network} ({weights}), resize {resize}".format(**description)

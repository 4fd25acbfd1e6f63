"""The metrics of any two sets of images.

result = compare("photos/", "samples.npz", ("fid", "kid"))
compare("photos/", "", ("fid",), Options(save_stats="real.npz"))
"""

import functools
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gan_jax.core.console import clock
from gan_jax.core.mesh import Mesh
from gan_jax.data.image_set import ImageSet
from gan_jax.errors import ArgumentError, argument
from gan_jax.evaluation import networks, real_statistics, two_sets
from gan_jax.evaluation.options import Options
from gan_jax.evaluation.section import check_names, complaints
from gan_jax.evaluation.two_sets import Sets
from gan_jax.files import write_json, writing
from gan_jax.metrics.accumulate import accumulate
from gan_jax.metrics.features import Images, Network
from gan_jax.metrics.metric import Context, Counts, Statistics
from gan_jax.metrics.paired import PAIRED, Lpips, paired
from gan_jax.metrics.pixels import comparable, patched
from gan_jax.metrics.registry import METRICS, describe
from gan_jax.metrics.sets import compute, enough, plan, spread
from gan_jax.metrics.shapes import Shapes
from gan_jax.run.model import load

logger = logging.getLogger(__name__)

DEFAULTS = Options()
PROGRESS_SECONDS = 15.0  # between two lines of progress


def compare(
    real: str,
    fake: str,
    metrics: Sequence[str],
    options: Options = DEFAULTS,
) -> dict[str, Any]:
    """Computes metrics of two sets of images; if `fake` is "", only statistics of the first set.

    Progress and remarks on the sets are logged.

    Args:
      real, fake: anything that `data.image_set.open_set` opens; `real` may also be an npz of
        statistics.
      metrics: names in METRICS and PAIRED. Images with the same name are pairs, or, if a set has no
        names, images at the same place.
      options: what else the values depend on, and files to write.

    Returns:
      The values of the metrics under "figures", and what they were measured with; {} if `fake` is
      "". `options.out` gets the same as JSON; `table.lines` makes a table of it.

    Raises ArgumentError, or another UserError, for everything a user can get wrong.
    """
    names = tuple(metrics)
    with argument("metrics"):
        check_names(names, "metrics", (*METRICS, *PAIRED))
    options.check()
    sets = two_sets.open_sets(real, fake, names, options)
    with argument("lpips", otherwise="lpips"):
        lpips, lpips_name = networks.perceptual(names, options.lpips, "lpips")
    feature_networks = _networks(names, sets, options)
    for side, images in (("real", sets.real), ("fake", sets.fake)):
        for remark in images.remarks if images else ():
            logger.info(f"{side}: {remark}")
    about = {key: describe(network, names) for key, network in feature_networks.items()}
    comparison = _Comparison(names, sets, feature_networks, about, options, lpips)
    with argument("metrics", "real", "fake"), complaints("metrics", few="; few=True gives it"):
        n_real, values, notes = _measure(comparison)
    if not sets.fake:
        return {}
    result = {
        "figures": values,
        "n_real": n_real or None,
        "n_fake": len(sets.fake),
        "real": real,
        "fake": fake,
        **({"networks": about} if about else {}),
        **({"lpips": lpips_name} if lpips_name else {}),
        **options.recorded(),
        "dtype": "float32 features, float64 statistics",
        "notes": notes,
    }
    if options.out and jax.process_index() == 0:
        try:
            with writing(Path(options.out), "out", "file"):
                write_json(options.out, result)
        except ArgumentError:
            logger.info(json.dumps(result))  # measuring may have taken hours
            raise
    return result


def _networks(names: Sequence[str], sets: Sets, options: Options) -> dict[str, Network]:
    def classifier() -> Network:
        if not options.feature_classifier:
            raise ArgumentError(
                "feature_classifier",
                " is missing: these metrics use the features of a classifier; name the folder of "
                "its run (configs/classifier_mnist.py trains one)",
            )
        with argument("feature_classifier", otherwise="feature_classifier"):
            return networks.of_classifier(load(options.feature_classifier))

    with argument("inception", otherwise="inception"):
        return networks.feature_networks(
            names,
            Mesh(),
            options.inception,
            "inception",
            options.resize,
            classifier,
            sets.largest,
        )


@dataclass(frozen=True)
class _Comparison:
    """Two sets, and everything that is needed to compare them."""

    names: tuple[str, ...]
    sets: Sets
    networks: Mapping[str, Network]
    about: dict[str, dict[str, Any]]  # of the networks
    options: Options
    lpips: Lpips | None

    @property
    def of_sets(self) -> list[str]:
        """The chosen metrics of whole sets."""
        return [name for name in self.names if name in METRICS]

    @property
    def of_pairs(self) -> list[str]:
        """The chosen metrics of pairs; none if there is no second set."""
        return [name for name in self.names if name in PAIRED and self.sets.fake]

    @functools.cached_property
    def one_class(self) -> bool:
        """Whether MS-SSIM compares images of one class: both sets have the same classes, and of one
        of them at least two images each."""
        real, fake, _ = self.sets
        if real is None or fake is None or real.labels is None or fake.labels is None:
            return False
        return not two_sets.unlike(real, fake) and bool(comparable((real.labels, fake.labels)))


def _measure(it: _Comparison) -> tuple[int, dict[str, float], list[str]]:
    """(number of real images, 0 if it is not known; values; notes)."""
    shapes = Shapes(it.of_sets, it.networks)
    shapes.look_ahead(it.sets.real, it.sets.fake)
    if it.of_pairs:
        next(two_sets.pairs(it.sets.real, it.sets.fake))
    n_real = len(it.sets.real) if it.sets.real else 0
    values, notes = {}, []
    if it.of_sets:
        n_real, values, notes = _measure_sets(it, shapes)
    if it.of_pairs:
        values |= paired(it.of_pairs, two_sets.pairs(it.sets.real, it.sets.fake), it.lpips)
    return n_real, values, notes


def _measure_sets(it: _Comparison, shapes: Shapes) -> tuple[int, dict[str, float], list[str]]:
    """`_measure` for the metrics of whole sets; also saves statistics if that was asked for."""
    real, fake, stored = it.sets
    n_real, notes = len(real) if real else 0, []
    statistics: dict[str, Statistics] = {}
    if stored:
        statistics, n_real, notes = real_statistics.load(stored, it.of_sets, it.networks, it.about)
    context = Context(it.networks, it.options, (real or fake).class_names)
    if fake:
        labels = (real.labels if real else None, fake.labels)
        notes += plan(it.of_sets, Counts(n_real, len(fake), labels, it.one_class), context)
    else:
        enough(it.of_sets, Counts(n_real, 0), it.options)
    patches = patched(n_real, len(fake) if fake else n_real)
    if real and any(METRICS[name].of_real for name in it.of_sets):
        statistics = _accumulated(it, "real", patches, shapes)
    if it.options.save_stats:
        count = real_statistics.save(it.options.save_stats, statistics, it.about, it.options.seed)
        logger.info(f"statistics of {count:,} real images in {it.options.save_stats}")
    if not fake:
        return n_real, {}, notes
    values, more = compute(
        it.of_sets, statistics, _accumulated(it, "fake", patches, shapes), context
    )
    return n_real, values, list(dict.fromkeys([*notes, *more]))


def _accumulated(it: _Comparison, side: str, patches: int, shapes: Shapes) -> dict[str, Statistics]:
    """The statistics of one side, "real" or "fake"."""
    images, real = getattr(it.sets, side), side == "real"
    return accumulate(
        _with_classes(images, shapes.of(images, real)),
        it.of_sets,
        it.networks,
        it.options.seed,
        real,
        spread(len(images), patches),
        _progress(side, len(images)),
        one_class=it.one_class,
    )


def _with_classes(
    images: ImageSet, check: Callable[[int, Images], None]
) -> Iterator[tuple[Images, np.ndarray | None]]:
    start = 0
    for batch in images.batches(networks.CHUNK):
        check(start, batch)
        labels = None if images.labels is None else images.labels[start : start + len(batch)]
        yield batch, labels
        start += len(batch)


def _progress(title: str, total: int) -> Callable[[int], None]:
    began = last = time.time()

    def done(count: int) -> None:
        nonlocal last
        now = time.time()
        if now - last >= PROGRESS_SECONDS and count < total:
            last = now
            left = (now - began) / count * (total - count)
            rate = count / (now - began)
            logger.info(
                f"{title}: {count:,} of {total:,} images, {rate:.1f} a second, {clock(left)} left"
            )

    return done

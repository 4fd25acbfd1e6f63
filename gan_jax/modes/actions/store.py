"""Stores the images of any source in one place from which training reads them fast."""

import logging
from collections import Counter
from pathlib import Path

from gan_jax.core.console import ProgressBar
from gan_jax.data import incoming, sharding, storing, zipping
from gan_jax.data.sources import shards
from gan_jax.data.sources.decode import DEEP_BITS
from gan_jax.errors import ArgumentError, argument, one_of, within

logger = logging.getLogger(__name__)

LARGEST = 2**14  # px


def store(
    source: str | Path,
    out: str | Path,
    side: int = 0,
    fit: str = "crop",
    encoding: str = "webp",
    labels: str = "auto",
    deep_bits: int = DEEP_BITS,
) -> Counter:
    """Writes the images that `source` names as shards into the folder `out`, or into the archive
    `out` if its name ends with .zip; returns how many files got each verdict.

    Args:
        source: see `gan_jax.data.incoming`.
        side: of the stored squares, in pixels; 0: every image keeps its size.
        fit, encoding: how images of another size become squares, and how those are stored, as
            `resize` and `encoding` of `gan_jax.data.storing.Wanted`; other files stay as they are.
        labels: as config.data.labels.
        deep_bits: as config.data.deep_bits; with fewer than 16 bits deep images are stored with 8.

    Raises UserError for a set that cannot be read, and for a place that cannot be written.
    """
    with argument("fit", "encoding", "labels", "side", "deep_bits"):
        one_of("fit", fit, storing.RESIZES)
        one_of("encoding", encoding, storing.ENCODINGS)
        one_of("labels", labels, incoming.LABELS)
        within("side", side, 0, LARGEST)
        within("deep_bits", deep_bits, 9, DEEP_BITS)
    if not out:
        raise ArgumentError("out", " is missing: name a new folder for shards, or a .zip")
    wanted = storing.Wanted(side, fit, encoding, deep_bits)
    zipped = str(out).lower().endswith(zipping.ENDING)
    place = zipping if zipped else sharding
    place.check(out)  # before hours of unpacking
    with incoming.opened(str(source), labels, str(out), deep_bits) as opened:
        for line in opened.remarks:
            logger.info(line)
        verdicts = place.write(opened, out, wanted, ProgressBar)
    counts = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(verdicts.items()))
    report = zipping.report_of(Path(out)) if zipped else Path(out) / shards.REPORT
    read = "folder" if zipped else "shards"
    logger.info(f"{out}: {counts}; {report} says which")
    logger.info(f"train on it with --config.data.source={read} --config.data.path={out}")
    return verdicts

"""Stores the images of any source in one place from which training reads them fast."""

import logging
from collections import Counter
from pathlib import Path

from gan_jax.core.console import ProgressBar
from gan_jax.data import incoming, sharding, storing, zipping
from gan_jax.data.sources import shards
from gan_jax.errors import ArgumentError, one_of, within

logger = logging.getLogger(__name__)

LARGEST = 2**14  # px


def store(
    source: str | Path,
    out: str | Path,
    size: int = 0,
    resize: str = "crop",
    encoding: str = "webp",
    labels: str = "auto",
) -> Counter:
    """Writes the images that `source` names as shards into the folder `out`, or into the archive
    `out` if its name ends with .zip; returns how many files got each verdict.

    Args:
        source: see `gan_jax.data.incoming`.
        size: side of the stored squares in pixels; 0: every image keeps its size.
        resize, encoding: how images of another size become squares, and how those are stored, see
            `gan_jax.data.storing.Wanted`. All other files are stored byte by byte.
        labels: as config.data.labels.

    Raises UserError for a set that cannot be read, and for a place that cannot be written.
    """
    one_of("resize", resize, storing.RESIZES)
    one_of("encoding", encoding, storing.ENCODINGS)
    one_of("labels", labels, incoming.LABELS)
    within("size", size, 0, LARGEST)
    if not out:
        raise ArgumentError("out", " is missing: name a new folder for shards, or a .zip")
    wanted = storing.Wanted(size, resize, encoding)
    zipped = str(out).lower().endswith(zipping.ENDING)
    with incoming.opened(str(source), labels, str(out)) as opened:
        for line in opened.remarks:
            logger.info(line)
        write = zipping.write if zipped else sharding.write
        verdicts = write(opened, out, wanted, ProgressBar)
    counts = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(verdicts.items()))
    report = zipping.report_of(Path(out)) if zipped else Path(out) / shards.REPORT
    read = "folder" if zipped else "shards"
    logger.info(f"{out}: {counts}; {report} says which")
    logger.info(f"train on it with --config.data.source={read} --config.data.path={out}")
    return verdicts

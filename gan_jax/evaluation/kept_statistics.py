"""The Inception statistics of a run's real images, kept in its folder.

A resume and an evaluation then need not pass the images through the network again, which takes
longer than anything else that a measurement does. The images themselves are still read: their bytes
say whether they are those that were measured.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gan_jax.core import cluster, shared_folder
from gan_jax.errors import UserError
from gan_jax.evaluation import real_statistics
from gan_jax.growing import tolerated
from gan_jax.interop import statistics
from gan_jax.metrics.features import Network
from gan_jax.metrics.metric import INCEPTION, Statistics
from gan_jax.metrics.registry import METRICS

logger = logging.getLogger(__name__)

LARGEST = 2**28  # bytes of a file
Batch = tuple[np.ndarray, np.ndarray | None]  # images uint8 [n, H, W, C] and their classes


class Kept:
    """The statistics of one set of real images in a folder, a file for each resolution.

    Args:
      folder: the run's.
      names: the metrics that are measured.
      networks: the feature networks; about: what identifies them, as `registry.describe` says.
      count: the number of real images.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        networks: Mapping[str, Network],
        about: Mapping[str, Any],
        count: int,
    ):
        self.names = [name for name in names if METRICS[name].network == INCEPTION]
        self.others = [name for name in names if name not in self.names]
        self._folder, self._networks, self._count = folder, networks, count
        self._about = {INCEPTION: about[INCEPTION]} if self.names else {}

    @property
    def useful(self) -> bool:
        """Whether there is something to keep: moments of classes are not, nor what takes up too
        much space."""
        metrics = [METRICS[name] for name in self.names if METRICS[name].of_real]
        widths = self._networks[INCEPTION].widths if metrics else {}
        moments = {tap for metric in metrics for tap in metric.moments}
        rows = {tap for metric in metrics for tap in metric.features}
        size = sum(8 * widths[tap] ** 2 for tap in moments)
        size += sum(4 * widths[tap] * self._count for tap in rows)
        return 0 < size <= LARGEST and not any(metric.by_class for metric in metrics)

    def path(self, side: int) -> Path:
        """The file for images of a side in pixels."""
        return self._folder / f"real_statistics_{side}px.npz"

    def mark(self, side: int) -> str:
        """The digest of the images whose statistics are kept; "" if none are, or not all that is
        needed, or those of other networks. All processes get the answer of the first one."""
        return cluster.decided("the kept statistics of real images", lambda: self._mark(side))

    def _mark(self, side: int) -> str:
        try:
            moments, rows, meta = statistics.read(self.path(side))
            self._of(self.path(side), moments, rows)
        except (OSError, UserError):
            return ""
        same = (meta.get("networks"), meta.get("n_real")) == (self._about, self._count)
        found = meta.get("images")
        return found if same and isinstance(found, str) else ""

    def read(self, side: int) -> Statistics:
        """What is kept, after `mark` has named it. Raises UserError if it cannot be read."""
        shared_folder.bring(self.path(side))
        moments, rows, _ = statistics.read(self.path(side))
        return self._of(self.path(side), moments, rows)

    def keep(self, side: int, mark: str, found: Statistics) -> Statistics:
        """Writes statistics; returns them as `read` does, which differ in their last digits.

        A folder into which nothing can be written keeps nothing.
        """
        moments, rows = real_statistics.parts({INCEPTION: found})
        meta = {"n_real": self._count, "networks": self._about, "images": mark}
        path = self.path(side)
        if cluster.is_first():
            with tolerated(str(path), logger.debug):
                statistics.write(path, moments, rows, meta)
        return self._of(path, moments, rows)

    def _of(self, path: Path, moments: Mapping, rows: Mapping) -> Statistics:
        given = (moments, rows, self._count)
        found = real_statistics.of_parts(str(path), self.names, self._networks, *given)[INCEPTION]
        found.count = self._count
        return found


class Digest:
    """Of the images of a set, whatever their batches."""

    def __init__(self) -> None:
        self._digest, self.count = hashlib.blake2b(digest_size=16), 0

    def passing(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches; their images are added on the way."""
        for images, classes in batches:
            if not self.count:
                self._digest.update(str(images.shape[1:]).encode())
            self._digest.update(np.ascontiguousarray(images))
            self.count += len(images)
            yield images, classes

    def mark(self) -> str:
        """32 hexadecimal digits."""
        return self._digest.hexdigest()

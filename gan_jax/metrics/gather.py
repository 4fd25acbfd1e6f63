"""What is kept of a set of images that streams by: means and covariances, features, patches.

Images themselves are never kept, and what is kept does not depend on how they come in batches.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gan_jax.metrics import swd
from gan_jax.metrics.diversity import diversity
from gan_jax.metrics.features import Images, Network
from gan_jax.metrics.registry import CLASSIFIER, INCEPTION, PIXELS, Metric, chosen
from gan_jax.ops.frechet import Moments

ROWS = 512  # features are merged into the moments so many at a time: a merge costs D² whatever n


@dataclass
class Kept:
    """What is kept of one set under one network, after `gather`."""

    count: int = 0
    moments: dict[str, Moments] = field(default_factory=dict)  # by tap, and by (tap, class)
    features: dict[str, np.ndarray] = field(default_factory=dict)  # by tap, [N, D] float32
    patches: swd.Patches | None = None
    pairs: tuple[float, int] = (0.0, 0)  # sum of MS-SSIM, and of how many pairs of neighbours


def gather(
    batches: Iterable[tuple[Images, Sequence[int] | None]],
    names: Sequence[str],
    networks: Mapping[str, Network],
    seed: int,
    real: bool,
    patch_rows: Sequence[int] = (),
    done: Callable[[int], None] = lambda count: None,
) -> dict[str, Kept]:
    """Streams a set once, past every network that the metrics `names` need.

    What is kept depends on the images and their order, not on how they come in batches.

    Args:
      batches: uint8 images, an array [n, H, W, C] or a list, and their classes or None.
      networks: by INCEPTION and CLASSIFIER, those that are needed.
      seed: of SWD's patches.
      real: whether it is the set of real images, of which less is needed.
      patch_rows: which images SWD looks at, ascending (`spread`); as many of each set.
      done: told the number of images behind it after every batch.

    Returns:
      What is kept, by network. Class moments are there under (tap, class).

    Raises:
      ValueError: images that SWD or MS-SSIM cannot take; `str` of it is for people.
    """
    kept = {network: Kept() for network in (INCEPTION, CLASSIFIER, PIXELS)}
    wanted = {
        network: [m for m in chosen(names, network).values() if m.of_real or not real]
        for network in kept
    }
    kept = {network: kept[network] for network in kept if chosen(names, network)}
    buffers = {network: _Buffer(kept[network], wanted[network]) for network in kept}
    # each set has a stream of its own under the one seed
    rng = np.random.default_rng((seed, int(real)))
    pixels = _Pixels(kept.get(PIXELS, Kept()), chosen(names, PIXELS), rng, patch_rows)
    count = 0
    for images, classes in batches:
        for network, buffer in buffers.items():
            if network != PIXELS and buffer.taps:
                buffer.add(networks[network].extract(images, buffer.taps), classes)
        pixels.add(images)
        count += len(images)
        done(count)
    for network, buffer in buffers.items():
        kept[network].count = count
        buffer.close()
    return kept


class _Pixels:
    """What looks at the images themselves: patches of some, and MS-SSIM of the images 0 and 1, 2
    and 3, … of the stream, of which an odd one waits for the next batch."""

    def __init__(
        self,
        kept: Kept,
        metrics: Mapping[str, Metric],
        rng: np.random.Generator,
        patch_rows: Sequence[int],
    ):
        self.kept, self.names, self.rows = kept, list(metrics), np.asarray(patch_rows, int)
        self.paired = any(m.pairs for m in metrics.values())
        if any(m.patches for m in metrics.values()):
            kept.patches = swd.Patches(rng)
        self._shape: tuple[int, ...] | None = None
        self._seen = 0
        self._waiting: np.ndarray | None = None  # [1, H, W, C]

    def add(self, images: Images) -> None:
        if not self.names:
            return
        images = self._one_shape(images)
        here = self.rows[(self.rows >= self._seen) & (self.rows < self._seen + len(images))]
        if self.kept.patches is not None and len(here):
            self.kept.patches.add(images[here - self._seen])
        self._seen += len(images)
        if self.paired:
            self._pair(images)

    def _pair(self, images: np.ndarray) -> None:
        if self._waiting is not None:
            images = np.concatenate([self._waiting, images])
        found = len(images) // 2
        self._waiting = images[2 * found :] if len(images) % 2 else None
        if found:
            total, pairs = self.kept.pairs
            value = diversity(images[: 2 * found])
            self.kept.pairs = (total + found * value, pairs + found)

    def _one_shape(self, images: Images) -> np.ndarray:
        """The batch as an array. Raises ValueError for several shapes, in it or over batches."""
        shapes = {np.shape(image) for image in images} | ({self._shape} if self._shape else set())
        if len(shapes) > 1:
            found = " and ".join(str(list(shape)) for shape in sorted(shapes)[:2])
            raise ValueError(f"{self.names[0]} takes images of one shape, found {found}")
        self._shape = next(iter(shapes), self._shape)
        return np.asarray(images)


class _Buffer:
    """Collects features of batches; ROWS of them at a time are merged, however they come."""

    def __init__(self, kept: Kept, metrics: Sequence[Metric]):
        self.kept = kept
        self.plain = {tap for m in metrics if not m.by_class for tap in m.moments}
        self.classed = {tap for m in metrics if m.by_class for tap in m.moments}
        self.whole = {tap for m in metrics for tap in m.features}
        self.taps = sorted(self.plain | self.classed | self.whole)
        self.waiting: dict[str, list[np.ndarray]] = {tap: [] for tap in self.taps}
        self.classes: list[np.ndarray] = []
        self.parts: dict[str, list[np.ndarray]] = {tap: [] for tap in self.whole}

    def add(self, features: dict[str, np.ndarray], classes: Sequence[int] | None) -> None:
        for tap, values in features.items():
            self.waiting[tap].append(values)
            if tap in self.whole:
                self.parts[tap].append(values)
        if self.classed and classes is not None:
            self.classes.append(np.asarray(classes))
        while sum(map(len, next(iter(self.waiting.values())))) >= ROWS:
            self._merge(ROWS)

    def _merge(self, most: int) -> None:
        """Merges the first `most` rows that wait, and keeps the rest waiting."""
        whole = {tap: np.concatenate(values) for tap, values in self.waiting.items() if values}
        rows = {tap: values[:most] for tap, values in whole.items()}
        for tap in self.plain & rows.keys():
            self.kept.moments.setdefault(tap, Moments()).add(rows[tap])
        if self.classed and self.classes:
            every = np.concatenate(self.classes)
            classes, self.classes = every[:most], [every[most:]]
            for tap in self.classed & rows.keys():
                for label in np.unique(classes):
                    of_class = self.kept.moments.setdefault((tap, int(label)), Moments())
                    of_class.add(rows[tap][classes == label])
        self.waiting = {tap: [whole[tap][most:]] if tap in whole else [] for tap in self.taps}

    def close(self) -> None:
        self._merge(ROWS)  # fewer than that wait
        self.kept.features = {tap: np.concatenate(parts) for tap, parts in self.parts.items()}

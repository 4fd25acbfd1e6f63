"""The statistics of a stream of images: means, covariances, features, patches.

Images themselves are never stored, and the statistics do not depend on how images are batched.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from gan_jax.metrics import swd
from gan_jax.metrics.diversity import similarities
from gan_jax.metrics.features import Images, Network
from gan_jax.metrics.metric import CLASSIFIER, INCEPTION, PIXELS, Metric, Statistics
from gan_jax.metrics.registry import chosen
from gan_jax.ops.frechet import Moments

ROWS = 512  # features merged into the moments at a time, since the cost of a merge is D² for any n


def accumulate(
    batches: Iterable[tuple[Images, Sequence[int] | None]],
    names: Sequence[str],
    networks: Mapping[str, Network],
    seed: int,
    real: bool,
    patch_rows: Sequence[int] = (),
    done: Callable[[int], None] = lambda count: None,
    one_class: bool = False,
) -> dict[str, Statistics]:
    """Streams a set once through every network that the metrics `names` need.

    Args:
      batches: uint8 images, an array [n, H, W, C] or a list, and their classes or None.
      names, networks, seed, real, patch_rows, one_class: see `Accumulator`.
      done: called after every batch with the number of images so far.

    Returns and raises as `Accumulator` does.
    """
    accumulator = Accumulator(names, networks, seed, real, patch_rows, one_class)
    for images, classes in batches:
        accumulator.add(images, classes)
        done(accumulator.count)
    return accumulator.finish()


class Accumulator:
    """The statistics of one set, from batches of its images.

    They depend on the images and their order, but not on how they are batched.

    Args:
      names: names of metrics in METRICS.
      networks: those that are needed, by INCEPTION and CLASSIFIER.
      seed: the seed of SWD's patches.
      real: whether this is the set of real images, of which less is needed.
      patch_rows: the images that SWD takes patches from, ascending (`spread`); equally many of both
        sets.
      one_class: whether MS-SSIM compares images of one class. All batches then have classes.
    """

    def __init__(
        self,
        names: Sequence[str],
        networks: Mapping[str, Network],
        seed: int,
        real: bool,
        patch_rows: Sequence[int] = (),
        one_class: bool = False,
    ):
        self.count = 0  # images so far
        self._one_class = one_class
        self._networks = networks
        self._found: dict[str, Statistics] = {}
        self._buffers: dict[str, _Buffer] = {}
        for network in (INCEPTION, CLASSIFIER, PIXELS):
            metrics = chosen(names, network).values()
            if metrics:
                found = self._found[network] = Statistics()
                needed = [m for m in metrics if m.of_real or not real]
                self._buffers[network] = _Buffer(found, needed)
        # both sets have the same seed, but each has its own random stream
        rng = np.random.default_rng((seed, int(real)))
        pixels = self._found.get(PIXELS, Statistics())
        self._pixels = _Pixels(pixels, chosen(names, PIXELS), rng, patch_rows)

    def add(self, images: Images, classes: Sequence[int] | None) -> None:
        """Takes a batch: uint8 images, an array [n, H, W, C] or a list, and their classes or None.

        Raises:
          ValueError: images that SWD or MS-SSIM cannot take; its message may be shown to users.
        """
        for network, buffer in self._buffers.items():
            if network != PIXELS and buffer.taps:
                buffer.add(self._networks[network].extract(images, buffer.taps), classes)
        self._pixels.add(images, classes if self._one_class else None)
        self.count += len(images)

    def finish(self) -> dict[str, Statistics]:
        """The statistics by network, after the last batch; moments of a class by (tap, class)."""
        for network, buffer in self._buffers.items():
            self._found[network].count = self.count
            buffer.close()
        return self._found


class _Pixels:
    """Statistics of the pixels: patches of some images, and MS-SSIM of the images 0 and 1, 2 and 3,
    … of the stream or, with classes, of each class. An image waits in memory until its partner
    comes, so one of each class may."""

    def __init__(
        self,
        found: Statistics,
        metrics: Mapping[str, Metric],
        rng: np.random.Generator,
        patch_rows: Sequence[int],
    ):
        self.found, self.names, self.rows = found, list(metrics), np.asarray(patch_rows, int)
        self.paired = any(m.pairs for m in metrics.values())
        if any(m.patches for m in metrics.values()):
            found.patches = swd.Patches(rng)
        self._shape: tuple[int, ...] | None = None
        self._seen = 0
        self._waiting: dict[int | None, np.ndarray] = {}  # [H, W, C] by class

    def add(self, images: Images, classes: Sequence[int] | None) -> None:
        if not self.names:
            return
        images = self._one_shape(images)
        here = self.rows[(self.rows >= self._seen) & (self.rows < self._seen + len(images))]
        if self.found.patches is not None and len(here):
            self.found.patches.add(images[here - self._seen])
        self._seen += len(images)
        if self.paired:
            labels = [None] * len(images) if classes is None else [int(k) for k in classes]
            self._pair(images, labels)

    def _pair(self, images: np.ndarray, labels: Sequence[int | None]) -> None:
        waiting, paired, of = self._waiting, [], []
        for image, label in zip(images, labels, strict=True):
            if label in waiting:
                paired += [waiting.pop(label), image]
                of.append(label)
            else:
                waiting[label] = np.array(image)  # a row would keep the whole batch in memory
        if paired:
            for label, value in zip(of, similarities(np.stack(paired)), strict=True):
                total, pairs = self.found.pairs.get(label, (0.0, 0))
                self.found.pairs[label] = (total + float(value), pairs + 1)

    def _one_shape(self, images: Images) -> np.ndarray:
        """The batch as an array. Raises ValueError if images of the set differ in shape."""
        shapes = {np.shape(image) for image in images} | ({self._shape} if self._shape else set())
        if len(shapes) > 1:
            found = " and ".join(str(list(shape)) for shape in sorted(shapes)[:2])
            raise ValueError(f"{self.names[0]} takes images of one shape, found {found}")
        self._shape = next(iter(shapes), self._shape)
        return np.asarray(images)


class _Buffer:
    """Collects features and merges ROWS of them at a time, independently of the batches."""

    def __init__(self, found: Statistics, metrics: Sequence[Metric]):
        self.found = found
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
        """Merges the first `most` waiting rows; the rest goes on waiting."""
        whole = {tap: np.concatenate(values) for tap, values in self.waiting.items() if values}
        rows = {tap: values[:most] for tap, values in whole.items()}
        for tap in self.plain & rows.keys():
            self.found.moments.setdefault(tap, Moments()).add(rows[tap])
        if self.classed and self.classes:
            every = np.concatenate(self.classes)
            classes, self.classes = every[:most], [every[most:]]
            for tap in self.classed & rows.keys():
                for label in np.unique(classes):
                    of_class = self.found.moments.setdefault((tap, int(label)), Moments())
                    of_class.add(rows[tap][classes == label])
        self.waiting = {tap: [whole[tap][most:]] if tap in whole else [] for tap in self.taps}

    def close(self) -> None:
        self._merge(ROWS)  # fewer rows than that are waiting
        self.found.features = {tap: np.concatenate(parts) for tap, parts in self.parts.items()}

"""Opens two sets of images, each named by one word, and checks that they can be compared."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from gan_jax.data.image_set import ImageSet, open_set
from gan_jax.data.sources.listing import are_numbers
from gan_jax.errors import ArgumentError, argument
from gan_jax.evaluation import networks
from gan_jax.evaluation.options import Options
from gan_jax.interop import statistics
from gan_jax.metrics.paired import PAIRED
from gan_jax.metrics.registry import METRICS
from gan_jax.metrics.shapes import in_words


class Sets(NamedTuple):
    """The sets to compare; in place of real images there may be a file of their statistics."""

    real: ImageSet | None  # None if no metric needs real images, or their statistics are `stored`
    fake: ImageSet | None  # None if only statistics of the real images are wanted
    stored: str  # the file of statistics, or ""

    @property
    def largest(self) -> int:
        """The number of images of the larger set."""
        return max(len(images) for images in (self.real, self.fake) if images is not None)


def open_sets(real: str, fake: str, names: Sequence[str], options: Options) -> Sets:
    """Opens both sets, as far as the metrics `names` need them.

    Args:
      real, fake: anything that `data.image_set.open_set` opens; `real` may also be an npz of
        statistics, and `fake` may be "" if `options.save_stats` is given.

    Raises ArgumentError for a set that cannot be opened, and for two that cannot be compared.
    """
    if not fake and not options.save_stats:
        raise ArgumentError("fake", " is missing: name a folder, a .zip, an .npz or tfds:NAME")
    of_sets = [METRICS[name] for name in names if name in METRICS]
    of_pairs = [name for name in names if name in PAIRED]
    of_real = any(metric.of_real for metric in of_sets)
    stored = bool(real) and statistics.holds_statistics(real)
    if stored and (of_pairs or options.save_stats):
        need = f"the metric {of_pairs[0]!r} needs" if of_pairs else "saving statistics needs"
        raise ArgumentError("real", f"={real}: holds statistics, and {need} images")
    if options.save_stats and not of_real:
        raise ArgumentError(
            "save_stats", ": these metrics have no statistics of real images that can be saved"
        )
    looked_at = (of_pairs or options.save_stats or of_real) and not stored
    found = {}
    for side, word, wanted in (("real", real, looked_at), ("fake", fake, bool(fake))):
        with argument(side, otherwise=side):
            found[side] = open_set(word, side, options.count, options.deep_bits) if wanted else None
    sets = Sets(**found, stored=real if stored else "")
    if any(metric.by_class for metric in of_sets):
        _check_labels(sets)
    if sets.real and sets.fake and of_pairs:
        _check_pairs(sets.real, sets.fake)
    return sets


def _check_labels(sets: Sets) -> None:
    """Raises ArgumentError if images have no labels, or classes differ in number between sets."""
    for side, images in (("real", sets.real), ("fake", sets.fake)):
        if images and images.labels is None:
            raise ArgumentError(
                side,
                f"={images.title}: has no labels, which a metric by class needs"
                + (f" ({images.unlabelled})" if images.unlabelled else ""),
            )
    if sets.real and sets.fake:
        _check_classes(sets.real, sets.fake)


def _check_classes(real: ImageSet, fake: ImageSet) -> None:
    """Raises ArgumentError if a class has different numbers in the two sets."""
    different = unlike(real, fake)
    if different:
        raise ArgumentError(
            "fake",
            ": a metric by class needs the same classes in both sets, and these differ from the "
            f"real ones or have other numbers: {_first_ten(different)}",
        )


def unlike(real: ImageSet, fake: ImageSet) -> list[str]:
    """The classes that only one of two sets has, or that have different numbers in them.

    Sub-folders are numbered in the order of their names, so a folder that only one set has changes
    the numbers of those after it.
    """
    a, b = ({name: i for i, name in enumerate(s.class_names)} for s in (real, fake))
    moved = sorted(name for name in a.keys() & b.keys() if a[name] != b[name])
    # the labels of an npz are numbers, whatever the classes are called elsewhere
    words = not any(are_numbers(s.class_names) and not s.names for s in (real, fake))
    return moved + (sorted(a.keys() ^ b.keys()) if words else [])


def _check_pairs(real: ImageSet, fake: ImageSet) -> None:
    """Raises ArgumentError if the images of two sets are not pairs, by name if both sets have
    names, else by number."""
    if real.names and fake.names:
        for key, images in (("real", real), ("fake", fake)):
            twice = [name for name, count in Counter(images.names).items() if count > 1]
            if twice:
                raise ArgumentError(
                    key,
                    f": two images are called {twice[0]} but for their endings, and images are "
                    "compared with those of equal names; keep one of them",
                )
        alone = sorted(set(real.names) ^ set(fake.names))
        if alone:
            raise ArgumentError(
                "fake",
                ": images are compared with the real ones of equal file names, and these have no "
                f"partner: {_first_ten(alone)}",
            )
    if len(real) != len(fake):
        raise ArgumentError(
            "fake",
            f": images are compared with the real ones in pairs, and there are {len(real)} real "
            f"and {len(fake)} generated images",
        )


def _first_ten(names: list[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"{', '.join(names[:10])}{more}"


def pairs(real: ImageSet, fake: ImageSet) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of (generated images, real images), uint8 [n, H, W, C] of one shape.

    Raises an ArgumentError that names the first two images that differ in shape.
    """
    start = 0
    batches = fake.batches(networks.CHUNK), real.batches(networks.CHUNK)
    for made, wanted in zip(*batches, strict=True):
        for row, (x, y) in enumerate(zip(made, wanted, strict=True), start):
            if x.shape != y.shape:
                raise ArgumentError(
                    "fake",
                    f": images are compared in pairs of one shape, and {real.file(row)} is "
                    f"{in_words(y.shape)}, {fake.file(row)} is {in_words(x.shape)}; bring both "
                    "sets to one size and one number of channels",
                )
        start += len(made)
        if isinstance(made, np.ndarray) and isinstance(wanted, np.ndarray):
            yield made, wanted
        else:
            yield from ((x[None], y[None]) for x, y in zip(made, wanted, strict=True))

"""Fréchet distances between Gaussians that are fitted to the features of two sets, such as FID.

Heusel, Ramsauer, Unterthiner, Nessler & Hochreiter 2017, arXiv 1706.08500.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gan_jax.metrics.metric import Context, Counts, Metric, MetricOptions, Statistics
from gan_jax.ops.frechet import frechet_distance

FEW = "biased by few images"
MOST_NAMED = 5  # classes in a note


@dataclass(frozen=True)
class Frechet(Metric):
    """The distance between two whole sets."""

    tap: str = "features"

    @property
    def moments(self) -> tuple[str, ...]:
        return (self.tap,)

    @property
    def least(self) -> tuple[int, str]:
        return 2, ""

    def width(self, context: Context) -> int:
        """The number of features."""
        return context.networks[self.network].widths[self.tap]

    def notes(self, counts: Counts, context: Context) -> list[str]:
        return few_images(self.name, counts.smaller, self.width(context), context.options)

    def compute(self, real: Statistics, fake: Statistics, context: Context) -> dict[str, float]:
        ours, theirs = fake.moments[self.tap], real.moments[self.tap]
        # a count of 0: moments from another program, whose number of images is not known
        fewest = min(m.count for m in (ours, theirs) if m.count)
        context.notes += few_images(self.name, fewest, self.width(context), context.options)
        return {self.name: frechet_distance(theirs.mean, theirs.cov, ours.mean, ours.cov)}


@dataclass(frozen=True)
class FrechetByClass(Frechet):
    """The distance of each class, and under the metric's own name their mean."""

    by_class = True

    def notes(self, counts: Counts, context: Context) -> list[str]:
        if any(part is None for part in counts.labels):
            return []
        real, fake = (Counter(map(int, part)) for part in counts.labels)
        return self._class_notes(real, fake, context)

    def compute(self, real: Statistics, fake: Statistics, context: Context) -> dict[str, float]:
        counts = [
            {key[1]: m.count for key, m in part.moments.items() if isinstance(key, tuple)}
            for part in (real, fake)
        ]
        if not counts[0]:
            raise ValueError(f"{self.name}: needs labels on both sides")
        context.notes += self._class_notes(*counts, context)
        found = {}
        for label in sorted(counts[0]):
            ours, theirs = fake.moments[self.tap, label], real.moments[self.tap, label]
            distance = frechet_distance(theirs.mean, theirs.cov, ours.mean, ours.cov)
            found[f"{self.name}/{_class_title(label, context)}"] = distance
        return {self.name: float(np.mean(list(found.values())))} | found

    def _class_notes(
        self, real: Mapping[int, int], fake: Mapping[int, int], context: Context
    ) -> list[str]:
        """Notes on classes with few images and on those left out, from {class: number of images} of
        both sets.

        Raises ValueError for a class with too few images, or one that only the real set has.
        """
        notes = []
        for label in sorted(real):
            shown = _class_title(label, context)
            title = f"{self.name}/{shown}"
            if not fake.get(label):
                raise ValueError(f"{self.name}: the second set has no image of class {shown}")
            fewest = min(real[label], fake[label])
            if fewest < 2:
                raise ValueError(
                    f"{title}: {real[label]} real and {fake[label]} generated images of this "
                    "class; a distance needs two or more of each, so give more or leave the class "
                    "out"
                )
            notes += few_images(title, fewest, self.width(context), context.options)
        extra = [str(_class_title(label, context)) for label in sorted(set(fake) - set(real))]
        if extra:
            shown = ", ".join(extra[:MOST_NAMED]) + (", …" if len(extra) > MOST_NAMED else "")
            notes.append(
                f"{self.name}: classes that the first set does not have are left out ({shown})"
            )
        return notes


def few_images(name: str, images: int, width: int, options: MetricOptions) -> list[str]:
    """A note if a covariance is estimated from too few images. Raises ValueError in this case
    unless the options allow it."""
    if images > width:
        return []
    if not options.few:
        raise ValueError(
            f"{name}: {images} images are too few for features of width {width}, whose "
            f"covariance needs {width + 1} or more; give more, or ask for the biased value"
        )
    return [f"{name}: {FEW} ({images} for {width} features)"]


def _class_title(label: int, context: Context) -> str | int:
    """The name of a class, or its number without one; with both where a name is given twice, as
    that of the two cranes of ImageNet."""
    names = context.class_names
    if label >= len(names):
        return label
    return names[label] if names.count(names[label]) == 1 else f"{names[label]} ({label})"

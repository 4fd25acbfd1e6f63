"""Checks, image by image, that the metrics of two sets can take images of these shapes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from gan_jax.errors import ArgumentError
from gan_jax.metrics.features import Images, Network
from gan_jax.metrics.registry import METRICS

Shape = tuple[int, ...]  # height, width, channels


class Set(Protocol):
    """What this file needs of a set of images, such as an `ImageSet` of data/image_set.py."""

    def __len__(self) -> int: ...
    def file(self, row: int) -> str: ...
    def batches(self, size: int): ...


class Shapes:
    """Refuses images that a metric among `names` cannot take, with errors that name the files.

    A classifier only takes images of its own shape, MS-SSIM needs one shape within each set, and a
    sliced Wasserstein distance the same shape in both sets. Other metrics take any shapes.
    """

    def __init__(self, names: Sequence[str], networks: Mapping[str, Network]) -> None:
        self._names, self._networks = names, networks
        self._first: dict[str, tuple[str, Shape]] = {}  # by metric, or metric and side

    def look_ahead(self, real: Set | None, fake: Set | None) -> None:
        """Checks the first image of each set, so that differing shapes are refused early."""
        for images, is_real in ((real, True), (fake, False)):
            if images is not None and self._concerned(is_real):
                self.of(images, is_real)(0, next(iter(images.batches(1))))

    def _concerned(self, real: bool) -> list[str]:
        """The metrics that use this side and do not take every shape."""
        return [
            name
            for name in self._names
            if (METRICS[name].of_real or not real)
            and (METRICS[name].patches or METRICS[name].pairs or self._fixed(name))
        ]

    def _fixed(self, name: str) -> Shape:
        network = self._networks.get(METRICS[name].network)
        return network.shape if network else ()

    def of(self, images: Set, real: bool) -> Callable[[int, Images], None]:
        """A function that checks a batch, given the number of its first image and its images.

        The function raises ArgumentError for an image of a shape that a metric cannot take.
        """
        names = self._concerned(real)

        def check(start: int, batch: Images) -> None:
            alike = isinstance(batch, np.ndarray)
            for name in names:
                for row, image in enumerate(batch[:1] if alike else batch, start):
                    self._check(name, real, images.file(row), image.shape)

        return check

    def _check(self, name: str, real: bool, file: str, shape: Shape) -> None:
        side = "real" if real else "fake"
        if fixed := self._fixed(name):
            if shape != fixed:
                raise ArgumentError(
                    side,
                    f": {file} is {in_words(shape)}, and the classifier of {name} was "
                    f"trained on {in_words(fixed)}; bring the images to that, or leave {name} out",
                )
            return
        place = name if METRICS[name].patches else f"{name} {side}"
        before, wanted = self._first.setdefault(place, (file, shape))
        if shape != wanted:
            raise ArgumentError(
                side,
                f": {file} is {in_words(shape)} and {before} is {in_words(wanted)}, where {name} "
                "takes images of one shape; bring them to one size and one number of channels, or "
                f"leave {name} out",
            )


def in_words(shape: Shape) -> str:
    """(8, 6, 3) as "6x8 pixels, RGB"."""
    height, width, channels = shape
    colours = {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels")
    return f"{width}x{height} pixels, {colours}"

"""Pictures that a source computes, kept between runs, so that they are drawn once.

A source whose pictures follow from numbers has a `recipe`, a text that is another one whenever a
picture might be, such as after a change to the code that draws. It is "" where that is not known.
"""

import numpy as np

from gan_jax.data.array_cache import Kind
from gan_jax.data.sources.arrays import Source

KIND = Kind("pictures", 6)  # training and validation images of three configs
LEAST = 500  # pictures; fewer are drawn in a few seconds
LARGEST = 2**28  # bytes of an entry


class KeptPictures:
    """The pictures of one source, those that an earlier run has drawn or those drawn here.

    Attributes:
      source: the source.
      found: whether an earlier run had drawn them.
    """

    def __init__(self, source: Source, recipe: str):
        self.source, self._recipe = source, recipe
        self._pictures = np.zeros((len(source), *source.known), np.uint8)
        known = KIND.load(lambda: self._recipe, self._pictures)
        self.found = known is not None
        self._pictures = known if self.found else self._pictures
        self._drawn = np.full(len(source), self.found)

    def image(self, i: int) -> np.ndarray:
        """uint8 [H, W, C], as the source gives it."""
        if not self._drawn[i]:
            self._pictures[i] = self.source.image(i)
            self._drawn[i] = True
        return self._pictures[i]

    def keep(self) -> None:
        """Stores them for later runs, if all have been drawn here."""
        if not self.found and self._drawn.all():
            KIND.keep(lambda: self._recipe, self._pictures)


def of(source: Source) -> KeptPictures | None:
    """The pictures of a source that draws many; None for any other, for too many bytes, and where
    the code that draws them is not known."""
    recipe = getattr(source, "recipe", "")
    if not recipe or len(source) < LEAST:
        return None
    if len(source) * int(np.prod(source.known)) > LARGEST:
        return None
    return KeptPictures(source, recipe)

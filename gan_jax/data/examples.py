"""One split of a data set: its images, prepared in memory or decoded when they are needed."""

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import Any

import numpy as np

from gan_jax.data import header_cache, kept_pictures
from gan_jax.data.config import RANDOM, Options
from gan_jax.data.decoding import Decoder
from gan_jax.data.prepare import Prepare
from gan_jax.data.progress import HEADERS, Progress, Silent, Work, reported
from gan_jax.data.sources.arrays import Source
from gan_jax.data.sources.decode import UnreadableError
from gan_jax.errors import UserError

Shape = tuple[int, int, int]
IN_MEMORY = Work(2e-6, "image", "copying {} images")  # of a source that says nothing else


class Examples:
    """The images `indices` of a source, in that order, as rows 0..n-1."""

    def __init__(
        self, source: Source, indices: np.ndarray, class_count: int, options: Options
    ) -> None:
        """`class_count` 0 means that there are no labels, even if the source has some."""
        self.source = source
        self.indices = indices
        self.class_count = class_count
        self.options = options
        self.unreadable: set[int] = set()  # rows, which are replaced by other rows
        self.prepare: Prepare | None = None
        self._pictures: kept_pictures.KeptPictures | None = None  # while `keep` reads
        # set by `keep`: squares [n, R, R, C] if no crop is random, else bases n x [h, w, C]; labels
        # [n] with either
        self.squares: np.ndarray | None = None
        self.bases: list[np.ndarray] | None = None
        self.labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, row: int) -> str:
        return self.source.name(int(self.indices[row]))

    def scan(self, pool: Executor, progress: Progress = Silent) -> list[Shape | None]:
        """The shape of every image, read from its header; None for one that cannot be read.

        What an earlier run has read of a large set is not read again. `progress` makes a bar where
        there are many.
        """
        known = header_cache.load(self.source)
        rows = range(len(self))
        if known is not None:
            rows = np.flatnonzero(known[self.indices, 0] == 0).tolist()

        def shape(place: int) -> Shape | None:
            row = rows[place]
            try:
                return self.source.shape(int(self.indices[row]))
            except UnreadableError as error:
                self._unreadable(row, error)
                return None

        with reported(HEADERS, len(rows), progress) as done:
            found = _each(pool, shape, len(rows), done)
        if known is None:
            return found
        read = {row: shape for row, shape in zip(rows, found, strict=True) if shape is not None}
        if read:
            known[self.indices[[*read]]] = [*read.values()]
            header_cache.keep(self.source, known)
        return [tuple(shape) if shape[0] else None for shape in known[self.indices].tolist()]

    def keep(
        self,
        pool: Executor,
        budget: int,
        shapes: list[Shape | None],
        augment: bool,
        progress: Progress = Silent,
    ) -> int:
        """Reads everything into memory if it fits into `budget` bytes; returns the bytes taken.

        `shapes` may be empty if they are not known. `augment` says that random crops will be asked
        for, so that whole images must be kept. `progress` makes a bar where this may take long.
        """
        depth, size, pad = self.prepare.depth, self.options.resolution, 2 * self.options.pad
        whole_images = augment and self.options.resize in RANDOM
        if not whole_images:
            cost = len(self) * size * size * depth
        elif len(shapes) == len(self):
            readable = [shape for shape in shapes if shape is not None]
            cost = sum((h + pad) * (w + pad) * depth for h, w, _ in readable)
        else:
            return 0
        if cost > budget or not len(self):
            return 0
        labels = np.zeros(len(self), np.int32)
        images: list | np.ndarray = (
            [None] * len(self)
            if whole_images
            else np.zeros((len(self), size, size, depth), np.uint8)
        )

        def read(row: int) -> None:
            base, labels[row], name = self._load(row)
            images[row] = base if whole_images else self.prepare.square(base, name)

        self._pictures = kept_pictures.of(self.source)
        drawn = self._pictures is not None and self._pictures.found
        work = IN_MEMORY if drawn else getattr(self.source, "work", IN_MEMORY)
        with reported(work, len(self), progress) as done:
            _each(pool, read, len(self), done)
        if self._pictures is not None:
            self._pictures.keep()
            self._pictures = None
        if whole_images:
            self.bases = images
        else:
            self.squares = images
        self.labels = labels
        return cost

    def gather(
        self, rows: np.ndarray, decoder: Decoder, seeds: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Images uint8 [b, R, R, depth] and labels int32 [b] of the given rows [b].

        With `seeds` [b] images are augmented as in training: each seed determines the crop and the
        flip of its image.
        """
        if self.squares is not None:
            images, labels = self.squares[rows], self.labels[rows]
        else:
            pairs = decoder.squares(self, rows, seeds)
            images = np.stack([image for image, _ in pairs])
            labels = np.array([label for _, label in pairs], np.int32)
        if seeds is not None and self.options.flip:
            mirrored = (seeds & 1).astype(bool)  # [b]
            images[mirrored] = images[mirrored, :, ::-1]
        return images, labels

    def square(self, row: int, seed: int | None) -> tuple[np.ndarray, int]:
        """The prepared image uint8 [R, R, depth] and the label of a row, or of the row that stands
        in for one that cannot be read; `seed` chooses a random crop."""
        if self.bases is not None:
            base, label, name = self.bases[row], int(self.labels[row]), self.name(row)
        else:
            base, label, name = self._load(row)
        return self.prepare.square(base, name, seed), label

    def reader(self, row: int) -> Callable[[], np.ndarray] | None:
        """A function that reads the image of a row in any process; None for an image in memory, a
        computed one, and one that is known to be unreadable."""
        held = self.squares is not None or self.bases is not None
        if held or row in self.unreadable or not hasattr(self.source, "reader"):
            return None
        try:
            return self.source.reader(int(self.indices[row]))
        except Exception:  # `square` meets it again, and says what it is
            return None

    def label(self, row: int) -> int:
        """The label of a row, 0 without labels. Raises UserError for one outside the classes."""
        return self._label(int(self.indices[row]))

    def _load(self, row: int) -> tuple[np.ndarray, int, str]:
        """The image, label and name of a row, or of the next readable one."""
        for candidate in self.stand_ins(row):
            if candidate in self.unreadable:
                continue
            i = int(self.indices[candidate])
            try:
                name, image = self.name(candidate), (self._pictures or self.source).image(i)
                return self.prepare.base(image, name), self._label(i), name
            except UnreadableError as error:
                self._unreadable(candidate, error)
        count = len(list(self.stand_ins(row)))
        raise UserError(
            f"config.data.source={self.options.source}: none of its {count} images that would do "
            f"can be read, e.g. {self.name(row)}; check the files, or set config.data.on_error="
            "raise to see the reason"
        )

    def stand_ins(self, row: int) -> Iterable[int]:
        """The row itself, then the rows that replace it, in this order, if it cannot be read."""
        return ((row + offset) % len(self) for offset in range(len(self)))

    def _label(self, i: int) -> int:
        if not self.class_count:
            return 0
        label = self.source.label(i)
        if not 0 <= label < self.class_count:
            raise UserError(
                f"{self.source.name(i)}: has class {label}, outside 0..{self.class_count - 1}; "
                "correct it, or set config.data.labels=none"
            )
        return label

    def _unreadable(self, row: int, error: UnreadableError) -> None:
        if self.options.on_error == "raise":
            raise UserError(
                f"cannot read {error}; replace or remove it, or set config.data.on_error=skip to "
                "let the next readable image stand in"
            ) from error
        self.unreadable.add(row)


def _each(pool: Executor, function: Callable, count: int, done: Callable[[int], None]) -> list[Any]:
    """[function(0), …, function(count - 1)], in chunks, since a task costs more than a row.

    `done` is called after every chunk with the number of rows so far.
    """
    chunks = [range(first, min(first + 64, count)) for first in range(0, count, 64)]
    found: list[Any] = []
    for part in pool.map(lambda rows: [function(row) for row in rows], chunks):
        found += part
        done(len(found))
    return found

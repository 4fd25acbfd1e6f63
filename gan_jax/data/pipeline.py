"""From examples to batches: shuffled epochs, seeking, the rows of this process."""

import functools
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from gan_jax.data import decoding, pairs
from gan_jax.data.config import RANDOM, Options
from gan_jax.data.examples import Examples
from gan_jax.data.identities import IdentityExamples
from gan_jax.errors import UserError

if TYPE_CHECKING:
    import grain

Batch = dict[str, np.ndarray]
Rows = slice | np.ndarray  # some rows of a batch, in ascending order


AHEAD = 4  # batches that are made before they are needed


class Stage(Protocol):
    """What the data needs to know of a training stage."""

    batch_size: int  # over all processes
    start: int  # the stage's first step


def whole_batch(count: int) -> Rows:
    """All rows of a batch of `count`."""
    return slice(count)


class Classes(NamedTuple):
    """The classes of a data set; () without labels."""

    names: tuple[str, ...]
    empty: tuple[int, ...]  # numbers of those without training images


class Data:
    """A data set, ready to be read.

    Attributes:
        sizes: number of images, {"train": N, "validation": M}; M may be 0. With
            config.data.pairs=identities N counts identities, and M photos of those held out.
        channels: 1 or 3; for pairs, those of the targets.
        input_channels: the channels of the inputs of pairs; 0 if there are no pairs.
        resolution: side of the square images in pixels.
        num_classes: 0 without labels.
        class_names: one name per class.
        empty_classes: numbers of the classes without training images.
        identity_names: with config.data.pairs=identities the names by split, in the order of the
            labels; else {}.
        identity_marks: in the same form, what identifies each of them ("folder …", "file …").
        description: one line for the console.
    """

    def __init__(
        self,
        splits: dict[str, Examples | IdentityExamples],
        options: Options,
        classes: Classes,
        description: str,
        own_rows: Callable[[int], Rows],
        seed: int,
        workers: int,
        way: str = "auto",
    ) -> None:
        """
        Args:
          own_rows: which rows of a batch of a given size this process delivers.
          seed: seed of the training order, crops and flips.
          workers: how many images that are not in memory are decoded at a time; with 0 each batch
            is made when it is needed, and `decoding.AUTO` asks the machine.
          way: whether threads or processes decode, see `decoding.Decoder`.
        """
        self.sizes = {name: len(examples) for name, examples in splits.items()}
        self.channels = splits["train"].prepare.parts[-1]
        self.input_channels = pairs.channels(options, self.channels)
        self.resolution = options.resolution
        self.class_names, self.empty_classes = classes
        self.num_classes = len(classes.names)
        of_identities = options.pairs == "identities"
        self.identity_names = {k: s.names for k, s in splits.items()} if of_identities else {}
        self.identity_marks = {k: s.marks for k, s in splits.items()} if of_identities else {}
        self.description = description
        self._splits = splits
        self._options = options
        in_memory = all(getattr(s, "images", s).squares is not None for s in splits.values() if s)
        self._workers = decoding.workers(workers, in_memory)
        self._decoder = decoding.Decoder(max(1, self._workers), way)
        self._own_rows = own_rows
        self._seed = seed % 2**64  # numpy takes no negative entropy

    @property
    def skipped(self) -> int:
        """How many unreadable images were met so far (config.data.on_error=skip)."""
        return sum(len(examples.unreadable) for examples in self._splits.values())

    def epoch_steps(self, stage: Stage, keys: str = "config.batch_size") -> int:
        """Steps per epoch, floor(N / batch size): the remainder of an epoch is dropped.

        `keys` are the config keys that set the batch size, for the message.

        Raises UserError if the training images do not fill one batch.
        """
        count = self.sizes["train"]
        if count < stage.batch_size:
            what = "identities" if self.identity_names else "images"
            raise UserError(
                f"config.data.source={self._options.source} has {count} training {what} "
                "(config.data.limit="
                f"{self._options.limit}, config.data.validation_fraction="
                f"{self._options.validation_fraction}), fewer than one batch of "
                f"{stage.batch_size}; lower {keys}, or give more {what}"
            )
        return count // stage.batch_size

    def __call__(self, split: str, stage: Stage, step: int) -> Iterator[Batch]:
        """Batches of this process, b of the B rows of a global batch.

        They have "image" uint8 [b, R, R, C] and "label" int32 [b] (0 without labels). Pairs have
        "input" and "target" instead, uint8 [b, R, R, C] each. With pairs="upscale", "input" is
        [b, R / factor, R / factor, C], and there is also "label". With pairs="identities", "input"
        is a photo, "target" a caricature, and "label" the number of the identity in the split;
        identities of a training batch are all different.

        Args:
            split: "train": endless, reshuffled every epoch, beginning with the batch that follows
                `step` completed steps. "validation": every image once, in a fixed order; the last
                batch is padded with the first images, and "valid" float32 [b] is 1 for images and
                0 for padding.
            stage: its batch size is over all processes, and its start selects the order.
            step: global step; stage.start is the beginning of the stage's stream.

        A training batch is a function of (seed, stage.start, step), random crops and flips
        included, whatever the number of processes.
        """
        if split not in self._splits:
            raise ValueError(f"split {split!r}: 'train' or 'validation'")
        if step < stage.start:
            raise ValueError(f"step {step} lies before the stage's start {stage.start}")
        own = self._own_rows(stage.batch_size)
        if split == "train":
            self.epoch_steps(stage)  # raises where the images do not fill one batch
            return self._read(self._train(stage, own), step - stage.start)
        return self._validation(stage.batch_size, own)

    def examples(self, split: str, count: int) -> Batch:
        """The first `count` images of a split (all, if it has fewer), without augmentation."""
        return self.rows(split, np.arange(min(count, self.sizes[split])))

    def rows(self, split: str, rows: np.ndarray) -> Batch:
        """The images with these numbers [n] of a split, without augmentation."""
        if not len(rows):
            depth = self._splits[split].prepare.depth
            empty = np.zeros((0, self.resolution, self.resolution, depth), np.uint8)
            return self._batch(empty, np.zeros(0, np.int32))
        return self._batch(*self._splits[split].gather(rows, self._decoder))

    def distinct(self, split: str, rows: np.ndarray) -> np.ndarray:
        """Those of the numbers [n] whose targets are other images than those of all before them:
        int [m]. Photos of one person share caricatures where there are fewer of these."""
        return self._splits[split].distinct(rows) if self.identity_names else rows

    def truth(self, split: str, rows: np.ndarray) -> Batch:
        """Where the landmarks of the inputs in `rows` [n] lie, and how far they move in a
        caricature: "landmarks" and "displacement", float32 [n, L, 2], (y, x) in pixels.

        Raises UserError for data other than drawn faces.
        """
        if not self.identity_names:
            raise UserError(
                f"config.data.source={self._options.source}, config.data.pairs="
                f"{self._options.pairs}: where landmarks lie is known with config.data.source="
                "drawn_faces and config.data.pairs=identities only"
            )
        return self._splits[split].truth(rows)

    def all(self, split: str, limit: int = 0) -> Batch:
        """All images of a split (the first `limit`, if that is not 0), without augmentation."""
        return self.examples(split, limit or self.sizes[split])

    def _train(self, stage: Stage, own: Rows) -> "grain.MapDataset":
        """The stage's stream, by position: element k is the batch of step stage.start + k.

        The order of an epoch is computed at once: grain's own shuffle computes each index alone,
        which takes 8 microseconds per image, and 80 if a set has only a few hundred of them.
        """
        examples, size, steps = self._splits["train"], stage.batch_size, self.epoch_steps(stage)
        entropy = (self._seed, zlib.crc32(b"train"), stage.start)

        @functools.lru_cache(maxsize=2)  # reading ahead passes from one epoch into the next
        def order(epoch: int) -> np.ndarray:
            return np.random.default_rng((*entropy, epoch)).permutation(len(examples))

        def rows(position: int) -> np.ndarray:
            epoch, k = divmod(position, steps)
            return order(epoch)[k * size : (k + 1) * size]  # [B], over all processes

        def plain(position: int) -> Batch:
            return self._batch(*examples.gather(rows(position)[own], self._decoder))

        def augmented(position: int, rng: np.random.Generator) -> Batch:
            # one seed for each image of the global batch, so the number of processes has no effect
            seeds = rng.integers(0, 2**63, size=size)
            return self._batch(*examples.gather(rows(position)[own], self._decoder, seeds[own]))

        import grain  # here, since it imports jax, and processes that decode need neither

        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        positions = grain.MapDataset.range(2**62).seed(seed)  # as good as endless
        drawn = self._options.flip or self._options.resize in RANDOM
        if drawn or self.identity_names:
            return positions.random_map(augmented)  # rng is a function of (seed, position)
        return positions.map(plain)

    def _validation(self, size: int, own: Rows) -> Iterator[Batch]:
        examples = self._splits["validation"]
        for first in range(0, len(examples), size):
            rows = np.arange(first, first + size)[own]
            valid = (rows < len(examples)).astype(np.float32)
            batch = self._batch(*examples.gather(rows % len(examples), self._decoder))
            yield batch | {"valid": valid}

    def _read(self, stream: "grain.MapDataset", position: int) -> Iterator[Batch]:
        import grain

        # an element is a whole batch: grain's default of 500 buffered elements would fill memory
        ahead = grain.ReadOptions(num_threads=min(self._workers, AHEAD), prefetch_buffer_size=AHEAD)
        batches = iter(stream.to_iter_dataset(ahead))
        try:
            grain.experimental.set_next_index(batches, position)
            yield from batches
        finally:
            batches.close()  # ends the reading threads when the caller stops

    def _batch(self, image: np.ndarray, label: np.ndarray) -> Batch:
        if self.input_channels:
            return pairs.batch(image, label, self._options, self.input_channels)
        return {"image": image, "label": label}

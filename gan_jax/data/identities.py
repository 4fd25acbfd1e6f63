"""Rows of a photo and a caricature of the same identity; a `Gallery` says who each image shows."""

from itertools import pairwise

import numpy as np

from gan_jax.data import preprocess
from gan_jax.data.config import Options
from gan_jax.data.decoding import Decoder
from gan_jax.data.examples import Examples
from gan_jax.data.gallery import Gallery
from gan_jax.data.prepare import Prepare
from gan_jax.data.sources import listing
from gan_jax.errors import UserError


class IdentityImages(Examples):
    """All images of a gallery, where the photos of an identity, and its caricatures, are adjacent.

    An image that cannot be read (config.data.on_error=skip) is replaced by another of its group.
    """

    def __init__(self, members: Gallery, options: Options) -> None:
        both = zip(members.photos, members.caricatures, strict=True)
        groups = [group for pair in both for group in pair]
        indices = np.array([i for group in groups for i in group], np.int64)
        super().__init__(members.source, indices, 0, options)
        sizes = [len(group) for group in groups]
        starts = np.cumsum([0, *sizes])
        self.groups = [range(a, b) for a, b in pairwise(starts)]
        self._group_of = np.repeat(np.arange(len(groups)), sizes)

    def stand_ins(self, row: int) -> list[int]:
        group = self.groups[self._group_of[row]]
        first = row - group.start
        return [*group[first:], *group[:first]]


class IdentityExamples:
    """One split as rows of a photo and a caricature of the same identity.

    Training has a row for each identity, and a seed chooses its photo and its caricature.
    Validation has a row for each photo: the k-th photo of an identity with its k-th caricature,
    starting over after the last one. The first photos of all identities come before the second
    ones, so that a few rows show many people.

    Attributes:
        images: all photos and caricatures, one by one.
        names: names of the identities, in the order of their labels.
        marks: what identifies each of them: "folder …", "file …", "label …", or the name.
        left_out: people missing a photo or a caricature, and which (config.data.on_error=skip).
    """

    def __init__(self, members: Gallery, options: Options, training: bool) -> None:
        self.images = IdentityImages(members, options)
        self.names, self.marks = members.names, members.marks
        self.left_out = members.left_out
        self.source = members.source
        self.options = options
        groups = self.images.groups
        if training:
            self.photos, self.caricatures = groups[::2], groups[1::2]
            labels = range(len(members))
        else:
            rows = [
                (k, label, range(photo, photo + 1), theirs[k % len(theirs) :][:1])
                for label, (own, theirs) in enumerate(zip(groups[::2], groups[1::2], strict=True))
                for k, photo in enumerate(own)
            ]
            rows.sort(key=lambda row: row[:2])
            _, labels, self.photos, self.caricatures = (
                zip(*rows, strict=True) if rows else ((),) * 4
            )
        self.labels = np.array(labels, np.int32)
        self._train, self._fixed = (
            preprocess.delivered(
                getattr(options, f"preprocess_{part}"),
                f"config.data.preprocess_{part}",
                options.resolution,
                part == "train",
            )
            for part in ("train", "validation")
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def prepare(self) -> Prepare:
        """How the stacked channels of photo and caricature are prepared."""
        return Prepare(self.options, 2 * self.images.prepare.parts)

    @property
    def unreadable(self) -> set[int]:
        """Images that could not be read."""
        return self.images.unreadable

    def gather(
        self, rows: np.ndarray, decoder: Decoder, seeds: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Photos and caricatures stacked, uint8 [b, R, R, 2 C], and labels int32 [b] of rows [b].

        With `seeds` [b] rows are made as in training: each seed determines its row's photo and
        caricature, and the crop, the flip and the preprocessing of both. Without seeds they are the
        first photo and the first caricature, with config.data.preprocess_validation.
        """
        groups = [(self.photos[row], self.caricatures[row]) for row in rows]
        if seeds is None:
            chosen = np.array([[group[0] for group in pair] for pair in groups])  # [b, 2]
            own = [None, None]
        else:
            draws = [np.random.default_rng((int(seed), 1)) for seed in seeds]
            chosen = np.array(
                [
                    [group[rng.integers(len(group))] for group in pair]
                    for pair, rng in zip(groups, draws, strict=True)
                ]
            )
            own = np.array([rng.integers(0, 2**63, size=2) for rng in draws]).T  # [2, b]
        sides = [self._read(chosen[:, k], decoder, own[k]) for k in range(2)]
        return np.concatenate(sides, axis=3), self.labels[rows]

    def _read(self, rows: np.ndarray, decoder: Decoder, seeds: np.ndarray | None) -> np.ndarray:
        images, _ = self.images.gather(rows, decoder, seeds)
        pipeline = self._fixed if seeds is None else self._train
        if not pipeline:
            return images
        if seeds is None:
            # nothing in this pipeline is random
            return preprocess.run(pipeline, images, np.random.default_rng(0))
        # each image has its own seed, so that the number of processes changes nothing
        draws = (np.random.default_rng((int(seed), 2)) for seed in seeds)
        pairs = zip(images, draws, strict=True)
        return np.concatenate([preprocess.run(pipeline, image[None], rng) for image, rng in pairs])

    def distinct(self, rows: np.ndarray) -> np.ndarray:
        """Those of rows [n] whose first caricature is not that of an earlier one: int [m]."""
        own = np.array([self.caricatures[row][0] for row in rows], np.int64)
        return rows[np.sort(np.unique(own, return_index=True)[1])]

    def truth(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """{"landmarks", "displacement"}, float32 [n, L, 2], (y, x) in pixels, of the photos that
        `gather` returns for these rows [n] without seeds: where each landmark lies, and how far it
        moves in the caricature.

        Raises UserError if the source does not know its landmarks.
        """
        if not hasattr(self.source, "truth"):
            raise UserError(
                f"config.data.source={self.options.source}: where landmarks lie is not known of "
                "these images; it is with config.data.source=drawn_faces"
            )
        if self._fixed:
            raise UserError(
                f"config.data.preprocess_validation={self.options.preprocess_validation!r} moves "
                "the pixels away from where their landmarks are known; leave it empty"
            )
        numbers = [int(self.images.indices[self.photos[row][0]]) for row in rows]
        landmarks = [self.source.landmarks(i) for i in numbers]
        moved = [self.source.truth(i) for i in numbers]
        if not numbers:
            return {key: np.zeros((0, 0, 2), np.float32) for key in ("landmarks", "displacement")}
        return {
            "landmarks": np.asarray(landmarks, np.float32) + self.options.pad,
            "displacement": np.asarray(moved, np.float32),
        }


def describe(splits: dict[str, IdentityExamples]) -> str:
    """A description of how many identities and images each split has:
    "100 train identities (600 photos, 600 caricatures) + …"."""
    said = []
    for name, examples in splits.items():
        if len(examples):
            groups = examples.images.groups
            photos, caricatures = (sum(map(len, groups[k::2])) for k in range(2))
            said.append(
                f"{len(examples.names):,} {name} identities ({photos:,} photos, "
                f"{caricatures:,} caricatures)"
            )
    return " + ".join(said)


def describe_left_out(splits: dict[str, IdentityExamples]) -> str:
    """A description of who is left out and why, as the end of another line; "" for nobody."""
    names = [*dict.fromkeys(name for part in splits.values() for name in part.left_out)]
    if not names:
        return ""
    count = f"{len(names):,} identities are" if len(names) > 1 else "1 identity is"
    return f"; {count} left out (config.data.on_error=skip): {listing.some(names)}"

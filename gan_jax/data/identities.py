"""Photos and caricatures by the person they show: a photo and a caricature of one person a row.

A file belongs to an identity by its folder or by a list (`face_lists`). The identities that are
trained on and those that are held out are never the same.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from gan_jax.data import identity_lists, preprocess
from gan_jax.data.config import Options
from gan_jax.data.examples import Examples
from gan_jax.data.prepare import Prepare
from gan_jax.data.sources import face_folders, listing
from gan_jax.data.sources.arrays import Opened, Source
from gan_jax.data.sources.decode import UnreadableError
from gan_jax.data.sources.folders import FileSource, named, remarks_of, split_folders
from gan_jax.errors import UserError


@dataclass(frozen=True)
class Gallery:
    """Identities by number: names, what tells each from all others (folders, files, labels), and
    the numbers of their images in the source. `left_out`: names of those who lack a photo or a
    caricature, with what they lack (config.data.on_error=skip)."""

    source: Source
    names: tuple[str, ...]
    marks: tuple[frozenset[str], ...]
    photos: tuple[tuple[int, ...], ...]
    caricatures: tuple[tuple[int, ...], ...]
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def only(self, numbers: Sequence[int]) -> "Gallery":
        """The identities with these numbers, in this order."""
        parts = (self.names, self.marks, self.photos, self.caricatures)
        chosen = (tuple(part[i] for i in numbers) for part in parts)
        return Gallery(self.source, *chosen, self.left_out)


def gallery(
    source: Source,
    keys: Sequence,
    photos: Sequence[bool],
    names: dict,
    where: str,
    marks: dict | None = None,
    skip: bool = False,
) -> Gallery:
    """The images of a source grouped by key, identities in the order of their sorted keys.

    Args:
        keys: the identity of each image, strings or numbers.
        photos: which images are photos; the others are caricatures.
        names: the name of each key.
        where: the config key and value that led here, for messages.
        marks: what tells each key from others; None: its name.
        skip: identities without a photo or a caricature that can be read are left out.

    Raises UserError for identities without a photo or without a caricature; with `skip` where
    nobody is left.
    """
    grouped = {key: ([], []) for key in sorted(set(keys))}
    for i, (key, photo) in enumerate(zip(keys, photos, strict=True)):
        grouped[key][0 if photo else 1].append(i)
    lacking = {
        key: f"{names[key]} (no {'caricature' if photos_of else 'photo'})"
        for key, (photos_of, caricatures_of) in grouped.items()
        if not (photos_of and caricatures_of)
    }
    if lacking and not skip:
        raise UserError(
            f"{where}: {len(lacking)} of {len(grouped)} identities lack a photo or a caricature: "
            f"{listing.some([*lacking.values()])}; config.data.pairs=identities needs both of "
            "each: add them, leave those identities out, or set config.data.on_error=skip to train "
            "without them"
        )
    if skip:
        whole = {key: groups for key, groups in grouped.items() if key not in lacking}
        broken = _without_readable(source, whole)
        lacking |= {key: f"{names[key]} (no {kind} can be read)" for key, kind in broken.items()}
    kept = {key: groups for key, groups in grouped.items() if key not in lacking}
    left_out = tuple(lacking[key] for key in sorted(lacking))
    if not kept:
        raise UserError(
            f"{where}: none of {len(grouped)} identities has a photo and a caricature that can be "
            f"read: {listing.some([*left_out])}; config.data.pairs=identities needs both of each"
        )
    return Gallery(
        source,
        tuple(names[key] for key in kept),
        tuple(frozenset(marks[key] if marks else {names[key]}) for key in kept),
        *(tuple(map(tuple, part)) for part in zip(*kept.values(), strict=True)),
        left_out,
    )


def _without_readable(source: Source, grouped: dict) -> dict:
    """ "photo" or "caricature" by key where not one of them can be read. Images that are computed
    always can. Of a group with a readable image no others are looked at."""
    if all(source.known):
        return {}

    def readable(group: list[int]) -> bool:
        for i in group:
            try:
                source.image(i)
            except UnreadableError:
                continue
            return True
        return False

    def lacks(groups: tuple[list[int], list[int]]) -> str:
        kinds = zip(("photo", "caricature"), groups, strict=True)
        return next((kind for kind, group in kinds if not readable(group)), "")

    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        found = zip(grouped, pool.map(lacks, grouped.values()), strict=True)
        return {key: kind for key, kind in found if kind}


def divide(options: Options, opened: Opened | None) -> tuple[dict[str, Gallery], tuple[str, ...]]:
    """The identities of each split, {"train": …, "validation": …}, and what there is to say of
    their files.

    `opened` is a source whose names say who is shown; None: the files of config.data.path.

    Raises UserError for an identity in both splits, and for what `gallery` and the lists refuse.
    """
    remarks: tuple[str, ...] = ()
    if opened is None and options.train_list:
        found = _by_lists(options)
    elif opened is None:
        found, remarks = _by_folders(options)
    else:
        sources = [s for s in (opened.train, opened.validation) if s is not None]
        found = [_by_names(source, f"config.data.source={options.source}") for source in sources]
    train, *rest = found
    seen = frozenset().union(*train.marks)
    both = [zip(part.names, part.marks, strict=True) for part in rest]
    shared = sorted(name for part in both for name, marks in part if marks & seen)
    if shared:
        raise UserError(
            f"config.data.pairs=identities: {len(shared)} identities are both in training and in "
            f"validation: {listing.some(shared)}; keep each in one of them"
        )
    count = len(train)
    order = np.random.default_rng(options.split_seed).permutation(count)
    held_out = 0
    if not rest:
        if options.validation_fraction > 0 and count > 1:
            held_out = min(max(1, round(count * options.validation_fraction)), count - 1)
        rest = [train.only(sorted(order[:held_out]))]
    kept = order[held_out:]
    if options.limit:
        kept = kept[: options.limit]
    return {"train": train.only(sorted(kept)), "validation": rest[0]}, remarks


def _by_names(source: Source, where: str) -> Gallery:
    paths = [source.name(i) for i in range(len(source))]
    if not paths:
        return Gallery(source, (), (), (), ())
    keys, photos = zip(*identity_lists.kinds(paths, False, where), strict=True)
    return gallery(source, keys, photos, {key: key.rpartition("/")[2] for key in keys}, where)


def _by_folders(options: Options) -> tuple[list[Gallery], tuple[str, ...]]:
    files = listing.open_files(options.path, "config.data.path")
    found, splits = [], split_folders(files, options)
    for part in splits.parts:
        paths, where = named(part, options), str(part.root)
        if options.reading != "first":
            below = face_folders.BOTH if face_folders.is_plain(paths) else ()
            listing.check_folders(part, paths, below)
        kinds = identity_lists.kinds(paths, face_folders.is_plain(paths), where)
        stray = next((p for p, (key, _) in zip(paths, kinds, strict=True) if not key), None)
        if stray is not None:
            raise UserError(
                f"{where}/{stray}: lies in no folder of an identity; accepted: "
                f"{identity_lists.LAYOUTS}"
            )
        keys, photos = zip(*kinds, strict=True)
        source = FileSource(part, paths, [0] * len(paths), options.deep_bits)
        names = {key: key for key in keys}
        skip = options.on_error == "skip"
        found.append(gallery(source, keys, photos, names, where, skip=skip))
    return found, remarks_of([splits], [part.source for part in found])


def _by_lists(options: Options) -> list[Gallery]:
    files = listing.open_files(options.path, "config.data.path")
    plain = face_folders.is_plain(files.names())
    read = []
    for key in ("train_list", "validation_list"):
        path = getattr(options, key)
        if path:
            listed = identity_lists.read_list(path, f"config.data.{key}", files)
            where = f"config.data.{key}={path}"
            kinds = identity_lists.sides(listed, plain, where)
            read.append((listed, *zip(*kinds, strict=True), where))
    several = {folder for listed, folders, *_ in read for folder in _of_several(listed, folders)}
    skip = options.on_error == "skip"
    return [_by_list(files, options.deep_bits, several, skip, *rest) for rest in read]


def _of_several(listed: identity_lists.FaceList, folders: Sequence[str]) -> list[str]:
    """Folders with images of more than one label, and the one without a name."""
    pairs = set(zip(listed.labels.tolist(), folders, strict=True)) if listed.labelled else set()
    count = Counter(folder for _, folder in pairs)
    return ["", *(folder for folder, labels in count.items() if labels > 1)]


def _by_list(
    files: listing.Files,
    bits: int,
    several: set[str],
    skip: bool,
    listed: identity_lists.FaceList,
    folders: Sequence[str],
    photos: Sequence[bool],
    where: str,
) -> Gallery:
    """An identity is a folder without labels. With them it is a label, named by its folder where it
    has one to itself. A label that has folders to itself (not in `several`) is told by them: each
    list may count from 0."""
    if not listed.labelled:
        alone = next((i for i, folder in enumerate(folders) if not folder), None)
        if alone is not None:
            raise UserError(
                f"{where}: line {listed.lines[alone]} has no label, and {listed.paths[alone]} lies "
                "in no folder of an identity; give every line one of the two"
            )
    keys = listed.labels.tolist() if listed.labelled else folders
    several = several if listed.labelled else set()
    of, marks = defaultdict(set), defaultdict(set)
    for key, folder, path in zip(keys, folders, listed.paths, strict=True):
        of[key].add(folder)
        place = f"label {key}" if folder in several else f"folder {folder}"
        marks[key] |= {f"file {path}", place}
    names = {
        key: min(found) if len(found) == 1 and not found & several else f"label {key}"
        for key, found in of.items()
    }
    source = FileSource(files, list(listed.paths), [0] * len(listed.paths), bits)
    return gallery(source, keys, photos, names, where, marks, skip)


class IdentityImages(Examples):
    """All images of a gallery, each group of photos or of caricatures of an identity in a row.

    For an image that cannot be read (config.data.on_error=skip) one of its group stands in.
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

    Training: a row for each identity, and a seed chooses its photo and its caricature. Validation:
    a row for each photo, the k-th of an identity with its k-th caricature, from the first again
    after the last; the first photos of all identities come before the second ones, so that a few
    rows show many people.

    Attributes:
        images: all photos and caricatures, for what is done with each alone.
        names: of the identities; labels count in their order.
        marks: what tells each of them from others: "folder …", "file …", "label …", or the name.
        left_out: who lacks a photo or a caricature, and what (config.data.on_error=skip).
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
        """The channels of photo and caricature, which are stacked."""
        return Prepare(self.options, 2 * self.images.prepare.parts)

    @property
    def unreadable(self) -> set[int]:
        """Images that could not be read."""
        return self.images.unreadable

    def gather(
        self, rows: np.ndarray, pool: Executor, seeds: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Photos and caricatures stacked, uint8 [b, R, R, 2 C], and labels int32 [b] of rows [b].

        `seeds` [b] asks for the training form: each seed decides its row's photo and caricature,
        and the crop, the flip and the preprocessing of either. Without seeds: the first photo and
        the first caricature, with config.data.preprocess_validation.
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
        sides = [self._read(chosen[:, k], pool, own[k]) for k in range(2)]
        return np.concatenate(sides, axis=3), self.labels[rows]

    def _read(self, rows: np.ndarray, pool: Executor, seeds: np.ndarray | None) -> np.ndarray:
        images, _ = self.images.gather(rows, pool, seeds)
        pipeline = self._fixed if seeds is None else self._train
        if not pipeline:
            return images
        if seeds is None:
            return preprocess.run(pipeline, images, np.random.default_rng(0))  # nothing is drawn
        # each image draws from its own seed: the number of processes changes nothing
        draws = (np.random.default_rng((int(seed), 2)) for seed in seeds)
        pairs = zip(images, draws, strict=True)
        return np.concatenate([preprocess.run(pipeline, image[None], rng) for image, rng in pairs])

    def truth(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """{"landmarks", "displacement"} float32 [n, L, 2] of the photos of these rows [n] as
        `gather` delivers them without seeds: (y, x) pixels, and how far each landmark moves.

        Raises UserError where the source does not know.
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
    """What there is, for the console: "100 train identities (600 photos, 600 caricatures) + …"."""
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
    """Who is left out and why, to follow the rest of the line; "" for nobody."""
    names = [*dict.fromkeys(name for part in splits.values() for name in part.left_out)]
    if not names:
        return ""
    count = f"{len(names):,} identities are" if len(names) > 1 else "1 identity is"
    return f"; {count} left out (config.data.on_error=skip): {listing.some(names)}"

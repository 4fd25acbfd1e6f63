"""The identities of a data set: which images show them, and how they are split.

A file belongs to an identity because of its folder, or because of a list (`identity_lists`). No
identity is both in training and held out.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from gan_jax.data import identity_lists
from gan_jax.data.config import Options
from gan_jax.data.sources import face_folders, listing
from gan_jax.data.sources.arrays import Opened, Source
from gan_jax.data.sources.decode import UnreadableError
from gan_jax.data.sources.folders import FileSource, named, remarks_of, split_folders
from gan_jax.errors import UserError


@dataclass(frozen=True)
class Gallery:
    """Identities, in the order of their labels."""

    source: Source
    names: tuple[str, ...]
    marks: tuple[frozenset[str], ...]  # what identifies each one: folders, files, labels
    photos: tuple[tuple[int, ...], ...]  # the numbers of each one's images in the source
    caricatures: tuple[tuple[int, ...], ...]
    left_out: tuple[str, ...] = ()  # people missing a photo or a caricature, and which

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
        where: the config key and value that name the source, for messages.
        marks: what identifies each key; None: its name.
        skip: whether identities without a readable photo or caricature are left out.

    Raises UserError for identities without a photo or without a caricature; with `skip` only if
    nobody is left.
    """
    grouped = _grouped(keys, photos)
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
    remaining = {key: groups for key, groups in grouped.items() if key not in lacking}
    left_out = tuple(lacking[key] for key in sorted(lacking))
    if not remaining:
        raise UserError(
            f"{where}: none of {len(grouped)} identities has a photo and a caricature that can be "
            f"read: {listing.some([*left_out])}; config.data.pairs=identities needs both of each"
        )
    return Gallery(
        source,
        tuple(names[key] for key in remaining),
        tuple(frozenset(marks[key] if marks else {names[key]}) for key in remaining),
        *(tuple(map(tuple, part)) for part in zip(*remaining.values(), strict=True)),
        left_out,
    )


def _grouped(keys: Sequence, photos: Sequence[bool]) -> dict:
    """{key: (numbers of its photos, of its caricatures)}, in the order of the sorted keys."""
    grouped = {key: ([], []) for key in sorted(set(keys))}
    for i, (key, photo) in enumerate(zip(keys, photos, strict=True)):
        grouped[key][0 if photo else 1].append(i)
    return grouped


def _without_readable(source: Source, grouped: dict) -> dict:
    """{key: "photo" or "caricature"} for the identities with no readable image of that kind.

    Computed images can always be read. The first readable image of a group is enough, so the others
    are not opened.
    """
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
    """The identities of each split, {"train": …, "validation": …}, and remarks on their files.

    `opened` is a source whose names say who is shown; None means the files of config.data.path.

    Raises UserError for an identity in both splits, and as `gallery` and the lists do.
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
    _check_apart(train, rest)
    count = len(train)
    order = np.random.default_rng(options.split_seed).permutation(count)
    held_out = 0
    if not rest:
        if options.validation_fraction > 0 and count > 1:
            held_out = min(max(1, round(count * options.validation_fraction)), count - 1)
        rest = [train.only(sorted(order[:held_out]))]
    chosen = order[held_out:]
    if options.limit:
        chosen = chosen[: options.limit]
    return {"train": train.only(sorted(chosen)), "validation": rest[0]}, remarks


def _check_apart(train: Gallery, others: Sequence[Gallery]) -> None:
    """Raises UserError for an identity that is both in training and in another part."""
    seen = frozenset().union(*train.marks)
    both = [zip(part.names, part.marks, strict=True) for part in others]
    shared = sorted(name for part in both for name, marks in part if marks & seen)
    if shared:
        raise UserError(
            f"config.data.pairs=identities: {len(shared)} identities are both in training and in "
            f"validation: {listing.some(shared)}; keep each in one of them"
        )


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
    """The identities of a list: its labels if it has any, else its folders.

    A label gets the name of its folder if it has exactly one, in which there is no other label.
    Labels with folders of their own (not in `several`) are identified by these, since every list
    may number its labels from 0.
    """
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

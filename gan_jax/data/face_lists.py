"""Which files show whom: lists of faces, and the two layouts of folders of them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gan_jax.data.listing import Files
from gan_jax.errors import UserError

KINDS = {"P": True, "C": False}  # first letter of a file's name → whether it is a photo
PHOTOS, CARICATURES = "photos", "caricatures"  # folders of the other layout
LAYOUTS = (
    "<identity>/P….jpg (photo) and <identity>/C….jpg (caricature), or photos/<identity>/….jpg and "
    "caricatures/<identity>/….jpg"
)


@dataclass(frozen=True)
class FaceList:
    """The lines of a list of faces.

    Attributes:
        paths: as they are in the list.
        lines: the number of each one's line, from 1.
        labels: int32 [N], the list's own unchanged, or the place of the file's folder among all
            folders in sorted order.
        photos: bool [N], whether the file's name starts with P.
        labelled: whether the list brings the labels.
    """

    paths: tuple[str, ...]
    lines: tuple[int, ...]
    labels: np.ndarray
    photos: np.ndarray
    labelled: bool

    @property
    def num_classes(self) -> int:
        """How many different labels there are."""
        return len(np.unique(self.labels))


def parse_list(text: str, where: str) -> FaceList:
    """Lines `path[ label]`, separated by one space or more; empty lines do not count.

    Raises UserError, naming `where` and the line, for anything else, for labels on some of the
    lines only, and for a list without a line.
    """
    lines, paths, labels = [], [], []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        whole = len(words) == 2 and words[1].isascii() and words[1].isdigit()
        if len(words) > 1 and not (whole and int(words[1]) < 2**31):
            raise UserError(
                f"{where}: line {number} is {line.strip()!r}; accepted is a path without spaces, "
                "and after a space a whole number for its identity, or none"
            )
        lines.append(number)
        paths.append(words[0])
        labels.append(int(words[1]) if whole else None)
    if not paths:
        raise UserError(f"{where}: holds no line; it wants one path of an image on each")
    missing = [line for line, label in zip(lines, labels, strict=True) if label is None]
    if missing and len(missing) < len(lines):
        raise UserError(
            f"{where}: line {missing[0]} has no label and others have one; give all lines one, or "
            "none"
        )
    if missing:
        folders = [path.rpartition("/")[0] for path in paths]
        number_of = {folder: i for i, folder in enumerate(sorted(set(folders)))}
        labels = [number_of[folder] for folder in folders]
    photos = np.array([path.rpartition("/")[2].startswith("P") for path in paths])
    return FaceList(
        tuple(paths), tuple(lines), np.array(labels, np.int32), photos, labelled=not missing
    )


def read_list(path: str, key: str, files: Files) -> FaceList:
    """The list in a file, which the config key `key` names; its paths are those of `files`.

    Raises UserError as `parse_list` does, and for a path that is not there or comes twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{key}={path}: cannot be read as text ({error})") from error
    found = parse_list(text, f"{key}={path}")
    known, seen = set(files.names()), {}
    for line, name in zip(found.lines, found.paths, strict=True):
        if name not in known:
            raise UserError(
                f"{key}={path}: line {line} names {name}, which is not in config.data.path="
                f"{files.root}; its paths start from there"
            )
        if name in seen:
            raise UserError(f"{key}={path}: lines {seen[name]} and {line} both name {name}")
        seen[name] = line
    return found


def is_plain(files: Files) -> bool:
    """Whether photos and caricatures lie in folders of their own."""
    return files.has_folder(PHOTOS) and files.has_folder(CARICATURES)


def kinds(paths: list[str], plain: bool, where: str) -> list[tuple[str, bool]]:
    """(the folder that stands for the identity, whether it is a photo) of each path.

    Raises UserError, naming `where`, for paths that are neither photos nor caricatures.
    """
    found, strays = [], []
    for path in paths:
        folder, _, base = path.rpartition("/")
        if plain:
            kind, _, identity = folder.partition("/")
            found.append((identity, kind == PHOTOS))
            known = kind in (PHOTOS, CARICATURES)
        else:
            found.append((folder, KINDS.get(base[:1], False)))
            known = base[:1] in KINDS
        if not known:
            strays.append(path)
    if strays:
        more = f" and {len(strays) - 1} more are" if len(strays) > 1 else " is"
        raise UserError(
            f"{where}: {strays[0]}{more} neither a photo nor a caricature by name; accepted: "
            f"{LAYOUTS}"
        )
    return found

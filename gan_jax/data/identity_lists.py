"""Which identity each file shows, by lists of faces and by the two layouts of folders of faces."""

import re
from dataclasses import dataclass

import numpy as np

from gan_jax.data.sources import face_folders
from gan_jax.data.sources.face_folders import CARICATURES, PHOTOS
from gan_jax.data.sources.listing import Files
from gan_jax.errors import UserError, short
from gan_jax.files import read_text, reason

LONGEST_LINE = 10_000  # characters
KINDS = {"P": True, "C": False}  # first letter of a file's name → whether it is a photo
LAYOUTS = (
    "<identity>/P….jpg (photo) and <identity>/C….jpg (caricature), or photos/<identity>/….jpg and "
    "caricatures/<identity>/….jpg"
)
# a path, a label, a kind, with spaces or a comma between them; anything else belongs to the path
_GAP = r"(?:\s*,\s*|\s+)"
_LINE = re.compile(
    rf"(\S+?)(?:{_GAP}(\d{{1,10}}))?(?:{_GAP}(photo|caricature|p|c))?", re.ASCII | re.I
)
_FORM = (
    "a path without spaces, after it a whole number for its identity or none, after that photo or "
    "caricature (or P or C) or neither, with spaces or a comma between them"
)


@dataclass(frozen=True)
class FaceList:
    """The lines of a list of faces.

    Attributes:
        paths: the paths as written in the list.
        lines: the number of the line of each path, from 1.
        labels: int32 [N], the list's own, or if it has none the place of the file's folder among
            all folders in sorted order.
        photos: bool [N], whether the list says photo, or if it does not say, whether the file's
            name starts with P.
        labelled: whether the list has labels.
        told: whether every line of the list says if it is a photo or a caricature.
    """

    paths: tuple[str, ...]
    lines: tuple[int, ...]
    labels: np.ndarray
    photos: np.ndarray
    labelled: bool
    told: bool

    @property
    def num_classes(self) -> int:
        """How many different labels there are."""
        return len(np.unique(self.labels))


def parse_list(text: str, where: str) -> FaceList:
    """Lines `path[ label][ photo|caricature]`, separated by spaces or a comma.

    P and C may be written for the kinds, in upper or lower case. Empty lines are ignored.

    Raises a UserError that names `where` and the line for anything else, for labels or kinds on
    only some of the lines, and for an empty list.
    """
    lines, found = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip()) if len(line) <= LONGEST_LINE else None
        if match is None or (match[2] and int(match[2]) >= 2**31):
            shown = short(repr(line.strip()))
            raise UserError(f"{where}: line {number} is {shown}; accepted is {_FORM}")
        lines.append(number)
        found.append(match.groups())
    if not lines:
        raise UserError(f"{where}: holds no line; write the path of an image on each line")
    paths, labels, kinds = zip(*found, strict=True)
    labelled = _all_or_none(lines, labels, "label", where)
    told = _all_or_none(lines, kinds, "kind (photo or caricature)", where)
    if not labelled:
        folders = [path.rpartition("/")[0] for path in paths]
        number_of = {folder: i for i, folder in enumerate(sorted(set(folders)))}
        labels = [number_of[folder] for folder in folders]
    first = [kind.upper() for kind in kinds] if told else [p.rpartition("/")[2] for p in paths]
    photos = np.array([letter.startswith("P") for letter in first])
    numbers = np.array([int(label) for label in labels], np.int32)
    return FaceList(paths, tuple(lines), numbers, photos, labelled, told)


def _all_or_none(lines: list[int], values: tuple[str | None, ...], what: str, where: str) -> bool:
    """Whether the lines have a value. Raises UserError if only some of them have one."""
    missing = [line for line, value in zip(lines, values, strict=True) if value is None]
    if missing and len(missing) < len(lines):
        raise UserError(
            f"{where}: line {missing[0]} has no {what} and others have one; give all lines one, or "
            "none"
        )
    return not missing


def read_list(path: str, key: str, files: Files) -> FaceList:
    """The list in a file, which the config key `key` names; its paths must be among `files`.

    Raises UserError as `parse_list` does, and for a path that does not exist or is listed twice.
    """
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{key}={path}: cannot be read as text ({reason(error)})") from error
    found = parse_list(text, f"{key}={path}")
    known, seen = set(files.names()), {}
    for line, name in zip(found.lines, found.paths, strict=True):
        if name not in known:
            raise UserError(
                f"{key}={path}: line {line} names {short(name)}, which is not in config.data.path="
                f"{files.root}; its paths start from there"
            )
        if name in seen:
            raise UserError(f"{key}={path}: lines {seen[name]} and {line} both name {short(name)}")
        seen[name] = line
    return found


def kinds(paths: list[str], plain: bool, where: str, also: str = "") -> list[tuple[str, bool]]:
    """(folder of the identity, whether it is a photo) for each path.

    `plain` says that there are folders `photos` and `caricatures` at the top. Raises a UserError
    that names `where` for paths that are neither photos nor caricatures; `also` is added to the
    message.
    """
    found, strays = [], []
    for path in paths:
        folder, _, base = path.rpartition("/")
        if plain:
            kind, identity = face_folders.parted(path)
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
            f"{LAYOUTS}{also}"
        )
    return found


def sides(listed: FaceList, plain: bool, where: str) -> list[tuple[str, bool]]:
    """(folder of the identity, whether it is a photo) for each path of a list.

    Kinds come from the list, or from `kinds` if the list has none. Raises a UserError that names
    the line for a kind that contradicts the folder, `photos` or `caricatures`, and as `kinds` does.
    """
    if not listed.told:
        also = ", or photo or caricature at the end of every line of the list"
        return kinds(list(listed.paths), plain, where, also)
    found = []
    for line, path, photo in zip(listed.lines, listed.paths, listed.photos.tolist(), strict=True):
        kind, identity = face_folders.parted(path)
        apart = plain and kind in (PHOTOS, CARICATURES)
        if apart and photo != (kind == PHOTOS):
            said = "photo" if photo else "caricature"
            raise UserError(
                f"{where}: line {line} calls {path} a {said}, and it lies in the folder of {kind}; "
                "correct the one or the other"
            )
        found.append((identity if apart else path.rpartition("/")[0], photo))
    return found

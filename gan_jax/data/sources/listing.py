"""The images of a directory or zip, in their order, and their classes.

The order and the prefix classes are those of guided-diffusion (`image_datasets.py`): the entries of
a directory are sorted by name, directories are expanded in place, and classes are numbered over the
sorted set of prefixes. Folders that are classes are numbered in the same order, or in numerical
order if all their names are numbers.
"""

import os
import reprlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from gan_jax.data.published.places import advice
from gan_jax.data.sources import face_folders, tars
from gan_jax.data.sources.decode import EXTENSIONS
from gan_jax.data.sources.places import Directory, Files, Zip, extension
from gan_jax.errors import UserError, short
from gan_jax.files import LARGEST_TEXT, parse_json, reason

MOST_NAMED = 10  # in a message
MOST_CLASSES = 100_000  # numbers from here on are not classes
ARCHIVES = {".zip": Zip, tars.ENDING: tars.Tar}
LABEL_FILE = "dataset.json"  # StyleGAN's: {"labels": [["path", class], …]}
NO_IMAGES = {"txt", "json", "csv", "tsv", "xml", "md", "html", "yaml", "yml", "npz", "npy", "mat"}


def open_files(path: str, key: str) -> Files:
    """Opens the directory, .zip or .tar that the config key `key` names; UserError if it is none.

    If all images of an archive lie in one folder, that folder is opened, and so on inside it.
    """
    root = Path(path)
    if os.path.isdir(root):  # which is False also for names that no file can have
        return Directory(root)
    if os.path.isfile(root) and root.suffix.lower() in ARCHIVES:
        files = ARCHIVES[root.suffix.lower()](root)
        while len(tops := _tops(files)) == 1 and tops != {""}:
            files = files.folder(*tops)
        return files
    state = (
        "is neither a directory nor a .zip or .tar" if os.path.lexists(root) else "does not exist"
    )
    raise UserError(
        f"{key}={path}: {state}; give a directory, a .zip or a .tar of images{advice(str(path))}"
    )


def _tops(files: Files) -> set[str]:
    """The first folders of the images; "" for images outside all folders."""
    return {name.partition("/")[0] if "/" in name else "" for name in files.images}


def image_names(
    files: Files, keys: str = "config.data.path", extensions: tuple[str, ...] = EXTENSIONS
) -> list[str]:
    """The images among the files, in order; `left_out` counts the other files.

    `keys` are the settings that the message asks to check. Raises UserError if there are no images.
    """
    names = [name for name in files.images if extension(name) in extensions]
    if not names:
        accepted = " ".join(f".{extension}" for extension in EXTENSIONS)
        others = left_out(files, names)
        raise UserError(
            f"{files.root}: holds no image ({others or 'nothing at all'}); accepted: {accepted}, "
            f"in sub-folders too; check {keys}"
        )
    return sorted(names, key=lambda name: name.split("/"))


def left_out(files: Files, names: list[str]) -> str:
    """The files that are not among the images `names`, counted by kind: ".txt (3), hidden (1)"."""
    taken = set(names)
    others = Counter(files.found.passed_over)
    for name in files.names():
        if name not in taken and name.rpartition("/")[2] != LABEL_FILE:
            kind = f".{extension(name)}" if extension(name) else "without an ending"
            others["contact sheets" if name in files.sheets else kind] += 1
    return some([f"{kind} ({count:,})" for kind, count in others.most_common() if count])


def some(names: list[str]) -> str:
    """The first names and the number of the others, for a message."""
    more = f", and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(map(short, names[:MOST_NAMED])) + more


def read_label_file(files: Files) -> dict[str, int] | None:
    """dataset.json as {path: class}; None if it is absent or has no labels."""
    if not files.has_file(LABEL_FILE):
        return None
    where = f"{files.root}/{LABEL_FILE}"
    try:
        pairs = parse_json(files.read(LABEL_FILE, LARGEST_TEXT))["labels"]
        if pairs is None:
            return None
        labels = {_path(name): label for name, label in pairs}
    except Exception as error:  # of the file, its zip, its JSON, or another layout
        raise UserError(
            f"{where}: cannot be read ({type(error).__name__}: {reason(error)}); accepted: "
            '{"labels": [["path", class], …]}; or set config.data.labels=folder or none, which do '
            "not read it"
        ) from error
    for name, label in labels.items():
        if type(label) is not int or not 0 <= label < MOST_CLASSES:
            raise UserError(
                f"{where}: {short(name)} has class {reprlib.repr(label)}; accepted: integers from "
                f"0 to {MOST_CLASSES - 1}"
            )
    return labels


def _path(name: object) -> str:
    if not isinstance(name, str):
        raise ValueError(f"a {type(name).__name__} is no path")
    return name.replace("\\", "/")


def label_table(files: Files, above: bool = True) -> tuple[dict[str, int], str] | None:
    """({path below `files`: class}, the label file) from the nearest dataset.json with labels for
    this place, in the place itself or (if `above`) in a folder above it; None if there is none.

    The paths in the file start from the folder in which it lies.
    """
    place = files
    while place is not None:
        below = files.root.relative_to(place.root).as_posix()
        inside = "" if below == "." else f"{below}/"
        found = read_label_file(place) or {}
        own = {n[len(inside) :]: k for n, k in found.items() if n.startswith(inside)}
        if own:
            return own, f"{place.root}/{LABEL_FILE}"
        place = place.above if above else None
    return None


def are_numbers(names: Sequence[str]) -> bool:
    """Whether all names are numbers, and there is at least one."""
    return bool(names) and all(name.isascii() and name.isdigit() for name in names)


def only_count(names: Sequence[str]) -> bool:
    """Whether names are 0, 1, …, so that the classes have no names of their own."""
    return tuple(names) == tuple(map(str, range(len(names))))


def prefix(name: str) -> str:
    """The part of the file name before the first underscore (all of it if there is none)."""
    return name.rpartition("/")[2].split("_")[0]


def classes(
    parts: list[tuple[Files, list[str]]], policy: str, first: bool = False
) -> tuple[list[list[int]], tuple[str, ...], str]:
    """Class numbers of several lists of images, numbered over all of them together.

    Args:
        parts: (where, image names) of each split.
        policy: data.labels: none, auto, folder, prefix or json.
        first: whether data.reading=first: names of folders are always sorted as text, empty folders
            are not errors, and a label file is only looked for in the place itself.

    Returns the class of every image by part, the class names (() without labels), and a description
    of where the labels came from.

    Raises UserError for images without a class and for folders of a class without an image.
    """
    unlabelled = [[0] * len(names) for _, names in parts]
    if policy == "none":
        return unlabelled, (), "none"
    if policy == "prefix":
        return *_number(parts, prefix, as_text=True), "file name prefixes"
    read = policy in ("auto", "json")
    tables = [label_table(files, not first) if read else None for files, _ in parts]
    if policy == "json" or any(table is not None for table in tables):
        return *_from_tables(parts, tables), LABEL_FILE
    if policy == "folder" or any("/" in name for _, names in parts for name in names):
        for files, names in parts:
            _check_strays(files, names)
        class_of, origin = face_folders.class_rule(parts)
        below = face_folders.BOTH if origin == face_folders.BELOW else ()
        for files, names in parts if not first else ():
            check_folders(files, names, below)
        return *_number(parts, class_of, as_text=first), origin
    return unlabelled, (), "none"


def _check_strays(files: Files, names: list[str]) -> None:
    """Raises UserError for an image outside the folders of classes."""
    stray = next((name for name in names if "/" not in name), None)
    if stray is not None:
        raise UserError(
            f"{files.root}/{stray}: lies in no sub-folder, so it has no class; put every "
            "image into the sub-folder of its class, or set config.data.labels=none"
            + (
                f", or config.data.path to the folder of {files.above.root} to train on alone"
                if files.above
                else ""
            )
        )


def check_folders(files: Files, names: list[str], below: tuple[str, ...] = ()) -> None:
    """Raises UserError for a folder that would be a class but holds none of the images `names`.

    A folder with nothing but texts and tables, such as annotations, is not a class. If `below` is
    given, classes are the folders inside these folders (of which empty ones are not noticed).
    """
    folders, parts = files.found.folders, 1
    if below:
        deeper = [name.split("/") for name in files.names() if name.count("/") > 1]
        folders = {"/".join(name[:2]) for name in deeper if name[0].lower() in below}
        parts = 2
    for folder in sorted(folders - {"/".join(name.split("/")[:parts]) for name in names}):
        held = [name for name in files.names() if name.startswith(f"{folder}/")]
        if held and all(extension(n) in NO_IMAGES or n in files.sheets for n in held):
            continue
        kinds = Counter(f".{extension(name)}" if extension(name) else "others" for name in held)
        holds = some([f"{kind} ({count:,})" for kind, count in kinds.most_common()])
        raise UserError(
            f"{files.root}/{folder}: would be a class and holds no image that is read "
            f"({holds or 'no file at all'}); convert them to one of "
            f"{', '.join(EXTENSIONS)}, remove the folder, or set config.data.labels=none"
        )


def _number(parts, class_of, as_text: bool) -> tuple[list[list[int]], tuple[str, ...]]:
    found = sorted({class_of(name) for _, names in parts for name in names})
    if not as_text and are_numbers(found):
        found.sort(key=int)
    number = {name: i for i, name in enumerate(found)}
    return [[number[class_of(name)] for name in names] for _, names in parts], tuple(found)


def _from_tables(parts, tables) -> tuple[list[list[int]], tuple[str, ...]]:
    labels = []
    for (files, names), found in zip(parts, tables, strict=True):
        if found is None:
            raise UserError(
                f"config.data.labels: {files.root}/{LABEL_FILE} is absent or holds no labels; "
                'add it ({"labels": [["path", class], …]}), there or in a folder above, or set '
                "config.data.labels=none"
            )
        table, where = found
        missing = next((name for name in names if name not in table), None)
        if missing is not None:
            raise UserError(
                f"{where}: has no class for {missing} of {files.root}; add it, or set "
                "config.data.labels=none"
            )
        labels.append([table[name] for name in names])
    return labels, tuple(str(c) for c in range(max(map(max, labels)) + 1))

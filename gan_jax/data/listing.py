"""Which images a directory or zip holds, in which order, and of which class each one is.

Order and prefix classes are guided-diffusion's (`image_datasets.py`): the entries of a directory
sorted by name, directories expanded in place, classes numbered over the sorted set of prefixes.
"""

import json
import os
import threading
import zipfile
from pathlib import Path
from typing import BinaryIO

from gan_jax.errors import UserError

EXTENSIONS = ("jpg", "jpeg", "png", "gif")
MOST_NAMED = 10  # in a message
LABEL_FILE = "dataset.json"  # StyleGAN's: {"labels": [["path", class], …]}


class Directory:
    """The files below a directory, by their path from it ("a/b.png")."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        found = []
        for folder, _, files in os.walk(self.root, followlinks=True):
            inside = Path(folder).relative_to(self.root)
            found += [(inside / file).as_posix() for file in files]
        return found

    def has_folder(self, name: str) -> bool:
        return (self.root / name).is_dir()

    def folder(self, name: str) -> "Directory":
        return Directory(self.root / name)

    def open(self, name: str) -> BinaryIO:
        return open(self.root / name, "rb")


class Zip:
    """The files of a zip, by their path; a single folder around everything is looked through."""

    def __init__(self, root: Path, prefix: str = "") -> None:
        self.archive = root
        self.handles = threading.local()  # reading moves a handle's position: one per thread
        try:
            with zipfile.ZipFile(root) as archive:
                self.members = [
                    name
                    for name in archive.namelist()
                    if not name.endswith("/") and not name.startswith("__MACOSX/")
                ]
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(f"{root}: not a readable zip ({error}); make it again") from error
        tops = {name.partition("/")[0] for name in self.members}
        if not prefix and len(tops) == 1 and all("/" in name for name in self.members):
            prefix = f"{tops.pop()}/"
        self.prefix = prefix
        self.root = root / prefix

    def names(self) -> list[str]:
        start = len(self.prefix)
        return [name[start:] for name in self.members if name.startswith(self.prefix)]

    def has_folder(self, name: str) -> bool:
        return any(member.startswith(f"{self.prefix}{name}/") for member in self.members)

    def folder(self, name: str) -> "Zip":
        return Zip(self.archive, f"{self.prefix}{name}/")

    def open(self, name: str) -> BinaryIO:
        if not hasattr(self.handles, "archive"):
            self.handles.archive = zipfile.ZipFile(self.archive)
        return self.handles.archive.open(self.prefix + name)


Files = Directory | Zip


def open_files(path: str, key: str) -> Files:
    """Opens the directory or .zip that the config key `key` names; UserError if it is neither."""
    root = Path(path)
    if root.is_dir():
        return Directory(root)
    if root.is_file() and root.suffix.lower() == ".zip":
        return Zip(root)
    state = "is neither a directory nor a .zip" if root.exists() else "does not exist"
    raise UserError(f"{key}={path}: {state}; give a directory or a .zip of images")


def image_names(
    files: Files, keys: str = "config.data.path and config.data.validation_path"
) -> list[str]:
    """The images among the files, in order. Names that start with a dot are not looked at.

    `keys` are those to check, for the error.

    Raises UserError when there is none.
    """
    every = files.names()
    names = [
        name
        for name in every
        if "." in name.rpartition("/")[2]
        and name.rpartition(".")[2].lower() in EXTENSIONS
        and not any(part.startswith(".") for part in name.split("/"))
    ]
    if not names:
        accepted = " ".join(f".{extension}" for extension in EXTENSIONS)
        raise UserError(
            f"{files.root}: holds no image ({len(every)} other files); accepted: {accepted}, in "
            f"sub-folders too; check {keys}"
        )
    return sorted(names, key=lambda name: name.split("/"))


def some(names: list[str]) -> str:
    """The first names, and how many more there are, for a message."""
    more = f", and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def read_label_file(files: Files) -> dict[str, int] | None:
    """dataset.json as {path: class}; None if it is absent or says that there are no labels."""
    if LABEL_FILE not in files.names():
        return None
    where = f"{files.root}/{LABEL_FILE}"
    try:
        with files.open(LABEL_FILE) as file:
            pairs = json.load(file)["labels"]
        if pairs is None:
            return None
        labels = {str(name): label for name, label in pairs}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{where}: cannot be read ({error!r}); accepted: {{"labels": [["path", class], …]}}'
        ) from error
    for name, label in labels.items():
        if type(label) is not int or label < 0:
            raise UserError(f"{where}: {name} has class {label!r}; accepted: integers from 0")
    return labels


def prefix(name: str) -> str:
    """The part of the file name before the first underscore (all of it if there is none)."""
    return name.rpartition("/")[2].split("_")[0]


def classes(
    parts: list[tuple[Files, list[str]]], policy: str
) -> tuple[list[list[int]], tuple[str, ...], str]:
    """Class numbers of several lists of images, numbered over all of them together.

    Args:
        parts: (where, image names) of each split.
        policy: data.labels: none, auto, folder, prefix or json.

    Returns the class of every image by part, the class names (() without labels), and in words
    where the labels came from.
    """
    unlabelled = [[0] * len(names) for _, names in parts]
    if policy == "none":
        return unlabelled, (), "none"
    if policy == "prefix":
        return *_number(parts, prefix), "file name prefixes"
    tables = [read_label_file(files) if policy in ("auto", "json") else None for files, _ in parts]
    if policy == "json" or any(table is not None for table in tables):
        return *_from_tables(parts, tables), LABEL_FILE
    if policy == "folder" or any("/" in name for _, names in parts for name in names):
        for files, names in parts:
            stray = next((name for name in names if "/" not in name), None)
            if stray is not None:
                raise UserError(
                    f"{files.root}/{stray}: lies in no sub-folder, so it has no class; put every "
                    "image into the sub-folder of its class, or set config.data.labels=none"
                )
        return *_number(parts, lambda name: name.partition("/")[0]), "sub-folders"
    return unlabelled, (), "none"


def _number(parts, class_of) -> tuple[list[list[int]], tuple[str, ...]]:
    found = tuple(sorted({class_of(name) for _, names in parts for name in names}))
    number = {name: i for i, name in enumerate(found)}
    return [[number[class_of(name)] for name in names] for _, names in parts], found


def _from_tables(parts, tables) -> tuple[list[list[int]], tuple[str, ...]]:
    for (files, names), table in zip(parts, tables, strict=True):
        if table is None:
            raise UserError(
                f"config.data.labels: {files.root}/{LABEL_FILE} is absent or holds no labels; "
                "add it "
                '({"labels": [["path", class], …]}), or set config.data.labels=none'
            )
        missing = next((name for name in names if name not in table), None)
        if missing is not None:
            raise UserError(
                f"{files.root}/{LABEL_FILE}: has no class for {missing}; add it, or set "
                "config.data.labels=none"
            )
    labels = [[table[n] for n in names] for (_, names), table in zip(parts, tables, strict=True)]
    return labels, tuple(str(c) for c in range(max(map(max, labels)) + 1))

"""Directories and zips of image files: which files they hold, and which entries are left out."""

import abc
import functools
import io
import os
import re
import stat
import threading
import zipfile
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from gan_jax import files, zips
from gan_jax.data.sources import decode
from gan_jax.data.sources.decode import EXTENSIONS
from gan_jax.errors import UserError

# folders that operating systems and network storage make by themselves, in lower case
SYSTEM_FOLDERS = {
    "@eadir", "@recycle", "@tmp", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin",
    "system volume information", "lost+found", "__macosx", "__pycache__",
}  # fmt: skip
HIDDEN, LINKS, BROKEN, SPECIAL, LOCKED, TWICE, OUTSIDE = (
    "hidden",
    "links to folders read already",
    "broken links",
    "pipes, sockets or devices",
    "folders without permission",
    "names that come twice in the archive",
    "names that lead out of the archive or are too long",
)
DEEPEST, LONGEST_PATH = 64, 4096  # folders and characters of a path in a zip
# sheets without a mark, from earlier revisions, and videos, by their usual names
UNMARKED_SHEETS = (
    "contact_sheet.png", "grid.png", "interpolation.webp", "timelapse.webp", "interpolation.gif",
    "timelapse.gif",
)  # fmt: skip
SHEET_FOLDER = "sheets"
# the names of sheets with a mark; only files with such names are opened to look for the mark
MARKED_SHEETS = re.compile(
    rf"(.*/)?({SHEET_FOLDER}/.*|reals|neighbours|curves|bound|sweep|styles|overlay|\d+_(raw|ema[\w.+-]*))\.png"
)
UNIX = 3  # the code in a zip for a system whose attributes of a member hold a file's mode


@dataclass
class Found:
    """The contents of a place.

    Attributes:
        names: the paths ("a/b.png") of all regular files, without hidden ones and system folders.
        folders: the folders directly in the place, empty ones included.
        passed_over: how many other entries there are, by kind.
        real: (device, inode) of every directory that was read; empty for a zip.
        linked: whether some of the files are links.
    """

    names: list[str] = field(default_factory=list)
    folders: set[str] = field(default_factory=set)
    passed_over: Counter = field(default_factory=Counter)
    real: set[tuple[int, int]] = field(default_factory=set)
    linked: bool = False


def extension(name: str) -> str:
    """The ending of a file's name without the dot, in lower case; "" if there is none."""
    base = name.rpartition("/")[2]
    return base.rpartition(".")[2].lower() if "." in base else ""


def is_image(name: str) -> bool:
    """Whether a file's name has the ending of an image."""
    return extension(name) in EXTENSIONS


def is_system(name: str) -> bool:
    """Whether a folder of this name belongs to the system."""
    return name.lower() in SYSTEM_FOLDERS


class _Place:
    """What directories and zips have in common: finding images, without sheets of images."""

    found: Found

    def names(self) -> list[str]:
        return self.found.names

    @functools.cached_property
    def sheets(self) -> frozenset[str]:
        """The files that are sheets written by gan_jax, pictures of many images."""
        return frozenset(name for name in self.names() if self._is_sheet(name))

    @functools.cached_property
    def images(self) -> list[str]:
        """The files whose names are those of images, without sheets, in no particular order."""
        return [name for name in self.names() if is_image(name) and name not in self.sheets]

    def _is_sheet(self, name: str) -> bool:
        if name.rpartition("/")[2] in UNMARKED_SHEETS:
            return True
        marked = MARKED_SHEETS.fullmatch(name)
        return bool(marked) and decode.is_sheet(functools.partial(self.open, name))


class Directory(_Place):
    """The files below a directory, by their path from it ("a/b.png")."""

    def __init__(self, root: Path, above: "Directory | None" = None) -> None:
        """`above` is the place in which this one is a folder."""
        self.root = root
        self.above = above

    @functools.cached_property
    def found(self) -> Found:
        """The contents. Each real folder is read once, by a path without links if there is one: a
        link to a folder that has been read is left out, so loops end."""
        found, links = Found(), []
        self._read(self.root, "", found, links)
        while links:
            path, inside = links.pop(0)
            if _identity(path) in found.real:
                found.passed_over[LINKS] += 1
                continue
            if "/" not in inside:
                found.folders.add(inside)
            self._read(path, f"{inside}/", found, links)
        return found

    def _read(self, root: Path, prefix: str, found: Found, links: list) -> None:
        """Adds what lies below `root` to `found`. Links to folders are not followed, but added to
        `links`."""
        waiting = deque([(root, prefix)])
        while waiting:
            folder, inside = waiting.popleft()
            if _identity(folder) in found.real:  # mounted twice
                found.passed_over[LINKS] += 1
                continue
            found.real.add(_identity(folder))
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError:
                found.passed_over[LOCKED] += 1
                continue
            for entry in entries:
                name, kind = f"{inside}{entry.name}", _kind(entry)
                if kind is not None:
                    found.passed_over[kind] += 1
                elif not entry.is_dir():
                    found.names.append(name)
                    found.linked = found.linked or entry.is_symlink()
                elif entry.is_symlink():
                    links.append((Path(entry.path), name))
                else:
                    waiting.append((Path(entry.path), f"{name}/"))
                    found.folders.update([] if inside else [name])

    def folders(self) -> list[str]:
        """Names of the folders directly inside, without reading their contents."""
        try:
            entries = [e for e in os.scandir(self.root) if _kind(e) is None and e.is_dir()]
        except OSError as error:
            raise UserError(f"{self.root}: cannot be read ({error.strerror})") from error
        return sorted(entry.name for entry in entries)

    def has_folder(self, name: str) -> bool:
        return (self.root / name).is_dir()

    def has_file(self, name: str) -> bool:
        return (self.root / name).is_file()

    def folder(self, name: str) -> "Directory":
        return Directory(self.root / name, self)

    def open(self, name: str) -> BinaryIO:
        return files.opened(self.root / name)

    def opener(self, name: str) -> Callable[[], BinaryIO]:
        """A function that opens a file, in any process."""
        return functools.partial(files.opened, self.root / name)

    def read(self, name: str, most: int) -> bytes:
        """The content of a file. Raises OSError if it has more than `most` bytes."""
        return files.read_bytes(self.root / name, most)


def _identity(folder: Path) -> tuple[int, int]:
    known = folder.stat()
    return known.st_dev, known.st_ino


def _kind(entry: os.DirEntry) -> str | None:
    """The reason why an entry of a directory is left out; None for a folder or a regular file."""
    if entry.name.startswith("."):
        return HIDDEN
    try:
        if entry.is_dir():
            return f"folder {entry.name}" if is_system(entry.name) else None
        if entry.is_file():
            return None
    except OSError:  # a link to itself, or into a folder that nobody may look into
        return BROKEN
    return BROKEN if entry.is_symlink() and not os.path.exists(entry.path) else SPECIAL


class Archive(_Place, abc.ABC):
    """The files of an archive, by their path in it."""

    def __init__(self, archive: Path, prefix: str = "", above: "Archive | None" = None) -> None:
        """`prefix` is the folder of the archive that is opened, with a slash at its end; `above` is
        the place in which it is a folder."""
        self.archive, self.prefix, self.above = archive, prefix, above
        self.root = archive / prefix
        self.handles = threading.local()  # reading moves a handle's position: one per thread
        self._members, self._left_out = (above._members, {}) if above else self._contents()

    @abc.abstractmethod
    def _contents(self) -> tuple[dict[str, Any], dict[str, int]]:
        """What is known of the members by path, and how many are left out, by the reason.

        Raises UserError if the file is not a readable archive.
        """

    @abc.abstractmethod
    def _size(self, member: Any) -> int:
        """The number of bytes of a member."""

    @abc.abstractmethod
    def _is_link(self, member: Any) -> bool:
        """Whether a member is no regular file."""

    @functools.cached_property
    def found(self) -> Found:
        """The contents below the prefix."""
        found = Found(passed_over=Counter(self._left_out))
        for name, member in self._members.items():
            if not name.startswith(self.prefix):
                continue
            name = name[len(self.prefix) :]
            *folders, base = name.split("/")
            system = next((part for part in folders if is_system(part)), None)
            if any(part.startswith(".") for part in (*folders, base)):
                found.passed_over[HIDDEN] += bool(base)
            elif system is not None:
                found.passed_over[f"files in {system}"] += bool(base)
            elif base and self._is_link(member):
                found.passed_over[f"links in the {self.kind}"] += 1
            else:
                found.folders.update(folders[:1])
                if base:
                    found.names.append(name)
        return found

    def folders(self) -> list[str]:
        """Names of the folders directly inside."""
        return sorted(self.found.folders)

    def has_folder(self, name: str) -> bool:
        return any(member.startswith(f"{self.prefix}{name}/") for member in self._members)

    def has_file(self, name: str) -> bool:
        return f"{self.prefix}{name}" in self._members

    def folder(self, name: str) -> "Archive":
        return type(self)(self.archive, f"{self.prefix}{name}/", self)

    def opener(self, name: str) -> Callable[[], BinaryIO]:
        """A function that opens a file, in any process: its content is read now."""
        with self.open(name) as file:
            return functools.partial(io.BytesIO, file.read())

    def read(self, name: str, most: int) -> bytes:
        """The content of a file. Raises ValueError if it has more than `most` bytes."""
        size = self._size(self._members[self.prefix + name])
        if size > most:
            raise ValueError(f"it has {size:,} bytes, and at most {most:,} are accepted")
        with self.open(name) as file:
            return file.read(size)


def clean(name: str) -> str | None:
    """The path of a member of an archive; None if it leads out of the archive or is too long.

    Backslashes, which Windows programs may have written, become slashes; "./a" and "/a" become "a".
    """
    *folders, base = name.replace("\\", "/").split("/")
    name = "/".join([*(part for part in folders if part not in ("", ".")), base])
    parts = name.split("/")
    return None if ".." in parts or len(parts) > DEEPEST or len(name) > LONGEST_PATH else name


class Zip(Archive):
    """The files of a zip."""

    kind = "zip"

    def _contents(self) -> tuple[dict[str, zipfile.ZipInfo], dict[str, int]]:
        try:
            with zips.opened(self.archive) as opened:
                infos = opened.infolist()
        except Exception as error:  # zipfile raises many kinds on damaged files
            raise UserError(
                f"{self.archive}: not a readable zip ({files.reason(error)}); make it again"
            ) from error
        found, left_out = {}, Counter()
        for info in infos:
            name = clean(info.filename)
            if name is None:
                left_out[OUTSIDE] += 1
                continue
            left_out[TWICE] += name in found
            found[name] = info
        return found, +left_out

    def _size(self, member: zipfile.ZipInfo) -> int:
        return member.file_size

    def _is_link(self, member: zipfile.ZipInfo) -> bool:
        mode = member.external_attr >> 16 if member.create_system == UNIX else 0
        return stat.S_IFMT(mode) not in (0, stat.S_IFREG)

    def open(self, name: str) -> BinaryIO:
        if not hasattr(self.handles, "archive"):
            self.handles.archive = zipfile.ZipFile(files.opened(self.archive))
        member = self._members[self.prefix + name]
        zips.check_bomb(member)
        return self.handles.archive.open(member.filename)


Files = Directory | Archive


def share_files(a: Files, b: Files) -> str:
    """A file of `a` that is also one of `b` because of a link; "" if there is none, or for zips."""
    directories = isinstance(a, Directory) and isinstance(b, Directory)
    if not directories or not (a.found.linked or b.found.linked):
        return ""
    known = {_identity(b.root / name) for name in b.names()}
    return next((name for name in a.names() if _identity(a.root / name) in known), "")

"""What this machine's copy of an address holds, and what of it belongs into a bucket."""

import contextlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from gan_jax.buckets.bucket import Found
from gan_jax.files import open_own, parse_json, write_bytes

SUMS = "checksums.json"  # what seals a state
# files that are work in progress, or mean something on one disk only
_UNFINISHED = re.compile(r"\..*\.tmp|\.lock|\.lease|\.lease\.clock|\.claim\.json", re.DOTALL)
_UNFINISHED_STATE = re.compile(r"[0-9]+\.(unfinished|removed|orbax-checkpoint-tmp).*", re.DOTALL)
_STATE = re.compile(r"(?:.*/)?(?:checkpoints|best/stage[0-9]+)/[0-9]+(?=/)")


class Entry(NamedTuple):
    """A file that was copied: the object as it was then, and the file's size and time."""

    found: Found
    size: int
    time: int  # nanoseconds


def state_of(name: str) -> str:
    """The folder of the state that a file belongs to, such as "checkpoints/12"; "" if to none."""
    found = _STATE.match(name)
    return found[0] if found else ""


def newest_step(root: Path) -> int | None:
    """The step of the newest whole state that a run goes on from; None if there is none."""
    seals = (root / "checkpoints").glob(f"*/{SUMS}")
    steps = [seal.parent.name for seal in seals]
    return max((int(step) for step in steps if step.isdecimal()), default=None)


def is_copied(name: str) -> bool:
    """Whether a file is copied: it is complete, and means something on other machines."""
    parts = PurePosixPath(name).parts
    return not (
        any(_UNFINISHED.fullmatch(part) for part in parts)
        or any(_UNFINISHED_STATE.fullmatch(part) for part in parts[:-1])
    )


def whole(objects: dict[str, Found]) -> dict[str, Found]:
    """The objects that a copy consists of: no states of which not everything is there yet."""
    return {
        name: found
        for name, found in objects.items()
        if is_copied(name) and (not (state := state_of(name)) or f"{state}/{SUMS}" in objects)
    }


def files(root: Path) -> dict[str, os.stat_result]:
    """The files of a copy that belong into the bucket, by name; "" is a file at `root` itself.

    States are found before all that they refer to: whatever is found later is at least as new.
    Raises OSError for a folder that cannot be listed: what is in it must not be taken for gone.
    """
    with contextlib.suppress(OSError):
        about = os.stat(root)
        if stat.S_ISREG(about.st_mode):
            return {"": about}
    first = [root / "checkpoints", root / "best"]
    found: dict[str, os.stat_result] = {}
    for top in (*first, root):
        for folder, folders, names in os.walk(top, onerror=_told):
            if top == root:
                folders[:] = [name for name in folders if Path(folder, name) not in first]
            for name in names:
                path = Path(folder, name)
                with contextlib.suppress(FileNotFoundError):
                    about = os.stat(path, follow_symlinks=False)
                    relative = path.relative_to(root).as_posix()
                    if stat.S_ISREG(about.st_mode) and is_copied(relative):
                        found[relative] = about
    return found


def _told(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # a folder that is gone meanwhile has no files
        raise error


class Changing(Exception):
    """A state was removed while it was being set aside."""


@contextlib.contextmanager
def staged(root: Path, names: Iterable[str], folder: Path) -> Iterator[dict[str, Path]]:
    """Yields copies of files, by name, that stay as they are whatever happens to the files.

    States do not change, only go: they get a second name on the disk. Everything else is copied,
    after them. Files that are gone meanwhile are left out; raises Changing if they are a state's.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        found = {}
        for number, name in enumerate(sorted(names, key=lambda name: not state_of(name))):
            target, source = folder / str(number), root / name if name else root
            try:
                if state_of(name):
                    _linked(source, target)
                else:
                    shutil.copyfile(source, target, follow_symlinks=False)
            except FileNotFoundError:
                if state_of(name):
                    raise Changing(name) from None
                continue
            found[name] = target
        yield found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _linked(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # no second names in this file system
        shutil.copyfile(source, target)


def remove(root: Path, name: str) -> None:
    """Removes a file of a copy, and the folders that are empty then."""
    path = root / name if name else root
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        while path != root and (path := path.parent) != root:
            path.rmdir()


class Index:
    """What was copied from or to an address, by name; kept in a file of lines, the last one of a
    name counts. A file that was changed by others, or is damaged, costs a second copying only."""

    def __init__(self, path: Path):
        self._path = path
        self.entries: dict[str, Entry] = {}
        with contextlib.suppress(OSError, ValueError):
            for line in path.read_text().splitlines():
                name, size, tag, *local = parse_json(line)
                self.entries[str(name)] = Entry(Found(int(size), str(tag)), *map(int, local))

    def add(self, name: str, found: Found, about: os.stat_result) -> None:
        """Notes that a file, whose state was `about`, is the same as the object."""
        self.entries[name] = Entry(found, about.st_size, about.st_mtime_ns)
        with contextlib.suppress(OSError), open_own(self._path, "a") as file:
            file.write(self._line(name) + "\n")

    def _line(self, name: str) -> str:
        entry = self.entries[name]
        return json.dumps([name, *entry.found, entry.size, entry.time])

    def drop(self, name: str) -> None:
        """Forgets a file."""
        self.entries.pop(name, None)

    def save(self) -> None:
        """Writes the file anew, without what has been forgotten."""
        text = "".join(f"{self._line(name)}\n" for name in self.entries)
        with contextlib.suppress(OSError):
            write_bytes(self._path, text.encode())

    def is_same(self, name: str, about: os.stat_result | None) -> bool:
        """Whether a file is as it was when it was copied."""
        entry = self.entries.get(name)
        return (
            entry is not None
            and about is not None
            and (entry.size, entry.time) == (about.st_size, about.st_mtime_ns)
        )

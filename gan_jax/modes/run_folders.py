"""Folders for runs that are started without --workdir: runs/00012-dcgan_mnist-labels."""

import contextlib
import itertools
import os
import re
from pathlib import Path

RUNS = Path("runs")  # in the folder in which the command is given
MOST_KEYS = 2  # changed keys that the name of a folder tells


def label(path: str, variant: str, argv: list[str]) -> str:
    """What a run is called: its config, the variants, and up to two keys that the command changes.

    `path` and `variant` are the two parts of --config. The result holds letters, digits, and
    "-", "_", "." and nothing else: "dcgan_mnist-labels-gen.lr_1e-4".
    """
    parts = [Path(path).stem, *variant.split(","), *_changes(argv)[:MOST_KEYS]]
    return "-".join(filter(None, map(_plain, parts)))


def _changes(argv: list[str]) -> list[str]:
    """The changed keys of a command line with their values, such as "gen.lr_1e-4"."""
    found = {}
    for word, following in itertools.pairwise([*argv, ""]):
        if word == "--":
            break
        key, equals, value = word.partition("=")
        if re.match("--?config[.]", key):
            if not equals:
                value = "" if following.startswith("-") else following
            value = os.path.basename(value.rstrip("/"))[:20]  # of a place, its last folder
            found[key] = f"{'.'.join(key.split('.')[1:][-2:])}_{value}".rstrip("_")
    return list(found.values())


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-.")


def new(name: str, parent: Path = RUNS) -> Path:
    """Makes the folder of a new run, whose name begins with the next number of five digits.

    Raises OSError if it cannot be made.
    """
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        numbers = (re.match("([0-9]{5})-", entry.name) for entry in parent.iterdir())
        number = max((int(found[1]) for found in numbers if found), default=-1) + 1
        folder = parent / f"{number:05}-{name}"
        with contextlib.suppress(FileExistsError):  # another process took the number
            folder.mkdir()
            return folder


def newest(parent: Path = RUNS) -> Path | None:
    """The run in `parent` that began last, None if there is none."""
    found = [(file.stat().st_mtime, file.parent) for file in parent.glob("*/config.json")]
    return max(found)[1] if found else None


def remove_unused(folder: Path) -> None:
    """Removes a folder in which no run has begun."""
    with contextlib.suppress(OSError):  # it holds something else, or is gone
        (folder / ".lock").unlink(missing_ok=True)
        folder.rmdir()

"""Writes the images of any source as a .zip that config.data.source=folder reads.

    [train/ or validation/][name of the class/]00000000.jpg

The first folder is there if the set has two splits, the second if it has classes. Images are not
packed once more. Beside FILE.zip lies FILE.report.jsonl, see gan_jax.data.storing.
"""

import zipfile
from collections import Counter
from pathlib import Path

from gan_jax import files
from gan_jax.data import storing
from gan_jax.data.progress import Progress, Silent
from gan_jax.data.sources.arrays import Opened
from gan_jax.data.sources.places import is_system
from gan_jax.data.storing import Split, Wanted, splits_of
from gan_jax.errors import ArgumentError, UserError, short

ENDING = ".zip"
FORBIDDEN = '\\:*?"<>|'  # in names of files on Windows
WHEN = (1980, 1, 1, 0, 0, 0)  # of all members, so that the same images give the same archive


def write(opened: Opened, out: str | Path, wanted: Wanted, progress: Progress = Silent) -> Counter:
    """Writes the set as the archive `out`, whole or not at all; returns how many files got each
    verdict. `progress` makes a bar for each split.

    Raises ArgumentError of the parameter `out` for a file that exists or cannot be written, and
    UserError for a set of which no training image can be read.
    """
    path = check(out)
    folders, splits = _folders(opened.class_names), splits_of(opened, wanted)
    verdicts, report = Counter(), []
    with files.writing(path), files.replacing(path) as unfinished:
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:
            for split in splits:
                top = f"{split.name}/" if len(splits) > 1 else ""
                found = _write(archive, split, top, folders, report, progress)
                if split.name == "train":
                    storing.check_any(len(split.source) - found[storing.UNREADABLE], opened)
                verdicts += found
        files.write_bytes(report_of(path), "".join(report).encode())
    return verdicts


def check(out: str | Path) -> Path:
    """The file `out`, checked before any work is done. Raises ArgumentError of the parameter `out`
    for a file that exists or cannot be written."""
    path = files.check_file(out)
    if path.exists():
        raise ArgumentError("out", f": {path} exists; name another file")
    return path


def report_of(path: Path) -> Path:
    """The report about an archive."""
    return path.with_suffix(".report.jsonl")


def _write(
    archive: zipfile.ZipFile,
    split: Split,
    top: str,
    folders: list[str],
    report: list[str],
    progress: Progress,
) -> Counter:
    """Adds the images of a split below the folder `top`, and the lines about them to `report`."""
    verdicts = Counter()
    bar = progress(len(split.source), "image")
    try:
        for i, made in split.results():
            inside = f"{folders[split.label(i)]}/" if folders else ""
            name = f"{top}{inside}{i:08d}.{storing.ending(made.data)}"
            if made.data:
                archive.writestr(zipfile.ZipInfo(name, WHEN), made.data)
            verdicts[made.verdict] += 1
            report.append(split.line(i, made, name))
            bar(i + 1)
    finally:
        bar.close()
    return verdicts


def _folders(names: tuple[str, ...]) -> list[str]:
    """The name of each class as that of a folder which is neither hidden nor the system's.

    Raises UserError for two classes with the same.
    """
    found: dict[str, str] = {}
    for name in names:
        folder = "".join("_" if c in FORBIDDEN or not c.isprintable() else c for c in name)
        folder = folder.replace("/", "_").strip(" .")[:200]
        folder = f"_{folder}" if not folder or is_system(folder) else folder
        if folder in found:
            raise UserError(
                f"classes {short(found[folder])} and {short(name)} would be one folder in a .zip; "
                "write shards instead: name a folder by --out"
            )
        found[folder] = name
    return list(found)

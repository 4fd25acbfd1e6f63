"""Writes the images of any source as shards, with a verdict about each.

A shard appears when it is complete, and then, in the folder WORK, what is in it. So a call that was
interrupted can be repeated, and goes on after the last complete shard. The index is written last: a
folder without it is not finished.
"""

import contextlib
import errno
import hashlib
import io
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gan_jax import files
from gan_jax.data import storing
from gan_jax.data.progress import Progress, Silent
from gan_jax.data.sources import shards
from gan_jax.data.sources.arrays import Opened
from gan_jax.data.sources.decode import DEEP_BITS
from gan_jax.data.storing import Split, Wanted, splits_of
from gan_jax.errors import ArgumentError

try:
    import fcntl
except ImportError:  # Windows has no fcntl: there, two processes at once go unnoticed
    fcntl = None

logger = logging.getLogger(__name__)

WORK, PLAN, LOCK, SHARD = ".unfinished", "plan.json", ".lock", "shard"
SHARD_BYTES = 2**30  # a shard ends when its images have so many
WRITING = "group_size:1,uncompressed"  # each record can be read alone, and images are packed


@dataclass
class Part:
    """What a shard holds, and how far in its split it reaches.

    Attributes:
        next: number in the split of the first image after it.
        labels, shapes: of its records; without any there is no file.
        verdicts: how many files of the split got each verdict on the way.
        bytes: length of the file.
    """

    next: int
    labels: list[int] = field(default_factory=list)
    shapes: list[tuple[int, int, int]] = field(default_factory=list)
    verdicts: dict[str, int] = field(default_factory=dict)
    bytes: int = 0


def write(opened: Opened, out: str | Path, wanted: Wanted, progress: Progress = Silent) -> Counter:
    """Writes the set as shards into the folder `out`; returns how many files got each verdict.

    Nothing is done if they are there already. `progress` makes a bar for each split.

    Raises ArgumentError of the parameter `out` for a folder that holds something else or cannot be
    written, and UserError for a set of which no training image can be read.
    """
    folder, plan = check(out), _plan(opened, wanted)
    if shards.is_shards(folder):
        index = shards.read_index(folder)
        if index.get("plan") != plan:
            raise ArgumentError("out", f": {folder} holds other shards; name another folder")
        logger.info(f"{folder}: already there and whole, nothing to do")
        _remove_work(folder)
        return Counter(index["verdicts"])
    with files.writing(folder / WORK / PLAN), alone(folder / WORK / LOCK, folder):
        _check_plan(folder, plan)
        parts = {split.name: _write(folder, split, progress) for split in splits_of(opened, wanted)}
        _finish(folder, parts, opened, plan)
    _remove_work(folder)
    return _verdicts(parts)


def check(out: str | Path) -> Path:
    """The folder `out`, checked before any work is done. Raises ArgumentError of the parameter
    `out` for a folder that holds something else or cannot be written."""
    folder = files.check_folder(out)
    if not shards.is_shards(folder):
        _check_empty(folder)
    return folder


def _remove_work(folder: Path) -> None:
    """Removes what only an interrupted call needs. The shards are whole with it, too.

    The lock in it is not to be held: a network file system keeps a file that is open.
    """
    shutil.rmtree(folder / WORK, ignore_errors=True)


def _verdicts(parts: dict[str, list[Part]]) -> Counter:
    """How many files of all splits got each verdict."""
    return sum((Counter(part.verdicts) for found in parts.values() for part in found), Counter())


def _plan(opened: Opened, wanted: Wanted) -> dict[str, Any]:
    """What decides what is written: a call that goes on has to want the same."""
    digest = hashlib.sha256()
    for split in splits_of(opened, wanted):
        digest.update(f"{split.name}\n".encode())
        labels = getattr(split.source, "labels", None) if opened.class_names else None
        for i in range(len(split.source)):
            label = "" if labels is None else labels[i]
            digest.update(f"{split.source.name(i)}\0{label}\n".encode("utf-8", "replace"))
    settings = asdict(wanted)
    if settings["deep_bits"] == DEEP_BITS:
        del settings["deep_bits"]  # calls of earlier revisions go on
    return {"images": digest.hexdigest(), "classes": list(opened.class_names), **settings}


def _check_empty(folder: Path) -> None:
    """Raises ArgumentError if a folder holds anything that is not ours."""
    if folder.is_dir() and not (folder / WORK).is_dir() and any(folder.iterdir()):
        raise ArgumentError("out", f": {folder} is not empty; name a new folder, or a .zip")


def _check_plan(folder: Path, plan: dict[str, Any]) -> None:
    """Notes what is to be written, or sees that a call that was interrupted wanted the same."""
    path = folder / WORK / PLAN
    if not path.exists():
        files.write_json(path, plan)
        return
    try:
        same = files.parse_json(files.read_text(path)) == plan
    except ValueError:
        same = False
    if not same:
        raise ArgumentError(
            "out",
            f": {folder} holds a part of other shards; remove it, or name another folder",
        )


@contextlib.contextmanager
def alone(path: Path, out: str | Path) -> Iterator[None]:
    """Only one process at a time may be in the block, by a lock on the file `path`. Raises
    ArgumentError of the parameter `out` for a second one."""
    with files.open_own(path, "a") as lock:
        try:
            if fcntl:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArgumentError("out", f": another process writes into {out}") from None
        except OSError:
            pass  # a file system without locks
        yield


def _write(folder: Path, split: Split, progress: Progress) -> list[Part]:
    """Writes the shards of a split that are not there yet; returns what is in all of them."""
    parts = _written(folder, split.name)
    count, first = len(split.source), parts[-1].next if parts else 0
    if parts:
        logger.info(f"{split.name}: going on after {first:,} of {count:,} images")
    bar = progress(count, "image")
    try:
        results = split.results(first)
        while first < count:
            number = len(parts)
            parts.append(_write_shard(folder, split, number, results, bar))
            first = parts[-1].next
    finally:
        bar.close()
    return parts


def _file(name: str, number: int) -> str:
    return f"{name}-{number:05d}{shards.ENDING}"


def _written(folder: Path, name: str) -> list[Part]:
    """What is in the shards that an earlier call has completed."""
    parts: list[Part] = []
    while True:
        facts = folder / WORK / f"{_file(name, len(parts))}.json"
        try:
            found = Part(**files.parse_json(files.read_text(facts)))
            path = folder / _file(name, len(parts))
            if found.labels and path.stat().st_size != found.bytes:
                return parts
        except (OSError, TypeError, ValueError):
            return parts
        parts.append(found)


def _write_shard(folder: Path, split: Split, number: int, results: Iterator, bar: Any) -> Part:
    """Writes one shard: the file of records, the lines of the report, and then its `Part`."""
    from array_record.python import array_record_module

    file, unfinished = _file(split.name, number), folder / WORK / SHARD
    unfinished.unlink(missing_ok=True)
    part, lines, size = Part(0), [], 0
    with _explained(unfinished):
        writer = array_record_module.ArrayRecordWriter(str(unfinished), WRITING)
        for i, made in results:
            part.next = i + 1
            part.verdicts[made.verdict] = part.verdicts.get(made.verdict, 0) + 1
            lines.append(split.line(i, made, f"{file}[{len(part.labels)}]"))
            bar(part.next)
            if made.data:
                writer.write(made.data)
                part.labels.append(split.label(i))
                part.shapes.append(made.shape)
                size += len(made.data)
            if size >= SHARD_BYTES:
                break
        writer.close()
    if part.labels:
        part.bytes = unfinished.stat().st_size
        files.sync_all(folder / WORK)
        os.replace(unfinished, folder / file)
    files.write_bytes(folder / WORK / f"{file}.jsonl", "".join(lines).encode())
    files.write_bytes(folder / WORK / f"{file}.json", json.dumps(vars(part)).encode())
    return part


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns what the library raises in the block, such as for a full disk, into OSError."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(errno.EIO, files.reason(error), str(path)) from error


def _finish(folder: Path, parts: dict[str, list[Part]], opened: Opened, plan: dict) -> None:
    """Writes the report and the index."""
    storing.check_any(sum(len(part.labels) for part in parts["train"]), opened)
    arrays, index = {}, {}
    for name, found in parts.items():
        labels = [label for part in found for label in part.labels]
        shapes = [shape for part in found for shape in part.shapes]
        if not labels:
            continue
        arrays[f"{name}_labels"] = np.array(labels, np.int32)
        arrays[f"{name}_shapes"] = np.array(shapes, np.int32)
        index[name] = [
            {"file": _file(name, number), "count": len(part.labels), "bytes": part.bytes}
            for number, part in enumerate(found)
            if part.labels
        ]
    with files.replacing(folder / shards.REPORT) as path, path.open("wb") as report:
        for name, found in parts.items():
            for number in range(len(found)):
                report.write(files.read_bytes(folder / WORK / f"{_file(name, number)}.jsonl"))
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    files.write_bytes(folder / shards.ARRAYS, packed.getvalue())
    written = {
        "format": shards.FORMAT,
        "version": shards.VERSION,
        "classes": list(opened.class_names),
        "labels_from": opened.labels_from,
        "sorted_by_class": opened.sorted_by_class,
        "splits": index,
        "verdicts": dict(_verdicts(parts)),
        "plan": plan,
    }
    files.write_json(folder / shards.INDEX, written)

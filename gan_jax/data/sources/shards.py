"""Shards: a folder of ArrayRecord files, whose records are the files of images, and an index.

    index.json               which shards each split has, the classes, how they were made
    index.npz                train_labels int32 [N], train_shapes int32 [N, 3]; also validation_…
    train-00000.array_record …
    report.jsonl             what became of each file, see gan_jax.data.sharding

A record is read without reading what lies before it, so a process reads only those that its share
of a batch has. Shapes are in the index, so no header is read when a run starts.
https://github.com/google/array_record
"""

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gan_jax import files, npz
from gan_jax.data.config import Options
from gan_jax.data.progress import IMAGES
from gan_jax.data.sources import decode
from gan_jax.data.sources.arrays import Opened
from gan_jax.data.sources.listing import MOST_CLASSES
from gan_jax.errors import UserError

INDEX, ARRAYS, REPORT = "index.json", "index.npz", "report.jsonl"
ENDING = ".array_record"
SPLITS = ("train", "validation")
FORMAT, VERSION = "gan_jax shards", 1
RANDOM_ACCESS = "readahead_buffer_size:0,max_parallelism:0"
REMAKE = "make the shards again with --mode=prepare"
_NAME = re.compile(r"[A-Za-z0-9_-]+\.array_record")


class Shard(NamedTuple):
    """One file of a split."""

    file: str
    count: int
    bytes: int


class ShardSource:
    """The images of one split."""

    work = IMAGES

    def __init__(
        self, folder: Path, shards: list[Shard], labels: np.ndarray, shapes: np.ndarray, bits: int
    ) -> None:
        """`labels` int32 [N], `shapes` int32 [N, 3]; `bits` as config.data.deep_bits."""
        self.folder, self.shards, self.bits = folder, shards, bits
        self.labels, self.shapes = labels, shapes
        alike = len(shapes) > 0 and bool((shapes == shapes[0]).all())
        self.known = tuple(shapes[0].tolist()) if alike else (0, 0, 0)
        self._ends = np.cumsum([shard.count for shard in shards])
        self._readers: dict[int, Any] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.labels)

    def content(self, i: int) -> bytes:
        """The file of image i. Raises UnreadableError for a damaged record."""
        number, record = self._place(i)
        try:
            return self._reader(number).read([record])[0]
        except RuntimeError as error:  # whatever is wrong with a file
            raise decode.UnreadableError(f"{self.name(i)} ({_brief(error)})") from error

    def reader(self, i: int) -> Callable[[], np.ndarray]:
        """A function that returns `image(i)` in any process."""
        return decode.reader(self.content(i), self.name(i), self.bits)

    def image(self, i: int) -> np.ndarray:
        return self.reader(i)()

    def label(self, i: int) -> int:
        return int(self.labels[i])

    def name(self, i: int) -> str:
        number, record = self._place(i)
        return f"{self.folder}/{self.shards[number].file}[{record}]"

    def shape(self, i: int) -> tuple[int, int, int]:
        return tuple(self.shapes[i].tolist())

    def _place(self, i: int) -> tuple[int, int]:
        """(number of the shard, number of the record in it)."""
        number = int(np.searchsorted(self._ends, i, side="right"))
        return number, i - int(self._ends[number]) + self.shards[number].count

    def _reader(self, number: int) -> Any:
        with self._lock:
            if number not in self._readers:
                self._readers[number] = _opened(self.folder, self.shards[number])
            return self._readers[number]


def _opened(folder: Path, shard: Shard) -> Any:
    """A reader of a shard. Raises RuntimeError if it does not hold what the index says."""
    from array_record.python import array_record_module  # only this source needs it

    path = folder / shard.file
    try:
        with files.opened(path):  # no pipe or device
            reader = array_record_module.ArrayRecordReader(str(path), RANDOM_ACCESS)
    except OSError as error:
        raise RuntimeError(files.reason(error)) from error
    if reader.num_records() != shard.count:
        raise RuntimeError(f"it holds {reader.num_records():,} of {shard.count:,} records")
    return reader


def _brief(error: RuntimeError) -> str:
    """The beginning of a message of the library, which is long."""
    return files.reason(error).split("; at byte")[0].split(" (computed")[0]


def is_shards(path: str | os.PathLike[str]) -> bool:
    """Whether a folder holds shards."""
    return os.path.isfile(Path(path) / INDEX)


def open_shards(options: Options) -> Opened:
    """The shards in the folder config.data.path, with the splits and classes that they were made
    with. Raises UserError for a folder whose files do not agree with its index."""
    folder = Path(options.path)
    index = read_index(folder)
    _check_split(options, index)
    sources = {}
    for name, shards in _shards(folder, index).items():
        _check_files(folder, shards)
        labels, shapes = _arrays(folder, name, sum(shard.count for shard in shards), index)
        sources[name] = ShardSource(folder, shards, labels, shapes, options.deep_bits)
    validation = None if options.validation_split == "fraction" else sources.get("validation")
    names = () if options.labels == "none" else tuple(index["classes"])
    said = index["labels_from"] if names else "none"
    in_order = index["sorted_by_class"]
    return Opened(sources["train"], validation, names, said, sorted_by_class=in_order)


def read_index(folder: Path) -> dict[str, Any]:
    """index.json of a folder. Raises UserError if there is none, or another program's."""
    if not is_shards(folder):
        raise UserError(
            f"config.data.path={folder}: holds no shards ({INDEX} is missing); make them with "
            "`python launch.py --mode=prepare --input=IMAGES --out=DIR`"
        )
    try:
        index = files.parse_json(files.read_text(folder / INDEX))
        _check_index(index)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}/{INDEX}: {files.reason(error)}; {REMAKE}") from error
    return index


def _check_index(index: Any) -> None:
    """Raises ValueError for anything but an index of ours."""
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise ValueError("it is no index of shards")
    if index.get("version") != VERSION:
        raise ValueError(f"it has version {index.get('version')!r}, and {VERSION} is read")
    classes, splits = index.get("classes"), index.get("splits")
    named = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    if not named or len(classes) > MOST_CLASSES:
        raise ValueError("`classes` is no list of names")
    if not isinstance(splits, dict) or "train" not in splits or set(splits) - set(SPLITS):
        raise ValueError(f"`splits` is to name train, and may name {SPLITS[1]}")
    texts = isinstance(index.get("labels_from"), str)
    if not texts or not isinstance(index.get("sorted_by_class"), bool):
        raise ValueError("`labels_from` or `sorted_by_class` is missing")


def _shards(folder: Path, index: dict[str, Any]) -> dict[str, list[Shard]]:
    """The shards of each split."""
    found = {}
    for name, rows in index["splits"].items():
        try:
            found[name] = [Shard(row["file"], row["count"], row["bytes"]) for row in rows]
            for file, count, size in found[name]:
                if not _NAME.fullmatch(file):
                    raise ValueError
                if not (type(count) is type(size) is int and 0 < count <= size):
                    raise ValueError
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{folder}/{INDEX}: `{name}` is no list of shards; {REMAKE}") from error
    return found


def _check_files(folder: Path, shards: list[Shard]) -> None:
    """Raises UserError for a shard that is missing or of another length."""
    for shard in shards:
        path = folder / shard.file
        size = os.path.getsize(path) if os.path.isfile(path) else None
        if size != shard.bytes:
            state = "is missing" if size is None else f"has {size:,} bytes, not {shard.bytes:,}"
            raise UserError(f"{path}: {state}; {REMAKE}")


def _arrays(
    folder: Path, name: str, count: int, index: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """(labels int32 [count], shapes int32 [count, 3]) of a split."""
    path, found = folder / ARRAYS, []
    try:
        with npz.opened(path) as stored:
            for key, shape in (("labels", (count,)), ("shapes", (count, 3))):
                header = stored.header(f"{name}_{key}")
                if header.shape != shape or header.dtype != np.int32:
                    raise npz.NpzError(f"{name}_{key} is {header.dtype} {list(header.shape)}")
                found.append(stored.read(f"{name}_{key}"))
    except (OSError, KeyError, npz.NpzError) as error:
        raise UserError(f"{path}: {files.reason(error)}; {REMAKE}") from error
    labels, shapes = found
    classes = max(1, len(index["classes"]))
    if count and not (labels.min() >= 0 and labels.max() < classes and shapes.min() > 0):
        raise UserError(f"{path}: labels or shapes are out of range; {REMAKE}")
    return labels, shapes


def _check_split(options: Options, index: dict[str, Any]) -> None:
    if options.train_split != "train":
        raise UserError(
            f"config.data.train_split={options.train_split}: config.data.source=shards trains on "
            "its training part only; leave it at 'train'"
        )
    if options.validation_split not in ("", "validation", "fraction"):
        raise UserError(
            f"config.data.validation_split={options.validation_split} is unknown for "
            "config.data.source=shards; accepted: '' (the shards' own part, else a fraction), "
            "validation, fraction"
        )
    if options.validation_split == "validation" and "validation" not in index["splits"]:
        raise UserError(
            f"config.data.validation_split=validation: {options.path} has no such part; leave it "
            "empty and set config.data.validation_fraction"
        )

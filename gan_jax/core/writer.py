"""The files that a run writes while it trains: metrics.jsonl, TensorBoard events and pictures.

Method names are those of clu's metric writers. A history never shows a step twice: a run that
resumes first removes everything written beyond the step it resumes from.
"""

import errno
import json
import math
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

import numpy as np
from google.protobuf.message import DecodeError
from tensorboardX import SummaryWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import hparams

from gan_jax.errors import UserError
from gan_jax.files import open_own, parse_json, read_bytes, reason, write_bytes

SaveGrid = Callable[[Path, np.ndarray], np.ndarray]  # writes a PNG, returns it as [H, W, 3] uint8


class Writer:
    """The files of one run.

    Args:
      workdir: the run's folder.
      step: the step that training resumes from; later rows, events and pictures are removed.
      save_grid: writes images [N, H, W, C] uint8 as a picture.
      quiet: write nothing, as all processes but the first do.
    """

    def __init__(self, workdir: Path, step: int, save_grid: SaveGrid, quiet: bool = False):
        self.workdir, self.quiet, self._save_grid = Path(workdir), quiet, save_grid
        if quiet:
            return
        self.samples = self.workdir / "samples"
        self.samples.mkdir(parents=True, exist_ok=True)
        self.metrics = self.workdir / "metrics.jsonl"
        cut_rows(self.metrics, step)
        cut_pictures(self.samples, step)
        events = self.workdir / "events"
        events.mkdir(exist_ok=True)
        files = [p for p in events.glob("events.out.tfevents.*") if p.is_file()]
        for file in files:
            cut_events(file, step)
        self._rows = _opened(self.metrics)
        # the name holds whole seconds: without a number, a run that resumes within the second
        # would write over its own history
        self._events = SummaryWriter(logdir=str(events), filename_suffix=f".{len(files)}")

    def write_scalars(self, step: int, scalars: Mapping[str, float], kind: str = "train") -> None:
        """One row in metrics.jsonl, {"step", "kind", "wall_time", …}, and one event per scalar.

        `wall_time` is in seconds since 1970, as in TensorBoard's events.
        """
        if self.quiet:
            return
        row = {"step": step, "kind": kind, "wall_time": round(time.time(), 3)}
        row |= {k: _plain(v) for k, v in scalars.items()}
        self._rows.write(json.dumps(row) + "\n")
        self._rows.flush()
        for name, value in scalars.items():
            # averages are named like the metrics of steps
            suffix = "_epoch" if kind == "epoch" and name != "epoch" else ""
            self._events.add_scalar(name + suffix, float(value), step)

    def write_hparams(self, values: Mapping[str, str | float | bool]) -> None:
        """Writes settings into the events, for TensorBoard's page of hyperparameters."""
        if self.quiet:
            return
        for event in hparams(dict(values), {}):
            self._events.file_writer.add_summary(event)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> list[Path]:
        """`samples/NNNNNN_<name>.png` for every entry, uint8 [N, H, W, C]; also as events."""
        if self.quiet:
            return []
        paths = []
        for name, stack in images.items():
            path = self.samples / f"{step:06d}_{name}.png"
            picture = self._save_grid(path, stack)
            self._events.add_image(f"samples/{name}", picture, step, dataformats="HWC")
            paths.append(path)
        return paths

    def flush(self) -> None:
        """Brings everything that was written so far onto the disk."""
        if not self.quiet:
            self._rows.flush()
            self._events.flush()

    def close(self) -> None:
        """Flushes and closes the files."""
        if not self.quiet:
            self.flush()
            self._rows.close()
            self._events.close()


def _plain(value: float) -> float | int | str:
    number = float(value)
    if not math.isfinite(number):
        return str(number)  # JSON has no NaN; readers get "nan", "inf"
    return int(number) if isinstance(value, (int, np.integer)) else number


def _opened(path: Path) -> TextIO:
    """The file of rows, to write at its end. Raises UserError if it is a link or no file."""
    try:
        return open_own(path, "a")
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EINVAL):
            raise
        raise UserError(f"{path} cannot be written: {reason(error)}; remove it") from error


def cut_rows(path: Path, step: int) -> None:
    """Removes rows beyond `step`, and a last line that a kill left unfinished."""
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"{path} cannot be read: {reason(error)}") from error
    kept = []
    for line in content.splitlines():
        try:
            row = parse_json(line)
            later = row.get("step", 0) > step
        except (ValueError, TypeError, AttributeError):  # no row
            continue
        if not later:
            kept.append(line + b"\n")
    write_bytes(path, b"".join(kept))


def cut_pictures(folder: Path, step: int) -> None:
    """Removes `NNNNNN_*.png` beyond `step`."""
    for path in folder.glob("*_*.png"):
        number = path.name.split("_")[0]
        if number.isdecimal() and int(number) > step and path.is_file():
            path.unlink()


def cut_events(path: Path, step: int) -> None:
    """Removes events beyond `step` from an event file, and a last one that a kill left unfinished.

    An event is a TFRecord: its length, a checksum of that, the data, a checksum of them.
    """
    data, kept, at = read_bytes(path), [], 0
    while at + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        end = at + 16 + length
        if end > len(data):  # a kill left this record unfinished
            break
        try:
            event = Event.FromString(data[at + 12 : end - 4])
        except DecodeError:  # no record boundary can be trusted after this
            break
        if event.step <= step:
            kept.append(data[at:end])
        at = end
    write_bytes(path, b"".join(kept))

"""The files that a run writes while it trains: metrics.jsonl, TensorBoard events and pictures.

Method names are those of clu's metric writers. A history never shows a step twice: a run that
resumes first removes everything written beyond the step it resumes from.
"""

import contextlib
import errno
import json
import logging
import math
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import google_crc32c
import numpy as np
from google.protobuf.message import DecodeError
from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event

from gan_jax import files
from gan_jax.errors import UserError
from gan_jax.files import open_own, parse_json, read_bytes, reason, write_bytes
from gan_jax.growing import Growing
from gan_jax.patience import is_gone

logger = logging.getLogger(__name__)

MOST_EVENTS = 2**26  # bytes of events that may wait for the disk; their grids are among them
MOST_UNSAVED = 2**28  # bytes of grids that may wait for it
SaveGrid = Callable[[Path, np.ndarray], np.ndarray]  # writes a PNG, returns it as [H, W, 3] uint8


class Writer:
    """The files of one run. A disk that fails costs them no run and, if it recovers, no row.

    Args:
      workdir: the run's folder.
      step: the step that training resumes from; later rows, events and pictures are removed.
      save_grid: writes images [N, H, W, C] uint8 as a picture.
      quiet: write nothing, as all processes but the first do.
      check: called before anything is written; raises an error if nothing may be written into the
        folder any more.
    """

    def __init__(
        self,
        workdir: Path,
        step: int,
        save_grid: SaveGrid,
        quiet: bool = False,
        check: Callable[[], None] = lambda: None,
    ):
        self.workdir, self.quiet, self._save_grid = Path(workdir), quiet, save_grid
        self._check, self.rows = _answered(check), 0  # rows of metrics.jsonl
        if quiet:
            return
        self.samples = self.workdir / "samples"  # made for the first grid
        self._unsaved: deque[tuple[int, str, np.ndarray]] = deque()
        metrics, events = self.workdir / "metrics.jsonl", self.workdir / "events"
        self.rows = cut_rows(metrics, step)
        files.sweep(self.samples)
        cut_pictures(self.samples, step)
        files.sweep(events)
        found = [p for p in events.glob("events.out.tfevents.*") if p.is_file()]
        for file in found:
            cut_events(file, step)
        self._rows = _checked(Growing(metrics, logger.warning))
        # the name holds whole seconds: without a number, a run that resumes within the second
        # would write over its own history
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{len(found)}"
        self._events = Growing(events / name, logger.warning, MOST_EVENTS, own_folder=True)
        self._add(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def write_scalars(self, step: int, scalars: Mapping[str, float], kind: str = "train") -> None:
        """One row in metrics.jsonl, {"step", "kind", "wall_time", …}, and one event per scalar.

        `wall_time` is in seconds since 1970, as in TensorBoard's events.
        """
        if self.quiet:
            return
        self._check()
        now = time.time()
        row = {"step": step, "kind": kind, "wall_time": round(now, 3)}
        row |= {k: _plain(v) for k, v in scalars.items()}
        self._rows.write((json.dumps(row) + "\n").encode())
        self.rows += 1
        # averages are named like the metrics of steps
        suffix = "_epoch" if kind == "epoch" else ""
        self._add(
            *(
                Event(
                    wall_time=now,
                    step=step,
                    summary=summary.scalar(n if n == "epoch" else n + suffix, float(value)),
                )
                for n, value in scalars.items()
            )
        )

    def _add(self, *events: Event) -> None:
        self._events.write(b"".join(record(event.SerializeToString()) for event in events))

    def write_hparams(self, values: Mapping[str, str | float | bool]) -> None:
        """Writes settings into the events, for TensorBoard's page of hyperparameters."""
        if not self.quiet:
            now = time.time()
            found = summary.hparams(dict(values), {})
            self._add(*(Event(wall_time=now, summary=part) for part in found))

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> list[Path]:
        """`samples/NNNNNN_<name>.png` for every entry, uint8 [N, H, W, C]; also as events.

        A picture that cannot be written is tried again with the next one.
        """
        if self.quiet:
            return []
        self._check()
        self._unsaved.extend((step, name, stack) for name, stack in images.items())
        paths = []
        for _ in range(len(self._unsaved)):
            entry = self._unsaved.popleft()
            path = self._written(*entry)
            if path is None:
                self._unsaved.append(entry)
            else:
                paths.append(path)
        while sum(stack.nbytes for _, _, stack in self._unsaved) > MOST_UNSAVED:
            self._unsaved.popleft()
        return paths

    def _written(self, step: int, name: str, stack: np.ndarray) -> Path | None:
        """The file of a grid; None if it cannot be written now."""
        path = self.samples / f"{step:06d}_{name}.png"
        try:
            self.samples.mkdir(exist_ok=True)
            picture = self._save_grid(path, stack)
        except OSError as error:
            logger.warning(f"{path} cannot be written ({reason(error)}); tried again with the next")
            return None
        shown = summary.image(f"samples/{name}", picture, dataformats="HWC")
        self._add(Event(wall_time=time.time(), step=step, summary=shown))
        return path

    def flush(self) -> None:
        """Brings everything that was written so far onto the disk, as far as it lets us."""
        if not self.quiet:
            self._check()
            self._rows.flush()
            self._events.flush()

    def close(self) -> None:
        """Brings everything onto the disk; says what cannot be brought there."""
        if not self.quiet and not is_gone(self.workdir):
            self._rows.close()
            self._events.close()


def record(data: bytes) -> bytes:
    """A TFRecord: the length of the data, a checksum of that, the data, a checksum of them."""
    length = struct.pack("<Q", len(data))
    sums = [struct.pack("<I", _masked(part)) for part in (length, data)]
    return b"".join((length, sums[0], data, sums[1]))


def _masked(data: bytes) -> int:
    """The CRC-32C of data in the form in which a TFRecord stores it."""
    value = google_crc32c.value(data)
    return (((value >> 15) | (value << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _plain(value: float) -> float | int | str:
    number = float(value)
    if not math.isfinite(number):
        return str(number)  # JSON has no NaN; readers get "nan", "inf"
    return int(number) if isinstance(value, (int, np.integer)) else number


def _answered(check: Callable[[], None]) -> Callable[[], None]:
    """The check, which says nothing where the disk does not: what is written may wait for it."""

    def call() -> None:
        with contextlib.suppress(OSError):
            check()

    return call


def _checked(rows: Growing) -> Growing:
    """The file of rows. Raises UserError if its name is that of a link or of no file."""
    try:
        open_own(rows.path, "ab").close()
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EINVAL):
            raise UserError(f"{rows.path} cannot be written: {reason(error)}; remove it") from error
    return rows


def cut_rows(path: Path, step: int) -> int:
    """Removes rows beyond `step`, and a last line that a kill left unfinished; returns how many
    rows are left."""
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        return 0
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
    return len(kept)


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

"""What a run writes while it trains: metrics.jsonl, TensorBoard events, pictures, the console.

Method names are those of clu's metric writers. A history never shows a step twice: a run that
resumes first removes everything written beyond the step it resumes from.
"""

import json
import math
import os
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError
from tensorboardX import SummaryWriter
from tensorboardX.proto.event_pb2 import Event
from tqdm import tqdm

SaveGrid = Callable[[Path, np.ndarray], np.ndarray]  # writes a PNG, returns it as [H, W, 3] uint8


class Writer:
    """Files and console of one run.

    Args:
      workdir: the run's folder.
      step: the step that training resumes from; later rows, events and pictures are removed.
      save_grid: writes images [N, H, W, C] uint8 as a picture.
      quiet: other processes than the first write nothing.
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
        self._rows = self.metrics.open("a")
        # the name holds whole seconds: without a number, a run that resumes within the second
        # would write over its own history
        self._events = SummaryWriter(logdir=str(events), filename_suffix=f".{len(files)}")

    def write_scalars(self, step: int, scalars: Mapping[str, float], kind: str = "train") -> None:
        """One row in metrics.jsonl, {"step", "kind", …}, and one event per scalar."""
        if self.quiet:
            return
        row = {"step": step, "kind": kind, **{k: _plain(v) for k, v in scalars.items()}}
        self._rows.write(json.dumps(row) + "\n")
        self._rows.flush()
        suffix = "_epoch" if kind == "epoch" else ""  # its names are those of the steps
        for name, value in scalars.items():
            self._events.add_scalar(name + suffix, float(value), step)

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

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Texts as events."""
        for name, text in ({} if self.quiet else texts).items():
            self._events.add_text(name, text, step)

    def flush(self) -> None:
        """Everything written so far is on disk."""
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


def cut_rows(path: Path, step: int) -> None:
    """Removes rows beyond `step`, and a last line that a kill left unfinished."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if row.get("step", 0) <= step:
            kept.append(line + "\n")
    _replace(path, "".join(kept).encode())


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
    data, kept, at = path.read_bytes(), [], 0
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
    _replace(path, b"".join(kept))


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


class Console:
    """The live line: a progress bar on a terminal, plain lines in a log file.

    The rate is a moving average over the last log intervals; time spent outside training steps
    (evaluation, sampling, saving) is taken out with `pause`, so the ETA does not jump.
    """

    def __init__(self, first: int, total: int, quiet: bool = False, window: int = 20):
        self.total, self.quiet = total, quiet
        self._spans: deque[tuple[int, int, float]] = deque(maxlen=window)
        self._step, self._since, self._stalled = first, time.perf_counter(), 0.0
        self.trained_seconds = 0.0
        live = sys.stderr.isatty() and not quiet
        shape = "{desc} {percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt}{postfix}"
        self._bar = tqdm(total=total, initial=first, bar_format=shape) if live else None

    def pause(self) -> "Console":
        """`with console.pause():` what happens inside does not count as training time."""
        return self

    def __enter__(self) -> None:
        self._paused_at = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._stalled += time.perf_counter() - self._paused_at

    def restart(self, step: int) -> None:
        """Forgets what was timed: what came before was compilation, or steps of another size."""
        self._spans.clear()
        self._step, self._since, self._stalled = step, time.perf_counter(), 0.0

    def tick(self, step: int, images: int, end: int = 0) -> dict[str, float]:
        """Closes a log interval: images and steps per second, seconds left at the current rate
        until step `end`, or that of the run.

        Empty while nothing has been timed (the first step of a process compiles).
        """
        now = time.perf_counter()
        seconds = max(now - self._since - self._stalled, 1e-9)
        if step > self._step:
            self._spans.append((step - self._step, images, seconds))
            self.trained_seconds += seconds
        self._step, self._since, self._stalled = step, now, 0.0
        if not self._spans:
            return {}
        steps, count, spent = (sum(column) for column in zip(*self._spans, strict=True))
        return {
            "time/images_per_second": count / spent,
            "time/steps_per_second": steps / spent,
            "time/eta_seconds": spent / steps * ((end or self.total) - step),
        }

    def line(
        self,
        epoch: float,
        step: int,
        scalars: Mapping[str, float],
        epochs: float = 0.0,
        stage: str = "",
    ) -> None:
        """One progress line: `stage`, epoch (of `epochs`), step, every loss, learning rates,
        images/s, ETA."""
        if self.quiet:
            return
        eta = clock(scalars.get("time/eta_seconds", math.nan))
        losses = [
            f"{k.split('/', 1)[1]} {v:.4f}" for k, v in scalars.items() if k.startswith("loss/")
        ]
        rates = [
            f"lr {k.split('/', 1)[1]} {v:.2e}" for k, v in scalars.items() if k.startswith("rate/")
        ]
        images = scalars.get("time/images_per_second", 0.0)
        speed = f"{images:.0f} img/s" if images >= 10 else f"{images:.2f} img/s"
        place = f"epoch {epoch:.2f}/{epochs:g}" if epochs else f"epoch {epoch:.2f}"
        place = f"{stage}, {place}" if stage else place
        eta = f"{eta} of {stage}" if stage else eta
        if self._bar is not None:
            self._bar.set_description_str(place, refresh=False)
            # what a narrow terminal cuts off comes last
            text = " · ".join([f"ETA {eta}", speed, *losses, *rates])
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(step - self._bar.n)
        else:
            text = " · ".join([*losses, *rates, speed, f"ETA {eta}"])
            self.say(f"{place} · step {step}/{self.total} · {text}")

    def say(self, text: str) -> None:
        """A line of its own, above the bar if there is one."""
        if self.quiet:
            return
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, flush=True)

    def close(self) -> None:
        """Leaves the bar where it stands."""
        if self._bar is not None:
            self._bar.close()


def clock(seconds: float) -> str:
    """75 → "1:15", 3700 → "1:01:40"."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

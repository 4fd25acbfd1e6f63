"""The pictures of a run, made small enough for a page that can be mailed."""

import io
import math
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from gan_jax.files import opened
from gan_jax.patience import is_file, patient

MOST_NAMES = 4  # of grids
MOST_FRAMES = 40  # of a name
NEWEST_SIDE, NEWEST_BYTES = 1400, 800_000  # pixels of the last grid of a name, bytes of all these
FRAME_SIDE, FRAME_BYTES = 720, 60_000  # of an earlier grid
HISTORY_BYTES = 1_500_000  # of all earlier grids
QUALITIES = (85, 70, 50)  # that are tried before a picture is made smaller
FAR = 2.5  # times too large: no lower quality helps
SMALLEST = 64  # pixels; no picture is made smaller than that
TALLEST = 16000  # pixels; webp has at most 16383
METHOD = 2  # of webp: 0 is fastest, 6 smallest; beyond 2 the size hardly changes


class Picture(NamedTuple):
    """A picture as a .webp file, and its size in pixels."""

    data: bytes
    width: int
    height: int


class Pictures:
    """Makes pictures small, and remembers what it has made for as long as the file is the same."""

    def __init__(self) -> None:
        self._made: dict[tuple, Picture | None] = {}

    def small(
        self, path: Path, side: int, most: int, deadline: float | None = None
    ) -> Picture | None:
        """The picture of a file in at most `most` bytes: at most `side` pixels wide, and with no
        more pixels than a square of that side, so that a tall picture can be read.

        None for a file that is no picture or cannot be read. Raises TimeoutError where there is
        work to do after `deadline`, which is a time of time.monotonic().
        """
        try:
            stat = _stat(path)
        except OSError:
            return None
        key = (str(path), stat.st_mtime_ns, stat.st_size, side, most)
        if key not in self._made:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError
            self._made[key] = _shrunk(path, side, most)
        return self._made[key]


_stat = patient(Path.stat)


@patient
def _read(path: Path) -> Image.Image:
    with opened(path) as file, Image.open(file, formats=("PNG",)) as image:
        return image.convert("RGB")


def _shrunk(path: Path, side: int, most: int) -> Picture | None:
    try:
        picture = _read(path)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    while True:
        width, height = picture.size
        scale = min(side / width, side / math.sqrt(width * height), TALLEST / height)
        if scale < 1:
            size = max(round(scale * width), 1), max(round(scale * height), 1)
            picture = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
        for quality in QUALITIES:
            buffer = io.BytesIO()
            picture.save(buffer, format="WEBP", quality=quality, method=METHOD)
            bytes_now = buffer.tell()
            if bytes_now <= most:
                return Picture(buffer.getvalue(), *picture.size)
            if bytes_now > FAR * most:
                break
        if side <= SMALLEST:
            return Picture(buffer.getvalue(), *picture.size)
        times = min(max(math.sqrt(most / bytes_now), 0.4), 0.85)
        side = max(int(times * min(side, math.sqrt(picture.width * picture.height))), SMALLEST)


class Film(NamedTuple):
    """The grids of one name over time."""

    name: str
    newest: Picture
    frames: list[tuple[int, Picture]]  # in order of step; the last is the newest


def films(folder: Path, pictures: Pictures, seconds: float | None = None) -> list[Film]:
    """The grids `NNNNNN_<name>.png` of a folder, at most 40 of each name and 2.3 MB in all.

    Args:
      folder: the folder `samples` of a run.
      pictures: makes them small.
      seconds: after this time no further picture is made small; those that are not ready are
        left out. None waits for all of them. The newest are always there.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    newest: dict[str, tuple[int, Picture]] = {}
    earlier: dict[str, list[tuple[int, Path]]] = {}
    grids = dict([*listed(folder).items()][:MOST_NAMES])
    for name, found in grids.items():
        while found:
            step, path = found.pop()
            picture = pictures.small(path, NEWEST_SIDE, NEWEST_BYTES // len(grids))
            if picture:
                newest[name], earlier[name] = (step, picture), found
                break
    stride = 1
    while any(len(evenly(frames, stride)) >= MOST_FRAMES for frames in earlier.values()):
        stride *= 2
    small = _made_small(earlier, stride, pictures, deadline)
    while _bytes(small, stride) > HISTORY_BYTES:
        stride *= 2
    return [
        Film(name, picture, [*kept(small[name], stride), (step, picture)])
        for name, (step, picture) in newest.items()
    ]


def kept(small: Sequence[tuple[int, Picture, int]], stride: int) -> list[tuple[int, Picture]]:
    """(step, picture) of those whose number is a multiple of `stride`."""
    return [(step, picture) for step, picture, number in small if number % stride == 0]


def evenly(frames: Sequence, stride: int) -> Sequence:
    """Every `stride`-th frame from the first. A stride that only ever doubles never needs a picture
    that was left out before."""
    return frames[::stride]


def _made_small(
    earlier: Mapping[str, Sequence[tuple[int, Path]]],
    stride: int,
    pictures: Pictures,
    deadline: float | None,
) -> dict[str, list[tuple[int, Picture, int]]]:
    """(step, picture, number) of every `stride`-th frame by name, as far as time allows; where it
    runs out, coarse strides were served first."""
    done: dict[str, dict[int, tuple[int, Picture, int]]] = {name: {} for name in earlier}
    longest = max(map(len, earlier.values()), default=0)
    coarse = stride
    while coarse < longest:
        coarse *= 2
    try:
        while coarse >= stride:
            for name, frames in earlier.items():
                for number in range(0, len(frames), coarse):
                    if number not in done[name]:
                        step, path = frames[number]
                        made = pictures.small(path, FRAME_SIDE, FRAME_BYTES, deadline)
                        if made:
                            done[name][number] = (step, made, number)
            coarse //= 2
    except TimeoutError:
        pass
    return {name: [found[number] for number in sorted(found)] for name, found in done.items()}


def _bytes(small: Mapping[str, Sequence[tuple[int, Picture, int]]], stride: int) -> int:
    return sum(len(picture.data) for found in small.values() for _, picture in kept(found, stride))


def listed(folder: Path) -> dict[str, list[tuple[int, Path]]]:
    """The files `NNNNNN_<name>.png` of a folder by name, each list in order of step; "raw" comes
    first, "ema" second."""
    found: dict[str, list[tuple[int, Path]]] = {}
    for path in folder.glob("*.png"):
        match = re.fullmatch(r"(\d{1,18})_(.+)", path.stem)
        if match and is_file(path):
            found.setdefault(match[2], []).append((int(match[1]), path))
    usual = {"raw": 0, "ema": 1}
    return {name: sorted(found[name]) for name in sorted(found, key=lambda n: (usual.get(n, 2), n))}

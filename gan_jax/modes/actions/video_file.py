"""The file of a video: its format, its frames and how long each is shown, and where it goes."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gan_jax.core import cluster
from gan_jax.core.console import ProgressBar
from gan_jax.errors import ArgumentError, UserError
from gan_jax.files import check_file, writing
from gan_jax.report import video, video_gif, video_mp4

FASTEST = 90  # frames per second: browsers show frames of less than 11 ms for 100 ms
LONGEST = 3600  # seconds
OTHER_FORMATS = (".apng", ".avi", ".jpg", ".jpeg", ".m4v", ".mkv", ".mov", ".png", ".webm")


class Format(NamedTuple):
    """A kind of file: what writes it, its largest side in pixels, its most frames per second."""

    save: Callable[..., int]
    largest: int
    fastest: float


FORMATS = {
    ".webp": Format(video.save, video.LARGEST, FASTEST),
    ".gif": Format(video_gif.save, video_gif.LARGEST, 100 / video_gif.SHORTEST),
    ".mp4": Format(video_mp4.save, video_mp4.LARGEST, FASTEST),
}
"""By the ending of the file's name; the first one is used where none is named."""


def frame_count(seconds: float, fps: float) -> int:
    """How many frames a video of this length has, at least 2.

    Raises ArgumentError for values that are not accepted.
    """
    if not 0 < seconds <= LONGEST:
        raise ArgumentError(
            "seconds", f"={seconds:g}: accepted are lengths above 0, up to {LONGEST}"
        )
    if not 0 < fps <= FASTEST:
        raise ArgumentError(
            "fps", f"={fps:g}: accepted are frames per second above 0, up to {FASTEST}"
        )
    frames = round(seconds * fps)
    if frames < 2:
        raise ArgumentError(
            "seconds",
            f"={seconds:g} at {fps:g} frames per second is less than two frames; raise one of them",
        )
    return frames


def durations(frames: int, seconds: float) -> list[int]:
    """Milliseconds of each frame: whole numbers, such as 33, 33, 34, that add up to the length."""
    ends = [round(1000 * seconds * (frame + 1) / frames) for frame in range(frames)]
    return [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def target(out: str | Path, name: str, fps: float) -> Path:
    """The path of the file to write: `out` itself, or, in a folder, `name` with the ending .webp.

    Raises ArgumentError, before any work, if such a file cannot be written: for another kind of
    file, for more frames per second than it can show, and where a package or a place to write is
    missing.
    """
    path = Path(out)
    kind = path.suffix.lower()
    if path.is_dir() or kind not in (*FORMATS, *OTHER_FORMATS):
        kind = next(iter(FORMATS))
        path = path / f"{name}{kind}"
    if kind not in FORMATS:
        raise ArgumentError(
            "out", f"={out}: accepted are files in {', '.join(FORMATS)}, or a folder for one"
        )
    if kind == ".mp4" and not video_mp4.available():
        raise ArgumentError(
            "out",
            f"={out}: .mp4 files need the package av (pip install 'gan_jax[video]', or pip install "
            "av); .webp and .gif files need nothing more",
        )
    if fps > FORMATS[kind].fastest:
        raise ArgumentError(
            "fps",
            f"={fps:g}: {kind} files show at most {FORMATS[kind].fastest:g} frames per second; "
            "lower it, or name a file in another format",
        )
    return check_file(path)


def save(path: Path, frames: Iterator[tuple[np.ndarray, int]], count: int) -> int:
    """Writes frames uint8 [H, W, 3], each with its milliseconds; returns how many there were.

    On a terminal a bar shows how many of the `count` frames have been made. Of several processes,
    which all make the frames, only the first writes. Raises UserError for
    frames that are too large, and if the file cannot be written.
    """
    kind = path.suffix.lower()
    form = FORMATS[kind]

    def checked() -> Iterator[tuple[np.ndarray, int]]:
        with closing(ProgressBar(count, "frame")) as progress:
            for number, (frame, milliseconds) in enumerate(frames, 1):
                height, width, _ = frame.shape
                if max(height, width) > form.largest:
                    raise UserError(
                        f"frames of {width} x {height} pixels: {kind} takes at most {form.largest} "
                        "a side; choose fewer seeds (config.run.sample_count in a run's grids)"
                    )
                progress(number)
                yield frame, milliseconds

    if not cluster.is_first():
        return sum(1 for _ in checked())
    with writing(path, kind="file"):
        return form.save(path, checked())

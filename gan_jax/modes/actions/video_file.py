"""The file of a video: how many frames it has, how long each is shown, where it goes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gan_jax.errors import UserError
from gan_jax.files import check_file, writing
from gan_jax.report import video

FASTEST = 90  # frames per second: browsers show frames of less than 11 ms for 100 ms
LONGEST = 3600  # seconds
OTHER_FORMATS = (".apng", ".avi", ".gif", ".jpg", ".mkv", ".mov", ".mp4", ".png", ".webm")


def frame_count(seconds: float, fps: float) -> int:
    """How many frames a video of this length has, at least 2.

    Raises UserError for values that are not accepted.
    """
    if not 0 < seconds <= LONGEST:
        raise UserError(f"--seconds={seconds:g}: accepted are lengths above 0, up to {LONGEST}")
    if not 0 < fps <= FASTEST:
        raise UserError(f"--fps={fps:g}: accepted are frames a second above 0, up to {FASTEST}")
    frames = round(seconds * fps)
    if frames < 2:
        raise UserError(
            f"--seconds={seconds:g} at --fps={fps:g} is less than two frames; raise either"
        )
    return frames


def durations(frames: int, seconds: float) -> list[int]:
    """Milliseconds of each frame: whole numbers, such as 33, 33, 34, that add up to the length."""
    ends = [round(1000 * seconds * (frame + 1) / frames) for frame in range(frames)]
    return [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def target(out: str | Path, name: str) -> Path:
    """The path of the file to write. Raises UserError, before any work, if it cannot be written."""
    path = Path(out)
    if not path.is_dir() and path.suffix.lower() in OTHER_FORMATS:
        raise UserError(f"--out={out}: videos are written as .webp; name such a file, or a folder")
    if path.is_dir() or path.suffix.lower() != ".webp":
        path = path / name
    check_file(path)
    return path


def save(path: Path, frames: Iterator[tuple[np.ndarray, int]]) -> int:
    """Writes frames uint8 [H, W, 3], each with its milliseconds; returns how many there were.

    Raises UserError for frames that are too large, and if the file cannot be written.
    """

    def checked() -> Iterator[tuple[np.ndarray, int]]:
        for frame, milliseconds in frames:
            height, width, _ = frame.shape
            if max(height, width) > video.LARGEST:
                raise UserError(
                    f"frames of {width} x {height} pixels: webp takes at most {video.LARGEST} a "
                    "side; choose fewer --seeds (config.run.sample_count in a run's grids)"
                )
            yield frame, milliseconds

    with writing(path, kind="file"):
        return video.save(path, checked())

"""A video of a run's training, from the sample grids that it wrote.

It follows generate_training_video in ProGAN's util_scripts.py (Karras et al. 2018).
"""

import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from gan_jax.errors import ArgumentError, UserError
from gan_jax.files import opened
from gan_jax.modes.actions import video_file
from gan_jax.report import frames, video
from gan_jax.run import folder as folders

logger = logging.getLogger(__name__)

HOLD = 1000  # milliseconds for which the last picture stays


def timelapse(
    workdir: str | Path,
    out: str | Path,
    seconds: float = 10.0,
    fps: float = 30,
    time_warp: float = 1.5,
    weights: str = "",
) -> Path:
    """A video of the run's sample grids, which show the same latents all through training.

    Args:
      workdir: the run's folder, with pictures in samples/.
      out: the .webp, .gif or .mp4 file, or a folder for timelapse.webp.
      seconds: length, without the second for which the last picture stays.
      fps: frames per second, at most 90.
      time_warp: after a share t of the time, training is at t ** time_warp of its steps; above 1
        the beginning gets more time, 1 keeps an even pace.
      weights: "ema", "raw" or a further average such as "ema_0.999"; when empty, "ema" if the run
        keeps an average.

    Returns the file. Raises UserError if there are no pictures, and for values that are not
    accepted.
    """
    frames = video_file.frame_count(seconds, fps)
    if not 0 < time_warp < math.inf:
        raise ArgumentError("time_warp", f"={time_warp:g}: must be above 0; 1 for an even pace")
    path = video_file.target(out, "timelapse", fps)
    folder = Path(workdir)
    folders.read_config(folder)
    pictures = _pictures(folder, weights)  # by step
    steps = sorted(pictures)
    with _opened(pictures[steps[-1]]) as last:
        size = last.size
    schedule = _schedule(steps, frames, seconds, time_warp)

    def shown() -> Iterator[tuple[np.ndarray, int]]:
        for step, milliseconds in schedule:
            with _opened(pictures[step]) as picture:
                # early grids of growing networks may be smaller
                fitting = picture.convert("RGB").resize(size, Image.Resampling.NEAREST)
            names = (f"step {step:,}", f"step {steps[-1]:,}")
            part = step / steps[-1] if steps[-1] else 1.0
            yield video.captioned(np.asarray(fitting), *names, part), milliseconds

    count = video_file.save(path, shown(), len(schedule))
    logger.info(f"{count} of {len(steps)} grids, steps {steps[0]} to {steps[-1]}: {path}")
    return path


def _pictures(folder: Path, weights: str) -> dict[int, Path]:
    """The grids of a run by step: `samples/NNNNNN_<weights>.png`."""
    found = frames.listed(folder / "samples")
    if not found:
        raise UserError(
            f"{folder}: no sample grids in samples/ yet; config.run.sample_every says when a run "
            "writes them"
        )
    weights = weights or ("ema" if "ema" in found else min(found))
    if weights not in found:
        raise ArgumentError(
            "weights", f"={weights}: this run's grids are of {', '.join(sorted(found))}"
        )
    return dict(found[weights])


def _schedule(
    steps: Sequence[int], frames: int, seconds: float, time_warp: float
) -> list[tuple[int, int]]:
    """(step of the picture that is shown, milliseconds for which it is shown), in order.

    Frame i of n shows the newest picture from up to ((i / (n - 1)) ** time_warp) of the last step,
    or the first picture if there is none yet. Frames that show the same picture become one.
    """
    shown: list[tuple[int, int]] = []
    for frame, milliseconds in enumerate(video_file.durations(frames, seconds)):
        reached = (frame / (frames - 1)) ** time_warp * steps[-1]
        step = max((s for s in steps if s <= reached), default=steps[0])
        before = shown.pop()[1] if shown and shown[-1][0] == step else 0
        shown.append((step, before + milliseconds))
    step, milliseconds = shown[-1]
    return [*shown[:-1], (step, milliseconds + HOLD)]


def _opened(path: Path) -> Image.Image:
    try:
        with opened(path) as file:
            picture = Image.open(file, formats=("PNG",))
            picture.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}; remove it and try again") from None
    return picture

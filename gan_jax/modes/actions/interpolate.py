"""A video of a walk through the latents of a model."""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gan_jax.errors import ArgumentError, UserError
from gan_jax.modes.actions import video_file
from gan_jax.modes.actions.model_choice import ModelChoice, drawn_by
from gan_jax.report import grids
from gan_jax.run import latent_walk
from gan_jax.run.model import Model

logger = logging.getLogger(__name__)

MOST_LATENTS = 2**29  # numbers, 2 GiB, because trajectories are smoothed as a whole
MANY = 1000  # images whose drawing may take long, so that a line is logged first
NARROWEST = 256  # pixels of a frame; small images are enlarged


@dataclass(frozen=True)
class Motion:
    """How a video moves.

    Attributes:
      seconds: how long it lasts until it repeats.
      fps: frames per second, at most 90.
      smoothing: standard deviation, in seconds, of the Gaussian that smooths the latents. The
        higher it is, the more slowly they move; with 0 they jump. None is 1 second, or a sixth of
        `seconds` if that is less.
    """

    seconds: float = 10.0
    fps: float = 30
    smoothing: float | None = None

    @property
    def sigma(self) -> float:
        """`smoothing` in frames."""
        chosen = min(1.0, self.seconds / 6) if self.smoothing is None else self.smoothing
        return chosen * self.fps

    def frames(self) -> int:
        """The number of frames. Raises ArgumentError for values that are not accepted."""
        count = video_file.frame_count(self.seconds, self.fps)
        if self.smoothing is not None and not 0 <= self.smoothing <= self.seconds / 3:
            raise ArgumentError(
                "smoothing",
                f"={self.smoothing:g}: accepted are seconds from 0 to a third of the video's "
                f"{self.seconds:g}; latents smoothed more than that hardly move",
            )
        return count


TEN_SECONDS = Motion()


def interpolate(
    chosen: str | Path | ModelChoice,
    out: str | Path,
    seeds: Sequence[int] = range(9),
    classes: Sequence[int | str] = (),
    weights: str = "",
    motion: Motion = TEN_SECONDS,
    columns: int = 0,
) -> Path:
    """A grid of images whose latents move smoothly and come back to where they began.

    Args:
      chosen: a run's folder, or a choice of one of its states.
      out: the .webp, .gif or .mp4 file, or a folder for interpolation.webp.
      seeds: one for each cell of the grid; how a cell moves does not depend on the other cells.
      classes: class of each cell, cycled over them; when empty, each seed has its own class, as in
        `Model.sample`.
      weights: "ema", "raw" or a further average such as "ema_0.999"; when empty, "ema" if the run
        keeps an average.
      motion: length and speed.
      columns: cells in a row; 0 for a square.

    Returns the file. Raises UserError for a system without latents and for values that are not
    accepted.
    """
    frames = motion.frames()
    if columns < 0:
        raise ArgumentError("columns", f"={columns}: give a number of cells, or 0 for a square")
    path = video_file.target(out, "interpolation", motion.fps)
    model = ModelChoice.of(chosen).open(drawn_by, "interpolate")
    length = _latent_length(model)
    cells = model.experiment.sample_batch(seeds, classes)
    count = len(cells["seed"])
    if frames * count * length > MOST_LATENTS:
        raise ArgumentError(
            "seconds",
            f"={motion.seconds:g}: {frames} frames of {count} latents do not fit in memory; make "
            "the video shorter, with fewer seeds or with fewer frames per second",
        )
    z = latent_walk.latents(cells["seed"], frames, length, motion.sigma)
    pictures = _grids(model.along(cells, z, weights), count, columns)
    durations = video_file.durations(frames, motion.seconds)
    if frames * count >= MANY:
        logger.info(f"drawing {frames * count:,} images by step {model.step}")
    video_file.save(path, zip(pictures, durations, strict=True), frames)
    logger.info(
        f"{count} latents by step {model.step}, {frames} frames in {motion.seconds:g} s: {path}"
    )
    return path


def _latent_length(model: Model) -> int:
    """How many numbers a latent has. Raises UserError for a system that has no latents."""
    length = model.experiment.system.latents
    if length:
        return length
    more = ""
    if "sampling" in model.config:
        more = "; a diffusion model has where no noise is added on the way: sampler=dpm++"
    raise UserError(
        f"this model has no latents to move through (config.system={model.config.system!r}{more})"
    )


def _grids(images: Iterator[np.ndarray], count: int, columns: int) -> Iterator[np.ndarray]:
    """Frames uint8 [H, W, 3] of `count` images each."""
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    padding = 2 if count > 1 else 0
    for first in images:
        shown = np.stack([first, *(next(images) for _ in range(count - 1))])
        scale = math.ceil(NARROWEST / (columns * first.shape[1]))
        yield grids.grid(shown, columns, padding, scale=scale)

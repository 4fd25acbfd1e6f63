"""Two videos of a run: a walk through the latents of its model, and its training in fast motion.

Both as in ProGAN's util_scripts.py (Karras et al. 2018): generate_interpolation_video and
generate_training_video.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from gan_jax.errors import UserError
from gan_jax.files import check_file, writing
from gan_jax.report import grids, video
from gan_jax.run import folder as folders
from gan_jax.run.model import Adjust, Model, as_it_is
from gan_jax.run.pretrained import opened

FASTEST = 90  # frames a second: browsers show those of a webp below 11 ms for 100
LONGEST = 3600  # seconds
MOST_LATENTS = 2**29  # numbers, 2 GiB: a trajectory is smoothed as a whole
PIXELS = 2**26  # bytes of images drawn at a time
NARROWEST = 256  # pixels of a frame; small images are enlarged
HOLD = 1000  # milliseconds that a time-lapse stays at its end
OTHER_FORMATS = (".apng", ".avi", ".gif", ".jpg", ".mkv", ".mov", ".mp4", ".png", ".webm")


def interpolate(
    workdir: str | Path,
    out: str | Path,
    seeds: Sequence[int] = range(9),
    classes: Sequence[int | str] = (),
    which: str = "newest",
    weights: str = "",
    seconds: float = 10.0,
    fps: float = 30,
    smoothing: float = 1.0,
    columns: int = 0,
    config: ConfigDict | None = None,
    say=print,
    adjust: Adjust = as_it_is,
    places: Mapping[str, str] | None = None,
) -> Path:
    """A grid of images whose latents move smoothly and come back to where they began.

    Args:
      workdir: the run's folder.
      out: the .webp file, or a folder for interpolation.webp.
      seeds: one cell of the grid each; a cell moves alike whatever the others are.
      classes: class of each cell, cycled over them; when empty, the class that its seed stands
        for, as in `Model.sample`.
      which: "newest" checkpoint, "best" state, or a step as text.
      weights: "ema" or "raw"; averaged ones where there are any when empty.
      seconds: until the video repeats.
      fps: frames a second, at most 90.
      smoothing: standard deviation, in seconds, of the Gaussian that smooths the latents; the
        higher, the slower they move; 0 for latents that jump.
      columns: cells in a row; 0 for a square.
      config: without a run, one whose `restore` names weights of its generator.
      adjust: applied to the model first.
      places: where the run's data are now; see `model.load`.

    Returns the file. Raises UserError for a system without latents and for values that are not
    accepted.
    """
    frames = _frame_count(seconds, fps)
    if not 0 <= smoothing <= seconds / 3:
        raise UserError(
            f"--smoothing={smoothing:g}: accepted are seconds from 0 to a third of "
            f"--seconds={seconds:g}; latents smoothed more than that hardly move"
        )
    if columns < 0:
        raise UserError(f"--columns={columns}: give a number of cells, or 0 for a square")
    drawn_by = lambda system: [*system.rates][:1]  # noqa: E731
    model = opened(workdir, which, config, drawn_by, "interpolate", say, places)
    model = adjust(model)
    length = model.experiment.system.latents
    if not length:
        more = ""
        if "sampling" in model.config:
            more = "; a diffusion model has where no noise is added on the way: --sampler=dpm++"
        raise UserError(
            "--mode=interpolate: this system has no latents to move through "
            f"(config.system={model.config.system!r}{more})"
        )
    cells = model.experiment.sample_batch(seeds, classes)
    count = len(cells["seed"])
    if frames * count * length > MOST_LATENTS:
        raise UserError(
            f"--seconds={seconds:g}: {frames} frames of {count} latents do not fit in memory; "
            "choose fewer --seconds or --seeds, or a lower --fps"
        )
    path = _target(out, "interpolation.webp")
    z = latents(cells["seed"], frames, length, smoothing * fps)
    pictures = _grids(_images(model, cells, z, weights), count, columns)
    _save(path, zip(pictures, _durations(frames, seconds), strict=True))
    say(f"{count} latents by step {model.step}, {frames} frames in {seconds:g} s: {path}")
    return path


def latents(seeds: Sequence[int], frames: int, length: int, sigma: float) -> np.ndarray:
    """What a generator gets for every frame: float32 [frames, cells, length].

    Standard normals, smoothed over time by a Gaussian of `sigma` frames with the end joined to the
    beginning, and brought to an RMS of 1. The original takes the RMS over all cells and one
    random stream for them; here a cell has its own of both, so it is a function of its seed.
    """
    cells = [_trajectory(int(seed), frames, length, sigma) for seed in seeds]
    return np.stack(cells, axis=1)


def _trajectory(seed: int, frames: int, length: int, sigma: float) -> np.ndarray:
    """Latents of one cell: float32 [frames, length]."""
    z = np.random.default_rng([seed]).standard_normal((frames, length))
    # a product of spectra is a circular convolution; a Gaussian's spectrum is a Gaussian
    gain = np.exp(-2 * (np.pi * sigma * np.fft.rfftfreq(frames)) ** 2)  # [frames // 2 + 1]
    z = np.fft.irfft(np.fft.rfft(z, axis=0) * gain[:, None], frames, axis=0)
    return (z / np.sqrt(np.mean(z**2))).astype(np.float32)


def _images(model: Model, cells: dict, z: np.ndarray, weights: str) -> Iterator[np.ndarray]:
    """Every cell of every frame in turn, uint8 [H, W, C], drawn many at a time."""
    facts, total = model.experiment.facts, z.shape[0] * z.shape[1]
    flat = z.reshape(total, -1)
    chunks = max(PIXELS // (64 * facts.resolution**2 * facts.channels), 1)
    size = min(64 * chunks, total)
    for start in range(0, total, size):
        rows = np.arange(start, min(start + size, total))
        batch = {k: v[rows % z.shape[1]] for k, v in cells.items()} | {"z": flat[rows]}
        yield from model.images(model.experiment.system.sample_step, batch, weights, size)


def _grids(images: Iterator[np.ndarray], count: int, columns: int) -> Iterator[np.ndarray]:
    """Frames uint8 [H, W, 3] of `count` images each."""
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    padding = 2 if count > 1 else 0
    for first in images:
        shown = np.stack([first, *(next(images) for _ in range(count - 1))])
        scale = math.ceil(NARROWEST / (columns * first.shape[1]))
        yield grids.grid(shown, columns, padding, scale=scale)


def timelapse(
    workdir: str | Path,
    out: str | Path,
    seconds: float = 10.0,
    fps: float = 30,
    warp: float = 1.5,
    weights: str = "",
    say=print,
) -> Path:
    """The run's own sample grids one after the other: the same latents while it learned.

    Args:
      workdir: the run's folder, with pictures in samples/.
      out: the .webp file, or a folder for timelapse.webp.
      seconds: length, without the second for which the last picture stays.
      fps: frames a second, at most 90.
      warp: after a share t of the time, training is at t ** warp of its steps; above 1 the
        beginning gets more time, 1 keeps an even pace.
      weights: "ema" or "raw"; averaged ones where there are any when empty.

    Returns the file. Raises UserError where there are no pictures and for values that are not
    accepted.
    """
    frames = _frame_count(seconds, fps)
    if not 0 < warp < math.inf:
        raise UserError(f"--warp={warp:g}: must be above 0; 1 for an even pace")
    folder = Path(workdir)
    folders.read_config(folder)
    pictures = _pictures(folder, weights)  # by step
    steps = sorted(pictures)
    with _opened(pictures[steps[-1]]) as last:
        size = last.size
    path = _target(out, "timelapse.webp")

    def shown() -> Iterator[tuple[np.ndarray, int]]:
        for step, milliseconds in _schedule(steps, frames, seconds, warp):
            with _opened(pictures[step]) as picture:
                # growing networks: early grids are smaller
                fitting = picture.convert("RGB").resize(size, Image.Resampling.NEAREST)
            names = (f"step {step:,}", f"step {steps[-1]:,}")
            part = step / steps[-1] if steps[-1] else 1.0
            yield video.captioned(np.asarray(fitting), *names, part), milliseconds

    count = _save(path, shown())
    say(f"{count} of {len(steps)} grids, steps {steps[0]} to {steps[-1]}: {path}")
    return path


def _pictures(folder: Path, weights: str) -> dict[int, Path]:
    """The grids of a run by step: `samples/NNNNNN_<weights>.png`."""
    found: dict[str, dict[int, Path]] = {}
    for path in (folder / "samples").glob("*.png"):
        if match := re.fullmatch(r"(\d+)_(\w+)\.png", path.name):
            found.setdefault(match[2], {})[int(match[1])] = path
    if not found:
        raise UserError(
            f"{folder}: no sample grids in samples/ yet; config.run.sample_every says when a run "
            "writes them"
        )
    weights = weights or ("ema" if "ema" in found else min(found))
    if weights not in found:
        raise UserError(f"--weights={weights}: this run's grids are of {', '.join(sorted(found))}")
    return found[weights]


def _schedule(
    steps: Sequence[int], frames: int, seconds: float, warp: float
) -> list[tuple[int, int]]:
    """Which step's picture is shown, and for how many milliseconds, in order.

    Frame i of n shows the newest picture that was there at ((i / (n - 1)) ** warp) of the last
    step, at least the first one; frames that show the same picture become one.
    """
    shown: list[tuple[int, int]] = []
    for frame, milliseconds in enumerate(_durations(frames, seconds)):
        reached = (frame / (frames - 1)) ** warp * steps[-1]
        step = max((s for s in steps if s <= reached), default=steps[0])
        before = shown.pop()[1] if shown and shown[-1][0] == step else 0
        shown.append((step, before + milliseconds))
    step, milliseconds = shown[-1]
    return [*shown[:-1], (step, milliseconds + HOLD)]


def _opened(path: Path) -> Image.Image:
    try:
        picture = Image.open(path, formats=("PNG",))
        picture.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}; remove it and try again") from None
    return picture


def _frame_count(seconds: float, fps: float) -> int:
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


def _durations(frames: int, seconds: float) -> list[int]:
    """Milliseconds of each frame: whole ones, such as 33, 33, 34, that sum up to the length."""
    ends = [round(1000 * seconds * (frame + 1) / frames) for frame in range(frames)]
    return [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _target(out: str | Path, name: str) -> Path:
    """The file to write. UserError where it could not be, before any work."""
    path = Path(out)
    if not path.is_dir() and path.suffix.lower() in OTHER_FORMATS:
        raise UserError(f"--out={out}: videos are written as .webp; name such a file, or a folder")
    if path.is_dir() or path.suffix.lower() != ".webp":
        path = path / name
    check_file(path)
    return path


def _save(path: Path, frames: Iterator[tuple[np.ndarray, int]]) -> int:
    """The number of frames written."""

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

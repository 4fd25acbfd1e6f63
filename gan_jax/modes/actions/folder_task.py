"""Runs a task that only some systems have on every image of a folder."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gan_jax.core import cluster
from gan_jax.core.console import ProgressBar
from gan_jax.core.system import System, Task
from gan_jax.data.inputs import Inputs
from gan_jax.errors import ArgumentError, UserError, argument
from gan_jax.files import check_folder
from gan_jax.modes.actions.model_choice import ModelChoice
from gan_jax.modes.actions.output import check_apart, save_png, save_sheet, save_values
from gan_jax.ops import images
from gan_jax.report import grids
from gan_jax.run.experiment import Experiment
from gan_jax.run.model import Model

logger = logging.getLogger(__name__)

CHUNK = 16  # images read and translated at a time
MANY = 100  # images that may take long, so that a line is logged first
MOST_SHOWN = 40  # rows of the contact sheet
LEAST_WIDTH = 48  # of its images in pixels, which the titles of its columns need
RUNS = {  # the runs that have a task
    "translate": "a run of pix2pix or warpgan",
    "upsample": "a diffusion run with config.data.pairs=upscale",
    "invert": "a diffusion run with config.diffusion.process=discrete",
}


@dataclass(frozen=True)
class Options:
    """How the images of a folder are read and processed.

    Attributes:
      weights: "ema", "raw" or a further average such as "ema_0.999"; when empty, "ema" if the run
        keeps an average.
      layout: what an image holds: "single", "side_by_side" (input and target) or "auto".
      first_seed: image i has the seed `first_seed` + i.
      classes: for a labelled model, the classes of the images, in turn; when empty, those that an
        npz gives them.
    """

    weights: str = ""
    layout: str = "auto"
    first_seed: int = 0
    classes: Sequence[int | str] = ()


DEFAULTS = Options()


class Result(NamedTuple):
    """The result for one image, uint8 [H, W, C] each; `target` is None if it is not known."""

    name: str
    input: np.ndarray
    image: np.ndarray
    target: np.ndarray | None


def run(
    name: str,
    source: str,
    out: str | Path,
    chosen: str | Path | ModelChoice = "",
    options: Options = DEFAULTS,
) -> list[Path]:
    """Runs the task `name` on every image of the folder, zip or npz `source`; returns the files.

    Writes one PNG per image under its own name, sheets/contact_sheet.png and, if targets are known,
    scores.json. `chosen` is a run's folder or a choice of a model.

    Raises UserError for a model that cannot do this, for images that cannot be read, and if a
    labelled model gets no classes.
    """
    if not source:
        raise ArgumentError("source", " is missing: name a folder, a .zip or an .npz of images")
    folder = check_folder(out)
    check_apart(folder, Path(source))

    def uses(system: System) -> Sequence[str]:
        return find(system, name).uses

    model = ModelChoice.of(chosen).open(uses, name)
    facts = model.experiment.facts
    channels = facts.input_channels or facts.channels  # without pairs the model takes its images
    with argument("source"):
        inputs = Inputs(
            source, model.config.data, channels, facts.channels, options.layout, "source",
            ProgressBar,
        )  # fmt: skip
    last = 2**31 - 1 - len(inputs)
    if not 0 <= options.first_seed <= last:
        raise ArgumentError(
            "first_seed", f"={options.first_seed}: accepted are whole numbers from 0 to {last}"
        )
    for remark in inputs.remarks:
        logger.info(f"{source}: {remark}")
    files, shown, scores = [], [], []
    if len(inputs) >= MANY:
        logger.info(f"making {len(inputs):,} images by step {model.step}")
    for result in _results(model, find(model.experiment.system, name), inputs, options):
        files.append(folder / f"{result.name}.png")
        save_png(files[-1], result.image)
        if len(shown) < MOST_SHOWN:
            shown.append(result)
        if result.target is not None:
            scores.append(_scores(result.image, result.target))
    if inputs.wide:
        logger.warning(
            "images that are wider than high, but not exactly twice as wide as high, were read as "
            f"inputs without a target: {inputs.wide:,} of {len(inputs):,}; if they are pairs "
            "beside each other, set layout=side_by_side"
        )
    files.append(save_sheet(folder, "contact_sheet.png", _sheet(shown)))
    most = "all" if len(shown) == len(inputs) else f"the first {len(shown)}"
    logger.info(f"{len(inputs)} images by step {model.step} in {folder}, {most} on {files[-1]}")
    return files + _write_scores(folder, scores)


def _results(model: Model, task: Task, inputs: Inputs, options: Options) -> Iterator[Result]:
    """The results of all images in turn; CHUNK of them are processed at a time."""
    labels = _labels(model.experiment, inputs, options.classes)
    with closing(ProgressBar(len(inputs), "image")) as progress:
        for first in range(0, len(inputs), CHUNK):
            rows = range(first, min(first + CHUNK, len(inputs)))
            with argument("source"):
                read = [inputs.read(i) for i in rows]
            seeds = options.first_seed + first + np.arange(len(read))
            batch = {
                task.reads: np.stack([x for x, _ in read]),
                "seed": seeds.astype(np.int32),
            }
            if labels is not None:
                batch["label"] = labels[first : first + len(read)]
            made = model.images(task.run, batch, options.weights, CHUNK)
            for row, (x, y), image in zip(rows, read, made, strict=True):
                yield Result(inputs.names[row], x, image, y)
            if len(inputs) > CHUNK:
                progress(first + len(read))


def _write_scores(folder: Path, scores: list[dict[str, float]]) -> list[Path]:
    """Writes scores.json with the means and returns its path; nothing if there are no scores."""
    path = folder / "scores.json"
    if cluster.is_first():
        path.unlink(missing_ok=True)  # written by an earlier call
    if not scores:
        return []
    means = {k: float(np.mean([s[k] for s in scores])) for k in scores[0]}
    listed = ", ".join(f"{k} {v:.4f}" for k, v in means.items())
    logger.info(f"means over {len(scores)} targets: {listed}")
    save_values(path, {"images": len(scores), **means})
    return [path]


def _labels(
    experiment: Experiment, inputs: Inputs, classes: Sequence[int | str]
) -> np.ndarray | None:
    """The class of each image, int32 [N]; None for a model without classes."""
    if len(classes):
        return experiment.labels(len(inputs), classes)
    if not experiment.system.labelled:
        return None
    if inputs.labels is None:
        raise ArgumentError(
            "classes",
            " is missing: this model draws images of a class, and the images to read come without "
            "class numbers (arr_1 of an .npz); accepted are 0 to "
            f"{experiment.facts.num_classes - 1}",
        )
    try:
        return experiment.labels(len(inputs), inputs.labels, "arr_1")
    except ArgumentError as error:
        raise ArgumentError("source", f": {error}") from None


def _sheet(shown: list[Result]) -> np.ndarray:
    """Input, output and, where known, target of every image beside each other, titled."""
    with_targets = any(result.target is not None for result in shown)
    titles = ("input", "output", "target")[: 2 + with_targets]
    # small images are enlarged until their titles can be read
    scale = max(1, -(-LEAST_WIDTH // shown[0].image.shape[1]))
    blank = np.full_like(shown[0].image, 255)
    targets = [blank if result.target is None else result.target for result in shown]
    rows = grids.triples(
        np.stack([result.input for result in shown]),
        np.stack([result.image for result in shown]),
        np.stack(targets) if with_targets else None,
    )
    return grids.grid(rows, columns=len(titles), column_titles=titles, scale=scale)


def find(system: System, name: str) -> Task:
    """The task called `name`; UserError if this system cannot do it."""
    reading = {n: task for n, task in system.tasks.items() if task.reads}
    if name not in reading:
        can = f", but can {' and '.join(reading)}" if reading else ""
        raise UserError(f"this model cannot {name} images{can}; use {RUNS[name]}")
    return reading[name]


def _scores(made: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """L1 in units of [-1, 1], PSNR in dB and SSIM of one uint8 image [H, W, C]."""
    found = {
        "l1": float(np.mean(np.abs(made.astype(float) - target)) / 127.5),
        "psnr": min(float(images.psnr(made[None], target[None], 255.0)[0]), 100.0),
    }
    if made.shape[0] >= images.SSIM_WINDOW:
        found["ssim"] = float(images.ssim(made[None], target[None], 255.0)[0])
    return found

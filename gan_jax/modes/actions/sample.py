"""Writes samples of a model into files."""

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gan_jax.core.console import ProgressBar
from gan_jax.core.system import Batch
from gan_jax.errors import ArgumentError, UserError
from gan_jax.files import check_folder
from gan_jax.modes.actions.model_choice import ModelChoice, drawn_by
from gan_jax.modes.actions.output import save_arrays, save_png, save_sheet
from gan_jax.report import grids
from gan_jax.run import class_names
from gan_jax.run.experiment import MOST_COLUMNS, TITLES
from gan_jax.run.model import Model

logger = logging.getLogger(__name__)

MANY = 1000  # images whose drawing may take long, so that a line is logged first
FORMATS = ("grid", "png", "npz", "adm")


def numbers(text: str, key: str) -> list[int]:
    """ "0-3,8" → [0, 1, 2, 3, 8]. UserError naming `key` for anything else."""
    found: list[int] = []
    try:
        for part in filter(None, text.replace(" ", "").split(",")):
            first, dash, last = part.partition("-")
            part = range(int(first), int(last) + 1) if dash else [int(first)]
            if not part:
                raise ValueError
            found += part
    except ValueError:
        found = []
    if not found and text:
        raise UserError(f"{key}={text!r}: write numbers and ranges, such as 0-63 or 1,5,8-11")
    return found


@dataclass(frozen=True)
class Drawing:
    """How images are sampled.

    Attributes:
      weights: "ema", "raw" or a further average such as "ema_0.999"; when empty, "ema" if the run
        keeps an average.
      truncation: latents beyond ± this are sampled again; 0 for no truncation.
      standing_stats: over how many batches batch statistics are measured first; 0 for none.
    """

    weights: str = ""
    truncation: float = 0.0
    standing_stats: int = 0


DEFAULTS = Drawing()


@dataclass(frozen=True)
class Samples:
    """Images uint8 [N, H, W, C] of a model, with the `seeds` and the `batch` they were made from.

    `classes` are those that were asked for; if there are none, each image has its seed's class.
    """

    model: Model
    images: np.ndarray
    batch: Batch
    seeds: Sequence[int]
    classes: Sequence[int | str]

    @property
    def labels(self) -> np.ndarray | None:
        """The class of each image, int32 [N]; None for a model without classes, whatever classes
        its data have."""
        return self.batch["label"] if self.model.experiment.system.labelled else None


def sample(
    chosen: str | Path | ModelChoice,
    out: str | Path,
    seeds: Sequence[int],
    classes: Sequence[int | str] = (),
    formats: Sequence[str] = ("grid",),
    drawing: Drawing = DEFAULTS,
) -> list[Path]:
    """Makes one image per seed and writes them into `out`; returns the files.

    Args:
      chosen: a run's folder, or a choice of one of its states.
      seeds, classes: see `Model.sample`.
      formats: `grid` (sheets/grid.png), `png` (seed<NNNNNN>.png, with the class if it has one),
        `npz` (images uint8 [N, H, W, C], seeds, labels if images are made for a class; for
        translations also input and target),
        `adm` (samples_NxHxWxC.npz as guided-diffusion writes it: arr_0, and int64 labels as arr_1
        if images are made for a class).
      drawing: how images are sampled.

    Raises UserError for unknown formats, and for a model that cannot be sampled in this way.
    """
    if not formats:
        raise ArgumentError("formats", f" is empty: accepted are {', '.join(FORMATS)}")
    for name in formats:
        if name not in FORMATS:
            raise ArgumentError("formats", f"={name}: accepted are {', '.join(FORMATS)}")
    folder = check_folder(out)
    model = ModelChoice.of(chosen).open(drawn_by, "sample")
    if drawing.standing_stats:
        model = model.standing_statistics(drawing.standing_stats)
    if len(seeds) >= MANY or "sampling" in model.config:
        logger.info(f"drawing {len(seeds):,} images by step {model.step}")
    with closing(ProgressBar(len(seeds), "image")) as progress:
        images = model.sample(
            seeds, classes, drawing.truncation, drawing.weights, progress=progress
        )
    batch = model.experiment.sample_batch(seeds, classes)
    samples = Samples(model, images, batch, seeds, classes)
    files = [path for name in FORMATS if name in formats for path in WRITERS[name](samples, folder)]
    names = [file.relative_to(folder).as_posix() for file in files]
    shown = ", ".join(names[:4]) + (" …" if len(names) > 4 else "")
    logger.info(f"{len(images)} images of step {model.step} in {folder}: {shown}")
    return files


def _write_grid(samples: Samples, folder: Path) -> list[Path]:
    batch, images = samples.batch, samples.images
    if "input" in batch:
        shown = grids.triples(batch["input"], images, batch["target"])
        picture = grids.grid(shown, columns=len(TITLES), column_titles=TITLES)
    else:
        columns = _columns(samples)
        experiment = samples.model.experiment
        titles = [experiment.class_title(samples.labels[column]) for column in range(columns)]
        picture = grids.grid(images, columns=columns, column_titles=titles)
    return [save_sheet(folder, "grid.png", picture)]


def _columns(samples: Samples) -> int:
    """The number of a grid's columns if classes come in turn, so that each column has one class and
    the grid is as nearly square as that allows; else 0."""
    experiment, labels, count = samples.model.experiment, samples.labels, len(samples.images)
    kinds = len(experiment.chosen(samples.classes)) or len(experiment.drawn_classes)
    if labels is None or not 1 < kinds <= MOST_COLUMNS or count % kinds:
        return 0
    if not (labels.reshape(-1, kinds) == labels[:kinds]).all():
        return 0
    return kinds * max(round(count**0.5 / kinds), 1)


def _write_png(samples: Samples, folder: Path) -> list[Path]:
    experiment, files = samples.model.experiment, []
    progress = ProgressBar(len(samples.images), "file")
    labels = samples.labels
    for k, (seed, image) in enumerate(zip(samples.seeds, samples.images, strict=True)):
        suffix = ""
        if labels is not None:
            suffix = class_names.file_suffix(int(labels[k]), experiment.facts.class_names)
        files.append(folder / f"seed{seed:06d}{suffix}.png")
        save_png(files[-1], image)
        if len(samples.images) >= MANY:
            progress(len(files))
    progress.close()
    return files


def _write_npz(samples: Samples, folder: Path) -> list[Path]:
    pairs = {k: samples.batch[k] for k in ("input", "target") if k in samples.batch}
    save_arrays(
        folder / "samples.npz",
        compressed=True,
        images=samples.images,
        seeds=np.asarray(samples.seeds),
        **({} if samples.labels is None else {"labels": samples.labels}),
        **pairs,
    )
    return [folder / "samples.npz"]


def _write_adm(samples: Samples, folder: Path) -> list[Path]:
    path = folder / f"samples_{'x'.join(map(str, samples.images.shape))}.npz"
    labels = [] if samples.labels is None else [samples.labels.astype(np.int64)]
    save_arrays(path, samples.images, *labels)
    return [path]


WRITERS = {"grid": _write_grid, "png": _write_png, "npz": _write_npz, "adm": _write_adm}

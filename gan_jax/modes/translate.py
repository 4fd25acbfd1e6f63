"""What only some systems can do, on a folder of images: `launch.py --mode=<task> --input=DIR`."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from gan_jax.core.system import System, Task
from gan_jax.data.inputs import Inputs
from gan_jax.errors import UserError
from gan_jax.files import check_folder
from gan_jax.modes.output import check_apart, save, save_png, save_sheet
from gan_jax.ops import images
from gan_jax.report import grids
from gan_jax.run.experiment import Experiment
from gan_jax.run.model import Adjust, as_it_is, opened

CHUNK = 16  # images read and translated at a time
MOST_SHOWN = 40  # rows of the contact sheet


def run(
    name: str,
    source: str,
    out: str | Path,
    workdir: str | Path = "",
    config: ConfigDict | None = None,
    which: str = "newest",
    weights: str = "",
    layout: str = "auto",
    seed: int = 0,
    classes: Sequence[int | str] = (),
    say=print,
    adjust: Adjust = as_it_is,
) -> list[Path]:
    """Runs the task `name` on every image of the folder, zip or npz `source`; returns the files.

    Writes one PNG per image under its own name, sheets/contact_sheet.png, and where targets are
    known scores.json. The model is that of a run, `workdir`, or of a `config` whose `restore` names
    weights. Image i has the seed `seed` + i. A labelled model draws image i for `classes` in turn,
    or without them for the class that an npz gives it. `adjust` is applied to the model first.

    Raises UserError for a model that has no such task, for images that cannot be read, and for a
    labelled model without classes.
    """
    if not source:
        raise UserError(f"--input is missing: --mode={name} reads a folder, zip or npz of images")
    folder = check_folder(out)
    check_apart(folder, Path(source))
    model = opened(workdir, which, config, lambda system: find(system, name).uses, name, say)
    model = adjust(model)
    task = find(model.experiment.system, name)
    facts = model.experiment.facts
    channels = facts.input_channels or facts.channels  # of single images where there are no pairs
    inputs = Inputs(source, model.config.data, channels, facts.channels, layout, "--input")
    if not 0 <= seed <= 2**31 - 1 - len(inputs):
        raise UserError(f"--seeds={seed}: the first image's seed, from 0 to {2**31 - 1}")
    for remark in inputs.remarks:
        say(f"--input: {remark}")
    labels = _labels(model.experiment, inputs, classes)
    files, shown, scores = [], [], []
    for first in range(0, len(inputs), CHUNK):
        rows = range(first, min(first + CHUNK, len(inputs)))
        read = [inputs.read(i) for i in rows]
        batch = {
            task.reads: np.stack([x for x, _ in read]),
            "seed": np.arange(seed + first, seed + first + len(read), dtype=np.int32),
        }
        if labels is not None:
            batch["label"] = labels[first : first + len(read)]
        made = model.images(task.run, batch, weights, CHUNK)
        for row, (x, y), image in zip(rows, read, made, strict=True):
            files.append(folder / f"{inputs.names[row]}.png")
            save_png(files[-1], image)
            if len(shown) < MOST_SHOWN:
                shown.append((x, image, y))
            if y is not None:
                scores.append(_scores(image, y))
    files.append(save_sheet(folder, "contact_sheet.png", sheet(shown)))
    most = "all" if len(shown) == len(inputs) else f"the first {len(shown)}"
    say(f"{len(inputs)} images by step {model.step} in {folder}, {most} on {files[-1]}")
    if (folder / "scores.json").exists():  # of another run of this
        (folder / "scores.json").unlink()
    if scores:
        means = {k: float(np.mean([s[k] for s in scores])) for k in scores[0]}
        files.append(folder / "scores.json")
        say(f"{len(scores)} targets: " + ", ".join(f"{k} {v:.4f}" for k, v in means.items()))
        save(files[-1], (json.dumps({"images": len(scores), **means}, indent=2) + "\n").encode())
    return files


def _labels(
    experiment: Experiment, inputs: Inputs, classes: Sequence[int | str]
) -> np.ndarray | None:
    """The class of each image, int32 [N]; None for a model without classes."""
    if len(classes):
        return experiment.labels(len(inputs), classes)
    if not experiment.system.labelled:
        return None
    if inputs.labels is None:
        raise UserError(
            "--classes is missing: this model draws images of a class and --input brings no class "
            f"numbers (arr_1 of an npz); accepted are 0 to {experiment.facts.num_classes - 1}"
        )
    return experiment.labels(len(inputs), inputs.labels, "--input: arr_1")


def sheet(shown: list[tuple[np.ndarray, np.ndarray, np.ndarray | None]]) -> np.ndarray:
    """Input, output and, where known, target of every image beside each other, titled."""
    with_targets = any(target is not None for *_, target in shown)
    titles = ("input", "output", "target")[: 2 + with_targets]
    blank = np.full_like(shown[0][1], 255)
    inputs, outputs, targets = zip(*shown, strict=True)
    targets = [blank if target is None else target for target in targets]
    rows = grids.triples(
        np.stack(inputs), np.stack(outputs), np.stack(targets) if with_targets else None
    )
    return grids.grid(rows, columns=len(titles), column_titles=titles, scale=1)


def find(system: System, name: str) -> Task:
    """The task called `name`; UserError where this system has no such task on images."""
    reading = {n: task for n, task in system.tasks.items() if task.reads}
    if name not in reading:
        has = ", ".join(reading) or "none"
        raise UserError(f"--mode={name}: this model's system has no such task on images, but {has}")
    return reading[name]


def _scores(made: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """L1 in units of [-1, 1], PSNR in dB and SSIM of one image as it was written."""
    found = {
        "l1": float(np.mean(np.abs(made.astype(float) - target)) / 127.5),
        "psnr": min(float(images.psnr(made[None], target[None], 255.0)[0]), 100.0),
    }
    if made.shape[0] >= images.SSIM_WINDOW:
        found["ssim"] = float(images.ssim(made[None], target[None], 255.0)[0])
    return found

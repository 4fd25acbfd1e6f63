"""Bits per dimension of images under a diffusion model."""

import json
import logging
from contextlib import closing
from pathlib import Path

import jax
import numpy as np

from gan_jax.core.console import ProgressBar
from gan_jax.core.system import Task
from gan_jax.errors import ArgumentError, UserError
from gan_jax.files import check_folder, write_json, writing
from gan_jax.modes.actions.model_choice import ModelChoice
from gan_jax.modes.actions.output import save_arrays
from gan_jax.report import bound_plot
from gan_jax.run.experiment import MOST_PIXELS
from gan_jax.run.imported import measured
from gan_jax.run.model import Model, load

logger = logging.getLogger(__name__)

CHUNK = 32  # images at a time
TERMS = ("vb", "xstart_mse", "mse")


def run(chosen: str | Path | ModelChoice, out: str | Path, count: int = 0) -> dict[str, float]:
    """Computes the variational bound of the validation images, or of the training images if there
    are none; returns the scores.

    It walks the steps of the chain that `sampling.steps` keeps; "" keeps all. Images are not
    mirrored. Writes to `out`: likelihood.json; vb_terms.npz, xstart_mse_terms.npz and
    mse_terms.npz, each with `t` and the mean over images, `arr_0`, from t = 0 up; bits.npz with
    the bits per dimension of every image; bound.png, the terms over t.

    Args:
      chosen: a run's folder, or a choice of one of its states; an imported run is scored on the
        data of the choice's `config`.
      out: the folder for the files.
      count: the largest number of images; 0: all.

    Raises UserError for a model that has no such bound.
    """
    if count < 0:
        raise ArgumentError("count", f"={count}: give a number above 0, or 0 for all images")
    if jax.process_count() > 1:
        raise UserError("bits per dimension are measured by one process; start it on one host")
    folder = check_folder(out)
    choice = ModelChoice.of(chosen)
    model = choice.adjust(load(choice.workdir, choice.state, choice.data))
    model = measured(model, choice.config)
    facts = model.experiment.facts
    split = "validation" if facts.validation_size else "train"
    terms = _terms(model, _task(model), split, count)
    total, steps = terms["t"].shape
    scores = {
        "bits_per_dim": float(np.mean(terms["total"])),
        # one image says nothing about how far images differ
        "standard_error": float(np.std(terms["total"], ddof=1) / total**0.5) if total > 1 else None,
        "prior": float(np.mean(terms["prior"])),
        **{f"mean_{name}": float(np.mean(terms[name])) for name in TERMS[1:]},
    }
    about = {
        "step": model.step,
        "state": choice.state,
        "split": split,
        "images": total,
        "steps": steps,
    }
    error = scores["standard_error"]
    shown = f"{scores['bits_per_dim']:.4f}" + ("" if error is None else f" ± {error:.4f}")
    logger.info(
        f"{shown} bits per dimension over "
        f"{total} {split} images and {steps} steps, step {model.step}, in {folder}"
    )
    logger.info(json.dumps(scores))
    _write(folder, terms)
    with writing(folder / "likelihood.json"):
        write_json(folder / "likelihood.json", {**about, **scores})
    return scores


def _task(model: Model) -> Task:
    """The task that scores images. Raises UserError for a model that has no bound."""
    task = model.experiment.system.tasks.get("likelihood")
    if task is None:
        raise UserError(
            "bits per dimension are bounded along a chain of noise, and this model "
            f"(config.system={model.config.system!r}) walks none; use a diffusion run with "
            "config.diffusion.process=discrete, and any sampler but heun"
        )
    return task


def _terms(model: Model, task: Task, split: str, count: int) -> dict[str, np.ndarray]:
    """The terms of the bound of every image [N, T], and their sums [N]."""
    experiment = model.experiment
    total = experiment.data.sizes[split]
    total = min(count, total) if count > 0 else total
    chunk = max(min(CHUNK, MOST_PIXELS // experiment.facts.resolution**2, total), 1)
    size = -(-chunk // experiment.mesh.size) * experiment.mesh.size
    score = jax.jit(task.run, static_argnums=3, out_shardings=experiment.mesh.replicated)
    logger.info(f"scoring {total:,} {split} images by step {model.step}")
    found = []
    with closing(ProgressBar(-(-total // size), "batch")) as progress:
        for first in range(0, total, size):
            rows = np.minimum(np.arange(first, first + size), total - 1)
            batch = experiment.data.rows(split, rows)
            batch = experiment.mesh.put({**batch, "seed": rows.astype(np.int32)})
            terms = jax.device_get(score(model.state, batch, experiment.key, model.stage))
            found.append({k: np.asarray(v)[: total - first] for k, v in terms.items()})
            progress(len(found))
    return {k: np.concatenate([part[k] for part in found]) for k in found[0]}


def _write(folder: Path, terms: dict[str, np.ndarray]) -> None:
    """Writes the arrays and the plot."""
    t = np.asarray(terms["t"][0], np.int64)
    means = {name: np.mean(terms[name], axis=0) for name in TERMS}
    for name, values in means.items():
        save_arrays(folder / f"{name}_terms.npz", values, t=t)
    save_arrays(folder / "bits.npz", total=terms["total"], prior=terms["prior"])
    with writing(folder / "bound.png"):
        bound_plot.bound(t, means, folder / "bound.png")

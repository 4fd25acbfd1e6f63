"""Bits per dimension of images under a diffusion model: `launch.py --mode=likelihood`."""

import json
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from gan_jax.core.progress import Progress
from gan_jax.errors import UserError
from gan_jax.files import check_folder, write_json, writing
from gan_jax.modes.output import save_arrays
from gan_jax.report import bound_plot
from gan_jax.run.experiment import MOST_PIXELS
from gan_jax.run.model import Adjust, as_it_is, load, measured

CHUNK = 32  # images at a time
TERMS = ("vb", "xstart_mse", "mse")


def run(
    workdir: str | Path,
    out: str | Path,
    which: str = "newest",
    count: int = 0,
    config: ConfigDict | None = None,
    say=print,
    adjust: Adjust = as_it_is,
    places: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """The variational bound of validation images, of training images where there are no others.

    Walks the steps that `sampling.steps` keeps, "" all of them. Nothing is mirrored: an image is
    scored as it is. Writes to `out`: likelihood.json; vb_terms.npz, xstart_mse_terms.npz and
    mse_terms.npz, each with `t` and the mean over images, `arr_0`, from t = 0 up; bits.npz with
    those of every image; bound.png, the terms over t.

    Args:
      workdir: of the run; `which` of its states.
      count: at most so many images; 0: all.
      config: whose section `data` an imported run is scored on.
      adjust: applied to the model first.
      places: where the run's data are now; see `model.load`.

    Raises UserError for a model that has no such bound.
    """
    if count < 0:
        raise UserError(f"--count={count}: give a number above 0, or 0 for all images")
    if jax.process_count() > 1:
        raise UserError("--mode=likelihood runs in one process; start it on one host")
    folder = check_folder(out)
    model = measured(adjust(load(workdir, which, places)), config)
    experiment = model.experiment
    task = experiment.system.tasks.get("likelihood")
    if task is None:
        raise UserError(
            f"--mode=likelihood: the bound is that of a chain of noise; config.system="
            f"{model.config.system!r} has none here (config.diffusion.process=discrete has, with "
            "every sampler but heun)"
        )
    split = "validation" if experiment.facts.validation_size else "train"
    total = experiment.data.sizes[split]
    total = min(count, total) if count > 0 else total
    chunk = max(min(CHUNK, MOST_PIXELS // experiment.facts.resolution**2, total), 1)
    size = -(-chunk // experiment.mesh.size) * experiment.mesh.size
    score = jax.jit(task.run, static_argnums=3, out_shardings=experiment.mesh.replicated)
    told, found = Progress(-(-total // size), "batch"), []
    for first in range(0, total, size):
        rows = np.minimum(np.arange(first, first + size), total - 1)
        batch = experiment.data.rows(split, rows)
        batch = experiment.mesh.put({**batch, "seed": rows.astype(np.int32)})
        terms = jax.device_get(score(model.state, batch, experiment.key, model.stage))
        found.append({k: np.asarray(v)[: total - first] for k, v in terms.items()})
        told(len(found))
    terms = {k: np.concatenate([part[k] for part in found]) for k in found[0]}
    figures = {
        "bits_per_dim": float(np.mean(terms["total"])),
        "standard_error": float(np.std(terms["total"]) / np.sqrt(total)),
        "prior": float(np.mean(terms["prior"])),
        **{f"mean_{name}": float(np.mean(terms[name])) for name in TERMS[1:]},
    }
    count = len(terms["t"][0])
    about = {"step": model.step, "state": which, "split": split, "images": total, "steps": count}
    say(
        f"{figures['bits_per_dim']:.4f} ± {figures['standard_error']:.4f} bits per dimension over "
        f"{total} {split} images and {count} steps, step {model.step}, in {folder}"
    )
    say(json.dumps(figures))
    _write(folder, terms)
    with writing(folder / "likelihood.json"):
        write_json(folder / "likelihood.json", {**about, **figures})
    return figures


def _write(folder: Path, terms: dict[str, np.ndarray]) -> None:
    """The arrays and the plot."""
    t = np.asarray(terms["t"][0], np.int64)
    means = {name: np.mean(terms[name], axis=0) for name in TERMS}
    for name, values in means.items():
        save_arrays(folder / f"{name}_terms.npz", values, t=t)
    save_arrays(folder / "bits.npz", total=terms["total"], prior=terms["prior"])
    with writing(folder / "bound.png"):
        bound_plot.bound(t, means, folder / "bound.png")

"""Writes the network of a run as a .pt file that guided-diffusion can read."""

import logging
from pathlib import Path

from gan_jax import config as configs
from gan_jax.core import cluster, ema
from gan_jax.core.mesh import fetch
from gan_jax.errors import ArgumentError, UserError
from gan_jax.files import check_file, write_json, writing
from gan_jax.interop import guided_diffusion
from gan_jax.interop.formats import torch_file
from gan_jax.run import released
from gan_jax.run.model import load

logger = logging.getLogger(__name__)


def export_file(
    workdir: str | Path, out: str | Path, state: str = "newest", weights: str = ""
) -> Path:
    """Writes a run's network as a .pt file with guided-diffusion's names, and its config beside it.

    `weights` is "raw", "ema" or, of further averages, "ema_0.999"; when empty, the average of the
    weights if there is one. Raises UserError for a run of another system, and for weights that the
    run does not have.
    """
    path = check_file(out)
    if path.suffix not in (".pt", ".pth"):
        raise ArgumentError("out", f"={out}: name a file that ends in .pt or .pth")
    model = load(workdir, state)
    system = model.config.system
    if system not in released.NETS:
        raise UserError(
            f"config.system={system!r} has no form in guided-diffusion's files; accepted are runs "
            f"of {', '.join(released.NETS)}"
        )
    name = released.NETS[system]
    found = ema.weights(model.state.nets[name], tuple(model.config.optim[name].ema))
    weights = weights or ("ema" if "ema" in found else "raw")
    if weights not in found:
        raise ArgumentError("weights", f"={weights}: this model has {', '.join(found)}")
    params, _ = found[weights]
    tensors = guided_diffusion.from_trees(fetch(params), {})
    about = {"config": configs.plain(model.config), "data": model.experiment.facts._asdict()}
    if cluster.is_first():
        with writing(path, kind="file"):
            torch_file.write(path, tensors)
            write_json(released.beside(path), about)
    logger.info(
        f"wrote step {model.step} to {path}, and its config to {released.beside(path).name}"
    )
    return path

"""Makes the folder of a run from the weights in a .pt file of guided-diffusion."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gan_jax.core import checkpoint, cluster, job, optim
from gan_jax.core.train_step import TrainCarry
from gan_jax.errors import ArgumentError, argument
from gan_jax.files import amount, writing
from gan_jax.interop import guided_diffusion
from gan_jax.run import claims, provenance, released
from gan_jax.run import folder as folders
from gan_jax.run.experiment import Experiment

logger = logging.getLogger(__name__)

LARGE = 50 * 10**6  # bytes that may take long to read, so that a line is logged first


def import_file(source: str | Path, workdir: str | Path, config: ConfigDict | None = None) -> Path:
    """Makes `workdir` a run at step 0 whose weights, and averages, are those of a .pt file.

    What the shapes do not tell comes from `config`, else from the file beside it that `export_file`
    has written, else from the config of the released file of that name. The run can be sampled
    from at once. To train it further, train its config in this folder; to evaluate it, give a
    config that names data.

    Raises UserError for a file of another network, with the first tensors that differ, and for a
    folder that holds a run already. The file is read without running any code in it.
    """
    path = Path(source)
    if not str(source):
        raise ArgumentError("source", " is missing: name a .pt file, such as 256x256_diffusion.pt")
    if not os.path.isfile(path):
        raise ArgumentError("source", f"={source}: there is no such file")
    if path.stat().st_size >= LARGE:
        logger.info(f"reading {source}, {amount(path.stat().st_size)}")
    tensors = guided_diffusion.state_dict(path)
    kind = guided_diffusion.identify(tensors)
    if kind is None:
        raise ArgumentError(
            "source",
            f"={source}: holds none of guided-diffusion's networks; weights of other programs come "
            "into a run by config.restore",
        )
    with argument("source"):
        config = config or released.config_of(path, tensors, "source")
        released.check_system(config, kind, f"source={source}")
    if "classifier" in config and config.classifier.scale:
        config.classifier.scale = 0.0  # its weights are not in this file
        logger.info(
            "guidance is off, since the classifier is not in this file; name one when images are "
            "drawn"
        )
    folder = _written(path, tensors, workdir, config)
    total = sum(int(np.prod(t.shape)) for t in tensors.values())
    logger.info(f"{kind} of {total:,} parameters from {source} in {folder}: a run at step 0")
    return folder


def _written(path: Path, tensors, workdir: str | Path, config: ConfigDict) -> Path:
    """Writes config and state of the run, and returns its folder."""
    key = f"source={path}"
    folder = claims.claim(workdir, lock=cluster.is_first())

    def holds_a_run() -> bool:
        # an import that was killed has left no state
        return (folder / "config.json").exists() and folders.has_states(folder)

    try:
        if cluster.decided("whether the folder is free", holds_a_run):
            raise ArgumentError("workdir", f"={workdir} holds a run already; name another folder")
        experiment = Experiment(config, released.facts_of(path, config, tensors))
        with argument("source"):
            carry = _begun(experiment, released.NETS[config.system], tensors, key)
        states = checkpoint.Checkpoints(folder / "checkpoints", config.run.keep)
        with writing(folder / "config.json", "workdir"):
            if cluster.is_first():
                provenance.write_config(folder, config, experiment.mesh.size, experiment.facts)
            states.save(0, carry._asdict(), vars(job.Progress()))
            states.close()
    finally:
        claims.release(folder)
    return folder


def _zeros(shape: jax.ShapeDtypeStruct) -> jax.Array:
    return jnp.zeros(shape.shape, shape.dtype)


def _begun(
    experiment: Experiment, net: str, tensors: Mapping[str, np.ndarray], key: str
) -> TrainCarry:
    """The `TrainCarry` at step 0, in which the weights of one net, and their averages, are those of
    a state dict; see `check_fits` for `key`."""
    system, stage, batch = experiment.system, experiment.system.stages[0], experiment.batch()
    shapes = experiment.carry
    released.check_fits(tensors, shapes.state.nets[net].params, key)
    params, _ = guided_diffusion.to_trees(tensors)

    def begin(root, batch, params) -> TrainCarry:
        # the weights that `init` samples are not used, so jit leaves their sampling out
        state = system.init(root, batch, stage)
        nets = {**state.nets, net: optim.restarted(state.nets[net], params, {})}
        rest = jax.tree.map(_zeros, shapes._replace(state=None))
        broken = jax.tree.map(lambda a: a - 1, rest.broken)
        return rest._replace(state=state.replace(nets=nets), broken=broken)

    return jax.jit(begin, out_shardings=experiment.mesh.replicated)(experiment.key, batch, params)

"""Weights of guided-diffusion's files as a run's folder, and a run's weights as such a file.

python launch.py --mode=import --from=256x256_diffusion.pt --workdir=runs/imagenet256
python launch.py --mode=export --workdir=runs/a --out=model.pt
"""

import json
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gan_jax import config as configs
from gan_jax import files
from gan_jax.core import checkpoint, loop, optim
from gan_jax.core.mesh import fetch
from gan_jax.errors import UserError
from gan_jax.files import check_file, writing
from gan_jax.interop import guided_diffusion
from gan_jax.interop.formats import torch_file
from gan_jax.run import folder as folders
from gan_jax.run import provenance, released
from gan_jax.run.experiment import Experiment
from gan_jax.run.model import load


def import_file(
    source: str | Path, workdir: str | Path, config: ConfigDict | None = None, say=print
) -> Path:
    """Makes `workdir` a run at step 0 whose weights, and averages, are those of a .pt file.

    What the shapes do not tell comes from `config`, else from the file beside it that `export_file`
    has written, else from the config of the released file of that name. Such a run samples; it
    trains on when its config is trained there, and is evaluated with one that names data.

    Raises UserError for a file of another network, with the first tensors that differ, and for a
    folder that holds a run already. The file is read without running what it holds.
    """
    path = Path(source)
    if not str(source):
        raise UserError("--from is missing: name a .pt file, such as --from=256x256_diffusion.pt")
    if not path.is_file():
        raise UserError(f"--from={source}: no such file")
    tensors = guided_diffusion.state_dict(path)
    kind = guided_diffusion.identify(tensors)
    if kind is None:
        raise UserError(
            f"--from={source}: holds none of guided-diffusion's networks; weights of others come "
            "into a run by config.restore"
        )
    config = config or released.config_of(path, tensors, "--from")
    released.check_system(config, kind, f"--from={source}")
    if "classifier" in config and config.classifier.scale:
        config.classifier.scale = 0.0  # its weights are not in this file
        say("without guidance; --classifier names a classifier when images are drawn")
    folder = folders.claim(workdir, say=say)
    try:
        if (folder / "config.json").exists():
            raise UserError(f"--workdir={workdir} holds a run already; name another folder")
        experiment = Experiment(config, released.facts_of(config, tensors))
        carry = _begun(experiment, released.NETS[config.system], tensors, f"--from={source}")
        states = checkpoint.Checkpoints(folder / "checkpoints", config.run.keep, 0, say)
        with writing(folder / "config.json", "--workdir"):
            provenance.write_config(folder, config, experiment.mesh.size, experiment.facts)
            states.save(0, carry._asdict(), vars(loop.Progress()))
            states.close()
    finally:
        folders.release(folder)
    total = sum(int(np.prod(t.shape)) for t in tensors.values())
    say(f"{kind} of {total:,} parameters from {source} in {folder}: a run at step 0")
    return folder


def export_file(
    workdir: str | Path, out: str | Path, which: str = "newest", weights: str = "", say=print
) -> Path:
    """Writes a run's network as a .pt file in guided-diffusion's names, and its config beside it.

    `weights`: "ema" or "raw"; averaged ones where there are any when empty. Raises UserError for a
    run of another system.
    """
    path = check_file(out)
    if path.suffix not in (".pt", ".pth"):
        raise UserError(f"--out={out}: name a file that ends in .pt")
    model = load(workdir, which)
    system = model.config.system
    if system not in released.NETS:
        raise UserError(
            f"--mode=export: config.system={system!r} has no form in guided-diffusion's files; "
            f"accepted are {', '.join(released.NETS)}"
        )
    net = model.state.nets[released.NETS[system]]
    if weights not in ("", "ema", "raw") or (weights == "ema" and not optim.has_average(net)):
        accepted = "raw, ema" if optim.has_average(net) else "raw"
        raise UserError(f"--weights={weights}: this model has {accepted}")
    params = net.params if weights == "raw" else optim.averaged(net)[0]
    tensors = guided_diffusion.from_trees(fetch(params), {})
    about = {"config": configs.plain(model.config), "data": model.experiment.facts._asdict()}
    with writing(path, kind="file"):
        torch_file.write(path, tensors)
        with files.replacing(released.beside(path)) as temporary:
            temporary.write_text(json.dumps(about, indent=2) + "\n")
    say(f"step {model.step} in {path}, its config in {released.beside(path).name}")
    return path


def _begun(
    experiment: Experiment, net: str, tensors: Mapping[str, np.ndarray], key: str
) -> loop.Carry:
    """The state at step 0 with the weights of one net, and their averages, from a state dict; see
    `check_fits` for `key`."""
    system, stage, batch = experiment.system, experiment.system.stages[0], experiment.batch()
    shapes = loop.shapes(system, experiment.key, batch)
    released.check_fits(tensors, shapes.state.nets[net].params, key)
    params, _ = guided_diffusion.to_trees(tensors)

    def begin(root, batch, params) -> loop.Carry:
        # the weights that `init` would draw are used nowhere, so nothing is drawn
        state = system.init(root, batch, stage)
        nets = {**state.nets, net: optim.restarted(state.nets[net], params, {})}
        zero = lambda s: jnp.zeros(s.shape, s.dtype)  # noqa: E731
        rest = jax.tree.map(zero, shapes._replace(state=None))
        broken = jax.tree.map(lambda a: a - 1, rest.broken)
        return rest._replace(state=state.replace(nets=nets), broken=broken)

    return jax.jit(begin, out_shardings=experiment.mesh.replicated)(experiment.key, batch, params)

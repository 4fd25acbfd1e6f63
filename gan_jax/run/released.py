"""Files that guided-diffusion has released: their configs, and what their shapes tell."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from gan_jax import config as configs
from gan_jax.core.system import Facts, PyTree
from gan_jax.data import config as config_data
from gan_jax.errors import UserError
from gan_jax.interop import guided_diffusion
from gan_jax.interop.guided_diffusion_layers import CLASSIFIER, UPSAMPLER

CONFIGS = Path(__file__).parents[2] / "configs"
SYSTEMS = {CLASSIFIER: "noisy_classifier"}  # of what `identify` says; else diffusion
NETS = {"diffusion": "unet", "noisy_classifier": "classifier"}


def facts_of(config: ConfigDict, tensors: Mapping[str, np.ndarray], resolution: int = 0) -> Facts:
    """What the data of a network would tell, from its shapes and its config; how many images there
    were is not known: 0. `resolution`: of images where neither says."""
    told = guided_diffusion.architecture(tensors)
    options = config_data.read(config.data)
    side = options.resolution or told.get("image_size") or resolution
    if not side:
        raise UserError("config.data.resolution=0: the file does not tell the size of images")
    images = told["in_channels"]
    inputs = 0
    if told["network"] == UPSAMPLER:
        images = inputs = images // 2
    classes = told.get("num_classes", 0)
    return Facts(side, images, classes or told.get("outputs", 0) or 0, 0, 0, inputs)


def check_fits(tensors: Mapping[str, np.ndarray], params: PyTree, key: str) -> None:
    """Raises UserError that begins with `key` and lists the first tensors that differ from a
    network's parameters, which may be shapes."""
    wrong = guided_diffusion.mismatches(tensors, params)
    if wrong:
        raise UserError(f"{key} is of another architecture: {'; '.join(wrong)}")


def beside(path: Path) -> Path:
    """The file with the config of a network that `--mode=export` has written."""
    return path.with_suffix(f"{path.suffix}.json")


def config_of(path: Path, tensors: Mapping[str, np.ndarray], flag: str) -> ConfigDict:
    """The config that belongs to a file, by the file beside it or by its name.

    Raises UserError that begins with `flag` where neither says.
    """
    if beside(path).is_file():
        try:
            return configs.typed(json.loads(beside(path).read_text())["config"])
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{beside(path)} is damaged; name the --config") from None
    known = guided_diffusion.RELEASED.get(path.name)
    if known and (CONFIGS / f"{known.config}.py").is_file():
        return configs.load_file(str(CONFIGS / f"{known.config}.py"), known.variant)
    told = guided_diffusion.architecture(tensors)
    shown = ", ".join(f"{k} {v}" for k, v in told.items() if v is not None)
    raise UserError(
        f"{flag}={path}: no {beside(path).name} beside it, and not the name of a released file; "
        f"--mode=import takes a --config for it. Its shapes say {shown}"
    )


def check_system(config: ConfigDict, kind: str, key: str) -> None:
    """UserError that begins with `key` where a config is for another network than a file's."""
    wanted = SYSTEMS.get(kind, "diffusion")
    pairs = config.data.pairs if config.system == "diffusion" else ""
    enlarges = pairs == "upscale"
    if config.system != wanted or (kind == UPSAMPLER) != enlarges:
        held = f"a {config.system}" + (" of pairs=upscale" if enlarges else "")
        raise UserError(f"{key} holds a {kind}, and --config is for {held}")

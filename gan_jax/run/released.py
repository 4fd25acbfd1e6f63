"""Files of guided-diffusion as runs: the config that belongs to one, and the facts of its data.

This is the one place where a run meets that program: `interop.guided_diffusion` reads its files and
knows no config, and everything else in this folder knows neither.
"""

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
SYSTEMS = {CLASSIFIER: "noisy_classifier"}  # by kind, as `identify` says; all others: diffusion
NETS = {"diffusion": "unet", "noisy_classifier": "classifier"}


def facts_of(config: ConfigDict, tensors: Mapping[str, np.ndarray], resolution: int = 0) -> Facts:
    """The facts of a network's data, as far as its shapes and its config tell them.

    How many images there were is not known: 0. `resolution` is that of its images where neither
    says it. Raises UserError where nothing does.
    """
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
    """Raises UserError where tensors differ from a network's parameters, which may be shapes.

    The message begins with `key` and lists the first of them.
    """
    wrong = guided_diffusion.mismatches(tensors, params)
    if wrong:
        raise UserError(f"{key} is of another architecture: {'; '.join(wrong)}")


def beside(path: Path) -> Path:
    """The file with the config of a network that was exported."""
    return path.with_suffix(f"{path.suffix}.json")


def config_of(path: Path, tensors: Mapping[str, np.ndarray], key: str) -> ConfigDict:
    """The config that belongs to a file, by the file beside it or by its name.

    Raises UserError that begins with `key` where neither says it.
    """
    if beside(path).is_file():
        try:
            return configs.typed(json.loads(beside(path).read_text())["config"])
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{beside(path)} is damaged; name a config") from None
    known = guided_diffusion.RELEASED.get(path.name)
    if known and (CONFIGS / f"{known.config}.py").is_file():
        return configs.load_file(str(CONFIGS / f"{known.config}.py"), known.variant)
    told = guided_diffusion.architecture(tensors)
    shown = ", ".join(f"{k} {v}" for k, v in told.items() if v is not None)
    raise UserError(
        f"{key}={path}: no {beside(path).name} beside it, and not the name of a released file; "
        f"importing it as a run takes a config. Its shapes say {shown}"
    )


def check_system(config: ConfigDict, kind: str, key: str) -> None:
    """Raises UserError that begins with `key` where a config is for another network than a file's.

    `kind` is the file's, as `guided_diffusion.identify` says.
    """
    wanted = SYSTEMS.get(kind, "diffusion")
    pairs = config.data.pairs if config.system == "diffusion" else ""
    enlarges = pairs == "upscale"
    if config.system != wanted or (kind == UPSAMPLER) != enlarges:
        held = f"a {config.system}" + (" of pairs=upscale" if enlarges else "")
        raise UserError(f"{key} holds a {kind}, and the config is for {held}")

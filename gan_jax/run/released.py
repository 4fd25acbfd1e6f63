"""Files of guided-diffusion as runs: the config that belongs to a file, and the facts of its data.

Only this file brings the two together: `interop.guided_diffusion` reads the files but knows no
configs, and the rest of this folder knows nothing of that program.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from gan_jax import config as configs
from gan_jax.core.system import Facts, PyTree
from gan_jax.data import config as config_data
from gan_jax.errors import UserError
from gan_jax.files import read_json
from gan_jax.interop import guided_diffusion
from gan_jax.interop.guided_diffusion_layers import CLASSIFIER, UPSAMPLER

CONFIGS = Path(__file__).parents[2] / "configs"
SYSTEMS = {CLASSIFIER: "noisy_classifier"}  # by kind, as `identify` says; all others: diffusion
NETS = {"diffusion": "unet", "noisy_classifier": "classifier"}


def facts_of(
    path: Path, config: ConfigDict, tensors: Mapping[str, np.ndarray], resolution: int = 0
) -> Facts:
    """The facts of a network's data, as far as they follow from its shapes and its config, and from
    the .json file beside the file at `path`: the names of its classes.

    The number of images is not known, so it is 0. `resolution` is used if neither the shapes nor
    the config give the resolution of the images. Raises UserError if nothing gives it.
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
    found = Facts(side, images, classes or told.get("outputs", 0) or 0, 0, 0, inputs)
    try:
        known = Facts.read(read_json(beside(path))["data"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return found  # another config was named, and this one may be absent or damaged
    if known.num_classes != found.num_classes:
        return found  # such as of a network that was not told the classes of its data
    return found._replace(class_names=known.class_names, empty_classes=known.empty_classes)


def check_fits(tensors: Mapping[str, np.ndarray], params: PyTree, key: str) -> None:
    """Raises UserError if tensors differ from a network's parameters in names or shapes.

    `params` may hold shapes instead of arrays. The message begins with `key` and lists the first
    differences.
    """
    wrong = guided_diffusion.mismatches(tensors, params)
    if wrong:
        raise UserError(f"{key} is of another architecture: {'; '.join(wrong)}")


def beside(path: Path) -> Path:
    """The file with the config of an exported network, which lies beside its weights."""
    return path.with_suffix(f"{path.suffix}.json")


def config_of(path: Path, tensors: Mapping[str, np.ndarray], key: str) -> ConfigDict:
    """The config that belongs to a file: that of the .json file beside it, or that of a released
    file of this name.

    Raises a UserError that begins with `key` if there is neither.
    """
    if beside(path).is_file():
        try:
            return configs.typed(read_json(beside(path))["config"])
        except (OSError, ValueError, KeyError, TypeError):
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
    """Raises a UserError that begins with `key` if a config is for another kind of network than a
    file holds. `kind` is that of the file, as `guided_diffusion.identify` returns it."""
    wanted = SYSTEMS.get(kind, "diffusion")
    pairs = config.data.pairs if config.system == "diffusion" else ""
    enlarges = pairs == "upscale"
    if config.system != wanted or (kind == UPSAMPLER) != enlarges:
        held = f"a {config.system}" + (" of pairs=upscale" if enlarges else "")
        raise UserError(f"{key} holds a {kind}, and the config is for {held}")

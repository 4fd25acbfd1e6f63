"""The programs that the contract of systems runs over, and what makes a setting part of one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gan_jax import config as configs
from gan_jax.errors import UserError

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "configs"
# Compiling is what the contract costs, so variants that go together share a program. Every setting
# of every config and variant is in one of these: tests/systems/test_tiny.py names one that is not.
PROGRAMS = (
    "classifier_mnist",
    "segmenter_facades",
    "identity_drawn",
    "dcgan_cifar10",
    "dcgan_fashion",
    "dcgan_mnist:pytorch_gan,labels",
    "mlpgan_mnist",
    "mlpgan_mnist:wgan_gp",
    "mlpgan_mnist:conv",
    "mlpgan_mnist:conv_pool",
    "gan_folder:laptop,labels",
    "sngan_cifar10",
    "pix2pix_facades",
    "pix2pix_facades:pytorch_gan,wgan_gp",
    "pix2pix_photos",
    "pix2pix_photos:inpaint",
    "progan_celebahq:nopixelnorm,nowscale,noleakyrelu,nosmoothing",
    "progan_celebahq:half",
    "progan_cifar10_theano:labels",
    "progan_mnist",
    "diffusion_mnist:labels,v",
    "diffusion_mnist:edm",
    "diffusion_cifar10",
    "diffusion_cifar10:flow",
    "diffusion_cifar10:vlb,classes",
    "diffusion_folder:labels",
    "diffusion_imagenet64",
    "upsampler_64_256",
    "noisy_classifier_imagenet128",
    "noisy_classifier_mnist",
    "warpgan_drawn:faithful",
    "warpgan_folder",
)
# of each system the one that compiles fast
FLOAT32 = (
    "classifier_mnist",
    "mlpgan_mnist",
    "pix2pix_facades",
    "progan_mnist",
    "diffusion_mnist:edm",
    "noisy_classifier_mnist",
    "warpgan_folder",
)
# their generator and sampler are those of the program named here: only discriminators differ
SAME_IMAGES = {"mlpgan_mnist:conv": "mlpgan_mnist", "mlpgan_mnist:conv_pool": "mlpgan_mnist"}


def is_diffusion(program: str) -> bool:
    """Whether a program is of diffusion, of its upsamplers or of its noisy classifiers."""
    return program.startswith(("diffusion", "upsampler", "noisy_classifier"))


def is_exact(program: str) -> bool:
    """Whether the network computes in what its weights have: in doubles, if they are."""
    return load(program).model.get("dtype", "float32") == "float32"


def makes_images(program: str) -> bool:
    """Whether the system of a program samples images; a segmenter draws label maps."""
    config = load(program)
    classifies = config.system in ("classifier", "noisy_classifier")
    return not classifies or config.model.get("output", "") == "pixels"


def accepted(file: Path) -> tuple[str, ...]:
    """The variants of a config file but `tiny`, as its refusal of another one lists them."""
    with pytest.raises(UserError) as refusal:
        configs.load_file(str(file), "none_of_this_name")
    return tuple(v for v in str(refusal.value).split("has ")[1].split(", ") if v != "tiny")


def alone() -> list[str]:
    """Every config, and every config with one of its variants: "name" or "name:variant"."""
    files = sorted(FOLDER.glob("*.py"))
    return [f"{f.stem}:{v}".rstrip(":") for f in files for v in ("", *accepted(f))]


def load(program: str, tiny: bool = True):
    """The config of "name" or "name:variant,variant", at its tiny size unless told otherwise."""
    name, _, variant = program.partition(":")
    return configs.load_file(str(FOLDER / f"{name}.py"), f"{variant},tiny" if tiny else variant)


# read on the host, or nowhere at the tiny size
OUTSIDE = {"run", "quality", "best", "restore", "seed", "sampling"}
OF_DATA = ("pairs", "channels")


def settings(config) -> set[tuple[str, str]]:
    """(key, value) of all that shapes a config's step.

    Numbers count as zero or not: how large they are changes constants of a program, not its form.
    """
    values = {k: v for k, v in configs.plain(config).items() if k not in OUTSIDE}
    values["data"] = {k: values["data"][k] for k in OF_DATA}
    if config.system == "progan":
        del values["growth"]  # of other stages than the first
    if config.system == "diffusion":
        for process in {"discrete", "flow", "edm"} - {config.diffusion.process}:
            del values[process]
    return {(f"{config.system}.{key}", value) for key, value in _leaves(values)}


def _leaves(values: dict, prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            numbers = all(isinstance(item, int | float) for item in value)
            yield prefix + key, str(any(value) if numbers else sorted(map(str, value)))
        else:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            yield prefix + key, str(value != 0 if number else value)

"""What is measured: a config of every kind, with the facts about its data and its contenders.

A case is a shipped config, as it is on GPUs and TPUs, and with smaller batches or networks on a CPU
where a step would take many seconds there. No data are needed: the facts say what they would be.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ml_collections import ConfigDict

from benchmarks import machine
from gan_jax import config as configs
from gan_jax.core.system import Facts, Stage
from gan_jax.errors import UserError, near_miss
from gan_jax.run.experiment import Experiment

Changes = Mapping[str, Any]  # values of config keys, such as "model.gen.width"

SMALL_SAMPLE = 8  # images drawn at a time with --small

DIGITS = Facts(28, 1, 10, 9000, 1000)
# one class is drawn, so that other programs can know the classes of our fakes
CIFAR = Facts(32, 3, 10, 50_000, 10_000, empty_classes=tuple(range(1, 10)))
FACADES = Facts(256, 3, 0, 400, 100, input_channels=3)
PHOTOS = Facts(64, 3, 0, 50_000, 1000)
DRAWN = Facts(64, 3, 100, 3600, 864, input_channels=3)


@dataclass(frozen=True)
class Case:
    """A config class, and how it is measured.

    `contender` names the module of benchmarks.contenders with the same step in PyTorch ("" if there
    is none), and `losses` are the metrics that have to agree. `changes` always hold, `on_cpu` only
    there, and `small` with --small. `sampled` is how many images are drawn at a time. `noise` is
    added to the weights before contenders are compared: as they are initialised, some networks say
    nearly the same of any image.
    """

    name: str
    system: str
    config: str
    title: str
    facts: Facts
    contender: str
    losses: tuple[str, ...]
    changes: Changes = field(default_factory=dict)
    on_cpu: Changes = field(default_factory=dict)
    small: Changes = field(default_factory=dict)
    sampled: int = 64
    needs_accelerator: bool = False
    noise: float = 0.1

    def values(self, small: bool = False) -> dict[str, Any]:
        """The values that differ from those of the config, by key, on this machine."""
        here = {} if machine.accelerated() else self.on_cpu
        return {**self.changes, **here, **(self.small if small else {})}

    def drawn(self, small: bool = False) -> int:
        """How many images are drawn at a time on this run of the benchmark."""
        return min(self.sampled, SMALL_SAMPLE) if small else self.sampled

    def load(self, small: bool = False, **more: Any) -> ConfigDict:
        """The config; `more` are further values, with "__" in place of a dot."""
        found = configs.load_file(self.config)
        named = {key.replace("__", "."): value for key, value in more.items()}
        found.update_from_flattened_dict({**self.values(small), **named})
        return found

    def experiment(self, small: bool = False, **more: Any) -> Experiment:
        """The experiment on one device, without its data; see `load` for `more`."""
        config = self.load(small, run__devices=1, **more)
        return Experiment(config, self.facts._replace(resolution=config.data.resolution))

    def agreeing(self) -> Experiment:
        """The small experiment, with constant learning rates as those of the contenders are."""
        sections = self.load(small=True).optim
        schedules = {f"optim__{net}__schedule__name": "constant" for net in sections}
        schedules |= {f"optim__{net}__schedule__warmup": 0 for net in sections}
        return self.experiment(small=True, **schedules)


def stage_of(experiment: Experiment) -> Stage:
    """The stage that is measured: the last one, at the final resolution."""
    return experiment.last


def torch_is_here() -> bool:
    """Whether PyTorch is installed."""
    return importlib.util.find_spec("torch") is not None


GAN_LOSSES = ("loss/gen", "loss/disc")
PIX2PIX_LOSSES = ("loss/gan", "loss/l1_weighted", "loss/disc")
PROGAN_LOSSES = ("loss/disc", "loss/gradient_penalty", "loss/drift", "loss/gen")
DIFFUSION_LOSSES = ("loss/mse", "loss/vb", "loss/unet")
WARPGAN_LOSSES = (
    "loss/identity_disc",
    "loss/patch_disc",
    "loss/identity_gen",
    "loss/patch_gen",
    "loss/reconstruction_caricature",
    "loss/reconstruction_photo",
    "loss/style_reconstruction",
)
QUIET = 0.05  # with more noise, variances are so far from those of the chain that digits are lost
NARROW = {"model.gen.width": 8, "model.disc.width": 8, "batch_size": 4}
TWENTY = {"sampling.sampler": "ancestral", "sampling.steps": "20"}

CASES = (
    Case(
        "gan_dense", "gan", "mlpgan_mnist", "dense GAN, 28 px", DIGITS, "gan", GAN_LOSSES,
        small={"model.gen.width": 16, "model.disc.width": 16, "batch_size": 8}, sampled=1024,
    ),
    Case(
        "dcgan_28", "gan", "dcgan_mnist", "DCGAN with R1, 28 px", DIGITS, "gan",
        (*GAN_LOSSES, "loss/r1"), small=NARROW, sampled=256,
    ),
    Case(
        "dcgan_32", "gan", "dcgan_cifar10", "DCGAN, 2 discriminator steps, 32 px", CIFAR, "gan",
        GAN_LOSSES, on_cpu={"batch_size": 16}, small=NARROW,
    ),
    Case(
        "sngan_32", "gan", "sngan_cifar10", "SNGAN, 5 discriminator steps, 32 px", CIFAR, "gan",
        GAN_LOSSES, on_cpu={"batch_size": 4}, small=NARROW,
    ),
    Case(
        "pix2pix_256", "pix2pix", "pix2pix_facades", "pix2pix, 256 px", FACADES, "pix2pix",
        PIX2PIX_LOSSES, small={"model.gen.width": 4, "model.disc.width": 4}, sampled=4,
    ),
    Case(
        "pix2pix_256_b4", "pix2pix", "pix2pix_facades", "pix2pix, 256 px", FACADES, "pix2pix",
        PIX2PIX_LOSSES, changes={"batch_size": 4},
        small={"model.gen.width": 4, "model.disc.width": 4, "batch_size": 2}, sampled=4,
    ),
    Case(
        "progan_32", "progan", "progan_mnist", "ProGAN, last stage, 32 px",
        DIGITS, "progan", PROGAN_LOSSES,
        small={"model.fmap_base": 128, "model.fmap_max": 16, "growth.batch": "4:8,8:8,16:8,32:8"},
        sampled=256,
    ),
    Case(
        "progan_cifar_32", "progan", "progan_cifar10", "ProGAN of 512 channels, last stage, 32 px",
        CIFAR, "progan", PROGAN_LOSSES,
        small={"model.fmap_base": 128, "model.fmap_max": 16}, needs_accelerator=True,
    ),
    Case(
        "warpgan_64", "warpgan", "warpgan_drawn", "WarpGAN, 64 px", DRAWN, "warpgan",
        WARPGAN_LOSSES, sampled=16,
        small={"model.width": 4, "model.disc_width": 4, "model.blocks": 1, "batch_size": 2},
    ),
    Case(
        "diffusion_32", "diffusion", "diffusion_cifar10", "diffusion, 32 px", CIFAR, "diffusion",
        DIFFUSION_LOSSES, changes=TWENTY, sampled=16, noise=QUIET,
        on_cpu={"batch_size": 32, "model.num_channels": 64, "model.num_res_blocks": 1},
        small={
            "batch_size": 4, "model.num_channels": 32, "model.num_res_blocks": 1,
            "model.channel_mult": (1, 1, 2), "sampling.steps": "2",
        },
    ),
    Case(
        "diffusion_64", "diffusion", "diffusion_folder", "diffusion, 64 px", PHOTOS, "diffusion",
        DIFFUSION_LOSSES, changes={"model.dtype": "float32", **TWENTY}, sampled=4, noise=QUIET,
        on_cpu={"batch_size": 4, "model.num_channels": 64},
        small={
            "batch_size": 2, "model.num_channels": 32, "model.num_res_blocks": 1,
            "model.channel_mult": (1, 1, 2), "model.num_head_channels": 32, "sampling.steps": "2",
            "data.resolution": 32, "model.attention_resolutions": (8,),
        },
    ),
    Case(
        "classifier_28", "classifier", "classifier_mnist", "classifier of digits", DIGITS,
        "classifier", ("loss/classifier",), small={"model.width": 4, "batch_size": 8},
    ),
    Case(
        "noisy_classifier_28", "noisy_classifier", "noisy_classifier_mnist",
        "classifier of noisy digits", DIGITS, "noisy_classifier", ("loss/classifier",),
        small={"batch_size": 4, "model.num_channels": 16, "model.num_head_channels": 16},
    ),
)  # fmt: skip


def chosen(words: str, everything: tuple[Any, ...] = CASES) -> tuple[Any, ...]:
    """The cases that `words`, separated by commas, name by their name or their system, in the order
    of the words; "all": every one that is left.

    Raises UserError for a word that names none of them.
    """
    wanted = [word.strip() for word in words.split(",") if word.strip()]
    known = [*dict.fromkeys(word for case in everything for word in (case.system, case.name))]
    for word in wanted:
        if word not in ("all", *known):
            raise UserError(
                f"--system={word}: accepted are all, {', '.join(known)}{near_miss(word, known)}"
            )
    found = (
        c for word in wanted or ["all"] for c in everything if word in (c.system, c.name, "all")
    )
    return tuple({case.name: case for case in found}.values())

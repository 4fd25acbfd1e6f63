"""The sections of a config that the system `pix2pix` reads, and which values they may have."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gan_jax.core import grads, optim, schedules
from gan_jax.core.system import Facts, Stage
from gan_jax.errors import UserError, at_least, one_of
from gan_jax.models import pix2pix as networks
from gan_jax.models.precision import DTYPES

ORDERS = ("generator_first", "discriminator_first")
DISTANCES = ("l1", "l2")
MARGIN = 1 / 100  # a halving rate that ends above this share of its start deserves a notice


@dataclass(frozen=True)
class Loss:
    """Section `loss` of a config."""

    name: str = "least_squares"  # | non_saturating | wasserstein | hinge | saturating
    order: str = "generator_first"  # | discriminator_first
    gan_weight: float = 1.0  # 0: the distance alone, no discriminator is trained
    l1_weight: float = 100.0  # λ of the distance; 0: none
    distance: str = "l1"  # | l2, the mean squared difference
    disc_weight: float = 0.5  # of real + fake
    gradient_penalty: float = 0.0  # λ, with wasserstein: 10
    real_target: float = 1.0  # below 1: one-sided label smoothing
    pool_size: int = 0  # fakes that the discriminator may be shown again; CycleGAN: 50


@dataclass(frozen=True)
class Test:
    """Section `test` of a config: how images are made when nothing is trained."""

    dropout: bool = False  # drop features when sampling too, from each image's own seed
    norm: str = "running"  # | batch: batch norm by the image's own statistics
    train_mode_loss: bool = False  # validate with dropout and the image's own statistics as well


def defaults() -> dict:
    """The sections of a config that this system reads."""
    return dict(
        batch_size=1,
        microbatches=1,  # parts of a batch whose gradients are averaged: less memory
        data=dict(pairs="inpaint"),
        model=networks.defaults(),
        loss=asdict(Loss()),
        test=asdict(Test()),
        optim=dict(gen=optim.defaults(b1=0.5), disc=optim.defaults(b1=0.5)),
        quality=dict(metrics=("fid", "kid")),  # the usual metrics need classes
        best=dict(metric="val/l1"),
    )


def unused(config) -> dict[str, Any]:
    """Options that are set although the chosen networks do not have them, with their defaults.

    Returns {key: default value}, with keys such as "model.gen.dropout_place". `make` refuses a
    config with such options; see `gan_jax.config.as_built`.
    """
    return {f"model.{key}": value for key, value in networks.unused(config.model).items()}


def check(config, facts: Facts) -> None:
    """Raises UserError for values that are not accepted, alone or together."""
    if not facts.input_channels:
        raise UserError(
            "config.data.pairs='none': pix2pix needs pairs; set side_by_side or folders, or make "
            "them from photos with colorize or inpaint"
        )
    if config.data.pairs == "upscale":
        raise UserError(
            "config.data.pairs='upscale': pix2pix wants inputs as large as outputs; "
            "config.system=diffusion enlarges"
        )
    at_least("config.batch_size", config.batch_size, 1)
    grads.check_parts(config.microbatches, config.batch_size)
    one_of("config.model.dtype", config.model.dtype, DTYPES)
    one_of("config.test.norm", config.test.norm, ("running", "batch"))
    loss = config.loss
    one_of("config.loss.order", loss.order, ORDERS)
    one_of("config.loss.distance", loss.distance, DISTANCES)
    for name in ("gan_weight", "l1_weight", "disc_weight", "gradient_penalty", "pool_size"):
        at_least(f"config.loss.{name}", loss[name], 0)
    if not loss.gan_weight and not loss.l1_weight:
        raise UserError(
            "config.loss.gan_weight and config.loss.l1_weight are both 0: nothing would be learnt"
        )
    disc_norm = networks.discriminator(config.model.disc, facts.resolution).norm
    if loss.gradient_penalty and disc_norm == "batch":
        raise UserError(
            "config.loss.gradient_penalty wants a discriminator whose images do not mix: set "
            "config.model.disc.norm to instance or none"
        )


def patch_notices(config, facts: Facts) -> list[str]:
    """A line about the patches that the discriminator classifies."""
    module = networks.discriminator(config.model.disc, facts.resolution)
    field = networks.receptive_field(module.strides())
    count = module.map_size(facts.resolution)
    return [f"disc judges {count}x{count} patches of {field}x{field} pixels"]


def halving_notices(config, stages: Sequence[Stage], epoch_steps: Sequence[int]) -> list[str]:
    """A line for each halving rate that ends high, with a period at which it would end low enough,
    if there is one."""
    epochs, notes = math.ceil(stages[-1].end / epoch_steps[0]), []
    for name, section in config.optim.items():
        schedule = section.schedule
        if schedule.name != "halving" or schedule.unit != "epochs" or not section.lr:
            continue
        floor, factor = schedule.floor / section.lr, schedule.factor
        ratio = max(factor ** (epochs // schedule.every), floor)
        if ratio <= MARGIN or factor >= 1:
            continue
        note = f"the learning rate of {name} ends at {ratio:.3g} of its start"
        period = schedules.halving_period(epochs, MARGIN, factor)
        if max(factor ** (epochs // period), floor) <= MARGIN:
            note += f"; with config.optim.{name}.schedule.every={period} it would at {MARGIN:g}"
        notes.append(note)
    return notes

"""The sections of a config that the system `gan` reads, and which values they may have."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

from gan_jax.core import grads, optim
from gan_jax.core.system import Facts, TrainState
from gan_jax.errors import UserError, at_least, one_of
from gan_jax.models import gan as networks
from gan_jax.models.precision import DTYPES

ORDERS = ("generator_first", "discriminator_first")


@dataclass(frozen=True)
class Loss:
    """Section `loss` of a config. A weight of 0 switches its term off."""

    name: str = "non_saturating"  # | saturating | least_squares | hinge | wasserstein
    order: str = "generator_first"  # | discriminator_first
    disc_steps: int = 1
    disc_weight: float = 1.0  # of real + fake; PyTorch-GAN: 0.5
    real_target: float = 1.0  # below 1: one-sided label smoothing
    flip: float = 0.0  # probability that an image is shown under the other label
    gradient_penalty: float = 0.0  # λ, WGAN-GP: 10
    clip_weights: float = 0.0  # WGAN: 0.01
    r1: float = 0.0  # γ, the penalty is γ/2 · ‖∇D(real)‖²
    orthogonal: float = 0.0  # β, both networks
    orthogonal_form: str = "biggan"  # | brock
    mode_seeking: float = 0.0
    reconstruction: float = 0.0  # weight of the distance to the real images of the batch
    reconstruction_norm: str = "l1"  # | l2
    noise: float = 0.0  # standard deviation of instance noise at step 0, range [-1, 1]
    noise_steps: int = 0  # steps until it is zero


def defaults() -> dict:
    """The sections of a config that this system reads."""
    return dict(
        batch_size=64,  # images per update of either network
        microbatches=1,  # parts of a batch whose gradients are averaged: less memory
        augment=(),  # DiffAugment on real and fake: color, translation, cutout
        model=dict(
            z_dim=100,
            conditioning="none",  # none | concat | projection
            dtype="float32",  # | bfloat16 | float16, of activations; weights stay float32
            gen=networks.generator_defaults(),
            disc=networks.discriminator_defaults(),
        ),
        loss=asdict(Loss()),
        optim=dict(gen=optim.defaults(b1=0.5), disc=optim.defaults(b1=0.5)),
        best=dict(metric="fd_classifier"),
    )


def check(config, facts: Facts) -> None:
    """Raises UserError for values that are not accepted, alone or together."""
    _check_loss(config.loss)
    model = config.model
    at_least("config.batch_size", config.batch_size, 1)
    grads.check_parts(config.microbatches, config.batch_size)
    one_of("config.model.dtype", model.dtype, DTYPES)
    at_least("config.model.z_dim", model.z_dim, 1)
    one_of("config.model.conditioning", model.conditioning, ("none", "concat", "projection"))
    if model.conditioning != "none" and not facts.num_classes:
        raise UserError(
            f"config.model.conditioning={model.conditioning!r} needs labelled data and this "
            "source has no labels; set it to none, or choose config.data.labels"
        )
    _check_comparisons(model.disc, config.batch_size)


def _check_loss(loss) -> None:
    one_of("config.loss.order", loss.order, ORDERS)
    one_of("config.loss.orthogonal_form", loss.orthogonal_form, ("biggan", "brock"))
    one_of("config.loss.reconstruction_norm", loss.reconstruction_norm, ("l1", "l2"))
    at_least("config.loss.disc_steps", loss.disc_steps, 1)
    weights = ("disc_weight", "gradient_penalty", "clip_weights", "r1", "orthogonal")
    for name in (*weights, "mode_seeking", "reconstruction", "noise"):
        at_least(f"config.loss.{name}", loss[name], 0)
    if loss.noise and loss.noise_steps < 1:
        raise UserError("config.loss.noise needs config.loss.noise_steps: steps until it is zero")
    if not 0 <= loss.flip < 0.5:
        raise UserError(f"config.loss.flip={loss.flip}: a probability in [0, 0.5)")


def check_parts(config, init: Callable[[], TrainState]) -> None:
    """Raises UserError if something computes with several images of a batch at once, of which
    parts of the batch would have too few. `init()` gives a state at step 0."""
    parts, disc = config.microbatches, config.model.disc
    grads.check_unmixed(parts, init)
    grads.check_groups(parts, config.batch_size, disc.minibatch_stddev)
    if parts > 1 and disc.minibatch_discrimination:
        why = "config.model.disc.minibatch_discrimination compares all images of a batch"
        raise grads.refused(parts, why)
    if parts > 1 and config.loss.mode_seeking:
        why = "config.loss.mode_seeking is a ratio of distances in the whole batch"
        raise grads.refused(parts, why)


def _check_comparisons(disc, batch_size: int) -> None:
    """The layers with which a discriminator compares the images of a batch with each other."""
    group = disc.minibatch_stddev
    if group < 0 or (group and batch_size % min(group, batch_size)):
        raise UserError(
            f"config.model.disc.minibatch_stddev={group}: groups must divide config.batch_size "
            f"{batch_size}; 0 for none"
        )
    if disc.minibatch_discrimination < 0 or disc.minibatch_discrimination_dims < 1:
        raise UserError(
            "config.model.disc.minibatch_discrimination: needs 0 (none) or more kernels of "
            "minibatch_discrimination_dims 1 or more"
        )


def shortened(config, share: float) -> dict[str, int]:
    """The keys that measure a length, for a run of `share` of the config's length."""
    if not config.loss.noise:
        return {}
    return {"loss.noise_steps": max(round(config.loss.noise_steps * share), 1)}

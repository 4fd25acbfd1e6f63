"""Gaussian diffusion in discrete steps: noising, what a network's output predicts, and its losses.

After Ho 2020 (DDPM), Nichol & Dhariwal 2021 (learned variances, the bound in bits) and their code
in guided-diffusion; velocities after Salimans & Ho 2022, the weight by signal-to-noise ratio after
Hang 2023. Images are x [B, H, W, C] in [-1, 1], noise is of the same shape, t is int [B]: indices
of the chain, 0 the least noisy one. Results have the dtype of the image given.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gan_jax.errors import UserError
from gan_jax.ops.diffusion import gaussian
from gan_jax.ops.diffusion.noise_schedules import Chain
from gan_jax.ops.images import per_image

TARGETS = ("epsilon", "start_x", "previous_x", "v")
VARIANCES = ("fixed_large", "fixed_small", "learned", "learned_range")
LOSSES = ("mse", "rescaled_mse", "kl", "rescaled_kl")


class Objective(NamedTuple):
    """What a network of a chain predicts, and its loss; see `predict` and `losses`."""

    target: str
    """What its first C channels predict, one of `TARGETS`."""
    variance: str
    """One of `VARIANCES`; a learned one takes C channels more."""
    loss: str = "mse"
    """One of `LOSSES`."""
    min_snr: float = 0.0
    """γ of the weight min(SNR, γ) on the error of x_0; 0: no weight."""


class Prediction(NamedTuple):
    """p(x_{t-1} | x_t) and the clean image it is made from, each [B, H, W, C]."""

    mean: Array
    variance: Array
    """0 at t = 0 for `fixed_small`, whose logarithm is that of index 1 there."""
    log_variance: Array
    x0: Array


def check(target: str, variance: str, loss: str = "mse", min_snr: float = 0.0) -> None:
    """Raises UserError for names that `predict` and `losses` do not accept, and for a `min_snr`
    with a target or loss for which no weight is defined."""
    for key, found, accepted in (
        ("target", target, TARGETS),
        ("variance", variance, VARIANCES),
        ("loss", loss, LOSSES),
    ):
        if found not in accepted:
            raise UserError(f'{key} "{found}": accepted are {", ".join(accepted)}')
    if not min_snr >= 0:
        raise UserError(f"min_snr {min_snr}: accepted are 0 (no weight) and positive numbers")
    if min_snr and (target == "previous_x" or loss not in ("mse", "rescaled_mse")):
        raise UserError(
            f"min_snr {min_snr} with target {target} and loss {loss}: accepted is 0, or target "
            "epsilon, start_x or v with loss mse or rescaled_mse"
        )


def gather(table: np.ndarray, t: Array, like: Array) -> Array:
    """table [T] at the indices t, [B, 1, 1, 1] to be multiplied with `like` [B, H, W, C]."""
    values = jnp.asarray(table, like.dtype)[t]
    return values.reshape(*values.shape, *[1] * (like.ndim - values.ndim))


def q_sample(chain: Chain, x0: Array, t: Array, noise: Array) -> Array:
    """x_t = √ᾱ_t x_0 + √(1 - ᾱ_t) ε."""
    signal, sigma = _scales(chain, t, x0)
    return signal * x0 + sigma * noise


def _scales(chain: Chain, t: Array, like: Array) -> tuple[Array, Array]:
    """√ᾱ_t and √(1 - ᾱ_t)."""
    tables = np.sqrt(chain.alphas_cumprod), np.sqrt(1 - chain.alphas_cumprod)
    return tuple(gather(table, t, like) for table in tables)


def _inverse_scales(chain: Chain, t: Array, like: Array) -> tuple[Array, Array]:
    """a and b of x_0 = a x_t - b ε: √(1/ᾱ_t) and √(1/ᾱ_t - 1)."""
    recip = 1 / chain.alphas_cumprod
    return tuple(gather(table, t, like) for table in (np.sqrt(recip), np.sqrt(recip - 1)))


def posterior_mean(chain: Chain, x0: Array, x: Array, t: Array) -> Array:
    """The mean of q(x_{t-1} | x_t, x_0); its variance is in the chain's tables."""
    coef1 = gather(chain.posterior_mean_coef1, t, x)
    return coef1 * x0 + gather(chain.posterior_mean_coef2, t, x) * x


def epsilon_of(chain: Chain, x: Array, t: Array, x0: Array) -> Array:
    """The noise that leads from x_0 to x_t: (√(1/ᾱ) x_t - x_0)/√(1/ᾱ - 1)."""
    a, b = _inverse_scales(chain, t, x)
    return (a * x - x0) / b


def velocity_of(chain: Chain, x0: Array, noise: Array, t: Array) -> Array:
    """v = √ᾱ ε - √(1 - ᾱ) x_0. With x_t it gives both: x_0 = √ᾱ x_t - √(1 - ᾱ) v (see
    `start_of`), ε = √ᾱ v + √(1 - ᾱ) x_t."""
    signal, sigma = _scales(chain, t, x0)
    return signal * noise - sigma * x0


def start_of(chain: Chain, x: Array, t: Array, output: Array, target: str) -> Array:
    """x_0 as predicted at x = x_t by an output that aims at `target`; not clipped."""
    if target == "start_x":
        return output
    if target == "epsilon":
        a, b = _inverse_scales(chain, t, x)
        return a * x - b * output
    if target == "v":
        signal, sigma = _scales(chain, t, x)
        return signal * x - sigma * output
    coef1, coef2 = chain.posterior_mean_coef1, chain.posterior_mean_coef2
    return gather(1 / coef1, t, x) * output - gather(coef2 / coef1, t, x) * x


def predict(
    chain: Chain,
    output: Array,
    x: Array,
    t: Array,
    *,
    target: str,
    variance: str,
    clip: bool = True,
    hook: Callable[[Array], Array] | None = None,
) -> Prediction:
    """The distribution of x_{t-1} that follows from a network's output at x = x_t.

    Args:
      output: [B, H, W, C], or [B, H, W, 2C] if the variance is learned: then the last C channels
        are its logarithm (`learned`), or that logarithm's place between those of the posterior
        variance (-1) and β (1) (`learned_range`; not clamped).
      target: what the first C channels predict: `epsilon`, `start_x`, `previous_x` (the posterior
        mean, taken as it is) or `v`.
      clip: whether x_0 is clamped to [-1, 1] before the mean is computed from it.
      hook: applied to x_0 before it is clamped.

    Raises:
      UserError: another target or variance.
      ValueError: an output of another number of channels.
    """
    check(target, variance)
    output, spread = _split(output, x, variance)
    x0 = start_of(chain, x, t, output, target)
    x0 = x0 if hook is None else hook(x0)
    x0 = jnp.clip(x0, -1, 1) if clip else x0
    mean = output if target == "previous_x" else posterior_mean(chain, x0, x, t)
    values = _variances(chain, spread, x, t, variance)
    return Prediction(mean, *(jnp.broadcast_to(value, x.shape) for value in values), x0)


def _split(output: Array, x: Array, variance: str) -> tuple[Array, Array | None]:
    """The part that predicts the image and the one that predicts the variance, if there is one."""
    output, learned = output.astype(x.dtype), variance.startswith("learned")
    channels = x.shape[-1] * (2 if learned else 1)
    if output.shape[-1] != channels:
        raise ValueError(f"variance {variance} takes {channels} channels, found {output.shape}")
    return tuple(jnp.split(output, 2, axis=-1)) if learned else (output, None)


def _variances(
    chain: Chain, spread: Array | None, x: Array, t: Array, variance: str
) -> tuple[Array, Array]:
    """Variance and its logarithm, [B, 1, 1, 1] or [B, H, W, C]."""
    if variance == "fixed_small":
        log_variance = gather(chain.posterior_log_variance, t, x)
        return gather(chain.posterior_variance, t, x), log_variance
    if variance == "fixed_large":
        # β is as good a variance, except at index 0, where the likelihood would suffer (Ho 2020)
        large = np.append(chain.posterior_variance[1], chain.betas[1:])
        return gather(large, t, x), gather(np.log(large), t, x)
    log_variance = spread
    if variance == "learned_range":
        share = (spread + 1) / 2
        least = gather(chain.posterior_log_variance, t, x)
        log_variance = share * gather(np.log(chain.betas), t, x) + (1 - share) * least
    return jnp.exp(log_variance), log_variance


def losses(
    chain: Chain,
    output: Array,
    x0: Array,
    x_t: Array,
    noise: Array,
    t: Array,
    objective: Objective,
) -> dict[str, Array]:
    """The training loss [B] of each example and its terms: `loss`, and `mse`, `vb` if they exist.

    - `mse`: mean squared error of the output against its target; with a learned variance plus the
      term of the bound in bits, which trains the variance alone (no gradient through the mean).
    - `rescaled_mse`: the same, the term of the bound times T/1000.
    - `kl`: the term of the bound in bits. `rescaled_kl`: times T, an estimate of the whole bound.

    Args:
      output: of the network at x_t = q_sample(chain, x0, t, noise); see `predict`. Nothing is
        clipped.
      objective: the loss and what the output means. With its `min_snr` γ above 0 the error of x_0
        has the weight min(SNR, γ), SNR = ᾱ/(1 - ᾱ): on `mse` that is min(SNR, γ)/SNR for epsilon
        and min(SNR, γ)/(SNR + 1) for v. `mse` is weighted, `vb` is not.

    Raises:
      UserError: see `check`.
      ValueError: an output of another number of channels.
    """
    target, variance, loss, min_snr = objective
    check(target, variance, loss, min_snr)
    options = dict(target=target, variance=variance, clip=False)
    if loss in ("kl", "rescaled_kl"):
        vb = bound_bits(chain, predict(chain, output, x_t, t, **options), x0, x_t, t)
        return {"loss": vb * chain.steps if loss == "rescaled_kl" else vb}
    value, spread = _split(output, x_t, variance)
    error = _aim(chain, x0, x_t, noise, t, target) - value
    mse = per_image(jnp.square(error)) * _snr_weight(chain, t, x_t, target, min_snr)
    if spread is None:
        return {"loss": mse, "mse": mse}
    frozen = jnp.concatenate([jax.lax.stop_gradient(value), spread], axis=-1)
    vb = bound_bits(chain, predict(chain, frozen, x_t, t, **options), x0, x_t, t)
    if loss == "rescaled_mse":
        vb = vb * (chain.steps / 1000)
    return {"loss": mse + vb, "mse": mse, "vb": vb}


def _aim(chain: Chain, x0: Array, x_t: Array, noise: Array, t: Array, target: str) -> Array:
    if target == "epsilon":
        return noise
    if target == "start_x":
        return x0
    if target == "v":
        return velocity_of(chain, x0, noise, t)
    return posterior_mean(chain, x0, x_t, t)


def _snr_weight(chain: Chain, t: Array, like: Array, target: str, gamma: float) -> Array | float:
    if not gamma:
        return 1.0
    snr = chain.alphas_cumprod / (1 - chain.alphas_cumprod)
    of_x0 = {"start_x": 1.0, "epsilon": snr, "v": snr + 1}[target]
    return jnp.asarray(np.minimum(snr, gamma) / of_x0, like.dtype)[t]


def bound_bits(chain: Chain, prediction: Prediction, x0: Array, x_t: Array, t: Array) -> Array:
    """The term of the variational bound at t, in bits per dimension: [B].

    KL(q(x_{t-1} | x_t, x_0) ‖ p(x_{t-1} | x_t)), and at t = 0 the negative log-likelihood of the
    grey levels of x_0 (see ops/diffusion/gaussian.py).
    """
    mean, log_variance = prediction.mean, prediction.log_variance
    true_log_variance = gather(chain.posterior_log_variance, t, x_t)
    true_mean = posterior_mean(chain, x0, x_t, t)
    kl = per_image(gaussian.kl(true_mean, true_log_variance, mean, log_variance))
    nll = per_image(-gaussian.discretized_log_likelihood(x0, mean, 0.5 * log_variance))
    return jnp.where(t == 0, nll, kl) / math.log(2)


def bound_terms(
    chain: Chain, prediction: Prediction, x0: Array, x_t: Array, noise: Array, t: Array
) -> dict[str, Array]:
    """The terms of an evaluation of the bound at each t: [B] each.

    `vb` in bits per dimension (see `bound_bits`), `xstart_mse` of the predicted x_0, and `mse` of
    the noise that follows from it. A total is the sum of `vb` over all t plus `prior_bits`.
    """
    epsilon = epsilon_of(chain, x_t, t, prediction.x0)
    return {
        "vb": bound_bits(chain, prediction, x0, x_t, t),
        "xstart_mse": per_image(jnp.square(prediction.x0 - x0)),
        "mse": per_image(jnp.square(epsilon - noise)),
    }


def prior_bits(chain: Chain, x0: Array) -> Array:
    """KL(q(x_T | x_0) ‖ N(0, 1)) in bits per dimension, [B]: the information about the image that
    the noisiest step still holds."""
    signal = chain.alphas_cumprod[-1]
    log_variance = jnp.asarray(np.log1p(-signal), x0.dtype)
    zero = jnp.zeros((), x0.dtype)
    return per_image(gaussian.kl(np.sqrt(signal).item() * x0, log_variance, zero, zero)) / math.log(
        2
    )

"""Three ways to add noise, what a network learns of it, and how it takes noise away again.

`discrete`: T steps of a schedule (Ho et al. 2020; guided-diffusion). `flow`: a straight line from
image to noise whose velocity is learnt (flow matching, Lipman et al. 2023). `edm`: preconditioning
by σ and log-normal σ (Karras et al. 2022, table 1). The network is the same function of (x, time)
for all; x, images and noise are [B, H, W, C], a level is [B]: an index, a time in [0, 1], or a σ.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import ndtri

from gan_jax.errors import UserError
from gan_jax.ops.diffusion import gaussian_diffusion, ode_samplers, timestep_sampler
from gan_jax.ops.diffusion import loss_quarters as quarters
from gan_jax.ops.diffusion.noise_schedules import Chain

PROCESSES = ("discrete", "flow", "edm")
FLOW_TIMES = ("uniform", "logit_normal")
FLOW_SCALE = 1000  # what the network sees of a flow's time, so that its embedding resolves it

NetworkOf = Callable[[Array, Array], Array]
"""(x [B, H, W, C], time [B]) → [B, H, W, C·outputs]."""


class Process(NamedTuple):
    """Pure functions around a network; see the module for shapes."""

    outputs: int
    """What the network says of every channel: 2 where it learns a variance."""
    history: Any
    """Arrays that the choice of levels carries along; {} without."""
    draw: Callable[[Array, Any, int], tuple[Array, Array]]
    """(key, history, B) → levels and weights of their losses, [B] each."""
    spread: Callable[[Array], Array]
    """Uniform numbers in [0, 1), [B] → levels of the distribution that is trained on."""
    seen: Callable[[Any, Array, Array], Any]
    """(history, levels, unweighted losses) → history."""
    noised: Callable[[Array, Array, Array], Array]
    """(image, level, noise) → x."""
    asked: Callable[[Array, Array], tuple[Array, Array]]
    """(x, level) → what the network is given: x, and its time [B]."""
    losses: Callable[..., dict[str, Array]]
    """(output, image, x, noise, level) → `loss` and its terms, [B] each."""
    denoiser: Callable[..., ode_samplers.Denoise]
    """(network, finish) → denoise(x, s) for a path of levels; `finish` is applied to every x_0."""
    path: Callable[[int], ode_samplers.Path]
    """Number of steps → the path that Heun's and, but for discrete, all samplers walk."""
    start: Callable[[ode_samplers.Path], float]
    """Standard deviation of x at the beginning of a path."""
    quarter: Callable[[Array], Array]
    """Level → 0..3, which quarter of the distribution it lies in."""
    quarters: tuple[str, ...]
    """Names of these quarters, by their levels."""


def discrete(
    chain: Chain,
    *,
    target: str,
    variance: str,
    loss: str,
    min_snr: float,
    sampler: str,
    sigma_min: float = 0.0,
    sigma_max: float = 0.0,
    rho: float = 7.0,
) -> Process:
    """The process of a chain; the options are those of `diffusion.losses`.

    `sampler`: "uniform" | "loss_second_moment", how t is drawn. The path of Heun's method goes from
    `sigma_max` to `sigma_min`, where they are 0 those of the chain's ends.

    Raises UserError for options that do not go together.
    """
    gaussian_diffusion.check(target, variance, loss, min_snr)
    if sampler not in timestep_sampler.SAMPLERS:
        raise UserError(
            f"config.discrete.timestep_sampler={sampler!r}: accepted are "
            f"{', '.join(timestep_sampler.SAMPLERS)}"
        )
    steps, times = chain.steps, np.asarray(chain.model_times)
    options = dict(target=target, variance=variance)
    by_loss = sampler == "loss_second_moment"
    sigmas = ode_samplers.from_chain(chain).levels
    time_of = ode_samplers.chain_time(chain)

    def draw(key: Array, history: Any, batch: int) -> tuple[Array, Array]:
        if not by_loss:
            return timestep_sampler.draw_uniform(key, steps, batch)
        weights = timestep_sampler.weights(timestep_sampler.History(**history))
        return timestep_sampler.draw(key, weights, batch)

    def seen(history: Any, t: Array, losses: Array) -> Any:
        if not by_loss:
            return history
        known = timestep_sampler.History(**history)
        return timestep_sampler.update(known, t, losses)._asdict()

    def denoiser(network: NetworkOf, finish: Callable[[Array], Array]) -> ode_samplers.Denoise:
        def denoise(x: Array, sigma: Array) -> Array:
            signal = jax.lax.rsqrt(1 + sigma**2)  # √ᾱ
            time = jnp.full(x.shape[0], time_of(sigma), x.dtype)
            output = network(signal * x, time)[..., : x.shape[-1]]
            if target == "epsilon":
                return finish(x - sigma * output)
            if target == "v":
                return finish(signal**2 * x - sigma * signal * output)
            return finish(output)

        return denoise

    def path(count: int) -> ode_samplers.Path:
        low, high = sigma_min or sigmas[-2], sigma_max or sigmas[0]
        return ode_samplers.karras(count, low, high, rho)

    return Process(
        outputs=2 if variance.startswith("learned") else 1,
        history=timestep_sampler.empty(steps)._asdict() if by_loss else {},
        draw=draw,
        spread=lambda u: timestep_sampler.at_places(u, steps),
        seen=seen,
        noised=lambda image, t, noise: gaussian_diffusion.q_sample(chain, image, t, noise),
        asked=lambda x, t: (x, jnp.asarray(times, x.dtype)[t]),
        losses=lambda output, image, x, noise, t: gaussian_diffusion.losses(
            chain, output, image, x, noise, t, loss=loss, min_snr=min_snr, **options
        ),
        denoiser=denoiser,
        path=path,
        start=lambda path: float(np.sqrt(1 + path.levels[0] ** 2)),
        quarter=lambda t: quarters.index(t, steps),
        quarters=quarters.names(steps),
    )


def flow(*, times: str, logit_mean: float, logit_std: float, shift: float) -> Process:
    """x = (1 - t) image + t noise; the network learns noise - image.

    `times`: "uniform", or "logit_normal", the logistic function of a normal (Esser et al. 2024).
    `shift` moves the sampler's steps, see `ode_samplers.uniform`.
    """
    if times not in FLOW_TIMES:
        raise UserError(f"config.flow.times={times!r}: accepted are {', '.join(FLOW_TIMES)}")
    if times == "logit_normal" and not logit_std > 0:
        raise UserError(f"config.flow.logit_std={logit_std}: must be above 0")
    if not shift > 0:
        raise UserError(f"config.flow.shift={shift}: must be above 0; 1 is none")

    def spread(u: Array) -> Array:
        if times == "uniform":
            return u
        return jax.nn.sigmoid(logit_mean + logit_std * ndtri(_inside(u)))

    def losses(output: Array, image: Array, x: Array, noise: Array, t: Array) -> dict[str, Array]:
        mse = _mean(jnp.square(output - (noise - image)))
        return {"loss": mse, "mse": mse}

    def denoiser(network: NetworkOf, finish: Callable[[Array], Array]) -> ode_samplers.Denoise:
        def denoise(x: Array, t: Array) -> Array:
            time = jnp.full(x.shape[0], FLOW_SCALE * t, x.dtype)
            return finish(x - t * network(x, time))

        return denoise

    edges = np.asarray(jax.device_get(spread(jnp.array([0.25, 0.5, 0.75]))))
    return Process(
        outputs=1,
        history={},
        draw=lambda key, history, batch: _uniform_draw(key, batch, spread),
        spread=spread,
        seen=lambda history, t, losses: history,
        noised=lambda image, t, noise: (1 - _tall(t)) * image + _tall(t) * noise,
        asked=lambda x, t: (x, FLOW_SCALE * t),
        losses=losses,
        denoiser=denoiser,
        path=lambda count: ode_samplers.uniform(count, shift),
        start=lambda path: 1.0,
        quarter=lambda t: jnp.searchsorted(jnp.asarray(edges), t),
        quarters=_named("t", [0.0, *edges, 1.0]),
    )


def edm(
    *,
    sigma_data: float,
    mean: float,
    std: float,
    sigma_min: float = 0.0,
    sigma_max: float = 0.0,
    rho: float = 7.0,
) -> Process:
    """x = image + σ noise, ln σ ~ N(mean, std²); x_0 = c_skip x + c_out F(c_in x, ln σ / 4).

    The loss is λ(σ)·|x_0 - image|² with λ = 1/c_out², so it begins at one for every σ. The path is
    that of Karras et al. 2022, equation 5, from σ 80 to 0.002 where not given otherwise.
    """
    for name, value in (("sigma_data", sigma_data), ("std", std)):
        if not value > 0:
            raise UserError(f"config.edm.{name}={value}: must be above 0")

    def spread(u: Array) -> Array:
        return jnp.exp(mean + std * ndtri(_inside(u)))

    def conditioned(sigma: Array) -> tuple[Array, Array, Array]:
        """c_skip, c_out, c_in, shaped to go with images."""
        total = sigma**2 + sigma_data**2
        root = jnp.sqrt(total)
        return tuple(_tall(c) for c in (sigma_data**2 / total, sigma * sigma_data / root, 1 / root))

    def losses(output: Array, image: Array, x: Array, noise: Array, s: Array) -> dict[str, Array]:
        skip, out, _ = conditioned(s)
        missed = output - (image - skip * x) / out
        return {"loss": _mean(jnp.square(missed)), "mse": _mean(jnp.square(out * missed))}

    def denoiser(network: NetworkOf, finish: Callable[[Array], Array]) -> ode_samplers.Denoise:
        def denoise(x: Array, sigma: Array) -> Array:
            each = jnp.full(x.shape[0], sigma, x.dtype)
            skip, out, scale = conditioned(each)
            return finish(skip * x + out * network(scale * x, jnp.log(each) / 4))

        return denoise

    low, high = sigma_min or 0.002, sigma_max or 80.0
    edges = np.asarray(jax.device_get(spread(jnp.array([0.25, 0.5, 0.75]))))
    return Process(
        outputs=1,
        history={},
        draw=lambda key, history, batch: _uniform_draw(key, batch, spread),
        spread=spread,
        seen=lambda history, sigma, losses: history,
        noised=lambda image, sigma, noise: image + _tall(sigma) * noise,
        asked=lambda x, sigma: (conditioned(sigma)[2] * x, jnp.log(sigma) / 4),
        losses=losses,
        denoiser=denoiser,
        path=lambda count: ode_samplers.karras(count, low, high, rho),
        start=lambda path: float(path.levels[0]),
        quarter=lambda sigma: jnp.searchsorted(jnp.asarray(edges), sigma),
        quarters=_named("sigma", [0.0, *edges, np.inf]),
    )


def dynamic_threshold(percentile: float) -> Callable[[Array], Array]:
    """x_0 [B, H, W, C] → clamped to ±s and divided by s, image by image: s is the given quantile of
    its absolute values and at least 1 (Saharia et al. 2022, section 2.3)."""

    def hook(x0: Array) -> Array:
        flat = jnp.abs(x0.reshape(x0.shape[0], -1))
        s = jnp.maximum(jnp.quantile(flat, percentile, axis=1), 1)
        return jnp.clip(x0, -_tall(s), _tall(s)) / _tall(s)

    return hook


def classifier_free(conditional: NetworkOf, plain: NetworkOf, scale: float, channels: int):
    """The network that answers plain + scale · (conditional - plain) in its first `channels`, and
    as the conditional one in the others (Ho & Salimans 2022; scale 1 is no guidance)."""

    def network(x: Array, time: Array) -> Array:
        given, free = conditional(x, time), plain(x, time)
        away = free[..., :channels] + scale * (given[..., :channels] - free[..., :channels])
        return jnp.concatenate([away, given[..., channels:]], axis=-1)

    return network


def classifier_score(classify: NetworkOf, label: Array, scale: float):
    """(x, time) → scale · ∇ₓ log p(label | x, time), [B, H, W, C] (Dhariwal & Nichol 2021, 4.1)."""

    def score(x: Array, time: Array) -> Array:
        def chosen(x: Array) -> Array:
            logits = classify(x, time)
            wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
            return jnp.sum(jnp.take_along_axis(jax.nn.log_softmax(wide), label[:, None], axis=-1))

        return scale * jax.grad(chosen)(x)

    return score


def _uniform_draw(key: Array, batch: int, spread: Callable[[Array], Array]) -> tuple[Array, Array]:
    return spread(jax.random.uniform(key, (batch,))), jnp.ones(batch)


def _inside(u: Array) -> Array:
    """Away from 0, where a normal quantile is infinite."""
    return jnp.clip(u, 1e-6, 1 - 1e-6)


def _tall(values: Array) -> Array:
    return values[:, None, None, None]


def _mean(x: Array) -> Array:
    return jnp.mean(x, axis=tuple(range(1, x.ndim)))


def _named(unit: str, edges: list[float]) -> tuple[str, ...]:
    return tuple(f"{unit}{a:.2g}-{b:.2g}" for a, b in pairwise(edges))

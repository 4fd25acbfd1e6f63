"""Three ways to add noise, what a network learns to predict, and how that takes noise away again.

`discrete`: T steps of a schedule (Ho et al. 2020; guided-diffusion). `flow`: a straight line from
image to noise whose velocity is learned (flow matching, Lipman et al. 2023). `edm`: preconditioning
by σ and log-normal σ (Karras et al. 2022, table 1). The network is the same function of (x, time)
for all; x, images and noise are [B, H, W, C], a level is [B]: an index, a time in [0, 1], or a σ.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import ndtri

from gan_jax.errors import above, one_of
from gan_jax.ops.diffusion import gaussian_diffusion, loss_quarters, ode_samplers, timestep_sampler
from gan_jax.ops.diffusion.gaussian_diffusion import Objective
from gan_jax.ops.diffusion.noise_schedules import Chain
from gan_jax.ops.images import per_image

PROCESSES = ("discrete", "flow", "edm")
FLOW_TIMES = ("uniform", "logit_normal")
FLOW_SCALE = 1000  # a flow's time is multiplied by it, so that the network's embedding resolves it

NetworkOf = Callable[[Array, Array], Array]
"""(x [B, H, W, C], time [B]) → [B, H, W, C·outputs]."""
Finish = Callable[[Array], Array]
"""A function applied to every predicted x_0 [B, H, W, C]: a clamp, or the identity."""


class Sigmas(NamedTuple):
    """The path of σ that a sampler walks; see `ode_samplers.karras`. 0: the process's own end."""

    least: float = 0.0
    most: float = 0.0
    rho: float = 7.0


WHOLE_PATH = Sigmas()


class Process(Protocol):
    """Pure functions around a network; see the module for shapes."""

    outputs: int
    """How many outputs the network has for each channel: 2 if it learns a variance, else 1."""
    quarters: tuple[str, ...]
    """Names of the quarters of the distribution of levels."""

    def history(self) -> Any:
        """The arrays with which the choice of levels begins; {} if it needs none."""

    def draw(self, key: Array, history: Any, count: int) -> tuple[Array, Array]:
        """Samples levels to train on; returns them and the weights of their losses, [B] each."""

    def spread(self, u: Array) -> Array:
        """Uniform numbers in [0, 1), [B] → levels distributed as in training."""

    def remember(self, history: Any, level: Array, losses: Array) -> Any:
        """The history after a step with these levels [B] and unweighted losses [B]."""

    def add_noise(self, image: Array, level: Array, noise: Array) -> Array:
        """The noisy image x at a level."""

    def inputs(self, x: Array, level: Array) -> tuple[Array, Array]:
        """The network's inputs for x at a level: an image, and its time [B]."""

    def losses(
        self, output: Array, image: Array, x: Array, noise: Array, level: Array
    ) -> dict[str, Array]:
        """`loss` and its terms, [B] each, for the network's output at x."""

    def denoiser(self, network: NetworkOf, finish: Finish) -> ode_samplers.Denoise:
        """A function denoise(x, s) → x_0, for a path of levels."""

    def path(self, steps: int) -> ode_samplers.Path:
        """The path of Heun's method, and of all other samplers except those of a chain."""

    def start(self, path: ode_samplers.Path) -> float:
        """Standard deviation of x at the beginning of a path."""

    def quarter(self, level: Array) -> Array:
        """Which quarter of the distribution each level lies in: int [B], 0..3."""


@dataclass(frozen=True, eq=False)
class Discrete(Process):
    """The process of a chain (Ho et al. 2020). A level is an index of the chain, int [B]."""

    chain: Chain
    objective: Objective
    by_loss: bool
    """Whether t is sampled in proportion to the losses, see `timestep_sampler`; else uniformly."""
    sigmas: Sigmas
    outputs: int
    quarters: tuple[str, ...]

    def history(self) -> Any:
        return timestep_sampler.empty(self.chain.steps)._asdict() if self.by_loss else {}

    def draw(self, key: Array, history: Any, count: int) -> tuple[Array, Array]:
        if not self.by_loss:
            return timestep_sampler.draw_uniform(key, self.chain.steps, count)
        weights = timestep_sampler.weights(timestep_sampler.History(**history))
        return timestep_sampler.draw(key, weights, count)

    def spread(self, u: Array) -> Array:
        return timestep_sampler.at_places(u, self.chain.steps)

    def remember(self, history: Any, level: Array, losses: Array) -> Any:
        if not self.by_loss:
            return history
        known = timestep_sampler.History(**history)
        return timestep_sampler.update(known, level, losses)._asdict()

    def add_noise(self, image: Array, level: Array, noise: Array) -> Array:
        return gaussian_diffusion.q_sample(self.chain, image, level, noise)

    def inputs(self, x: Array, level: Array) -> tuple[Array, Array]:
        return x, jnp.asarray(self.chain.model_times, x.dtype)[level]

    def losses(
        self, output: Array, image: Array, x: Array, noise: Array, level: Array
    ) -> dict[str, Array]:
        return gaussian_diffusion.losses(self.chain, output, image, x, noise, level, self.objective)

    def denoiser(self, network: NetworkOf, finish: Finish) -> ode_samplers.Denoise:
        time_of = ode_samplers.chain_time(self.chain)

        def denoise(x: Array, sigma: Array) -> Array:
            signal = jax.lax.rsqrt(1 + sigma**2)  # √ᾱ
            time = jnp.full(x.shape[0], time_of(sigma), x.dtype)
            output = network(signal * x, time)[..., : x.shape[-1]]
            if self.objective.target == "epsilon":
                return finish(x - sigma * output)
            if self.objective.target == "v":
                return finish(signal**2 * x - sigma * signal * output)
            return finish(output)

        return denoise

    def path(self, steps: int) -> ode_samplers.Path:
        levels = ode_samplers.from_chain(self.chain).levels
        least, most = self.sigmas.least or levels[-2], self.sigmas.most or levels[0]
        return ode_samplers.karras(steps, least, most, self.sigmas.rho)

    def start(self, path: ode_samplers.Path) -> float:
        return float(np.sqrt(1 + path.levels[0] ** 2))

    def quarter(self, level: Array) -> Array:
        return loss_quarters.index(level, self.chain.steps)


def discrete(
    chain: Chain, objective: Objective, sampler: str = "uniform", sigmas: Sigmas = WHOLE_PATH
) -> Discrete:
    """The process of a chain; `sampler` is one of `timestep_sampler.SAMPLERS`.

    Raises UserError for options that do not go together.
    """
    gaussian_diffusion.check(*objective)
    one_of("config.discrete.timestep_sampler", sampler, timestep_sampler.SAMPLERS)
    outputs = 2 if objective.variance.startswith("learned") else 1
    names = loss_quarters.names(chain.steps)
    return Discrete(chain, objective, sampler == "loss_second_moment", sigmas, outputs, names)


class Continuous(Process):
    """What `flow` and `edm` have in common: a level is a number, sampled without a history."""

    outputs = 1
    edges: np.ndarray
    """The three levels between the four quarters."""

    def history(self) -> Any:
        return {}

    def draw(self, key: Array, history: Any, count: int) -> tuple[Array, Array]:
        return self.spread(jax.random.uniform(key, (count,))), jnp.ones(count)

    def remember(self, history: Any, level: Array, losses: Array) -> Any:
        return history

    def quarter(self, level: Array) -> Array:
        return jnp.searchsorted(jnp.asarray(self.edges), level)


@dataclass(frozen=True, eq=False)
class Flow(Continuous):
    """x = (1 - t) image + t noise; the network learns noise - image. A level is t in [0, 1]."""

    distribution: Callable[[Array], Array]
    shift: float
    edges: np.ndarray
    quarters: tuple[str, ...]

    def spread(self, u: Array) -> Array:
        return self.distribution(u)

    def add_noise(self, image: Array, level: Array, noise: Array) -> Array:
        return (1 - _tall(level)) * image + _tall(level) * noise

    def inputs(self, x: Array, level: Array) -> tuple[Array, Array]:
        return x, FLOW_SCALE * level

    def losses(
        self, output: Array, image: Array, x: Array, noise: Array, level: Array
    ) -> dict[str, Array]:
        mse = per_image(jnp.square(output - (noise - image)))
        return {"loss": mse, "mse": mse}

    def denoiser(self, network: NetworkOf, finish: Finish) -> ode_samplers.Denoise:
        def denoise(x: Array, t: Array) -> Array:
            time = jnp.full(x.shape[0], FLOW_SCALE * t, x.dtype)
            return finish(x - t * network(x, time))

        return denoise

    def path(self, steps: int) -> ode_samplers.Path:
        return ode_samplers.uniform(steps, self.shift)

    def start(self, path: ode_samplers.Path) -> float:
        return 1.0


def flow(*, times: str, logit_mean: float, logit_std: float, shift: float) -> Flow:
    """Flow matching.

    Args:
      times: "uniform", or "logit_normal", the logistic function of a normal (Esser et al. 2024).
      logit_mean, logit_std: mean and standard deviation of that normal.
      shift: moves the sampler's steps, see `ode_samplers.uniform`.

    Raises UserError for values that are not accepted.
    """
    one_of("config.flow.times", times, FLOW_TIMES)
    if times == "logit_normal":
        above("config.flow.logit_std", logit_std, 0)
    above("config.flow.shift", shift, 0)

    def spread(u: Array) -> Array:
        if times == "uniform":
            return u
        return jax.nn.sigmoid(logit_mean + logit_std * ndtri(_inside(u)))

    edges = _edges(spread)
    return Flow(spread, shift, edges, _named("t", [0.0, *edges, 1.0]))


@dataclass(frozen=True, eq=False)
class Edm(Continuous):
    """x = image + σ noise; x_0 = c_skip x + c_out F(c_in x, ln σ / 4). A level is σ.

    The loss is λ(σ)·|x_0 - image|² with λ = 1/c_out², so that it starts near 1 for every σ.
    """

    distribution: Callable[[Array], Array]
    sigma_data: float
    sigmas: Sigmas
    edges: np.ndarray
    quarters: tuple[str, ...]

    def spread(self, u: Array) -> Array:
        return self.distribution(u)

    def conditioned(self, sigma: Array) -> tuple[Array, Array, Array]:
        """c_skip, c_out and c_in of σ [B], each [B, 1, 1, 1]."""
        total = sigma**2 + self.sigma_data**2
        root = jnp.sqrt(total)
        skip, out = self.sigma_data**2 / total, sigma * self.sigma_data / root
        return tuple(_tall(c) for c in (skip, out, 1 / root))

    def add_noise(self, image: Array, level: Array, noise: Array) -> Array:
        return image + _tall(level) * noise

    def inputs(self, x: Array, level: Array) -> tuple[Array, Array]:
        return self.conditioned(level)[2] * x, jnp.log(level) / 4

    def losses(
        self, output: Array, image: Array, x: Array, noise: Array, level: Array
    ) -> dict[str, Array]:
        skip, out, _ = self.conditioned(level)
        error = output - (image - skip * x) / out
        return {"loss": per_image(jnp.square(error)), "mse": per_image(jnp.square(out * error))}

    def denoiser(self, network: NetworkOf, finish: Finish) -> ode_samplers.Denoise:
        def denoise(x: Array, sigma: Array) -> Array:
            each = jnp.full(x.shape[0], sigma, x.dtype)
            skip, out, scale = self.conditioned(each)
            return finish(skip * x + out * network(scale * x, jnp.log(each) / 4))

        return denoise

    def path(self, steps: int) -> ode_samplers.Path:
        least, most = self.sigmas.least or 0.002, self.sigmas.most or 80.0
        return ode_samplers.karras(steps, least, most, self.sigmas.rho)

    def start(self, path: ode_samplers.Path) -> float:
        return float(path.levels[0])


def edm(*, sigma_data: float, mean: float, std: float, sigmas: Sigmas = WHOLE_PATH) -> Edm:
    """The process of Karras et al. 2022, ln σ ~ N(mean, std²).

    The path is that of equation 5, from σ 80 to 0.002 unless `sigmas` says otherwise.
    Raises UserError for values that are not accepted.
    """
    above("config.edm.sigma_data", sigma_data, 0)
    above("config.edm.std", std, 0)

    def spread(u: Array) -> Array:
        return jnp.exp(mean + std * ndtri(_inside(u)))

    edges = _edges(spread)
    return Edm(spread, sigma_data, sigmas, edges, _named("sigma", [0.0, *edges, np.inf]))


def _edges(spread: Callable[[Array], Array]) -> np.ndarray:
    return np.asarray(jax.device_get(spread(jnp.array([0.25, 0.5, 0.75]))))


def _inside(u: Array) -> Array:
    """u kept away from 0 and 1, where the normal quantile is infinite."""
    return jnp.clip(u, 1e-6, 1 - 1e-6)


def _tall(values: Array) -> Array:
    """[B] → [B, 1, 1, 1]."""
    return values[:, None, None, None]


def _named(unit: str, edges: list[float]) -> tuple[str, ...]:
    return tuple(f"{unit}{a:.2g}-{b:.2g}" for a, b in pairwise(edges))

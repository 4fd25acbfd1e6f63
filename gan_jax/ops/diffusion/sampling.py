"""From noise to images: a sampler, its steps and guidance, chosen once, as one function."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.errors import UserError
from gan_jax.ops.diffusion import chain_samplers, gaussian_diffusion, ode_samplers, processes
from gan_jax.ops.diffusion.noise_schedules import Chain
from gan_jax.ops.diffusion.processes import NetworkOf, Process

SAMPLERS = {
    "discrete": ("ancestral", "ddim", "dpm++", "heun"),
    "flow": ("ddim", "dpm++", "heun"),
    "edm": ("ddim", "dpm++", "heun"),
}
CLIPS = ("static", "dynamic", "none")

Draw = Callable[..., Array]
"""(network, z [B, H, W, C], noise_at, score or None) → images [B, H, W, C] in [-1, 1]."""


class Settings(NamedTuple):
    """The section `sampling` of a config, as systems/diffusion.py describes it."""

    sampler: str
    steps: str
    eta: float
    clip: str
    percentile: float
    guidance: float
    sigma_min: float
    sigma_max: float
    rho: float
    churn: float
    churn_min: float
    churn_max: float
    churn_noise: float

    @property
    def random(self) -> bool:
        """Whether more noise is drawn on the way than that an image begins with."""
        noisy_ddim, noisy_heun = self.eta > 0, self.churn > 0
        return {"ancestral": True, "ddim": noisy_ddim, "heun": noisy_heun}.get(self.sampler, False)

    def check(self, process: str, target: str) -> None:
        """UserError for values that are not accepted, or not with this process or, of a chain, its
        target."""
        key = "config.sampling"
        for name, found, accepted in (
            ("sampler", self.sampler, SAMPLERS[process]),
            ("clip", self.clip, CLIPS),
        ):
            if found not in accepted:
                told = f" with config.diffusion.process={process}" if name == "sampler" else ""
                raise UserError(f"{key}.{name}={found!r}: accepted{told} are {', '.join(accepted)}")
        for name, value, low, high in (
            ("eta", self.eta, 0, 1), ("percentile", self.percentile, 0, 1),
        ):  # fmt: skip
            if not low <= value <= high:
                raise UserError(f"{key}.{name}={value}: must lie in [{low}, {high}]")
        for name in ("sigma_min", "sigma_max", "churn", "churn_min", "churn_max", "churn_noise"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{key}.{name}={getattr(self, name)}: must be at least 0")
        if not self.rho > 0:
            raise UserError(f"{key}.rho={self.rho}: must be above 0")
        if self.sigma_max and self.sigma_min >= self.sigma_max:
            raise UserError(
                f"{key}.sigma_min={self.sigma_min}: must be below sigma_max={self.sigma_max}"
            )
        if self.churn and process == "flow":
            raise UserError(
                f"{key}.churn={self.churn}: must be 0 with config.diffusion.process=flow"
            )
        if not self.walks_chain(process):
            self.count()
        if process == "discrete" and target == "previous_x" and self.sampler in ("dpm++", "heun"):
            raise UserError(
                f"{key}.sampler={self.sampler!r}: config.discrete.target=previous_x says the mean "
                "of the next image and no more; accepted are ancestral, ddim"
            )

    def walks_chain(self, process: str) -> bool:
        """Whether `steps` says which steps of a chain are kept; else it is a number."""
        return process == "discrete" and self.sampler != "heun"

    def count(self) -> int:
        """`steps` as a number. UserError where it is none."""
        if not (self.steps.isascii() and self.steps.isdigit()) or int(self.steps) < 1:
            raise UserError(
                f"config.sampling.steps={self.steps!r}: the sampler {self.sampler} takes a number "
                'of steps here, such as "18"'
            )
        return int(self.steps)


class Kinds(NamedTuple):
    """What the network of a chain says; see `diffusion.predict`."""

    target: str
    variance: str


def make(
    settings: Settings,
    process: Process,
    whole: Chain | None,
    walked: Chain | None,
    kinds: Kinds | None,
    report: Callable[[int], None] | None = None,
) -> Draw:
    """The function that draws images.

    Args:
      settings: which have been checked.
      process: what the network has learnt.
      whole, walked: its chain, if it has one, and the steps of it that are kept; else None.
      kinds: what the chain's network says.
      report: told how many steps are done; see `ops.samplers`.
    """
    hook = processes.dynamic_threshold(settings.percentile) if settings.clip == "dynamic" else None
    clip = settings.clip == "static"
    told = {"report": report}

    def finish(x0: Array) -> Array:
        x0 = x0 if hook is None else hook(x0)
        return jnp.clip(x0, -1, 1) if clip else x0

    def along_chain(network: NetworkOf, z: Array, noise_at, score) -> Array:
        predict = predictor(walked, network, kinds, clip, hook)
        at = None if score is None else _at(walked, score)
        if settings.sampler == "ancestral":
            return chain_samplers.ancestral(walked, predict, z, noise_at, at, **told)
        return chain_samplers.ddim(walked, predict, z, noise_at, settings.eta, at, **told)

    def along_path(network: NetworkOf, z: Array, noise_at, score) -> Array:
        denoise = process.denoiser(network, finish)
        if score is not None:
            denoise = _guided(denoise, ode_samplers.chain_time(whole), score)
        x = process.start(path) * z
        if settings.sampler == "ddim":
            return ode_samplers.euler(denoise, x, path, noise_at, settings.eta, **told)
        if settings.sampler == "dpm++":
            return ode_samplers.dpm_solver_pp_2m(denoise, x, path, **told)
        return ode_samplers.heun(
            denoise, x, path, noise_at, settings.churn, settings.churn_min,
            settings.churn_max or float("inf"), settings.churn_noise, **told,
        )  # fmt: skip

    path = ode_samplers.from_chain(walked) if walked else _path(settings, process)
    chained = walked is not None and settings.sampler in ("ancestral", "ddim")
    run = along_chain if chained else along_path
    return lambda *inputs: jnp.clip(run(*inputs), -1, 1)


def _path(settings: Settings, process: Process) -> ode_samplers.Path:
    try:
        return process.path(settings.count())
    except ValueError as error:  # σ beyond the process's own other end
        raise UserError(f"config.sampling: {error}") from None


def predictor(
    chain: Chain, network: NetworkOf, kinds: Kinds, clip: bool = True, hook=None
) -> chain_samplers.PredictAt:
    """(x, index) → what a network of (x, time) says of x at that step of the chain."""

    def predict(x: Array, index: Array) -> gaussian_diffusion.Prediction:
        time = jnp.asarray(chain.model_times, x.dtype)[index]
        output = network(x, jnp.full(x.shape[0], time))
        t = jnp.full(x.shape[0], index)
        return gaussian_diffusion.predict(
            chain, output, x, t, **kinds._asdict(), clip=clip, hook=hook
        )

    return predict


def _at(chain: Chain, score: NetworkOf) -> chain_samplers.ScoreAt:
    def at(x: Array, index: Array) -> Array:
        return score(x, jnp.full(x.shape[0], jnp.asarray(chain.model_times, x.dtype)[index]))

    return at


def _guided(denoise: ode_samplers.Denoise, time_of, score: NetworkOf) -> ode_samplers.Denoise:
    """x_0 moved as the score form of guidance moves it: eps by -√(1 - ᾱ) · score at √ᾱ x, so x_0 by
    σ √(1 - ᾱ) · score."""

    def guided(x: Array, sigma: Array) -> Array:
        signal = jax.lax.rsqrt(1 + sigma**2)
        time = jnp.full(x.shape[0], time_of(sigma), x.dtype)
        return denoise(x, sigma) + sigma**2 * signal * score(signal * x, time)

    return guided

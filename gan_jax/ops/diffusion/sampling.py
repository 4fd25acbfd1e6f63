"""From noise to images: a sampler with its steps and guidance, built once as one function."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.errors import UserError, above, at_least, one_of, within
from gan_jax.ops.diffusion import chain_samplers, gaussian_diffusion, ode_samplers
from gan_jax.ops.diffusion.chain_samplers import Loop, NoiseAt, Report
from gan_jax.ops.diffusion.gaussian_diffusion import Objective
from gan_jax.ops.diffusion.guidance import dynamic_threshold
from gan_jax.ops.diffusion.noise_schedules import Chain
from gan_jax.ops.diffusion.processes import NetworkOf, Process

SAMPLERS = {
    "discrete": ("ancestral", "ddim", "dpm++", "heun"),
    "flow": ("ddim", "dpm++", "heun"),
    "edm": ("ddim", "dpm++", "heun"),
}
CLIPS = ("static", "dynamic", "none")
SPACINGS = ("time", "sigma")

Draw = Callable[..., Array]
"""(network, z [B, H, W, C], noise_at, score or None) → images [B, H, W, C] in [-1, 1]."""


CHURN = ("churn", "churn_min", "churn_max", "churn_noise")
SIGMAS = ("sigma_min", "sigma_max", "rho")


class Settings(NamedTuple):
    """The section `sampling` of a config, as systems/diffusion.py describes it."""

    sampler: str
    steps: str
    spacing: str
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
        """Whether the sampler adds noise on the way, besides that from which an image starts."""
        noisy_ddim, noisy_heun = self.eta > 0, self.churn > 0
        return {"ancestral": True, "ddim": noisy_ddim, "heun": noisy_heun}.get(self.sampler, False)

    def check(self, process: str, target: str) -> None:
        """Raises UserError for values that are not accepted at all, or not together with this
        process or, for a chain, its target."""
        key = "config.sampling"
        if self.sampler not in SAMPLERS[process]:
            raise UserError(
                f"{key}.sampler={self.sampler!r}: accepted with config.diffusion.process={process} "
                f"are {', '.join(SAMPLERS[process])}"
            )
        one_of(f"{key}.clip", self.clip, CLIPS)
        one_of(f"{key}.spacing", self.spacing, SPACINGS)
        for name in ("eta", "percentile"):
            within(f"{key}.{name}", getattr(self, name), 0, 1)
        for name in ("sigma_min", "sigma_max", "churn", "churn_min", "churn_max", "churn_noise"):
            at_least(f"{key}.{name}", getattr(self, name), 0)
        above(f"{key}.rho", self.rho, 0)
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
                f"{key}.sampler={self.sampler!r}: config.discrete.target=previous_x gives the mean "
                "of the next image and nothing else; accepted are ancestral, ddim"
            )

    def walks_chain(self, process: str) -> bool:
        """Whether `steps` says which steps of a chain are kept; otherwise it is a number."""
        return process == "discrete" and self.sampler != "heun"

    def unread(self, process: str) -> dict[str, str]:
        """The settings that do not change what is drawn, and what each of them is for."""
        chain, found = self.walks_chain(process), {}
        if self.sampler != "ddim":
            found["eta"] = "sampler=ddim"
        if self.clip != "dynamic":
            found["percentile"] = "clip=dynamic"
        if self.sampler != "heun":
            found |= dict.fromkeys(CHURN, "sampler=heun")
        elif not self.churn:
            found |= dict.fromkeys(CHURN[1:], "churn above 0")
        if not (chain and self.sampler == "dpm++"):
            found["spacing"] = "sampler=dpm++ with config.diffusion.process=discrete"
        if process == "flow":
            found |= dict.fromkeys(SIGMAS, "other processes than flow")
        elif chain and (self.sampler != "dpm++" or self.spacing == "time"):
            found |= dict.fromkeys(SIGMAS, "sampler=heun, and sampler=dpm++ with spacing=sigma")
        return found

    def count(self) -> int:
        """`steps` as a number. Raises UserError if it is not one."""
        if not (self.steps.isascii() and self.steps.isdigit()) or int(self.steps) < 1:
            raise UserError(
                f"config.sampling.steps={self.steps!r}: the sampler {self.sampler} takes a number "
                'of steps here, such as "18"'
            )
        return int(self.steps)


def make(
    settings: Settings,
    process: Process,
    walked: Chain | None,
    report: Report | None = None,
) -> Draw:
    """The function that samples images.

    Args:
      settings: settings that have been checked.
      process: the process with which the network was trained.
      walked: the kept steps of the chain, if the sampler walks one; else None.
      report: called with the number of steps that are done.
    """
    loop = chain_samplers.Loop(report)
    if walked is not None and settings.sampler in ("ancestral", "ddim"):
        run = _along_chain(settings, walked, process.objective, loop)
    else:
        run = _along_path(settings, process, walked, loop)
    return lambda *inputs: jnp.clip(run(*inputs), -1, 1)


def _along_chain(settings: Settings, chain: Chain, objective: Objective, loop: Loop) -> Draw:
    """Ancestral sampling and DDIM, in the coordinates of the chain."""
    clip, hook = settings.clip == "static", _threshold(settings)

    def run(network: NetworkOf, z: Array, noise_at: NoiseAt, score: NetworkOf | None) -> Array:
        predict = predictor(chain, network, objective, clip, hook)
        score_at = None if score is None else _score_at(chain, score)
        if settings.sampler == "ancestral":
            return chain_samplers.ancestral(chain, predict, z, noise_at, score_at, loop=loop)
        return chain_samplers.ddim(chain, predict, z, noise_at, settings.eta, score_at, loop=loop)

    return run


def _along_path(settings: Settings, process: Process, walked: Chain | None, loop: Loop) -> Draw:
    """All other samplers, along a path of levels."""
    if walked and settings.spacing == "time":
        path = ode_samplers.from_chain(walked)
    else:
        path = _path(process, walked.steps if walked else settings.count())
    clip, hook = settings.clip == "static", _threshold(settings)
    churn = ode_samplers.Churn(
        settings.churn, settings.churn_min, settings.churn_max or float("inf"), settings.churn_noise
    )

    def finish(x0: Array) -> Array:
        x0 = x0 if hook is None else hook(x0)
        return jnp.clip(x0, -1, 1) if clip else x0

    def run(network: NetworkOf, z: Array, noise_at: NoiseAt, score: NetworkOf | None) -> Array:
        denoise = process.denoiser(network, finish)
        if score is not None:
            denoise = _guided(denoise, ode_samplers.chain_time(process.chain), score)
        x = process.start(path) * z
        if settings.sampler == "ddim":
            return ode_samplers.euler(denoise, x, path, noise_at, settings.eta, loop=loop)
        if settings.sampler == "dpm++":
            return ode_samplers.dpm_solver_pp_2m(denoise, x, path, loop=loop)
        return ode_samplers.heun(denoise, x, path, noise_at, churn, loop=loop)

    return run


def _threshold(settings: Settings) -> Callable[[Array], Array] | None:
    """The function applied to every x_0 before it is clamped, if any."""
    return dynamic_threshold(settings.percentile) if settings.clip == "dynamic" else None


def _path(process: Process, steps: int) -> ode_samplers.Path:
    try:
        return process.path(steps)
    except ValueError as error:  # the chosen σ lies beyond the path's other end
        raise UserError(f"config.sampling: {error}") from None


def predictor(
    chain: Chain,
    network: NetworkOf,
    objective: Objective,
    clip: bool = True,
    hook: Callable[[Array], Array] | None = None,
) -> chain_samplers.PredictAt:
    """A function (x, index) → the prediction of a network of (x, time) at that step of the chain.

    `clip` and `hook` are those of `gaussian_diffusion.predict`.
    """

    def predict(x: Array, index: Array) -> gaussian_diffusion.Prediction:
        time = jnp.asarray(chain.model_times, x.dtype)[index]
        output = network(x, jnp.full(x.shape[0], time))
        t = jnp.full(x.shape[0], index)
        return gaussian_diffusion.predict(
            chain, output, x, t,
            target=objective.target, variance=objective.variance, clip=clip, hook=hook,
        )  # fmt: skip

    return predict


def _score_at(chain: Chain, score: NetworkOf) -> chain_samplers.ScoreAt:
    """A score of (x, time) as one of (x, index)."""

    def score_at(x: Array, index: Array) -> Array:
        return score(x, jnp.full(x.shape[0], jnp.asarray(chain.model_times, x.dtype)[index]))

    return score_at


def _guided(denoise: ode_samplers.Denoise, time_of, score: NetworkOf) -> ode_samplers.Denoise:
    """A denoiser whose x_0 is moved by guidance with a score: eps moves by -√(1 - ᾱ) · score at
    √ᾱ x, so x_0 moves by σ √(1 - ᾱ) · score."""

    def guided(x: Array, sigma: Array) -> Array:
        signal = jax.lax.rsqrt(1 + sigma**2)
        time = jnp.full(x.shape[0], time_of(sigma), x.dtype)
        return denoise(x, sigma) + sigma**2 * signal * score(signal * x, time)

    return guided

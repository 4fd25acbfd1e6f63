"""Sampling along a path of noise levels that need not be those of training.

A path is x = a(s) x_0 + b(s) eps with the level s falling to 0. Either a = 1, b = s ("variance
exploding": s is σ of Karras 2022, and a discrete chain is one of these after x/√ᾱ with
σ = √(1/ᾱ - 1)), or a = 1 - s, b = s (flow matching, Lipman 2023; s is t). The network is a function
denoise(x, s) → x_0. In both cases the probability flow is dx/ds = (x - x_0)/s.

Every sampler is one scan. What depends only on the levels is computed in float64 on the host and
cast to the type of x. Noise is a function of the number of the step, 0..n-1 from the noisiest on.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from gan_jax.ops.diffusion import chain_samplers
from gan_jax.ops.diffusion.chain_samplers import PLAIN_LOOP, Loop, NoiseAt
from gan_jax.ops.diffusion.noise_schedules import Chain

Denoise = Callable[[Array, Array], Array]
"""(x [B, H, W, C], level [] in the type of x) → x_0 [B, H, W, C]."""


class Path(NamedTuple):
    """The levels that a sampler walks through, and the kind of path they belong to."""

    levels: np.ndarray
    """float64 [n + 1], strictly falling; the last is 0."""
    flow: bool
    """a = 1 - s, b = s, and levels in [0, 1]; else a = 1, b = s."""

    @property
    def steps(self) -> int:
        """n."""
        return len(self.levels) - 1

    @property
    def signal(self) -> np.ndarray:
        """a at each level, float64 [n + 1]."""
        return 1 - self.levels if self.flow else np.ones_like(self.levels)


class Churn(NamedTuple):
    """The fresh noise of `heun` (Karras 2022, algorithm 2, lines 4 to 6).

    A step at σ in [s_min, s_max] of n first goes back to σ̂ = σ + γσ, γ = min(amount/n, √2 - 1), by
    noise of standard deviation s_noise · √(σ̂² - σ²).
    """

    amount: float = 0.0
    """0: none."""
    s_min: float = 0.0
    s_max: float = float("inf")
    s_noise: float = 1.0


NO_CHURN = Churn()


def karras(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Path:
    """σ from sigma_max to sigma_min in `steps` levels evenly spaced in σ^(1/ρ), then 0.

    Karras 2022, equation 5. x begins as sigma_max · z, z standard normal, where the data's own
    variance is small beside sigma_max².

    Raises:
      ValueError: steps < 1, rho ≤ 0, or not 0 < sigma_min < sigma_max.
    """
    if steps < 1 or rho <= 0 or not 0 < sigma_min < sigma_max < np.inf:
        raise ValueError(
            f"steps {steps}, sigma_min {sigma_min}, sigma_max {sigma_max}, rho {rho}: accepted are "
            "steps ≥ 1, 0 < sigma_min < sigma_max, rho > 0"
        )
    place = np.arange(steps) / max(steps - 1, 1)
    first, last = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return Path(np.append((first + place * (last - first)) ** rho, 0.0), False)


def from_chain(chain: Chain) -> Path:
    """σ = √(1/ᾱ - 1) of a chain's kept steps, the last first, then 0.

    Its x is x_t/√ᾱ_t: it begins as √(1 + σ²) · z where x_T is standard normal.
    """
    sigma = np.sqrt((1 - chain.alphas_cumprod) / chain.alphas_cumprod)
    return Path(np.append(sigma[::-1], 0.0), False)


def uniform(steps: int, shift: float = 1.0) -> Path:
    """Flow matching's t from 1 to 0 in equal steps, moved by t → shift·t/(1 + (shift - 1)·t).

    The shift (Esser 2024, equation 23) is 1 for none; above 1 it spends more steps near the noise,
    as large images need. x begins as standard normal.

    Raises:
      ValueError: steps < 1 or shift ≤ 0.
    """
    if steps < 1 or not 0 < shift < np.inf:
        raise ValueError(f"steps {steps}, shift {shift}: accepted are steps ≥ 1, shift > 0")
    t = np.arange(steps, -1, -1) / steps
    return Path(t / (t + (1 - t) / shift), True)  # in this form 1 stays exactly 1


def chain_time(chain: Chain) -> Callable[[Array], Array]:
    """σ [...] → the fractional time [...] that a network of the chain is given at that level.

    Linear in log σ between the chain's steps, exact at them up to rounding, and constant beyond
    the first and the last. A chain that keeps all steps interpolates best.
    """
    log_sigma = np.log(from_chain(chain).levels[-2::-1])
    times = chain.model_times

    def time(sigma: Array) -> Array:
        dtype = jnp.result_type(sigma, jnp.float32)
        place = jnp.log(jnp.asarray(sigma, dtype))
        return jnp.interp(place, jnp.asarray(log_sigma, dtype), jnp.asarray(times, dtype))

    return time


def euler(
    denoise: Denoise,
    x: Array,
    path: Path,
    noise_at: NoiseAt | None = None,
    eta: float = 0.0,
    *,
    trajectory: bool = False,
    loop: Loop = PLAIN_LOOP,
) -> Array | tuple[Array, Array]:
    """First order, one evaluation a step: DDIM (Song 2020) along any path, [B, H, W, C].

    x' = a' x_0 + √(b'² - ŝ²) eps + ŝ z, with eps = (x - a x_0)/b and
    ŝ = eta · b'/b · √(b² - (a/a')² b'²).

    Args:
      denoise: (x, level) → x_0.
      x: [B, H, W, C] at the path's first level.
      path: the levels.
      noise_at: the noise of a step, by its number; not called where eta is 0.
      eta: 0 for Euler's method on the probability flow, 1 for the variance of the posterior.
      trajectory: also return the x_0 predicted at each step, [n, B, H, W, C].
      loop: how the loop is compiled and reported.

    Raises:
      ValueError: eta outside [0, 1].
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta {eta}: accepted are numbers from 0 to 1")
    a, b, after_a, after_b = _ends(path)
    noise = eta * after_b / b * np.sqrt(np.maximum(b**2 - (a / after_a * after_b) ** 2, 0))
    keep = np.sqrt(np.maximum(after_b**2 - noise**2, 0)) / b
    rows = _rows(x, b, keep, after_a - keep * a, noise)

    def step(x: Array, row: tuple[Array, ...]) -> tuple[Array, Array]:
        number, level, keep, aim, noise = row
        x0 = denoise(x, level)
        x = keep * x + aim * x0
        return (x + noise * noise_at(number) if eta > 0 else x), x0

    numbers = np.arange(1, path.steps + 1)
    x, seen = chain_samplers.scan(step, x, rows, numbers, trajectory, loop)
    return (x, seen) if trajectory else x


def dpm_solver_pp_2m(
    denoise: Denoise,
    x: Array,
    path: Path,
    *,
    trajectory: bool = False,
    loop: Loop = PLAIN_LOOP,
) -> Array | tuple[Array, Array]:
    """DPM-Solver++(2M): second order with one evaluation a step (Lu 2022, algorithm 2).

    With λ = log(a/b), h = λ' - λ and r = h_before/h it takes x' = (b'/b) x - a' (e^(-h) - 1) D,
    where D = x_0 + (x_0 - x_0 before)/(2r) extrapolates to the middle of the step. D is x_0 alone
    in the first step, in the last (λ' = ∞, which also makes it the safe first-order end of short
    runs), and in the second one of a flow (λ = -∞ at t = 1, so r = ∞).

    Arguments as in `euler`.
    """
    a, b, after_a, after_b = _ends(path)
    with np.errstate(divide="ignore"):
        h = np.diff(np.log(path.signal) - np.log(path.levels))
    half = np.zeros(path.steps)  # 1/(2r)
    half[1:-1] = h[1:-1] / (2 * h[:-2])
    rows = _rows(x, b, after_b / b, after_a - a * after_b / b, half)  # a' e^(-h) = a b'/b

    def step(state: tuple[Array, Array], row: tuple[Array, ...]):
        (x, before), (_, level, keep, aim, half) = state, row
        x0 = denoise(x, level)
        return (keep * x + aim * (x0 + half * (x0 - before)), x0), x0

    numbers = np.arange(1, path.steps + 1)
    state = (x, jnp.zeros_like(x))
    (x, _), seen = chain_samplers.scan(step, state, rows, numbers, trajectory, loop)
    return (x, seen) if trajectory else x


def heun(
    denoise: Denoise,
    x: Array,
    path: Path,
    noise_at: NoiseAt | None = None,
    churn: Churn = NO_CHURN,
    *,
    trajectory: bool = False,
    loop: Loop = PLAIN_LOOP,
) -> Array | tuple[Array, Array]:
    """Second order, two evaluations a step but one in the last (Karras 2022, algorithm 2).

    After `churn` it takes Euler's step to σ', and then repeats the step with the mean of the slopes
    (x - x_0)/σ at its two ends; the step to 0 is Euler's. One row of the scan is one evaluation, so
    that the compiled program contains the network only once.

    Args:
      noise_at: the noise of a step, by its number; not called without churn.
      churn: the stochastic part, for paths that are no flow.
      The others as in `euler`; the trajectory holds the x_0 at the beginning of each step.

    Raises:
      ValueError: an amount of churn below 0, or above 0 on a flow.
    """
    if not churn.amount >= 0 or (churn.amount > 0 and path.flow):
        raise ValueError(f"churn {churn.amount}: accepted is 0, or more where the path is no flow")
    tables = _evaluations(path, churn)
    rows = tuple(jnp.asarray(table, x.dtype) for table in tables[:4])
    rows = (*rows, jnp.asarray(tables.following, jnp.int32))
    noisy = bool(tables.first_lift > 0 or np.any(tables.lift > 0))

    def step(state: tuple[Array, Array, Array], row: tuple[Array, ...]):
        (x, start, slope), (first, level, length, lift, following) = state, row
        x0 = denoise(x, level)
        here = (x - x0) / level
        start = jnp.where(first > 0, x, start)
        slope = jnp.where(first > 0, here, (slope + here) / 2)
        x = start + length * slope
        return (x + lift * noise_at(following) if noisy else x, start, slope), x0

    if noisy:
        x = x + jnp.asarray(tables.first_lift, x.dtype) * noise_at(jnp.int32(0))
    state = (x, jnp.zeros_like(x), jnp.zeros_like(x))
    (x, _, _), seen = chain_samplers.scan(step, state, rows, tables.ended, trajectory, loop)
    return (x, seen[::2]) if trajectory else x


class _Evaluations(NamedTuple):
    """Tables for the 2n - 1 evaluations of `heun`, with one array entry for each."""

    first: np.ndarray  # 1 at the start of a step, 0 at its end
    level: np.ndarray  # where the network is evaluated
    length: np.ndarray  # of the step in σ, below 0
    lift: np.ndarray  # standard deviation of the noise added after it, for the step that follows
    following: np.ndarray  # the number of that step, from 0 on
    ended: np.ndarray  # the number of the step that ends here, from 1 on, or 0
    first_lift: float  # the same noise before the first evaluation


def _evaluations(path: Path, churn: Churn) -> _Evaluations:
    n, sigma, after = path.steps, path.levels[:-1], path.levels[1:]
    inside = (sigma >= churn.s_min) & (sigma <= churn.s_max)
    raised = sigma * (1 + np.where(inside, min(churn.amount / n, np.sqrt(2) - 1), 0))
    lift = churn.s_noise * np.sqrt(raised**2 - sigma**2)

    def pairs(at_start: np.ndarray, at_end: np.ndarray) -> np.ndarray:
        return np.stack([at_start, at_end], axis=1).reshape(-1)[:-1]  # the last step has no end

    zeros = np.zeros(n)
    ended = pairs(zeros, np.arange(1, n + 1))
    ended[-1] = n
    return _Evaluations(
        first=pairs(zeros + 1, zeros),
        level=pairs(raised, after),
        length=pairs(after - raised, after - raised),
        lift=pairs(zeros, np.append(lift[1:], 0)),
        following=np.minimum(pairs(np.arange(1, n + 1), np.arange(1, n + 1)), n - 1),
        ended=ended,
        first_lift=lift[0],
    )


def _ends(path: Path) -> tuple[np.ndarray, ...]:
    """a and b where each step begins and where it ends, float64 [n] each."""
    a, b = path.signal, path.levels
    return a[:-1], b[:-1], a[1:], b[1:]


def _rows(x: Array, *tables: np.ndarray) -> tuple[Array, ...]:
    """Numbers from 0 on, int32, and the tables in the type of x."""
    numbers = jnp.arange(len(tables[0]), dtype=jnp.int32)
    return (numbers, *(jnp.asarray(table, x.dtype) for table in tables))

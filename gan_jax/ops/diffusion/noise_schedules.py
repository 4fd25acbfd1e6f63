"""Discrete noise schedules, the steps that a shorter chain keeps, and the tables of a chain.

Everything is numpy in float64: tables are made once, on the host, and cast where they are read.

The variance-preserving process adds noise in T0 steps, q(x_t | x_{t-1}) = N(√(1-β_t) x_{t-1}, β_t),
so that q(x_t | x_0) = N(√ᾱ_t x_0, 1 - ᾱ_t) with ᾱ_t = Π (1 - β) up to t (Ho 2020). A chain walks
all of the T0 steps or T of them ("respacing", Nichol & Dhariwal 2021, section 4).
"""

from typing import NamedTuple

import numpy as np

from gan_jax.errors import UserError, one_of
from gan_jax.ops.diffusion import loss_quarters

SCHEDULES = ("linear", "cosine", "sigmoid")

# the largest β of a schedule that is given by ᾱ; β = 1 would leave no signal at all
_MOST = 0.999


def check(name: str, steps: int, key: str) -> None:
    """Checks a schedule and its length; `key` is that of the config section, for messages.

    Raises:
      UserError: if `betas` would raise one, or a quarter of the chain would have no step.
    """
    one_of(f"{key}.schedule", name, SCHEDULES)
    try:
        loss_quarters.names(steps)
        betas(name, steps)
    except UserError as error:
        raise UserError(f"{key}.steps={steps}: {error}") from None


def betas(name: str, steps: int) -> np.ndarray:
    """The variances β of all T0 steps, float64 [T0] in (0, 1).

    - `linear`: from 0.1/T0 to 20/T0, evenly (Ho 2020, whose T0 is 1000).
    - `cosine`: ᾱ(u) = cos²(π/2 · (u + 0.008)/1.008), u in [0, 1] (Nichol & Dhariwal 2021).
    - `sigmoid`: ᾱ(u) = (σ(3) - σ(6u - 3))/(σ(3) - σ(-3)) (Jabri 2022, start -3, end 3, τ = 1).

    Those given by ᾱ have β_i = 1 - ᾱ((i+1)/T0)/ᾱ(i/T0), at most 0.999.

    Raises:
      UserError: another name, or a number of steps for which some β is not inside (0, 1).
    """
    if name not in SCHEDULES:
        raise UserError(f'noise schedule "{name}": accepted are {", ".join(SCHEDULES)}')
    if steps < 1:
        raise UserError(f"noise schedule {name}: {steps} steps, at least 1 is needed")
    if name == "linear":
        if steps <= 20:
            raise UserError(
                f"noise schedule linear: {steps} steps, at least 21 are needed (its last variance "
                "is 20/steps and must be below 1); cosine and sigmoid accept fewer"
            )
        return np.linspace(0.1 / steps, 20 / steps, steps, dtype=np.float64)
    u = np.arange(steps + 1, dtype=np.float64) / steps
    signal = _cosine(u) if name == "cosine" else _sigmoid(u)
    return np.clip(1 - signal[1:] / signal[:-1], 0, _MOST)


def _cosine(u: np.ndarray) -> np.ndarray:
    return np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2


def _sigmoid(u: np.ndarray, start: float = -3, end: float = 3) -> np.ndarray:
    def squash(z: float | np.ndarray) -> float | np.ndarray:
        return 1 / (1 + np.exp(-z))

    return (squash(end) - squash(start + (end - start) * u)) / (squash(end) - squash(start))


def kept_steps(steps: int, respacing: str, key: str = "respacing") -> np.ndarray:
    """The steps of 0..T0-1 that a chain keeps, int64, ascending.

    Args:
      steps: T0.
      respacing: "" keeps all. "a,b,c" cuts the steps in as many sections of (nearly) equal length
        and spreads a, b, c steps over them, both ends included. "ddimN" keeps N steps 0, i, 2i, …
        with the smallest stride i that gives exactly N (Song 2020), which exists for some N only.
      key: what the message calls the option.

    Raises:
      UserError: none of these forms, more steps than a section has, an N that no stride gives, or
        no step at all.
    """
    number = respacing.strip()
    if not number:
        return np.arange(steps, dtype=np.int64)
    try:
        if number.startswith("ddim"):
            return _strided(steps, _count(number[4:]), f'{key} "{respacing}"')
        counts = [_count(count) for count in number.split(",")]
    except ValueError:
        raise UserError(
            f'{key} "{respacing}": accepted are a number of steps ("250"), numbers for equal '
            'sections ("10,10,15"), "ddim" and a number ("ddim25"), or "" for all steps'
        ) from None
    return _sections(steps, counts, f'{key} "{respacing}"')


def _count(digits: str) -> int:
    digits = digits.strip()
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(digits)
    return int(digits)


def _strided(steps: int, count: int, where: str) -> np.ndarray:
    lengths = [len(range(0, steps, stride)) for stride in range(1, steps)]
    if count in lengths:
        return np.arange(0, steps, lengths.index(count) + 1, dtype=np.int64)
    near = [
        max((n for n in lengths if n < count), default=None),
        min((n for n in lengths if n > count), default=None),
    ]
    names = [f"ddim{n}" for n in near if n is not None]
    if not names:
        raise UserError(f'{where}: accepted for {steps} steps is "" only')
    raise UserError(
        f"{where}: no stride gives {count} of {steps} steps; accepted near it "
        f"{'are' if len(names) > 1 else 'is'} {' and '.join(names)}"
    )


def _sections(steps: int, counts: list[int], where: str) -> np.ndarray:
    if not any(counts):
        raise UserError(f"{where}: keeps no step, at least 1 is needed")
    length, longer = divmod(steps, len(counts))
    kept, start = [], 0
    for index, count in enumerate(counts):
        size = length + (index < longer)
        if count > size:
            section = f"section {index + 1} of {len(counts)}" if len(counts) > 1 else "the chain"
            raise UserError(f"{where}: {section} has {size} steps, {count} cannot be kept of them")
        stride = (size - 1) / (count - 1) if count > 1 else 1
        place = 0.0  # a running sum, rounded half to even, which gives the published step lists
        for _ in range(count):
            kept.append(start + round(place))
            place += stride
        start += size
    return np.array(kept, np.int64)


class Chain(NamedTuple):
    """A variance-preserving process in T kept steps, 0 the least noisy one. Arrays are [T]."""

    kept: np.ndarray
    """int64, ascending: the steps' indices in the process of T0 steps."""
    original_steps: int
    """T0."""
    rescale: bool
    """Whether the network sees indices times 1000/T0."""
    betas: np.ndarray
    alphas_cumprod: np.ndarray
    """ᾱ_t."""
    alphas_cumprod_prev: np.ndarray
    """ᾱ_{t-1}, 1 at index 0."""
    alphas_cumprod_next: np.ndarray
    """ᾱ_{t+1}, 0 at the last index."""
    posterior_variance: np.ndarray
    """Variance of q(x_{t-1} | x_t, x_0) = β_t (1 - ᾱ_{t-1})/(1 - ᾱ_t): 0 at index 0."""
    posterior_log_variance: np.ndarray
    """Its logarithm, with index 0 replaced by index 1."""
    posterior_mean_coef1: np.ndarray
    """The mean of q(x_{t-1} | x_t, x_0) is coef1 · x_0 + coef2 · x_t."""
    posterior_mean_coef2: np.ndarray

    @property
    def steps(self) -> int:
        """T."""
        return len(self.kept)

    @property
    def model_times(self) -> np.ndarray:
        """float64 [T]: the time that the network is given at each index."""
        scale = 1000 / self.original_steps if self.rescale else 1.0
        return self.kept * scale


def chain(
    name: str, steps: int, respacing: str = "", rescale: bool = False, key: str = "respacing"
) -> Chain:
    """The chain of a schedule (see `betas`) of T0 steps that keeps some of them (`kept_steps`).

    A kept step's β is that of the jump from the kept step before it, 1 - ᾱ_i/ᾱ_before.

    Raises:
      UserError: as `betas` and `kept_steps`; a single step kept.
    """
    kept = kept_steps(steps, respacing, key)
    if len(kept) < 2:
        raise UserError(f'{key} "{respacing}": keeps 1 step, a chain needs 2 at least')
    signal = np.cumprod(1 - betas(name, steps))[kept]
    beta = 1 - signal / np.append(1.0, signal[:-1])
    now = np.cumprod(1 - beta)
    before = np.append(1.0, now[:-1])
    variance = beta * (1 - before) / (1 - now)
    return Chain(
        kept=kept,
        original_steps=steps,
        rescale=rescale,
        betas=beta,
        alphas_cumprod=now,
        alphas_cumprod_prev=before,
        alphas_cumprod_next=np.append(now[1:], 0.0),
        posterior_variance=variance,
        posterior_log_variance=np.log(np.append(variance[1], variance[1:])),
        posterior_mean_coef1=beta * np.sqrt(before) / (1 - now),
        posterior_mean_coef2=(1 - before) * np.sqrt(1 - beta) / (1 - now),
    )

"""Sampling along a discrete chain: ancestral steps, DDIM, and DDIM backwards.

x is in the variance-preserving coordinates of the chain, x_t = √ᾱ_t x_0 + √(1-ᾱ_t) eps. The network
with its labels, the clamp of x_0 and guidance without a classifier are inside the caller's
`predict_at`; randomness comes in through `noise_at`, so every function here is pure.

Sources: Ho 2020 (algorithm 2), Song 2020 (DDIM, equations 12 and 16), Dhariwal & Nichol 2021
(algorithms 1 and 2: a classifier's gradient) as guided-diffusion has them. Tables are combined in
float64 before they are cast to the type of x.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gan_jax.ops.diffusion import gaussian_diffusion
from gan_jax.ops.diffusion.gaussian_diffusion import Prediction, gather
from gan_jax.ops.diffusion.noise_schedules import Chain

PredictAt = Callable[[Array, Array], Prediction]
"""(x [B, H, W, C], index int32 []) → the network's prediction for x at that index."""
NoiseAt = Callable[[Array], Array]
"""Number of a step, int32 [] → standard normal [B, H, W, C]."""
ScoreAt = Callable[[Array, Array], Array]
"""(x [B, H, W, C], index int32 []) → scale · ∇ₓ log p(y | x), [B, H, W, C]."""
Report = Callable[[int], None]
"""Called on the host with the number of the step that has ended, 1..T, in order, except that the
steps within one body of an unrolled loop may come in any order."""


class Loop(NamedTuple):
    """How a sampler's loop is compiled, and where it reports its progress."""

    report: Report | None = None
    """Called with the number of steps that are done; None: no callback in the compiled program."""
    unroll: int = 1
    """Steps in the body of the compiled loop."""


PLAIN_LOOP = Loop()


def ancestral_step(prediction: Prediction, t: Array, z: Array, score: Array | None = None) -> Array:
    """A sample from p(x_{t-1} | x_t) = N(mean, variance); at index 0 the mean itself.

    Args:
      prediction: the network's prediction for x_t, [B, H, W, C].
      t: index in the chain, int [] or [B].
      z: standard normal [B, H, W, C].
      score: scale · ∇ₓ log p(y | x_t), which moves the mean by variance times it.
    """
    mean = prediction.mean
    if score is not None:
        mean = mean + prediction.variance * score
    noisy = (t != 0).reshape(t.shape + (1,) * (mean.ndim - t.ndim))
    return jnp.where(noisy, mean + jnp.exp(0.5 * prediction.log_variance) * z, mean)


def ddim_step(
    chain: Chain,
    prediction: Prediction,
    x: Array,
    t: Array,
    z: Array | None = None,
    eta: float = 0.0,
    score: Array | None = None,
) -> tuple[Array, Array]:
    """x_t → (x_{t-1}, the x_0 it aims at), [B, H, W, C] both.

    eps is derived from the prediction's x_0, which may be clamped. A score changes
    eps by -√(1-ᾱ) · score, and the x_0 of that is not clamped again, as in guided-diffusion.

    Args:
      chain: the kept steps.
      prediction: the network's prediction for x_t.
      x: x_t.
      t: index in the chain, int [] or [B].
      z: standard normal [B, H, W, C]; not read where eta is 0.
      eta: 0 for a deterministic step, 1 for the variance of the posterior.
      score: scale · ∇ₓ log p(y | x_t), [B, H, W, C].

    Raises:
      ValueError: eta outside [0, 1].
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta {eta}: accepted are numbers from 0 to 1")
    now, before = chain.alphas_cumprod, chain.alphas_cumprod_prev
    x0, eps = prediction.x0, gaussian_diffusion.epsilon_of(chain, x, t, prediction.x0)
    if score is not None:
        eps = eps - gather(np.sqrt(1 - now), t, x) * score
        x0 = gather(np.sqrt(1 / now), t, x) * x - gather(np.sqrt(1 / now - 1), t, x) * eps
    # 0 at index 0, where ᾱ before it is 1
    variance = eta**2 * (1 - before) / (1 - now) * (1 - now / before)
    kept = np.sqrt(np.maximum(1 - before - variance, 0))
    x = gather(np.sqrt(before), t, x) * x0 + gather(kept, t, x) * eps
    if eta > 0:
        x = x + gather(np.sqrt(variance), t, x) * z
    return x, x0


def ddim_reverse_step(chain: Chain, prediction: Prediction, x: Array, t: Array) -> Array:
    """x at ᾱ_t → x at ᾱ_{t+1}, [B, H, W, C]: the deterministic step towards noise.

    `prediction` and `x` as in `ddim_step`; t int [] or [B]. The last index leads to ᾱ = 0.
    """
    after = chain.alphas_cumprod_next
    eps = gaussian_diffusion.epsilon_of(chain, x, t, prediction.x0)
    return gather(np.sqrt(after), t, x) * prediction.x0 + gather(np.sqrt(1 - after), t, x) * eps


def ancestral(
    chain: Chain,
    predict_at: PredictAt,
    x: Array,
    noise_at: NoiseAt,
    score_at: ScoreAt | None = None,
    *,
    trajectory: bool = False,
    loop: Loop = PLAIN_LOOP,
) -> Array | tuple[Array, Array]:
    """x_T → x_0 by T draws from the model's own transitions, [B, H, W, C].

    Args:
      chain: the kept steps; they are walked from index T-1 to 0.
      predict_at: the network's prediction at an index.
      x: standard normal [B, H, W, C].
      noise_at: the noise of the step at an index; that of index 0 has no effect.
      score_at: a classifier's gradient, taken at x_t.
      trajectory: also return the x_0 predicted at each step, [T, B, H, W, C], first step first.
      loop: how the loop is compiled and reported.
    """

    def step(x: Array, t: Array) -> tuple[Array, Array]:
        prediction = predict_at(x, t)
        score = None if score_at is None else score_at(x, t)
        return ancestral_step(prediction, t, noise_at(t), score), prediction.x0

    return _walk(step, x, np.arange(chain.steps)[::-1], trajectory, loop)


def ddim(
    chain: Chain,
    predict_at: PredictAt,
    x: Array,
    noise_at: NoiseAt | None = None,
    eta: float = 0.0,
    score_at: ScoreAt | None = None,
    *,
    trajectory: bool = False,
    loop: Loop = PLAIN_LOOP,
) -> Array | tuple[Array, Array]:
    """x_T → x_0 by T DDIM steps, [B, H, W, C]; see `ddim_step` for eta and the score.

    The other arguments are those of `ancestral`. `noise_at` is not called where eta is 0. The
    trajectory holds the x_0 after guidance.

    Raises:
      ValueError: eta outside [0, 1].
    """

    def step(x: Array, t: Array) -> tuple[Array, Array]:
        z = noise_at(t) if eta > 0 else None
        score = None if score_at is None else score_at(x, t)
        return ddim_step(chain, predict_at(x, t), x, t, z, eta, score)

    return _walk(step, x, np.arange(chain.steps)[::-1], trajectory, loop)


def ddim_reverse(
    chain: Chain,
    predict_at: PredictAt,
    x: Array,
    *,
    skip_last: bool = False,
    trajectory: bool = False,
    loop: Loop = PLAIN_LOOP,
) -> Array | tuple[Array, Array]:
    """An image x_0 → the noise that `ddim` with eta 0 turns into it, [B, H, W, C].

    Walks the chain from index 0 upwards. `skip_last` stops at ᾱ of the last index instead of 0:
    T-1 steps, whose result is where `ddim` begins; Dhariwal & Nichol 2021 found that it
    reconstructs better. The other arguments are those of `ancestral`.
    """

    def step(x: Array, t: Array) -> tuple[Array, Array]:
        prediction = predict_at(x, t)
        return ddim_reverse_step(chain, prediction, x, t), prediction.x0

    return _walk(step, x, np.arange(chain.steps - skip_last), trajectory, loop)


def _walk(
    step: Callable[[Array, Array], tuple[Array, Array]],
    x: Array,
    indices: np.ndarray,
    trajectory: bool,
    loop: Loop,
) -> Array | tuple[Array, Array]:
    indices = jnp.asarray(indices, jnp.int32)
    numbers = np.arange(1, len(indices) + 1)
    x, seen = scan(step, x, indices, numbers, trajectory, loop)
    return (x, seen) if trajectory else x


def scan(
    step: Callable[[Any, Any], tuple[Any, Array]],
    state: Any,
    rows: Any,
    numbers: np.ndarray,
    trajectory: bool,
    loop: Loop,
) -> tuple[Any, Array | None]:
    """The loop of every sampler → (last state, x_0 seen at each row or None).

    Args:
      step: (state, row) → (state, x_0 [B, H, W, C] predicted there).
      state: arrays; keeps its shapes and types.
      rows: arrays with one entry per row on their first axis.
      numbers: int [rows], what is reported after each row; nothing where 0.
      trajectory: whether the x_0 are kept.
      loop: how the loop is compiled and reported.
    """

    def report(number: np.ndarray, _: np.ndarray) -> None:
        if number:
            loop.report(int(number))

    def body(state: Any, row: Any) -> tuple[Any, Array | None]:
        row, number = row
        types = jax.tree.map(lambda leaf: leaf.dtype, state)
        state, x0 = step(state, row)
        if loop.report is not None:
            # passing an element of x0 makes the report wait for the network, not just the counter
            jax.debug.callback(report, number, x0[(0,) * x0.ndim])
        # a network's output may have another type than x
        state = jax.tree.map(lambda leaf, dtype: leaf.astype(dtype), state, types)
        return state, x0 if trajectory else None

    return jax.lax.scan(body, state, (rows, jnp.asarray(numbers, jnp.int32)), unroll=loop.unroll)

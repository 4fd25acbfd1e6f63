"""Moving averages of weights: the tail link of an optimizer's chain, and reading them back."""

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from gan_jax.core.loss_scale import links
from gan_jax.core.system import Net, PyTree

_asked_for: ContextVar[tuple[str, ...]] = ContextVar("_asked_for", default=())


class EmaState(NamedTuple):
    """Moving averages of parameters and batch statistics, one pair per decay, in order."""

    params: tuple[PyTree, ...]
    stats: tuple[PyTree, ...]


def ema(
    decays: tuple[float, ...],
    *,
    of: str = "after",
    start: int = 0,
    warmup: bool = False,
    half_life_images: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Moving averages of parameters and batch statistics; the tail link of a chain.

    average ← d · average + (1 − d) · weights, for every decay d. Until step `start` the averages
    equal the weights. `of="after"` averages the weights after each update, "before" those before
    it. With `warmup`, d is at most (1 + n) / (10 + n), n steps after the start
    (the rule of TensorFlow's ExponentialMovingAverage). With `half_life_images` > 0 the decay is
    0.5^(batch / half_life), whatever `decays` says (one average), batch being the extra argument
    `batch_images`.

    Batch statistics come as the extra argument `stats`, the training step as `step`.
    """
    count = 1 if half_life_images else len(decays)

    def init(params):
        copies = tuple(jax.tree.map(jnp.array, params) for _ in range(count))
        return EmaState(params=copies, stats=({},) * count)

    def update(updates, state, params=None, *, stats, step, batch_images, **extra):
        del extra
        weights = params if of == "before" else optax.apply_updates(params, updates)
        rates = (jnp.power(0.5, batch_images / half_life_images),) if half_life_images else decays
        n = jnp.maximum(step - start, 0).astype(float)  # double where doubles are on

        def blend(decay, average, new):
            d = jnp.minimum(decay, (1 + n) / (10 + n)) if warmup else decay
            d = jnp.where(step < start, 0.0, d)
            # in this form an average that equals the weights stays exactly equal to them, although
            # d + (1 - d) need not be 1 in float32
            return jax.tree.map(lambda a, w: (w + (a - w) * d).astype(a.dtype), average, new)

        return updates, EmaState(
            params=tuple(blend(d, a, weights) for d, a in zip(rates, state.params, strict=True)),
            stats=tuple(blend(d, a, stats) for d, a in zip(rates, state.stats, strict=True)),
        )

    return optax.GradientTransformationExtraArgs(init, update)


def has_average(net: Net) -> bool:
    """Whether the net keeps moving averages of its weights."""
    return "ema" in links(net.opt)


@contextlib.contextmanager
def only(names: Sequence[str]) -> Iterator[None]:
    """While it lasts, `weights` gives only those of these names; all if none of them is there.

    Programs then leave the others out, as XLA itself cannot if it computes some of it for all sets
    of weights at once. jax must not find an earlier trace for other names: see `asked_for`.
    """
    token = _asked_for.set(tuple(names))
    try:
        yield
    finally:
        _asked_for.reset(token)


def asked_for() -> tuple[str, ...]:
    """The names of the innermost `only`; () outside."""
    return _asked_for.get()


def weights(net: Net, decays: Sequence[float] = ()) -> dict[str, tuple[PyTree, PyTree]]:
    """(params, stats) to sample with, by name: "raw", and "ema" if the net keeps an average.

    `decays` are those of all averages; each after the first is then given too, as "ema_<decay>".
    """
    found = {"raw": (net.params, net.stats)}
    if has_average(net):
        found["ema"] = averaged(net)
        further = zip(decays[1:], links(net.opt)["ema"].params[1:], strict=False)
        found |= {f"ema_{d:g}": averaged(net, i) for i, (d, _) in enumerate(further, start=1)}
    return {name: found[name] for name in found if name in asked_for()} or found


def averaged(net: Net, index: int = 0) -> tuple[PyTree, PyTree]:
    """(params, stats) of moving average number `index`; the net's own if it keeps no average."""
    average = links(net.opt).get("ema")
    if average is None:
        return net.params, net.stats
    return average.params[index], average.stats[index]

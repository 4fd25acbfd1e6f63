"""Skipping updates whose gradients are not finite, and the loss scale of float16.

A skipped update costs a step and changes nothing; too many in a row end the run.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gan_jax.core.system import Array, Metrics, Net, PyTree

# updates in a row that float16 may skip, in systems whose config has no key for it: a scale that
# begins at 2^15 has then reached 1
SKIP_LIMIT = 20
FLAG = "skipped/"  # and a net's name: the metric that is 1 if its update was skipped


class LossScaleState(NamedTuple):
    """Dynamic loss scale and the chain inside it."""

    scale: Array
    good_steps: Array
    inner: PyTree


def guarded(
    inner: optax.GradientTransformationExtraArgs,
    half: bool,
    initial: float = 2.0**15,
    growth_steps: int = 2000,
) -> optax.GradientTransformationExtraArgs:
    """A chain that skips gradients which are not finite.

    In `half` precision it also scales the loss, as `with_loss_scale` does with `initial` and
    `growth_steps`.
    """
    if half:
        return with_loss_scale(inner, initial, growth_steps)
    return with_loss_scale(inner, initial=1.0, growth_steps=0)


def with_loss_scale(
    inner: optax.GradientTransformationExtraArgs,
    initial: float = 2.0**15,
    growth_steps: int = 2000,
) -> optax.GradientTransformationExtraArgs:
    """Wraps a chain for float16: gradients arrive multiplied by the scale (see `loss_scale`).

    They are divided by it and checked. If any is not finite, the state of the inner chain (EMA
    included) stays as it was, the updates are zero and the scale is halved. After `growth_steps`
    good steps in a row the scale doubles, up to 2^126. With `growth_steps` 0 it never changes; with
    `initial` 1 as well, the result is a chain for float32 that skips broken gradients.
    """

    def init(params):
        return LossScaleState(
            jnp.array(initial, jnp.float32), jnp.zeros((), jnp.int32), inner.init(params)
        )

    def update(updates, state, params=None, **extra):
        def unscaled(grad: Array) -> Array:
            wide = grad.astype(jnp.promote_types(grad.dtype, jnp.float32))
            return wide / state.scale.astype(wide.dtype)

        grads = jax.tree.map(unscaled, updates)
        finite = all_finite(updates)
        # lax.cond, because jnp.where for every array takes several times as long to compile
        new, inner_state = jax.lax.cond(
            finite,
            lambda: inner.update(grads, state.inner, params, **extra),
            lambda: (jax.tree.map(jnp.zeros_like, grads), state.inner),
        )
        scale, good = state.scale, state.good_steps + 1
        if growth_steps:
            grown = good >= growth_steps
            larger = jnp.where(grown, jnp.minimum(scale * 2, 2.0**126), scale)
            scale = jnp.where(finite, larger, jnp.maximum(scale / 2, 1.0))
            good = jnp.where(grown, 0, good)
        return new, LossScaleState(scale, jnp.where(finite, good, 0), inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


def links(opt: PyTree) -> dict[str, PyTree]:
    """The states of a chain's links by name, with or without a loss scale around them."""
    return opt.inner if isinstance(opt, LossScaleState) else opt


def with_links(opt: PyTree, **changed: PyTree) -> PyTree:
    """A chain's state with the states of some links replaced, with or without a loss scale."""
    if isinstance(opt, LossScaleState):
        return opt._replace(inner={**opt.inner, **changed})
    return {**opt, **changed}


def all_finite(tree: PyTree) -> Array:
    """Whether a tree holds neither NaN nor infinities: bool []."""
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]))


def loss_scale(opt: PyTree) -> Array | float:
    """The factor for a loss before it is differentiated: 1 unless the chain scales."""
    return opt.scale if isinstance(opt, LossScaleState) else 1.0


def uncounted(half: bool, nets: Iterable[str]) -> dict[str, PyTree]:
    """What a state's `extra` needs for `counted` in float16, at step 0; {} in other precisions."""
    return {"skipped": {net: jnp.zeros((), jnp.int32) for net in nets}} if half else {}


def counted(
    extra: Mapping[str, PyTree], nets: Mapping[str, Net], metrics: Metrics
) -> tuple[Mapping[str, PyTree], Metrics]:
    """A state's `extra` and the metrics after a step in which updates may have been skipped.

    `nets` are the networks before the step. The metrics also have `loss_scale/<net>` of each that
    scales its loss, and those of `mask_nonfinite`. Both are returned as they are if `extra` does
    not count, that is, in other precisions than float16.
    """
    if "skipped" not in extra:
        return extra, metrics
    metrics = metrics | {f"loss_scale/{n}": loss_scale(nets[n].opt) for n in extra["skipped"]}
    skipped = count_skipped(extra["skipped"], metrics)
    return {**extra, "skipped": skipped}, mask_nonfinite(metrics, skipped, SKIP_LIMIT)


def unless_skipped(net: Net, grads: PyTree, new: PyTree, old: PyTree) -> PyTree:
    """`new` if these gradients of the net are used; `old` if its loss scale skips them."""
    if not isinstance(net.opt, LossScaleState):
        return new
    finite = all_finite(grads)
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, old)


def count_skipped(before: Mapping[str, Array], metrics: Metrics) -> dict[str, Array]:
    """How many updates of each net have been skipped in a row, int32 [].

    The update of this step was skipped if its `grad_norm/<net>` is not finite.
    """
    return {
        net: jnp.where(jnp.isfinite(metrics[f"grad_norm/{net}"]), 0, count + 1)
        for net, count in before.items()
    }


def mask_nonfinite(metrics: Metrics, skipped: Mapping[str, Array], limit: int) -> Metrics:
    """The metrics of a step with `skipped/<net>`, 0 or 1, and zeros in place of NaN and infinities.

    The zeros are negative, so that `unmasked` can tell them from values that are 0. The loop ends a
    run as soon as a metric is not finite, and a single skipped update should not end it. If any net
    has skipped more than `limit` updates in a row, the metrics stay as they are, so that the loop
    does end the run.
    """
    metrics = metrics | {f"skipped/{n}": (c > 0).astype(jnp.float32) for n, c in skipped.items()}
    hopeless = jnp.any(jnp.array([count > limit for count in skipped.values()]))
    return {
        name: jnp.where(jnp.isfinite(v) | hopeless, v, jnp.full_like(v, -0.0))
        for name, v in metrics.items()
    }


def flags(names: Iterable[str]) -> list[str]:
    """Those of the metrics' names that say whether an update was skipped: `skipped/<net>`."""
    names = list(names)
    return [n for n in names if n.startswith(FLAG) and f"grad_norm/{n[len(FLAG) :]}" in names]


def unmasked(metrics: Mapping[str, np.generic]) -> dict[str, np.generic]:
    """The metrics of a step as numbers of numpy, with NaN where `mask_nonfinite` has put zeros."""
    if not any(metrics[flag] > 0 for flag in flags(metrics)):
        return dict(metrics)
    return {
        name: np.float32(np.nan) if v == 0 and np.signbit(v) else v for name, v in metrics.items()
    }

"""What steers sampling: a class, with or without a classifier, and the range of x_0.

A network is a function of (x [B, H, W, C], time [B]), see `processes.NetworkOf`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.ops import groups
from gan_jax.ops.diffusion.processes import NetworkOf


def classifier_free(both: NetworkOf, scale: float, channels: int) -> NetworkOf:
    """A network whose output is plain + scale · (conditional - plain) in its first `channels`, and
    that of the conditional network in the others (Ho & Salimans 2022; scale 1 is no guidance).

    `both` is a network of 2B images: with x [2B, H, W, C] each image comes twice, first with its
    class and then without one. One pass keeps a device fuller than two, and compiles sooner.
    """

    def network(x: Array, time: Array) -> Array:
        joined = both(groups.interleaved(x, x), groups.interleaved(time, time))
        given, free = groups.parted(joined, 2)
        away = free[..., :channels] + scale * (given[..., :channels] - free[..., :channels])
        return jnp.concatenate([away, given[..., channels:]], axis=-1)

    return network


def classifier_score(classify: NetworkOf, label: Array, scale: float) -> NetworkOf:
    """(x, time) → scale · ∇ₓ log p(label | x, time), [B, H, W, C] (Dhariwal & Nichol 2021, 4.1).

    `classify` gives logits [B, K]; `label` is int [B].
    """

    def score(x: Array, time: Array) -> Array:
        def chosen(x: Array) -> Array:
            logits = classify(x, time)
            wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
            return jnp.sum(jnp.take_along_axis(jax.nn.log_softmax(wide), label[:, None], axis=-1))

        return scale * jax.grad(chosen)(x)

    return score


def dynamic_threshold(percentile: float) -> Callable[[Array], Array]:
    """x_0 [B, H, W, C] → clamped to ±s and divided by s, image by image: s is the given quantile of
    its absolute values and at least 1 (Saharia et al. 2022, section 2.3)."""

    def hook(x0: Array) -> Array:
        flat = jnp.abs(x0.reshape(x0.shape[0], -1))
        s = jnp.maximum(jnp.quantile(flat, percentile, axis=1), 1)[:, None, None, None]
        return jnp.clip(x0, -s, s) / s

    return hook

"""Learning rates that are cut when validation stops improving: a link of an optimizer's chain."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from gan_jax.core.loss_scale import links
from gan_jax.core.system import Array, Net


class PlateauState(NamedTuple):
    """The state of a reduce-on-plateau rate, all scalars."""

    scale: Array
    best: Array
    waited: Array  # evaluations without improvement
    cooling: Array  # evaluations still to be ignored
    seen: Array  # number of validation values read so far


def plateau(
    factor: float, patience: int, threshold: float, cooldown: int, floor: float, lowest: bool
) -> optax.GradientTransformationExtraArgs:
    """Multiplies updates by a scale that is cut whenever validation has stopped improving.

    The link reads the extra argument `validation`, float [2]: the last value, and how many values
    there have been. A value that is not finite counts as no improvement. Evaluations are counted
    as PyTorch's ReduceLROnPlateau does.

    Args:
      factor: what a cut multiplies the scale by.
      patience: how many evaluations in a row may bring no improvement before a cut.
      threshold: the relative improvement that counts as one.
      cooldown: how many evaluations after a cut are not counted.
      floor: the smallest scale.
      lowest: whether a lower value is better.
    """
    sign = 1.0 if lowest else -1.0

    def init(params):
        del params
        zero = jnp.zeros((), jnp.int32)
        return PlateauState(
            scale=jnp.ones((), jnp.float32),
            best=jnp.array(jnp.inf, jnp.float32),
            waited=zero,
            cooling=zero,
            seen=jnp.zeros((), jnp.float32),
        )

    def update(updates, state, params=None, *, validation, **extra):
        del params, extra
        value, count = sign * validation[0], validation[1]
        new = count > state.seen
        margin = threshold * jnp.where(jnp.isfinite(state.best), jnp.abs(state.best), 0.0)
        better = jnp.isfinite(value) & (value < state.best - margin)
        cooling = jnp.where(new, jnp.maximum(state.cooling - 1, 0), state.cooling)
        waited = jnp.where(
            new, jnp.where(better | (state.cooling > 0), 0, state.waited + 1), state.waited
        )
        cut = new & (waited > patience)
        state = PlateauState(
            scale=jnp.where(cut, jnp.maximum(state.scale * factor, floor), state.scale),
            best=jnp.where(new & better, value, state.best),
            waited=jnp.where(cut, 0, waited),
            cooling=jnp.where(cut, cooldown, cooling),
            seen=count,
        )
        return jax.tree.map(lambda u: (u * state.scale).astype(u.dtype), updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def rate_scale(net: Net) -> Array | float:
    """The factor by which a plateau schedule has cut the learning rate so far; 1 without one."""
    found = links(net.opt)
    return found["plateau"].scale if "plateau" in found else 1.0

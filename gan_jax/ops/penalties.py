"""Penalties on the networks of a GAN: gradient norms, orthogonality, diversity, clipping."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.errors import UserError
from gan_jax.ops.losses import l1, safe_sqrt

PyTree = Any
Critic = Callable[[Array], Array]
"""Images [B, H, W, C] → logits [B] (or [B, ...]); each logit depends on its own image only."""


def gradient_penalty(
    critic: Critic,
    real: Array,
    fake: Array,
    alpha: Array,
    target: float = 1.0,
    scale: Array | float = 1.0,
) -> Array:
    """mean (‖∇ₓ D(x)‖₂ - target)² at x = α·real + (1-α)·fake (Gulrajani 2017, eq. 3), a scalar.

    The norm is taken over all axes but the first, and its gradient is 0 where it is 0. The critic
    must not use batch statistics, which would mix the examples' gradients. The caller multiplies by
    λ (10).

    Args:
      critic: images → logits.
      real, fake: [B, ...].
      alpha: [B, 1, ...], uniform in [0, 1].
      target: the norm at which the penalty is 0.
      scale: what logits are multiplied by before they are differentiated, and gradients divided by
        afterwards: in half precision small gradients would be rounded to 0. Here and below.
    """
    mixed = alpha * real + (1 - alpha) * fake
    return jnp.mean(jnp.square(gradient_norms(critic, mixed, scale) - target))


def gradient_norms(critic: Critic, x: Array, scale: Array | float = 1.0) -> Array:
    """‖∇ₓ Σ D(x)‖₂ of each image: x [B, ...] → [B]. Its own gradient is 0 where it is 0."""
    return safe_sqrt(_squared_gradients(critic, x, scale))


def r1(critic: Critic, real: Array, scale: Array | float = 1.0) -> Array:
    """mean ‖∇ₓ D(real)‖₂² (Mescheder 2018), a scalar. The caller multiplies by γ/2."""
    return jnp.mean(_squared_gradients(critic, real, scale))


def orthogonal(params: PyTree, form: str = "biggan") -> Array:
    """How far the kernels' output filters are from orthogonal, summed over kernels: a scalar.

    - `biggan`: Σ ‖WᵀW ∘ (1 - I)‖²_F, off-diagonal only, norms stay free (Brock 2019; β = 1e-4).
    - `brock`: Σ ‖WᵀW - I‖²_F, norms pulled to 1 as well (Brock 2017).

    W is every leaf called `kernel` with two axes or more, as a matrix [inputs, outputs]: outputs
    are its last axis. Tables of embeddings are also called `kernel` and count; biases and scales of
    norms do not. A kernel with more outputs than inputs cannot reach 0.

    Raises:
      UserError: another form.
    """
    if form not in ("biggan", "brock"):
        raise UserError(
            f"config.loss.orthogonal_form: found {form!r}, accepted are biggan (norms stay "
            "free) and brock (norms pulled to 1); choose one"
        )
    total = jnp.zeros(())
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if leaf.ndim < 2 or getattr(path[-1], "key", None) != "kernel":
            continue
        weight = leaf.reshape(-1, leaf.shape[-1])  # [inputs, outputs]
        gram = jnp.matmul(weight.T, weight, precision="highest")
        eye = jnp.eye(gram.shape[0], dtype=gram.dtype)
        total += jnp.sum(jnp.square(gram * (1 - eye) if form == "biggan" else gram - eye))
    return total


def mode_seeking(images_1: Array, images_2: Array, z_1: Array, z_2: Array) -> Array:
    """1 / (d(G(z₁), G(z₂)) / d(z₁, z₂) + 1e-5), d = mean |difference| (MSGAN, Mao 2019): a scalar.

    It is small if different latents give different images; the generator minimises it.
    """
    return 1 / (l1(images_1, images_2) / l1(z_1, z_2) + 1e-5)


def clip_weights(params: PyTree, limit: float) -> PyTree:
    """Every leaf clipped to [-limit, limit], after the critic's update (Arjovsky 2017: 0.01)."""
    return jax.tree.map(lambda leaf: jnp.clip(leaf, -limit, limit), params)


def _squared_gradients(critic: Critic, x: Array, scale: Array | float) -> Array:
    """‖∇ₓ D(x)‖₂² per example: [B]."""
    gradients = jax.grad(lambda images: scale * jnp.sum(critic(images)))(x) / scale
    return jnp.sum(jnp.square(gradients).reshape(x.shape[0], -1), axis=1)

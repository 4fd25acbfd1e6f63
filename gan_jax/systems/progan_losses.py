"""ProGAN's losses: WGAN-GP with drift (Karras et al. 2018, appendix A.1), and AC-GAN's classes.

A critic maps images [B, side, side, C] to (score [B], logits of the class [B, classes]). Without
labels `classes` is 0, and the losses have no terms for classes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gan_jax.core.system import Array, Metrics
from gan_jax.ops import penalties

Critic = Callable[[Array], tuple[Array, Array]]


class Inputs(NamedTuple):
    """The inputs of the discriminator's loss in one step."""

    real: Array  # [B, side, side, C] in [-1, 1]
    label: Array  # [B, classes], one-hot
    z: Array  # [B, latents]
    mixing: Array  # [B, 1, 1, 1] in [0, 1): share of the fake where the gradient is penalized


def gen_loss(weights: Any, critic: Critic, fake: Array, label: Array) -> tuple[Array, Metrics]:
    """-mean D(fake), plus the cross entropy with the classes the fakes were made for.

    `weights` is the section `loss` of the config, here and below. Returns (sum of the terms, terms
    by metric name).
    """
    score, logits = critic(fake)
    terms = {"loss/gen": -jnp.mean(score)}
    if label.shape[-1]:
        terms["loss/gen_label"] = weights.label_weight * cross_entropy(logits, label)
    return sum(terms.values()), terms


def disc_loss(
    weights: Any,
    critic: Critic,
    inputs: Inputs,
    fake: Array,
    scale: Array | float,
    enlarged: int,
) -> tuple[Array, Metrics]:
    """mean D(fake) - mean D(real) + λ / target² · mean (‖∇D‖ - target)² + ε · mean D(real)², plus
    the cross entropies of real images and fakes.

    Args:
      fake: [B, side, side, C]; no gradient flows into it.
      scale: the factor of the loss before it is differentiated.
      enlarged: the final side divided by this one; the norm of the gradient is divided by it.

    Returns (sum of the terms, metrics).
    """
    real, label = inputs.real, inputs.label
    fake = jax.lax.stop_gradient(fake)
    real_score, real_logits = critic(real)
    fake_score, fake_logits = critic(fake)
    mixed = real + (fake - real) * inputs.mixing

    def scaled_score(x):  # the gradient by the image passes through half precision too
        return scale * critic(x)[0]

    norms = penalties.gradient_norms(scaled_score, mixed) / scale / enlarged
    away = jnp.mean(jnp.square(norms - weights.target)) / weights.target**2
    terms = {
        "loss/disc": jnp.mean(fake_score) - jnp.mean(real_score),
        "loss/gradient_penalty": weights.gradient_penalty * away,
        "loss/drift": weights.drift * jnp.mean(jnp.square(real_score)),
    }
    if label.shape[-1]:
        wrong = cross_entropy(real_logits, label) + cross_entropy(fake_logits, label)
        terms["loss/disc_label"] = weights.label_weight * wrong
    seen = {
        "score/real": jnp.mean(real_score),
        "score/fake": jnp.mean(fake_score),
        "gradient_norm/mixed": jnp.mean(norms),
    }
    return sum(terms.values()), terms | seen


def cross_entropy(logits: Array, label: Array) -> Array:
    """Mean cross entropy of logits [N, classes] with one-hot rows, a scalar."""
    return -jnp.mean(jnp.sum(label * jax.nn.log_softmax(logits), axis=-1))


def hits(logits: Array, label: Array) -> Array:
    """1 where the largest logit is that of the class, else 0: float32 [N]."""
    return (jnp.argmax(logits, -1) == jnp.argmax(label, -1)).astype(jnp.float32)

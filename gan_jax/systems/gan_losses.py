"""The penalties of the system `gan`, as terms of the discriminator's loss."""

import jax

from gan_jax.core.mesh import split_as
from gan_jax.core.system import Array, Metrics, PyTree
from gan_jax.ops import penalties
from gan_jax.systems.gan_config import Loss


def mixing(loss: Loss, x: Array, given: Array | None, key: Array) -> dict[str, Array]:
    """`alpha` [B, 1, 1, 1], which mixes real images x and fakes for WGAN-GP, if that is used: what
    the batch has as `given`, or else sampled from [0, 1)."""
    if not loss.gradient_penalty:
        return {}
    if given is None:
        given = split_as(x, jax.random.uniform(key, (x.shape[0], 1, 1, 1)))
    return {"alpha": given}


def disc_penalties(
    loss: Loss,
    critic: penalties.Critic,
    params: PyTree,
    x: Array,
    fake: Array,
    alpha: Array | None,
    scale: Array | float,
) -> Metrics:
    """The weighted penalties of the discriminator that the config asks for, by metric name.

    Args:
      critic: images [B, H, W, C] → logits.
      params: of the discriminator.
      x, fake: real images and fakes [B, H, W, C].
      alpha: [B, 1, 1, 1]; only read with a gradient penalty, see `mixing`.
      scale: of the loss, see `penalties.gradient_penalty`.
    """
    terms = {}
    if loss.gradient_penalty:
        penalty = penalties.gradient_penalty(critic, x, fake, alpha, scale=scale)
        terms["loss/gradient_penalty"] = loss.gradient_penalty * penalty
    if loss.r1:
        terms["loss/r1"] = 0.5 * loss.r1 * penalties.r1(critic, x, scale)
    if loss.orthogonal:
        distance = penalties.orthogonal(params, loss.orthogonal_form)
        terms["loss/disc_orthogonal"] = loss.orthogonal * distance
    return terms

"""The whole variational bound of images under a chain, step by step (Nichol & Dhariwal 2021)."""

import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.ops.diffusion import gaussian_diffusion
from gan_jax.ops.diffusion.chain_samplers import NoiseAt, PredictAt
from gan_jax.ops.diffusion.noise_schedules import Chain


def walk(chain: Chain, predict_at: PredictAt, image: Array, noise_at: NoiseAt) -> dict[str, Array]:
    """`vb`, `xstart_mse` and `mse` [B, T] of images [B, H, W, C] at every step `t` that the chain
    keeps, the least noisy first; `prior` and `total` [B] in bits per dimension.

    `predict_at` and `noise_at` are as in `chain_samplers.ancestral`; every step has its own noise.
    The terms are those of `gaussian_diffusion.bound_terms`.
    """
    count = image.shape[0]

    def one(_, index: Array):
        t, noise = jnp.full(count, index), noise_at(index)
        x = gaussian_diffusion.q_sample(chain, image, t, noise)
        known = predict_at(x, index)
        return None, gaussian_diffusion.bound_terms(chain, known, image, x, noise, t)

    _, terms = jax.lax.scan(one, None, jnp.arange(chain.steps))  # [T, B]
    prior = gaussian_diffusion.prior_bits(chain, image)
    total = jnp.sum(terms["vb"], axis=0) + prior
    t = jnp.broadcast_to(jnp.asarray(chain.kept, jnp.int32), (count, chain.steps))
    return {k: v.T for k, v in terms.items()} | {"t": t, "prior": prior, "total": total}

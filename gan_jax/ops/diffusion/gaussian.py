"""Gaussians element by element: divergence, distribution function, likelihood of grey levels.

They have the forms of Ho 2020, for training and evaluating diffusion. All arguments are broadcast.
"""

import math

import jax.numpy as jnp
from jax import Array

_LEAST = 1e-12  # the least probability of a grey level
_EDGE = 0.999  # pixels beyond ± this are in the outermost bins, which reach to infinity


def kl(mean1: Array, log_variance1: Array, mean2: Array, log_variance2: Array) -> Array:
    """KL(N(mean1, …) ‖ N(mean2, …)) in nats, element by element; the arguments are broadcast."""
    ratio = log_variance1 - log_variance2
    # expm1, because exp(ratio) - 1 - ratio loses its digits where the variances are nearly equal
    mahalanobis = jnp.square(mean1 - mean2) * jnp.exp(-log_variance2)
    return 0.5 * (jnp.expm1(ratio) - ratio + mahalanobis)


def normal_cdf(z: Array) -> Array:
    """Φ(z) ≈ (1 + tanh(√(2/π)(z + 0.044715 z³)))/2, element by element (Page 1977)."""
    return 0.5 * (1 + jnp.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))


def discretized_log_likelihood(x: Array, mean: Array, log_scale: Array) -> Array:
    """log P(x) in nats of a Gaussian cut into 256 grey levels, element by element.

    A level at x in [-1, 1] is the interval x ± 1/255, the outermost two reach to infinity; no
    probability is less than 1e-12 (Ho 2020, eq. 13).

    Args:
      x: grey levels.
      mean, log_scale: of the Gaussian, the latter the logarithm of its standard deviation.
    """
    centred, per_scale = x - mean, jnp.exp(-log_scale)
    above = normal_cdf(per_scale * (centred + 1 / 255))
    below = normal_cdf(per_scale * (centred - 1 / 255))
    probability = jnp.where(x > _EDGE, 1 - below, above - below)
    return jnp.log(jnp.maximum(jnp.where(x < -_EDGE, above, probability), _LEAST))

"""Gaussian data, of which the best denoiser, the score and the probability flow are known."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from gan_jax.ops.diffusion import gaussian_diffusion, noise_schedules

CHAIN = noise_schedules.chain("linear", 1000, "12")
SHAPE = (2, 2, 3, 3)


class Gaussian(NamedTuple):
    """Data that is N(mean, spread²) in every element."""

    mean: float
    spread: float

    def x0(self, x, a, b):
        """E[x_0 | x] of x = a x_0 + b eps."""
        gain = a * self.spread**2 / (a**2 * self.spread**2 + b**2)
        return self.mean + gain * (x - a * self.mean)

    def score(self, x, a, b):
        return (a * self.mean - x) / (a**2 * self.spread**2 + b**2)

    def denoise(self, flow):
        return lambda x, level: self.x0(x, 1 - level if flow else 1.0, level)

    def end(self, x, path):
        """Where the probability flow arrives: (x - a mean) keeps its quantile."""
        a, b = path.signal[0], path.levels[0]
        return self.mean + (x - a * self.mean) * self.spread / np.hypot(a * self.spread, b)

    def predict_at(self, chain):
        """The exact transitions: q(x_{t-1} | x_t) is Gaussian where the data are."""

        def predict(x, t):
            now = gaussian_diffusion.gather(chain.alphas_cumprod, t, x)
            x0 = self.x0(x, jnp.sqrt(now), jnp.sqrt(1 - now))
            left = self.spread**2 * (1 - now) / (now * self.spread**2 + 1 - now)
            coefficient = gaussian_diffusion.gather(chain.posterior_mean_coef1, t, x)
            variance = (
                gaussian_diffusion.gather(chain.posterior_variance, t, x) + coefficient**2 * left
            )
            variance = jnp.broadcast_to(variance, x.shape)
            mean = gaussian_diffusion.posterior_mean(chain, x0, x, t)
            return gaussian_diffusion.Prediction(mean, variance, jnp.log(variance), x0)

        return predict


DATA = Gaussian(0.3, 0.5)
PREDICT = DATA.predict_at(CHAIN)


def draw(seed, *shape):
    return np.random.RandomState(seed).randn(*(shape or SHAPE))

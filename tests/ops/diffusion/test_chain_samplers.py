"""Samplers along a chain against closed forms: of Gaussian data the best denoiser is known."""

import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.ops.diffusion import chain_samplers, gaussian_diffusion, noise_schedules
from tests.helpers.gaussian_data import CHAIN, DATA, PREDICT, SHAPE, Gaussian, draw

pytestmark = pytest.mark.usefixtures("double")


def linear_network(chain):
    """eps(x) = 0.1 x, not clipped."""

    def predict(x, t):
        options = dict(target="epsilon", variance="fixed_large", clip=False)
        return gaussian_diffusion.predict(chain, 0.1 * x, x, t, **options)

    return predict


def test_worked_values():
    chain = noise_schedules.chain("linear", 1000, "ddim25")
    predict, x = linear_network(chain), np.ones((1, 1, 1, 1))
    found = chain_samplers.ddim(chain, predict, 0.01 * x)
    np.testing.assert_allclose(found, 0.65890288 * x, rtol=1e-7)
    found = chain_samplers.ddim_reverse(chain, predict, 0.3 * x)
    np.testing.assert_allclose(found, 5.0895743e-4 * x, rtol=1e-6)


def test_ancestral_draws_the_data():
    """With exact transitions the draws at index 0 are the means of x_0 given data with a little
    noise: the data, shrunken by that noise."""
    noise = jnp.asarray(draw(1, CHAIN.steps, 4, 64, 64, 1))
    x = DATA.mean * np.sqrt(CHAIN.alphas_cumprod[-1]) + np.sqrt(
        1 - CHAIN.alphas_cumprod[-1] * (1 - DATA.spread**2)
    ) * draw(2, 4, 64, 64, 1)
    found = chain_samplers.ancestral(CHAIN, PREDICT, x, lambda t: noise[t])
    first = CHAIN.alphas_cumprod[0]
    shrunken = DATA.spread * np.sqrt(first * DATA.spread**2 / (first * DATA.spread**2 + 1 - first))
    assert abs(np.mean(found) - DATA.mean) < 4 * shrunken / np.sqrt(found.size)
    assert abs(np.std(found) / shrunken - 1) < 4 / np.sqrt(2 * found.size)


def test_eta_1_is_the_posterior():
    t = jnp.arange(CHAIN.steps, dtype=jnp.int32)
    x, z = draw(1, CHAIN.steps, 2, 2, 1), draw(2, CHAIN.steps, 2, 2, 1)
    prediction = PREDICT(x, t)
    found, _ = chain_samplers.ddim_step(CHAIN, prediction, x, t, z, eta=1.0)
    deviation = gaussian_diffusion.gather(np.sqrt(CHAIN.posterior_variance), t, z)
    np.testing.assert_allclose(found, prediction.mean + deviation * z, atol=1e-12)


def test_steps_take_an_index_of_each_example():
    """The last one is index 0, where noise has no effect."""
    t = jnp.array([7, CHAIN.steps - 1, 0], jnp.int32)
    x, z, score = draw(1, 3, 2, 2, 1), draw(2, 3, 2, 2, 1), draw(3, 3, 2, 2, 1)
    steps = [
        lambda p, x, t, z, score: chain_samplers.ancestral_step(p, t, z, score),
        lambda p, x, t, z, score: chain_samplers.ddim_step(CHAIN, p, x, t, z, 0.7, score)[0],
        lambda p, x, t, z, score: chain_samplers.ddim_reverse_step(CHAIN, p, x, t),
    ]
    for step in steps:
        mixed = step(PREDICT(x, t), x, t, z, score)
        for i in range(3):
            row = slice(i, i + 1)
            alone = step(PREDICT(x[row], t[i]), x[row], t[i], z[row], score[row])
            np.testing.assert_allclose(mixed[row], alone, rtol=1e-12)
    for step in steps[:2]:
        one, other = (step(PREDICT(x, t), x, t, noise, score) for noise in (z, 5 * z))
        assert np.array_equal(one[2], other[2])
        assert not np.allclose(one[0], other[0])


def test_a_score_moves_the_mean_by_the_variance():
    x, score = draw(1), draw(2)

    def predict(x, t):
        return PREDICT(x, t)._replace(x0=0 * x)

    noise = jnp.asarray(draw(3, CHAIN.steps, *SHAPE))
    found, seen = chain_samplers.ancestral(
        CHAIN, predict, x, lambda t: noise[t], lambda x, t: score * x, trajectory=True
    )
    for t in range(CHAIN.steps)[::-1]:
        prediction = PREDICT(x, jnp.int32(t))
        x = prediction.mean + prediction.variance * score * x
        x = x + (np.sqrt(prediction.variance) * noise[t] if t else 0)
    np.testing.assert_allclose(found, x, rtol=1e-10)
    assert not np.any(seen)  # the x_0 of the network, whatever the score


def test_ddim_with_a_score_samples_the_class():
    """∇ log p(y|x) is what the score of a class has beyond that of all data, so guidance gives
    the path, and the x_0, of a network that knows the class."""
    of_class = Gaussian(0.8, 0.2)

    def score(x, t):
        now = gaussian_diffusion.gather(CHAIN.alphas_cumprod, t, x)
        at = x, jnp.sqrt(now), jnp.sqrt(1 - now)
        return of_class.score(*at) - DATA.score(*at)

    x, z = draw(1), jnp.asarray(draw(2, CHAIN.steps, *SHAPE))
    options = dict(noise_at=lambda t: z[t], eta=0.4, trajectory=True)
    guided = chain_samplers.ddim(CHAIN, PREDICT, x, score_at=score, **options)
    known = chain_samplers.ddim(CHAIN, of_class.predict_at(CHAIN), x, **options)
    for one, other in zip(guided, known, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


@pytest.mark.parametrize("skip_last", [False, True])
def test_encoding_and_back(skip_last):
    """Both ways are first order: the error falls with the length of the chain."""
    x, errors = 0.3 + 0.5 * draw(1), []
    for steps in ("50", "200"):
        chain = noise_schedules.chain("linear", 1000, steps)
        predict = DATA.predict_at(chain)
        z, seen = chain_samplers.ddim_reverse(
            chain, predict, x, skip_last=skip_last, trajectory=True
        )
        assert len(seen) == chain.steps - skip_last
        # as far from the mean as the image was, in standard deviations
        np.testing.assert_allclose(z, (x - DATA.mean) / DATA.spread, atol=0.2)
        errors.append(np.abs(chain_samplers.ddim(chain, predict, z) - x).max())
    assert errors[1] < 0.05
    assert 3 < errors[0] / errors[1] < 5

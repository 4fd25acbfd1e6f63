"""Guidance: formulas whose results are known."""

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.ops.diffusion import guidance


def test_guidance_without_a_classifier_is_extrapolation():
    """The network gives 2 times the image with a class, 0.5 times the image without one."""
    factors = jnp.array([2.0, 0.5, 2.0, 0.5])[:, None, None, None]
    ask = guidance.classifier_free(lambda x, time: factors * x, 3.0, 2)
    x = jnp.array([1.0, 10.0])[:, None, None, None] * jnp.ones((2, 2, 2, 3))
    out = ask(x, jnp.zeros(2))
    np.testing.assert_allclose(out[..., :2], (0.5 + 3 * 1.5) * x[..., :2])
    np.testing.assert_allclose(out[..., 2:], 2 * x[..., 2:])  # the conditional one's variance


def test_the_score_of_a_classifier_is_its_gradient():
    """Logits that are sums of colours: ∇ log softmax is known."""

    def classify(x, time):
        return jnp.sum(x, (1, 2))

    x = jnp.asarray(np.random.RandomState(0).randn(2, 1, 1, 3), jnp.float32)
    found = guidance.classifier_score(classify, jnp.array([0, 2]), 3.0)(x, jnp.zeros(2))
    expected = 3 * (jax.nn.one_hot(jnp.array([0, 2]), 3) - jax.nn.softmax(x[:, 0, 0]))
    np.testing.assert_allclose(found[:, 0, 0], expected, rtol=1e-5)


def test_dynamic_threshold_scales_each_image_by_its_own_percentile():
    x = jnp.stack([jnp.linspace(-4, 4, 27).reshape(3, 3, 3), jnp.full((3, 3, 3), 0.5)])
    found = guidance.dynamic_threshold(0.9)(x)
    s = np.quantile(np.abs(np.linspace(-4, 4, 27)), 0.9)
    np.testing.assert_allclose(found[0], np.clip(x[0], -s, s) / s, rtol=1e-5)
    np.testing.assert_array_equal(found[1], x[1])  # never enlarged

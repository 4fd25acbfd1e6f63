"""Gradient penalties on critics whose gradient is known, the reference's penalty, regularisers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.ops import losses, penalties
from tests.helpers.golden_rule import load, weights

SHAPE = (3, 2, 2, 1)


def images(seed):
    return jax.random.normal(jax.random.key(seed), SHAPE)


def test_gradient_penalty_of_a_linear_critic_is_its_norm():
    direction = jnp.array([3.0, 0.0, 0.0, 4.0])  # ‖w‖ = 5

    def penalty(scale, target):
        def critic(x):
            return x.reshape(len(x), -1) @ (scale * direction)

        return penalties.gradient_penalty(
            critic, images(0), images(1), jnp.full((3, 1, 1, 1), 0.3), target
        )

    value_and_slope = jax.jit(jax.value_and_grad(penalty))
    value, slope = value_and_slope(1.0, 1.0)
    np.testing.assert_allclose(value, 16, rtol=1e-6)  # (5 - 1)²
    np.testing.assert_allclose(slope, 2 * 4 * 5, rtol=1e-6)  # d(5s - 1)²/ds
    np.testing.assert_allclose(value_and_slope(1.0, 5.0)[0], 0, atol=1e-9)


def test_gradient_penalty_of_a_quadratic_critic_is_taken_between_real_and_fake():
    def critic(x):  # gradient x, one logit per image
        return 0.5 * jnp.sum(x**2, axis=(1, 2, 3))

    real, fake = images(0), images(1)
    alpha = jnp.array([0.0, 0.25, 1.0]).reshape(3, 1, 1, 1)
    mixed = np.asarray(alpha * real + (1 - alpha) * fake).reshape(3, -1)
    expected = np.mean((np.linalg.norm(mixed, axis=1) - 1) ** 2)
    found = penalties.gradient_penalty(critic, real, fake, alpha)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(
        penalties.r1(critic, real), np.mean(np.sum(np.asarray(real) ** 2, (1, 2, 3))), rtol=1e-5
    )


def test_gradient_penalty_of_a_flat_critic_has_a_finite_gradient():
    def penalty(w):
        return penalties.gradient_penalty(
            lambda x: x.reshape(3, -1) @ w, images(0), images(1), jnp.zeros((3, 1, 1, 1))
        )

    value, slope = jax.jit(jax.value_and_grad(penalty))(jnp.zeros(4))
    assert value == 1
    np.testing.assert_array_equal(slope, 0)


def test_r1_pulls_a_critic_flat_and_ignores_its_values():
    def value(w, offset):
        return penalties.r1(lambda x: x.reshape(3, -1) @ w + offset, images(0))

    w = jnp.array([1.0, -2.0, 0.0, 2.0])
    np.testing.assert_allclose(value(w, 0.0), 9, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(value)(w, 7.0), 2 * w, rtol=1e-6)


def test_wgan_gp_golden():
    """PyTorch-GAN's critic (linear 512, 256, 1 on flattened images, LeakyReLU 0.2) and its loss."""
    meta, arrays = load("gan/wgan_gp")
    params = {name: jnp.asarray(w) for name, w in weights(meta, "state_dict_D").items()}

    def dense(params, i, x):
        weight = params[f"model.{i}.weight"]
        return jnp.matmul(x, weight.T, precision="highest") + params[f"model.{i}.bias"]

    def critic(params, x):  # NCHW, as stored: the norm does not mind
        x = jax.nn.leaky_relu(dense(params, 0, x.reshape(len(x), -1)), 0.2)
        return dense(params, 4, jax.nn.leaky_relu(dense(params, 2, x), 0.2))

    loss = losses.adversarial("wasserstein")

    @jax.jit
    @jax.grad
    def gradient_and_parts(params):
        return total(params)[0]

    def total(params):
        real, fake = arrays["in/x"], arrays["out/fake"]
        gp = penalties.gradient_penalty(lambda x: critic(params, x), real, fake, arrays["in/alpha"])
        value = loss.real(critic(params, real)) + loss.fake(critic(params, fake)) + 10 * gp
        return value, gp

    (value, gp), gradients = jax.jit(jax.value_and_grad(total, has_aux=True))(params)
    np.testing.assert_allclose(gp, arrays["out/gp"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(value, arrays["out/d_loss"], rtol=1e-4, atol=1e-5)
    names, norms = arrays["out/D/grad_norm_names"], arrays["out/D/grad_norm"]
    found = [float(jnp.linalg.norm(gradients[str(name)])) for name in names]
    np.testing.assert_allclose(found, norms, rtol=1e-3, atol=1e-5 * np.sqrt(np.sum(norms**2)))


def test_orthogonal_forms_by_hand():
    # columns (1, 0) and (1, 1): WᵀW = [[1, 1], [1, 2]]
    kernel = jnp.array([[1.0, 1.0], [0.0, 1.0]])
    params = {"a": {"kernel": kernel, "bias": jnp.ones(2)}, "norm": {"scale": jnp.ones(2)}}
    assert penalties.orthogonal(params, "biggan") == 2
    assert penalties.orthogonal(params, "brock") == 3
    both = {**params, "conv": {"kernel": kernel.reshape(1, 2, 1, 2)}}
    assert penalties.orthogonal(both, "brock") == 6
    assert penalties.orthogonal({"embed": {"embedding": kernel}}, "brock") == 0
    with pytest.raises(UserError, match="biggan"):
        penalties.orthogonal(params, "l2")


@pytest.mark.parametrize(("form", "lengths"), [("biggan", (2.0, 3.0)), ("brock", (1.0, 1.0))])
def test_orthogonal_descent_makes_filters_orthogonal(form, lengths):
    angle = np.pi / 3
    first, second = np.array([1, 0]), np.array([np.cos(angle), np.sin(angle)])
    start = jnp.asarray(np.stack([lengths[0] * first, lengths[1] * second], 1), jnp.float32)

    @jax.jit
    def descend(w):
        slope = jax.grad(lambda w: penalties.orthogonal({"kernel": w}, form))
        return jax.lax.fori_loop(0, 200, lambda _, w: w - 0.02 * slope(w), w)

    gram = np.asarray(descend(start).T @ descend(start))
    np.testing.assert_allclose(gram[0, 1], 0, atol=1e-3)
    if form == "brock":
        np.testing.assert_allclose(np.diag(gram), 1, atol=1e-3)
    else:  # norms stay free
        assert np.diag(gram).min() > 1.5


def test_mode_seeking_value_and_gradient():
    z_1, z_2 = jnp.zeros((2, 4)), jnp.full((2, 4), 0.5)
    near = jnp.zeros(SHAPE)

    @jax.jit
    @jax.value_and_grad
    def value_and_slope(shift):
        return penalties.mode_seeking(near, near + shift, z_1, z_2)

    value, slope = value_and_slope(2.0)
    np.testing.assert_allclose(value, 1 / (2.0 / 0.5 + 1e-5), rtol=1e-6)
    assert slope < 0  # descent drives the images apart
    collapsed, _ = value_and_slope(0.0)  # one image for every z
    np.testing.assert_allclose(collapsed, 1e5, rtol=1e-5)


def test_clip_weights_leaves_nothing_outside():
    clipped = penalties.clip_weights({"w": jnp.array([-1.0, 0.005, 1.0]), "b": jnp.ones(1)}, 0.01)
    np.testing.assert_allclose(clipped["w"], [-0.01, 0.005, 0.01])
    np.testing.assert_allclose(clipped["b"], [0.01])

"""Gradients over microbatches and for two networks equal the plain ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.core import grads

RNG = np.random.default_rng(0)
PARAMS = {"w": jnp.asarray(RNG.standard_normal((4, 3)), jnp.float32), "b": jnp.zeros(3)}
BATCH = {
    "x": RNG.standard_normal((12, 4)).astype(np.float32),
    "y": RNG.standard_normal((12, 3)).astype(np.float32),
}


def mean_loss(params, batch, key):
    """A mean over examples; aux is the error of each."""
    out = jnp.tanh(batch["x"] @ params["w"] + params["b"])
    error = jnp.sum((out - batch["y"]) ** 2, axis=1)
    return jnp.mean(error), {"loss": error}


@pytest.mark.parametrize("n", [1, 2, 3, 12])
def test_microbatches_give_the_gradient_of_the_whole_batch(n):
    key = jax.random.key(0)
    whole, aux = jax.grad(mean_loss, has_aux=True)(PARAMS, BATCH, key)
    found, found_aux = jax.jit(
        lambda params, batch: grads.accumulate(mean_loss, params, batch, key, n)
    )(PARAMS, BATCH)
    for name in whole:
        np.testing.assert_allclose(found[name], whole[name], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found_aux["loss"], aux["loss"], rtol=1e-6)


def test_every_microbatch_has_a_key_of_its_own_and_every_nth_example():
    def loss(params, batch, key):
        draw = jax.random.uniform(key)
        return 0.0 * params["b"].sum(), (draw + 0 * batch["x"][:, 0], batch["x"][:, 0])

    key = jax.random.key(1)
    draws = [jax.random.uniform(jax.random.fold_in(key, i)) for i in range(3)]
    _, (draw, seen) = grads.accumulate(loss, PARAMS, BATCH, key, 3)
    # consecutive examples go to different parts, so that every device has a share of each
    np.testing.assert_allclose(draw, np.tile(draws, 4), rtol=1e-6)
    np.testing.assert_array_equal(seen, BATCH["x"][:, 0])


def test_a_batch_that_does_not_divide():
    with pytest.raises(ValueError, match="12 does not divide into 5"):
        grads.accumulate(mean_loss, PARAMS, BATCH, jax.random.key(0), 5)


def test_two_networks_from_one_forward_pass():
    """Each loss with respect to its own network only, as two separate gradients give."""
    disc = {"v": jnp.asarray(RNG.standard_normal(3), jnp.float32)}
    traced = []

    def forward(gen_params, disc_params):
        traced.append(1)
        fake = jnp.tanh(BATCH["x"] @ gen_params["w"] + gen_params["b"])
        logit, real = fake @ disc_params["v"], BATCH["y"] @ disc_params["v"]
        gen_loss = jnp.mean(jax.nn.softplus(-logit))
        return gen_loss, jnp.mean(jax.nn.softplus(logit) + jax.nn.softplus(-real)), fake

    gen_grads, disc_grads, aux = jax.jit(lambda g, d: grads.two_networks(forward, g, d))(
        PARAMS, disc
    )
    assert len(traced) == 1
    expected_gen = jax.grad(lambda g: forward(g, disc)[0])(PARAMS)
    expected_disc = jax.grad(lambda d: forward(PARAMS, d)[1])(disc)
    for name in PARAMS:
        np.testing.assert_allclose(gen_grads[name], expected_gen[name], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(disc_grads["v"], expected_disc["v"], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(aux, forward(PARAMS, disc)[2], rtol=1e-6)

"""ProGAN's losses in closed forms, for a linear critic."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.systems import progan_losses
from gan_jax.systems.progan_losses import Inputs

WEIGHTS = SimpleNamespace(gradient_penalty=10.0, target=2.0, drift=0.001, label_weight=3.0)
RANDOM = np.random.default_rng(0)
W = RANDOM.normal(size=(4, 4, 3)).astype(np.float32)
REAL, FAKE = RANDOM.normal(size=(2, 6, 4, 4, 3)).astype(np.float32)


def critic(x):
    """The score is w · x, and every class has the same logit."""
    return jnp.sum(x * W, axis=(1, 2, 3)), jnp.zeros((len(x), 5))


def inputs(classes: int) -> Inputs:
    label = np.eye(5, dtype=np.float32)[[0, 1, 2, 3, 4, 0]][:, :classes]
    return Inputs(REAL, label, np.zeros((6, 2)), np.full((6, 1, 1, 1), 0.3, np.float32))


@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_the_critics_loss_and_its_penalty_at_full_size(scale):
    total, found = progan_losses.disc_loss(WEIGHTS, critic, inputs(0), FAKE, scale, 4)
    real, fake = np.sum(REAL * W, (1, 2, 3)), np.sum(FAKE * W, (1, 2, 3))
    norm = np.linalg.norm(W) / 4
    expected = {
        "loss/disc": fake.mean() - real.mean(),
        "loss/gradient_penalty": 10 * (norm - 2) ** 2 / 2**2,
        "loss/drift": 0.001 * np.mean(real**2),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(total, sum(expected.values()), rtol=1e-5)
    np.testing.assert_allclose(found["gradient_norm/mixed"], norm, rtol=1e-5)
    assert "loss/disc_label" not in found


def test_classes_are_in_both_losses():
    given = inputs(5)
    _, found = progan_losses.disc_loss(WEIGHTS, critic, given, FAKE, 1.0, 1)
    np.testing.assert_allclose(found["loss/disc_label"], 3 * 2 * np.log(5), rtol=1e-6)
    total, found = progan_losses.gen_loss(WEIGHTS, critic, FAKE, given.label)
    np.testing.assert_allclose(found["loss/gen_label"], 3 * np.log(5), rtol=1e-6)
    np.testing.assert_allclose(total, sum(found.values()), rtol=1e-6)


def test_hits_count_the_largest_logit():
    logits = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    label = np.array([[0, 1], [0, 1], [0, 1]])
    assert progan_losses.hits(logits, label).tolist() == [1, 0, 1]

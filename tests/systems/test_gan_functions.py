"""The functions that the systems gan and pix2pix are made of, each by itself."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import config as configs
from gan_jax.core import ema, loss_scale
from gan_jax.core.system import Facts, Net
from gan_jax.errors import UserError
from gan_jax.models.layers import MOMENTUM
from gan_jax.systems import gan, gan_losses, pix2pix
from gan_jax.systems.gan_config import Loss
from gan_jax.systems.gan_standing_statistics import standing
from tests.helpers import tiny_gan

FACTS = Facts(tiny_gan.SIZE, 1, tiny_gan.CLASSES, 64)


def built(facts: Facts = FACTS, **loss) -> gan.Gan:
    made = gan.build(tiny_gan.settings({}), facts)
    return dataclasses.replace(made, loss=Loss(**loss))


@pytest.mark.parametrize("system", ["gan", "pix2pix"])
def test_a_build_holds_what_the_config_says(system):
    config = configs.defaults(system)
    config.run.steps, config.loss.real_target = "7", 0.9
    config.data.pairs = "side_by_side" if system == "pix2pix" else "none"
    facts = Facts(32, 3, 0, 64, input_channels=3 if system == "pix2pix" else 0)
    made = configs.SYSTEMS[system].build(config, facts)
    assert (made.stages[0].steps, made.stages[0].batch_size) == (7, config.batch_size)
    assert made.adversarial.real_target == made.loss.real_target == 0.9
    assert dataclasses.asdict(made.loss) == config.loss.to_dict()
    assert not jax.tree.leaves([x for x in vars(made).values() if isinstance(x, jax.Array)])


def test_fakes_take_the_latents_that_a_batch_brings():
    made, key = built(FACTS._replace(empty_classes=(0, 2))), jax.random.key(0)
    given, x = tiny_gan.batch()["z"], np.zeros((64, 1, 1, 1), np.uint8)
    z, label = gan.fake_inputs(made, x, given, key)
    np.testing.assert_array_equal(z, given)
    assert {*label.tolist()} == {1, 3}
    drawn, again = gan.fake_inputs(made, x, None, key)
    assert drawn.shape == (64, tiny_gan.Z)
    np.testing.assert_array_equal(again, label)


def test_penalties_are_weighted_and_only_those_asked_for():
    """A critic w · x has the gradient w everywhere."""
    w = jnp.linspace(-1, 1, tiny_gan.SIZE**2).reshape(1, tiny_gan.SIZE, tiny_gan.SIZE, 1)
    x, key = jnp.ones((2, *w.shape[1:])), jax.random.key(0)

    def critic(at):
        return jnp.sum(w * at, axis=(1, 2, 3))

    assert gan_losses.mixing(Loss(), x, None, key) == {}
    assert gan_losses.disc_penalties(Loss(), critic, {}, x, -x, None, 1.0) == {}
    asked = Loss(r1=3.0, gradient_penalty=10.0)
    alpha = gan_losses.mixing(asked, x, None, key)["alpha"]
    found = gan_losses.disc_penalties(asked, critic, {}, x, -x, alpha, 1.0)
    square = float(jnp.sum(w**2))
    assert found["loss/r1"] == pytest.approx(1.5 * square, rel=1e-5)
    assert found["loss/gradient_penalty"] == pytest.approx(10 * (square**0.5 - 1) ** 2, rel=1e-5)


def test_standing_statistics_are_means_over_the_batches():
    """Whatever the running ones were; the vector of spectral norm stays."""
    stats = {"norm": {"mean": jnp.zeros(1), "var": jnp.ones(1)}, "conv": {"u": jnp.full(1, 5.0)}}
    net = Net(params={}, stats=stats, opt={})

    def forward(params, old, batch):
        moved = {k: v + MOMENTUM * (batch[k] - v) for k, v in old["norm"].items()}
        return {"norm": moved, "conv": {"u": jnp.full(1, 7.0)}}

    batches = {"mean": jnp.array([[1.0], [2.0], [6.0]]), "var": jnp.array([[2.0], [4.0], [6.0]])}
    found = standing(net, forward, batches).stats
    np.testing.assert_allclose(found["norm"]["mean"], [3], rtol=1e-5)
    np.testing.assert_allclose(found["norm"]["var"], [4], rtol=1e-5)
    assert found["conv"]["u"] == 5
    with pytest.raises(UserError, match="no batch statistics"):
        standing(net.replace(stats={"conv": stats["conv"]}), forward, batches)


@pytest.mark.parametrize("half", [False, True])
def test_standing_statistics_of_every_average_in_every_precision(half):
    """float16 keeps the links of a chain within its loss scale."""
    stats = {"mean": jnp.zeros(1), "var": jnp.ones(1)}
    params = {"w": jnp.full(1, 2.0)}
    average = ema.EmaState(({"w": jnp.full(1, 3.0)}, {"w": jnp.full(1, 4.0)}), (stats, stats))
    links = {"ema": average}
    opt = loss_scale.LossScaleState(jnp.ones(()), jnp.zeros(()), links) if half else links

    def forward(params, old, batch):
        return {k: v + MOMENTUM * (params["w"] * batch - v) for k, v in old.items()}

    net = standing(Net(params, stats, opt), forward, jnp.array([[1.0], [3.0]]))
    found = loss_scale.links(net.opt)["ema"].stats
    means = [float(s["mean"][0]) for s in (net.stats, *found)]
    np.testing.assert_allclose(means, [4, 6, 8], rtol=1e-5)
    assert isinstance(net.opt, loss_scale.LossScaleState) == half


def test_distances_of_pix2pix():
    config = configs.defaults("pix2pix")
    config.data.pairs = "side_by_side"
    x = jnp.array([[0.5, -3.0]])
    for name, expected in (("l1", [[0.5, 3.0]]), ("l2", [[0.25, 9.0]])):
        config.loss.distance = name
        made = pix2pix.build(config, Facts(32, 3, 0, 64, input_channels=3))
        np.testing.assert_allclose(pix2pix.distance(made, x, jnp.zeros_like(x)), expected)

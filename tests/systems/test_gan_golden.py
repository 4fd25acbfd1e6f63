"""The gan system against numbers that PyTorch-GAN's own networks and training order gave."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import config as configs
from gan_jax.core import saved_states
from gan_jax.core.mesh import fetch
from gan_jax.core.system import Facts
from gan_jax.interop import pytorch_gan
from gan_jax.models import gan as networks
from gan_jax.ops import losses, penalties
from tests.helpers import golden_rule

B1 = 0.5


def system(resolution: int, generator: str, discriminator: str):
    """PyTorch-GAN's settings, dropout off."""
    config = configs.defaults("gan")
    config.model.gen.name, config.model.disc.name = generator, discriminator
    config.model.disc.dropout = 0.0
    config.loss.disc_weight = 0.5
    config.loss.order = "generator_first"
    config.run.steps = "2"
    for section in config.optim.values():
        section.lr, section.b1, section.b2 = 2e-4, B1, 0.999
    config.batch_size = 8
    return configs.SYSTEMS["gan"].make(config, Facts(resolution, 1, 0, 64))


def with_golden_weights(made, meta):
    """The system's own state with every parameter and statistic taken from the rule."""
    stage = made.stages[0]
    state = jax.jit(made.init, static_argnums=2)(jax.random.key(0), {}, stage)
    nets = {}
    for name, key in (("gen", "state_dict_G"), ("disc", "state_dict_D")):
        net = state.nets[name]
        params, stats = pytorch_gan.to_trees(golden_rule.weights(meta, key))
        ours = saved_states.named({"params": net.params, "stats": net.stats})
        theirs = saved_states.named({"params": params, "stats": stats})
        assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
        nets[name] = net.replace(
            params=jax.tree.map(jnp.asarray, params), stats=jax.tree.map(jnp.asarray, stats)
        )
    return state.replace(nets=nets)


def pixels(x: np.ndarray) -> np.ndarray:
    """NCHW in [-1, 1] as the NHWC pixel values that a batch holds, not rounded to whole ones."""
    return np.moveaxis(x, 1, -1) * np.float32(127.5) + np.float32(127.5)


@functools.cache
def two_steps(case: str):
    """(meta, golden arrays, [(state before, state after, metrics) of each step])."""
    meta, golden = golden_rule.load(f"gan/{case}")
    kind = "pytorch_gan_dcgan" if case.startswith("dcgan") else "pytorch_gan_dense"
    made = system(meta["options"]["img_size"], kind, kind)
    state = with_golden_weights(made, meta)
    step = jax.jit(made.train_step, static_argnums=3)
    batch = {
        "image": pixels(golden["in/x"]),
        "label": np.zeros(8, np.int32),
        "z": golden["in/z"],
    }
    history = []
    for _ in range(2):
        with jax.default_matmul_precision("highest"):
            new, metrics = step(state, batch, jax.random.key(1), made.stages[0])
        history.append((fetch(state), fetch(new), fetch(metrics)))
        state = new
    return meta, golden, history


def norms(tree) -> dict[str, float]:
    """Euclidean norm of every tensor by its PyTorch name."""
    named = pytorch_gan.from_trees(tree, {})
    return {k: float(np.linalg.norm(v.astype(np.float64))) for k, v in named.items()}


@pytest.mark.parametrize("case", ["gan_train_step", "dcgan_train_step"])
def test_losses_of_two_steps(case):
    _, golden, history = two_steps(case)
    for index, (_, _, metrics) in enumerate(history):
        for ours, theirs in (
            ("loss/gen", "loss_g"),
            ("loss/disc_real", "loss_real"),
            ("loss/disc_fake", "loss_fake"),
            ("loss/disc", "loss_d"),
        ):
            np.testing.assert_allclose(
                metrics[ours], golden[f"out/{theirs}"][index], rtol=1e-4, atol=1e-5, err_msg=ours
            )


@pytest.mark.parametrize("case", ["gan_train_step", "dcgan_train_step"])
def test_gradients_parameters_and_statistics_of_two_steps(case):
    meta, golden, history = two_steps(case)
    start = history[0][0]
    for index, (before, after, metrics) in enumerate(history):
        for net, letter in (("gen", "G"), ("disc", "D")):
            skip = meta["zero_gradient_tensors"][letter]
            key = f"out/step{index}/{letter}"
            old, new = before.nets[net], after.nets[net]
            grads = golden_rule.gradient(old, new, B1)
            step0 = index == 0
            tolerance = (1e-3, 1e-5) if step0 else (3e-2, 1e-3)
            golden_rule.compare(norms(grads), golden, f"{key}/grad_norm", skip, *tolerance)
            total = float(np.sqrt(np.sum(golden[f"{key}/grad_norm"] ** 2)))
            np.testing.assert_allclose(
                metrics[f"grad_norm/{net}"], total, rtol=tolerance[0] + tolerance[1]
            )
            golden_rule.compare(
                norms(new.params), golden, f"{key}/param_norm_after", skip, 1e-4, 1e-5
            )
            change = jax.tree.map(
                lambda n, o: n.astype(np.float64) - o, new.params, start.nets[net].params
            )
            tolerance = (3e-4, 1e-5) if step0 else (2e-2, 1e-5)
            golden_rule.compare(norms(change), golden, f"{key}/param_change_norm", skip, *tolerance)
            if f"{key}/running_stat_norm_after" in golden:
                statistics(new.stats, golden, f"{key}/running_stat_norm_after")


def statistics(stats, golden, key) -> None:
    found = {
        k: float(np.linalg.norm(v.astype(np.float64)))
        for k, v in pytorch_gan.from_trees({}, stats).items()
    }
    for name, value in zip(golden[f"{key}_names"], golden[key], strict=True):
        np.testing.assert_allclose(found[str(name)], value, rtol=2e-5, atol=5e-6, err_msg=name)


def test_wgan_gp_penalty_critic_loss_and_gradients():
    """PyTorch-GAN's critic with the mixing weight given: penalty, loss, gradient norms, fakes."""
    meta, golden = golden_rule.load("gan/wgan_gp")
    gen = networks.generator("pytorch_gan_dense", resolution=28)
    disc = networks.discriminator("pytorch_gan_dense", resolution=28)
    g_params, g_stats = pytorch_gan.to_trees(golden_rule.weights(meta, "state_dict_G"))
    d_params, d_stats = pytorch_gan.to_trees(golden_rule.weights(meta, "state_dict_D"))
    real = np.moveaxis(golden["in/x"], 1, -1)
    label = np.zeros(len(real), np.int32)
    key = jax.random.key(0)
    critic_loss = losses.adversarial("wasserstein")

    @jax.jit
    def run(params):
        fake, _ = gen.apply(g_params, g_stats, golden["in/z"], label, train=True, key=key)

        def total(params):
            def critic(x):
                return disc.apply(params, d_stats, x, label, train=True, key=key)[0][0]

            penalty = penalties.gradient_penalty(critic, real, fake, golden["in/alpha"])
            loss = critic_loss.real(critic(real)) + critic_loss.fake(critic(fake)) + 10 * penalty
            return loss, (penalty, critic(real), critic(fake))

        (loss, rest), grads = jax.value_and_grad(total, has_aux=True)(params)
        return fake, loss, rest, grads

    with jax.default_matmul_precision("highest"):
        fake, loss, (penalty, d_real, d_fake), grads = fetch(run(d_params))
    np.testing.assert_allclose(np.moveaxis(fake, -1, 1), golden["out/fake"], rtol=1e-4, atol=5e-5)
    np.testing.assert_allclose(d_real, golden["out/d_real"][:, 0], rtol=1e-4, atol=5e-5)
    np.testing.assert_allclose(d_fake, golden["out/d_fake"][:, 0], rtol=1e-4, atol=5e-5)
    np.testing.assert_allclose(penalty, golden["out/gp"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(loss, golden["out/d_loss"], rtol=1e-4, atol=1e-5)
    golden_rule.compare(norms(grads), golden, "out/D/grad_norm", (), 1e-3, 1e-5)

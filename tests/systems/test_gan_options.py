"""Every option of the gan system does what it says to a loss, a gradient or an update.

Each option is compared with the same step without it.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.core import saved_states
from gan_jax.core.mesh import fetch
from gan_jax.ops import images, penalties
from tests.helpers.tiny_gan import SIZE, B, Step, batch, make, one_step


@functools.cache
def plain() -> Step:
    return one_step()


def same(a: dict, b: dict) -> bool:
    return all(np.allclose(a[k], b[k], rtol=1e-5, atol=1e-6) for k in a)


def assert_adds(step: Step, base: Step, net: str, term) -> None:
    """The gradient of `net` is the base's plus that of the function `term` of its parameters."""
    extra = saved_states.named(fetch(jax.jit(jax.grad(term))(base.before.nets[net].params)))
    assert max(np.abs(v).max() for v in extra.values()) > 1e-4
    for name, value in extra.items():
        np.testing.assert_allclose(
            step.grads[net][name], base.grads[net][name] + value, rtol=1e-3, atol=1e-5, err_msg=name
        )


def critic(made, params, given=None):
    net, label = made.state.nets["disc"], (given or batch())["label"]
    return lambda x: made.disc.apply(params, net.stats, x, label)[0][0]


def real_images(given=None):
    return images.to_unit(jnp.asarray((given or batch())["image"]))


# losses and the order of updates


@pytest.mark.parametrize(
    "name", ["non_saturating", "saturating", "least_squares", "hinge", "wasserstein"]
)
def test_every_loss_trains_a_step(name):
    step = one_step({"loss.name": name})
    for metric, value in step.metrics.items():
        assert np.isfinite(value), metric
    for net in ("gen", "disc"):
        assert step.metrics[f"grad_norm/{net}"] > 0
    if name != "non_saturating":
        assert not same(step.grads["gen"], plain().grads["gen"])
    # the minimax game has the same discriminator
    cross_entropy = name in ("non_saturating", "saturating")
    assert same(step.grads["disc"], plain().grads["disc"]) == cross_entropy


def test_several_critic_steps_per_generator_step():
    """WGAN-GP with three: Adam counts, and every step takes images of its own."""
    options = {
        "loss.name": "wasserstein",
        "loss.order": "discriminator_first",
        "loss.disc_steps": 3,
        "loss.gradient_penalty": 10.0,
        "optim.gen": {"name": "adam", "lr": 1e-3},
        "optim.disc": {"name": "adam", "lr": 1e-9},
    }
    made = make(options)
    assert made.stage.batch_size == 3 * B
    given = {k: v for k, v in batch(3 * B).items() if k not in ("alpha", "z")}  # it draws its own
    step = one_step(options, given)
    assert step.after.nets["gen"].opt["moments"].count == 1
    assert step.after.nets["disc"].opt["moments"].count == 3
    assert step.metrics["loss/gradient_penalty"] > 0
    assert all(np.isfinite(v) for v in step.metrics.values())
    # the weights hardly move, so the mean over three steps is that over all images, each once
    logits = critic(made, made.state.nets["disc"].params, given)(real_images(given))
    np.testing.assert_allclose(
        step.metrics["loss/disc_real"], -np.mean(logits), rtol=1e-4, atol=1e-6
    )


def test_one_step_with_the_generator_first_shows_the_fakes_made_before():
    """Wasserstein: the generator's loss is minus the fake half of the critic's, on equal fakes."""
    given = {k: v for k, v in batch().items() if k != "z"}
    first = one_step({"loss.name": "wasserstein"}, given).metrics
    np.testing.assert_allclose(first["loss/gen"], -first["loss/disc_fake"], rtol=1e-5)
    other = one_step({"loss.name": "wasserstein", "loss.order": "discriminator_first"}, given)
    assert abs(other.metrics["loss/gen"] + other.metrics["loss/disc_fake"]) > 1e-3


def test_disc_weight_scales_the_discriminator_only():
    step = one_step({"loss.disc_weight": 0.5})
    for name, value in plain().grads["disc"].items():
        np.testing.assert_allclose(step.grads["disc"][name], 0.5 * value, rtol=1e-4, atol=1e-6)
    assert same(step.grads["gen"], plain().grads["gen"])


# penalties


def test_clipping_bounds_the_critic_after_its_update():
    step = one_step({"loss.clip_weights": 0.01})

    def largest(net):
        return max(np.abs(x).max() for x in jax.tree.leaves(net.params))

    assert largest(step.before.nets["disc"]) > 0.1
    assert largest(step.after.nets["disc"]) <= np.float32(0.01)
    assert largest(step.after.nets["gen"]) > 0.1


def test_r1_adds_its_gradient_to_the_discriminator():
    step, made = one_step({"loss.r1": 2.0}), make({})

    def term(p):
        return penalties.r1(critic(made, p), real_images())  # γ/2 = 1

    assert_adds(step, plain(), "disc", term)
    np.testing.assert_allclose(
        step.metrics["loss/r1"], term(plain().before.nets["disc"].params), rtol=1e-5
    )
    assert same(step.grads["gen"], plain().grads["gen"])


def test_gradient_penalty_adds_its_gradient_to_the_critic():
    step, made = one_step({"loss.gradient_penalty": 10.0}), make({})
    given, net = batch(), plain().before.nets["gen"]
    fake = made.gen.apply(net.params, net.stats, given["z"], given["label"])[0]

    def term(params):
        real = real_images()
        return 10 * penalties.gradient_penalty(critic(made, params), real, fake, given["alpha"])

    assert_adds(step, plain(), "disc", term)
    assert step.metrics["loss/gradient_penalty"] > 0


@pytest.mark.parametrize("form", ["biggan", "brock"])
def test_orthogonal_adds_its_gradient_to_both_networks(form):
    step = one_step({"loss.orthogonal": 0.1, "loss.orthogonal_form": form})
    for net in ("gen", "disc"):
        assert_adds(step, plain(), net, lambda p: 0.1 * penalties.orthogonal(p, form))
        assert step.metrics[f"loss/{net}_orthogonal"] > 0


def test_reconstruction_adds_its_gradient_to_the_generator_only():
    step, made = one_step({"loss.reconstruction": 3.0}), make({})

    def term(params):
        fake = made.gen.apply(params, {}, batch()["z"], batch()["label"])[0]
        return 3 * jnp.mean(jnp.abs(fake - real_images()))

    assert_adds(step, plain(), "gen", term)
    assert same(step.grads["disc"], plain().grads["disc"])


def test_mode_seeking_moves_the_generator_only():
    """Beside the l2 form of reconstruction, in one step."""
    options = {"loss.reconstruction": 0.1, "loss.reconstruction_norm": "l2"}
    step = one_step({"loss.mode_seeking": 0.1, **options})
    made, net = make({}), plain().before.nets["gen"]
    gap = made.gen.apply(net.params, {}, batch()["z"], batch()["label"])[0] - real_images()
    distance = np.mean(np.sqrt(np.mean(np.square(gap), axis=(1, 2, 3))))
    np.testing.assert_allclose(step.metrics["loss/reconstruction"], 0.1 * distance, rtol=1e-5)
    assert step.metrics["loss/mode_seeking"] > 0
    assert not same(step.grads["gen"], plain().grads["gen"])
    assert same(step.grads["disc"], plain().grads["disc"])


# what the discriminator sees: labels, noise, augmentation


def test_label_smoothing_and_flips_change_the_discriminators_loss_only():
    made, base = make({}), plain().metrics
    logit = critic(made, made.state.nets["disc"].params)(real_images())
    smooth = one_step({"loss.real_target": 0.9})
    expected = np.mean(0.9 * np.logaddexp(0, -logit) + 0.1 * np.logaddexp(0, logit))
    np.testing.assert_allclose(smooth.metrics["loss/disc_real"], expected, rtol=1e-5)
    assert smooth.metrics["loss/disc_fake"] == pytest.approx(base["loss/disc_fake"], rel=1e-6)
    np.testing.assert_allclose(base["accuracy/real"], np.mean(logit > 0), rtol=1e-6)
    flipped = one_step({"loss.flip": 0.45})
    assert flipped.metrics["loss/disc"] != pytest.approx(base["loss/disc"], rel=1e-4)
    for step in (smooth, flipped):
        assert same(step.grads["gen"], plain().grads["gen"])
        for name in ("loss/gen", "accuracy/real", "accuracy/fake"):
            assert step.metrics[name] == pytest.approx(base[name], rel=1e-6)


def test_instance_noise_is_exactly_gone_after_its_steps():
    options = {"loss.noise": 0.5, "loss.noise_steps": 10}
    noisy = one_step(options)
    for name in ("loss/gen", "loss/disc_real", "loss/disc_fake"):
        assert noisy.metrics[name] != pytest.approx(plain().metrics[name], rel=1e-4)
    late = make(options).state.replace(step=jnp.int32(10))
    silent = one_step(options, state=late)
    for name, value in plain().metrics.items():
        np.testing.assert_allclose(silent.metrics[name], value, rtol=1e-6, atol=1e-7, err_msg=name)


def constant_images(options: dict):
    """A state whose generator gives one image whatever z, and a batch of exactly that image."""
    made = make(options)
    net = made.state.nets["gen"]
    bias = jnp.linspace(-1, 1, SIZE * SIZE)
    output = {"kernel": jnp.zeros_like(net.params["output"]["kernel"]), "bias": bias}
    state = made.state.replace(
        nets={**made.state.nets, "gen": net.replace(params={**net.params, "output": output})}
    )
    image = np.tanh(np.asarray(bias)).reshape(1, SIZE, SIZE, 1) * 127.5 + 127.5
    return state, {**batch(), "image": np.repeat(image, B, axis=0).astype(np.float32)}


def test_diffaugment_is_the_same_on_real_and_fake():
    """Fakes equal to the real images stay equal to them: the critic's two halves cancel."""
    base = {"loss.name": "wasserstein"}
    options = {**base, "augment": ["color", "translation", "cutout"]}
    state, given = constant_images(options)
    step = one_step(options, given, state)
    real, fake = step.metrics["loss/disc_real"], step.metrics["loss/disc_fake"]
    np.testing.assert_allclose(real, -fake, rtol=1e-4)
    assert step.metrics["grad_norm/disc"] < 1e-4
    assert abs(real - one_step(base, given, state).metrics["loss/disc_real"]) > 1e-3
    assert step.metrics["grad_norm/gen"] > 0  # gradients pass through the augmentation


def test_dropout_falls_differently_on_real_and_fake_and_only_in_training():
    options = {"loss.name": "wasserstein", "model.disc": {"dropout": 0.5}}
    state, given = constant_images(options)
    metrics = one_step(options, given, state).metrics
    assert abs(metrics["loss/disc_real"] + metrics["loss/disc_fake"]) > 1e-4
    made = make(options)
    evaluate = jax.jit(made.system.eval_step, static_argnums=3)
    a, b = (evaluate(state, given, jax.random.key(k), made.stage)["disc"] for k in (0, 1))
    np.testing.assert_array_equal(a, b)


# what an update does with a gradient


def test_learning_rates_are_independent():
    """The generator's halves every step, the discriminator's where validation stalls."""
    options = {
        "optim.gen.schedule": {"name": "exponential", "every": 1.0, "factor": 0.5},
        "optim.disc": {"lr": 0.1},
        "optim.disc.schedule": {"name": "plateau", "patience": 0, "factor": 0.5},
    }
    made = make(options)
    state, found = made.state, []
    for value, count in ((jnp.inf, 0), (2.0, 1), (1.0, 2), (1.0, 2), (3.0, 3)):
        state = state.replace(validation=jnp.array([value, count], jnp.float32))
        state, metrics = made.step(state, batch(), jax.random.key(1), made.stage)
        found.append((float(metrics["rate/gen"]), float(metrics["rate/disc"])))
    gen, disc = np.array(found).T
    np.testing.assert_allclose(gen, [1, 0.5, 0.25, 0.125, 0.0625], rtol=1e-6)
    np.testing.assert_allclose(disc, [0.1, 0.1, 0.1, 0.1, 0.05], rtol=1e-6)


def test_weight_decay_of_kernels_or_of_everything():
    step = one_step(
        {
            "optim.gen": {"weight_decay": 0.5, "weight_decay_mask": "all"},
            "optim.disc": {"weight_decay": 0.5},
        }
    )
    for net, mask in (("gen", ""), ("disc", "kernel")):
        weights = saved_states.named(plain().before.nets[net].params)
        for name, value in plain().grads[net].items():
            decayed = 0.5 * weights[name] if name.endswith(mask) else 0
            np.testing.assert_allclose(
                step.grads[net][name], value + decayed, rtol=1e-4, atol=1e-6, err_msg=name
            )


def test_clipping_shortens_the_update_and_logs_the_norm_before_it():
    step = one_step({"optim.disc": {"clip_norm": 0.01}})
    length = np.sqrt(sum(np.sum(np.square(g)) for g in step.grads["disc"].values()))
    np.testing.assert_allclose(length, 0.01, rtol=1e-3)
    for net in ("gen", "disc"):
        name = f"grad_norm/{net}"
        assert step.metrics[name] == pytest.approx(plain().metrics[name], rel=1e-5)
    whole = np.sqrt(sum(np.sum(np.square(g)) for g in plain().grads["disc"].values()))
    np.testing.assert_allclose(plain().metrics["grad_norm/disc"], whole, rtol=1e-4)


def test_spectral_norm_brings_the_largest_singular_value_to_one():
    options = {"model.disc": {"spectral_norm": True}, "optim.disc": {"lr": 0.01}}
    made = make(options)
    state = made.state
    for index in range(60):
        state, _ = made.step(state, batch(), jax.random.key(index), made.stage)
    net = fetch(state.nets["disc"])
    kernel, u = net.params["hidden"]["kernel"], net.stats["batch_stats"]["hidden"]["u"]
    v = kernel @ u / np.linalg.norm(kernel @ u)
    estimated = np.linalg.norm(v @ kernel)  # what the layer divides its kernel by
    largest = np.linalg.svd(kernel / estimated, compute_uv=False)[0]
    np.testing.assert_allclose(largest, 1, atol=0.02)
    assert abs(np.linalg.svd(kernel, compute_uv=False)[0] - 1) > 0.02  # not by itself

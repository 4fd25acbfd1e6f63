"""The pix2pix system: the order of a step, its losses, rates, validation and sampling."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import config as configs
from gan_jax.core import ema, saved_states
from gan_jax.core.mesh import fetch
from gan_jax.core.system import Facts
from gan_jax.errors import UserError
from gan_jax.models import pix2pix as networks
from gan_jax.ops import colour, images

SIZE = 16
PLAIN = {
    "data.pairs": "side_by_side",
    "model.gen.width": 2,
    "model.disc.width": 2,
    "batch_size": 2,
    "run.steps": "100",
}


@functools.cache
def _made(items: tuple):
    config = configs.defaults("pix2pix")
    for key, value in [*PLAIN.items(), *items]:
        *path, last = key.split(".")
        functools.reduce(getattr, path, config)[last] = value
    inputs = 1 if config.data.pairs == "colorize" else 3
    system = configs.SYSTEMS["pix2pix"].make(config, Facts(SIZE, 3, 0, 8, 4, inputs))
    step = jax.jit(system.train_step, static_argnums=3)
    # what is not of the networks or the optimisers changes nothing at the start
    own = tuple(i for i in items if i[0].startswith(("model", "optim", "data", "loss.pool")))
    if own != items:
        return config, system, step, _made(own)[3]
    start = jax.jit(system.init, static_argnums=2)
    return config, system, step, start(jax.random.key(0), {}, system.stages[0])


def make(**options):
    """(config, system, jitted step, first state) of a tiny system; `__` stands for a dot."""
    return _made(tuple((k.replace("__", "."), v) for k, v in options.items()))


def pairs(seed: int = 0, count: int = 2, inputs: int = 3) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)

    def made(c):
        return random.integers(0, 256, (count, SIZE, SIZE, c)).astype(np.uint8)

    return {"input": made(inputs), "target": made(3)}


def one_step(batch=None, key: int = 1, **options):
    _, system, step, state = make(**options)
    after, metrics = step(state, batch or pairs(), jax.random.key(key), system.stages[0])
    return fetch(state), fetch(after), fetch(metrics)


SGD = {
    f"optim__{net}__{key}": value
    for net in ("gen", "disc")
    for key, value in (("name", "sgd"), ("b1", 0.0), ("lr", 0.1))
}


@pytest.mark.parametrize(("family", "side"), [("original", 64), ("pytorch_gan", 512)])
def test_a_step_at_other_sizes(family, side):
    """Both ends of the range, with real arrays, one channel wide."""
    config = configs.defaults("pix2pix")
    config.data.pairs, config.run.steps = "side_by_side", "2"
    for section in (config.model.gen, config.model.disc):
        section.update(name=family, width=1)
    system = configs.SYSTEMS["pix2pix"].make(config, Facts(side, 3, 0, 2, 1, 3))
    stage = system.stages[0]
    state = jax.jit(system.init, static_argnums=2)(jax.random.key(0), {}, stage)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, side, side, 3)).astype(np.uint8)
    batch = dict(zip(("input", "target"), pixels, strict=True))
    step = jax.jit(system.train_step, static_argnums=3)
    _, metrics = step(state, batch, jax.random.key(1), stage)
    assert all(np.isfinite(value) for value in metrics.values())


def test_losses_are_logged_apart():
    """GAN, raw L1, weighted L1, real and fake; sums are what is said of them."""
    for distance in ("l1", "l2"):
        *_, m = one_step(loss__distance=distance)
        assert m[f"loss/{distance}_weighted"] == pytest.approx(100 * m[f"loss/{distance}"])
        assert m["loss/gen"] == pytest.approx(m["loss/gan"] + m[f"loss/{distance}_weighted"])
        assert m["loss/disc"] == pytest.approx(0.5 * (m["loss/disc_real"] + m["loss/disc_fake"]))


def test_the_order_decides_which_discriminator_the_generator_meets():
    """The first network's update is the same in either order, the second's is not."""
    sides = {}
    for order in ("generator_first", "discriminator_first"):
        sides[order] = one_step(**SGD, loss__order=order, model__gen__dropout=0.0)
    first, second = sides.values()
    assert first[2]["loss/l1"] == second[2]["loss/l1"]
    assert first[2]["loss/disc_fake"] == second[2]["loss/disc_fake"]  # the same fakes
    assert first[2]["loss/gan"] != second[2]["loss/gan"]
    same = saved_states.named(first[1].nets["disc"].params)
    for name, leaf in saved_states.named(second[1].nets["disc"].params).items():
        np.testing.assert_allclose(leaf, same[name], rtol=1e-5, atol=1e-7, err_msg=name)


def test_no_gradient_reaches_the_generator_from_the_discriminators_loss():
    """With the GAN term off the generator moves by L1 alone and the discriminator stands still."""
    before, after, metrics = one_step(**SGD, loss__gan_weight=0.0)
    assert {"loss/gan", "loss/disc", "rate/disc"}.isdisjoint(metrics)
    moved = {
        net: any(
            (old != new).any()
            for old, new in zip(
                *(jax.tree.leaves(s.nets[net].params) for s in (before, after)), strict=True
            )
        )
        for net in before.nets
    }
    assert moved == {"gen": True, "disc": False}
    *_, adversarial_only = one_step(loss__l1_weight=0.0)
    assert adversarial_only["loss/gen"] == pytest.approx(adversarial_only["loss/gan"])


def test_dropout_acts_in_training_and_follows_the_key():
    losses = [one_step(key=k)[2]["loss/l1"] for k in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
    still = [one_step(key=k, model__gen__dropout=0.0)[2]["loss/l1"] for k in (1, 2)]
    assert still[0] == still[1]


def test_separate_rates_for_both_networks():
    """Halving for the generator alone: the student's rate, its table to the number."""
    schedule = dict(name="halving", unit="epochs", every=90.0)
    config = configs.load_file("configs/pix2pix_facades.py")
    assert config.optim.gen.schedule.name == "halving"
    options = {f"optim__gen__schedule__{k}": v for k, v in schedule.items()}
    _, system, _, _ = make(**options, optim__gen__lr=1e-4, run__steps="200 epochs")
    # facts: 8 training images in batches of 2
    rate = np.asarray(jax.vmap(system.rates["gen"])(4 * np.arange(200)))
    np.testing.assert_allclose(
        rate[[0, 88, 89, 178, 179, 199]], [1e-4, 1e-4, 5e-5, 5e-5, 2.5e-5, 2.5e-5]
    )
    assert set(np.asarray(jax.vmap(system.rates["disc"])(np.arange(800)))) == {np.float32(2e-4)}
    _, own, _, _ = make(**{f"optim__disc__schedule__{k}": v for k, v in schedule.items()},
                        run__steps="200 epochs")  # fmt: skip
    rate = np.asarray(jax.vmap(own.rates["disc"])(4 * np.arange(200)))
    np.testing.assert_allclose(rate[[0, 89, 179]], [2e-4, 1e-4, 5e-5])
    assert set(np.asarray(jax.vmap(own.rates["gen"])(np.arange(800)))) == {np.float32(2e-4)}
    (note,) = [line for line in system.notices if "learning rate" in line]
    assert "0.25 of its start" in note
    assert "every=28" in note


def test_advice_on_halving_is_given_where_it_helps():
    """No period brings five epochs, or a rate with a high floor, down to a hundredth."""
    schedule = dict(name="halving", unit="epochs", every=90.0)
    options = {f"optim__gen__schedule__{k}": v for k, v in schedule.items()}
    for rest in (
        dict(run__steps="5 epochs"),
        dict(run__steps="200 epochs", optim__gen__schedule__floor=2e-5),
    ):
        _, system, _, _ = make(**options, **rest)
        (note,) = [line for line in system.notices if "learning rate" in line]
        assert "every=" not in note
    _, system, _, _ = make(**options, optim__gen__lr=0.0)
    assert not any("learning rate" in line for line in system.notices)


def test_the_discriminator_may_be_blind_to_the_input():
    """Unconditional: what it says does not depend on the condition."""
    x, y, z = (jax.random.normal(jax.random.key(k), (1, SIZE, SIZE, 3)) for k in range(3))
    for conditional in (True, False):
        section = networks.defaults()
        section["disc"].update(conditional=conditional, width=2)
        _, disc = networks.build(section, SIZE, 3)
        params, stats = jax.jit(disc.init)(jax.random.key(0), x, y)
        assert params["conv_0"]["kernel"].shape[2] == (6 if conditional else 3)
        logits = [disc.apply(params, stats, c, y)[0] for c in (x, z)]
        assert np.array_equal(*logits) != conditional


def test_the_pool_is_part_of_the_state():
    """The discriminator meets earlier fakes; what is stored is input and fake together."""
    _, system, step, state = make(loss__pool_size=3)
    states = [state]
    for index in range(4):
        state, metrics = step(state, pairs(index), jax.random.key(index), system.stages[0])
        states.append(state)
        assert np.isfinite(metrics["loss/disc"])
    counts = [int(s.extra["pool"]["count"]) for s in states]
    assert counts == [0, 2, 3, 3, 3]
    first = states[1].extra["pool"]["images"][:2]
    inputs = (pairs(0)["input"].astype(np.float32) - 127.5) / 127.5
    np.testing.assert_allclose(first[..., :3], inputs, atol=1e-6)


@functools.cache
def drawing(options: tuple):
    _, system, _, _ = make(**dict(options))
    draw = jax.jit(system.sample_step, static_argnums=3)
    return lambda state, batch: draw(state, batch, jax.random.key(0), system.stages[0])


def sampled(state, batch, **options):
    return np.asarray(drawing(tuple(options.items()))(state, batch)["raw"])


BATCH_NORM = dict(
    model__gen__name="original", model__gen__norm="batch", model__gen__dropout_place="torch7",
    model__gen__init_gain=0.3,
    model__disc__name="original", model__disc__norm="batch", model__disc__layers=2,
)  # fmt: skip


def test_dropout_and_norm_at_test_time_are_two_flags():
    """Each changes the output by itself; dropout follows the seed; images stay by themselves."""
    *_, state = make(**BATCH_NORM)
    batch = {**pairs(3, 4), "seed": np.int32([5, 6, 7, 8])}
    outputs = {
        (dropout, norm): sampled(state, batch, **BATCH_NORM, test__dropout=dropout, test__norm=norm)
        for dropout in (False, True)
        for norm in ("running", "batch")
    }
    found = list(outputs.values())
    for i, one in enumerate(found):
        for other in found[:i]:
            assert np.abs(one - other).max() > 1e-3
    others = {**pairs(7, 4), "seed": np.int32([1, 2, 7, 3])}
    among_others = {k: np.where(np.arange(4).reshape(-1, *[1] * (v.ndim - 1)) == 2, batch[k], v)
                    for k, v in others.items()}  # fmt: skip
    other_seed = {**batch, "seed": np.int32([5, 6, 9, 8])}
    for (dropout, norm), whole in outputs.items():
        options = dict(**BATCH_NORM, test__dropout=dropout, test__norm=norm)
        again = sampled(state, among_others, **options)
        np.testing.assert_allclose(again[2], whole[2], atol=1e-5)
        moved = np.abs(sampled(state, other_seed, **options)[2] - whole[2]).max() > 1e-3
        assert moved == dropout


def test_validation_is_in_eval_mode():
    """The same for every key, whatever the flags of sampling; a noisy value is there on demand."""
    options = dict(**BATCH_NORM, test__dropout=True, test__norm="batch", test__train_mode_loss=True)
    _, system, _, state = make(**options)
    evaluate = jax.jit(system.eval_step, static_argnums=3)
    batch = {**pairs(4, 4), "valid": np.ones(4, np.float32), "seed": np.arange(4)}
    a, b = (fetch(evaluate(state, batch, jax.random.key(k), system.stages[0])) for k in (0, 1))
    for name in ("l1", "total", "gan", "psnr", "ssim"):
        np.testing.assert_array_equal(a[name], b[name])
        assert a[name].shape == (4,)
    assert np.abs(a["l1_train_mode"] - b["l1_train_mode"]).max() > 1e-6
    quiet = sampled(state, batch, **BATCH_NORM)
    l1 = np.abs(quiet - (batch["target"].astype(np.float32) - 127.5) / 127.5).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(a["l1"], l1, rtol=1e-5)
    np.testing.assert_allclose(a["total"], 100 * a["l1"] + a["gan"], rtol=1e-5)
    # as pictures have them, from 0 to 255
    levels, wanted = (quiet + 1) * 127.5, batch["target"].astype(np.float32)
    np.testing.assert_allclose(a["psnr"], images.psnr(levels, wanted, 255.0), rtol=1e-4)
    np.testing.assert_allclose(a["ssim"], images.ssim(levels, wanted, 255.0), atol=1e-4)


def test_averaged_weights_are_sampled_and_validated():
    _, system, step, state = make(optim__gen__ema=(0.5,))
    state, _ = step(state, pairs(), jax.random.key(0), system.stages[0])
    batch = {**pairs(), "seed": np.arange(2)}
    made = system.sample_step(state, batch, jax.random.key(0), system.stages[0])
    assert set(made) == {"raw", "ema"}
    assert np.abs(made["raw"] - made["ema"]).max() > 0
    params, _ = ema.averaged(state.nets["gen"])
    assert not np.array_equal(params["final"]["bias"], state.nets["gen"].params["final"]["bias"])


def test_colours_are_learnt_as_chroma_and_shown_as_colours():
    """Two outputs, three channels in the picture; the lightness of the picture is the input's."""
    options = dict(data__pairs="colorize")
    _, system, step, state = make(**options)
    assert state.nets["gen"].params["final"]["bias"].shape == (2,)
    grey = np.random.default_rng(0).integers(60, 200, (2, SIZE, SIZE, 1)).astype(np.uint8)
    batch = {"input": grey, "target": pairs()["target"]}
    after, metrics = step(state, batch, jax.random.key(0), system.stages[0])
    assert np.isfinite(metrics["loss/gen"])
    made = sampled(after, {**batch, "seed": np.arange(2)}, **options)
    assert made.shape == (2, SIZE, SIZE, 3)
    lightness = np.asarray(colour.rgb_to_lab(made))[..., 0] * 2.55
    inside = (np.abs(made) < 0.999).all(axis=-1)
    assert inside.mean() > 0.9
    assert np.abs(lightness - grey[..., 0])[inside].max() < 1.0


def test_the_penalty_lies_between_the_real_and_the_fake_output():
    """The formula by hand, at the step's own fake and mixing weights."""
    options = dict(
        loss__name="wasserstein", loss__gradient_penalty=1.0, model__gen__dropout=0.0,
        model__gen__init_gain=0.5, model__disc__init_gain=0.5,
    )  # fmt: skip
    config, _, _, state = make(**options)
    *_, metrics = one_step(**options)
    gen, disc = networks.build(config.model, SIZE, 3)
    x, y = (images.to_unit(pairs()[name]) for name in ("input", "target"))
    net = state.nets["disc"]

    @jax.jit
    def by_hand():
        fake, _ = gen.apply(state.nets["gen"].params, {}, x)
        alpha = jax.random.uniform(jax.random.split(jax.random.key(1), 3)[2], (2, 1, 1, 1))

        def critic(at):
            return jnp.sum(disc.apply(net.params, net.stats, x, at)[0])

        slopes = jax.grad(critic)(alpha * y + (1 - alpha) * fake)
        return jnp.mean((jnp.sqrt(jnp.sum(slopes**2, axis=(1, 2, 3))) - 1) ** 2)

    assert metrics["loss/gradient_penalty"] == pytest.approx(float(by_hand()), rel=1e-3)


def test_wasserstein_with_penalty():
    *_, metrics = one_step(
        loss__name="wasserstein", loss__gradient_penalty=10.0, loss__order="discriminator_first"
    )
    assert metrics["loss/gradient_penalty"] > 0
    assert metrics["loss/gan"] == pytest.approx(
        metrics["loss/gen"] - metrics["loss/l1_weighted"], abs=1e-3
    )


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("loss__order", "random", ["config.loss.order", "generator_first"]),
        ("loss__distance", "l3", ["config.loss.distance", "l1"]),
        ("loss__name", "best", ["config.loss.name", "least_squares"]),
        ("loss__l1_weight", -1.0, ["config.loss.l1_weight"]),
        ("test__norm", "group", ["config.test.norm", "running"]),
        ("model__gen__name", "resnet", ["config.model.gen.name", "original"]),
        ("model__gen__norm", "layer", ["config.model.gen.norm", "instance"]),
        ("model__gen__init", "zeros", ["config.model.gen.init", "kaiming"]),
        ("model__gen__depth", 5, ["config.model.gen.depth=5", "halved 4 times"]),
        ("model__gen__dropout", 1.0, ["config.model.gen.dropout"]),
        ("model__gen__width", 0, ["config.model.gen.width"]),
        ("model__disc__name", "stylegan", ["config.model.disc.name", "pytorch_gan"]),
        ("model__gen__dropout_place", "torch7", ["config.model.gen.dropout_place: 'pytorch_gan'"]),
        ("model__disc__layers", 2, ["config.model.disc.layers: 'pytorch_gan' has no such option"]),
        ("batch_size", 0, ["config.batch_size"]),
    ],
)  # fmt: skip
def test_values_that_are_refused(key, value, words):
    with pytest.raises(UserError) as caught:
        make(**{key: value})
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_combinations_that_are_refused():
    for options, words in (
        (dict(loss__gan_weight=0.0, loss__l1_weight=0.0), ["nothing would be learnt"]),
        (
            dict(loss__gradient_penalty=10.0, model__disc__norm="batch"),
            ["config.model.disc.norm", "instance"],
        ),
        (  # the family's own norm
            dict(loss__gradient_penalty=1.0, model__disc__name="original", model__disc__layers=2),
            ["config.model.disc.norm", "instance"],
        ),
        (
            dict(model__disc__name="original", model__disc__layers=4),
            ["16", "config.model.disc.layers"],
        ),
        (dict(model__disc__name="original", model__disc__layers=7), ["0 to 6"]),
    ):
        with pytest.raises(UserError) as caught:
            make(**options)
        for word in words:
            assert word in str(caught.value)
    config = configs.defaults("pix2pix")
    with pytest.raises(UserError, match="pix2pix needs pairs"):
        configs.SYSTEMS["pix2pix"].make(config, Facts(16, 3, 10, 8))

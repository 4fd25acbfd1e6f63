"""Drawing from the diffusion system: samplers, guidance, super-resolution, bound, inversion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.core import ema
from gan_jax.core.console import ProgressBar
from gan_jax.core.system import Net
from gan_jax.errors import UserError
from gan_jax.models import unet as networks
from gan_jax.ops import groups
from gan_jax.ops.diffusion import gaussian_diffusion as formulas
from gan_jax.ops.diffusion import guidance, noise_schedules, processes
from gan_jax.ops.diffusion import sampling as drawing
from gan_jax.systems import diffusion
from gan_jax.systems import diffusion_networks as unets
from tests.helpers.tiny_diffusion import (
    BATCH,
    FACTS,
    filled,
    stage_of,
    tiny_config,
    with_weights,
    zeros_like_init,
)

SEEDS = {"seed": np.arange(4, dtype=np.int32), "label": np.array([1, 2, 3, 4], np.int32)}
KEY = jax.random.key(0)


def drawn(system, state, batch=None, weights="raw"):
    step = jax.jit(lambda s, b: system.sample_step(s, b, KEY, stage_of(system))[weights])
    return np.asarray(step(state, batch or SEEDS))


COMBINATIONS = [(p, s) for p, names in drawing.SAMPLERS.items() for s in names]
SETTINGS = drawing.Settings(
    "ddim", "10", "time", 0.0, "none", 0.995, 1.0, 0.0, 0.0, 7.0, 0.0, 0.0, 0.0, 1.0
)


@pytest.mark.parametrize(("process", "sampler"), COMBINATIONS)
def test_every_sampler_draws_one_image_for_one_seed(process, sampler):
    config = tiny_config(diffusion=dict(process=process), sampling=dict(sampler=sampler))
    config.sampling.update(eta=0.5, churn=0.5 if process != "flow" else 0.0)
    system = diffusion.make(config, FACTS)
    state = filled(system)
    images = drawn(system, state)
    assert images.shape == (4, 8, 8, 3)
    assert np.isfinite(images).all()
    assert np.abs(images).max() <= 1
    assert len({im.tobytes() for im in images}) == 4
    alone = drawn(system, state, {k: v[2:3] for k, v in SEEDS.items()})
    np.testing.assert_allclose(alone[0], images[2], atol=2 / 255)


def test_averages_are_drawn_by_name():
    system = diffusion.make(tiny_config(optim=dict(unet=dict(ema=(0.9, 0.99)))), FACTS)
    state = filled(system)
    made = jax.eval_shape(
        lambda s, b: system.sample_step(s, b, KEY, stage_of(system)), state, SEEDS
    )
    assert set(made) == {"raw", "ema", "ema_0.99"}


def test_the_length_of_latents_is_told_where_an_image_is_a_function_of_one():
    deterministic = diffusion.make(tiny_config(sampling=dict(sampler="ddim")), FACTS)
    noisy = diffusion.make(tiny_config(sampling=dict(sampler="ancestral")), FACTS)
    assert deterministic.latents == 8 * 8 * 3
    assert noisy.latents == 0


def test_guidance_in_one_pass_is_that_of_two_passes():
    base = dict(model=dict(class_cond=True), diffusion=dict(label_dropout=0.1))
    plain = diffusion.build(tiny_config(**base), FACTS)
    params = filled(diffusion.make(tiny_config(**base), FACTS)).nets["unet"].params
    labels, none = SEEDS["label"], np.full(4, networks.NO_CLASS, np.int32)

    def of(label):
        return unets.conditioned(plain.networks, params, jnp.asarray(label), None)

    both = of(groups.interleaved(labels, none))
    x = jnp.asarray(np.random.RandomState(6).randn(4, 8, 8, 3), jnp.float32)
    time = jnp.array([0.0, 10.0, 400.0, 999.0])
    found = jax.jit(guidance.classifier_free(both, 3.0, 3))(x, time)
    given, free = jax.jit(of(labels))(x, time), jax.jit(of(none))(x, time)
    expected = free[..., :3] + 3 * (given[..., :3] - free[..., :3])
    np.testing.assert_allclose(found[..., :3], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[..., 3:], given[..., 3:], rtol=1e-4, atol=1e-4)


def test_guidance_of_scale_one_and_of_no_class():
    """Scale 0 is the network of no class; scale 1 the conditional one."""
    base = dict(model=dict(class_cond=True), diffusion=dict(label_dropout=0.1))
    plain = diffusion.make(tiny_config(**base), FACTS)
    state = filled(plain)
    none = {**SEEDS, "label": np.full(4, networks.NO_CLASS, np.int32)}
    free = diffusion.make(tiny_config(**base, sampling=dict(guidance=0.0)), FACTS)
    np.testing.assert_allclose(drawn(free, state), drawn(plain, state, none), atol=2e-3)
    strong = diffusion.make(tiny_config(**base, sampling=dict(guidance=4.0)), FACTS)
    assert np.abs(drawn(strong, state) - drawn(plain, state)).max() > 0.02


def guided_config(scale: float, **sampling):
    config = tiny_config(sampling=sampling)
    config.restore.classifier = ("a run", "*")
    config.classifier.scale = scale
    config.classifier.update(
        num_channels=8, num_res_blocks=0, channel_mult=(1, 2), norm_groups=4,
        attention_resolutions=(), num_head_channels=8, pool="adaptive",
    )  # fmt: skip
    return config


@pytest.mark.parametrize("sampler", ["ancestral", "dpm++"])
def test_a_classifier_guides(sampler):
    plain = diffusion.make(tiny_config(sampling=dict(sampler=sampler)), FACTS)
    system = diffusion.make(guided_config(400.0, sampler=sampler), FACTS)
    assert system.labelled
    state = filled(plain)
    shapes = jax.eval_shape(lambda k: system.init(k, BATCH, stage_of(system)), KEY)
    random = np.random.RandomState(5)
    params = jax.tree.map(
        lambda s: jnp.asarray(0.5 * random.randn(*s.shape), jnp.float32),
        shapes.nets["classifier"].params,
    )
    guided = state.replace(nets={**state.nets, "classifier": Net(params, {}, {})})
    towards = drawn(system, guided)
    assert np.abs(towards - drawn(plain, state)).max() > 0.02
    others = {**SEEDS, "label": SEEDS["label"][::-1].copy()}
    assert not np.array_equal(drawn(system, guided, others), towards)


def test_guidance_is_the_same_flow_in_both_coordinates():
    """Many steps of ddim, where the score changes the noise, of dpm++ and of Heun's method."""
    whole = noise_schedules.chain("linear", 1000)
    process = processes.discrete(whole, formulas.Objective("epsilon", "fixed_large"))
    signal = jnp.asarray(whole.alphas_cumprod, jnp.float32)

    def at(time):
        return jnp.interp(time, jnp.arange(1000.0), signal)[:, None, None, None]

    def network(x, time):  # the data are N(0, 0.3²): what a perfect network says
        return jnp.sqrt(1 - at(time)) / (1 - at(time) + 0.09 * at(time)) * x

    def score(x, time):
        return 2 * jnp.sqrt(at(time)) * jnp.tanh(1 - x)

    z = jnp.asarray(np.random.RandomState(0).randn(1, 2, 2, 1), jnp.float32)
    found = []
    for sampler, steps in (("ddim", "1000"), ("dpm++", "200"), ("heun", "60")):
        settings = SETTINGS._replace(sampler=sampler, steps=steps)
        walked = noise_schedules.chain("linear", 1000, steps) if sampler != "heun" else None
        draw = drawing.make(settings, process, walked)
        found.append(np.asarray(jax.jit(lambda z, draw=draw: draw(network, z, None, score))(z)))
    np.testing.assert_allclose(found[1], found[0], atol=0.02)
    np.testing.assert_allclose(found[2], found[0], atol=0.02)
    alone = jax.jit(lambda z: draw(network, z, None, None))(z)
    assert np.abs(alone - found[2]).max() > 0.1


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("steps", ["ddim25", "10,10,1", "20"])
def test_any_steps_of_a_chain_begin_with_noise_of_their_own_level(schedule, steps):
    """x in the network's coordinates has variance one at the first step, whichever that is."""
    whole = noise_schedules.chain(schedule, 1000)
    walked = noise_schedules.chain(schedule, 1000, steps)
    process = processes.discrete(whole, formulas.Objective("epsilon", "fixed_large"))
    seen = []

    def network(x, time):
        seen.append(np.asarray(x))
        return x

    settings = SETTINGS._replace(sampler="dpm++", steps=steps)
    draw = drawing.make(settings, process, walked)
    z = jnp.asarray(np.random.RandomState(0).randn(1, 4, 4, 1), jnp.float32)
    with jax.disable_jit():
        draw(network, z, None, None)
    np.testing.assert_allclose(seen[0], z, rtol=1e-4)


def upscale_config(**sections):
    config = tiny_config(**sections)
    config.data.update(pairs="upscale", factor=4)
    return config


UPSCALE = FACTS._replace(input_channels=3)
PAIRS = {
    "input": BATCH["image"].reshape(8, 2, 4, 2, 4, 3).mean((2, 4)).round().astype(np.uint8),
    "target": BATCH["image"],
    "label": BATCH["label"],
}


def test_super_resolution_reads_the_small_image():
    system = diffusion.make(upscale_config(), UPSCALE)
    state = filled(system, PAIRS)
    assert state.nets["unet"].params["input_blocks_0_0"]["kernel"].shape == (3, 3, 6, 8)
    batch = {"seed": SEEDS["seed"], "input": PAIRS["input"][:4]}
    images = drawn(system, state, batch)
    assert images.shape == (4, 8, 8, 3)
    other = drawn(system, state, {**batch, "input": 255 - batch["input"]})
    assert np.abs(images - other).max() > 0.01
    assert set(system.tasks) >= {"upsample"}
    assert system.tasks["upsample"].reads == "input"


def test_super_resolution_trains_on_the_mean_before_it_is_rounded():
    """The pipeline's small image, in grey levels, tells the size only."""
    system = diffusion.make(upscale_config(), UPSCALE)
    state = filled(system, PAIRS)
    step = jax.jit(lambda s, b: system.train_step(s, b, KEY, stage_of(system))[1]["loss/unet"])
    changed = {**PAIRS, "input": PAIRS["input"] * 0}
    assert float(step(state, PAIRS)) == float(step(state, changed))


def test_the_bound_is_the_sum_of_its_terms():
    config = tiny_config(sampling=dict(steps="5", sampler="ancestral"))
    system = diffusion.make(config, FACTS)
    state = filled(system)
    run = jax.jit(lambda s, b: system.tasks["likelihood"].run(s, b, KEY, stage_of(system)))
    batch = {"image": BATCH["image"][:4], "seed": SEEDS["seed"]}
    terms = run(state, batch)
    chain = noise_schedules.chain("cosine", 1000, "5")
    assert terms["vb"].shape == (4, 5)
    np.testing.assert_array_equal(terms["t"][0], chain.kept)
    np.testing.assert_allclose(terms["total"], terms["vb"].sum(1) + terms["prior"], rtol=1e-6)
    image = (batch["image"].astype(np.float32) - 127.5) / 127.5
    np.testing.assert_allclose(
        terms["prior"], formulas.prior_bits(chain, jnp.asarray(image)), rtol=1e-5
    )
    again = run(state, {k: v[1:2] for k, v in batch.items()})
    np.testing.assert_allclose(again["total"][0], terms["total"][1], rtol=1e-4)


def test_validation_estimates_the_bound():
    """One level per image, spread over the chain: the mean over many is the bound itself."""
    config = tiny_config(discrete=dict(steps=8), sampling=dict(steps=""))
    system = diffusion.make(config, FACTS)
    state = filled(system)
    image = np.repeat(BATCH["image"][:1], 64, axis=0)
    step = jax.jit(lambda s, b, k: system.eval_step(s, b, k, stage_of(system)))
    bits = [step(state, {"image": image}, jax.random.key(i))["bits_per_dim"] for i in range(20)]
    run = jax.jit(lambda s, b: system.tasks["likelihood"].run(s, b, KEY, stage_of(system)))
    whole = run(state, {"image": image, "seed": np.arange(64, dtype=np.int32)})["total"]
    np.testing.assert_allclose(np.mean(bits), np.mean(whole), rtol=0.02)


def test_inversion_and_back_is_the_image():
    """Of a network that says the same noise everywhere, the way there and back is nearly exact."""
    system = diffusion.make(tiny_config(sampling=dict(steps="50", sampler="ddim")), FACTS)
    state = zeros_like_init(system, BATCH)
    params = jax.tree.map(jnp.zeros_like, state.nets["unet"].params)
    params["out_2"]["bias"] = params["out_2"]["bias"] + 0.05
    state = with_weights(state, params)
    run = jax.jit(lambda s, b: system.tasks["invert"].run(s, b, KEY, stage_of(system)))
    dark = BATCH["image"][:2] // 2 + 64  # away from the clamp
    back = run(state, {"image": dark})
    assert set(back) == {"raw", "ema"}
    np.testing.assert_allclose(back["raw"], (dark - 127.5) / 127.5, atol=0.02)


def test_progress_is_shown_on_a_terminal_only(capsys, monkeypatch):
    told = ProgressBar(3)
    for i in (1, 2, 3):
        told(i)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    for i in (1, 2, 3):
        told(i)
    assert "step 3/3, 0 s left" in capsys.readouterr().err


def test_progress_reports_every_step_of_the_compiled_loop(monkeypatch):
    seen = []
    monkeypatch.setattr(ProgressBar, "__call__", lambda self, done: seen.append((done, self.total)))
    system = diffusion.make(tiny_config(sampling=dict(progress="raw", steps="4")), FACTS)
    drawn(system, filled(system))
    jax.effects_barrier()
    assert seen == [(i, 4) for i in (1, 2, 3, 4)]


REFUSED = {
    "process": (dict(diffusion=dict(process="wave")), "process='wave': accepted are discrete"),
    "sampler": (dict(sampling=dict(sampler="plms")), "sampler='plms': accepted"),
    "ancestral flow": (
        dict(diffusion=dict(process="flow"), sampling=dict(sampler="ancestral", steps="9")),
        "sampler='ancestral': accepted with config.diffusion.process=flow are ddim, dpm",
    ),
    "respacing": (
        dict(sampling=dict(steps="ddim37", sampler="ddim")),
        'config.sampling.steps "ddim37".* ddim36 and ddim38',
    ),
    "too many": (dict(sampling=dict(steps="2000")), "config.sampling.steps"),
    "steps of heun": (dict(sampling=dict(steps="ddim25", sampler="heun")), "takes a number"),
    "eta": (dict(sampling=dict(eta=2.0)), "eta=2.0: must be from 0 to 1"),
    "clip": (dict(sampling=dict(clip="hard")), "clip='hard'"),
    "sigma": (dict(sampling=dict(sigma_min=3.0, sigma_max=2.0)), "sigma_min=3.0"),
    "churn of flow": (
        dict(diffusion=dict(process="flow"), sampling=dict(sampler="heun", churn=1.0)),
        "churn=1.0: must be 0",
    ),
    "guidance without classes": (dict(sampling=dict(guidance=2.0)), "needs a model of classes"),
    "guidance without dropped classes": (
        dict(sampling=dict(guidance=2.0), model=dict(class_cond=True)), "label_dropout above 0",
    ),
    "dropout without classes": (dict(diffusion=dict(label_dropout=0.1)), "needs a model of"),
    "label dropout": (
        dict(diffusion=dict(label_dropout=1.5), model=dict(class_cond=True)), "label_dropout=1.5",
    ),
    "microbatches": (dict(microbatches=3), "config.microbatches=3: must divide"),
    "classifier that is not named": (dict(classifier=dict(scale=1.0)), "name the classifier"),
    "classifier of a flow": (
        dict(classifier=dict(scale=1.0), diffusion=dict(process="edm"),
             sampling=dict(sampler="heun")),
        "knows the noise of a chain",
    ),
    "sampler of previous_x": (
        dict(discrete=dict(target="previous_x"), sampling=dict(sampler="heun", steps="9")),
        "sampler='heun': config.discrete.target=previous_x",
    ),
    "spacing": (dict(sampling=dict(spacing="rho")), "spacing='rho'"),
    "mean of other steps": (
        dict(discrete=dict(target="previous_x"), sampling=dict(sampler="ancestral", steps="50")),
        "config.discrete.target=previous_x is of the steps that are trained on",
    ),
    "steps left out of training": (
        dict(discrete=dict(respacing="100"), sampling=dict(sampler="ddim", steps="7")),
        "has left out of training",
    ),
    "sigma of edm": (
        dict(diffusion=dict(process="edm"), sampling=dict(sampler="heun", sigma_min=100.0)),
        "config.sampling: .*sigma_min 100",
    ),
    "steps of no digit": (
        dict(diffusion=dict(process="edm"), sampling=dict(sampler="heun", steps="²")),
        "takes a number",
    ),
    "length of the chain": (dict(discrete=dict(steps=3)), "config.discrete.steps=3: a chain of 3"),
    "target": (dict(discrete=dict(target="noise")), "config.discrete: target .noise.: accepted"),
    "schedule": (dict(discrete=dict(schedule="flat")), r"discrete\.schedule=.flat.: accepted"),
    "min_snr": (dict(discrete=dict(min_snr=5.0, loss="kl")), "min_snr"),
    "timestep sampler": (dict(discrete=dict(timestep_sampler="last")), "timestep_sampler='last'"),
    "flow times": (
        dict(diffusion=dict(process="flow"), flow=dict(times="beta"),
             sampling=dict(sampler="heun")),
        "config.flow.times='beta'",
    ),
    "sigma_data": (
        dict(diffusion=dict(process="edm"), edm=dict(sigma_data=0.0),
             sampling=dict(sampler="heun")),
        "config.edm.sigma_data=0.0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_options_that_do_not_go_together(name):
    sections, message = REFUSED[name]
    with pytest.raises(UserError, match=message):
        diffusion.make(tiny_config(**sections), FACTS)


def test_pairs_of_another_kind_are_refused():
    config = tiny_config()
    config.data.pairs = "colorize"
    with pytest.raises(UserError, match="diffusion takes single images"):
        diffusion.make(config, UPSCALE)


def test_truncation_is_refused():
    system = diffusion.make(tiny_config(), FACTS)
    batch = {**SEEDS, "truncation": np.ones(4, np.float32)}
    with pytest.raises(UserError, match=r"^truncation: "):
        jax.eval_shape(
            lambda s, b: system.sample_step(s, b, KEY, stage_of(system)), filled(system), batch
        )
    assert not ema.has_average(Net({}, {}, {}))

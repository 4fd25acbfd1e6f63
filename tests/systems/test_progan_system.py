"""ProGAN as a system: growing, boundaries, skipped updates, native resolution, what is refused."""

import collections
import json
import math
import threading
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax
from gan_jax import config as configs
from gan_jax import log, training
from gan_jax.core import ema, loss_scale, optim
from gan_jax.core.system import Facts, Stage
from gan_jax.errors import UserError
from gan_jax.models import progan as networks
from gan_jax.ops import penalties, progressive_growing
from gan_jax.run.experiment import Experiment
from gan_jax.systems import progan, progan_schedule
from tests.helpers import xla_flags
from tests.helpers.shell import arrays, assert_same

FACTS = Facts(16, 1, 4, 64, 16)


def tiny(variant: str = "tiny"):
    return configs.load_file("configs/progan_mnist.py", variant)


def changed(**values):
    """The tiny config with {"section__key": value}, for `make` alone."""
    config = tiny()
    for name, value in values.items():
        *path, last = name.split("__")
        section = config
        for part in path:
            section = section[part]
        section[last] = value
    return config


@pytest.fixture(scope="module", autouse=True)
def emitters():
    """XLA's fusion emitters, which it has by default and this test session does not: without them a
    run of 5 steps and one of 14, two programs, round the steps they share differently."""
    options = progan.convolution.compiler_options
    on = {xla_flags.EMITTERS: True} if xla_flags.OPTIONAL_EMITTERS else {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            progan.convolution, "compiler_options", lambda **how: (options(**how) or {}) | on
        )
        yield


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A run from 4 to 16 px, what it said, and where programs were compiled: [(step, thread)]."""
    folder = tmp_path_factory.mktemp("progan") / "run"
    said, compiled, stages = [], [], []

    def listen(name, *_, **__):
        if name == "/jax/core/compile/backend_compile_duration":
            compiled.append((len(stages), threading.current_thread().name))

    jax.monitoring.register_event_duration_secs_listener(listen)
    enter = optim.reset_moments
    try:
        optim.reset_moments = lambda net, tx: stages.append(net) or enter(net, tx)
        with log.sent_to(said.append):
            summary = training.train(tiny(), folder)
    finally:
        optim.reset_moments = enter
        jax.monitoring.unregister_event_duration_listener(listen)
    return SimpleNamespace(folder=folder, said=said, compiled=compiled, summary=summary)


def test_a_run_grows_to_its_full_size(grown):
    assert grown.summary["reason"] == "finished"
    model = gan_jax.load(grown.folder)
    stages = model.experiment.system.stages
    assert [s.resolution for s in stages] == [4, 8, 8, 16, 16]
    about = json.loads((grown.folder / "config.json").read_text())
    assert about["stage_starts"] == [s.start for s in stages]
    assert model.sample(range(3)).shape == (3, 16, 16, 1)
    assert gan_jax.load(grown.folder, "best").stage.resolution == 16
    rows = [json.loads(line) for line in (grown.folder / "metrics.jsonl").read_text().splitlines()]
    fades = {r["step"]: r["growth/fade"] for r in rows if r["kind"] == "train"}
    assert [fades[step] for step in (2, 4, 6)] == [0, 0.75, 0.25]
    kimg = {r["step"]: r["progress/kimg"] for r in rows if r["kind"] == "train"}
    assert kimg[14] == pytest.approx(13 * 8 / 1000)  # before that step
    assert {"swd", "ms_ssim", "val/wasserstein"} <= set().union(*rows)
    pictures = sorted((grown.folder / "samples").iterdir())
    assert len({p.name[:6] for p in pictures}) == 7


def test_after_the_first_stage_nothing_is_compiled_on_the_main_thread(grown):
    """Train, sample, validation and quality of a new resolution are ready when it begins.

    Two nets are reset when a stage is entered, so 3 and more resets mean a later stage.
    """
    later = [thread for resets, thread in grown.compiled if resets > 2]
    assert "precompile" in [thread for _, thread in grown.compiled]
    assert collections.Counter(later)[threading.main_thread().name] == 0


def test_a_new_resolution_starts_from_the_best_state_of_the_last(grown):
    lines = [line for line in grown.said if "starts from the best state" in line]
    assert len(lines) == 2
    assert "swd" in lines[0]


def test_resumed_in_a_fade_equals_straight_through(grown, tmp_path):
    """Stopped after step 5, in the fade to 8 px, and after 10, in that to 16 px. An evaluation that
    only a stop asks for leaves no state to start from."""
    fading = [s for s in Experiment(tiny()).system.stages if s.steps == 3][1:]
    assert [(s.start, s.end) for s in fading][::2] == [(3, 6), (9, 12)]
    for steps in ("5", "10", "14"):
        config = tiny()
        # where the next resolution is not reached, nothing is compiled for it either
        config.run.update(steps=steps, compile_ahead=False)
        training.train(config, tmp_path)
    assert_same(arrays(grown.folder), arrays(tmp_path))


def test_auto_is_resolved_once_and_kept(tmp_path):
    config = changed(growth__preset="auto")
    configs.resolve(config, 4)
    assert config.growth.preset == "v2-4gpus"
    again = changed(growth__preset="auto")
    configs.resolve(again, 1, configs.plain(config))
    assert again.growth.preset == "v2-4gpus"


@pytest.fixture(scope="module")
def made():
    """The system of the tiny config at 16 px, where nothing fades, with its compiled step."""
    system = progan.make(tiny(), FACTS)
    stage = Stage(16, 8, 0, 1)
    random = np.random.default_rng(0)
    batch = {
        "image": random.integers(0, 256, (8, 16, 16, 1)).astype(np.uint8),
        "label": np.zeros(8, np.int32),
        "fade": np.float32(0),
    }
    state = system.init(jax.random.key(0), batch, stage)
    step = jax.jit(system.train_step, static_argnums=3)
    return SimpleNamespace(system=system, stage=stage, batch=batch, state=state, step=step)


def test_a_broken_gradient_skips_the_whole_update_and_too_many_stop_the_run(made):
    broken = {**made.batch, "mixing": np.full((8, 1, 1, 1), np.nan, np.float32)}
    state, metrics = made.step(made.state, broken, jax.random.key(1), made.stage)
    for old, new in zip(
        jax.tree.leaves(made.state.nets["disc"]), jax.tree.leaves(state.nets["disc"]), strict=True
    ):
        np.testing.assert_array_equal(old, new)
    assert metrics["skipped/disc"] == 1
    assert metrics["skipped/gen"] == 0
    assert all(np.isfinite(v) for v in metrics.values())
    assert int(state.step) == 1
    # the generator has learnt
    old, new = (jax.tree.leaves(s.nets["gen"].params) for s in (made.state, state))
    assert any((a != b).any() for a, b in zip(old, new, strict=True))
    limit = tiny().loss.skip_limit
    state = state.replace(extra={"skipped": {"gen": jnp.int32(0), "disc": jnp.int32(limit)}})
    _, metrics = made.step(state, broken, jax.random.key(1), made.stage)
    assert not np.isfinite(metrics["grad_norm/disc"])
    _, metrics = made.step(state, made.batch, jax.random.key(1), made.stage)
    assert metrics["skipped/disc"] == 0


def test_moments_are_reset_where_a_stage_begins_and_averages_stay(made):
    state, _ = made.step(made.state, made.batch, jax.random.key(1), made.stage)
    entered = made.system.enter_stage(state, made.stage)
    for name in ("gen", "disc"):
        before, after = (loss_scale.links(s.nets[name].opt) for s in (state, entered))
        assert int(before["moments"].count) == 1
        assert int(after["moments"].count) == 0
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(after["moments"].nu))
    averages = [ema.averaged(s.nets["gen"])[0] for s in (state, entered)]
    jax.tree.map(np.testing.assert_array_equal, *averages)
    kept = progan.make(changed(growth__reset=False), FACTS).enter_stage(state, made.stage)
    assert kept is state


def test_the_average_takes_in_the_weights_of_before_the_generators_update(made):
    first = made.state.nets["gen"].params
    state, _ = made.step(made.state, made.batch, jax.random.key(1), made.stage)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
        ema.averaged(state.nets["gen"])[0], first,
    )  # fmt: skip
    config = changed(optim__gen__ema_half_life=80.0)
    system = progan.make(config, FACTS)
    second, _ = jax.jit(system.train_step, static_argnums=3)(
        state, made.batch, jax.random.key(2), made.stage
    )
    decay = 0.5 ** (8 / 80)
    expected = jax.tree.map(
        lambda a, w: decay * a + (1 - decay) * w, first, state.nets["gen"].params
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        ema.averaged(second.nets["gen"])[0], expected,
    )  # fmt: skip


def test_joint_updates_learn_from_the_same_fakes():
    """With the fakes of the discriminator's step, and the discriminator as it was before it."""
    z = np.random.default_rng(1).normal(size=(8, 8)).astype(np.float32)
    image = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 1)).astype(np.uint8)
    batch = {
        "image": image, "label": np.zeros(8, np.int32), "fade": np.float32(0.3), "z_disc": z,
        "z_gen": z, "label_gen": np.zeros(8, np.int32),
        "mixing": np.full((8, 1, 1, 1), 0.3, np.float32),
    }  # fmt: skip
    moments = {}
    for order in progan_schedule.ORDERS:
        config = changed(loss__order=order, optim__disc__lr=0.0)
        system = progan.make(config, FACTS)
        state = system.init(jax.random.key(0), batch, Stage(16, 8, 0, 1))
        state, _ = jax.jit(system.train_step, static_argnums=3)(
            state, batch, jax.random.key(1), Stage(16, 8, 0, 1)
        )
        moments[order] = {
            n: loss_scale.links(net.opt)["moments"].mu for n, net in state.nets.items()
        }
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *moments.values()
    )


@pytest.mark.parametrize(("lod", "side"), [(2.0, 4), (1.4, 8)])
def test_native_resolution_is_the_full_size_formulation(lod, side):
    """Losses and gradients of networks that enlarge and shrink images of 16 px around the same
    layers, with the penalty on the norm at full size."""
    model = SimpleNamespace(**networks.defaults())
    model.fmap_base, model.fmap_max = 32, 8
    level, fade = int(lod), np.float32(lod - int(lod))
    times = 2**level
    gen, disc = networks.build(model, 16, 3, 0)
    random = np.random.default_rng(0)
    label, z = np.zeros((8, 0), np.float32), random.normal(size=(8, 8)).astype(np.float32)
    real = random.normal(size=(8, side, side, 3)).astype(np.float32)
    mixing = random.uniform(size=(8, 1, 1, 1)).astype(np.float32)
    keys = jax.random.split(jax.random.key(0))
    g = gen.init(keys[0], z, label, 16, 0.0)[0]
    d = disc.init(keys[1], jnp.zeros((8, 16, 16, 3)), label, 16, 0.0)[0]

    def enlarge(x):
        return x.repeat(times, 1).repeat(times, 2)

    def shrink(x):
        return x.reshape(8, side, times, side, times, 3).mean((2, 4))

    def loss(g, d, around, within, divide):
        def judge(x):
            return disc.apply(d, {}, within(x), label, side, fade)[0][0]

        fake, x = around(gen.apply(g, {}, z, label, side, fade)[0]), around(real)
        norms = penalties.gradient_norms(judge, x + (fake - x) * mixing) / divide
        return jnp.mean(judge(fake) - judge(x)) + 10 * jnp.mean(jnp.square(norms - 1))

    def same(x):
        return x

    run = jax.jit(jax.value_and_grad(loss, (0, 1)), static_argnums=(2, 3, 4))
    native, native_grads = run(g, d, same, same, times)
    full, full_grads = run(g, d, enlarge, shrink, 1)
    np.testing.assert_allclose(native, full, rtol=1e-4)
    for a, b in zip(native_grads, full_grads, strict=True):
        scale = optim.global_norm(b)
        jax.tree.map(lambda x, y, s=scale: np.testing.assert_allclose(x, y, 1e-4, 1e-5 * s), a, b)
    wrong, _ = run(g, d, same, same, 1)
    assert abs(wrong - full) > 0.1


def test_learning_rates_go_by_resolution():
    config = changed(growth__gen_rates="8:0.5", optim__gen__lr=0.25)
    system = progan.make(config, FACTS)
    starts = {s.start: s.resolution for s in system.stages}
    rates = {side: float(system.rates["gen"](jnp.int32(start))) for start, side in starts.items()}
    assert rates == {4: 0.25, 8: 0.5, 16: 0.25}
    assert float(system.rates["disc"](jnp.int32(5))) == pytest.approx(2e-3)


def test_a_preset_makes_its_own_stages():
    config = changed(growth__preset="v2-1gpu", batch_size=0, run__steps="preset")
    config.model.fmap_base = 8192
    config.growth.update(training_kimg=-1.0, transition_kimg=-1.0, repeats=4)
    system = progan.make(config, Facts(1024, 3, 0, 30000))
    assert len(system.stages) == 17
    assert len(set(system.stages)) == 9
    assert sum(len(s.ticks) for s in system.stages) == len(
        list(progressive_growing.ticks(*progan_schedule.plan(config, Facts(1024, 3, 0, 30000))))
    )
    last = system.stages[-1]
    assert float(system.rates["gen"](jnp.int32(last.start))) == pytest.approx(2e-3 * 0.75)
    assert math.isclose(sum(s.steps * s.batch_size for s in system.stages), 12e6, rel_tol=1e-4)


@pytest.mark.parametrize("name", ["celebahq", "lsun", "cifar10", "cifar10_theano", "folder"])
def test_every_variant_makes_its_stages_at_its_own_size(name):
    path = f"configs/progan_{name}.py"
    module = {}
    exec(Path(path).read_text(), module)
    for variant in ("", *(v for v in module["VARIANTS"] if v != "tiny")):
        config = configs.load_file(path, variant)
        configs.resolve(config, 8)
        system = progan.make(config, Facts(config.data.resolution, 3, 10, 30000))
        assert system.stages[-1].resolution == config.data.resolution
        assert configs.load_file(path, ",".join(filter(None, (variant, "tiny"))))
        group = progan_schedule.model_section(config).minibatch_stddev
        assert group == (16 if config.growth.preset == "v1-1gpu" else 4)


@pytest.mark.parametrize("normalised", [True, False])
def test_truncation_is_refused_where_latents_are_normalised(normalised):
    """They would lie on the same sphere, and images vary as much."""
    experiment = Experiment(changed(model__normalize_latents=normalised))
    batch = {"seed": np.arange(2), "label": np.zeros(2, int), "truncation": np.ones(2, np.float32)}
    state, stage = experiment.carry.state, experiment.last

    def draw(state, key):
        return experiment.system.sample_step(state, batch, key, stage)

    if normalised:
        with pytest.raises(UserError, match=r"^truncation: leave it out; model\.normalize_latents"):
            jax.eval_shape(draw, state, experiment.key)
    else:
        assert "ema" in jax.eval_shape(draw, state, experiment.key)


def test_beyond_the_end_nothing_fades_whatever_the_length_of_the_run():
    config = changed(run__steps="4")  # ends in the fade to 8 px
    growth, run = progan_schedule.plan(config, FACTS)
    last = run[-1]
    assert last.fading
    assert progressive_growing.fade(growth, run, jnp.int32(last.step + last.steps + 1), 16) == 0


def test_reset_moments_stay_where_the_moments_were():
    mesh = Experiment(tiny()).mesh
    system = progan.make(tiny(), FACTS)
    state = system.init(jax.random.key(0), {}, system.stages[0])
    state = system.enter_stage(mesh.copy(state), system.stages[0])
    for leaf in jax.tree.leaves(state.nets):
        assert leaf.sharding == mesh.replicated


REFUSED = {
    "data.resolution": (dict(), Facts(28, 1, 4, 64)),
    "growth.initial_resolution": (dict(growth__initial_resolution=12), FACTS),
    "model.minibatch_stddev": (dict(model__minibatch_stddev=3), FACTS),
    "growth.preset": (dict(growth__preset="v3"), FACTS),
    "growth.training_kimg": (dict(growth__training_kimg=0.0, growth__transition_kimg=0.0), FACTS),
    "growth.batch": (dict(growth__batch="4=8"), FACTS),
    "loss.order": (dict(loss__order="gen_first"), FACTS),
    "loss.target": (dict(loss__target=0.0), FACTS),
    "batch_size": (dict(batch_size=0), FACTS),
    "model.fmap_base": (dict(model__fmap_base=7), FACTS),
    "model.dtype": (dict(model__dtype="int8"), FACTS),
    "run.steps": (dict(run__steps="3 ticks"), FACTS),
}


@pytest.mark.parametrize("key", REFUSED)
def test_refused_in_one_line_that_names_the_key(key):
    values, facts = REFUSED[key]
    with pytest.raises(UserError) as refused:
        progan.make(changed(**values), facts)
    assert str(refused.value).startswith(f"config.{key}")
    assert "\n" not in str(refused.value)


def test_a_run_cannot_be_made_shorter_than_it_is(grown):
    config = tiny()
    config.run.steps = "5"
    with pytest.raises(UserError, match=r"config\.run\.steps='5' ends before step 14"):
        training.train(config, grown.folder)


def test_a_resumption_with_another_schedule_is_refused(grown):
    config = changed(growth__training_kimg=0.032)
    with pytest.raises(UserError, match=r"growth\.training_kimg is 0\.016 there, 0\.032 here"):
        training.train(config, grown.folder)

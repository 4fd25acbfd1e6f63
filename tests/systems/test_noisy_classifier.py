"""The classifier of noisy images: its times, its step, its rate, its quarters, what is refused."""

import functools
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import config as configs
from gan_jax.core import loss_scale
from gan_jax.core.mesh import fetch
from gan_jax.core.system import Facts
from gan_jax.errors import UserError
from gan_jax.models import unet
from gan_jax.models.network import Network
from gan_jax.ops.diffusion import loss_quarters
from gan_jax.systems import noisy_classifier
from tests.helpers.shell import ROOT

SIDE, CLASSES, STEPS, RATE = 8, 4, 60, 2e-2
FACTS = Facts(SIDE, 1, CLASSES, 64, 16)
QUARTERS = ("t0-249", "t250-499", "t500-749", "t750-999")


def configured(**options):
    """The config of digits at its tiny size; `__` stands for a dot."""
    config = configs.load_file(str(ROOT / "configs" / "noisy_classifier_mnist.py"), "tiny")
    config.optim.classifier.schedule.name = "linear"
    config.run.steps = str(STEPS)
    config.optim.classifier.lr = RATE
    for key, value in options.items():
        *path, last = key.split("__")
        functools.reduce(getattr, path, config)[last] = value
    return config


def made(facts: Facts = FACTS, **options):
    return noisy_classifier.make(configured(**options), facts)


def examples(seed: int, count: int = 8) -> dict[str, np.ndarray]:
    """Images whose class is the brightest of their four corners."""
    random = np.random.default_rng(seed)
    label = random.integers(0, CLASSES, count).astype(np.int32)
    image = random.integers(0, 60, (count, SIDE, SIDE, 1))
    for one, k in zip(image, label, strict=True):
        one[4 * (k // 2) :, 4 * (k % 2) :][:4, :4] = 240
    return {"image": image.astype(np.uint8), "label": label}


def drawn(seed: int, t) -> dict[str, np.ndarray]:
    """`examples` with the times `t` and noise."""
    batch, t = examples(seed, len(t)), np.asarray(t, np.int32)
    noise = np.random.default_rng(seed + 1).normal(size=batch["image"].shape)
    return {**batch, "t": t, "noise": noise.astype(np.float32)}


def begun(system):
    stage = system.stages[0]
    return jax.jit(system.init, static_argnums=2)(jax.random.key(0), {}, stage)


@pytest.fixture(scope="module")
def tiny():
    """The tiny system, its first state, and its step."""
    system = made()
    step = jax.jit(system.train_step, static_argnums=3)
    stage = system.stages[0]
    return SimpleNamespace(
        system=system, stage=stage, state=begun(system),
        step=lambda state, batch: step(state, batch, jax.random.key(0), stage),
    )  # fmt: skip


def test_it_learns_at_a_rate_that_falls_in_a_line(tiny):
    """On images it has not seen before; the first update is at the full rate, the last at 1/N."""
    state, losses, found = tiny.state, [], []
    times = np.random.default_rng(0).integers(0, 400, (STEPS, 8))
    for number in range(STEPS):
        state, metrics = tiny.step(state, drawn(number, times[number]))
        assert all(np.isfinite(value) for value in metrics.values())
        losses.append(float(metrics["loss/classifier"]))
        found.append(float(metrics["rate/classifier"]))
    np.testing.assert_allclose(found, RATE * (1 - np.arange(STEPS) / STEPS), rtol=1e-5)
    assert np.mean(losses[:4]) == pytest.approx(math.log(CLASSES), rel=0.3)
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:4])
    values = jax.jit(tiny.system.eval_step, static_argnums=3)
    values = values(state, examples(99, 64), jax.random.key(0), tiny.stage)
    assert all(value.shape == (64,) for value in values.values())
    assert values["accuracy@1"].mean() > 0.6
    assert (values["accuracy@5"] == 1).all()  # of four classes
    known = tiny.system.tasks["features"].run(state, examples(3), None, tiny.stage)
    assert known["logits"].shape == (8, CLASSES)


def test_ranks_are_places_in_order_with_the_first_of_equals_ahead():
    random = np.random.default_rng(0)
    logits = random.integers(0, 6, (200, 9)).astype(np.float32)
    label = random.integers(0, 9, 200)
    order = np.argsort(-logits, axis=1, kind="stable")
    found = noisy_classifier.ranks(jnp.asarray(logits), jnp.asarray(label))
    np.testing.assert_array_equal(found, np.argmax(order == label[:, None], axis=1))
    broken = noisy_classifier.ranks(jnp.full((1, 9), jnp.nan), jnp.zeros(1, jnp.int32))
    assert broken == 9  # not even the least likely


def test_the_update_of_step_s_uses_the_rate_of_s(tiny):
    """Adam's first update moves the parameter of the largest gradient by just the rate."""
    batch = drawn(0, range(0, 1000, 125))
    for step in (0, STEPS // 4, STEPS - 1):
        before = tiny.state.replace(step=jnp.int32(step))
        after, _ = tiny.step(before, batch)
        moved = jax.tree.map(
            lambda a, b: np.abs(a - b).max(),
            before.nets["classifier"].params, after.nets["classifier"].params,
        )  # fmt: skip
        assert max(jax.tree.leaves(moved)) == pytest.approx(RATE * (1 - step / STEPS), rel=1e-3)


def test_quarters_without_an_example_repeat_their_last_value(tiny):
    state, metrics = tiny.step(tiny.state, drawn(0, [3] * 4 + [260] * 4))
    first = [float(metrics[f"loss/{name}"]) for name in QUARTERS]
    assert first[2] == first[3] == pytest.approx(float(metrics["loss/classifier"]))
    assert first[0] != first[1]
    assert np.mean(first[:2]) == pytest.approx(first[2], rel=1e-5)
    state, metrics = tiny.step(state, drawn(1, [999] * 8))
    second = [float(metrics[f"loss/{name}"]) for name in QUARTERS]
    assert second[:3] == first[:3]
    assert second[3] == pytest.approx(float(metrics["loss/classifier"]))
    names = {f"{what}/{name}" for what in ("loss", "accuracy@1") for name in QUARTERS}
    assert names <= metrics.keys()
    np.testing.assert_allclose(state.extra["quarters"]["loss"], second)


def test_broken_gradients_skip_an_update_and_too_many_stop_the_run(tiny):
    good = drawn(0, range(0, 1000, 125))
    broken = good | {"noise": np.full_like(good["noise"], np.nan)}
    state, metrics = tiny.step(tiny.state, broken)
    jax.tree.map(np.testing.assert_array_equal, state.nets, tiny.state.nets)
    assert metrics["skipped/classifier"] == 1
    assert all(np.isfinite(value) for value in metrics.values())
    assert int(state.step) == 1
    limit = configured().loss.skip_limit
    full = {**state.extra, "skipped": {"classifier": jnp.int32(limit)}}
    state, metrics = tiny.step(state.replace(extra=full), broken)
    assert not np.isfinite(metrics["loss/classifier"])
    _, metrics = tiny.step(state, good)
    assert metrics["skipped/classifier"] == 0
    assert np.isfinite(metrics["loss/t0-249"])


def test_microbatches_are_the_whole_batch():
    """In float64: metrics, and states after two updates."""
    batches = [drawn(number, np.arange(8) * 125 + number) for number in range(2)]
    ends = []
    with jax.enable_x64(True):

        def double(x):
            return np.array(x, np.float64 if x.dtype != np.int32 else x.dtype)

        for parts in (1, 2):
            # Adam turns the rounding of a zero gradient into a full step unless eps is large
            system = made(
                microbatches=parts, optim__classifier__eps=1e-3, model__num_res_blocks=0,
                model__channel_mult=(1,), model__attention_resolutions=(),
            )  # fmt: skip
            if parts == 1:
                first = jax.tree.map(double, fetch(begun(system)))
            step, state = jax.jit(system.train_step, static_argnums=3), first
            for batch in batches:
                batch = jax.tree.map(double, batch)
                state, metrics = step(state, batch, jax.random.key(0), system.stages[0])
            ends.append(fetch((state, metrics)))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12)
    jax.tree.map(close, *ends)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), first.nets, ends[0][0].nets)
    assert max(jax.tree.leaves(moved)) > RATE / 10


@pytest.fixture
def transparent(monkeypatch):
    """A network that tells the time and the image it is given: logits [B, 4] of which the first is
    time / 1000 plus the image's mean, times the only parameter, and the others 0."""

    def apply(params, stats, x, time):
        first = params["w"] * (time / 1000 + jnp.mean(x, (1, 2, 3)))
        return first[:, None] * jax.nn.one_hot(0, CLASSES), stats

    def init(key, *inputs):
        return {"w": jnp.ones(())}, {}

    monkeypatch.setattr(unet, "noisy_classifier", lambda *_: Network(init, apply))


def told(loss, weight: float = 1.0) -> np.ndarray:
    """What the transparent network saw, from the losses [B] of class 0: log(1 + 3 / e^a)."""
    return -np.log(np.expm1(np.asarray(loss, np.float64)) / 3) / weight


def grey(count: int, level: float = 127.5) -> dict[str, np.ndarray]:
    """Images of one value, here 0 in [-1, 1], and class 0."""
    image = np.full((count, SIDE, SIDE, 1), level, np.float32)
    return {"image": image, "label": np.zeros(count, np.int32)}


def looked_at(system, batch, state=None):
    state = begun(system) if state is None else state
    values = jax.jit(system.eval_step, static_argnums=3)(
        state, batch, jax.random.key(5), system.stages[0]
    )
    return told(values["loss"])


@pytest.mark.parametrize(("steps", "rescale"), [(1000, False), (4000, True), (4000, False)])
def test_validation_spreads_its_times_over_the_chain(transparent, steps, rescale):
    """Of 16 images in a row each at a time of its own, and no eighth of the chain without one; the
    network sees the times rescaled."""
    system = made(discrete__steps=steps, discrete__rescale_timesteps=rescale)
    quiet = grey(16) | {"noise": np.zeros((16, SIDE, SIDE, 1), np.float32)}
    longest = 1 if rescale else steps / 1000
    for first in (0, 1600):
        numbers = np.arange(first, first + 16, dtype=np.int32)
        place = np.sort(looked_at(system, {**quiet, "seed": numbers}) / longest)
        assert (place > -0.002).all()
        assert (place < 1).all()
        assert np.diff(place).min() > 0.02
        assert set((place * 8 + 0.01).astype(int)) == set(range(8))


def test_training_draws_every_time_of_the_chain(transparent):
    """From loss and quarters of a large batch; the noise is normal."""
    system = made(discrete__schedule="linear", batch_size=4096)
    given = grey(4096) | {"noise": np.zeros((4096, SIDE, SIDE, 1), np.float32)}
    _, metrics = jax.jit(system.train_step, static_argnums=3)(
        begun(system), given, jax.random.key(0), system.stages[0]
    )
    expected = np.log1p(3 / np.exp((np.arange(1000)) / 1000)).reshape(4, 250).mean(1)
    for name, value in zip(QUARTERS, expected, strict=True):
        assert float(metrics[f"loss/{name}"]) == pytest.approx(value, rel=2e-3)
    assert float(metrics["loss/classifier"]) == pytest.approx(expected.mean(), rel=5e-3)
    # at the end of the chain only noise is left, whose mean over 64 pixels deviates by 1/8
    last = grey(4096, 255.0) | {"t": np.full(4096, 999, np.int32)}
    seen = looked_at(system, last) - 0.999
    assert seen.std() == pytest.approx(1 / SIDE, rel=0.05)
    assert abs(seen.mean() - math.sqrt(4.03582977e-5)) < 0.01


def test_without_noise_images_are_clean_and_the_time_is_zero(transparent):
    """Whatever a batch brings; there are no quarters then."""
    system = made(noised=False)
    batch = grey(8, 191.25) | {"t": np.full(8, 500, np.int32)}
    np.testing.assert_allclose(looked_at(system, batch), 0.5, rtol=1e-5)
    state, metrics = jax.jit(system.train_step, static_argnums=3)(
        begun(system), batch, jax.random.key(0), system.stages[0]
    )
    assert told(metrics["loss/classifier"]) == pytest.approx(0.5, rel=1e-5)
    assert not any("/t0" in name for name in metrics)
    assert state.extra.keys() == {"skipped"}


def test_validation_is_by_the_average_where_there_is_one(transparent):
    system = made(noised=False, optim__classifier__ema=(0.75,))
    state, _ = jax.jit(system.train_step, static_argnums=3)(
        begun(system), grey(8, 191.25), jax.random.key(0), system.stages[0]
    )
    assert state.nets["classifier"].params["w"] == pytest.approx(1 + RATE, rel=1e-5)
    seen = looked_at(system, grey(8, 191.25), state)
    np.testing.assert_allclose(seen, 0.5 * (1 + RATE / 4), rtol=2e-5)


def test_equal_logits_are_no_hits_of_every_class(transparent):
    """Where a network says nothing, one class in K is found, not all."""
    system = made(noised=False)
    batch = grey(8) | {"label": np.arange(8, dtype=np.int32) % CLASSES}
    values = jax.jit(system.eval_step, static_argnums=3)(
        begun(system), batch, jax.random.key(0), system.stages[0]
    )
    assert values["accuracy@1"].sum() == 2


def test_half_precision_scales_its_loss(transparent):
    """From 2^16, and says so; other types leave the loss as it is."""
    for dtype, scale in (("float16", 2.0**16), ("bfloat16", 1.0)):
        system = made(model__dtype=dtype)
        state = begun(system)
        assert loss_scale.loss_scale(state.nets["classifier"].opt) == scale
        _, metrics = jax.jit(system.train_step, static_argnums=3)(
            state, grey(8), jax.random.key(0), system.stages[0]
        )
        assert ("loss_scale/classifier" in metrics) == (dtype == "float16")
        assert 0 < metrics["grad_norm/classifier"] < 1


def test_names_of_quarters():
    assert loss_quarters.names(1000) == QUARTERS
    assert loss_quarters.names(10) == ("t0-2", "t3-4", "t5-7", "t8-9")
    assert loss_quarters.names(4) == ("t0-0", "t1-1", "t2-2", "t3-3")
    for steps in (4, 5, 10, 1000):
        t = np.arange(steps)
        found = loss_quarters.index(t, steps)
        np.testing.assert_array_equal(found, [int(4 * one / steps) for one in t])
        ranges = [(int(t[found == k][0]), int(t[found == k][-1])) for k in range(4)]
        assert loss_quarters.names(steps) == tuple(f"t{a}-{b}" for a, b in ranges)
    with pytest.raises(UserError, match="3 steps: at least 4"):
        loss_quarters.names(3)


def test_means_of_quarters():
    """An empty one keeps what it had, and a value that is not finite stays in its own."""
    last = jnp.array([7.0, 8.0, 9.0, 10.0])
    found = loss_quarters.means(jnp.array([1.0, 2.0, 6.0]), jnp.array([0, 2, 2]), last)
    np.testing.assert_array_equal(found, [1, 8, 4, 10])
    found = loss_quarters.means(jnp.array([jnp.inf, 2.0]), jnp.array([0, 1]), last)
    np.testing.assert_array_equal(found, [jnp.inf, 2, 9, 10])


REFUSED = {
    "labels": ({}, FACTS._replace(num_classes=0), "no labels; set config.data.labels"),
    "pairs": ({"data__pairs": "colorize"}, FACTS._replace(input_channels=1), "config.data.pairs="),
    "microbatches": ({"microbatches": 3}, FACTS, "config.microbatches=3: .* config.batch_size=8"),
    "no microbatch": ({"microbatches": 0}, FACTS, "config.microbatches=0"),
    "schedule": ({"discrete__schedule": "square"}, FACTS, "config.discrete.schedule='square'"),
    "few steps": ({"discrete__steps": 3}, FACTS, "config.discrete.steps=3: .* at least 4"),
    "steps": (
        {"discrete__steps": 20, "discrete__schedule": "linear"}, FACTS,
        "config.discrete.steps=20: .* at least 21",
    ),
    "skip limit": ({"loss__skip_limit": -1}, FACTS, "config.loss.skip_limit=-1"),
    "pool": ({"model__pool": "max"}, FACTS, "config.model.pool='max'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name):
    options, facts, message = REFUSED[name]
    with pytest.raises(UserError, match=message) as caught:
        made(facts, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("side", [64, 128, 256, 512])
def test_recipes_of_the_paper(side):
    """Parameters as counted in the reference, with its 1000 classes."""
    config = configs.load_file(str(ROOT / "configs" / f"noisy_classifier_imagenet{side}.py"))
    net = unet.noisy_classifier(config.model, side, 1000)
    x = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    time = jax.ShapeDtypeStruct((1,), jnp.float32)
    params, _ = jax.eval_shape(net.init, jax.random.key(0), x, time)
    expected = {64: 65_438_568, 128: 42_568_040, 256: 54_096_360, 512: 54_448_360}
    assert unet.count(params) == expected[side]
    assert config.batch_size % config.microbatches == 0
    assert config.optim.classifier.schedule.name == "linear"

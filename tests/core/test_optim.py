"""Optimizer chains against a few lines of numpy each (PyTorch's definitions)."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gan_jax.core import ema, loss_scale, optim, plateau, schedules
from gan_jax.core.system import Net
from gan_jax.errors import UserError

SHAPES = {"dense": {"kernel": (3, 2), "bias": (2,)}}
NEVER = np.array([np.inf, 0.0], np.float32)  # no validation value yet


def section(**changes) -> SimpleNamespace:
    schedule = SimpleNamespace(**{**schedules.defaults(), **changes.pop("schedule", {})})
    return SimpleNamespace(**optim.defaults(**changes, schedule=schedule))


def random_tree(seed: int, dtype=np.float64):
    rng = np.random.default_rng(seed)

    def draw(shape):
        return rng.standard_normal(shape).astype(dtype)

    return jax.tree.map(draw, SHAPES, is_leaf=lambda x: isinstance(x, tuple))


GRADS = [random_tree(seed) for seed in range(1, 6)]
PARAMS = random_tree(0)


def run(tx, grads=GRADS, rate=0.1, stats=None, validation=None, net=None, batch_images=8.0):
    """The nets after each step, in float64; one compilation."""
    with jax.enable_x64(True):

        @jax.jit
        def step(net, grads, stats, number, validation):
            place = dict(step=number, batch_images=batch_images, validation=validation)
            return optim.step(net, tx, grads, stats, rate=rate, **place)

        stats = stats or [{}] * len(grads)
        zero = jax.tree.map(jnp.zeros_like, stats[0])
        if net is None:
            net = optim.new_net(tx, jax.tree.map(jnp.asarray, PARAMS), zero)
        nets = []
        for index, (g, s) in enumerate(zip(grads, stats, strict=True)):
            value = NEVER if validation is None else np.asarray(validation[index], np.float32)
            net = step(net, g, s, jnp.asarray(index, jnp.int32), value)
            nets.append(net)
        assert step._cache_size() == 1
        return jax.tree.map(np.asarray, nets)


def by_hand(update, grads=GRADS):
    """Parameters after each step of `update(memory, parameter, gradient, number) → parameter`."""
    leaves, tree = jax.tree.flatten(PARAMS)
    memory, history = [{} for _ in leaves], []
    for number, grad in enumerate(grads, start=1):
        pairs = zip(memory, leaves, jax.tree.leaves(grad), strict=True)
        leaves = [update(m, p, g, number) for m, p, g in pairs]
        history.append(jax.tree.unflatten(tree, leaves))
    return history


def assert_close(found, expected, rtol=1e-9):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12), found, expected
    )


def assert_run(config, update, grads=GRADS):
    nets = run(optim.make(config, "o"), grads)
    for net, expected in zip(nets, by_hand(update, grads), strict=True):
        assert_close(net.params, expected)
    return nets


def adam(memory, grad, number, b1, b2, eps):
    memory["m"] = b1 * memory.get("m", 0) + (1 - b1) * grad
    memory["v"] = b2 * memory.get("v", 0) + (1 - b2) * grad**2
    return memory["m"] / (1 - b1**number) / (np.sqrt(memory["v"] / (1 - b2**number)) + eps)


def test_adam_with_eps_outside_the_root_and_bias_corrected():
    config = section(b1=0.5, b2=0.9, eps=0.1)
    assert_run(config, lambda m, p, g, n: p - 0.1 * adam(m, g, n, 0.5, 0.9, 0.1))


def test_weight_decay_is_decoupled_in_adamw_and_in_the_gradient_elsewhere():
    """Kernels only: the bias goes without."""

    def decay(p):
        return 0.3 if p.ndim > 1 else 0.0

    small = dict(weight_decay=0.3, b1=0.5, b2=0.9, eps=0.1)
    assert_run(
        section(name="adamw", **small),
        lambda m, p, g, n: p * (1 - 0.1 * decay(p)) - 0.1 * adam(m, g, n, 0.5, 0.9, 0.1),
    )
    assert_run(
        section(name="adam", **small),
        lambda m, p, g, n: p - 0.1 * adam(m, g + decay(p) * p, n, 0.5, 0.9, 0.1),
    )


def test_decay_mask_all_reaches_the_biases():
    config = section(name="sgd", b1=0.0, weight_decay=0.3, weight_decay_mask="all")
    assert_run(config, lambda m, p, g, n: p - 0.1 * (g + 0.3 * p))


def test_rmsprop_as_pytorch():
    def update(memory, p, g, number):
        memory["v"] = 0.9 * memory.get("v", 0) + 0.1 * g**2
        return p - 0.1 * g / (np.sqrt(memory["v"]) + 0.1)

    assert_run(section(name="rmsprop", b2=0.9, eps=0.1), update)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_with_momentum_as_pytorch(nesterov):
    def update(memory, p, g, number):
        memory["b"] = g if number == 1 else 0.9 * memory["b"] + g
        return p - 0.1 * (g + 0.9 * memory["b"] if nesterov else memory["b"])

    assert_run(section(name="sgd", b1=0.9, nesterov=nesterov), update)


def test_gradients_are_clipped_by_their_global_norm_before_decay():
    norm = float(np.sqrt(sum(np.sum(g**2) for g in jax.tree.leaves(GRADS[0]))))
    config = section(
        name="sgd", b1=0.0, clip_norm=norm / 4, weight_decay=0.3, weight_decay_mask="all"
    )
    assert_run(config, lambda m, p, g, n: p - 0.1 * (g / 4 + 0.3 * p), GRADS[:1])
    config.clip_norm = norm * 4
    assert_run(config, lambda m, p, g, n: p - 0.1 * (g + 0.3 * p), GRADS[:1])
    with jax.enable_x64(True):
        np.testing.assert_allclose(optim.global_norm(GRADS[0]), norm, rtol=1e-12)


def test_the_rate_is_an_argument_of_every_step():
    """One compilation for all rates, and rate 0 changes nothing."""
    tx = optim.make(section(name="sgd", b1=0.0), "o")
    grads = random_tree(1, np.float32)
    step = jax.jit(lambda net, rate: optim.step(net, tx, grads, {}, rate=rate))
    net = optim.new_net(tx, jax.tree.map(jnp.asarray, random_tree(0, np.float32)), {})
    for rate in (0.0, 0.5, 2.0):
        found = step(net, jnp.asarray(rate)).params
        expected = jax.tree.map(lambda p, g, rate=rate: p - rate * g, PARAMS, GRADS[0])
        assert_close(found, expected, rtol=1e-5)
    assert step._cache_size() == 1


STATS = [{"mean": np.full((2,), float(n))} for n in range(1, 6)]


def averages(decays, history, start_value):
    """d · average + (1 − d) · new, for a d per step."""
    average, found = start_value, []
    for d, new in zip(decays, history, strict=True):
        average = jax.tree.map(lambda a, w, d=d: d * a + (1 - d) * w, average, new)
        found.append(average)
    return found


def assert_averages(config, decays, of="after", index=0, **changes):
    nets = run(optim.make(config, "o"), stats=STATS, **changes)
    weights = [net.params for net in nets]
    if of == "before":
        weights = [PARAMS, *weights[:-1]]
    params = averages(decays, weights, PARAMS)
    stats = averages(decays, STATS, {"mean": np.zeros(2)})
    for net, expected, expected_stats in zip(nets, params, stats, strict=True):
        found, found_stats = ema.averaged(net, index)
        assert_close(found, expected)
        assert_close(found_stats, expected_stats)


@pytest.mark.parametrize("of", ["after", "before"])
def test_average_of_the_weights_after_or_before_the_update(of):
    assert_averages(section(ema=(0.75,), ema_of=of), [0.75] * 5, of)


def test_average_begins_at_a_step_and_warms_up():
    """Until the start the averages are the weights; then d ≤ (1 + n) / (10 + n)."""
    assert_averages(section(ema=(0.75,), ema_start=2), [0, 0, 0.75, 0.75, 0.75])
    warm = [0.1, 2 / 11, 3 / 12, 0.3, 0.3]
    assert_averages(section(ema=(0.3,), ema_warmup=True), warm)
    assert_averages(section(ema=(0.3,), ema_warmup=True, ema_start=3), [0, 0, 0, *warm[:2]])


def test_several_averages_and_a_half_life_in_images():
    config = section(ema=(0.9, 0.5))
    assert_averages(config, [0.9] * 5, index=0)
    assert_averages(config, [0.5] * 5, index=1)
    # 8 images a step: after 24 images the old weights count half
    assert_averages(section(ema_half_life=24.0), [0.5 ** (1 / 3)] * 5, batch_images=8.0)


def test_without_an_average_the_weights_themselves():
    net = run(optim.make(section(), "o"), stats=STATS)[-1]
    params, stats = ema.averaged(net)
    assert params is net.params
    assert stats is net.stats
    assert_close(stats, STATS[-1])


def plateau_scales(values, lowest=True, **schedule):
    """Scale after each evaluation; two training steps between evaluations, which must not count."""
    lr = 0.1
    config = section(name="sgd", b1=0.0, lr=lr, schedule=dict(name="plateau", **schedule))
    seen = [(v, n) for n, v in enumerate(values, start=1) for _ in range(2)]
    ones = jax.tree.map(np.ones_like, PARAMS)
    nets = run(optim.make(config, "o", lowest), [ones] * len(seen), rate=lr, validation=seen)
    scales = [float(plateau.rate_scale(net)) for net in nets]
    assert scales[0::2] == scales[1::2]
    before = [PARAMS, *(net.params for net in nets[:-1])]
    for net, old, scale in zip(nets, before, scales, strict=True):
        moved = np.float64(old["dense"]["bias"]) - net.params["dense"]["bias"]
        np.testing.assert_allclose(moved, lr * scale, rtol=1e-6)
    return scales[0::2]


def test_plateau_cuts_after_more_than_patience_evaluations():
    """patience 1: the second evaluation in a row without improvement cuts."""
    found = plateau_scales([5, 4, 4, 4, 4, 3, 3, 3], factor=0.5, patience=1, threshold=0.0)
    assert found == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25]


def test_plateau_threshold_is_relative():
    """From 10 an improvement must end below 9: 9.5 and 9.0 count as none, 8.9 does."""
    found = plateau_scales([10, 9.5, 9.0, 8.9, 8.5, 8.4], factor=0.5, patience=1, threshold=0.1)
    assert found == [1, 1, 0.5, 0.5, 0.5, 0.25]
    found = plateau_scales(
        [10, 10.5, 11.0, 11.1], lowest=False, factor=0.5, patience=1, threshold=0.1
    )
    assert found == [1, 1, 0.5, 0.5]


def test_plateau_cooldown_and_floor():
    """After a cut two evaluations are not counted; lr · scale stays at the floor."""
    flat = [1.0] * 8
    found = plateau_scales(flat, factor=0.1, patience=0, threshold=0.0, cooldown=2, floor=0.002)
    np.testing.assert_allclose(found, [1, 0.1, 0.1, 0.1, 0.02, 0.02, 0.02, 0.02], rtol=1e-6)


def test_plateau_takes_values_that_are_not_finite_for_no_improvement():
    found = plateau_scales([2, np.nan, -np.inf, 1, 1], factor=0.5, patience=1, threshold=0.0)
    assert found == [1, 1, 0.5, 0.5, 0.5]


def scaled(grads, scale):
    return jax.tree.map(lambda g: g * scale, grads)


def test_loss_scale_skips_steps_that_are_not_finite():
    """Good, good (grows), overflow (halves), good: as if the overflow had not been."""
    config = section(b1=0.5, ema=(0.75,))
    plain = run(optim.make(config, "o"), GRADS[:3], stats=STATS[:3])
    tx = loss_scale.with_loss_scale(optim.make(config, "o"), initial=8.0, growth_steps=2)
    broken = jax.tree.map(np.array, GRADS[0])
    broken["dense"]["kernel"][0, 0] = np.nan
    grads = [scaled(GRADS[0], 8.0), scaled(GRADS[1], 8.0), broken, scaled(GRADS[2], 8.0)]
    stats = [STATS[0], STATS[1], {"mean": np.full((2,), np.nan)}, STATS[2]]
    nets = run(tx, grads, stats=stats)
    assert [float(loss_scale.loss_scale(net.opt)) for net in nets] == [8, 16, 8, 8]
    assert [int(net.opt.good_steps) for net in nets] == [1, 0, 0, 1]
    for net, expected in zip((nets[0], nets[1], nets[3]), plain, strict=True):
        assert_close(net.params, expected.params)
        assert_close(net.stats, expected.stats)
        assert_close(ema.averaged(net), ema.averaged(expected))
    before, after = (
        Net(net.params, net.stats, net.opt.inner) for net in (nets[1], nets[2])
    )  # bit for bit
    jax.tree.map(np.testing.assert_array_equal, after, before)


def test_loss_scale_keeps_within_its_bounds():
    tx = loss_scale.with_loss_scale(optim.make(section(), "o"), initial=1.0, growth_steps=1)
    broken = jax.tree.map(lambda g: np.full_like(g, np.inf), GRADS[0])
    assert float(run(tx, [broken])[0].opt.scale) == 1.0
    tx = loss_scale.with_loss_scale(optim.make(section(), "o"), initial=2.0**126, growth_steps=1)
    assert float(run(tx, GRADS[:1])[0].opt.scale) == 2.0**126
    assert loss_scale.loss_scale(run(optim.make(section(), "o"), GRADS[:1])[0].opt) == 1.0


@pytest.mark.parametrize("wrapped", [False, True])
def test_reset_moments_keeps_everything_else(wrapped):
    tx = optim.make(section(b1=0.5, ema=(0.75,)), "o")
    tx = loss_scale.with_loss_scale(tx, 4.0) if wrapped else tx
    net = run(tx, stats=STATS)[-1]
    with jax.enable_x64(True):
        reset = optim.reset_moments(net, tx)
    opt, old = (n.opt.inner if wrapped else n.opt for n in (reset, net))
    assert int(old["moments"].count) == 5
    assert int(opt["moments"].count) == 0
    assert not any(leaf.any() for leaf in jax.tree.leaves(opt["moments"]))
    assert jax.tree.structure(reset) == jax.tree.structure(net)
    jax.tree.map(np.testing.assert_array_equal, opt["ema"], old["ema"])
    jax.tree.map(np.testing.assert_array_equal, reset.params, net.params)
    assert loss_scale.loss_scale(reset.opt) == loss_scale.loss_scale(net.opt)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("wrapped", [False, True])
def test_state_is_arrays_of_one_structure_before_and_after_a_step(dtype, wrapped):
    """A dict by link; a scan over steps needs the same structure and dtypes."""
    config = section(
        name="adamw", clip_norm=1.0, weight_decay=0.1, ema=(0.9, 0.99), ema_warmup=True,
        schedule=dict(name="plateau"),
    )  # fmt: skip
    tx = optim.make(config, "o")
    tx = loss_scale.with_loss_scale(tx) if wrapped else tx
    with jax.enable_x64(dtype is np.float64):
        net = optim.new_net(tx, random_tree(0, dtype), {"mean": np.zeros(2, dtype)})
        net = jax.tree.map(jnp.asarray, net)
        links = net.opt.inner if wrapped else net.opt
        assert sorted(links) == ["clip", "decoupled", "ema", "moments", "plateau", "rate"]
        after = jax.eval_shape(
            lambda net, step, value: optim.step(
                net, tx, random_tree(1, dtype), {"mean": np.ones(2, dtype)},
                rate=jnp.float32(0.1), step=step, batch_images=8.0, validation=value,
            ),
            net, jnp.int32(0), jnp.asarray(NEVER),
        )  # fmt: skip
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(net))
    assert jax.tree.structure(after) == jax.tree.structure(net)
    before, after = jax.tree.leaves(net), jax.tree.leaves(after)
    assert [(x.shape, x.dtype) for x in after] == [(x.shape, x.dtype) for x in before]
    assert {x.dtype for x in jax.tree.leaves(net.params)} == {np.dtype(dtype)}


def test_links_that_are_not_asked_for_are_left_out():
    net = optim.new_net(optim.make(section(name="sgd"), "o"), PARAMS, {})
    assert list(net.opt) == ["moments", "rate"]
    assert plateau.rate_scale(net) == 1.0
    assert isinstance(net.opt["moments"], optax.TraceState)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(name="lion"), ["o.name='lion'", "adam, adamw, rmsprop, sgd"]),
        (dict(weight_decay_mask="biases"), ["o.weight_decay_mask='biases'", "kernels, all"]),
        (dict(ema_of="during"), ["o.ema_of='during'", "after, before"]),
        (dict(ema=(1.0,)), ["o.ema=(1.0,)", "[0, 1)"]),
        (dict(ema=(0.9, 0.0)), ["o.ema=(0.9, 0.0)", "alone"]),
        (dict(b1=1.0), ["o.b1=1.0"]),
        (dict(b2=-0.1), ["o.b2=-0.1"]),
        (dict(clip_norm=-1.0), ["o.clip_norm=-1.0"]),
        (dict(weight_decay=-1.0), ["o.weight_decay=-1.0"]),
    ],
)
def test_mistakes_are_named(changes, words):
    with pytest.raises(UserError) as error:
        optim.make(section(**changes), "o")
    for word in words:
        assert word in str(error.value)

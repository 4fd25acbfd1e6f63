"""`config.model.dtype` means the same in every system: products in half precision, the rest in
float32, results close to those of float32; float16 has a loss scale that reacts to overflows."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import config as configs
from gan_jax.core import loss_scale
from gan_jax.errors import UserError
from gan_jax.ops import penalties
from tests.helpers import small_steps

SYSTEMS = sorted(configs.SYSTEMS)
FLOATS = (np.float16, jnp.bfloat16, np.float32, np.float64)
LOSS = 0.05  # largest difference of a loss, as a share of it or of 1
GRADIENT = 0.2  # largest distance of a gradient, as a share of its norm
STEPS = 20


@pytest.mark.parametrize("name", SYSTEMS)
def test_products_are_in_half_precision_and_everything_kept_is_in_single(name):
    """Of the forward and the backward pass; only the last layers are left in float32."""
    single, small = small_steps.products(name, "float32")
    assert set(single) == {"float32"}
    half, other = small_steps.products(name, "bfloat16")
    counts = Counter(half)
    assert len(half) == len(single)
    assert counts["bfloat16"] >= counts["float32"], counts
    assert set(counts) == {"bfloat16", "float32"}
    # the same arrays of the same types: a state tells nothing of the precision it was made in
    jax.tree.map(np.testing.assert_array_equal, small.state.nets, other.state.nets)
    kept = {leaf.dtype for leaf in jax.tree.leaves(other.state) if leaf.dtype in FLOATS}
    assert kept == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", SYSTEMS)
def test_half_precision_is_close_to_single_and_stays_finite(name):
    firsts = []
    for dtype in ("float32", "bfloat16"):
        small = small_steps.products(name, dtype)[1]
        step = small_steps.stepper(small)
        firsts.append(step(small.state))
    single, half = firsts
    assert single.metrics.keys() == half.metrics.keys()
    for key, value in single.metrics.items():
        if key.startswith("loss/"):
            assert abs(half.metrics[key] - value) <= LOSS * max(abs(value), 1), key
    for net, gradient in single.grads.items():
        away = np.linalg.norm(half.grads[net] - gradient)
        assert 0 < away <= GRADIENT * np.linalg.norm(gradient), net
    state = half.state
    for _ in range(STEPS - 1):
        state, metrics, _ = step(state)
        assert all(np.isfinite(value) for value in metrics.values())
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.nets))


@pytest.mark.parametrize("name", ["gan", "pix2pix", "warpgan", "classifier"])
def test_float16_adds_a_scale_to_the_state_and_the_metrics(name):
    small, plain = (small_steps.products(name, d)[1] for d in ("float16", "float32"))
    nets = small.state.extra["skipped"].keys()
    assert "skipped" not in plain.state.extra
    for net in nets:
        assert small.state.nets[net].opt.scale == 2.0**15
        assert not isinstance(plain.state.nets[net].opt, loss_scale.LossScaleState)
    after, metrics = jax.eval_shape(
        lambda state: small.system.train_step(state, small.batch, jax.random.key(1), small.stage),
        small.state,
    )
    assert jax.tree.structure(after) == jax.tree.structure(small.state)
    assert {f"{kind}/{net}" for kind in ("loss_scale", "skipped") for net in nets} <= set(metrics)


def scaled(state, scale: float, skipped: int = 0):
    """The state with another loss scale, and as if so many updates had been skipped in a row."""
    nets = {
        name: net.replace(opt=net.opt._replace(scale=np.float32(scale)))
        for name, net in state.nets.items()
    }
    return state.replace(nets=nets, extra={"skipped": dict.fromkeys(nets, np.int32(skipped))})


def test_an_overflow_in_float16_skips_the_update_and_halves_the_scale():
    small = small_steps.products("gan", "float16")[1]
    step = small_steps.stepper(small)
    used = step(small.state)
    single = small_steps.products("gan", "float32")[1]
    exact = small_steps.stepper(single)(single.state)
    for net, gradient in exact.grads.items():
        away = np.linalg.norm(used.grads[net] - gradient)
        assert away <= GRADIENT / 4 * np.linalg.norm(gradient), net  # three bits more than bfloat16
        assert used.metrics[f"grad_norm/{net}"] == pytest.approx(np.linalg.norm(gradient), rel=0.02)
        assert (used.metrics[f"loss_scale/{net}"], used.metrics[f"skipped/{net}"]) == (2.0**15, 0)

    start = scaled(small.state, 2.0**100)
    after, metrics, _ = step(start)
    assert all(np.isfinite(value) for value in metrics.values())
    for name, net in after.nets.items():
        assert metrics[f"skipped/{name}"] == 1
        assert after.extra["skipped"][name] == 1
        assert net.opt.scale == 2.0**99
        jax.tree.map(np.testing.assert_array_equal, net.params, start.nets[name].params)
        jax.tree.map(np.testing.assert_array_equal, net.opt.inner, start.nets[name].opt.inner)
    assert after.step == start.step + 1
    # the loop ends the run when a metric is not finite: after too many in a row one is left so
    _, metrics, _ = step(scaled(small.state, 2.0**100, skipped=loss_scale.SKIP_LIMIT))
    assert not np.isfinite(metrics["grad_norm/gen"])


def test_a_penalty_on_gradients_is_scaled_in_half_precision():
    """In float16 the derivatives by an image of a flat critic would all be rounded to 0."""
    x = jnp.ones((2, 4), jnp.float32)

    def critic(images):
        return jnp.sum(images.astype(jnp.float16) * jnp.float16(1e-4), 1) * jnp.float16(1e-4)

    norms = [penalties.gradient_norms(critic, x, scale) for scale in (1.0, 2.0**15)]
    np.testing.assert_allclose(norms[1], 2e-8, rtol=1e-2)
    assert not np.allclose(norms[0], 2e-8, rtol=1e-1)


@pytest.mark.parametrize("name", SYSTEMS)
def test_other_words_are_refused(name):
    with pytest.raises(UserError, match=r"config\.model\.dtype.*half"):
        small_steps.made(name, model__dtype="half")

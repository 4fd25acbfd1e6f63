"""Samplers of time steps: the original's history and weights, a plain reference, frequencies."""

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.ops.diffusion import timestep_sampler
from tests.helpers import golden_rule


class Reference:
    """Queues of ten, one loss after the other."""

    def __init__(self, steps: int):
        self.queues = [deque(maxlen=10) for _ in range(steps)]

    def update(self, t: np.ndarray, losses: np.ndarray) -> None:
        for step, loss in zip(t, losses, strict=True):
            self.queues[step].append(loss)

    def weights(self) -> np.ndarray:
        if any(len(queue) < 10 for queue in self.queues):
            return np.ones(len(self.queues))
        scale = np.array([np.sqrt(np.mean(np.square(queue))) for queue in self.queues])
        return 0.999 * scale / scale.sum() + 0.001 / len(self.queues)


def test_scripted_history_as_the_original():
    meta, golden = golden_rule.load("guided_diffusion/trainstep/loss_second_moment")
    steps = meta["options"]["T"]
    assert meta["options"]["history_per_term"] == timestep_sampler.HISTORY
    assert meta["options"]["uniform_prob"] == timestep_sampler.UNIFORM_SHARE
    with jax.enable_x64(True):
        history = timestep_sampler.empty(steps, jnp.float64)
        for j in range(5):
            t, losses = golden[f"in/t_{j}"], golden[f"in/loss_{j}"]
            history = timestep_sampler.update(history, jnp.asarray(t), jnp.asarray(losses))
            weights = timestep_sampler.weights(history)
            assert bool(timestep_sampler.warm(history)) == golden[f"out/warmed_up_{j}"]
            exact = dict(rtol=1e-10, atol=1e-13)
            np.testing.assert_allclose(weights, golden[f"out/weights_{j}"], **exact)
            share = weights / weights.sum()
            np.testing.assert_allclose(share, golden[f"out/p_{j}"], **exact)
            drawn, scale = timestep_sampler.draw(jax.random.key(j), weights, 64)
            wanted = golden[f"out/loss_weight_{j}"][drawn]
            np.testing.assert_allclose(scale, wanted, **exact)


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_first_in_first_out(batch):
    """Batches in which one step occurs many times, more than ten included, in order."""
    steps, random = 5, np.random.default_rng(batch)
    history, reference = timestep_sampler.empty(steps), Reference(steps)
    update = jax.jit(timestep_sampler.update)
    for _ in range(400 // batch + 3):
        t = random.choice(steps, batch, p=[0.55, 0.2, 0.1, 0.1, 0.05]).astype(np.int32)
        losses = random.uniform(0, 3, batch).astype(np.float32)
        history = update(history, t, losses)
        reference.update(t, losses)
        np.testing.assert_array_equal(
            np.minimum(history.seen, 10), [len(queue) for queue in reference.queues]
        )
        for ring, queue in zip(np.asarray(history.losses), reference.queues, strict=True):
            np.testing.assert_array_equal(np.sort(ring[: len(queue)]), np.sort(queue))
        np.testing.assert_allclose(
            timestep_sampler.weights(history), reference.weights(), rtol=1e-5
        )
    assert timestep_sampler.warm(history)


def test_nothing_is_preferred_before_all_steps_are_known():
    history = timestep_sampler.empty(3)
    t, losses = np.repeat([0, 1, 2], [10, 10, 9]), np.linspace(1, 9, 29, dtype=np.float32)
    history = timestep_sampler.update(history, t, losses)
    np.testing.assert_array_equal(timestep_sampler.weights(history), [1, 1, 1])
    history = timestep_sampler.update(history, np.array([2]), np.array([4.0]))
    assert not np.allclose(timestep_sampler.weights(history), 1)


def test_losses_of_zero_leave_an_even_draw():
    history = timestep_sampler.update(
        timestep_sampler.empty(4), np.tile(np.arange(4), 10), np.zeros(40)
    )
    t, scale = timestep_sampler.draw(jax.random.key(0), timestep_sampler.weights(history), 8)
    assert ((t >= 0) & (t < 4)).all()
    np.testing.assert_allclose(scale, 1, rtol=1e-6)


def test_frequencies_and_the_mean_they_leave():
    """Steps come as often as their weights say, and the weighted mean estimates the plain one."""
    weights, count = jnp.array([5.0, 1.0, 0.0, 4.0]), 20_000
    t, scale = timestep_sampler.draw(jax.random.key(3), weights, count)
    assert t.dtype == np.int32
    assert scale.dtype == np.float32
    frequency = np.bincount(t, minlength=4) / count
    assert frequency[2] == 0
    np.testing.assert_allclose(frequency, [0.5, 0.1, 0, 0.4], atol=0.02)
    np.testing.assert_allclose(scale[t == 1], 2.5, rtol=1e-6)  # 1/(4 · 0.1)
    value = np.array([3.0, -2.0, 0.0, 7.0])
    np.testing.assert_allclose(np.mean(scale * value[t]), value.mean(), atol=0.1)


def test_uniform():
    t, scale = timestep_sampler.draw_uniform(jax.random.key(1), 5, 10_000)
    assert t.dtype == np.int32
    np.testing.assert_allclose(np.bincount(t, minlength=5) / 10_000, 0.2, atol=0.02)
    np.testing.assert_array_equal(scale, np.ones(10_000))


@pytest.mark.parametrize("first", [0, 1, 50_000])
@pytest.mark.parametrize("every", [1, 2, 10])
def test_even_places_follow_from_an_image_s_number(first, every):
    """A hundred images in a row, or of one class where classes come in turn, leave no gap of three
    times the mean; an image has its place in any batch."""
    numbers = np.arange(first, first + 100 * every, every, dtype=np.int32)
    places = np.asarray(timestep_sampler.even_places(jnp.asarray(numbers), 0.3))
    assert places.dtype == np.float32
    ordered = np.sort(places)
    assert ordered[0] >= 0
    assert ordered[-1] < 1
    gaps = np.diff([*ordered, ordered[0] + 1])
    assert gaps.max() < 0.03
    golden = np.float64(2654435769) / 2**32
    np.testing.assert_allclose(places, (numbers * golden + 0.3) % 1, atol=1e-6)
    alone = timestep_sampler.even_places(jnp.asarray(numbers[[7, 3]]), 0.3)
    np.testing.assert_array_equal(alone, places[[7, 3]])

"""How many images are sampled at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import config as configs
from gan_jax.core.mesh import Mesh
from gan_jax.core.sampler import Sampler
from gan_jax.ops.images import to_uint8
from gan_jax.run import at_once
from gan_jax.run.experiment import Experiment


@pytest.fixture(scope="module")
def experiment():
    config = configs.load_file("configs/dcgan_mnist.py", "tiny")
    config.run.devices = 1
    return Experiment(config)


def images(experiment, wanted, room):
    """What is chosen for a wanted number of images and a room in bytes."""
    batch = experiment.sample_batch(range(1))
    step, state = experiment.system.sample_step, experiment.carry.state
    return at_once.images(experiment, step, state, batch, experiment.last, wanted, room)


def counted(experiment, rows):
    batch, state = experiment.sample_batch(range(1)), experiment.carry.state
    step = experiment.system.sample_step
    return at_once._counted(experiment, step, state, batch, experiment.last, rows)


def test_a_device_that_does_not_say_its_memory_makes_a_few(experiment):
    assert at_once.memory() == 0  # a CPU
    assert images(experiment, 5000, None) == 64
    assert images(experiment, 5000, 0) == 64
    assert images(experiment, 20, 0) == 20


def test_few_images_are_not_counted(experiment, monkeypatch):
    monkeypatch.setattr(at_once, "_counted", None)
    assert images(experiment, 64, 2**40) == 64


def test_as_many_as_there_is_memory_for(experiment):
    each = (counted(experiment, 320) - counted(experiment, 64)) / 256
    base = counted(experiment, 64) - 64 * each
    assert each >= 3 * experiment.facts.resolution**2
    for fitting, chosen in ((1100, 1024), (700, 512), (512.5, 512), (500, 256), (100, 64)):
        room = (base + fitting * each) / at_once.USABLE
        assert images(experiment, 100_000, int(room)) == chosen, fitting
    assert images(experiment, 100_000, 2**40) == at_once.MOST
    assert images(experiment, 100_000, 1) == 64  # as without counting, and smaller ones follow


@pytest.mark.parametrize(("wanted", "chosen"), [(100, 64), (120, 128), (1100, 128), (2000, 1024)])
def test_few_images_are_made_in_vain(experiment, wanted, chosen):
    assert images(experiment, wanted, 2**40) == chosen


def test_a_chunk_that_does_not_fit_is_made_in_smaller_ones():
    """Twice: the second time nothing is tried in vain."""
    tried = []

    def step(state, batch, key, stage):
        count = len(batch["seed"])
        tried.append(count)
        if count > 4:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return {
            "raw": jnp.broadcast_to(batch["seed"][:, None, None, None] / 10.0, (count, 1, 1, 1))
        }

    done = []
    batch = {"seed": np.arange(10, dtype=np.int32)}
    sampler = Sampler(step, Mesh(1), to_uint8, chunk=8, small=4)
    for _ in range(2):
        made = sampler({}, batch, None, done=done.append)["raw"]
        np.testing.assert_array_equal(made, to_uint8(jnp.arange(10.0)[:, None, None, None] / 10))
    assert tried == [8, 4]
    assert done == [4, 8, 10] * 2
    fixed = Sampler(step, Mesh(1), to_uint8, chunk=8)
    with pytest.raises(jax.errors.JaxRuntimeError):
        fixed({}, batch, None)


def test_what_was_prepared_for_a_chunk_goes_with_it(monkeypatch):
    def step(state, batch, key, stage):
        return {"raw": jnp.zeros((len(batch["seed"]), 1, 1, 1))}

    class OnceFull:
        def __init__(self, program):
            self.program, self.forget, self.calls = program, program.forget, 0

        def __call__(self, *arguments):
            self.calls += 1
            if self.calls == 1:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
            return self.program(*arguments)

    batch = {"seed": np.arange(10, dtype=np.int32)}
    sampler = Sampler(step, Mesh(1), to_uint8, chunk=8, small=4)
    sampler.prepare({}, batch, None)
    monkeypatch.setattr(sampler, "program", OnceFull(sampler.program))
    assert sampler({}, batch, None)["raw"].shape == (10, 1, 1, 1)

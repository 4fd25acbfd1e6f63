"""What every system owes the engine beside training: validation, and images that follow a seed."""

import jax
import numpy as np
import pytest

from gan_jax.core import validation
from gan_jax.core.mesh import fetch
from gan_jax.ops.images import to_uint8
from tests.helpers import contract
from tests.helpers.contract_runs import Prepared


@pytest.fixture(scope="module", params=contract.PROGRAMS)
def system(request):
    return Prepared(request.param)


def test_evaluation_counts_every_image_once(system):
    experiment = system.experiment
    validate = validation.Validator(
        experiment.system, experiment.mesh, experiment.data, experiment.key
    )
    scores = validate(system.initial().state, system.stage)
    assert scores
    for name, value in scores.items():
        assert name.startswith("val/")
        assert np.isfinite(value), name


def test_one_seed_one_image_in_any_batch_on_any_devices(system):
    """Image 5 asked for alone, among eight, and on eight devices: within one grey level, though
    nobody names its class; all in range."""
    experiment, wide = system.experiment, system.experiments[8]
    if experiment.system.sample_step is None:
        assert "features" in experiment.system.tasks
        return
    if system.program in contract.SAME_IMAGES:
        return
    state = system.stirred().state
    draw = jax.jit(experiment.system.sample_step, static_argnums=3)
    made = draw(state, experiment.sample_batch(range(8)), experiment.sampler(8).key, system.stage)
    alone = experiment.sampler(1)(state, experiment.sample_batch([5]), system.stage)
    spread = wide.sampler(8)(
        wide.mesh.copy(fetch(state)), wide.sample_batch(range(8)), system.stage
    )
    facts, side = experiment.facts, system.stage.resolution
    assert made.keys() == alone.keys() == spread.keys()
    for name, images in made.items():
        assert images.shape == (8, side, side, facts.channels)
        assert float(abs(images).max()) <= 1.0
        assert alone[name].dtype == spread[name].dtype == np.uint8
        grey = np.asarray(to_uint8(images)).astype(int)
        assert np.abs(grey[5] - alone[name][0]).max() <= 1
        assert np.abs(grey - spread[name]).max() <= 1
        assert not np.array_equal(spread[name][0], spread[name][1])

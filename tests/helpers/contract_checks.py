"""What every system owes the engine: the tests of tests/systems/test_contract*.py.

Each of those files runs all of them over some of the programs, so that two workers share the time.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
import pytest

from gan_jax.core import loss_scale, saved_states, validation
from gan_jax.core.mesh import fetch
from gan_jax.ops.images import to_uint8
from tests.helpers import contract
from tests.helpers.collectives import strays
from tests.helpers.contract_runs import Prepared

Check = TypeVar("Check", bound=Callable)


def among(concerns: Callable[[str], bool]) -> Callable[[Check], Check]:
    """Limits a check to the programs that it `concerns`."""

    def marked(check: Check) -> Check:
        check.concerns = concerns
        return check

    return marked


def pytest_generate_tests(metafunc):
    """Runs each check over the programs of its file, so far as it concerns them."""
    concerns = getattr(metafunc.function, "concerns", lambda program: True)
    programs = [program for program in metafunc.module.PROGRAMS if concerns(program)]
    metafunc.parametrize("system", programs, indirect=True, scope="module")


@pytest.fixture(scope="module")
def system(request):
    """A program, made once for all of its checks."""
    return Prepared(request.param)


BITS = "same bits"
TIGHT = 1e-9  # of float64: rounding stays below 1e-13


def named(carry) -> dict[str, np.ndarray]:
    return {k: np.asarray(v) for k, v in saved_states.named(fetch(carry.state)).items()}


def test_two_steps_with_finite_flat_metrics(system):
    """In the precision of the test below, with which it shares a compiled step."""
    carry, metrics = system.straight(system.double)
    assert int(carry.state.step) == 2
    # the step writes where its carry lay: nothing of it is held twice
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(system.given))
    for name, value in metrics.items():
        assert isinstance(name, str)
        assert value.shape == ()
        assert np.isfinite(value), name
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(carry))
    assert any(name.startswith("loss/") for name in metrics)
    assert any(name.startswith("grad_norm/") for name in metrics)


def test_stop_resume_equals_straight_through_in_every_bit_and_is_traced_once(system):
    """Two steps; and one step, out to the host and back, and another. The first step is made twice
    by this, so it also shows that the same input gives the same bits."""
    straight = named(system.straight(system.double)[0])
    resumed = named(system.second(1, system.double))
    for name in straight:
        assert straight[name].tobytes() == resumed[name].tobytes(), (BITS, name)
    assert system.step(1, system.double)._cache_size() == 1


@among(lambda program: program in contract.FLOAT32)
def test_one_device_against_eight(system):
    """Losses and gradients of the first step, for one config of each system: below is the sharper
    test, in doubles, for every config."""
    same_first_step(system, double=False, rtol=1e-4, atol=1e-5, near=3e-6)


@among(
    contract.is_exact
)  # half precision rounds alike in doubles: in float32 it is another program
def test_one_device_against_eight_in_doubles(system):
    """The same in float64, and states after two steps.

    In float32 the rounding of the first step moves what every unit of the second sees by some
    1e-6, and one ReLU in 800,000 that lies nearer to zero than that changes sides: its gradient
    comes or goes as a whole. In float64 no unit lies so near.
    """
    same_first_step(system, double=True, rtol=TIGHT, atol=TIGHT, near=TIGHT)
    a, b = (named(system.second(devices, True)) for devices in (1, 8))
    for name in a:
        assert a[name].dtype != np.float32, name
        np.testing.assert_allclose(b[name], a[name], rtol=TIGHT, atol=TIGHT, err_msg=name)


@among(contract.is_exact)
def test_no_row_of_a_batch_moves_between_eight_devices(system):
    """In the program of the test above. Here each device has one image or a few; what the programs
    of each system do with larger batches is seen in test_collectives.py."""
    rows = len(next(iter(system.batches[0].values())))
    program = system.compiled(8)
    assert strays(system.program, rows, program, system.experiment.carry) == []


def same_first_step(system, double: bool, rtol: float, atol: float, near: float):
    """Compares losses and gradients after one step on one device and on eight.

    near: how far losses and the gradient of each network, as one vector, may lie apart, relatively;
    rtol and atol are for single gradients, many of which are near to 0.
    """
    (one, first), (eight, other) = (system.first(devices, double) for devices in (1, 8))
    for name in first:
        if name.startswith(("loss/", "grad_norm/")):
            np.testing.assert_allclose(other[name], first[name], near, near, err_msg=name)
    for net, section in system.config.optim.items():
        # after one step Adam's first moment is (1 − b1) times the gradient
        moments = [loss_scale.links(c.state.nets[net].opt)["moments"].mu for c in (one, eight)]
        grads = [
            {k: v / (1 - section.b1) for k, v in saved_states.named(fetch(m)).items()}
            for m in moments
        ]
        norm = np.sqrt(sum(np.sum(np.square(g)) for g in grads[0].values()))
        apart = np.sqrt(sum(np.sum(np.square(grads[1][k] - g)) for k, g in grads[0].items()))
        assert apart <= near * norm, (net, apart / norm)
        for name in grads[0]:
            np.testing.assert_allclose(
                grads[1][name], grads[0][name], rtol, atol * norm, err_msg=name
            )


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


@among(lambda program: not contract.makes_images(program))
def test_what_makes_no_images_has_features(system):
    assert system.experiment.system.sample_step is None
    assert "features" in system.experiment.system.tasks


@among(lambda p: contract.makes_images(p) and p not in contract.SAME_IMAGES)
def test_one_seed_one_image_in_any_batch_on_any_devices(system):
    """Three images, each alone on one device and among eight on eight devices: within one grey
    level, though nobody names their classes, and in range."""
    experiment, wide = system.experiment, system.experiments[8]
    state = system.stirred().state
    # alone on one device, and among others on eight
    draw = jax.jit(experiment.system.sample_step, static_argnums=3)
    key = experiment.sampler(1).key
    seeds = (0, 5, 7)
    singles = [draw(state, experiment.sample_batch([n]), key, system.stage) for n in seeds]
    spread = wide.sampler(8)(
        wide.mesh.copy(fetch(state)), wide.sample_batch(range(8)), system.stage
    )
    facts, side = experiment.facts, system.stage.resolution
    for name, images in spread.items():
        assert images.shape == (8, side, side, facts.channels)
        assert images.dtype == np.uint8
        assert not np.array_equal(images[0], images[1])
        for seed, alone in zip(seeds, singles, strict=True):
            assert alone.keys() == spread.keys()
            assert alone[name].shape == (1, side, side, facts.channels)
            assert float(abs(alone[name]).max()) <= 1.0
            grey = np.asarray(to_uint8(alone[name])).astype(int)
            assert np.abs(images[seed].astype(int) - grey[0]).max() <= 1, seed

"""The three processes of noise around a network that knows the answer."""

import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.ops.diffusion import gaussian_diffusion, noise_schedules, processes
from gan_jax.ops.diffusion.gaussian_diffusion import Objective

CHAIN = noise_schedules.chain("linear", 1000)
FLOW = dict(times="logit_normal", logit_mean=0.2, logit_std=1.0, shift=1.0)
EDM = dict(sigma_data=0.5, mean=-1.2, std=1.2)
MADE = {
    **{
        target: processes.discrete(CHAIN, Objective(target, "fixed_large"))
        for target in ("epsilon", "start_x", "v")
    },
    "flow": processes.flow(**FLOW),
    "edm": processes.edm(**EDM),
}


def images(seed: int) -> jnp.ndarray:
    return jnp.asarray(np.random.RandomState(seed).uniform(-1, 1, (4, 2, 2, 3)), jnp.float32)


def perfect(name: str, process, image, x, noise, level) -> jnp.ndarray:
    """What the network of a process should say of x."""
    if name == "flow":
        return noise - image
    if name == "edm":
        skip, out, _ = process.conditioned(level)
        return (image - skip * x) / out
    velocity = gaussian_diffusion.velocity_of(CHAIN, image, noise, level)
    return {"epsilon": noise, "start_x": image, "v": velocity}[name]


@pytest.mark.parametrize("name", MADE)
def test_a_perfect_answer_costs_nothing_and_is_the_image(name):
    """At one level for all images, 0.3 of the distribution that is trained on."""
    process, image, noise = MADE[name], images(0), images(1)
    level = process.spread(jnp.full(4, 0.3))
    x = process.add_noise(image, level, noise)
    answer = perfect(name, process, image, x, noise, level)
    np.testing.assert_allclose(
        process.losses(answer, image, x, noise, level)["loss"], 0, atol=1e-10
    )
    given, time = process.inputs(x, level)
    seen = []

    def network(x, time):
        seen.append((x, time))
        return answer

    along, s = x, level[0]
    if name in ("epsilon", "start_x", "v"):  # the path's coordinates are those of σ
        signal = CHAIN.alphas_cumprod[int(level[0])]
        along, s = x / np.sqrt(signal), jnp.float32(np.sqrt(1 / signal - 1))
    found = process.denoiser(network, lambda x0: x0)(along, s)
    np.testing.assert_allclose(found, image, atol=2e-5)
    np.testing.assert_allclose(seen[0][0], given, rtol=1e-4)
    np.testing.assert_allclose(seen[0][1], time, rtol=1e-4)


@pytest.mark.parametrize("name", MADE)
def test_quarters_are_of_the_distribution_that_is_trained_on(name):
    process = MADE[name]
    levels = process.spread(jnp.array([0.1, 0.3, 0.6, 0.9]))
    np.testing.assert_array_equal(process.quarter(levels), [0, 1, 2, 3])
    assert len(set(process.quarters)) == 4


def test_a_learned_variance_doubles_the_outputs():
    ranged = processes.discrete(CHAIN, Objective("epsilon", "learned_range"))
    assert [p.outputs for p in (ranged, *MADE.values())] == [2, 1, 1, 1, 1, 1]


def test_the_history_of_losses_is_kept_where_it_is_asked_for():
    plain = MADE["epsilon"]
    assert plain.history() == {}
    assert plain.remember({}, jnp.zeros(2, jnp.int32), jnp.ones(2)) == {}
    weighted = processes.discrete(CHAIN, Objective("v", "fixed_large"), "loss_second_moment")
    after = weighted.remember(weighted.history(), jnp.array([3, 3]), jnp.array([1.0, 2.0]))
    assert int(after["seen"][3]) == 2
    assert int(after["seen"].sum()) == 2


@pytest.mark.parametrize("name", ["epsilon", "edm"])
def test_a_path_ends_where_it_is_told(name):
    sigmas = processes.Sigmas(0.05, 12.0)
    whole = MADE[name].path(6).levels
    chosen = {
        "epsilon": lambda: processes.discrete(CHAIN, Objective("v", "fixed_large"), sigmas=sigmas),
        "edm": lambda: processes.edm(**EDM, sigmas=sigmas),
    }[name]()
    levels = chosen.path(6).levels
    np.testing.assert_allclose(levels[[0, -2, -1]], [12.0, 0.05, 0])
    assert whole[0] > 12
    assert whole[-2] < 0.05


def test_values_that_are_refused():
    for make, message in (
        (lambda: processes.flow(**FLOW | dict(times="beta")), "config.flow.times='beta'"),
        (lambda: processes.flow(**FLOW | dict(logit_std=0.0)), "config.flow.logit_std=0.0"),
        (lambda: processes.flow(**FLOW | dict(shift=0.0)), "config.flow.shift=0.0"),
        (lambda: processes.edm(**EDM | dict(std=0.0)), "config.edm.std=0.0: must be above 0"),
        (
            lambda: processes.discrete(CHAIN, Objective("v", "fixed_large"), "last"),
            "config.discrete.timestep_sampler='last'",
        ),
    ):
        with pytest.raises(UserError, match=message):
            make()

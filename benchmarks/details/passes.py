"""Samplers of a diffusion model beside as many bare passes of its network as they have steps, and
a DCGAN's step in each form of its convolutions."""

from functools import partial
from unittest import mock

import jax
import jax.numpy as jnp

from benchmarks import cases
from benchmarks.details import Detail, timed
from benchmarks.ours import Ours
from benchmarks.timing import Contender
from gan_jax.models import convolution, unet

FORMS = tuple(form for form in convolution.FORMS if form != "auto")


def samplers(small: bool) -> dict[str, Contender]:
    """20 steps of the ancestral sampler and of DPM-Solver++, and 20 passes."""
    (case,) = cases.chosen("diffusion_32")
    experiment = case.experiment(small)
    step = Ours(experiment)
    config, facts, count = experiment.config, experiment.facts, min(case.sampled, 16)
    state, steps = step.carry.state, int(config.sampling.steps)
    params = state.nets["unet"].params
    network = unet.unet(config.model, facts.resolution, facts.channels, 2 * facts.channels, 0)
    shape = (count, facts.resolution, facts.resolution, facts.channels)
    x, time = jax.random.normal(jax.random.key(1), shape), jnp.full(count, 500.0)

    def passes(options: dict[str, str] | None):
        one = jax.jit(
            lambda params, x, time: network.apply(params, {}, x, time)[0], compiler_options=options
        )

        def call() -> jax.Array:
            for _ in range(steps):
                found = jax.block_until_ready(one(params, x, time))
            return found

        return timed(call)

    def sampled(sampler: str) -> Contender:
        other = case.experiment(small, sampling__sampler=sampler)
        draw, batch = other.sampler(count), other.sample_batch(range(count))
        return Contender(partial(draw, state, batch, other.last, ("raw",)))

    return {
        "bare passes": passes(convolution.compiler_options(products=True)),
        "bare passes, XLA's choice": passes(None),
        "ancestral": sampled("ancestral"),
        "dpm++": sampled("dpm++"),
    }


def forms(small: bool) -> dict[str, Contender]:
    """The step of dcgan_28 with convolutions of each form."""
    (case,) = cases.chosen("dcgan_28")
    experiment = case.experiment(small)
    conv, transposed = convolution.conv, convolution.conv_transpose
    found = {}
    for form in FORMS:
        step = Ours(experiment)
        # networks ask for "auto" while they are traced, and get this form
        with mock.patch.multiple(
            convolution,
            conv=lambda *a, form=form: conv(*a[:-1], form),
            conv_transpose=lambda *a, form=form: transposed(*a[:-1], form),
        ):
            jax.clear_caches()
            step.compile()
        found[form] = timed(step.step)
    return found


DETAILS = (
    Detail("samplers", "samplers", "samplers of 20 steps, diffusion at 32 px", samplers, 16),
    Detail("forms", "forms", "DCGAN's step, forms of its convolutions", forms),
)

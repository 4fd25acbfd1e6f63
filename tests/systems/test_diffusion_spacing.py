"""The steps of DPM-Solver++ on a chain, spread by time or by sigma."""

import jax
import numpy as np

from gan_jax.ops.diffusion import ode_samplers
from gan_jax.systems import diffusion
from tests.helpers.tiny_diffusion import FACTS, filled, stage_of, tiny_config

SEEDS = {"seed": np.arange(4, dtype=np.int32), "label": np.array([1, 2, 3, 4], np.int32)}
KEY = jax.random.key(0)


def test_many_steps_by_sigma_lead_to_images_of_heun():

    def made(sampler: str, steps: str):
        how = dict(sampler=sampler, steps=steps, sigma_max=20.0, spacing="sigma")
        system = diffusion.make(tiny_config(sampling=how), FACTS)
        draw = jax.jit(lambda s: system.sample_step(s, SEEDS, KEY, stage_of(system))["raw"])
        return np.asarray(draw(filled(system)))

    limit = made("heun", "80")
    near, far = (np.abs(made("dpm++", n) - limit).max() for n in ("80", "20"))
    assert near < min(far / 4, 0.02)


def test_the_levels_of_spacing_by_sigma(monkeypatch):
    """As many as the steps of the chain that are kept, whose ends are those of the section."""
    seen = []
    monkeypatch.setattr(
        ode_samplers, "dpm_solver_pp_2m", lambda denoise, x, path, loop: seen.append(path) or x
    )
    for spacing in ("time", "sigma"):
        how = dict(sampler="dpm++", steps="7", spacing=spacing, sigma_min=0.1, sigma_max=20.0)
        system = diffusion.make(tiny_config(sampling=how), FACTS)
        system.sample_step(filled(system), SEEDS, KEY, stage_of(system))
    by_time, by_sigma = seen[0].levels, seen[-1].levels
    assert len(by_time) == len(by_sigma) == 8
    assert by_time[0] > 1000
    np.testing.assert_allclose(by_sigma, ode_samplers.karras(7, 0.1, 20.0).levels)

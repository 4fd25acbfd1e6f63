"""Noise schedules, kept steps and a chain's tables: the original's, published values, messages."""

import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.ops.diffusion import noise_schedules
from tests.helpers import golden_rule

EXACT = dict(rtol=1e-10, atol=1e-13)
TABLES = (
    "linear1000",
    "linear1000_250",
    "linear1000_ddim25",
    "linear100_7",
    "cosine50",
    "cosine1000",
    "cosine4000_sections",
)


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_those_of_the_original(name):
    meta, golden = golden_rule.load(f"guided_diffusion/tables/{name}")
    options = meta["options"]
    chain = noise_schedules.chain(
        options.get("noise_schedule", "linear"),
        options["steps"],
        options.get("timestep_respacing", ""),
        options.get("rescale_timesteps", False),
    )
    np.testing.assert_array_equal(chain.kept, golden["out/timestep_map"])
    assert chain.kept.dtype == np.int64
    assert chain.steps == len(golden["out/betas"])
    names = {field: field for field in chain._fields[3:]}
    names["posterior_log_variance"] = "posterior_log_variance_clipped"
    for field, original in names.items():
        found = getattr(chain, field)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, golden[f"out/{original}"], **EXACT, err_msg=field)
    derived = {  # as ops/diffusion/gaussian_diffusion.py reads them
        "sqrt_recip_alphas_cumprod": np.sqrt(1 / chain.alphas_cumprod),
        "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / chain.alphas_cumprod - 1),
        "log_one_minus_alphas_cumprod": np.log(1 - chain.alphas_cumprod),
        "fixed_large_variance": np.append(chain.posterior_variance[1], chain.betas[1:]),
    }
    for original, found in derived.items():
        np.testing.assert_allclose(found, golden[f"out/{original}"], **EXACT, err_msg=original)
    seen = chain.model_times[golden["in/model_t_index"]]
    np.testing.assert_allclose(seen, golden["out/model_t"], rtol=1e-7)  # float32 there


def _specs() -> list:
    return golden_rule.load("guided_diffusion/tables/space_timesteps")[0]["options"]["specs"]


@pytest.mark.parametrize(
    ("index", "steps", "spec"), [(i, *s) for i, s in enumerate(_specs())], ids=lambda v: str(v)
)
def test_kept_steps_are_those_of_the_original(index, steps, spec):
    wanted = golden_rule.load("guided_diffusion/tables/space_timesteps")[1][f"out/steps_{index:02}"]
    if list(wanted) == [-1]:
        with pytest.raises(UserError, match=f'respacing "{spec}"'):
            noise_schedules.kept_steps(steps, spec)
    else:
        np.testing.assert_array_equal(noise_schedules.kept_steps(steps, spec), wanted)


def test_published_values():
    linear = noise_schedules.chain("linear", 1000)
    np.testing.assert_allclose(linear.betas[[0, 1, -1]], [1e-4, 1.1991992e-4, 0.02], rtol=1e-8)
    np.testing.assert_allclose(
        linear.alphas_cumprod[[500, -1]], [0.0777966584, 4.03582977e-5], rtol=1e-8
    )
    cosine = noise_schedules.betas("cosine", 1000)
    np.testing.assert_allclose(cosine[[0, -1]], [4.12842248e-5, 0.999], rtol=1e-8)
    assert (cosine == 0.999).sum() == 1
    np.testing.assert_allclose(np.prod(1 - cosine), 2.42876691e-9, rtol=1e-8)
    long = noise_schedules.chain("cosine", 4000)
    np.testing.assert_allclose(long.betas[0], 9.86581881e-6, rtol=1e-8)
    np.testing.assert_allclose(long.alphas_cumprod[2000], 0.49345398, rtol=1e-7)

    short = noise_schedules.chain("linear", 1000, "250")
    np.testing.assert_allclose(
        short.betas[[0, 1, 2, -1]], [1e-4, 5.99065564e-4, 9.17602993e-4, 7.75193450e-2], rtol=1e-8
    )
    np.testing.assert_allclose(short.posterior_log_variance[0], -9.36462816, rtol=1e-8)
    rescaled = noise_schedules.chain("cosine", 4000, "", rescale=True)
    assert rescaled.model_times[-1] == 999.75


def test_published_steps():
    kept = noise_schedules.kept_steps
    few = kept(1000, "25")
    assert [*few[:6], *few[-3:]] == [0, 42, 83, 125, 166, 208, 916, 957, 999]
    many = kept(1000, "250")
    assert [*many[:6], *many[-3:]] == [0, 4, 8, 12, 16, 20, 991, 995, 999]
    assert list(kept(1000, "ddim25")) == list(range(0, 1000, 40))
    sections = kept(1000, "10,10,15,20,25")
    assert len(sections) == 80
    assert [*sections[:4], *sections[-3:]] == [0, 22, 44, 66, 982, 991, 999]
    accepted = [n for n in range(2, 1001) if _accepted(1000, f"ddim{n}")]
    assert len(accepted) == 62


def _accepted(steps: int, respacing: str) -> bool:
    try:
        noise_schedules.kept_steps(steps, respacing)
    except UserError:
        return False
    return True


def test_no_respacing_keeps_every_step():
    for empty in ("", "  "):
        np.testing.assert_array_equal(noise_schedules.kept_steps(30, empty), np.arange(30))
    whole = noise_schedules.chain("sigmoid", 30)
    np.testing.assert_allclose(whole.betas, noise_schedules.betas("sigmoid", 30), rtol=1e-12)
    np.testing.assert_array_equal(whole.model_times, np.arange(30))


def test_sigmoid_by_its_definition():
    """ᾱ is a stretched sigmoid from 1 to 0; only the last step, to 0, is clipped."""
    steps = 1000
    level = 1 / (1 + np.exp(-np.linspace(-3, 3, steps + 1)))
    signal = (level[-1] - level) / (level[-1] - level[0])
    found = noise_schedules.betas("sigmoid", steps)
    assert found[-1] == 0.999
    np.testing.assert_allclose(np.cumprod(1 - found)[:-1], signal[1:-1], rtol=1e-9)


@pytest.mark.parametrize("name", noise_schedules.SCHEDULES)
@pytest.mark.parametrize("steps", [21, 50, 1000, 4000])
def test_every_schedule_is_a_process(name, steps):
    """Variances are inside (0, 1), signal falls, and little of it is left at the end."""
    chain = noise_schedules.chain(name, steps)
    assert ((chain.betas > 0) & (chain.betas < 1)).all()
    assert (np.diff(chain.alphas_cumprod) < 0).all()
    assert chain.alphas_cumprod[-1] < 1e-3
    assert chain.alphas_cumprod_prev[0] == 1
    assert chain.alphas_cumprod_next[-1] == 0
    assert chain.posterior_variance[0] == 0
    for table in chain[3:]:
        assert np.isfinite(table).all()


@pytest.mark.parametrize("respacing", ["250", "ddim50", "10,10,15,20,25"])
def test_a_shorter_chain_has_the_same_marginals(respacing):
    whole = noise_schedules.chain("cosine", 1000)
    short = noise_schedules.chain("cosine", 1000, respacing)
    np.testing.assert_allclose(short.alphas_cumprod, whole.alphas_cumprod[short.kept], rtol=1e-9)


MESSAGES = {  # (steps, respacing): the message after 'diffusion.respacing "…": '
    (1000, "ddim37"): "no stride gives 37 of 1000 steps; accepted near it are ddim36 and ddim38",
    (1000, "ddim1"): "no stride gives 1 of 1000 steps; accepted near it is ddim2",
    (1000, "ddim2000"): "no stride gives 2000 of 1000 steps; accepted near it is ddim1000",
    (1, "ddim1"): 'accepted for 1 steps is "" only',
    (10, "4,4,4"): "section 2 of 3 has 3 steps, 4 cannot be kept of them",
    (100, "101"): "the chain has 100 steps, 101 cannot be kept of them",
    (100, "0"): "keeps no step, at least 1 is needed",
    (100, "1"): "keeps 1 step, a chain needs 2 at least",
    (1, ""): "keeps 1 step, a chain needs 2 at least",
}


@pytest.mark.parametrize("case", MESSAGES, ids=str)
def test_messages(case):
    steps, respacing = case
    with pytest.raises(UserError) as error:
        noise_schedules.chain("cosine", steps, respacing, key="diffusion.respacing")
    assert str(error.value) == f'diffusion.respacing "{respacing}": {MESSAGES[case]}'


@pytest.mark.parametrize("respacing", ["ddim", "ddimx", "ten", "10,", "1.5", "-3", "5;5", "²"])
def test_what_is_no_number_shows_the_forms(respacing):
    with pytest.raises(UserError) as error:
        noise_schedules.kept_steps(1000, respacing)
    assert str(error.value) == (
        f'respacing "{respacing}": accepted are a number of steps ("250"), numbers for equal '
        'sections ("10,10,15"), "ddim" and a number ("ddim25"), or "" for all steps'
    )


def test_schedules_that_do_not_exist():
    with pytest.raises(UserError, match=r'schedule "square": accepted are linear, cosine, sigmoid'):
        noise_schedules.betas("square", 1000)
    with pytest.raises(UserError, match=r"linear: 20 steps, at least 21 are needed"):
        noise_schedules.betas("linear", 20)
    assert noise_schedules.betas("linear", 21)[-1] < 1
    with pytest.raises(UserError, match="0 steps"):
        noise_schedules.betas("cosine", 0)

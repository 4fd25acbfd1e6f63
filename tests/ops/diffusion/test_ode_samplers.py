"""Samplers along paths of levels against closed forms, and what all samplers have in common."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gan_jax.ops.diffusion import chain_samplers, noise_schedules, ode_samplers
from gan_jax.ops.diffusion.chain_samplers import Loop
from gan_jax.ops.diffusion.ode_samplers import Churn, Path
from tests.helpers.gaussian_data import CHAIN, DATA, PREDICT, SHAPE, draw

pytestmark = pytest.mark.usefixtures("double")


PATHS = {
    "karras": lambda n: ode_samplers.karras(n, 0.002, 20.0),
    "flow": ode_samplers.uniform,
    "shifted": lambda n: ode_samplers.uniform(n, 3.0),
}


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize(
    ("sampler", "order"),
    [
        (ode_samplers.euler, 1),
        (ode_samplers.heun, 2),
        (ode_samplers.dpm_solver_pp_2m, 2),
    ],
)
def test_order_of_convergence(sampler, order, kind):
    errors = []
    for n in (128, 256):
        path = PATHS[kind](n)
        x = path.levels[0] * draw(1)
        errors.append(np.abs(sampler(DATA.denoise(path.flow), x, path) - DATA.end(x, path)).max())
    found = np.log2(errors[0] / errors[1])
    # in λ the steps next to t = 1 stay long however many there are, which costs 2M a logarithm
    slack = 0.5 if path.flow and sampler is ode_samplers.dpm_solver_pp_2m else 0.1
    assert order - slack < found < order + 0.2
    assert errors[1] < (0.02 if order == 1 else 2e-3)


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_euler_is_ddim_in_other_coordinates(eta):
    path, last = ode_samplers.from_chain(CHAIN), CHAIN.steps - 1
    x, z = draw(1), jnp.asarray(draw(2, CHAIN.steps, *SHAPE))
    ddim, seen = chain_samplers.ddim(CHAIN, PREDICT, x, lambda t: z[t], eta, trajectory=True)
    x = x / np.sqrt(CHAIN.alphas_cumprod[-1])
    euler, also_seen = ode_samplers.euler(
        DATA.denoise(False), x, path, lambda number: z[last - number], eta, trajectory=True
    )
    np.testing.assert_allclose(euler, ddim, rtol=1e-10)
    np.testing.assert_allclose(also_seen, seen, rtol=1e-10)


@pytest.mark.parametrize("name", ["euler", "noisy euler", "dpm"])
def test_a_flow_and_its_rescaled_path_agree(name):
    """x_flow/(1 - t) is a path with σ = t/(1 - t), and these samplers see no difference."""
    t = np.array([0.95, 0.8, 0.6, 0.3, 0.1, 0.0])
    x, z = draw(1), jnp.asarray(draw(2, 5, *SHAPE))

    def sample(x, path):
        denoise = DATA.denoise(path.flow)
        if name == "dpm":
            return ode_samplers.dpm_solver_pp_2m(denoise, x, path)
        eta = 0.7 if name == "noisy euler" else 0.0
        return ode_samplers.euler(denoise, x, path, lambda number: z[number], eta)

    flow, other = sample(x, Path(t, True)), sample(x / 0.05, Path(t / (1 - t), False))
    np.testing.assert_allclose(flow, other, rtol=1e-10)


def test_dpm_solver_as_published():
    path = ode_samplers.karras(6, 0.05, 10.0)
    denoise, x = DATA.denoise(False), 10 * draw(1)
    found, seen = ode_samplers.dpm_solver_pp_2m(denoise, x, path, trajectory=True)
    log_snr, before = -np.log(path.levels[:-1]), None
    for i in range(5):
        x0, h = denoise(x, path.levels[i]), log_snr[i + 1] - log_snr[i]
        aim = x0
        if i:
            r = (log_snr[i] - log_snr[i - 1]) / h
            aim = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * before
        np.testing.assert_allclose(seen[i], x0, rtol=1e-10)
        x, before = path.levels[i + 1] / path.levels[i] * x - np.expm1(-h) * aim, x0
    np.testing.assert_allclose(found, denoise(x, path.levels[5]), rtol=1e-10)
    np.testing.assert_allclose(found, seen[5], rtol=1e-10)


@pytest.mark.parametrize("churn", [0.0, 2.0, 40.0])
def test_heun_as_published(churn):
    path = ode_samplers.karras(5, 0.05, 10.0)
    denoise, x, z = DATA.denoise(False), 10 * draw(1), jnp.asarray(draw(2, 5, *SHAPE))
    evaluations = []

    def counted(x, level):
        evaluations.append(float(level))
        return denoise(x, level)

    limited = Churn(churn, s_min=0.1, s_max=8.0, s_noise=1.1)
    options = dict(noise_at=lambda number: z[number], churn=limited, trajectory=True)
    found, seen = ode_samplers.heun(denoise, x, path, **options)
    with jax.disable_jit():
        ode_samplers.heun(counted, x, path, **options)
    assert len(evaluations) == 2 * 5 - 1
    for i, (level, after) in enumerate(zip(path.levels[:-1], path.levels[1:], strict=True)):
        gamma = min(churn / 5, np.sqrt(2) - 1) if 0.1 <= level <= 8.0 else 0
        raised = level * (1 + gamma)
        np.testing.assert_allclose(evaluations[2 * i], raised, rtol=1e-12)
        x = x + 1.1 * np.sqrt(raised**2 - level**2) * z[i]
        np.testing.assert_allclose(seen[i], denoise(x, raised), rtol=1e-10)
        slope = (x - denoise(x, raised)) / raised
        step = x + (after - raised) * slope
        if after > 0:
            slope = (slope + (step - denoise(step, after)) / after) / 2
            step = x + (after - raised) * slope
        x = step
    np.testing.assert_allclose(found, x, rtol=1e-9)


def test_one_step_is_the_denoiser():
    for path in (ode_samplers.karras(1, 0.1, 5.0), ode_samplers.uniform(1)):
        x, denoise = draw(1), DATA.denoise(path.flow)
        for sampler in (ode_samplers.euler, ode_samplers.heun, ode_samplers.dpm_solver_pp_2m):
            np.testing.assert_allclose(
                sampler(denoise, x, path), denoise(x, path.levels[0]), rtol=1e-12
            )


def test_levels():
    levels = ode_samplers.karras(18, 0.002, 80.0).levels
    assert len(levels) == 19
    np.testing.assert_allclose(levels[[0, 1, 17, 18]], [80, 57.58598, 0.002, 0], rtol=1e-6)
    np.testing.assert_allclose(np.diff(levels[:-1] ** (1 / 7), n=2), 0, atol=1e-12)
    np.testing.assert_allclose(ode_samplers.uniform(4).levels, [1, 0.75, 0.5, 0.25, 0])
    shifted = ode_samplers.uniform(4, 3.0).levels
    np.testing.assert_allclose(shifted, [1, 0.9, 0.75, 0.5, 0])
    for shift in (0.1, 0.3, 3.3):
        levels = ode_samplers.uniform(50, shift).levels
        assert (levels[0], levels[-1]) == (1, 0)
        assert np.all(np.diff(levels) < 0)
    path = ode_samplers.from_chain(CHAIN)
    assert (path.steps, path.flow, path.levels[-1]) == (CHAIN.steps, False, 0)
    np.testing.assert_allclose(1 / (1 + path.levels[:-1] ** 2), CHAIN.alphas_cumprod[::-1])


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_time_of_a_level(rescale, dtype):
    chain = noise_schedules.chain("cosine", 400, rescale=rescale)
    time, sigma = ode_samplers.chain_time(chain), ode_samplers.from_chain(chain).levels[-2::-1]
    found = jax.jit(time)(sigma.astype(dtype))
    assert found.dtype == dtype
    atol = 1e-3 if dtype is np.float32 else 1e-9
    np.testing.assert_allclose(found, chain.model_times, atol=atol)
    between = time(np.sqrt(sigma[20] * sigma[21]).astype(dtype))
    np.testing.assert_allclose(between, 20.5 * (2.5 if rescale else 1), atol=atol)
    ends = time(np.array([sigma[0] / 2, sigma[-1] * 2], dtype))
    np.testing.assert_array_equal(ends, chain.model_times[[0, -1]].astype(dtype))


# what all of them have in common


def everyone():
    """(name, number of steps, function of x and the common options)."""
    path, flow = ode_samplers.karras(5, 0.1, 3.0), ode_samplers.uniform(5)
    edm = DATA.denoise(False)

    def noise(number):
        return jnp.full(SHAPE, 0.1 * number)

    return [
        ("ancestral", 12, lambda x, **k: chain_samplers.ancestral(CHAIN, PREDICT, x, noise, **k)),
        ("ddim", 12, lambda x, **k: chain_samplers.ddim(CHAIN, PREDICT, x, noise, 0.5, **k)),
        ("reverse", 12, lambda x, **k: chain_samplers.ddim_reverse(CHAIN, PREDICT, x, **k)),
        ("euler", 5, lambda x, **k: ode_samplers.euler(edm, x, path, noise, 0.5, **k)),
        ("dpm", 5, lambda x, **k: ode_samplers.dpm_solver_pp_2m(edm, x, path, **k)),
        ("heun", 5, lambda x, **k: ode_samplers.heun(edm, x, path, noise, Churn(2.0), **k)),
        ("flow", 5, lambda x, **k: ode_samplers.heun(DATA.denoise(True), x, flow, **k)),
    ]


@pytest.mark.parametrize(("name", "steps", "sample"), everyone(), ids=lambda v: str(v)[:9])
def test_common_options(name, steps, sample):
    """Trajectory, report, unrolling, jit, types; x on several devices."""
    x, told = jnp.asarray(draw(1)), []
    plain = sample(x)
    final, seen = jax.jit(lambda x: sample(x, trajectory=True, loop=Loop(told.append, unroll=2)))(x)
    jax.effects_barrier()
    assert sorted(told) == list(range(1, steps + 1))
    assert all(type(number) is int for number in told)
    assert (seen.shape, final.shape) == ((steps, *SHAPE), SHAPE)
    np.testing.assert_allclose(final, plain, rtol=1e-10)
    if name not in ("ancestral", "reverse", "flow"):
        np.testing.assert_allclose(seen[-1], plain, rtol=1e-9)
    assert "callback" not in str(jax.make_jaxpr(sample)(x))
    single = x.astype(np.float32)
    assert sample(single).dtype == np.float32
    np.testing.assert_allclose(sample(single), plain, atol=2e-5)
    told.clear()
    jax.block_until_ready(jax.jit(lambda x: sample(x, loop=Loop(told.append)))(x))
    jax.effects_barrier()
    assert told == list(range(1, steps + 1))  # in order, where not unrolled
    if len(jax.devices()) > 1:
        told.clear()
        mesh = Mesh(np.array(jax.devices()[:2]), ("batch",))
        shared = jax.device_put(x, NamedSharding(mesh, PartitionSpec("batch")))
        spread = jax.jit(lambda x: sample(x, loop=Loop(told.append)))(shared)
        jax.effects_barrier()
        np.testing.assert_allclose(spread, plain, rtol=1e-10)
        assert told == list(range(1, steps + 1))


def test_a_network_in_half_precision_leaves_x_as_it_is():
    def predict(x, t):
        return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), PREDICT(x, t))

    x = jnp.asarray(draw(1), jnp.float32)
    assert chain_samplers.ancestral(CHAIN, predict, x, lambda t: 0 * x).dtype == jnp.float32
    found = ode_samplers.euler(
        lambda x, level: x.astype(jnp.bfloat16) / 2, x, ode_samplers.uniform(3)
    )
    assert found.dtype == jnp.float32


def test_what_is_refused():
    x, path, flow = draw(1), ode_samplers.karras(3, 0.1, 3.0), ode_samplers.uniform(3)
    for eta in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="eta"):
            chain_samplers.ddim(CHAIN, PREDICT, x, lambda t: x, eta)
        with pytest.raises(ValueError, match="eta"):
            ode_samplers.euler(DATA.denoise(False), x, path, lambda t: x, eta)
    for where, churn in ((flow, 1.0), (path, -1.0), (path, float("nan"))):
        with pytest.raises(ValueError, match="churn"):
            ode_samplers.heun(DATA.denoise(where.flow), x, where, lambda t: x, Churn(churn))
    for wrong in ((0, 0.1, 1.0), (3, 0.0, 1.0), (3, 1.0, 1.0), (3, 0.1, 1.0, 0.0)):
        with pytest.raises(ValueError, match="accepted"):
            ode_samplers.karras(*wrong)
    for wrong in ((0, 1.0), (3, 0.0)):
        with pytest.raises(ValueError, match="accepted"):
            ode_samplers.uniform(*wrong)

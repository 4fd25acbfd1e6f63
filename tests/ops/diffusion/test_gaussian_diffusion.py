"""Discrete diffusion: element by element against the original, worked values, and identities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.ops.diffusion import gaussian, gaussian_diffusion, noise_schedules
from gan_jax.ops.diffusion.gaussian_diffusion import Objective
from tests.helpers import golden_rule

LINEAR = noise_schedules.chain("linear", 1000)
SHORT = noise_schedules.chain("cosine", 100, "20")
T = np.array([0, 1, 7, 19])
LEARNED = ("learned", "learned_range")


def _images(*shape: int, count: int, seed: int = 0) -> list[jax.Array]:
    """Images in [-1, 1] first, then noise."""
    random = np.random.default_rng(seed)
    x0 = random.uniform(-1, 1, shape)
    return [jnp.asarray(x) for x in (x0, *(random.normal(size=shape) for _ in range(count - 1)))]


def _elementwise() -> dict[str, np.ndarray]:
    return golden_rule.load("guided_diffusion/losses/elementwise")[1]


def _found(inputs: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {
        "log_probs": gaussian.discretized_log_likelihood(
            inputs["x"], inputs["means"], inputs["log_scales"]
        ),
        "cdf": gaussian.normal_cdf(inputs["z"]),
        "kl": gaussian.kl(inputs["mean1"], inputs["logvar1"], inputs["mean2"], inputs["logvar2"]),
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_element_by_element_as_the_original(dtype):
    golden = _elementwise()
    wide = dtype is np.float64
    with jax.enable_x64(wide):
        inputs = {k[3:]: jnp.asarray(v, dtype) for k, v in golden.items() if k.startswith("in/")}
        far = gaussian.discretized_log_likelihood(
            inputs["x_far"], inputs["means_far"], inputs["log_scales_far"]
        )
        for name, found in _found(inputs).items():
            wanted = golden[f"out/{name}{'_f64' if wide else ''}"]
            assert found.dtype == dtype
            # in doubles only the order of operations differs
            limits = dict(rtol=1e-11, atol=1e-13) if wide else dict(rtol=1e-4, atol=2e-4)
            if name == "cdf":
                limits["atol"] = min(limits["atol"], 1e-6)
            np.testing.assert_allclose(found, wanted, **limits, err_msg=name)
        np.testing.assert_allclose(far, golden["out/log_probs_far"], rtol=1e-6)


def test_the_grey_levels_share_all_probability(double):
    levels = jnp.linspace(-1, 1, 256)[:, None]
    mean, log_scale = jnp.array([[-1.5, -0.3, 0.0, 0.99]]), jnp.array([[-1.0, -3.0, 0.5, -2.0]])
    log_probability = gaussian.discretized_log_likelihood(levels, mean, log_scale)
    np.testing.assert_allclose(jnp.exp(log_probability).sum(0), 1, atol=1e-9)
    grid = jnp.linspace(-4, 4, 81)
    exact = 0.5 * (1 + jax.scipy.special.erf(grid / np.sqrt(2)))
    np.testing.assert_allclose(gaussian.normal_cdf(grid), exact, atol=2e-4)  # Page's accuracy


def test_kl_by_quadrature(double):
    m1, v1, m2, v2 = 0.3, 0.5, -0.4, 2.0
    x = np.linspace(-12, 12, 20001)

    def log_density(mean, variance):
        return -0.5 * ((x - mean) ** 2 / variance + np.log(2 * np.pi * variance))

    integrand = np.exp(log_density(m1, v1)) * (log_density(m1, v1) - log_density(m2, v2))
    found = gaussian.kl(m1, np.log(v1), m2, np.log(v2))
    np.testing.assert_allclose(found, np.sum(integrand) * (x[1] - x[0]), rtol=1e-8)


# cosine of 4000 steps, x0 = linspace(-1, 1), noise 0.5, a network that says 0, t = 0 and 2000
@pytest.mark.parametrize(
    ("loss", "wanted"),
    [
        ("mse", {"vb": [0.333535, 0.000282], "mse": [0.25, 0.25]}),
        ("rescaled_mse", {"vb": [1.334139, 0.001126], "mse": [0.25, 0.25]}),
        ("rescaled_kl", {"loss": [1334.1386, 1.12637]}),
    ],
)
def test_worked_losses(loss, wanted):
    """The term at t = 2000 was made in float32 by a formula that cancels: 1.125018 in doubles."""
    chain = noise_schedules.chain("cosine", 4000)
    x0 = jnp.linspace(-1, 1, 96).reshape(2, 3, 4, 4).transpose(0, 2, 3, 1)
    noise, t = jnp.full_like(x0, 0.5), jnp.array([0, 2000])
    x_t = gaussian_diffusion.q_sample(chain, x0, t, noise)
    found = gaussian_diffusion.losses(
        chain, jnp.zeros((2, 4, 4, 6)), x0, x_t, noise, t,
        Objective("epsilon", "learned_range", loss),
    )  # fmt: skip
    scale = 4000 if loss == "rescaled_kl" else 1
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=2e-6 * scale)


def test_worked_prior():
    found = gaussian_diffusion.prior_bits(LINEAR, jnp.ones((2, 4, 4, 3)))
    np.testing.assert_allclose(found, [2.9112e-5] * 2, rtol=1e-4)


def test_noising_twice_is_noising_once(double):
    """x_t has mean √ᾱ x0 and variance 1 - ᾱ, so step by step and at once agree."""
    x0, noise = _images(1, 2, 2, 3, count=2)
    mean, variance = np.asarray(x0), 0.0
    for beta in SHORT.betas:
        mean, variance = np.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
    last = gaussian_diffusion.q_sample(SHORT, x0, jnp.array([19]), noise)
    np.testing.assert_allclose(last, mean + np.sqrt(variance) * noise, rtol=1e-9)


def _perfect(target: str, x0, x_t, noise, t) -> jax.Array:
    return {
        "epsilon": lambda: noise,
        "start_x": lambda: x0,
        "previous_x": lambda: gaussian_diffusion.posterior_mean(SHORT, x0, x_t, t),
        "v": lambda: gaussian_diffusion.velocity_of(SHORT, x0, noise, t),
    }[target]()


@pytest.mark.parametrize("target", gaussian_diffusion.TARGETS)
def test_a_perfect_output_gives_everything_back(double, target):
    x0, noise = _images(4, 2, 2, 3, count=2)
    t = jnp.asarray(T)
    x_t = gaussian_diffusion.q_sample(SHORT, x0, t, noise)
    output = _perfect(target, x0, x_t, noise, t)
    found = gaussian_diffusion.predict(
        SHORT, output, x_t, t, target=target, variance="fixed_small", clip=False
    )
    np.testing.assert_allclose(found.x0, x0, rtol=1e-8, atol=1e-8)
    wanted = gaussian_diffusion.posterior_mean(SHORT, x0, x_t, t)
    np.testing.assert_allclose(found.mean, wanted, rtol=1e-8, atol=1e-8)
    epsilon = gaussian_diffusion.epsilon_of(SHORT, x_t, t, found.x0)
    np.testing.assert_allclose(epsilon, noise, rtol=1e-7, atol=1e-7)
    terms = gaussian_diffusion.bound_terms(SHORT, found, x0, x_t, noise, t)
    np.testing.assert_allclose(terms["vb"][1:], 0, atol=1e-12)  # nothing left but the grey levels
    np.testing.assert_allclose(terms["xstart_mse"], 0, atol=1e-12)
    np.testing.assert_allclose(terms["mse"], 0, atol=1e-12)
    losses = gaussian_diffusion.losses(
        SHORT, output, x0, x_t, noise, t, Objective(target, "fixed_large")
    )
    np.testing.assert_allclose(losses["mse"], 0, atol=1e-12)


def test_velocity_gives_noise_back(double):
    x0, noise = _images(4, 2, 2, 3, count=2)
    t = jnp.asarray(T)
    x_t, v = (
        gaussian_diffusion.q_sample(SHORT, x0, t, noise),
        gaussian_diffusion.velocity_of(SHORT, x0, noise, t),
    )
    abar = SHORT.alphas_cumprod[T][:, None, None, None]
    np.testing.assert_allclose(np.sqrt(abar) * v + np.sqrt(1 - abar) * x_t, noise, rtol=1e-8)


def test_posterior_is_bayes(double):
    """q(x_{t-1} | x_t, x0) ∝ q(x_t | x_{t-1}) q(x_{t-1} | x0): precisions add."""
    i, x0, x = 7, 0.4, -0.9
    beta, before = SHORT.betas[i], SHORT.alphas_cumprod_prev[i]
    precision = (1 - beta) / beta + 1 / (1 - before)
    mean = (np.sqrt(1 - beta) * x / beta + np.sqrt(before) * x0 / (1 - before)) / precision
    images = [jnp.full((1, 1, 1, 1), value) for value in (x0, x)]
    found = gaussian_diffusion.posterior_mean(SHORT, *images, jnp.array([i]))
    np.testing.assert_allclose(found.item(), mean, rtol=1e-9)
    np.testing.assert_allclose(SHORT.posterior_variance[i], 1 / precision, rtol=1e-9)


def test_the_hook_comes_before_the_clamp(double):
    x, output = _images(4, 2, 2, 3, count=2)
    output = 3 * output
    options = dict(target="start_x", variance="fixed_small")
    t = jnp.asarray(T)

    def halve(x0):
        return x0 / 2

    plain = gaussian_diffusion.predict(SHORT, output, x, t, clip=False, **options)
    np.testing.assert_array_equal(plain.x0, output)
    clipped = gaussian_diffusion.predict(SHORT, output, x, t, hook=halve, **options)
    np.testing.assert_allclose(clipped.x0, np.clip(output / 2, -1, 1))
    np.testing.assert_allclose(
        clipped.mean, gaussian_diffusion.posterior_mean(SHORT, clipped.x0, x, t)
    )
    previous = gaussian_diffusion.predict(
        SHORT, output, x, t, target="previous_x", variance="fixed_small"
    )
    np.testing.assert_array_equal(previous.mean, output)  # not made from the clamped image
    assert np.abs(previous.x0).max() <= 1


def test_variances(double):
    x, output, spread = _images(4, 2, 2, 3, count=3)
    spread, t = 2 * spread, jnp.asarray(T)  # beyond [-1, 1]: not clamped

    def of(variance, output):
        return gaussian_diffusion.predict(SHORT, output, x, t, target="epsilon", variance=variance)

    both = jnp.concatenate([output, spread], axis=-1)
    shape = (4, 1, 1, 1)
    beta, posterior = SHORT.betas[T].reshape(shape), SHORT.posterior_variance[T].reshape(shape)
    clipped = SHORT.posterior_log_variance[T].reshape(shape)

    small = of("fixed_small", output)
    np.testing.assert_allclose(small.variance, np.broadcast_to(posterior, x.shape))
    np.testing.assert_allclose(small.log_variance, np.broadcast_to(clipped, x.shape))
    assert small.variance[0].max() == 0
    np.testing.assert_allclose(small.log_variance[0], np.log(SHORT.posterior_variance[1]))

    large = of("fixed_large", output)
    np.testing.assert_allclose(large.variance[1:], np.broadcast_to(beta, x.shape)[1:])
    np.testing.assert_allclose(large.variance[0], SHORT.posterior_variance[1])
    np.testing.assert_allclose(large.log_variance, np.log(large.variance))

    learned = of("learned", both)
    np.testing.assert_array_equal(learned.log_variance, spread)
    np.testing.assert_allclose(learned.variance, np.exp(spread))

    ranged = of("learned_range", both)
    share = (np.asarray(spread) + 1) / 2
    wanted = share * np.log(beta) + (1 - share) * clipped
    np.testing.assert_allclose(ranged.log_variance, wanted, rtol=1e-10)
    np.testing.assert_allclose(ranged.variance, np.exp(wanted), rtol=1e-10)
    np.testing.assert_array_equal(ranged.mean, learned.mean)


@pytest.mark.parametrize("variance", LEARNED)
@pytest.mark.parametrize("target", gaussian_diffusion.TARGETS)
def test_the_bound_trains_the_variance_alone(double, target, variance):
    """In the mse family no gradient of the bound reaches the mean; in the kl family it does."""
    x0, noise, value, spread = _images(4, 2, 2, 3, count=4)
    t = jnp.asarray(T)
    x_t = gaussian_diffusion.q_sample(SHORT, x0, t, noise)

    def term(output, name, loss):
        found = gaussian_diffusion.losses(
            SHORT, output, x0, x_t, noise, t, Objective(target, variance, loss)
        )
        return found[name].sum()

    output = jnp.concatenate([value, spread], axis=-1)
    gradient = jax.jit(jax.grad(term), static_argnums=(1, 2))
    vb = gradient(output, "vb", "mse")
    np.testing.assert_array_equal(vb[..., :3], 0)
    assert (np.abs(vb[..., 3:]).max(axis=(1, 2, 3)) > 0).all()
    kl = gradient(output, "loss", "kl")
    np.testing.assert_allclose(kl[..., 3:], vb[..., 3:], rtol=1e-9, atol=1e-12)
    # at t = 0 x0 may be so far off that every grey level has the least probability
    assert (np.abs(kl[1:, ..., :3]).max(axis=(1, 2, 3)) > 0).all()
    mse = gradient(output, "mse", "mse")
    np.testing.assert_array_equal(mse[..., 3:], 0)


@pytest.mark.parametrize("variance", gaussian_diffusion.VARIANCES)
def test_losses_are_the_sums_of_their_terms(double, variance):
    x0, noise, value, spread = _images(4, 2, 2, 3, count=4)
    t = jnp.asarray(T)
    x_t = gaussian_diffusion.q_sample(SHORT, x0, t, noise)
    output = jnp.concatenate([value, spread], -1) if variance in LEARNED else value
    options = dict(target="epsilon", variance=variance)
    found = {
        loss: gaussian_diffusion.losses(
            SHORT, output, x0, x_t, noise, t, Objective(loss=loss, **options)
        )
        for loss in gaussian_diffusion.LOSSES
    }
    kl = found["kl"]["loss"]
    prediction = gaussian_diffusion.predict(SHORT, output, x_t, t, clip=False, **options)
    np.testing.assert_array_equal(gaussian_diffusion.bound_bits(SHORT, prediction, x0, x_t, t), kl)
    np.testing.assert_allclose(found["rescaled_kl"]["loss"], 20 * kl)
    for loss, factor in (("mse", 1), ("rescaled_mse", 20 / 1000)):
        terms = found[loss]
        assert all(value.shape == (4,) for value in terms.values())
        np.testing.assert_allclose(terms["mse"], np.mean((noise - value) ** 2, axis=(1, 2, 3)))
        assert ("vb" in terms) == (variance in LEARNED)
        bound = factor * kl if variance in LEARNED else 0
        np.testing.assert_allclose(terms["loss"], terms["mse"] + bound)


def test_the_bound_of_a_wrong_mean(double):
    """With equal variances the divergence is (miss)²/(2 variance)."""
    x0, noise = _images(4, 2, 2, 3, count=2)
    t = jnp.asarray(T)
    x_t = gaussian_diffusion.q_sample(SHORT, x0, t, noise)
    output = gaussian_diffusion.posterior_mean(SHORT, x0, x_t, t) + 0.01
    objective = Objective("previous_x", "fixed_small", "kl")
    found = gaussian_diffusion.losses(SHORT, output, x0, x_t, noise, t, objective)["loss"]
    wanted = 0.01**2 / (2 * SHORT.posterior_variance[T][1:]) / np.log(2)
    np.testing.assert_allclose(found[1:], wanted, rtol=1e-9)


@pytest.mark.parametrize("gamma", [0.5, 5.0])
def test_min_snr_weighs_the_error_of_the_image(double, gamma):
    """Whatever the target, the loss is min(SNR, γ)·(miss of x0)²: all three agree."""
    x0, noise, off = _images(4, 2, 2, 3, count=3)
    t = jnp.asarray(T)
    x_t = gaussian_diffusion.q_sample(SHORT, x0, t, noise)
    wrong = x0 + 0.1 * off
    epsilon = gaussian_diffusion.epsilon_of(SHORT, x_t, t, wrong)
    outputs = {
        "start_x": wrong,
        "epsilon": epsilon,
        "v": gaussian_diffusion.velocity_of(SHORT, wrong, epsilon, t),
    }
    abar = SHORT.alphas_cumprod[T]
    weight = np.minimum(abar / (1 - abar), gamma)
    wanted = weight * np.mean((0.1 * off) ** 2, axis=(1, 2, 3))
    for target, output in outputs.items():
        found = gaussian_diffusion.losses(
            SHORT, output, x0, x_t, noise, t,
            Objective(target, "fixed_small", "mse", gamma),
        )  # fmt: skip
        np.testing.assert_allclose(found["mse"], wanted, rtol=1e-7, err_msg=target)
        np.testing.assert_array_equal(found["loss"], found["mse"])


def test_examples_do_not_touch_each_other_and_keep_their_type():
    """In float32, under jit, with t of its own for each; one at a time gives the same."""
    x0, noise, value, spread = (x.astype(np.float32) for x in _images(4, 2, 2, 3, count=4))
    output = jnp.concatenate([value, spread], axis=-1)

    @jax.jit
    def of(output, x0, noise, t):
        x_t = gaussian_diffusion.q_sample(LINEAR, x0, t, noise)
        options = dict(target="epsilon", variance="learned_range")
        found = gaussian_diffusion.predict(LINEAR, output, x_t, t, **options)
        losses = gaussian_diffusion.losses(
            LINEAR, output, x0, x_t, noise, t, Objective(loss="rescaled_mse", **options)
        )
        terms = gaussian_diffusion.bound_terms(LINEAR, found, x0, x_t, noise, t)
        return found, losses, terms, gaussian_diffusion.prior_bits(LINEAR, x0)

    t = jnp.array([0, 1, 500, 999])
    together = of(output, x0, noise, t)
    assert {leaf.dtype for leaf in jax.tree.leaves(together)} == {np.dtype(np.float32)}
    for i in range(4):
        alone = of(*(a[i : i + 1] for a in (output, x0, noise, t)))
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[0], b[i], rtol=1e-5, atol=1e-6),
            alone,
            together,
        )


def test_half_precision_outputs_are_widened():
    x, output = (x.astype(np.float32) for x in _images(4, 2, 2, 3, count=2))
    found = gaussian_diffusion.predict(
        SHORT, output.astype(jnp.bfloat16), x, jnp.asarray(T), target="v", variance="fixed_large"
    )
    assert {value.dtype for value in found} == {np.dtype(np.float32)}


def test_options_that_are_refused():
    gaussian_diffusion.check("v", "learned_range", "rescaled_mse", 5.0)
    for options, message in (
        (("noise", "learned"), 'target "noise": accepted are epsilon, start_x, previous_x, v'),
        (("v", "big"), 'variance "big": accepted are fixed_large, fixed_small, learned, learned'),
        (("v", "learned", "l1"), 'loss "l1": accepted are mse, rescaled_mse, kl, rescaled_kl'),
        (("v", "learned", "mse", -1.0), "min_snr -1.0: accepted are 0"),
        (("v", "learned", "mse", float("nan")), "min_snr nan: accepted are 0"),
        (("previous_x", "learned", "mse", 5.0), "min_snr 5.0 with target previous_x"),
        (("epsilon", "learned", "kl", 5.0), "min_snr 5.0 with target epsilon and loss kl"),
    ):
        with pytest.raises(UserError) as error:
            gaussian_diffusion.check(*options)
        assert str(error.value).startswith(message)
        assert "\n" not in str(error.value)


def test_an_output_of_another_width():
    x, t = jnp.zeros((1, 2, 2, 3)), jnp.array([0])
    for variance, channels in (("learned", 3), ("fixed_small", 6)):
        with pytest.raises(ValueError, match=f"variance {variance} takes"):
            gaussian_diffusion.predict(
                SHORT, jnp.zeros((1, 2, 2, channels)), x, t, target="epsilon", variance=variance
            )

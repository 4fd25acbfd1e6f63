"""Discrete diffusion around a U-Net, against the original: what its output predicts, the losses of
every combination with the gradients of some, and the variational bound."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from gan_jax.interop import guided_diffusion
from gan_jax.models import unet
from gan_jax.ops.diffusion import gaussian_diffusion, noise_schedules
from gan_jax.ops.diffusion.gaussian_diffusion import Objective
from tests.helpers import golden_rule

CHAINS = ("linear1000", "cosine100_r20_rescaled")
LEARNED = ("learned", "learned_range")


class Case(NamedTuple):
    """A golden file and the images that go in, [B, H, W, C]."""

    meta: dict
    golden: dict[str, np.ndarray]
    chain: noise_schedules.Chain
    x0: np.ndarray
    noise: np.ndarray
    x_t: jax.Array
    t: np.ndarray


def _nhwc(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, 1, -1)


@cache
def _case(path: str) -> Case:
    meta, golden = golden_rule.load(f"guided_diffusion/{path}")
    options = meta["options"]
    chain = noise_schedules.chain(
        options["schedule"], options["T0"], options["respacing"] or "", options["rescale"]
    )
    x0, noise, t = _nhwc(golden["in/x_start"]), _nhwc(golden["in/noise"]), golden["in/t"]
    x_t = gaussian_diffusion.q_sample(chain, jnp.asarray(x0), jnp.asarray(t), jnp.asarray(noise))
    return Case(meta, golden, chain, x0, noise, x_t, t)


def _network(width: int, outputs: int, classes: int = 0):
    """The U-Net of these files: one level of 8 x 8 with attention, one residual block."""
    model = ConfigDict(unet.defaults())
    model.update(
        num_channels=width, num_res_blocks=1, channel_mult=(1,), attention_resolutions=(8,),
        num_heads=2, class_cond=bool(classes),
    )  # fmt: skip
    return unet.unet(model, 8, 3, outputs, classes)


@cache
def _functions(outputs: int):
    """(forward, pullback), compiled once for all files: they share the network and its weights."""
    net = _network(64, outputs)

    def forward(params, x, time):
        return net.apply(params, {}, x, time)[0]

    def pullback(params, x, time, cotangent):
        return jax.vjp(lambda p: forward(p, x, time), params)[1](cotangent)[0]

    return jax.jit(forward), jax.jit(pullback)


@cache
def _params(path: str, outputs: int):
    weights = golden_rule.weights(_case(path).meta, f"state_dict_{outputs}ch")
    return guided_diffusion.to_trees(weights)[0]


@cache
def _output(path: str, variance: str) -> jax.Array:
    case, outputs = _case(path), 6 if variance in LEARNED else 3
    time = jnp.asarray(case.chain.model_times[case.t], jnp.float32)
    return _functions(outputs)[0](_params(path, outputs), case.x_t, time)


@pytest.mark.parametrize("variance", gaussian_diffusion.VARIANCES)
@pytest.mark.parametrize("target", ["epsilon", "start_x", "previous_x"])
@pytest.mark.parametrize("name", CHAINS)
def test_predictions(name, target, variance):
    path = f"losses/pmv_{name}"
    case = _case(path)
    np.testing.assert_allclose(case.x_t, _nhwc(case.golden["out/x_t"]), rtol=1e-4, atol=5e-5)
    far = {
        "epsilon": np.sqrt(1 / case.chain.alphas_cumprod - 1),
        "start_x": np.ones(1),
        "previous_x": case.chain.posterior_mean_coef2 / case.chain.posterior_mean_coef1,
    }[target].max()
    for clip in (True, False):
        found = gaussian_diffusion.predict(
            case.chain, _output(path, variance), case.x_t, case.t,
            target=target, variance=variance, clip=clip,
        )  # fmt: skip
        key = f"out/{target}.{variance}.{'clip' if clip else 'noclip'}"
        mean = _nhwc(case.golden[f"{key}/mean"])
        atol = 5e-5 if clip else max(5e-5, 1e-5 * np.abs(mean).max())
        np.testing.assert_allclose(found.mean, mean, rtol=1e-4, atol=atol)
        x0 = _nhwc(case.golden[f"{key}/pred_xstart"])
        np.testing.assert_allclose(found.x0, x0, rtol=1e-4, atol=max(1e-3, 1e-5 * far))
        # the variance does not depend on clipping and is stored once
        raw = variance == "learned"
        limits = dict(rtol=1e-4, atol=5e-5) if raw else dict(rtol=1e-5, atol=1e-6)
        for field in ("variance", "log_variance"):
            stored = _nhwc(case.golden[f"out/{target}.{variance}.noclip/{field}"])
            wanted = np.broadcast_to(stored, case.x0.shape)
            np.testing.assert_allclose(getattr(found, field), wanted, **limits, err_msg=field)


@pytest.mark.parametrize("loss", gaussian_diffusion.LOSSES)
@pytest.mark.parametrize("variance", gaussian_diffusion.VARIANCES)
@pytest.mark.parametrize("target", ["epsilon", "start_x", "previous_x"])
@pytest.mark.parametrize("name", CHAINS)
def test_losses(name, target, variance, loss):
    path = f"losses/losses_{name}"
    case = _case(path)
    key = f"out/{target}.{variance}.{loss}/"
    wanted = {
        term.removeprefix(key): value
        for term, value in case.golden.items()
        if term.startswith(key) and "grad_norm" not in term
    }
    found = gaussian_diffusion.losses(
        case.chain, _output(path, variance), case.x0, case.x_t, case.noise, case.t,
        Objective(target, variance, loss),
    )  # fmt: skip
    assert found.keys() == wanted.keys()
    later = case.t > 0
    scale = case.chain.steps if loss == "rescaled_kl" else 1
    # at t = 0 single elements near the least probability decide
    on_the_floor = target != "epsilon" and variance != "learned"
    first = dict(rtol=1e-2 if on_the_floor else 2e-3, atol=1e-4)
    for term, values in wanted.items():
        exact = dict(rtol=1e-4, atol=2e-6 * scale, err_msg=term)
        np.testing.assert_allclose(found[term][later], values[later], **exact)
        limits = exact if term == "mse" else first
        np.testing.assert_allclose(found[term][~later], values[~later], **limits)


@pytest.mark.parametrize(
    ("target", "variance", "loss"),
    [
        ("start_x", "fixed_large", "mse"),
        ("start_x", "learned_range", "rescaled_mse"),
        ("epsilon", "learned_range", "mse"),
        ("epsilon", "learned_range", "rescaled_mse"),
        ("epsilon", "learned_range", "rescaled_kl"),
    ],
)
@pytest.mark.parametrize("name", CHAINS)
def test_gradients_of_losses(name, target, variance, loss):
    """They tell whether the bound reaches the mean."""
    path, key = f"losses/losses_{name}", f"{target}.{variance}.{loss}"
    case, outputs = _case(path), 6 if variance in LEARNED else 3

    def mean_loss(output):
        found = gaussian_diffusion.losses(
            case.chain, output, case.x0, case.x_t, case.noise, case.t,
            Objective(target, variance, loss),
        )  # fmt: skip
        return jnp.mean(found["loss"])

    cotangent = jax.grad(mean_loss)(_output(path, variance))
    time = jnp.asarray(case.chain.model_times[case.t], jnp.float32)
    gradient = _functions(outputs)[1](_params(path, outputs), case.x_t, time, cotangent)
    named = guided_diffusion.from_trees(jax.device_get(gradient), {})
    norms = {k: np.linalg.norm(value.astype(np.float64)) for k, value in named.items()}
    whole = np.sqrt(np.sum(np.square(list(norms.values()))))
    np.testing.assert_allclose(whole, case.golden[f"out/{key}/grad_norm_global"], rtol=1e-3)
    skip = case.meta["negligible_gradient_tensors"][key]
    golden_rule.compare(norms, case.golden, f"out/{key}/grad_norm", skip, 1e-3, 1e-5)


def test_bound_of_a_whole_chain():
    """The terms of every step in the original's order, from the noisiest to the first."""
    meta, golden = golden_rule.load("guided_diffusion/samplers/calc_bpd")
    options = meta["options"]["diffusion"]
    chain = noise_schedules.chain(
        options["noise_schedule"], options["steps"], options["timestep_respacing"]
    )
    params = guided_diffusion.to_trees(golden_rule.weights(meta, "state_dict"))[0]
    x0, net = jnp.asarray(_nhwc(golden["in/x_start"])), _network(32, 6, classes=10)
    times = jnp.asarray(chain.model_times, jnp.float32)

    @jax.jit
    def terms(params, t, noise):
        x_t = gaussian_diffusion.q_sample(chain, x0, t, noise)
        output = net.apply(params, {}, x_t, times[t], jnp.asarray(golden["in/y"]))[0]
        predictions = {
            name: gaussian_diffusion.predict(
                chain, output, x_t, t, target="epsilon", variance="learned_range", clip=clip
            )
            for name, clip in (("clip", True), ("noclip", False))
        }
        return {
            name: gaussian_diffusion.bound_terms(chain, prediction, x0, x_t, noise, t)
            for name, prediction in predictions.items()
        }

    steps = [
        terms(params, jnp.full(len(x0), t), jnp.asarray(_nhwc(noise)))
        for t, noise in zip(reversed(range(chain.steps)), golden["in/noise"], strict=True)
    ]
    prior = gaussian_diffusion.prior_bits(chain, x0)
    for name in ("clip", "noclip"):
        found = {k: np.stack([step[name][k] for step in steps], axis=1) for k in steps[0][name]}
        for term, limits in (
            ("vb", dict(rtol=2e-3, atol=1e-4)),
            ("xstart_mse", dict(rtol=1e-4, atol=1e-5)),
            ("mse", dict(rtol=1e-4, atol=1e-5)),
        ):
            wanted = golden[f"out/{name}/{term}"]
            np.testing.assert_allclose(found[term], wanted, **limits, err_msg=f"{name} {term}")
        np.testing.assert_allclose(prior, golden[f"out/{name}/prior_bpd"], rtol=1e-4, atol=1e-9)
        total = found["vb"].sum(axis=1) + prior
        np.testing.assert_allclose(total, golden[f"out/{name}/total_bpd"], rtol=2e-3, atol=1e-4)

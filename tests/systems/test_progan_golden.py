"""Losses, gradients and training steps of ProGAN against the original's numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.core import ema, loss_scale
from gan_jax.core.system import Stage, new_state
from gan_jax.models import progan as networks
from tests.helpers import progan_golden
from tests.helpers.golden_rule import load

LOSSES = ["losses_r16_l0", "losses_r16_l3", "losses_r16_l3_unfused"]
STEPS = ["trainstep_r16_l0_lod0", "trainstep_r16_l3_lod0.6", "trainstep_r16_l0_growth"]


# One unit of the generator's 16x16 layer lies at 1.1e-7 on its first latents, in doubles, where the
# layer's values have a standard deviation of 1.5: whether LeakyReLU sees it above or below zero is
# for the rounding of a float32 sum to say. The original saw it below. Its one kink changes the
# gradients of the layers under it by 1e-3, and Adam's first step makes signs of gradients. A bias
# lower by 2e-6 takes the unit to the original's side: sums of weights then agree to 3e-4 of their
# norm instead of 5e-2. (layer, channel, what is added to its bias)
KINKS = {"trainstep_r16_l0_lod0": ("block16_conv0", 10, -2e-6)}


def place(meta: dict, lod: float) -> tuple[int, np.float32]:
    """Side and fade at a level of detail."""
    level = int(np.floor(lod))
    return meta["options"]["resolution"] >> level, np.float32(lod - level)


def on_the_originals_side(params: dict, file: str) -> dict:
    """The generator's parameters, moved by the rounding that KINKS names."""
    if file in KINKS:
        layer, channel, change = KINKS[file]
        bias = params[layer]["bias"].copy()
        bias[channel] += np.float32(change)
        params = {**params, layer: {**params[layer], "bias": bias}}
    return params


def begun(system, meta: dict, batch, stage, file: str = ""):
    """The state at the weights of the rule."""
    shapes = jax.eval_shape(lambda k: system.init(k, batch, stage), jax.random.key(0))
    nets = {}
    for name, net in (("gen", "G"), ("disc", "D")):
        params = progan_golden.params(meta, net)
        params = on_the_originals_side(params, file) if net == "G" else params
        params = jax.tree.map(jnp.asarray, params)
        opt = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes.nets[name].opt)
        opt = opt._replace(scale=jnp.ones((), jnp.float32))
        if "ema" in opt.inner:
            average = opt.inner["ema"]._replace(params=(jax.tree.map(jnp.array, params),))
            opt = opt._replace(inner={**opt.inner, "ema": average})
        nets[name] = shapes.nets[name].replace(params=params, opt=opt)
    zero = jnp.zeros((), jnp.int32)
    return new_state(nets, {"skipped": {"gen": zero, "disc": zero}})


def batch_of(meta: dict, arrays: dict, lod: float, step: int | None = None) -> dict:
    side, fade = place(meta, lod)

    def given(name):
        return arrays[f"in/{name}"] if step is None else arrays[f"in/{name}"][step]

    return {
        "real": progan_golden.images(given("reals"), side),
        "z_disc": given("d_latents"),
        "z_gen": given("g_latents"),
        "label": given("d_labels"),
        "label_gen": given("g_labels"),
        "mixing": given("mixing"),
        "fade": fade,
    }


def total(metrics: dict, names: tuple[str, ...]) -> float:
    return sum(float(metrics[n]) for n in names if n in metrics)


DISC = ("loss/disc", "loss/gradient_penalty", "loss/drift", "loss/disc_label")
GEN = ("loss/gen", "loss/gen_label")


def same_statistics(found, golden, rtol, share, name):
    """L2 by `rtol`, the others within `share` of L2."""
    np.testing.assert_allclose(found[:, 0], golden[:, 0], rtol=rtol, atol=1e-9, err_msg=name)
    atol = share * golden[:, :1] + 1e-9
    assert (np.abs(found[:, 1:] - golden[:, 1:]) <= atol).all(), name


@functools.cache
def loss_step(file: str, target: float):
    meta, arrays = load(f"progan/{file}")
    o = meta["options"]
    loss = dict(
        target=target, gradient_penalty=o["wgan_lambda"], drift=o["wgan_epsilon"],
        label_weight=o["cond_weight"],
    )  # fmt: skip
    frozen = dict(lr=0.0)  # the generator's gradient is at the discriminator's first weights
    system = progan_golden.system(meta, loss=loss, optim__disc=frozen, optim__gen=frozen)
    return meta, arrays, system, jax.jit(system.train_step, static_argnums=3)


@pytest.mark.parametrize("target", [1.0, 750.0])
@pytest.mark.parametrize("file", LOSSES)
def test_losses_and_gradients(file, target):
    meta, arrays, system, step = loss_step(file, target)
    number = list(arrays["in/targets"]).index(target)
    for row, lod in enumerate(arrays["in/lods"]):
        batch = batch_of(meta, arrays, float(lod))
        stage = Stage(place(meta, float(lod))[0], 8, 0, 1)
        state, metrics = step(begun(system, meta, batch, stage), batch, jax.random.key(0), stage)
        close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
        close(total(metrics, DISC), arrays["out/D_loss"][row, number])
        close(total(metrics, GEN), arrays["out/G_loss"][row])
        close(metrics["score/real"], arrays["out/term_real_scores"][row].mean())
        close(metrics["score/fake"], arrays["out/term_fake_scores"][row].mean())
        close(metrics["gradient_norm/mixed"], arrays["out/term_mixed_norms"][row].mean())
        golden = {n: arrays[f"out/{n}_grad_stats"][row] for n in ("D", "G")}
        golden["D"] = golden["D"][number]
        for name, net in (("gen", "G"), ("disc", "D")):
            grads = loss_scale.links(state.nets[name].opt)["moments"].mu  # β₁ is 0
            found = progan_golden.statistics(grads, meta, net)
            same_statistics(found, golden[net], 2e-3, 2e-3, f"{net} at lod {lod}")
            unused = golden[net][:, 0] == 0
            assert (found[unused] == 0).all()


@pytest.mark.parametrize("file", STEPS)
def test_training_steps(file):
    meta, arrays = load(f"progan/{file}")
    o = meta["options"]
    assert (o["beta1"], o["beta2"], o["epsilon"]) == (0.0, 0.99, 1e-8)
    gen = dict(lr=o["lr"], ema=(o["G_smoothing"],))
    system = progan_golden.system(meta, optim__gen=gen, optim__disc=dict(lr=o["lr"]))
    step = jax.jit(system.train_step, static_argnums=3)
    batch = batch_of(meta, arrays, o["lods"][0], 0)
    state = begun(system, meta, batch, system.stages[0], file)
    first = {n: progan_golden.params(meta, n) for n in ("G", "D")}
    first["G"] = on_the_originals_side(first["G"], file)
    flags = arrays.get("out/opt_reset_before_step")
    for i, lod in enumerate(o["lods"]):
        stage = Stage(place(meta, lod)[0], 8, 0, 1)
        if flags is not None and flags[i]:
            state = system.enter_stage(state, stage)
        state, metrics = step(state, batch_of(meta, arrays, lod, i), jax.random.key(0), stage)
        np.testing.assert_allclose(total(metrics, DISC), arrays["out/D_loss"][i], rtol=2e-4)
        np.testing.assert_allclose(total(metrics, GEN), arrays["out/G_loss"][i], rtol=2e-4)
        averages = ema.averaged(state.nets["gen"])[0]
        for net, tree in (
            ("G", state.nets["gen"].params),
            ("D", state.nets["disc"].params),
            ("Gs", averages),
        ):
            own = net[0]
            delta = jax.tree.map(lambda a, b: np.asarray(a, np.float64) - b, tree, first[own])
            found = progan_golden.statistics(delta, meta, own)
            golden = arrays[f"out/delta_{net}"][i]
            l2 = golden[:, 0]
            np.testing.assert_allclose(found[:, 0], l2, rtol=5e-3, atol=1e-9, err_msg=net)
            assert (np.abs(found[:, 1] - golden[:, 1]) <= 1e-2 * l2 + 1e-9).all(), net
            limit = 1e-2 * o["lr"] * (i + 1)
            assert np.abs(found[:, 2:] - golden[:, 2:]).max() <= limit, net
            norms = progan_golden.statistics(tree, meta, own)[:, 0]
            np.testing.assert_allclose(norms, arrays[f"out/params_{net}"][i], rtol=1e-5)
            assert (found[golden[:, 0] == 0] == 0).all(), net  # levels out of use do not drift
        for name, net in (("gen", "G"), ("disc", "D")):
            second = loss_scale.links(state.nets[name].opt)["moments"].nu
            found = progan_golden.statistics(second, meta, net)[:, 0]
            np.testing.assert_allclose(found, arrays[f"out/adam_v_l2_{net}"][i], rtol=1e-2)
    side, fade = place(meta, o["lods"][-1])
    gen, _ = networks.build(
        progan_golden.config(meta).model, o["resolution"], o["num_channels"], o["label_size"]
    )
    z, label = arrays["in/probe_latents"], arrays["in/probe_labels"]
    draw = jax.jit(lambda p: gen.apply(p, {}, z, label, side, fade)[0])
    for net, params in (("G", state.nets["gen"].params), ("Gs", averages)):
        probe = progan_golden.images(arrays[f"out/probe_{net}"], side)
        np.testing.assert_allclose(draw(params), probe, atol=2e-3)


def test_the_unit_at_its_kink_is_one_that_rounding_decides():
    """What KINKS says of it, in doubles."""
    ((file, (layer, channel, change)),) = KINKS.items()
    meta, arrays = load(f"progan/{file}")
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.float64, progan_golden.params(meta, "G"))
        gen = networks.Generator(resolution=16, fmap_base=128, fmap_max=32, fused=True)
        z, label = jnp.float64(arrays["in/g_latents"][0]), jnp.zeros((8, 0))
        _, seen = gen.apply({"params": params}, z, label, 16, 0.0, capture_intermediates=True)
    values = np.asarray(seen["intermediates"][layer]["__call__"][0])
    nearest = np.unravel_index(np.abs(values).argmin(), values.shape)
    assert nearest[-1] == channel
    assert abs(values[nearest]) < 2e-7
    assert abs(change) < 2e-6 * values.std()

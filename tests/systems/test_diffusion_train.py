"""Training steps of the diffusion system: the original's five steps, and what a step promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.core import ema, loss_scale, optim
from gan_jax.interop import guided_diffusion
from gan_jax.systems import diffusion
from tests.helpers.golden_rule import load, weights
from tests.helpers.small_steps import doubles
from tests.helpers.tiny_diffusion import (
    BATCH,
    FACTS,
    filled,
    stage_of,
    stepper,
    tiny_config,
    with_weights,
    zeros_like_init,
)


def pixels(x: np.ndarray) -> np.ndarray:
    """What `images.to_unit` brings back to x [B, C, H, W]: [B, H, W, C] in 0..255, not rounded."""
    return np.moveaxis(x, 1, -1).astype(np.float64) * 127.5 + 127.5


GOLDEN = {
    "plain": dict(class_cond=False, num_channels=64, num_res_blocks=1, attention=(8,), heads=2),
    "microbatch_decay_anneal_cond": dict(
        class_cond=True, num_channels=64, num_res_blocks=1, attention=(8,), heads=2
    ),
    "checkpoint": dict(
        class_cond=False, num_channels=32, num_res_blocks=0, attention=(), heads=1
    ),
}  # fmt: skip


def golden_config(name: str, meta: dict, rates: np.ndarray):
    options, given = meta["options"], GOLDEN[name]
    learns = options["diffusion"].get("learn_sigma", False)
    config = tiny_config(
        batch_size=4,
        microbatches=options["batch"] // options["microbatch"],
        model=dict(
            num_channels=given["num_channels"], num_res_blocks=given["num_res_blocks"],
            channel_mult=(1,), attention_resolutions=given["attention"], num_heads=given["heads"],
            num_head_channels=0, norm_groups=32, class_cond=given["class_cond"],
        ),
        discrete=dict(
            schedule="linear", respacing=options["diffusion"].get("timestep_respacing", ""),
            variance="learned_range" if learns else "fixed_large",
            loss="rescaled_mse" if "rescale_learned_sigmas" in options["diffusion"] else "mse",
        ),
    )  # fmt: skip
    config.sampling.steps = config.discrete.respacing
    section = config.optim.unet
    section.update(lr=options["lr"], weight_decay=options["weight_decay"])
    section.update(ema=tuple(options["ema_rates"]), ema_warmup=False)
    factors = tuple(float(f) for f in rates[1:] / rates[:-1])
    boundaries = tuple(range(1, len(rates)))
    section.schedule.update(
        name="piecewise_constant", unit="steps", boundaries=boundaries, factors=factors
    )
    return config


def rows(tree) -> dict[str, np.ndarray]:
    return guided_diffusion.from_trees(jax.device_get(tree), {})


def l2(tensors: dict) -> dict[str, float]:
    return {k: float(np.linalg.norm(np.asarray(v, np.float64))) for k, v in tensors.items()}


@pytest.fixture(scope="module")
def plain():
    """A system that learns fast and ends at the second update that is not finite: the system, a
    state and its compiled step."""
    config = tiny_config(diffusion=dict(skip_limit=1), optim=dict(unet=dict(lr=1e-2)))
    system = diffusion.make(config, FACTS)
    return system, filled(system), stepper(system)


@pytest.fixture(scope="module")
def remembering():
    """The same of a system that draws levels by their losses."""
    config = tiny_config(discrete=dict(timestep_sampler="loss_second_moment", steps=40))
    system = diffusion.make(config, FACTS)
    return system, filled(system), stepper(system)


class Original:
    """The original's five steps: its file, our config for them, and which tensors to compare."""

    def __init__(self, name: str):
        self.meta, self.golden = load(f"guided_diffusion/trainstep/{name}")
        self.config = golden_config(name, self.meta, self.golden["out/lr_used"])
        self.classes = 10 if self.config.model.class_cond else 0
        self.decays = self.meta["options"]["ema_rates"]
        self.names = [str(n) for n in self.golden["out/param_names"]]
        skipped = set(self.meta.get("negligible_gradient_tensors", ()))
        self.skipped = skipped | {n for n in self.names if n.endswith("qkv.bias")}

    def state(self, system):
        batch = {"image": np.zeros((4, 8, 8, 3), np.uint8), "label": np.zeros(4, np.int32)}
        params, _ = guided_diffusion.to_trees(weights(self.meta, "state_dict"))
        return with_weights(zeros_like_init(system, batch), params)

    def batch(self, i: int) -> dict[str, np.ndarray]:
        """What the original drew for step i."""
        golden = self.golden
        noise, label = golden["in/noise"][i].reshape(4, 3, 8, 8), np.zeros(4, np.int32)
        return {
            "image": pixels(golden["in/x"][i]),
            "label": golden["in/y"][i].astype(np.int32) if self.classes else label,
            "level": golden["in/t"][i].reshape(4).astype(np.int32),
            "weight": golden["in/weights"][i].reshape(4),
            "noise": np.moveaxis(noise, 1, -1),
        }

    def check(self, found, key, i, rtol, share=0.0):
        """Norms by tensor against those of step i."""
        expected = self.golden[key][i]
        atol = share * float(np.linalg.norm(expected))
        for tensor, value in zip(self.names, expected, strict=True):
            if tensor not in self.skipped:
                np.testing.assert_allclose(
                    found[tensor], value, rtol=rtol, atol=atol, err_msg=f"{key} {tensor}"
                )

    def check_metrics(self, metrics, i):
        golden, rtol = self.golden, 1e-4 if i == 0 else 5e-4
        for ours, theirs in (("unet", "loss"), ("mse", "mse"), ("vb", "vb")):
            if f"out/{theirs}" in golden and f"loss/{ours}" in metrics:
                np.testing.assert_allclose(
                    metrics[f"loss/{ours}"], golden[f"out/{theirs}"][i], rtol=rtol, atol=1e-5
                )
        # the original sums the gradients of its microbatches
        norm = self.config.microbatches * metrics["grad_norm/unet"]
        np.testing.assert_allclose(norm, golden["out/grad_norm"][i], rtol=rtol, atol=1e-5)
        np.testing.assert_allclose(metrics["rate/unet"], golden["out/lr_used"][i], rtol=1e-6)

    def check_final(self, net):
        """Every element of the weights and of their averages after the last step."""
        found = {"": rows(net.params)}
        for index, decay in enumerate(self.decays):
            found[f"_ema{decay}"] = rows(ema.averaged(net, index)[0])
        for suffix, tensors in found.items():
            for tensor in self.names:
                key = f"out/final{suffix}/{tensor}"
                if key in self.golden and tensor not in self.skipped:
                    np.testing.assert_allclose(
                        tensors[tensor], self.golden[key], rtol=1e-4, atol=3e-5, err_msg=key
                    )


def walk(original: Original, steps: int, double: bool):
    """Checks so many steps against the original's, one after the other: the state after them."""
    with jax.enable_x64(double):
        facts = FACTS._replace(num_classes=original.classes)
        system = diffusion.make(original.config, facts)
        given = doubles if double else lambda tree: tree
        state, step = given(original.state(system)), stepper(system)
        start, parts = rows(state.nets["unet"].params), original.config.microbatches
        for i in range(steps):
            before = optim.global_norm(state.nets["unet"].params)
            np.testing.assert_allclose(
                before, original.golden["out/param_norm"][i], rtol=1e-4, atol=1e-5
            )
            state, metrics = step(state, given(original.batch(i)), jax.random.key(0))
            original.check_metrics(metrics, i)
            net = state.nets["unet"]
            now = rows(net.params)
            assert all(x.dtype == (np.float64 if double else np.float32) for x in now.values())
            if i == 0:  # Adam's first moment is a tenth of the first gradient
                moments = loss_scale.links(net.opt)["moments"].mu
                grads = l2(rows(jax.tree.map(lambda m: 10 * parts * np.asarray(m), moments)))
                original.check(grads, "out/param_grad_l2", 0, 1e-3, 1e-5)
            original.check(l2(now), "out/param_l2", i, 1e-4)
            change = l2({k: now[k] - start[k] for k in now})
            original.check(change, "out/param_change_l2", i, 1e-3, 1e-5)
            for index, decay in enumerate(original.decays):
                average = l2(rows(ema.averaged(net, index)[0]))
                original.check(average, f"out/ema{decay}_l2", i, 1e-4)
        return state


@pytest.mark.parametrize("name", GOLDEN)
def test_five_steps_are_the_originals(name):
    """In doubles, which differ from the file by a fifth of what is allowed at most. In float32 Adam
    makes up to 4e-5 of the rounding of a gradient near zero, by how the step was compiled."""
    original = Original(name)
    state = walk(original, 5, double=True)
    with jax.enable_x64(True):
        original.check_final(state.nets["unet"])


@pytest.mark.parametrize("name", GOLDEN)
def test_the_first_step_is_the_originals_in_single_precision(name):
    walk(Original(name), 1, double=False)


def test_microbatches_are_one_batch():
    found = []

    def double(x):
        return x.astype(jnp.float64) if x.dtype == jnp.float32 else x

    with jax.enable_x64(True):
        for parts in (1, 4):
            system = diffusion.make(tiny_config(microbatches=parts), FACTS)
            state = filled(system)
            state = jax.tree.map(double, state)
            batch = {**BATCH, "image": BATCH["image"].astype(np.float64)}
            found.append(stepper(system)(state, batch, jax.random.key(3)))
    (one, metrics), (many, others) = found
    for name in metrics:
        np.testing.assert_allclose(metrics[name], others[name], rtol=1e-6, err_msg=name)
    moments = [loss_scale.links(s.nets["unet"].opt)["moments"].mu for s in (one, many)]
    for a, b in zip(*map(jax.tree.leaves, moments), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12)


def test_the_history_of_levels_is_part_of_the_state(remembering):
    _, state, step = remembering
    given = {**BATCH, "level": np.repeat(np.arange(4, dtype=np.int32), 2)}
    state, metrics = step(state, given, jax.random.key(0))
    seen = np.asarray(state.extra["levels"]["seen"])
    np.testing.assert_array_equal(seen[:4], 2)
    np.testing.assert_array_equal(seen[4:], 0)
    # unweighted losses: their mean over equal weights is the step's
    stored = np.asarray(state.extra["levels"]["losses"])[:4, :2]
    np.testing.assert_allclose(stored.mean(), metrics["loss/unet"], rtol=1e-5)
    # warm: levels are drawn by their losses, and weighted so that the mean stays
    losses = np.where(np.arange(40)[:, None] == 7, 50.0, 1e-3) * np.ones((40, 10), np.float32)
    levels = {"losses": jnp.asarray(losses, jnp.float32), "seen": jnp.full(40, 10, jnp.int32)}
    state = state.replace(extra={**state.extra, "levels": levels})
    after, _ = step(state, BATCH, jax.random.key(1))
    assert int(after.extra["levels"]["seen"][7]) >= 17


def test_classes_are_dropped_with_the_share_that_is_asked_for():
    """Where all are dropped the embedding has no gradient; where none is, it has."""
    for share, learns in ((0.0, True), (0.999999, False)):
        config = tiny_config(model=dict(class_cond=True), diffusion=dict(label_dropout=share))
        system = diffusion.make(config, FACTS)
        state, _ = stepper(system)(filled(system), BATCH, jax.random.key(0))
        moments = loss_scale.links(state.nets["unet"].opt)["moments"].mu["label_emb"]["embedding"]
        assert bool(jnp.any(moments != 0)) == learns


def test_updates_that_are_not_finite_are_skipped_and_end_the_run_when_there_are_too_many(plain):
    _, state, step = plain
    broken = {**BATCH, "noise": np.full((8, 8, 8, 3), np.nan, np.float32)}
    first, metrics = step(state, broken, jax.random.key(0))
    assert int(first.step) == 1
    assert float(metrics["skipped/unet"]) == 1
    assert all(np.isfinite(v) for v in metrics.values())
    for old, new in zip(
        jax.tree.leaves(state.nets["unet"]), jax.tree.leaves(first.nets["unet"]), strict=True
    ):
        if old.ndim:
            np.testing.assert_array_equal(old, new)
    second, metrics = step(first, broken, jax.random.key(0))
    assert not all(np.isfinite(v) for v in metrics.values())
    third, metrics = step(second, BATCH, jax.random.key(0))
    assert int(third.extra["skipped"]) == 0
    assert all(np.isfinite(v) for v in metrics.values())


def test_float16_scales_its_loss(plain):
    system = diffusion.make(tiny_config(model=dict(dtype="float16")), FACTS)
    state, metrics = stepper(system)(filled(system), BATCH, jax.random.key(0))
    assert float(metrics["loss_scale/unet"]) == 2.0**20
    _, exact_state, step = plain
    _, exact = step(exact_state, BATCH, jax.random.key(0))
    np.testing.assert_allclose(metrics["loss/unet"], exact["loss/unet"], rtol=2e-3)
    if float(metrics["skipped/unet"]) == 0:
        np.testing.assert_allclose(metrics["grad_norm/unet"], exact["grad_norm/unet"], rtol=2e-2)
    else:
        assert float(state.nets["unet"].opt.scale) == 2.0**19


@pytest.mark.parametrize("process", ["flow", "edm"])
def test_other_processes_begin_at_the_loss_of_a_network_that_says_nothing(process):
    """At the start the output is 0: of a flow |noise - image|², of edm's target its variance."""
    system = diffusion.make(
        tiny_config(diffusion=dict(process=process), sampling=dict(sampler="heun")), FACTS
    )
    state = zeros_like_init(system, BATCH)
    noise = np.random.RandomState(2).randn(8, 8, 8, 3).astype(np.float32)
    image = (BATCH["image"].astype(np.float32) - 127.5) / 127.5
    level = np.linspace(0.1, 0.9, 8).astype(np.float32)
    _, metrics = stepper(system)(
        state, {**BATCH, "noise": noise, "level": level}, jax.random.key(0)
    )
    if process == "flow":
        expected = np.mean((noise - image) ** 2)
    else:
        s = level[:, None, None, None]
        skip, out = 0.25 / (s**2 + 0.25), s * 0.5 / np.sqrt(s**2 + 0.25)
        expected = np.mean(((image - skip * (image + s * noise)) / out) ** 2)
    np.testing.assert_allclose(metrics["loss/unet"], expected, rtol=1e-5)
    assert sum(name.startswith(("loss/t0", "loss/sigma")) for name in metrics) >= 1


def test_a_loss_that_is_no_number_is_not_remembered(remembering):
    _, state, step = remembering
    broken = {**BATCH, "noise": np.full((8, 8, 8, 3), np.nan, np.float32)}
    after, _ = step(state, broken, jax.random.key(0))
    assert np.isfinite(after.extra["levels"]["losses"]).all()
    assert not after.extra["levels"]["seen"].any()


def test_validation_spreads_levels_by_the_numbers_of_the_images():
    """Any eight images in a row see the whole chain, and what fills up a batch moves none."""
    system = diffusion.make(tiny_config(discrete=dict(steps=8), sampling=dict(steps="")), FACTS)
    state = filled(system)
    run = jax.jit(lambda s, b: system.eval_step(s, b, jax.random.key(0), stage_of(system)))
    images = np.repeat(BATCH["image"][:1], 8, axis=0)
    numbers = np.arange(8, dtype=np.int32)
    padded = np.array([1, 1, 1, 1, 0, 0, 0, 0], np.float32)
    whole = np.asarray(run(state, {"image": images, "seed": numbers})["vb"])
    half = np.asarray(run(state, {"image": images, "valid": padded, "seed": numbers})["vb"])
    later = np.asarray(run(state, {"image": images, "seed": numbers + 800})["vb"])
    np.testing.assert_array_equal(half, whole)
    # one image at levels of eight, whose terms at the ends are far above those between
    for values in (whole, later):
        assert (values > 2 * np.median(values)).sum() >= 2


def test_it_learns(plain):
    """White images: the noise is what is left of x."""
    _, state, step = plain
    white, losses = {**BATCH, "image": np.full_like(BATCH["image"], 255)}, []
    for i in range(80):
        state, metrics = step(state, white, jax.random.key(i))
        losses.append(float(metrics["loss/mse"]))
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])

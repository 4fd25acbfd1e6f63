"""pix2pix against numbers that PyTorch-GAN's and junyanz' networks and training orders gave."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import config as configs
from gan_jax.core import saved_states, schedules
from gan_jax.core.mesh import fetch
from gan_jax.core.system import Facts, Stage
from gan_jax.interop import pix2pix as interop
from gan_jax.models import pix2pix as networks
from tests.helpers import golden_rule

B1 = 0.5


def load(case: str):
    return golden_rule.load(f"pix2pix/{case}")


def given(meta: dict, name: str) -> np.ndarray:
    """The input that `meta` describes by a seed, NHWC in [-1, 1]."""
    rule = meta["inputs"][name]
    x = np.random.RandomState(rule["seed"]).rand(*rule["shape"]).astype(np.float32) * 2 - 1
    return np.moveaxis(x, 1, -1)


def section(kind: str, **options) -> dict:
    return {**networks.defaults()[kind], **options}


def close(found, expected, rtol=1e-4, atol=5e-5, err_msg=""):
    """NHWC against NCHW."""
    expected = np.moveaxis(expected, 1, -1)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol, err_msg=err_msg)


def whole_or_parts(found, golden, name: str) -> None:
    """An image that is stored whole, or as half floats, a coarse grid, a patch and its moments."""
    if f"out/{name}" in golden:
        close(found, golden[f"out/{name}"])
        return
    first = found[:1]
    close(first, golden[f"out/{name}_f16"].astype(np.float32), atol=1e-3)
    close(first[:, ::4, ::4], golden[f"out/{name}_stride4"])
    close(first[:, 40:56, 24:40], golden[f"out/{name}_crop16"])
    x = first.astype(np.float64)
    moments = [x.mean(), x.std(), x.min(), x.max(), np.sqrt(np.mean(x**2))]
    np.testing.assert_allclose(moments, golden[f"out/{name}_stats"], rtol=1e-4, atol=5e-5)


def statistics(stats, golden, key: str, params) -> None:
    """Norms of running means and variances by their PyTorch names."""
    found = {
        k: float(np.linalg.norm(v.astype(np.float64)))
        for k, v in interop.from_trees(params, stats).items()
    }
    assert len(golden[f"{key}_names"])
    for name, value in zip(golden[f"{key}_names"], golden[key], strict=True):
        np.testing.assert_allclose(found[str(name)], value, rtol=2e-5, atol=5e-6, err_msg=name)


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("side", [128, 256])
def test_original_generator(side, norm):
    """Forward with batch statistics and running ones; the running ones after one forward."""
    meta, golden = load(f"junyanz_unet_{side}_{norm}")
    options = section("gen", name="original", norm=norm, width=meta["options"]["ngf"])
    gen, _ = networks.build({"gen": options, "disc": section("disc")}, side, 3)
    params, stats = interop.to_trees(golden_rule.weights(meta, "state_dict"))
    x = given(meta, "A")

    @functools.partial(jax.jit, static_argnums=1)
    def run(stats, train):
        return gen.apply(params, stats, x, False, train=train)

    with jax.default_matmul_precision("highest"):
        made, updated = fetch(run(stats, True))
        whole_or_parts(made, golden, "train")
        made, _ = fetch(run(stats, False))
    if meta.get("eval_equals_train"):
        whole_or_parts(made, golden, "train")
    else:
        whole_or_parts(made, golden, "eval")
        key = "out/running_stat_norm_after_train_forward"
        statistics(updated, golden, key, params)


@pytest.mark.parametrize(
    "case",
    ["basic3_batch", "basic3_instance", "n_layers1_batch", "pixel_batch", "pixel_instance"],
)
def test_original_discriminator(case):
    meta, golden = load(f"junyanz_D_{case}")
    o = meta["options"]
    options = section("disc", name="original", norm=o["norm"], width=o["ndf"], layers=o["n_layers"])
    x = given(meta, "AB")
    gen = section("gen")
    _, disc = networks.build({"gen": gen, "disc": options}, x.shape[1], 3)
    params, stats = interop.to_trees(golden_rule.weights(meta, "state_dict"))
    with jax.default_matmul_precision("highest"):
        for train, name in ((True, "train"), (False, "eval")):
            run = jax.jit(
                lambda stats, train=train: disc.apply(
                    params, stats, x[..., :3], x[..., 3:], train=train
                )
            )
            logits, updated = fetch(run(stats))
            close(logits, golden[f"out/{name}"], err_msg=name)
            if train and o["norm"] == "batch":
                statistics(updated, golden, "out/running_stat_norm_after_train_forward", params)


def test_pytorch_gan_generator_and_discriminator():
    """The whole networks at 256 px; the discriminator reads the image before the condition."""
    gen, disc = networks.build(networks.defaults(), 256, 3)
    meta, golden = load("pytorch_gan_generator")
    params, stats = interop.to_trees(golden_rule.weights(meta, "state_dict"))
    a, b = given(meta, "A (condition)"), given(meta, "B (target)")
    with jax.default_matmul_precision("highest"):
        made = jax.jit(lambda p: gen.apply(p, stats, a)[0])(params)
        whole_or_parts(np.asarray(made), golden, "y")
        meta, golden = load("pytorch_gan_discriminator")
        params, stats = interop.to_trees(golden_rule.weights(meta, "state_dict"))
        logits = jax.jit(lambda p: disc.apply(p, stats, a, b)[0])(params)
    close(logits, golden["out/y"])


def system(meta: dict, original: bool):
    """The system of a train-step file, dropout off."""
    config, o = configs.defaults("pix2pix"), meta["options"]
    side = next(iter(meta["inputs"].values()))["shape"][2]
    config.data.pairs = "side_by_side"
    config.batch_size = o.get("batch", 1)
    config.run.steps = "2"
    config.model.gen.dropout = 0.0
    if original:
        for net, width in (("gen", o["ngf"]), ("disc", o["ndf"])):
            config.model[net].update(name="original", norm=o["norm"], width=width)
        config.loss.order = "discriminator_first"
        config.loss.name = {"vanilla": "non_saturating", "lsgan": "least_squares"}[o["gan_mode"]]
    for part in config.optim.values():
        part.update(lr=o["lr"], b1=o["betas"][0], b2=o["betas"][1])
    return configs.SYSTEMS["pix2pix"].make(config, Facts(side, 3, 0, 8, input_channels=3))


@functools.cache
def steps(case: str):
    """(meta, golden arrays, [(state before, state after, metrics) of each step], system)."""
    meta, golden = load(case)
    original = case.startswith("junyanz")
    made = system(meta, original)
    state = jax.jit(made.init, static_argnums=2)(jax.random.key(0), {}, made.stages[0])
    nets = {}
    for name, key in (("gen", "state_dict_G"), ("disc", "state_dict_D")):
        params, stats = interop.to_trees(golden_rule.weights(meta, key))
        net = state.nets[name]
        ours = saved_states.named({"params": net.params, "stats": net.stats})
        theirs = saved_states.named({"params": params, "stats": stats})
        assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
        nets[name] = net.replace(
            params=jax.tree.map(jnp.asarray, params), stats=jax.tree.map(jnp.asarray, stats)
        )
    state = state.replace(nets=nets)
    names = ("A", "B") if original else ("A (condition)", "B (target)")
    # the pixel values that a batch holds, not rounded to whole ones
    batch = {
        to: given(meta, name) * np.float32(127.5) + np.float32(127.5)
        for to, name in zip(("input", "target"), names, strict=True)
    }
    step = jax.jit(made.train_step, static_argnums=3)
    history = []
    for _ in range(2 if original else 1):
        with jax.default_matmul_precision("highest"):
            new, metrics = step(state, batch, jax.random.key(1), made.stages[0])
        history.append((fetch(state), fetch(new), fetch(metrics)))
        state = new
    return meta, golden, history, made, batch


def norms(tree) -> dict[str, float]:
    """Euclidean norm of every tensor by its PyTorch name, running statistics left out."""
    named = interop.from_trees(tree, _no_stats(tree))
    return {
        k: float(np.linalg.norm(v.astype(np.float64)))
        for k, v in named.items()
        if "running" not in k and "num_batches" not in k
    }


def _no_stats(tree) -> dict:
    """Zeros where the norms of a tree would keep statistics."""
    found = {
        name: {"mean": np.zeros(1, np.float32), "var": np.zeros(1, np.float32)}
        for name, leaves in tree.items()
        if "scale" in leaves
    }
    return {"batch_stats": found} if found else {}


CASES = [
    "pytorch_gan_train_step",
    "junyanz_train_step_lsgan_instance",
    "junyanz_train_step_vanilla_batch",
]
LOSSES = {
    "pytorch_gan_train_step": {
        "loss/gan": "loss_GAN",
        "loss/l1": "loss_pixel",
        "loss/gen": "loss_G",
        "loss/disc_real": "loss_D_real",
        "loss/disc_fake": "loss_D_fake",
        "loss/disc": "loss_D",
    },
    "junyanz": {
        "loss/gan": "loss_G_GAN",
        "loss/l1_weighted": "loss_G_L1",
        "loss/gen": "loss_G",
        "loss/disc_real": "loss_D_real",
        "loss/disc_fake": "loss_D_fake",
        "loss/disc": "loss_D",
    },
}


@pytest.mark.parametrize("case", CASES)
def test_losses(case):
    _, golden, history, *_ = steps(case)
    for ours, theirs in LOSSES.get(case, LOSSES["junyanz"]).items():
        found = [metrics[ours] for *_, metrics in history]
        expected = np.atleast_1d(golden[f"out/{theirs}"])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=ours)


@pytest.mark.parametrize("case", CASES)
def test_gradients_parameters_and_statistics(case):
    meta, golden, history, *_ = steps(case)
    start = history[0][0]
    for index, (before, after, metrics) in enumerate(history):
        for net, letter in (("gen", "G"), ("disc", "D")):
            skip = meta["zero_gradient_tensors"][letter]
            key = f"out/step{index}/{letter}" if len(history) > 1 else f"out/{letter}"
            old, new = before.nets[net], after.nets[net]
            grads = golden_rule.gradient(old, new, B1)
            first = index == 0
            tolerance = (1e-3, 1e-5) if first else (3e-2, 1e-3)
            golden_rule.compare(norms(grads), golden, f"{key}/grad_norm", skip, *tolerance)
            total = float(np.sqrt(np.sum(golden[f"{key}/grad_norm"] ** 2)))
            np.testing.assert_allclose(metrics[f"grad_norm/{net}"], total, rtol=sum(tolerance))
            golden_rule.compare(
                norms(new.params), golden, f"{key}/param_norm_after", skip, 1e-4, 1e-5
            )
            change = jax.tree.map(
                lambda n, o: n.astype(np.float64) - o, new.params, start.nets[net].params
            )
            tolerance = (3e-4, 1e-5) if first else (2e-2, 1e-5)
            golden_rule.compare(norms(change), golden, f"{key}/param_change_norm", skip, *tolerance)
            if f"{key}/running_stat_norm_after" in golden:
                statistics(new.stats, golden, f"{key}/running_stat_norm_after", new.params)


def test_after_pytorch_gans_step():
    """What both new networks make of the same pair."""
    _, golden, history, made, batch = steps("pytorch_gan_train_step")
    after = history[0][1]
    gen, disc = networks.build(networks.defaults(), 256, 3)
    x, y = (batch[name] / 127.5 - 1 for name in ("input", "target"))
    nets = after.nets
    with jax.default_matmul_precision("highest"):
        fake = jax.jit(lambda p: gen.apply(p, {}, x)[0])(nets["gen"].params)
        logits = jax.jit(lambda p: disc.apply(p, {}, x, fake)[0])(nets["disc"].params)
        scores = jax.jit(made.eval_step, static_argnums=3)(
            after, batch, jax.random.key(0), made.stages[0]
        )
    close(np.asarray(fake)[:, ::4, ::4], golden["out/fake_after_stride4"], atol=1e-2)
    close(logits, golden["out/pred_fake_after"], atol=1e-2)
    l1 = float(np.mean(np.abs(np.asarray(fake) - y)))
    np.testing.assert_allclose(l1, golden["out/loss_pixel_after"], rtol=1e-4, atol=1e-2)
    # the validation loss is that L1, its total the training loss
    np.testing.assert_allclose(scores["l1"], [l1], rtol=1e-4)
    gan = float(np.mean((np.asarray(logits) - 1) ** 2))
    np.testing.assert_allclose(scores["total"], [100 * l1 + gan], rtol=1e-4)


def schedule(**options):
    return type("Schedule", (), {**schedules.defaults(), **options})


def multipliers(count: int, **options) -> np.ndarray:
    """The rate of every epoch over the first one's base, of three steps each, in the middle."""
    stage = Stage(8, 1, 0, 3 * count)
    made = schedules.make(1.0, schedule(unit="epochs", **options), (stage,), [3], "schedule")
    return np.asarray(jax.vmap(made)(3 * np.arange(count) + 1))


def exact(count: int, rate) -> np.ndarray:
    """The formula behind the schedule in double precision."""
    with jax.enable_x64(True):
        return np.asarray([float(rate(jnp.float64(k))) for k in range(count)])


def test_learning_rate_policies():
    """junyanz' multipliers after k scheduler steps are ours of the epoch with index k."""
    meta, golden = load("junyanz_lr_policies")
    for case in meta["options"]["linear"]:
        expected = golden[f"out/linear_{case['index']}"]
        begin = float(case["n_epochs"] - case["epoch_count"])
        length = begin + case["n_epochs_decay"] + 1
        found = exact(len(expected), schedules.linear(1.0, begin, length))
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-13)
        found = multipliers(
            len(expected), name="linear", begin=begin, length=length, staircase=True
        )
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    for case in meta["options"]["step"]:
        expected = golden[f"out/step_{case['index']}"]
        every, gamma = float(case["lr_decay_iters"]), case["gamma"]
        found = exact(len(expected), schedules.exponential(1.0, gamma, every, staircase=True))
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-13)
        found = multipliers(
            len(expected), name="exponential", every=every, factor=gamma, staircase=True
        )
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    for case in meta["options"]["cosine"]:
        expected, length = golden[f"out/cosine_{case['index']}"], float(case["T_max"])
        found = exact(len(expected), schedules.cosine(1.0, length))
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-13)
        found = multipliers(len(expected), name="cosine", length=length, staircase=True)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_the_configs_linear_end_is_junyanzs():
    """100 epochs at the full rate, the 101st at 1 − 1/101."""
    config = configs.load_file("configs/pix2pix_facades.py", "original")
    _, golden = load("junyanz_lr_policies")
    stage = Stage(256, 1, 0, 400 * 200)
    for part in config.optim.values():
        made = schedules.make(part.lr, part.schedule, (stage,), [400], "schedule")
        found = np.asarray(jax.vmap(made)(400 * np.arange(200)))
        np.testing.assert_allclose(found, 2e-4 * golden["out/linear_0"], rtol=1e-5)

"""WarpGAN's training step in closed forms: classes, order of updates, weight decay, rates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import config as configs
from gan_jax.core.mesh import Mesh
from gan_jax.core.sampler import Sampler
from gan_jax.core.system import Facts
from gan_jax.core.tracing import functions_once
from gan_jax.errors import UserError
from gan_jax.models import warpgan as networks
from gan_jax.ops.images import to_uint8
from gan_jax.systems import warpgan
from gan_jax.systems.warpgan import standardised
from tests.helpers.shell import ROOT
from tests.helpers.trees import stirred

SIDE, CLASSES, PAIRS = 32, 5, 2
KEY = jax.random.key(3)
FACTS = Facts(SIDE, 3, CLASSES, 8, 8, 3)


def config(**rates: float):
    made = configs.load_file(str(ROOT / "configs/warpgan_drawn.py"), "tiny")
    made.batch_size = PAIRS
    # the original's losses and rates, whatever the config's are
    usual = configs.defaults("warpgan")
    made.loss.update(usual.loss)
    made.optim.update(usual.optim)
    made.model.logit_scale = 1.0
    for name, rate in rates.items():
        made.optim[name].lr = rate
    return made


def make(made):
    return warpgan.make(made, FACTS)


class Tiny:
    """A system with stirred weights, one batch, and its first step at several learning rates."""

    def __init__(self):
        self.config = config()
        self.system = make(self.config)
        self.stage = self.system.stages[0]
        rng = np.random.default_rng(1)

        def pixels():
            return rng.integers(0, 256, (PAIRS, SIDE, SIDE, 3)).astype(np.uint8)

        self.batch = {
            "input": pixels(),
            "target": pixels(),
            "label": np.array([1, 4], np.int32),
            "z": rng.standard_normal((PAIRS, 8)).astype(np.float32),
        }
        state = jax.jit(lambda key: self.system.init(key, {}, self.stage))(KEY)
        nets = {
            name: net.replace(params=stirred(jax.device_get(net.params), rng, 0.05))
            for name, net in state.nets.items()
        }
        self.state = state.replace(nets=nets)

    def step(self, **rates: float):
        system = make(config(**rates))
        return jax.jit(system.train_step, static_argnums=3)(self.state, self.batch, KEY, self.stage)


@pytest.fixture(scope="module")
def tiny():
    return Tiny()


@pytest.fixture(scope="module")
def stepped(tiny):
    """(state, metrics) by which networks move."""
    moving = dict(gen=1e-3, disc=1e-3)
    return {
        "both": tiny.step(**moving),
        "gen": tiny.step(gen=1e-3, disc=0.0),
        "disc": tiny.step(gen=0.0, disc=1e-3),
    }


def test_scale_one_is_the_trained_warp(tiny):
    """config.loss.scale multiplies what the generator predicts in training and in all that is
    drawn, so that grids show the images that the discriminator judges."""
    flows = {}
    for scale in (1.0, 2.0):
        made = config()
        made.loss.scale = scale
        gan = warpgan.build(made, FACTS)

        @jax.jit
        def everything(state, batch, gan=gan):
            a, b = (standardised(batch[k]) for k in ("target", "input"))
            judged = warpgan.render(gan, state.nets["gen"].params, a, b, batch["z"], None)
            asked = {"input": batch["input"], "style": batch["z"], "scale": jnp.ones(PAIRS)}
            drawn = warpgan.caricature(gan, state, asked, KEY, tiny.stage)
            return judged, drawn, warpgan.sample_step(gan, state, batch, KEY, tiny.stage)["raw"]

        judged, drawn, grid = everything(tiny.state, tiny.batch)
        shown = warpgan.unit_of(judged.ba)
        np.testing.assert_allclose(grid, shown, atol=1e-4)
        np.testing.assert_allclose(drawn["image"], shown, atol=1e-4)
        np.testing.assert_allclose(
            drawn["displacements"], judged.displacements, rtol=1e-5, atol=1e-6
        )
        flows[scale] = drawn["displacements"]
    np.testing.assert_allclose(flows[2.0], 2 * flows[1.0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(2, 2), (3, 2)])
def test_a_larger_face_is_warped_alike(tiny, size):
    """At points that lie at the same places and move as far, in shares of the image."""
    made = config()
    made.loss.regularization = 7.5
    gan = warpgan.build(made, FACTS)
    random = np.random.default_rng(3)
    points, moves = SIDE * random.uniform(size=(1, 16, 2)), random.normal(size=(1, 16, 2))
    flows = []
    for factors in ((1, 1), size):
        image = jnp.zeros((1, *(SIDE * k for k in factors), 3))
        _, flow = warpgan.warp(gan, image, points * factors, moves * factors, jnp.ones(1))
        flows.append(flow[:, :: factors[0], :: factors[1]] / np.array(factors))
    away = np.sqrt(np.mean((flows[1] - flows[0]) ** 2))
    # the bending of a spline knows no axes, so that another shape is not quite the same
    assert away < (1e-3 if size[0] == size[1] else 0.3) * np.sqrt(np.mean(flows[0] ** 2))


def test_identities_are_caricature_photo_and_generated_in_turn(tiny, stepped):
    """Trap 14: [0, C) caricatures, [C, 2C) photos, [2C, 3C) generated ones; the generator asks for
    the first third."""
    made = jax.jit(tiny.system.tasks["caricature"].run, static_argnums=3)(
        tiny.state,
        {"input": tiny.batch["input"], "style": tiny.batch["z"], "scale": np.ones(PAIRS)},
        KEY, tiny.stage,
    )  # fmt: skip
    # tanh ends at 1, and tasks show images in units of [-1, 1]
    ba = made["image"] * (warpgan.CENTRE / warpgan.SPREAD)
    _, disc = networks.build(tiny.config.model, SIDE, CLASSES)
    told = {}
    for name, x in (
        ("a", standardised(tiny.batch["target"])),
        ("b", standardised(tiny.batch["input"])),
        ("ba", ba),
    ):
        (patches, logits, _), _ = disc.apply(tiny.state.nets["disc"].params, {}, x)
        told[name] = jax.nn.log_softmax(patches), jax.nn.log_softmax(logits)
    rows, label = np.arange(PAIRS), tiny.batch["label"]
    identity = {
        (name, third): -float(jnp.mean(told[name][1][rows, label + third * CLASSES]))
        for name in told
        for third in range(3)
    }
    patch = {(n, k): -float(jnp.mean(told[n][0][..., k])) for n in told for k in range(3)}
    metrics = stepped["both"][1]
    right = (("a", 0), ("b", 1), ("ba", 2))
    for name, expected in {
        "loss/identity_disc": sum(identity[pair] for pair in right),
        "loss/identity_gen": identity["ba", 0],
        "loss/patch_disc": 2 * sum(patch[pair] for pair in right),
        "loss/patch_gen": 2 * patch["ba", 0],
    }.items():
        np.testing.assert_allclose(float(metrics[name]), expected, rtol=2e-4, err_msg=name)


@pytest.mark.parametrize("net", ["gen", "disc"])
def test_both_networks_move_at_once(tiny, stepped, net):
    """Trap 14: what one network does is not a function of the other's update in the same step."""
    together, alone = (stepped[which][0].nets[net].params for which in ("both", net))
    before = tiny.state.nets[net].params
    for new, other, old in zip(*map(jax.tree.leaves, (together, alone, before)), strict=True):
        np.testing.assert_allclose(new, other, atol=1e-7)
        assert np.any(np.asarray(new) != np.asarray(old))


def test_weight_decay_is_of_kernels(tiny, stepped):
    """Trap 14: half the sum of squares of every kernel, once; no biases, norms, mean points."""
    squares = {"kernel": 0.0}
    for net in tiny.state.nets.values():
        for path, leaf in jax.tree_util.tree_leaves_with_path(net.params):
            name = path[-1].key
            squares[name] = squares.get(name, 0.0) + float(np.sum(np.square(leaf, dtype=float)))
    assert min(squares[name] for name in ("bias", "scale", "point_mean")) > 0
    expected = 0.5 * 1e-4 * squares["kernel"]
    found = float(stepped["both"][1]["loss/weight_decay"])
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_learning_rates_of_the_paper():
    """Trap 17."""
    made = configs.load_file(str(ROOT / "configs/warpgan_webcaricature.py"))
    rates = warpgan.make(made, Facts(256, 3, 126, 3016, 100, 3)).rates
    for name in ("gen", "disc"):
        for step, rate in {0: 1e-4, 49_999: 1e-4, 75_000: 5e-5, 100_000: 0.0}.items():
            np.testing.assert_allclose(float(rates[name](step)), rate, rtol=1e-6, atol=1e-12)


CONFIGS = ("warpgan_drawn", "warpgan_webcaricature", "warpgan_folder")


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("variant", ["", "faithful"])
@pytest.mark.parametrize("steps", [300, 20_000, 400_000])
def test_rates_fall_over_the_second_half_however_long_the_run(name, variant, steps):
    made = configs.load_file(str(ROOT / f"configs/{name}.py"), variant)
    made.run.steps = str(steps)
    system = warpgan.make(made, Facts(made.data.resolution, 3, 6, 12, 3, 3))
    for net, section in made.optim.items():
        found = [float(system.rates[net](int(steps * part))) for part in (0, 0.5, 0.75, 1)]
        np.testing.assert_allclose(found, np.array([1, 1, 0.5, 0]) * section.lr, atol=1e-9)


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_have_the_losses_that_work_and_faithful_the_originals(name):
    made = configs.load_file(str(ROOT / f"configs/{name}.py"))
    assert made.model.logit_scale == 16.0
    assert made.loss.style_reconstruction == 10.0
    # in square pixels: as smooth at any size
    assert made.loss.regularization == 30.0 * (made.data.resolution / 64) ** 2
    assert made.model.warp_head == "pooled"
    original = configs.load_file(str(ROOT / f"configs/{name}.py"), "faithful")
    usual = configs.defaults("warpgan")
    assert original.loss == usual.loss
    assert (original.model.logit_scale, original.model.warp_head) == (1.0, "flat")
    assert original.model.disc_head == "flat"
    assert original.batch_size == 1
    assert original.optim.gen.lr == original.optim.disc.lr == 1e-4


def test_styles_are_read_off_what_was_made_in_them(tiny, stepped):
    """Adds to the generator's loss how far the textures' codes are from their styles; off at 0."""
    made = config()
    made.loss.style_reconstruction = 0.5
    system = make(made)
    _, metrics = jax.jit(system.train_step, static_argnums=3)(
        tiny.state, tiny.batch, KEY, tiny.stage
    )
    gen, _ = networks.build(made.model, SIDE, CLASSES)
    params, z = tiny.state.nets["gen"].params, tiny.batch["z"]
    content = gen.content(params, standardised(tiny.batch["input"]))
    codes = gen.style(params, gen.texture(params, content, z))
    off = np.mean(np.abs(np.asarray(codes, float) - z))
    found = float(metrics["loss/style_reconstruction"])
    np.testing.assert_allclose(found, 0.5 * off, rtol=1e-4)
    without = stepped["both"][1]
    assert "loss/style_reconstruction" not in without
    added = float(metrics["loss/gen"]) - float(without["loss/gen"])
    np.testing.assert_allclose(added, 0.5 * off, rtol=1e-3)


def test_dropout_acts(tiny, stepped):
    made = config()
    made.model.keep_prob = 0.5
    step = jax.jit(make(made).train_step, static_argnums=3)
    losses = [
        float(step(tiny.state, tiny.batch, jax.random.key(k), tiny.stage)[1]["loss/identity_disc"])
        for k in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]
    assert losses[0] != float(stepped["both"][1]["loss/identity_disc"])


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("data", dict(pairs="none"), "config.data.pairs='none'"),
        ("loss", dict(patch_weight=-1.0), "config.loss.patch_weight=-1.0"),
        ("loss", dict(regularization=-1.0), "config.loss.regularization=-1.0"),
    ],
)
def test_what_is_not_accepted_is_named(section, values, message):
    made = config()
    made[section].update(values)
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        make(made)


def test_a_run_without_identities_says_so():
    made = config()
    assert any("classifier of identities" in line for line in make(made).notices)
    made.restore.disc = ("runs/ids", "conv*|bottleneck*")
    assert not make(made).notices


def test_only_the_weights_asked_for_are_sampled(tiny):
    """Although a single warp serves all sets of weights, which XLA could not take apart."""
    averaging = config()
    averaging.optim.gen.ema = (0.9,)
    system = functions_once(make(averaging))
    state = jax.eval_shape(lambda key: system.init(key, {}, tiny.stage), KEY)
    sampler = Sampler(system.sample_step, Mesh(1), to_uint8)
    batch = {name: tiny.batch[name] for name in ("input", "z")}
    batch["seed"] = np.arange(PAIRS, dtype=np.int32)

    def made(*names: str):
        def draw(state, batch):
            return sampler.draw(state, batch, KEY, tiny.stage, names)

        traced = jax.make_jaxpr(draw, return_shape=True)(state, batch)
        return str(traced[0]).count("conv_general_dilated"), {*traced[1]}

    both, found = made()
    assert both > 0
    assert found == {"raw", "ema"}
    assert made("raw") == (both // 2, {"raw"})
    assert made("ema") == (both // 2, {"ema"})
    assert made() == (both, found)

"""WarpGAN's losses, gradients and simultaneous updates against those of the original graph."""

import contextlib
import functools
import json
import math
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import config as configs
from gan_jax.core import loss_scale
from gan_jax.core.system import Facts
from gan_jax.models import convolution
from gan_jax.systems import warpgan
from tests.helpers import warpgan_golden as rule

GOLDEN = Path(__file__).parents[1] / "golden/warpgan"
CASES = ("losses_32_options", "losses_64")
LOSSES = {  # the original's names
    "LDg": "loss/identity_disc",
    "LGg": "loss/identity_gen",
    "LDp": "loss/patch_disc",
    "LGp": "loss/patch_gen",
    "idtA": "loss/reconstruction_caricature",
    "idtB": "loss/reconstruction_photo",
    "reg_loss": "loss/weight_decay",
    "G": "loss/gen",
    "D": "loss/disc",
}


@contextlib.contextmanager
def doubles():
    """float64 stays float64, and convolutions are products of matrices.

    XLA has no other kernels for them on a CPU than loops, which take a hundred times as long.
    """
    products = mock.patch.multiple(convolution, FEW_PIXELS=math.inf, LARGE_KERNEL=0)
    with jax.enable_x64(True), products:
        yield


class Step(NamedTuple):
    """What one step gives; a row (L2 norm, sum, first, last element) for every variable."""

    metrics: dict
    gradients: np.ndarray
    moved: np.ndarray  # since before the first step


class Case:
    """A golden file, and our system with the same options."""

    def __init__(self, name: str):
        with np.load(GOLDEN / f"{name}.npz") as file:
            self.arrays = dict(file)
        meta = json.loads(str(self.arrays["meta"]))
        self.options, self.variables = meta["options"], meta["variables"]
        o = self.options
        config = configs.defaults("warpgan")
        config.data.pairs = "identities"
        config.model.update(warp_head="flat", disc_head="flat")
        config.model.update(style_size=o["style_size"], bottleneck=o["bottleneck_size"])
        config.loss.update(identity_weight=o["coef_adv"], patch_weight=o["coef_patch_adv"])
        config.loss.update(reconstruction_weight=o["coef_idt"], scale=o["scale"])
        for section in config.optim.values():
            section.lr, section.weight_decay = o["learning_rate"], o["weight_decay"]
            section.schedule.name = "constant"
            section.update(b1=o["beta1"], b2=o["beta2"], eps=o["epsilon"])
        self.b1, self.decay = o["beta1"], o["weight_decay"]
        count = self.arrays["in/images"].shape[1] // 2
        config.batch_size = count
        self.facts = Facts(o["image_size"][0], 3, o["num_classes"], 8, 8, 3)
        self.system = warpgan.make(config, self.facts)
        self.stage = self.system.stages[0]
        self.weights = dict(
            zip(("gen", "disc"), rule.trees(self.variables, o["image_size"]), strict=True)
        )

    def state(self, dtype):
        """The state at step 0 with the golden weights."""
        weights = jax.tree.map(lambda w: w.astype(dtype), self.weights)

        def init():
            return self.system.init(jax.random.key(0), {}, self.stage)

        shapes = jax.eval_shape(init)

        def zeros(s):
            return np.zeros(s.shape, dtype if jnp.issubdtype(s.dtype, jnp.floating) else s.dtype)

        state = jax.tree.map(zeros, shapes)
        nets = {name: net.replace(params=weights[name]) for name, net in state.nets.items()}
        return state.replace(nets=nets)

    def batch(self, step: int, dtype) -> dict:
        """Images as grey levels 0..255 that need not be whole, split by kind."""
        levels = self.arrays["in/images"][step].astype(dtype) * warpgan.SPREAD + warpgan.CENTRE
        photo, labels = self.arrays["in/is_photo"][step], self.arrays["in/labels"][step]
        return {
            "input": levels[photo],
            "target": levels[~photo],
            "label": labels[photo],
            "target_label": labels[~photo],
            "z": self.arrays["in/style"][step].astype(dtype),
        }

    def rows(self, trees: dict) -> list[np.ndarray]:
        """Leaves in the order of the variables, float64."""
        found = []
        for _, net, path in rule.pairs(self.variables):
            leaf = functools.reduce(lambda tree, part: tree[part], path, trees[net])
            found.append(np.asarray(leaf, np.float64))
        return found

    @functools.cache  # noqa: B019
    def trained(self, dtype: str, steps: int) -> list[Step]:
        """Gradients are from Adam's first moments; weight decay is in them."""
        found = []
        with doubles() if dtype == "float64" else contextlib.nullcontext():
            step = jax.jit(self.system.train_step, static_argnums=3)
            state = self.state(dtype)
            start, before = self.rows(weights(state)), self.rows(moments(state))
            for number in range(steps):
                batch, key = self.batch(number, dtype), jax.random.key(0)
                state, metrics = step(state, batch, key, self.stage)
                now, after = self.rows(weights(state)), self.rows(moments(state))
                pairs = zip(before, after, strict=True)
                gradients = [row((new - self.b1 * old) / (1 - self.b1)) for old, new in pairs]
                moved = [row(new - old) for old, new in zip(start, now, strict=True)]
                found.append(Step(jax.device_get(metrics), np.array(gradients), np.array(moved)))
                before = after
        return found


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return Case(request.param)


def row(x) -> list[float]:
    """L2 norm, sum, first and last element."""
    return [math.sqrt(float(np.sum(np.square(x)))), float(x.sum()), x.flat[0], x.flat[-1]]


def weights(state) -> dict:
    return {name: net.params for name, net in state.nets.items()}


def moments(state) -> dict:
    """Adam's first."""
    return {name: loss_scale.links(net.opt)["moments"].mu for name, net in state.nets.items()}


def test_losses_of_three_steps_in_doubles(case):
    for number, step in enumerate(case.trained("float64", 3)):
        for name, ours in LOSSES.items():
            expected = case.arrays[f"out/loss_{name}"][number]
            np.testing.assert_allclose(
                step.metrics[ours], expected, rtol=1e-6, err_msg=f"{number} {name}"
            )


def test_gradients_and_updates_of_three_steps_in_doubles(case):
    """L2 norm, sum, first and last element of every variable's gradient and movement."""
    for number, step in enumerate(case.trained("float64", 3)):
        expected = np.concatenate([case.arrays[f"out/grad_{net}"][number] for net in "GD"])
        check_rows(step.gradients, expected, case.variables, f"gradient {number}")
        check_rows(step.moved, case.arrays["out/delta"][number], case.variables, f"delta {number}")


def check_rows(found, expected, variables, what: str):
    for (name, shape), ours, known in zip(variables, found, expected, strict=True):
        told, norm = f"{what} {name}", known[0]
        np.testing.assert_allclose(ours[0], norm, rtol=1e-5, err_msg=told)
        near = 1e-5 * math.sqrt(math.prod(shape)) * norm
        np.testing.assert_allclose(ours[1], known[1], rtol=0, atol=near, err_msg=told)
        np.testing.assert_allclose(ours[2:], known[2:], rtol=0, atol=1e-5 * norm, err_msg=told)


def test_weight_decay_counts_every_kernel_once(case):
    kernels = [
        value
        for (name, _), value in zip(case.variables, case.rows(case.weights), strict=True)
        if name.endswith("/weights")
    ]
    found = sorted(case.decay / 2 * np.sum(np.square(kernel)) for kernel in kernels)
    np.testing.assert_allclose(found, np.sort(case.arrays["out/reg_terms"]), rtol=1e-6)


def test_first_images_and_codes(case):
    """What one pass makes of the first photos, by the task that draws caricatures."""
    tasks = case.system.tasks

    @jax.jit
    def both(state, asked, seen, key):
        drawn = tasks["caricature"].run(state, asked, key, case.stage)
        return drawn, tasks["style"].run(state, {"input": seen}, key, case.stage)

    with doubles():
        batch = case.batch(0, "float64")
        asked = {"input": batch["input"], "style": batch["z"], "scale": np.ones(len(batch["z"]))}
        seen = np.stack([batch["target"], batch["input"]])[:, 0]
        made, codes = both(case.state("float64"), asked, seen, jax.random.key(0))
    golden = case.arrays
    unit = warpgan.SPREAD / warpgan.CENTRE
    np.testing.assert_allclose(
        made["image"], np.clip(golden["out/first_deform_BA"] * unit, -1, 1), atol=1e-5
    )

    def flat(x):
        return np.asarray(x).reshape(len(x), -1)

    np.testing.assert_allclose(flat(made["points"]), golden["out/first_ldmark_pred"], atol=1e-3)
    np.testing.assert_allclose(
        flat(made["displacements"]), golden["out/first_ldmark_diff"], atol=1e-3
    )
    expected = [golden["out/first_style_A"][0], golden["out/first_style_B"][0]]
    np.testing.assert_allclose(codes["style"], expected, rtol=1e-5)


def test_the_first_step_in_single_precision(case):
    (step,) = case.trained("float32", 1)
    for name, ours in LOSSES.items():
        expected = case.arrays[f"out/loss_{name}"][0]
        np.testing.assert_allclose(step.metrics[ours], expected, rtol=1e-4)
    expected = np.concatenate([case.arrays[f"out/grad_{net}"][0] for net in "GD"])
    delta = case.arrays["out/delta"][0]
    for i, (name, _) in enumerate(case.variables):
        near = 1e-1 if "WarpController" in name else 1e-2
        np.testing.assert_allclose(step.gradients[i, 0], expected[i, 0], rtol=near, err_msg=name)
        np.testing.assert_allclose(step.moved[i, 0], delta[i, 0], rtol=2e-2, err_msg=name)

"""What samples and logits of the gan system depend on: classes, averages, truncation, the batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import config as configs
from gan_jax import training
from gan_jax.core import ema, saved_states
from gan_jax.core.mesh import fetch
from gan_jax.run.experiment import Experiment
from tests.helpers.shell import ROOT
from tests.helpers.tiny_gan import SIZE, B, Z, batch, make

CONV = {
    "model.gen": {"name": "deconv", "width": 2, "spectral_norm": True},
    "model.conditioning": "projection",
    "optim.gen": {"ema": [0.5]},
}
KEY = jax.random.key(0)


@functools.cache
def three_states():
    """The states of CONV before, between and after two steps."""
    made = make(CONV)
    states = [made.state]
    for index in range(2):
        states.append(made.step(states[-1], batch(seed=index), KEY, made.stage)[0])
    return states


@functools.cache
def sampler(options: str):
    made = make(CONV if options == "conv" else {"model.conditioning": options})
    return jax.jit(made.system.sample_step, static_argnums=3)


def seeds(count: int = B, label: int = 0) -> dict[str, np.ndarray]:
    return {"seed": np.arange(count, dtype=np.int32), "label": np.full(count, label, np.int32)}


def evaluated(options: dict, given) -> dict[str, np.ndarray]:
    made = make(options)
    return fetch(
        jax.jit(made.system.eval_step, static_argnums=3)(made.state, given, KEY, made.stage)
    )


# classes


@pytest.mark.parametrize("conditioning", ["none", "concat", "projection"])
def test_the_label_changes_samples_and_logits_where_it_should(conditioning):
    options = CONV if conditioning == "projection" else {"model.conditioning": conditioning}
    made = make(options)
    state = three_states()[2] if options is CONV else made.state
    draw = sampler("conv" if options is CONV else conditioning)
    zero, two = (draw(state, seeds(label=k), KEY, made.stage)["raw"] for k in (0, 2))
    given = {**batch(), "label": np.zeros(B, np.int32)}
    evaluate = jax.jit(made.system.eval_step, static_argnums=3)
    one = evaluate(state, given, KEY, made.stage)["disc"]
    other = evaluate(state, {**given, "label": given["label"] + 1}, KEY, made.stage)["disc"]
    for a, b in ((zero, two), (one, other)):
        assert np.array_equal(a, b) == (conditioning == "none")
        assert np.all(np.isfinite(a))


def test_sample_batches_cycle_the_classes():
    config = configs.load_file(str(ROOT / "configs/dcgan_mnist.py"), "labels,tiny")
    config.run.devices = 1
    experiment = Experiment(config)
    made, titles = experiment.grid_batch()
    assert made["label"].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert made["seed"].tolist() == list(range(8))
    assert titles == ("0", "1", "2", "3")
    assert experiment.sample_batch([7])["label"].tolist() == [3]
    assert experiment.sample_batch([9, 3, 6])["label"].tolist() == [1, 3, 2]
    assert experiment.sample_batch(range(5), (3, 1))["label"].tolist() == [3, 1, 3, 1, 3]
    with pytest.raises(training.UserError, match="accepted are 0 to 3"):
        experiment.sample_batch(range(5), (4,))


# averages and statistics


def test_averaged_samples_come_from_the_average_of_weights_and_statistics():
    made, states = make(CONV), three_states()
    nets = [s.nets["gen"] for s in states]
    # from the initial weights on: e ← ½ e + ½ w, twice
    average = jax.tree.map(
        lambda a, b, c: 0.25 * a + 0.25 * b + 0.5 * c,
        *[(n.params, n.stats) for n in nets],
    )
    ours = saved_states.named(ema.averaged(nets[2]))
    for name, value in saved_states.named(average).items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    drawn = sampler("conv")(states[2], {**seeds(), "z": batch()["z"]}, KEY, made.stage)
    label = seeds()["label"]
    for name, (params, stats) in (("ema", average), ("raw", (nets[2].params, nets[2].stats))):
        by_hand = made.gen.apply(params, stats, batch()["z"], label)[0]
        np.testing.assert_allclose(drawn[name], by_hand, rtol=1e-4, atol=1e-5, err_msg=name)
    assert np.abs(drawn["ema"] - drawn["raw"]).max() > 1e-4


def test_standing_statistics_are_the_mean_over_batches():
    made, state = make(CONV), three_states()[2]
    parts = [batch(seed=10 + i) for i in range(3)]
    stacked = {k: np.stack([p[k] for p in parts]) for k in ("z", "label")}
    stacked["seed"] = np.zeros((3, B), np.int32)
    task = made.system.tasks["standing_statistics"]
    assert task.transforms
    measured = fetch(jax.jit(task.run, static_argnums=3)(state, stacked, KEY, made.stage))
    net = measured.nets["gen"]
    old = state.nets["gen"]
    apply = jax.jit(functools.partial(made.gen.apply, train=True))
    for (params, stats), found in (
        ((old.params, old.stats), net.stats),
        (ema.averaged(old), ema.averaged(net)[1]),
    ):
        # from statistics of zero, a running value is a tenth of the batch's own
        zero = jax.tree_util.tree_map_with_path(
            lambda path, x: x if path[-1].key == "u" else jnp.zeros_like(x), stats
        )
        each = [saved_states.named(apply(params, zero, p["z"], p["label"])[1]) for p in parts]
        found, before = saved_states.named(found), saved_states.named(stats)
        assert {name.rsplit("/", 1)[1] for name in found} == {"mean", "var", "u"}
        for name, value in found.items():
            if name.endswith("/u"):
                np.testing.assert_array_equal(value, before[name])
            else:
                by_hand = np.mean([e[name] for e in each], axis=0) / 0.1
                np.testing.assert_allclose(value, by_hand, rtol=1e-4, atol=1e-5, err_msg=name)
    # nothing else moved
    old, new = saved_states.named(fetch(state)), saved_states.named(measured)
    for name in old:
        if not name.endswith(("/mean", "/var")):
            np.testing.assert_array_equal(new[name], old[name], err_msg=name)
    # sampling uses them
    drawn = sampler("conv")(state, seeds(), KEY, made.stage)["ema"]
    standing = sampler("conv")(measured, seeds(), KEY, made.stage)["ema"]
    assert np.abs(standing - drawn).max() > 1e-4


# latents


def test_truncation_bounds_the_latents():
    """A generator whose first pixels are its latents, scaled."""
    made = make({"model.gen": {"width": 2 * Z}})
    eye, scale = np.eye(Z, dtype=np.float32), 0.05
    output = np.zeros((2 * Z, SIZE * SIZE), np.float32)
    output[:Z, :Z], output[Z:, :Z] = scale * eye, -scale * eye
    params = {  # relu(z) − relu(−z) = z
        "hidden": {"kernel": np.concatenate([eye, -eye], 1), "bias": np.zeros(2 * Z, np.float32)},
        "output": {"kernel": output, "bias": np.zeros(SIZE * SIZE, np.float32)},
    }
    net = made.state.nets["gen"]
    assert jax.tree.map(np.shape, net.params) == jax.tree.map(np.shape, params)
    state = made.state.replace(nets={**made.state.nets, "gen": net.replace(params=params)})
    draw = jax.jit(made.system.sample_step, static_argnums=3)

    def latents(given):
        made_images = np.asarray(draw(state, given, KEY, made.stage)["raw"], np.float64)
        return np.arctanh(made_images.reshape(-1, SIZE * SIZE)[:, :Z]) / scale

    free = latents(seeds(600))
    assert abs(free.std() - 1) < 0.1
    assert np.abs(free).max() > 2
    bound = np.full(600, 0.5, np.float32)
    cut = latents({**seeds(600), "truncation": bound})
    assert np.abs(cut).max() <= 0.5 + 1e-4
    # a normal cut at ± 0.5 is nearly flat: drawn again, not clipped to the bound
    assert np.mean(np.abs(cut) > 0.49) < 0.05
    assert abs(cut.std() - 0.284) < 0.02
    # one seed, one latent
    np.testing.assert_allclose(latents({k: v[7:8] for k, v in seeds(600).items()})[0], free[7])


# the rest of the batch


@pytest.mark.parametrize(
    ("option", "value"), [("minibatch_discrimination", 3), ("minibatch_stddev", 4), ("width", 4)]
)
def test_a_logit_depends_on_the_rest_of_the_batch_only_where_asked(option, value):
    options = {"model.disc": {option: value}}
    given = batch()
    images = given["image"].copy()
    images[1:] = images[:1]  # the others become copies of the first
    first, second = (evaluated(options, {**given, "image": x}) for x in (given["image"], images))
    changed = abs(first["disc"][0] - second["disc"][0]) > 1e-5
    assert changed == (option != "width")


# precision


def test_a_step_in_double_precision():
    """Nothing in the step falls back to single precision."""

    def doubled(x):
        return x.astype("float64") if x.dtype == "float32" else x

    made = make({**CONV, "model.disc": {"name": "conv", "width": 2}})
    with jax.enable_x64(True):
        state = made.state.replace(nets=jax.tree.map(doubled, made.state.nets))
        given = {**batch(), "z": batch()["z"].astype("float64")}
        state, metrics = made.step(state, given, jax.random.key(1), made.stage)
    for leaf in jax.tree.leaves(state.nets):
        assert leaf.dtype == "float64" or leaf.dtype.kind in "iu", leaf.dtype
        assert np.all(np.isfinite(leaf))
    assert all(np.isfinite(value) for value in metrics.values())
    assert metrics["loss/gen"].dtype == metrics["grad_norm/disc"].dtype == "float64"

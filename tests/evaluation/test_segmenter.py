"""The classifier of pixels: its network, its step, its label maps, its mistakes in one line."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import gan_jax
from gan_jax import config as configs
from gan_jax import training
from gan_jax.core import saved_states
from gan_jax.core.mesh import fetch
from gan_jax.core.system import Facts
from gan_jax.errors import UserError
from gan_jax.metrics import segmentation
from gan_jax.models.segmenter import segmenter
from gan_jax.modes.actions import folder_task
from gan_jax.ops import images, palette
from tests.helpers.shell import ROOT

SIDE = 16
SMOOTHING = 0.05
COLOURS = ((10, 20, 30), (250, 0, 0), (0, 200, 90))
PAIRS = Facts(SIDE, 3, 0, 64, 8, 3)
LABELLED = Facts(8, 1, 4, 64, 8)


def configured(**options):
    """The classifier of pixels at a tiny size; `__` stands for a dot."""
    config = configs.defaults("classifier")
    config.data.pairs = "side_by_side"
    config.model.update(output="pixels", palette=COLOURS, width=4)
    config.batch_size, config.run.steps = 4, "60"
    for key, value in options.items():
        *path, last = key.split("__")
        functools.reduce(getattr, path, config)[last] = value
    return config


def made(facts: Facts = PAIRS, **options):
    return configs.SYSTEMS["classifier"].make(configured(**options), facts)


def pairs(seed: int, count: int = 4) -> dict[str, np.ndarray]:
    """Photos whose grey level, noise apart, tells the class; maps a few levels off the palette."""
    random = np.random.default_rng(seed)
    classes = random.integers(0, 3, (count, 4, 4)).repeat(4, axis=1).repeat(4, axis=2)
    photo = 40 + 80 * classes[..., None] + random.integers(-20, 21, (count, SIDE, SIDE, 3))
    target = np.array(COLOURS)[classes] + random.integers(-5, 6, photo.shape)
    photo, target = (np.clip(x, 0, 255).astype(np.uint8) for x in (photo, target))
    return {"input": photo, "target": target, "classes": classes}


def photos(seed: int, count: int = 4) -> dict[str, np.ndarray]:
    """What a batch of data holds."""
    found = pairs(seed, count)
    del found["classes"]
    return found


@functools.cache
def trained():
    """(system, first state, state after 40 steps, all losses)."""
    system = made(
        loss__label_smoothing=SMOOTHING, optim__classifier__lr=1e-2, optim__classifier__ema=(0.9,)
    )
    stage = system.stages[0]
    step = jax.jit(system.train_step, static_argnums=3)
    first = state = jax.jit(system.init, static_argnums=2)(jax.random.key(0), {}, stage)
    losses = []
    for number in range(40):
        state, metrics = step(state, photos(number), jax.random.key(number), stage)
        assert all(np.isfinite(value) for value in metrics.values())
        losses.append(float(metrics["loss/classifier"]))
    return system, first, state, losses


@functools.cache
def jitted(name: str):
    system = trained()[0]
    function = system.eval_step if name == "eval" else system.tasks[name].run
    return jax.jit(function, static_argnums=3)


def run(name: str, state, batch) -> dict[str, np.ndarray]:
    """A task of the trained system, or its eval_step."""
    return fetch(jitted(name)(state, batch, jax.random.key(0), trained()[0].stages[0]))


def test_it_learns():
    """A few steps on pairs it has not seen before; what it then finds is mostly right."""
    _, first, state, losses = trained()
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    new = pairs(1000, 5)
    found = run("classes", state, {"input": new["input"]})["classes"]
    matrix = segmentation.confusion(new["classes"], found, 3)
    assert segmentation.scores(matrix)["pixel_accuracy"] > 0.8
    before, after = (run("eval", s, photos(1000, 5)) for s in (first, state))
    assert after["loss"].mean() < before["loss"].mean()
    assert after["accuracy"].mean() == pytest.approx(np.mean(found == new["classes"]))


def test_validation_is_by_image():
    """One value per image: the share of its pixels that the task `classes` has right."""
    *_, state, _ = trained()
    new = pairs(7, 5)
    values = run("eval", state, photos(7, 5))
    found = run("classes", state, {"input": new["input"]})["classes"]
    assert found.shape == (5, SIDE, SIDE)
    assert found.dtype == np.int32
    assert values.keys() == {"loss", "accuracy"}
    np.testing.assert_allclose(values["accuracy"], np.mean(found == new["classes"], (1, 2)))


def test_the_loss_is_cross_entropy_per_pixel():
    """Written out in numpy, with smoothed labels: log softmax, mean over all pixels."""
    batch = pairs(3)
    _, state, _, _ = trained()
    values = run("eval", state, photos(3))
    net = state.nets["classifier"]
    logits, _ = jax.jit(segmenter(3, SIDE, 4).apply)(
        net.params, net.stats, images.to_unit(batch["input"])
    )
    logits = np.asarray(logits, np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    right = np.take_along_axis(log_p, batch["classes"][..., None], -1)[..., 0]
    expected = -(1 - SMOOTHING) * right - SMOOTHING * log_p.mean(-1)
    np.testing.assert_allclose(values["loss"], expected.mean((1, 2)), rtol=1e-4)


def test_label_maps_are_drawn_in_exactly_the_palettes_colours():
    """By raw weights and by the average, which is what `classes` reads; as bytes unchanged."""
    *_, state, _ = trained()
    new = photos(8, 5)
    drawn = run("translate", state, {"input": new["input"], "seed": np.arange(5)})
    assert drawn.keys() == {"raw", "ema"}
    index = run("classes", state, {"input": new["input"]})["classes"]
    expected = np.array(COLOURS, np.uint8)[index]
    np.testing.assert_array_equal(images.to_uint8(drawn["ema"]), expected)
    assert all(np.abs(picture).max() <= 1 for picture in drawn.values())


def test_every_grey_level_is_drawn_as_itself():
    """`to_uint8` cuts: a level that was rounded down on its way would lose one."""
    levels = np.arange(256).repeat(3).reshape(256, 3)
    grey = tuple(tuple(map(int, colour)) for colour in levels)
    system = made(model__palette=grey, model__width=1)
    stage = system.stages[0]
    state = jax.jit(system.init, static_argnums=2)(jax.random.key(0), {}, stage)
    params, biases = state.nets["classifier"].params, np.eye(256, dtype=np.float32)
    still = {"kernel": jnp.zeros_like(params["logits"]["kernel"])}

    def only(bias):
        net = state.nets["classifier"].replace(params=params | {"logits": still | {"bias": bias}})
        batch = {"input": np.zeros((1, 8, 8, 3), np.uint8)}
        made = system.sample_step(
            state.replace(nets={"classifier": net}), batch, jax.random.key(0), stage
        )
        return images.to_uint8(made["raw"])[0, 0, 0]

    np.testing.assert_array_equal(jax.jit(lambda b: jax.lax.map(only, b))(biases), levels)


def test_colours_may_be_changed_and_nothing_that_moves():
    system = made(augment=("color",))
    shapes = jax.eval_shape(
        lambda k: system.init(k, {}, system.stages[0]), jax.random.key(0)
    )  # fmt: skip
    jax.eval_shape(
        lambda s, b, k: system.train_step(s, b, k, system.stages[0]),
        shapes, photos(0), jax.random.key(0),
    )  # fmt: skip


def test_network():
    """Any sides divisible by 8; grey photos; a view of a hundred pixels and more."""
    network = segmenter(5, 24, width=2)
    x = jax.random.normal(jax.random.key(0), (1, 24, 40, 1))
    params, stats = jax.jit(network.init)(jax.random.key(1), x)
    logits, same = jax.jit(network.apply)(params, stats, x)
    assert logits.shape == (1, 24, 40, 5)
    assert same is not None
    # the same weights at another size, wide enough to see where the view of one logit ends
    wide = jax.random.normal(jax.random.key(2), (1, 8, 256, 1))
    seen = jax.jit(jax.grad(lambda x: network.apply(params, stats, x)[0][0, 4, 128].sum()))(wide)
    columns = np.nonzero(np.abs(seen).sum((0, 1, 3)))[0]
    assert 100 <= columns.max() - columns.min() + 1 <= 166
    for wrong, near in ((20, "16"), (4, "8"), (255, "256")):
        with pytest.raises(UserError, match=f"multiples of 8, such as {near}") as caught:
            segmenter(5, wrong)
        assert f"config.data.resolution={wrong}" in str(caught.value)
    with pytest.raises(UserError, match=r"config\.model\.width=0"):
        segmenter(5, 16, 0)


WRONG = {
    "no such output": (dict(model__output="pixel"), PAIRS, ["model.output", "pixel", "class, "]),
    "no palette": (dict(model__palette=()), PAIRS, ["model.palette=()", "two or more"]),
    "one colour": (dict(model__palette=((1, 2, 3),)), PAIRS, ["model.palette", "two or more"]),
    "not colours": (dict(model__palette=(1, 2, 3)), PAIRS, ["model.palette[0]=1", "(r, g, b)"]),
    "two values": (dict(model__palette=((1, 2, 3), (1, 2))), PAIRS, ["palette[1]=(1, 2)"]),
    "too bright": (dict(model__palette=((0, 0, 0), (0, 0, 256))), PAIRS, ["256", "0 to 255"]),
    "too dark": (dict(model__palette=((0, 0, 0), (0, 0, -1))), PAIRS, ["-1", "0 to 255"]),
    "fractions": (dict(model__palette=((0, 0, 0), (0, 0, 0.5))), PAIRS, ["0.5", "whole"]),
    "the same twice": (dict(model__palette=COLOURS * 2), PAIRS, ["palette[3]", "colour 0"]),
    "single images": (dict(data__pairs="none"), LABELLED, ["data.pairs='none'", "side_by_side"]),
    "grey maps": (
        dict(data__channels="grey"), PAIRS._replace(channels=1, input_channels=1),
        ["data.channels='grey'", "rgb"],
    ),
    "shifts": (dict(augment=("color", "translation")), PAIRS, ["augment", "translation", "jitter"]),
    "shifts, one word": (dict(augment=("color,cutout",)), PAIRS, ["augment", "cutout", "color"]),
    "odd size": ({}, PAIRS._replace(resolution=20), ["data.resolution=20", "multiples of 8"]),
    "no width": (dict(model__width=0), PAIRS, ["model.width=0"]),
    "smoothing": (dict(loss__label_smoothing=1.0), PAIRS, ["loss.label_smoothing=1.0"]),
    "class of pairs": (dict(model__output="class"), PAIRS, ["data.pairs", "model.output"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_are_one_line(case):
    options, facts, words = WRONG[case]
    with pytest.raises(UserError) as caught:
        made(facts, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_a_classifier_of_images_is_what_it_was():
    """The option is off unless asked for: the same arrays under the same names, the same task; a
    config saved before the option came is read as one without it."""
    config = configs.defaults("classifier")
    assert config.model.output == "class"
    assert config.model.palette == ()
    system = configs.SYSTEMS["classifier"].make(config, LABELLED)
    shapes = jax.eval_shape(
        lambda k: system.init(k, {}, system.stages[0]), jax.random.key(0)
    )  # fmt: skip
    net = shapes.nets["classifier"]
    norms = {f"{layer}_norm" for layer in ("conv_0", "conv_1", "conv_2", "hidden")}
    assert set(net.params) == {"conv_0", "conv_1", "conv_2", "hidden", "linear"} | norms
    assert set(net.stats) == {"batch_stats"}
    assert set(net.stats["batch_stats"]) == norms
    assert saved_states.named(net.params)["linear/kernel"].shape == (64, 4)
    assert system.sample_step is None
    assert set(system.tasks) == {"features"}
    saved = configs.plain(config)
    del saved["model"]["output"], saved["model"]["palette"]
    assert configs.plain(configs.typed(saved)) == configs.plain(config)


def test_train_load_and_draw_the_label_maps_of_a_folder(tmp_path):
    """The config at its tiny size, from the command to PNG files; the palette survives saving."""
    config = configs.load_file(str(ROOT / "configs/segmenter_facades.py"), "tiny")
    config.run.devices = 1
    config.run.update(steps="3", sample_count=2)

    summary = training.train(config, tmp_path / "run")
    assert summary["best"]["metric"] == "val/accuracy"
    assert 0 < summary["best"]["value"] <= 1
    assert (tmp_path / "run/samples/000003_raw.png").exists()
    model = gan_jax.load(tmp_path / "run")
    colours = np.array(config.model.palette, np.uint8)
    photo = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3)).astype(np.uint8)
    (tmp_path / "in").mkdir()
    for index, pixels in enumerate(photo):
        Image.fromarray(pixels).save(tmp_path / f"in/{index}.png")
    folder_task.run(
        "translate", str(tmp_path / "in"), tmp_path / "out", tmp_path / "run",
        folder_task.Options(layout="single"),
    )  # fmt: skip
    drawn = np.stack([np.asarray(Image.open(tmp_path / f"out/{index}.png")) for index in (0, 1)])
    classes = jax.jit(model.experiment.system.tasks["classes"].run, static_argnums=3)
    found = classes(model.state, {"input": photo}, model.experiment.key, model.experiment.last)[
        "classes"
    ]
    np.testing.assert_array_equal(drawn, colours[np.asarray(found)])
    np.testing.assert_array_equal(palette.nearest(drawn, colours), found)

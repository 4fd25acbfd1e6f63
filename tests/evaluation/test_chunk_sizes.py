"""Nothing that is drawn or measured depends on how many images are looked at at a time, nor on how
many devices share them.
"""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from gan_jax import config as configs
from gan_jax.core import validation
from gan_jax.core.mesh import Mesh
from gan_jax.evaluation import caricatures, comparison, networks, quality, recogniser
from gan_jax.metrics.features import Network
from gan_jax.modes.actions import folder_task, likelihood, model_choice
from gan_jax.run import latent_walk
from gan_jax.run import model as models
from gan_jax.run.experiment import Experiment
from gan_jax.run.model import Model

ROOT = Path(__file__).parents[2]


# ---------------------------------------------------------------- classes


def setup_of(name: str, variant: str, devices: int = 1, **data) -> Experiment:
    """A tiny config, with other data."""
    config = configs.load_file(str(ROOT / "configs" / f"{name}.py"), variant)
    config.data.update(data)
    config.run.devices = devices
    return Experiment(config)


def drawn_classes(experiment: Experiment, count: int, chunk: int) -> np.ndarray:
    """The classes of the first `count` seeds, asked for `chunk` at a time."""
    parts = [
        experiment.sample_batch(range(start, min(start + chunk, count)))["label"]
        for start in range(0, count, chunk)
    ]
    return np.concatenate(parts)


@pytest.mark.parametrize("chunk", [1, 3, 32, 1000])
def test_every_class_is_drawn_whatever_the_chunk(chunk):
    """Of 40 classes the last eight used to be left out, since every 32 images began anew."""
    experiment = setup_of("dcgan_mnist", "labels,tiny", synthetic_classes=40)
    assert np.bincount(drawn_classes(experiment, 80, chunk)).tolist() == [2] * 40
    ten = setup_of("dcgan_mnist", "labels,tiny", synthetic_classes=10)
    assert np.bincount(drawn_classes(ten, 2000, chunk)).tolist() == [200] * 10


def test_quality_draws_each_of_40_classes_as_often():
    config = configs.load_file(str(ROOT / "configs/dcgan_mnist.py"), "labels,tiny")
    config.data.update(resolution=16, synthetic_classes=40, synthetic_size=160)
    config.quality.update(metrics=("swd",), samples=80, few=True)
    config.run.devices = 1
    experiment = Experiment(config)
    measure = quality.Quality(experiment, None)
    measure._sampler = lambda state, batch, stage, names: {
        "ema": np.zeros((len(batch["seed"]), 1, 1, 1), np.uint8)
    }
    measure._weights = lambda *_: "ema"
    labels = [batch["label"] for _, batch in measure._drawn(None, experiment.last)]
    assert np.bincount(np.concatenate(labels)).tolist() == [2] * 40


@pytest.mark.parametrize("devices", [1, 8])
def test_eight_devices_draw_eight_times_as_many_images_at_a_time(devices):
    config = configs.load_file(str(ROOT / "configs/dcgan_mnist.py"), "tiny")
    config.data.resolution = 16
    config.quality.update(metrics=("swd",), samples=512)
    config.run.devices = devices
    measure = quality.Quality(Experiment(config), None)
    drawn = []
    measure._sampler = lambda state, batch, stage, names: {
        "ema": np.zeros((drawn.append(len(batch["seed"])) or drawn[-1], 1, 1, 1), np.uint8)
    }
    measure._weights = lambda *_: "ema"
    assert sum(len(images) for images, _ in measure._drawn(None, None)) == 512
    assert drawn == [32 * devices] * (16 // devices)


# ---------------------------------------------------------------- models that nobody trained


def random_state(experiment: Experiment, scale: float = 0.3):
    """A state of random weights, without compiling `init`."""
    stage, rng = experiment.system.stages[0], np.random.default_rng(0)
    shapes = jax.eval_shape(
        lambda key: experiment.system.init(key, experiment.batch(), stage), jax.random.key(0)
    )

    def fill(path, leaf):
        if not np.issubdtype(leaf.dtype, np.floating):
            return np.zeros(leaf.shape, leaf.dtype)
        if getattr(path[-1], "key", None) == "var":
            return np.ones(leaf.shape, leaf.dtype)
        return (scale * rng.standard_normal(leaf.shape)).astype(leaf.dtype)

    return experiment.mesh.copy(jax.tree_util.tree_map_with_path(fill, shapes))


def model_of(name: str, variant: str = "tiny", devices: int = 1, scale=0.3, **sections) -> Model:
    """An untrained model of a tiny config, with sections or keys changed."""
    config = configs.load_file(str(ROOT / "configs" / f"{name}.py"), variant)
    for key, values in sections.items():
        if isinstance(values, dict):
            config[key].update(values)
        else:
            config[key] = values
    config.run.devices = devices
    experiment = Experiment(config)
    return Model(experiment, random_state(experiment, scale), 0)


def alike(found: dict, expected: dict, rel: float = 1e-5) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=rel, abs=1e-6), name


def same_images(found: np.ndarray, expected: np.ndarray) -> None:
    """Within one grey level: XLA rounds otherwise for another batch."""
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1


# ---------------------------------------------------------------- validation

TEN = {"validation_fraction": 0.16}  # of 64 images
WITH_OTHERS = {"minibatch_discrimination": 3, "minibatch_stddev": 2}
VALIDATED = {  # config: (options, batch sizes on one device)
    "dcgan_mnist": ({"variant": "labels,tiny", "data": TEN}, (1, 3, 32)),
    "mlpgan_mnist": (
        {"data": TEN, "model": {"disc": {"name": "dense", "width": 8, **WITH_OTHERS}}},
        (8, 16),
    ),
    "progan_mnist": ({"data": TEN, "scale": 1.0}, (4, 12)),
    "diffusion_mnist": ({"data": TEN}, (3,)),
    "noisy_classifier_mnist": ({"data": TEN}, (1, 32)),
    "warpgan_drawn": ({}, (3,)),
    "pix2pix_facades": ({"data": TEN, "test": {"train_mode_loss": True}}, (3, 32)),
}


def validated(model: Model, size: int) -> dict[str, float]:
    experiment = model.experiment
    stage = dataclasses.replace(experiment.last, batch_size=size)
    return validation.Validator(
        experiment.system, experiment.mesh, experiment.data, experiment.key
    )(model.state, stage)


@pytest.mark.parametrize("name", VALIDATED)
def test_validation_values_do_not_depend_on_the_batch(name):
    """On one device or eight, however many rows fill up the last batch: what is drawn for an image
    is a function of its number."""
    options, sizes = VALIDATED[name]
    first = validated(model_of(name, **options), sizes[0])
    assert all(np.isfinite(list(first.values())))
    for size in sizes[1:]:
        alike(validated(model_of(name, **options), size), first, rel=2e-5)
    alike(validated(model_of(name, devices=8, **options), 8), first, rel=2e-5)


def test_the_last_group_of_a_critic_is_filled_up_from_the_first_images():
    """Ten images in groups of four: the last two are seen beside the first two, different images
    as in training, and not beside copies of the last."""
    model = model_of("progan_mnist", data=TEN, scale=1.0)
    experiment = model.experiment
    assert experiment.facts.validation_size == 10
    stage = dataclasses.replace(experiment.last, batch_size=4)
    evaluate = jax.jit(experiment.system.eval_step, static_argnums=3)
    found = []
    for start in (0, 4, 8):
        numbers = np.arange(start, start + 4, dtype=np.int32)
        batch = {**experiment.data.rows("validation", numbers % 10), "seed": numbers}
        found.append(evaluate(model.state, batch, experiment.key, stage)["wasserstein"])
    mean = np.mean(np.concatenate(found)[:10])
    assert validated(model, 12)["val/wasserstein"] == pytest.approx(mean, rel=1e-5)


# ---------------------------------------------------------------- drawing


def test_images_are_the_same_asked_for_together_and_in_parts():
    model = model_of("dcgan_mnist", "labels,tiny")
    whole = model.sample(range(37))
    for size in (1, 3):
        parts = [model.sample(range(37)[start : start + size]) for start in range(0, 37, size)]
        same_images(np.concatenate(parts), whole)
    same_images(model_of("dcgan_mnist", "labels,tiny", devices=8).sample(range(37)), whole)
    same_images(model.sample([30, 7, 7]), whole[[30, 7, 7]])


def test_a_walk_is_the_same_drawn_in_any_number_of_images(monkeypatch):
    model = model_of("dcgan_mnist", "labels,tiny")
    z = latent_walk.latents([5, 2, 7], 43, model.experiment.system.latents, 3.0)
    cells = model.experiment.sample_batch([5, 2, 7])
    whole = np.stack(list(model.along(cells, z)))  # 129 images
    monkeypatch.setattr(models, "BYTES", 1)  # 64 at a time
    same_images(np.stack(list(model.along(cells, z))), whole)
    alone = model.along(model.experiment.sample_batch([7]), z[:, 2:])
    same_images(np.stack(list(alone)), whole[2::3])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Seven small pictures beside what should become of them."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for n in range(7):
        picture = rng.integers(0, 256, (16, 32, 3)).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{n}.png")
    return folder


@pytest.mark.parametrize("test", [{}, {"norm": "batch", "dropout": True}], ids=["usual", "own"])
def test_translations_are_the_same_in_any_chunks(test, photos, tmp_path, monkeypatch):
    """Also where every image has statistics and dropout of its own."""
    found = {}
    for chunk, devices in ((16, 1), (1, 1), (3, 1), (16, 8)):
        model = model_of("pix2pix_facades", devices=devices, test=test)
        monkeypatch.setattr(folder_task, "CHUNK", chunk)
        monkeypatch.setattr(model_choice, "opened", lambda *_, model=model: model)
        out = tmp_path / f"{chunk}_{devices}"
        folder_task.run("translate", str(photos), out, "run")
        scores = json.loads((out / "scores.json").read_text())
        images = np.stack([np.asarray(Image.open(out / f"{n}.png")) for n in range(7)])
        found[chunk, devices] = images, scores
    whole, scores = found[16, 1]
    for images, others in found.values():
        same_images(images, whole)
        alike(others, scores, rel=1e-3)  # of images that were rounded to grey levels


# ---------------------------------------------------------------- metrics


@pytest.mark.parametrize("chunk", [1, 3, 7, 32])
def test_metrics_of_two_sets_do_not_depend_on_the_chunk(chunk, tmp_path, monkeypatch):
    """Of odd numbers of images, where a chunk leaves one over."""
    rng = np.random.default_rng(0)
    for name, count in (("real", 33), ("fake", 33)):
        images = rng.integers(0, 256, (count, 16, 16, 3)).astype(np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=images)
    names = ("swd", "ms_ssim", "l1", "psnr", "ssim")
    paths = [str(tmp_path / f"{name}.npz") for name in ("real", "fake")]
    monkeypatch.setattr(comparison, "Mesh", lambda: Mesh(1))
    whole = comparison.compare(*paths, names)["figures"]
    monkeypatch.setattr(networks, "CHUNK", chunk)
    found = comparison.compare(*paths, names)["figures"]
    alike(found, whole, rel=1e-6)


def measured(model: Model, classifier: Model, chunk: int, monkeypatch) -> dict[str, float]:
    monkeypatch.setattr(networks, "CHUNK", chunk)
    measure = quality.Quality(model.experiment, lambda: classifier)
    return measure(model.state, model.experiment.last)


def test_quality_does_not_depend_on_the_chunk(monkeypatch):
    names = (
        "swd",
        "ms_ssim",
        "fd_classifier",
        "fd_by_class_classifier",
        "classes",
        "pr_classifier",
    )
    options = {
        "variant": "labels,tiny",
        "data": {"resolution": 16},
        "quality": {"metrics": names, "samples": 17, "few": True},
    }
    classifier = model_of("classifier_mnist", data={"resolution": 16})
    model = model_of("dcgan_mnist", **options)
    first = measured(model, classifier, 32, monkeypatch)
    for chunk in (1, 3):
        alike(measured(model, classifier, chunk, monkeypatch), first, rel=1e-3)
    eight = model_of("dcgan_mnist", devices=8, **options)
    alike(measured(eight, classifier, 4, monkeypatch), first, rel=1e-3)


def test_caricatures_are_measured_alike_in_any_chunks(monkeypatch):
    model = model_of("warpgan_drawn")
    shape = (32 * 32 * 3, 8)
    random = np.random.default_rng(0).standard_normal(shape).astype(np.float32)

    def extract(images, taps):
        return {"features": images.reshape(len(images), -1) @ random}

    network = Network("random", "0", "none", {"features": 8}, extract)
    monkeypatch.setattr(recogniser, "open_recogniser", lambda *_: (network, ""))
    found = []
    for chunk in (3, 32):
        monkeypatch.setattr(networks, "CHUNK", chunk)
        values = {}
        for measure in (caricatures.Identities, caricatures.Exaggeration):
            values |= measure(model.experiment, "validation", np.arange(7))(
                model.state, model.experiment.last
            )
        found.append(values)
    alike(found[1], found[0], rel=1e-3)


def test_bits_do_not_depend_on_the_chunk(tmp_path, monkeypatch):
    figures = []
    for chunk, devices in ((3, 1), (32, 8)):
        model = model_of("diffusion_mnist", devices=devices, sampling={"steps": "2"})
        monkeypatch.setattr(likelihood, "CHUNK", chunk)
        monkeypatch.setattr(likelihood, "load", lambda *_, model=model: model)
        told = likelihood.run("run", tmp_path / f"{chunk}", count=5)
        bits = np.load(tmp_path / f"{chunk}" / "bits.npz")["total"]
        error = np.sqrt(np.sum((bits - bits.mean()) ** 2) / (5 - 1) / 5)
        assert told["standard_error"] == pytest.approx(error, rel=1e-5)
        figures.append(told | {f"image {n}": float(value) for n, value in enumerate(bits)})
    alike(figures[1], figures[0], rel=1e-4)
    one = likelihood.run("run", tmp_path / "one", count=1)
    assert one["standard_error"] is None  # an image says nothing of how others differ

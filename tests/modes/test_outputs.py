"""What a run leaves in its folder, and what the modes make of it."""

import io
import json
import math
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import gan_jax
from gan_jax import config as configs
from gan_jax import log, training
from gan_jax.core import schedules
from gan_jax.core.system import Stage
from gan_jax.errors import UserError
from gan_jax.modes.actions import sample
from gan_jax.report import grids
from gan_jax.run import summary as outcomes
from gan_jax.run.dry_run import dry_run
from gan_jax.run.experiment import Experiment
from tests.helpers.one_line import assert_refused, refused_argument
from tests.helpers.run_folders import Parsed
from tests.helpers.shell import ROOT, launch_here, rows

STEPS = ("000003", "000006")


def config(variant: str = "tiny", name: str = "dcgan_mnist"):
    found = configs.load_file(str(ROOT / f"configs/{name}.py"), variant)
    found.run.devices = 1
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(folder, summary, what was said) of six steps of the class-conditional DCGAN."""
    folder, said = tmp_path_factory.mktemp("outputs") / "run", []
    chosen = config("tiny")
    chosen.model.conditioning = "concat"
    chosen.data.synthetic_size = 48  # an epoch is six batches
    with log.sent_to(said.append):
        summary = training.train(chosen, folder)
    return folder, summary, said


@pytest.fixture(scope="module")
def model(run):
    return gan_jax.load(run[0])


# files


def test_tensorboard_gets_every_setting_by_its_key(run):
    events = EventAccumulator(str(run[0] / "events"))
    events.Reload()
    found = events.summary_metadata.items()
    (start,) = [data for tag, data in found if tag.endswith("session_start_info")]
    for key in (b"optim.gen.lr", b"run.steps", b"model.conditioning", b"0.0005"):
        assert key in start.plugin_data.content


def test_config_is_resolved_with_versions_and_revision(run):
    found = json.loads((run[0] / "config.json").read_text())
    values = found["config"]
    assert values["run"]["steps"] == "6"
    assert values["optim"]["gen"]["lr"] == 5e-4
    assert values["optim"]["disc"]["b2"] == 0.999  # a default
    assert found["versions"]["jax"] == jax.__version__
    assert {"python", "flax", "optax", "numpy"} <= set(found["versions"])
    assert found["git"] == "" or len(found["git"].removesuffix("-dirty")) == 40
    assert found["devices"] == {"platform": jax.default_backend(), "count": 1}


def test_metrics_hold_train_epoch_and_eval_rows(run):
    found = rows(run[0])
    assert [r["step"] for r in found if r["kind"] == "train"] == [2, 4, 6]
    assert [r["step"] for r in found if r["kind"] == "epoch"] == [6]
    assert [r["step"] for r in found if r["kind"] == "eval"] == [3, 6]
    train, score = (next(r for r in found if r["kind"] == k) for k in ("train", "eval"))
    names = {"loss/gen", "loss/disc", "accuracy/real", "accuracy/fake", "loss/r1", "epoch"}
    names |= {f"{kind}/{net}" for kind in ("rate", "grad_norm") for net in ("gen", "disc")}
    assert names <= set(train)
    assert {"val/gen", "val/disc", "fd_classifier", "class_entropy", "class_confidence"} <= set(
        score
    )
    assert score["class_entropy"] <= math.log(4) + 1e-6
    assert sum(score[f"class_fraction/{k}"] for k in range(4)) == pytest.approx(1)


def test_tensorboard_reads_the_events(run):
    events = EventAccumulator(str(run[0] / "events"))
    events.Reload()
    assert [e.step for e in events.Scalars("loss/gen")] == [2, 4, 6]
    assert [e.step for e in events.Scalars("fd_classifier")] == [3, 6]
    assert [e.step for e in events.Images("samples/ema")] == [3, 6]
    by_step = {r["step"]: r for r in rows(run[0]) if r["kind"] == "train"}
    for event in events.Scalars("loss/gen"):
        assert event.value == pytest.approx(by_step[event.step]["loss/gen"], rel=1e-6)


def test_pictures(run):
    folder = run[0]
    names = sorted(p.name for p in (folder / "samples").iterdir())
    assert names == [f"{step}_{kind}.png" for step in STEPS for kind in ("ema", "raw")]
    pixels = {n: np.asarray(Image.open(folder / "samples" / n)) for n in names}
    assert not np.array_equal(pixels["000003_raw.png"], pixels["000006_raw.png"])
    for name in ("reals.png", "neighbours.png", "curves.png"):
        with Image.open(folder / name) as picture:
            picture.load()
            assert min(picture.size) > 8, name


def test_grids_show_the_same_latents_all_along(run, model):
    """The grid of a step is what its state draws from seeds 0, 1, … with a column per class."""
    for step in (3, 6):
        old = gan_jax.load(run[0], str(step))
        assert old.step == step
        batch, titles = old.experiment.grid_batch()
        assert batch["label"].tolist() == [0, 1, 2, 3] * 2
        for kind in ("raw", "ema"):
            images = old.sample(batch["seed"], weights=kind)
            grid = grids.grid(images, columns=4, column_titles=titles)
            written = np.asarray(Image.open(run[0] / "samples" / f"{step:06d}_{kind}.png"))
            assert np.abs(grid.astype(int) - written).max() <= 1


def test_summary(run):
    folder, summary, said = run
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert (summary["reason"], summary["step"]) == ("finished", 6)
    assert summary["best"]["metric"] == "fd_classifier"
    values = {r["step"]: r["fd_classifier"] for r in rows(folder) if r["kind"] == "eval"}
    assert summary["best"]["value"] == pytest.approx(min(values.values()))
    assert values[summary["best"]["step"]] == pytest.approx(summary["best"]["value"])
    assert summary["scores_step"] == 6
    assert summary["wall_seconds"] > 0
    assert summary["images_per_second"] > 0
    assert summary["memory"]["bytes"] > 2**20
    assert summary["memory"]["source"] in (
        "device statistics",
        "maximum resident set of the process",
    )
    assert summary["last_grid"] == str(folder / "samples" / "000006_ema.png")
    assert f"last grid: {summary['last_grid']}" in said
    assert f"run folder: {folder}" in said


def test_scores_of_an_earlier_step_are_told_as_such(lines):
    scores = {"fid": 2.0}
    best = {"metric": "fid", "value": 2.0, "step": 6}
    usual = {"reason": "terminated", "step": 9, "best": best, "scores": scores}
    usual |= {"wall_seconds": 1, "last_grid": "", "workdir": "runs/a"}
    for measured, line in ((6, "scores of step 6: fid 2.0000"), (9, "scores: fid 2.0000")):
        lines.clear()
        outcomes.show(usual | {"scores_step": measured})
        assert line in lines
    outcomes.show(usual)  # of an earlier revision


def test_the_last_grid_is_that_of_the_highest_step(tmp_path):
    """Also where steps have outgrown the six digits of a file's name."""
    (tmp_path / "samples").mkdir()
    for name in ("999999_raw.png", "1000000_raw.png", "1000000_ema.png"):
        (tmp_path / "samples" / name).touch()
    assert outcomes._last_grid(tmp_path) == str(tmp_path / "samples" / "1000000_ema.png")


def test_a_best_metric_that_nothing_measures_is_refused(tmp_path):
    """Validation losses where no images are kept for validation."""
    chosen = config()
    chosen.data.validation_split, chosen.data.validation_fraction = "", 0.0
    chosen.best.metric = "val/disc"
    with pytest.raises(UserError, match=r"config\.best\.metric='val/disc' is not measured"):
        training.train(chosen, tmp_path / "run")
    chosen.run.quality_every = "0"  # a run without any scores keeps no best state
    training._check_best(Experiment(chosen))


def test_states(run):
    folder, summary, _ = run
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["3", "6"]
    assert [p.name for p in (folder / "best" / "stage0").iterdir()] == [
        str(summary["best"]["step"])
    ]
    assert gan_jax.load(folder, "best").step == summary["best"]["step"]
    others = "no state '5'; there are newest, best and the steps"
    assert_refused(f"^{folder}: {others}", gan_jax.load, folder, "5")


# a trained model


def test_one_seed_one_image(model):
    first = model.sample(range(10), [2, 0])
    assert (first.shape, first.dtype) == ((10, 8, 8, 1), np.uint8)
    np.testing.assert_array_equal(first, model.sample(range(10), [2, 0]))
    for k, label in ((0, 2), (7, 0)):
        alone = model.sample([k], [label])[0].astype(int)
        assert np.abs(alone - first[k]).max() <= 1
    assert np.abs(first[0].astype(int) - first[2]).max() > 1
    assert np.abs(model.sample([3], [2]).astype(int) - first[3]).max() > 0  # another class
    assert not np.array_equal(model.sample([0], [2], weights="raw")[0], first[0])


def test_what_a_model_cannot_do_is_said(model):
    for name, value, message in (
        ("classes", [4], "^: no class 4; accepted are 0 to 3"),
        ("seeds", [], "^: give whole numbers"),
        ("seeds", [-1], "^: give whole numbers"),
        ("truncation", -1.0, "^=-1.0: must be above 0"),
        ("weights", "best", "^=best: this model has ema, raw"),
    ):
        refused_argument(name, message, model.sample, **{"seeds": [0], name: value})


def test_truncation_and_standing_statistics_change_samples(model):
    plain = model.sample(range(4)).astype(int)
    assert np.abs(model.sample(range(4), truncation=0.3) - plain).max() > 0
    assert np.abs(model.standing_statistics(2, 8).sample(range(4)) - plain).max() > 0


def test_sample_files(run, model, tmp_path):
    files = sample.sample(run[0], tmp_path / "a", [0, 5], [3, 1], ("grid", "png", "npz"))
    names = ["grid.png", "seed000000_class3.png", "seed000005_class1.png", "samples.npz"]
    assert [f.name for f in files] == names
    assert files[0] == tmp_path / "a" / "sheets" / "grid.png"
    arrays = np.load(tmp_path / "a" / "samples.npz")
    assert (arrays["seeds"].tolist(), arrays["labels"].tolist()) == ([0, 5], [3, 1])
    np.testing.assert_array_equal(arrays["images"], model.sample([0, 5], [3, 1]))
    for name, image in zip(names[1:3], arrays["images"], strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a" / name)), image[..., 0])
    accepted, asked = "^=gif: accepted are grid, png, npz", dict(formats=("gif",))
    refused_argument("formats", accepted, sample.sample, run[0], tmp_path / "a", [0], **asked)


def test_evaluate_says_what_it_does_and_ends_with_a_table(run, lines):
    scores = gan_jax.evaluate(run[0])
    first = lines.index(f"step 6 of {run[0]}:") + 1
    said = lines[:first]
    for part in (
        f"reading the state newest of {run[0]}",
        "validation losses of ",
        "preparing the metrics fd_classifier, classes",
        "drawing ",
        "computing fd_classifier, classes",
    ):
        assert any(line.startswith(part) for line in said), part
    table = lines[first : first + len(scores)]
    assert [line.split()[0] for line in table] == list(scores)
    assert [float(line.split()[1]) for line in table] == pytest.approx([*scores.values()], rel=1e-4)
    (distance,) = [line for line in table if line.startswith("fd_classifier")]
    assert distance.endswith("  lower is better")
    assert not any("{" in line for line in lines)  # the JSON is in the file


def test_evaluate_gives_the_figures_of_training(run):
    scores = gan_jax.evaluate(run[0])
    written = json.loads((run[0] / "evaluate.json").read_text())
    assert (written.pop("step"), written.pop("state")) == (6, "newest")
    assert written.pop("quality") == json.loads((run[0] / "quality.json").read_text())
    assert written == scores
    logged = [r for r in rows(run[0]) if r["kind"] == "eval"][-1]
    for name, value in scores.items():
        assert value == pytest.approx(logged[name], rel=1e-3, abs=1e-4), name


def test_figures_by_class_of_a_labelled_run(run):
    """In `evaluate`, by the classes that seeds stand for, under the names of the classes."""
    chosen = gan_jax.load(run[0]).config.copy_and_resolve_references()
    chosen.quality.metrics = ("fd_by_class_classifier",)
    scores = gan_jax.evaluate(run[0], config=chosen)
    by_class = [name for name in scores if name.startswith("fd_by_class")]
    assert by_class == ["fd_by_class_classifier", *(f"fd_by_class_classifier/{k}" for k in "0123")]
    assert all(np.isfinite(scores[name]) for name in by_class)


def test_report_from_the_shell(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = launch_here("--mode=report", f"--workdir={run[0]}", "--out=page.html")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("page.html")
    assert "fd_classifier" in (tmp_path / "page.html").read_text()
    done = launch_here("--mode=report", f"--workdir={run[0]}, {run[0] / 'classifier'}")
    assert done.stdout.strip().endswith("comparison.html"), done.stderr
    assert "Comparison of 2 runs" in (tmp_path / "comparison.html").read_text()


def test_every_run_has_a_page_of_its_own(run):
    """Training leaves it behind, also the training of the classifier beside a run."""
    for folder, status in ((run[0], "Finished"), (run[0] / "classifier", "Finished")):
        shown = Parsed(folder / "report.html")
        assert f"{status} at step" in shown.text
        assert shown.data["curves-data"]


# much at once


def test_many_images_show_how_far_they_are(run, model, tmp_path, monkeypatch, lines):
    """A bar on a terminal, and a line first; a single batch has neither."""
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sample, "MANY", 70)
    sample.sample(run[0], tmp_path / "few", range(64))
    assert screen.getvalue() == ""
    sample.sample(run[0], tmp_path / "many", range(70), formats=("png",))
    shown = screen.getvalue()
    assert "image 70/70" in shown
    assert "file 70/70" in shown
    assert "drawing 70 images by step 6" in lines
    done = []
    images = model.sample(70, progress=done.append)
    assert done == [64, 70]
    np.testing.assert_array_equal(images[:4], model.sample(4, progress=done.append))
    assert done == [64, 70]


# before a run


def test_a_run_that_ends_inside_its_warm_up_is_told():
    chosen = config("tiny")
    chosen.optim.gen.schedule.warmup = 1000.0
    (notice,) = Experiment(chosen).system.notices
    assert notice == (
        "the learning rate of gen is still warming up when the run ends, at 6 steps; change "
        "config.optim.gen.schedule.warmup, or raise config.run.steps"
    )


@pytest.mark.parametrize(
    ("schedule", "line"),
    [
        (dict(), "learning rate 0.002"),
        (dict(name="cosine"), "learning rate 0.002 → 0"),
        (dict(name="cosine", floor=1e-4), "learning rate 0.002 → 0.0001"),
        (dict(warmup=100.0), "learning rate 0.002"),
    ],
)
def test_the_line_on_a_learning_rate(schedule, line):
    section = SimpleNamespace(**schedules.defaults() | schedule)
    rate = schedules.make(2e-3, section, (Stage(8, 4, 0, 10_000),), (10,), "schedule")
    assert outcomes._rate_line(rate, 10_000) == line


def test_dry_run_counts_parameters_and_bytes(lines):
    chosen = config("", "mlpgan_mnist")
    report = dry_run(chosen)
    text = "\n".join(lines)
    assert json.loads(lines[0])["optim"]["gen"]["lr"] == 1e-4
    stage = "stage 0: 28 px, 128 images per step, steps 0 to 7,800 (about 100 epochs of 10,000 "
    for number in ("12,928", "101,136", f"{stage}images)"):
        assert number in text, number
    experiment = Experiment(chosen)
    state = experiment.fresh().state
    for name, tree in {"state": state, **state.nets}.items():
        exact = sum(x.nbytes for x in jax.tree.leaves(tree))
        assert report["bytes"][name] == exact
        assert f"{name} {exact:,}" in text


def test_dry_run_says_what_the_run_takes(lines):
    """States and grids on the disk, as a run of the same config leaves them; steps and measures."""
    chosen = config("", "dcgan_mnist")
    chosen.run.update(steps="100", keep=3, keep_every="40", sample_every="25", sample_count=4)
    chosen.run.update(quality_every="50", eval_every="20")
    chosen.quality.update(metrics=("swd",), samples=16)
    chosen.best.metric = "swd/mean"
    dry_run(chosen)
    (disk,) = [line for line in lines if line.startswith("disk: ")]
    assert "6 states (3 newest, 2 kept for good, 1 best) of " in disk
    assert "and 8 sample grids of about 3.1 kB" in disk  # raw and ema, 4 images of 28 x 28
    (time,) = [line for line in lines if line.startswith("time: ")]
    for part in (
        "100 training steps, 5 validations, 2 measurements of swd on 16 images, ",
        "4 grids of 4 images; the first steps of the run will tell how long it takes",
    ):
        assert part in time


def test_dry_run_asks_xla_for_the_memory_of_a_step(lines):
    report = dry_run(config(), compile_step=True)
    assert report["xla"]["argument"] >= report["bytes"]["state"]
    assert report["xla"]["temp"] > 0
    assert report["xla"]["alias"] > 0  # the state is updated in place
    assert lines[-1].startswith("XLA bytes per device for one step: argument ")

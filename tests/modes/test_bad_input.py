"""Every mistake ends in one clear line and a non-zero status, and loses nothing."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_jax import config as configs
from gan_jax import training
from gan_jax.errors import UserError
from gan_jax.run.experiment import Experiment
from tests.helpers.shell import ROOT, TINY, arrays, assert_same, error_line, launch_here

QUIET = ("--config.run.quality_every=0", "--config.best.metric=val/gen")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A short finished run."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    done = launch_here(TINY, f"--workdir={workdir}", *QUIET)
    assert done.returncode == 0, done.stderr
    return workdir


def pictures(folder: Path, count: int = 24, size: int = 8) -> Path:
    folder.mkdir()
    for index in range(count):
        pixels = np.full((size, size), index * 10, np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")
    return folder


WRONG = {
    "run.steps": ("many", ["config.run.steps", "many", "2 epochs"]),
    "run.save_every": ("-3", ["config.run.save_every", "-3"]),
    "loss.name": ("best", ["config.loss.name", "best", "non_saturating"]),
    "loss.order": ("random", ["config.loss.order", "random", "generator_first"]),
    "loss.flip": (0.9, ["config.loss.flip", "0.9"]),
    "loss.noise": (0.1, ["config.loss.noise_steps"]),
    "model.gen.name": ("huge", ["config.model.gen.name", "huge", "deconv"]),
    "model.gen.init": ("zeros", ["config.model.gen.init", "zeros", "orthogonal"]),
    "model.disc.batch_norm": ("maybe", ["config.model.disc.batch_norm", "maybe", "off"]),
    "model.conditioning": ("late", ["config.model.conditioning", "late", "projection"]),
    "optim.gen.name": ("lion", ["config.optim.gen.name", "lion", "adamw"]),
    "optim.gen.b1": (1.0, ["config.optim.gen.b1", "1.0"]),
    "optim.gen.ema": ((2.0,), ["config.optim.gen.ema", "2.0"]),
    "optim.disc.schedule.name": ("up", ["config.optim.disc.schedule.name", "up", "cosine"]),
    "augment": (("blur",), ["config.augment", "blur", "color"]),
    "data.source": ("web", ["data.source", "web", "digits"]),
    "batch_size": (100, ["100", "64", "lower config.batch_size, or give"]),
    "best.metric": ("val/nothing", ["config.best.metric", "val/nothing", "val/gen"]),
    "best.mode": ("most", ["config.best.mode", "most", "min"]),
    "quality.classifier": ("/no/where", ["/no/where"]),
    "restore.gen": (("/no/where", "*"), ["config.restore.gen", "/no/where"]),
    "restore.disc": (("runs/a",), ["config.restore.disc", "runs/a"]),
    "run.keep": (0, ["config.run.keep", "0", "1"]),
    "run.sample_count": (0, ["config.run.sample_count"]),
    "quality.samples": (1, ["config.quality.samples", "2"]),
    "seed": (-1, ["config.seed", "-1"]),
    "loss.r1": (-1.0, ["config.loss.r1", "-1.0"]),
    "optim.disc.lr": (-1.0, ["config.optim.disc.lr", "-1.0"]),
    "model.disc.minibatch_stddev": (3, ["config.model.disc.minibatch_stddev", "8"]),
    "run.devices": (99, ["config.run.devices", "99"]),
}


@pytest.mark.parametrize("key", WRONG)
def test_wrong_values(tmp_path, key):
    """Refused before a step is taken, in one line with key, value and what is accepted."""
    config = configs.load_file(str(ROOT / "configs/dcgan_mnist.py"), "tiny")
    config.run.devices = 1
    if not key.startswith("quality"):
        config.run.quality_every = "0"
        config.best.metric = "val/gen"
    value, words = WRONG[key]
    section, _, name = key.rpartition(".")
    target = config
    for part in filter(None, section.split(".")):
        target = target[part]
    target[name] = value
    with pytest.raises(UserError) as caught:
        training.train(config, tmp_path / "run")
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("name", "change", "keys"),
    [
        (
            "dcgan_mnist",
            lambda c: c.loss.update(disc_steps=90),
            "batch_size or config.loss.disc_steps",
        ),
        ("classifier_mnist", lambda c: c.update(batch_size=90), "batch_size"),
        (
            "progan_mnist",
            lambda c: c.growth.update(batch="4:88"),
            "growth.batch or config.batch_size",
        ),
        ("warpgan_folder", lambda c: c.update(batch_size=90), "batch_size"),
    ],
)
def test_too_few_images_for_a_batch_name_the_key_to_lower(name, change, keys):
    config = configs.load_file(str(ROOT / f"configs/{name}.py"), "tiny")
    config.run.devices = 1
    change(config)
    with pytest.raises(UserError, match=f"; lower config.{keys}, or give more "):
        Experiment(config)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config.optim.gen.lrr=1"], ["lrr", "lr"]),
        (["--config.optim.gen.lr=fast"], ["optim.gen.lr", "fast"]),
        (["--config.batch_size=1.5"], ["batch_size", "1.5"]),
        (["--mode=dream"], ["--mode", "dream", "sample"]),
        (["--steps=3"], ["steps"]),
        (["extra"], ["extra"]),
        (["--config.data.source=folder", "--config.data.path=/no/where"], ["/no/where"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("-") else "",
)
def test_wrong_flags(tmp_path, arguments, words):
    line = error_line(launch_here(TINY, f"--workdir={tmp_path / 'run'}", *QUIET, *arguments))
    for word in words:
        assert word in line


def test_missing_config_and_workdir(tmp_path):
    assert "--config" in error_line(launch_here(f"--workdir={tmp_path / 'run'}"))
    assert "nothere.py" in error_line(launch_here("--config=configs/nothere.py"))
    assert "--workdir" in error_line(launch_here("--mode=sample"))
    with pytest.raises(UserError, match="workdir is empty: name the folder this run lives in"):
        training.train(configs.load_file("dcgan_mnist", "tiny"), "")


def test_images_that_cannot_be_used(tmp_path):
    folder = pictures(tmp_path / "images")
    data = ["--config.data.source=folder", f"--config.data.path={folder}"]
    run = [TINY, *QUIET, *data]
    (folder / "003.png").write_bytes((folder / "003.png").read_bytes()[:40])
    line = error_line(launch_here(*run, f"--workdir={tmp_path / 'a'}"))
    assert "003.png" in line
    assert "on_error" in line
    done = launch_here(*run, f"--workdir={tmp_path / 'a'}", "--config.data.on_error=skip")
    assert done.returncode == 0, done.stderr
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(folder / "003.png")
    line = error_line(launch_here(*run, f"--workdir={tmp_path / 'b'}"))
    assert "003.png" in line
    assert "resize" in line
    (tmp_path / "empty").mkdir()
    line = error_line(
        launch_here(*run, f"--config.data.path={tmp_path / 'empty'}", f"--workdir={tmp_path / 'c'}")
    )
    assert "empty" in line


def test_a_workdir_with_another_config_shows_the_keys_and_stays(trained):
    before = arrays(trained)
    line = error_line(
        launch_here(
            TINY, f"--workdir={trained}", *QUIET, "--config.optim.gen.lr=0.1", "--config.seed=5"
        )
    )
    for word in ("optim.gen.lr", "0.0005", "0.1", "config.seed"):
        assert word in line
    assert_same(before, arrays(trained))


def test_data_that_changed_since_the_run_began(tmp_path):
    """More images would move some from training to validation: refused, with the numbers."""
    folder = pictures(tmp_path / "images")
    config = configs.load_file(str(ROOT / "configs/dcgan_mnist.py"), "tiny")
    config.run.update(devices=1, quality_every="0", steps="2")
    config.best.metric = "val/gen"
    config.data.update(source="folder", path=str(folder))
    training.train(config, tmp_path / "run")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "more.png")
    config.run.steps = "4"
    with pytest.raises(UserError, match=r"data has changed.*train_size was 18, is 19"):
        training.train(config, tmp_path / "run")


def test_a_workdir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    line = error_line(launch_here(TINY, *QUIET, f"--workdir={tmp_path / 'file' / 'run'}"))
    assert "--workdir" in line


def test_more_steps_are_refused_where_a_rate_depends_on_them(tmp_path):
    cosine = "--config.optim.gen.schedule.name=cosine"
    done = launch_here(TINY, *QUIET, f"--workdir={tmp_path / 'run'}", cosine)
    assert done.returncode == 0, done.stderr
    line = error_line(
        launch_here(TINY, *QUIET, f"--workdir={tmp_path / 'run'}", cosine, "--config.run.steps=9")
    )
    assert "config.optim.gen.schedule" in line


def test_a_damaged_newest_checkpoint_falls_back(trained, tmp_path):
    """The one before is used, the damage is said, and the run ends where it would have ended."""
    workdir = tmp_path / "run"
    shutil.copytree(trained, workdir)
    (workdir / "summary.json").unlink()
    newest = max((workdir / "checkpoints").iterdir(), key=lambda p: int(p.name))
    assert newest.name == "6"
    largest = max(
        (p for p in (newest / "state").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )
    os.truncate(largest, largest.stat().st_size // 2)
    done = launch_here(TINY, f"--workdir={workdir}", *QUIET)
    assert done.returncode == 0, done.stderr
    assert "checkpoint 6 is damaged" in done.stdout
    assert "resuming from step 3" in done.stdout
    assert_same(arrays(trained), arrays(workdir))


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(tmp_path):
    """A learning rate from which weights explode; the state saved before stays the newest."""
    workdir = tmp_path / "run"
    explode = (
        "--config.optim.gen.schedule.name=piecewise_constant",
        "--config.optim.gen.schedule.boundaries=(4.0,)",
        "--config.optim.gen.schedule.factors=(1e38,)",
    )
    line = error_line(
        launch_here(TINY, f"--workdir={workdir}", *QUIET, *explode, "--config.run.steps=30")
    )
    for word in ("step ", "not finite", "checkpoint 3 is kept"):
        assert word in line
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == ["3"]
    for name, value in arrays(workdir).items():
        if not name.startswith("state/validation"):
            assert np.isfinite(value).all(), name


def test_sampling_and_evaluating_what_is_not_there(trained, tmp_path):
    sample = ("--mode=sample", f"--out={tmp_path / 'out'}")
    assert "no config.json" in error_line(launch_here(*sample, f"--workdir={tmp_path}"))
    for argument, word in (
        ("--seeds=abc", "--seeds"),
        ("--classes=3", "--classes"),
        ("--format=gif", "--format"),
        ("--state=77", "77"),
        ("--weights=best", "--weights"),
        ("--truncation=-1", "--truncation"),
    ):
        assert word in error_line(launch_here(*sample, f"--workdir={trained}", argument))
    damaged = tmp_path / "damaged"
    shutil.copytree(trained, damaged)
    (damaged / "config.json").write_text(json.dumps({"config": {"system": "gone"}}))
    assert "gone" in error_line(launch_here(*sample, f"--workdir={damaged}"))

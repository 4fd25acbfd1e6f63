"""Runs and data in buckets, as people use them: train, resume elsewhere, sample, report, data."""

import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gan_jax
from gan_jax import config as configs
from gan_jax import training
from gan_jax.buckets import claim
from gan_jax.buckets.addresses import parse
from gan_jax.core import loop
from gan_jax.data import config as config_data
from gan_jax.errors import UserError
from tests.helpers import object_store
from tests.helpers.dense_run import config
from tests.helpers.shell import arrays, assert_same, launch_here, rows

RUN = "gs://bucket/runs/a"


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run of 4 steps in a folder."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    training.train(config(4), folder)
    return folder


@pytest.fixture
def store(monkeypatch, tmp_path):
    return object_store.installed(monkeypatch, tmp_path / "cache")


@pytest.fixture
def stored(store, straight):
    """The run in a bucket, as another machine has left it."""
    for path in straight.rglob("*"):
        if path.is_file() and path.name != ".lock":
            store.put(f"bucket/runs/a/{path.relative_to(straight).as_posix()}", path.read_bytes())
    return store


def steps(folder) -> list[dict]:
    """The rows of the steps: a run that was shorter at first has one more evaluation."""
    return [row for row in rows(folder) if row["kind"] == "train"]


def test_a_run_that_was_cut_off_goes_on_elsewhere_with_the_same_bits(
    straight, store, tmp_path, monkeypatch, lines
):
    """The bucket is as it was after any change; the machine and its disk are gone."""
    made = gan_jax.train(config(2), RUN)
    assert Path(made["workdir"]) == parse(RUN).local
    gone = len(store.history) // 2
    training.train(config(4), RUN)
    cut = [gone, *range(len(store.history) - 12, len(store.history), 5)]
    history = [store.history[n] for n in cut]
    for number, objects in enumerate(history):
        store.objects = {k: v for k, v in objects.items() if claim.NAME not in k}
        monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path / f"cache{number}"))
        summary = gan_jax.train(config(4), RUN)
        assert (summary["step"], summary["reason"]) == (4, "finished")
        local = parse(RUN).local
        assert steps(local) == steps(straight)
        assert_same(arrays(local), arrays(straight))
        assert not list(local.glob("damaged-*"))
    copy = shutil.copytree(local, tmp_path / "copy")
    (copy / ".lock").unlink()
    found = {p.relative_to(copy).as_posix() for p in copy.rglob("*") if p.is_file()}
    assert found == set(store.below("bucket/runs/a"))


def test_a_signal_leaves_the_whole_run_in_the_bucket(store, monkeypatch):
    """The state that a stopped run saves at its end is there when the process ends."""
    monkeypatch.setattr(loop.Preemption, "now", lambda self: True)
    assert training.train(config(4), RUN)["reason"] == "terminated"
    assert "checkpoints/1/checksums.json" in store.below("bucket/runs/a")


def test_the_library_reads_runs_in_buckets(stored, straight):
    model, expected = gan_jax.load(RUN), gan_jax.load(straight)
    np.testing.assert_array_equal(model.sample(range(3)), expected.sample(range(3)))
    assert gan_jax.evaluate(RUN) == gan_jax.evaluate(straight)
    written = json.loads(stored.below("bucket/runs/a")["evaluate.json"])
    assert written["step"] == 4
    with pytest.raises(UserError, match="gs://bucket/no: there is nothing there"):
        gan_jax.load("gs://bucket/no")


def test_modes_write_into_buckets(stored, straight, tmp_path):
    done = launch_here("--mode=sample", f"--workdir={RUN}", "--seeds=0-3", "--format=grid,png")
    assert done.returncode == 0, done.stderr
    assert f"in {parse(RUN).local}/sampled: sheets/grid.png, seed000000.png" in done.stdout
    found = stored.below("bucket/runs/a")
    made = [name for name in found if name.startswith("sampled/")]
    assert made
    out = "--out=gs://bucket/pictures"
    done = launch_here("--mode=sample", f"--workdir={RUN}", "--seeds=0-3", "--format=png", out)
    assert done.returncode == 0, done.stderr
    assert {k: found[f"sampled/{k}"] for k in stored.below("bucket/pictures") if "/" not in k}
    done = launch_here("--mode=report", f"--workdir={RUN}")
    assert done.returncode == 0, done.stderr
    assert "report.html" in stored.below("bucket/runs/a")
    done = launch_here("--mode=report", f"--workdir={RUN},{straight}", "--out=gs://bucket/two.html")
    assert done.returncode == 0, done.stderr
    assert b"<html" in stored.objects["bucket/two.html"]


def test_a_place_where_nothing_is_names_the_flag(store):
    done = launch_here("--mode=sample", "--workdir=gs://bucket/no")
    assert done.returncode == 1
    assert done.stderr == "error: --workdir: gs://bucket/no: there is nothing there\n"
    done = launch_here("--mode=sample", "--workdir=gs://bucket/runs,no")
    assert done.stderr == "error: --workdir: gs://bucket/runs,no: there is nothing there\n"
    done = launch_here("--mode=metrics", "--real=s3://bucket/no", "--fake=s3://bucket/no")
    assert done.stderr == "error: --real: s3://bucket/no: there is nothing there\n"


def test_an_error_in_a_copy_says_whose_copy_it_is(stored):
    del stored.objects["bucket/runs/a/config.json"]
    done = launch_here("--mode=sample", f"--workdir={RUN}")
    local = parse(RUN).local
    assert done.stderr.endswith(f"not the folder of a run; {local} is the copy of {RUN}\n")
    with pytest.raises(UserError, match=f"{local} is the copy of {RUN}$"):
        gan_jax.evaluate(RUN)


def test_the_command_line_trains_in_a_bucket(store):
    common = ("--config=mlpgan_mnist:tiny", f"--workdir={RUN}", "--config.run.quality_every=0")
    done = launch_here(*common, "--config.run.steps=1")
    assert done.returncode == 0, done.stderr
    assert "checkpoints/1/checksums.json" in store.below("bucket/runs/a")
    store.fails = object_store.down
    done = launch_here(*common, "--config.run.steps=1")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def images(count: int) -> bytes:
    """A zip of pictures of 8 px."""
    content, random = io.BytesIO(), np.random.default_rng(0)
    with zipfile.ZipFile(content, "w") as archive:
        for n in range(count):
            picture = io.BytesIO()
            Image.fromarray(random.integers(0, 255, (8, 8), np.uint8)).save(picture, "PNG")
            archive.writestr(f"{n:02}.png", picture.getvalue())
    return content.getvalue()


def test_data_in_a_bucket(store, tmp_path, lines):
    """The config keeps the address; an object that has changed is fetched again, and refused."""
    assert set(config_data.PLACES) == set(configs.DATA_PATHS)
    store.put("bucket/data/images.zip", images(40))
    made = config(1)
    made.data.update(source="folder", path="s3://bucket/data/images.zip")
    training.train(made, tmp_path / "run")
    stored = json.loads((tmp_path / "run/config.json").read_text())["config"]
    assert stored["data"]["path"] == "s3://bucket/data/images.zip"
    store.put("bucket/data/images.zip", images(30))
    with pytest.raises(UserError, match="the data has changed"):
        training.train(config_of(made, 2), tmp_path / "run")
    store.put("bucket/other.zip", images(40))
    del store.objects["bucket/data/images.zip"]
    with pytest.raises(UserError, match=r"s3://bucket/data/images\.zip: there is nothing there"):
        gan_jax.evaluate(tmp_path / "run")
    places = configs.places("path=s3://bucket/other.zip")  # as --data says it
    assert gan_jax.evaluate(tmp_path / "run", data=places)


def config_of(made, steps: int):
    longer = made.copy_and_resolve_references()
    longer.run.steps = str(steps)
    return longer


def test_weights_of_a_run_in_a_bucket(stored, tmp_path, lines):
    made = config(1)
    made.restore.gen = (RUN, "*")
    training.train(made, tmp_path / "run")
    assert any(line.startswith(f"config.restore.gen: 4 arrays from {RUN}: ") for line in lines)

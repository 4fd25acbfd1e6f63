"""A run that can only be read, a disk that is full, a file system without locks."""

import errno
import json

import numpy as np
import pytest
from PIL import Image

import gan_jax
from gan_jax import config as configs
from gan_jax import training
from gan_jax.core import checkpoint, saved_states
from gan_jax.evaluation import comparison
from gan_jax.evaluation.options import Options
from gan_jax.modes.actions import (
    align,
    caricature,
    export_file,
    folder_task,
    interpolate,
    likelihood,
    output,
    report,
    sample,
    timelapse,
)
from gan_jax.modes.actions.interpolate import Motion
from gan_jax.run import claims, weights
from tests.helpers.one_line import refused_argument
from tests.helpers.shell import ROOT
from tests.helpers.unwritable import unwritable

NUMBERS = (errno.EROFS, errno.ENOSPC)


def config(steps: str = "4"):
    made = configs.load_file(str(ROOT / "configs/dcgan_mnist.py"), "tiny")
    made.run.update(devices=1, steps=steps, eval_every="2", save_every="2", sample_every="2")
    made.run.quality_every = "2"
    return made


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run with the classifier that judged it beside it."""
    workdir = tmp_path_factory.mktemp("kept") / "run"
    training.train(config(), workdir)
    return workdir


def files(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*")}


@pytest.mark.parametrize("number", NUMBERS)
def test_evaluate_tells_its_figures_and_then_what_it_cannot_write(
    trained, monkeypatch, number, lines
):
    before = files(trained)
    with unwritable(monkeypatch, trained, number):
        scores = gan_jax.evaluate(trained)
    assert files(trained) == before
    assert {"val/gen", "fd_classifier"} <= set(scores)
    assert any(line.startswith("val/gen ") for line in lines[:-1])
    assert lines[-1].startswith("note: ")
    assert "evaluate.json cannot be written" in lines[-1]


def test_images_of_a_run_that_can_only_be_read(trained, tmp_path, monkeypatch):
    before = files(trained)
    with unwritable(monkeypatch, trained, errno.EROFS):
        made = sample.sample(
            trained, tmp_path / "out", range(4), formats=("grid", "png", "npz", "adm")
        )
        assert len(made) == 7
        weights.arrays(str(trained), "gen", "config.restore.gen")
        interpolate.interpolate(trained, tmp_path / "a.webp", range(2), motion=Motion(0.2, 10, 0.0))
        timelapse.timelapse(trained, tmp_path / "b.webp", seconds=1, fps=2)
        report.report([trained], tmp_path / "page.html")
    assert files(trained) == before


def modes(run, inputs, out):
    """Every mode whose product are files, with an --out that cannot be written."""
    real = str(inputs)
    return {
        "sample": lambda: sample.sample(run, out, range(4)),
        "interpolate": lambda: interpolate.interpolate(
            run, out / "a.webp", range(2), motion=Motion(4.0)
        ),
        "timelapse": lambda: timelapse.timelapse(run, out),
        "translate": lambda: folder_task.run("translate", real, out, run),
        "upsample": lambda: folder_task.run("upsample", real, out, run),
        "invert": lambda: folder_task.run("invert", real, out, run),
        "likelihood": lambda: likelihood.run(run, out),
        "export": lambda: export_file.export_file(run, out / "model.pt"),
        "caricature": lambda: caricature.run(run, real, out),
        "align": lambda: align.run(real, out, detector="nowhere"),
        "metrics": lambda: comparison.compare(
            real, real, ("swd",), Options(out=str(out / "m.json"))
        ),
        "report": lambda: report.report([run], out / "page.html"),
    }


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("mode", modes("", "", ROOT))
def test_an_output_that_cannot_be_written_is_one_line_before_the_work(
    trained, tmp_path, monkeypatch, mode, number
):
    """Said before a model is even loaded, so that nothing is computed in vain."""
    inputs = tmp_path / "images"
    inputs.mkdir()
    for i in range(4):
        Image.fromarray(np.full((16, 16, 3), 40 * i, np.uint8)).save(inputs / f"{i}.png")
    early = mode not in ("interpolate", "timelapse", "report")

    def loaded(*args, **kwargs):
        raise AssertionError("a state was read")

    out = tmp_path / "disk"
    out.mkdir()
    call = modes(trained, inputs, out)[mode]
    if early:
        monkeypatch.setattr(saved_states, "read", loaded)
        monkeypatch.setattr(comparison, "_measure", loaded)
    with unwritable(monkeypatch, out, number):
        refused_argument("out", "cannot be written", call)
    assert not list(out.iterdir())


def test_statistics_that_cannot_be_kept(tmp_path, monkeypatch):
    images = tmp_path / "images.npz"
    np.savez(images, images=np.zeros((4, 16, 16, 3), np.uint8))
    out = tmp_path / "disk"
    out.mkdir()
    with unwritable(monkeypatch, out, errno.ENOSPC):
        options = Options(save_stats=str(out / "a.npz"))
        unwritten = "cannot be written .*; name another file"
        refused_argument(
            "save_stats", unwritten, comparison.compare, str(images), "", ("fid",), options
        )


def test_a_disk_that_fills_while_samples_are_written(trained, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    refused_argument(
        "out", r"cannot be written \(No space left", sample.sample, trained, tmp_path / "out",
        range(4), formats=("npz",),
    )  # fmt: skip


def test_an_output_that_is_a_file_or_lies_in_one(trained, tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        refused_argument("out", "is not a folder", sample.sample, trained, out, range(4))
    refused_argument("out", "it is a folder", export_file.export_file, trained, tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL])
def test_a_file_system_without_locks(tmp_path, monkeypatch, number, lines):
    """Lustre, some NFS and FUSE mounts: the run goes on, and a line says what is missing."""
    monkeypatch.setattr(claims.fcntl, "flock", failing(number))
    folder = claims.claim(tmp_path / "run")
    claims.release(folder)
    assert len(lines) == 1
    assert "has no locks" in lines[0]
    assert "\n" not in lines[0]


@pytest.mark.parametrize("number", [errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES])
def test_a_folder_that_another_process_holds(tmp_path, monkeypatch, number):
    monkeypatch.setattr(claims.fcntl, "flock", failing(number))
    refused_argument("workdir", "another process trains there", claims.claim, tmp_path / "run")


def failing(number: int):
    def flock(*args):
        raise OSError(number, "as it is")

    return flock


def test_damaged_states_that_cannot_be_moved_stay_where_they_are(
    trained, tmp_path, monkeypatch, lines
):
    """They are passed over as ever."""
    import shutil

    shutil.copytree(trained, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    newest = max(saved_states.states_in(folder))
    (folder / str(newest) / saved_states.SUMS).unlink()

    def refused(*args):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(checkpoint.shutil, "move", refused)
    states = checkpoint.Checkpoints(folder)
    experiment = training.Experiment(config())
    step, _, _ = states.restore_newest(experiment.shapes())
    states.close()
    assert step == sorted(saved_states.states_in(folder))[-2]
    assert "it stays where it is (Read-only file system)" in lines[0]


def test_the_classifier_beside_a_run_is_read_and_not_trained_again(trained, monkeypatch):
    """Its training would claim its folder, which a folder to read does not allow."""
    monkeypatch.setattr(training, "train", None)
    scores = gan_jax.evaluate(trained)
    assert "fd_classifier" in scores
    assert json.loads((trained / "evaluate.json").read_text())["val/gen"] == scores["val/gen"]


def test_arrays_are_whole_or_not_there(tmp_path, monkeypatch):
    """A disk that fills up while an npz is written: the file is named, and no half of it stays."""

    def full(file, *arrays, **named):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    full_disk = r"a\.npz cannot be written \(No space left"
    refused_argument("out", full_disk, output.save_arrays, tmp_path / "a.npz", np.zeros(3))
    assert not list(tmp_path.iterdir())


def test_a_name_that_the_locale_cannot_spell(tmp_path):
    folder = f"{tmp_path}/c\udcc3"
    refused_argument("workdir", "this locale cannot spell", claims.claim, folder)

"""Only folders named by a number are states: what else lies in a run's folder changes nothing."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import gan_jax
from gan_jax import config as configs
from gan_jax import training
from gan_jax.core import saved_states, writer
from gan_jax.errors import UserError
from gan_jax.run import folder as folders
from gan_jax.run import weights
from tests.helpers.shell import ROOT, arrays, assert_same, rows

FILES = ("4000.zip", "notes.txt", "9_old", "12", "\u00b2", "007")
FOLDERS = ("9 (1)", "5000 copy", "6.bak", "\u0663")


def clutter(folder: Path) -> None:
    """Files and folders that are no states, some with a digit in front."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if not (folder / name).exists():
            (folder / name).write_text("foreign")
    for name in FOLDERS:
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "file").write_text("foreign")


def config(steps: str):
    made = configs.load_file(str(ROOT / "configs/dcgan_mnist.py"), "tiny")
    made.run.update(devices=1, quality_every="0", steps=steps, keep=2)
    made.best.metric = "val/gen"
    return made


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Twelve steps in a clean folder."""
    workdir = tmp_path_factory.mktemp("plain") / "run"
    training.train(config("12"), workdir)
    return workdir


def test_training_saves_prunes_and_resumes_between_foreign_files(plain, tmp_path, lines):
    """Six steps and then twelve, with clutter from the beginning, end where a clean run ends."""
    workdir = tmp_path / "run"
    for folder in ("checkpoints", "best/stage0", "best/stage0 (copy)", "best/stage9.zip"):
        clutter(workdir / folder)
    clutter(workdir / "samples")
    for name in ("12 (1)_ema.png", "\u00b2_ema.png"):
        (workdir / "samples" / name).write_text("foreign")
    (workdir / "samples" / "000999_ema.png").mkdir()
    training.train(config("6"), workdir)
    clutter(workdir / "checkpoints")
    training.train(config("12"), workdir)
    assert "resuming from step 6" in lines
    assert_same(arrays(plain), arrays(workdir))
    assert_same(arrays(plain, "best"), arrays(workdir, "best"))
    assert rows(plain) == rows(workdir)
    states = saved_states.states_in(workdir / "checkpoints")
    assert sorted(states) == [9, 12], "older states are pruned"
    for name in set(FILES) - {"12"}:
        assert (workdir / "checkpoints" / name).read_text() == "foreign"
    for name in FOLDERS:
        assert sorted(p.name for p in (workdir / "checkpoints" / name).iterdir()) == ["file"]
    renamed = [line for line in lines if "checkpoints/12 is no saved state" in line]
    assert len(renamed) == 1
    assert (workdir / "checkpoints" / "12.not-a-state-1").read_text() == "foreign"


def test_states_are_found_between_foreign_files(plain, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(plain, workdir)
    shutil.rmtree(workdir / "checkpoints" / "12")
    for folder in ("checkpoints", "best/stage0", "best/stage0 (copy)"):
        clutter(workdir / folder)
    assert folders.state_path(workdir).name == "9"
    best = folders.state_path(workdir, "best")
    assert best.parent.name == "stage0"
    assert best.name in ("3", "6", "9", "12")
    with pytest.raises(training.UserError, match=r"the steps \[9\]"):
        folders.state_path(workdir, "12")
    found = weights.arrays(str(workdir), "gen", "config.restore.gen")
    assert all(np.isfinite(value).all() for value in found.values())


def test_a_run_without_a_best_state_is_read_from_its_newest(plain, tmp_path):
    """A foreign file in best/ is no best state."""
    workdir = tmp_path / "run"
    shutil.copytree(plain, workdir)
    shutil.rmtree(workdir / "best")
    clutter(workdir / "best" / "stage0")
    shutil.rmtree(workdir / "best" / "stage0" / "6.bak")
    assert weights.arrays(str(workdir), "gen", "config.restore.gen")


def test_an_unsealed_state_is_not_sealed_by_a_later_save(plain, tmp_path):
    """Checksums are of what was saved now; a state that lost its own stays without."""
    workdir = tmp_path / "run"
    shutil.copytree(plain, workdir)
    (workdir / "checkpoints" / "9" / saved_states.SUMS).unlink()
    longer = config("15")
    longer.run.keep = 3
    training.train(longer, workdir)
    assert sorted(saved_states.states_in(workdir / "checkpoints")) == [9, 12, 15]
    assert not (workdir / "checkpoints" / "9" / saved_states.SUMS).exists()


def test_pictures_with_odd_names_are_no_steps(tmp_path):
    for name in ("000007_ema.png", "\u00b2_ema.png", "7 (1)_ema.png"):
        (tmp_path / name).write_text("")
    (tmp_path / "000009_ema.png").mkdir()
    writer.cut_pictures(tmp_path, 6)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "000009_ema.png", "7 (1)_ema.png", "\u00b2_ema.png",
    ]  # fmt: skip


def test_empty_folders_are_no_states(plain, tmp_path):
    """Neither for reading nor in the way of a state; of a damaged one another is named."""
    workdir = shutil.copytree(plain, tmp_path / "run")
    for name in ("99", "15"):
        (workdir / "checkpoints" / name).mkdir()
    assert gan_jax.load(workdir).step == 12
    training.train(config("15"), workdir)
    assert gan_jax.load(workdir).step == 15
    (workdir / "checkpoints" / "15" / "checksums.json").unlink()
    with pytest.raises(UserError, match=r"15 is damaged .*; name another state, such as 12"):
        gan_jax.load(workdir)

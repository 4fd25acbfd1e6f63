"""A run that broke before its first state was saved does not stand in the way of a mended one."""

import json
import shutil
from types import SimpleNamespace

import pytest

from gan_jax import training
from gan_jax.core.job import Progress
from gan_jax.errors import UserError
from gan_jax.run import folder as folders
from gan_jax.run import missing
from tests.helpers import contract, dense_run
from tests.helpers.one_line import assert_refused


def config(**quality):
    made = contract.load("dcgan_mnist")
    made.run.update(devices=1, steps="2", sample_every="0", eval_every="0", save_every="0")
    made.quality.update(metrics=("fid",), **quality)
    made.best.metric = "fid"
    return made


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """The folder of a run that was refused when its networks had been made: the file of Inception's
    weights is not there."""
    folder = tmp_path_factory.mktemp("broken") / "run"
    with pytest.raises(UserError, match="inception"):
        training.train(config(inception="/no/where.npz"), folder)
    assert (folder / "config.json").exists()
    return folder


def test_the_mended_command_replaces_it(broken, lines):
    mended = config(inception="/some/where.npz")
    mended.optim.gen.lr = 1e-5
    (broken / "quality.json").write_text("{}")
    assert folders.check(broken, mended) is False
    assert lines == [f"{broken}: the run that began here has no saved state; this one replaces it"]
    assert not (broken / "quality.json").exists()


def test_so_does_one_after_a_damaged_config(broken, tmp_path):
    (tmp_path / "config.json").write_text("{")
    assert folders.check(tmp_path, config()) is False


@pytest.mark.parametrize("place", ["checkpoints/4", "best/stage0/4", "damaged-4"])
def test_a_run_with_any_state_stays(broken, place):
    state = broken / place
    state.mkdir(parents=True)
    (state / "state").write_text("")
    try:
        mended = config(inception="/some/where.npz")
        assert_refused(
            "holds a run with another config: config.quality", folders.check, broken, mended
        )
    finally:
        (state / "state").unlink()
        state.rmdir()


def best_state(run, seconds):
    meta = run / "best/stage0/900/meta/metadata"
    meta.parent.mkdir(parents=True)
    meta.write_text(json.dumps({} if seconds is None else {"seconds": seconds}))


@pytest.mark.parametrize(("seconds", "kept"), [(599, False), (601, True), (None, True)])
def test_best_states_stay_where_somebody_has_removed_the_checkpoints(
    tmp_path, lines, seconds, kept
):
    """A run that was killed before its first one, after ten minutes at most, begins anew."""
    best_state(tmp_path, seconds)
    missing.begin_again(tmp_path, 10)
    assert lines[0] == "no checkpoint yet: starting from step 0"
    assert (tmp_path / "best").exists() is not kept
    assert (tmp_path / "best-before/stage0/900").exists() is kept
    assert lines[1:] == (
        [
            f"{tmp_path}: the checkpoints of this run are gone, so that it begins again; its best "
            "states are kept in best-before/"
        ]
        if kept
        else []
    )
    if kept:
        best_state(tmp_path, 700)
        missing.begin_again(tmp_path, 10)
        assert (tmp_path / "best-before-2/stage0/900").exists()


def test_a_run_without_checkpoints_begins_again_beside_its_best_states(tmp_path, lines):
    made = dense_run.config(2, save_minutes=0.0)
    made.run.update(eval_every="1", save_every="2")
    made.best.metric = "val/gen"
    training.train(made, tmp_path)
    before = sorted(file.read_bytes() for file in (tmp_path / "best").rglob("*") if file.is_file())
    shutil.rmtree(tmp_path / "checkpoints")
    assert training.train(made, tmp_path)["step"] == 2
    kept = sorted(
        file.read_bytes() for file in (tmp_path / "best-before").rglob("*") if file.is_file()
    )
    assert kept == before
    assert [*(tmp_path / "best").glob("stage0/*")]


def test_a_better_state_that_no_interval_measured_is_not_missing(tmp_path):
    """The end of a shorter run measured it, so that the one before it was removed."""
    best_state(tmp_path, 1)
    progress = Progress(stage=0, best_step=800, best_value=0.5)
    experiment = SimpleNamespace(
        system=SimpleNamespace(sample_step=None), measures_quality=False,
        config=SimpleNamespace(best=SimpleNamespace(metric="fid")),
    )  # fmt: skip
    assert "best state" not in " ".join(missing.parts(tmp_path, 900, progress, experiment))
    shutil.rmtree(tmp_path / "best")
    assert "the best state, of step 800" in missing.parts(tmp_path, 900, progress, experiment)[-1]

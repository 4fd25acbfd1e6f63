"""A run that broke before its first state was saved does not stand in the way of a mended one."""

import pytest

from gan_jax import training
from gan_jax.errors import UserError
from gan_jax.run import folder as folders
from tests.helpers import contract
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

"""config.run.steps_per_call in runs of real systems."""

import jax
import numpy as np
import pytest

from gan_jax import training
from gan_jax.core import recorder
from gan_jax.core.intervals import Due
from gan_jax.errors import UserError
from gan_jax.run import spacing
from gan_jax.run.experiment import Experiment
from tests.helpers import contract, transfers
from tests.helpers.shell import arrays, assert_same, rows

EVERY = dict(log_every="5", sample_every="8", eval_every="8", save_every="8", quality_every="0")


def config(steps: int = 28, size: str = "1", program: str = "mlpgan_mnist"):
    """A run with epochs of eight steps."""
    found = contract.load(program)
    found.run.update(steps=str(steps), steps_per_call=size, devices=1, **EVERY)
    return found


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("straight") / "run"
    training.train(config(), workdir)
    return workdir


def test_a_run_leaves_the_same_files_also_after_a_resume(straight, tmp_path, lines, monkeypatch):
    """Ten steps with two in a call, then the rest with three."""
    monkeypatch.setattr(recorder, "TIMED_SECONDS", np.inf)
    workdir = tmp_path / "run"
    training.train(config(10, "2"), workdir)
    found = transfers.watched(monkeypatch)
    with jax.transfer_guard_device_to_host("disallow"):  # on other devices than CPUs
        training.train(config(28, "3"), workdir)
    monkeypatch.undo()
    assert "compiling 3 training steps as one program ..." in lines
    assert not any("is a call of its own" in line for line in lines)
    assert any("config.run.steps_per_call is '2' there, '3' here" in line for line in lines)
    # the end of the first ten steps is logged as well
    assert [row for row in rows(workdir) if row["step"] != 10] == [
        row for row in rows(straight) if row["step"] != 10
    ]
    assert_same(arrays(straight), arrays(workdir))
    for picture in (straight / "samples").iterdir():
        assert (workdir / "samples" / picture.name).read_bytes() == picture.read_bytes()
    inside = [transfer for transfer in found if transfer.step is not None]
    assert all(transfer.said for transfer in inside)
    # the first call of three steps, which ends with step 14, is compared with single ones
    assert {transfer.step for transfer in inside} <= due_steps() | {14}


def due_steps() -> set[int]:
    experiment = Experiment(config())
    (stage,), every = experiment.system.stages, spacing.intervals(experiment)
    found = set()
    for step in range(1, stage.end + 1):
        due = Due.at(step, stage, 8, every, step == stage.end, stop=False)
        if due.row or due.epoch or due.sample or due.evaluations or due.save:
            found.add(step)
    return found


@pytest.mark.parametrize("size", ["0", "-1", "two", "1.5", "", "²", "99999999999"])
def test_what_is_no_number_of_steps_is_refused_in_one_line(size):
    with pytest.raises(UserError, match=r"steps_per_call=.*write auto, or a whole number of at"):
        Experiment(config(size=size))

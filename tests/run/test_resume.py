"""A run that is killed, stopped or moved goes on as if nothing had happened."""

import signal

import pytest
from PIL import Image

from gan_jax.core import saved_states
from gan_jax.run import folder as folders
from tests.helpers.shell import (
    TINY,
    arrays,
    assert_same,
    launch,
    launch_and_kill,
    rows,
)

LONG = (
    "--config.run.steps=30",
    "--config.run.log_every=1",
    "--config.run.save_every=7",
    "--config.run.eval_every=10",
    "--config.run.sample_every=10",
    "--config.run.quality_every=10",
)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run that nothing interrupts."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    done = launch(TINY, f"--workdir={workdir}", *LONG)
    assert done.returncode == 0, done.stderr
    return workdir


def judged_by(straight) -> str:
    """The same classifier, already trained: the same scores in less time."""
    return f"--config.quality.classifier={straight / 'classifier'}"


def same_history(one, other) -> None:
    assert rows(one) == rows(other)
    pictures = sorted(p.name for p in (one / "samples").iterdir())
    assert pictures == sorted(p.name for p in (other / "samples").iterdir())
    for name in pictures:
        a, b = (Image.open(w / "samples" / name).tobytes() for w in (one, other))
        assert a == b, name
    assert_same(arrays(one), arrays(other))
    assert_same(arrays(one, "best"), arrays(other, "best"))
    assert notes_of_best(one) == notes_of_best(other)


def notes_of_best(workdir) -> dict:
    """What the best state says of the run, without the seconds that it took."""
    return saved_states.read_meta(folders.state_path(workdir, "best")) | {"seconds": None}


def test_a_run_killed_twice_ends_bit_identical(straight, tmp_path):
    """SIGKILL at two places, once between saves and once more: states, rows and pictures agree."""
    workdir = tmp_path / "run"
    run = (TINY, f"--workdir={workdir}", judged_by(straight), *LONG)
    for step in (9, 23):
        assert launch_and_kill(workdir, step, *run) == -signal.SIGKILL
    done = launch(*run)
    assert done.returncode == 0, done.stderr
    assert "resuming from step" in done.stdout
    same_history(straight, workdir)


def test_sigterm_saves_and_exits_with_its_own_status(straight, tmp_path):
    """The state at the signal is saved off-interval; going on from it changes nothing."""
    workdir = tmp_path / "run"
    run = (TINY, f"--workdir={workdir}", judged_by(straight), *LONG)
    assert launch_and_kill(workdir, 17, *run, number=signal.SIGTERM) == 75
    done = launch(*run)
    assert done.returncode == 0, done.stderr
    same_history(straight, workdir)


def test_a_save_by_the_clock_changes_no_result(straight, tmp_path):
    """save_minutes so short that every step saves."""
    workdir = tmp_path / "run"
    often = "--config.run.save_minutes=0.00001"
    done = launch(TINY, f"--workdir={workdir}", judged_by(straight), *LONG, often)
    assert done.returncode == 0, done.stderr
    same_history(straight, workdir)


def test_more_steps_continue_and_a_finished_run_says_so(straight, tmp_path):
    """20 steps, then 30 in the same folder, equal 30 at once; then nothing is left to do."""
    workdir = tmp_path / "run"
    run = (TINY, f"--workdir={workdir}", judged_by(straight))
    shorter = [a for a in LONG if "run.steps" not in a]
    done = launch(*run, *shorter, "--config.run.steps=20")
    assert done.returncode == 0, done.stderr
    done = launch(*run, *LONG)
    assert done.returncode == 0, done.stderr
    assert "config.run.steps is '20' there, '30' here" in done.stdout
    assert_same(arrays(straight), arrays(workdir))
    done = launch(*run, *LONG)
    assert done.returncode == 0
    assert "already finished at step 30" in done.stdout
    assert rows(workdir) == rows(straight)

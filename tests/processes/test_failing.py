"""Two processes of four devices each, from launch.py: what happens to one happens to both."""

import signal
import socket
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.processes import Ended, launched
from tests.helpers.shell import arrays, assert_same, rows

TINY = "--config=configs/classifier_mnist.py:tiny"
STEPS = 30
# a best state and a periodic one are saved at the same step, and parts of both lie on both hosts
RUN = (
    TINY,
    f"--config.run.steps={STEPS}",
    "--config.run.log_every=1",
    "--config.run.eval_every=6",
    "--config.run.save_every=6",
    "--config.mesh.fsdp=8",
    "--config.mesh.least_mb=0",
)


def steps(folder: Path) -> list[int]:
    return sorted({row["step"] for row in rows(folder)})


def saved(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The folder of a run that nothing has happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with launched(*RUN, f"--workdir={folder / 'run'}") as group:
        ended = group.wait()
    assert [process.status for process in ended] == [0, 0], [process.err for process in ended]
    return folder / "run"


def disturbed(folder: Path, number: int, rank: int, after: int) -> list[Ended]:
    """The ends of both processes after a signal to one of them in a step beyond `after`."""
    with launched(*RUN, f"--workdir={folder / 'run'}") as group:
        group.until_step(folder / "run", after + 1)
        group.send(number, rank)
        return group.wait()


def test_a_run_that_is_stopped_and_killed_ends_with_the_bits_of_an_undisturbed_one(
    undisturbed, tmp_path
):
    run = tmp_path / "run"
    ended = disturbed(tmp_path, signal.SIGTERM, 1, after=1)
    assert [process.status for process in ended] == [75, 75], ended
    assert [process.errors for process in ended] == [[], []]
    stopped = saved(run)[-1]
    assert steps(run) == [*range(1, stopped + 1)]  # both, and the first one saved, after this step
    assert stopped < STEPS
    assert "process 1 on" in ended[0].out
    assert "terminated by a signal" in ended[0].out
    assert "terminated" not in ended[1].out  # process 0 alone prints

    ended = disturbed(tmp_path, signal.SIGKILL, 0, after=stopped + 2)
    assert [process.status for process in ended] == [-signal.SIGKILL, 75], ended
    (line,) = ended[1].errors
    assert line.startswith("error: process 0 on ")
    assert "it was killed, or its machine is gone; give the same command again" in line

    with launched(*RUN, f"--workdir={run}") as group:
        ended = group.wait()
    assert [process.status for process in ended] == [0, 0], ended
    assert rows(run) == rows(undisturbed)
    assert saved(run)[-1] == STEPS
    assert_same(arrays(run), arrays(undisturbed))
    assert_same(arrays(run, "best"), arrays(undisturbed, "best"))


def test_a_host_without_data_ends_both_with_its_line(tmp_path):
    """Process 0 is about to wait for it when it happens."""
    for number in range(24):
        label = tmp_path / "here" / str(number % 4)
        label.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(label / f"{number}.png")
    places = [(f"--config.data.path={tmp_path / name}",) for name in ("here", "nowhere")]
    words = (*RUN, "--config.data.source=folder", f"--workdir={tmp_path / 'run'}")
    with launched(*words, own=places) as group:
        ended = group.wait()
    assert [process.status for process in ended] == [1, 1]
    (first,), (second,) = [process.errors for process in ended]
    told = f"config.data.path={tmp_path / 'nowhere'}: does not exist"
    assert first.startswith(f"error: process 1 on {socket.gethostname()}: {told}")
    assert second.startswith(f"error: {told}")
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize(
    ("what", "own"),
    [
        ("config", ("--config.seed=0", "--config.seed=1")),
        ("budget", ("--budget=1h", "--budget=2h")),
    ],
)
def test_processes_with_other_settings_do_not_train(what, own, tmp_path):
    words = (*RUN, f"--workdir={tmp_path / 'run'}")
    with launched(*words, own=[(flag,) for flag in own]) as group:
        ended = group.wait()
    assert [process.status for process in ended] == [1, 1]
    for process in ended:
        (line,) = process.errors
        assert "process 1 on" in line
        assert (
            f"was given another {what} than process 0; give all processes the same command" in line
        )
    assert not (tmp_path / "run" / "config.json").exists()

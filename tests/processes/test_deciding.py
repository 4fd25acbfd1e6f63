"""What two processes of four devices each decide together, in one program for all of it."""

import json
import math
from pathlib import Path

import pytest

from gan_jax.core import saved_states
from tests.helpers.processes import Ended, drivers
from tests.processes import deciding


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, list[Ended], list[dict]]:
    """(folder, how both processes have ended, what each has found)."""
    folder = tmp_path_factory.mktemp("deciding")
    with drivers(deciding, folder) as group:
        ended = group.wait()
    files = [folder / f"found-{rank}.json" for rank in (0, 1)]
    assert all(file.exists() for file in files), [process.err for process in ended]
    return folder, ended, [json.loads(file.read_text()) for file in files]


def test_values_and_errors_are_those_of_process_0(run):
    _, _, found = run
    for rank, one in enumerate(found):
        assert one["rank"] == rank
        assert one["value"] == [0, None, "ä"]
        assert math.isclose(one["scores"]["fid"], 1 / 3, rel_tol=1e-6)
        assert one["scores"]["loss"] == math.inf
        assert one["refused"] == ["ArgumentError", "workdir=0: taken", 1, "workdir", True]


def test_a_best_and_a_periodic_state_of_200_mb_are_saved_at_the_same_step(run):
    folder, ended, found = run
    assert [one["best"] for one in found] == ["2", "2"]
    assert sorted(saved_states.best_states_in(folder / "best")) == [(0, 2)]
    for process in ended:
        assert "Barrier" not in process.out + process.err


def test_process_0_finds_the_damage_and_both_restore_the_state_before(run):
    folder, ended, found = run
    for one in found:
        assert (one["step"], one["meta"]["step"], one["same"]) == (1, 1, True)
        assert one["left"] == [1]
    assert (folder / "damaged-2").is_dir()
    told = [process.out.count("checkpoint 2 is damaged") for process in ended]
    assert told == [1, 0]
    assert [process.out.count("only process 0 prints") for process in ended] == [1, 0]


def test_a_folder_that_is_not_shared_ends_both_with_the_line_of_the_one_that_sees_nothing(run):
    folder, ended, _ = run
    assert [process.status for process in ended] == [1, 1]
    first, second = [process.errors for process in ended]
    assert len(first) == len(second) == 1
    assert first[0].startswith("error: process 1 on ")
    assert first[0].endswith(second[0].removeprefix("error: "))
    assert f"workdir={folder}/1: process 1 on" in second[0]
    assert "does not see what process 0 on" in second[0]
    assert [*folder.glob(".shared*")] == []  # of the folder that was seen

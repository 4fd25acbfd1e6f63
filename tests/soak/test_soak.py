"""A slice of the soak itself, and that it would notice what it looks for."""

import json
import re

import numpy as np
import pytest

from tests.helpers import run_folders
from tests.soak import __main__ as soak
from tests.soak import runs
from tests.soak.cases import Kind, Result
from tests.soak.processes import Ended

# chosen among the first cases, because their processes end early
SLICE = "kill:28,lasting_states:19"


def test_a_slice_of_the_soak(capsys):
    """Kills and failing disks, in processes that train the smallest system."""
    status = soak.main(["--seed=0", "--systems=gan", f"--only={SLICE}"])
    said = capsys.readouterr().out
    assert status == 0, said
    count, total = re.search(r"^(\d+) of (\d+) survived$", said, re.MULTILINE).groups()
    assert count == total, said
    assert int(count) >= 5, said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: None, ""),
        (lambda f: (f / "samples" / ".000200_raw.png.0123456789abcdef.tmp").touch(), "should not"),
        (lambda f: (f / "samples" / "000200_raw.png").unlink(), "is missing"),
        (lambda f: (f / "reals.png").write_bytes(b"other"), "reals.png differs"),
        (lambda f: (f / "checkpoints").mkdir() or (f / "checkpoints/12").touch(), "should not"),
        (lambda f: _rows(f, lambda rows: [*rows, rows[-1]]), "rows"),
        (lambda f: _rows(f, lambda rows: [*rows[:-1], rows[-1] | {"loss/gen": 0}]), "loss/gen"),
        (lambda f: _rows(f, lambda rows: [*rows[:-1], rows[-1] | {"wall_time": 0}]), ""),
        (lambda f: (f / "metrics.jsonl").write_text('{"step": '), "cannot be read"),
    ],
)
def test_a_difference_between_two_runs_is_noticed(tmp_path, change, said):
    folder = run_folders.make(tmp_path / "run")
    wanted = runs.content(folder)
    change(folder)
    found = runs.differences(wanted, folder)
    assert bool(found) == bool(said)
    assert said in " ".join(found)


def _rows(folder, change) -> None:
    path = folder / "metrics.jsonl"
    rows = change([json.loads(line) for line in path.read_text().splitlines()])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_an_end_that_is_not_one_line_is_noticed():
    line = "error: the disk is full\n"
    assert Ended(1, "", line, []).faults(0, 1) == []
    assert Ended(0, "Traceback (most recent call last):", "", []).faults(0)
    assert Ended(1, "", line * 2, []).faults(0, 1)
    assert Ended(1, "", line, []).faults(0)
    assert Ended(-9, "", "", [], hung=True).faults(-9)


def test_what_is_not_survived_is_told(tmp_path, capsys):
    def fails(bench, rng: np.random.Generator, result: Result) -> None:
        result.add("disk", ["the run is gone"], 3)

    kind = Kind("sample", 1, fails)
    case = soak.Soak(tmp_path, 0, ["gan"], [kind])
    result = Result()
    fails(None, None, result)
    case._done(kind, 7, result, 0)
    assert "NOT SURVIVED sample:7 (disk): the run is gone" in capsys.readouterr().out
    assert case.table().splitlines()[2:] == [
        "| disk | 3 | 2 | sample:7: the run is gone |", "", "2 of 3 survived",
    ]  # fmt: skip


def test_a_case_is_a_function_of_its_seed_and_number(tmp_path):
    def drawn(seed: int, number: int) -> float:
        found = []
        kind = Kind("sample", 1, lambda bench, rng, result: found.append(rng.random()))
        bench = soak.Bench(None, tmp_path, None, ["gan"])
        soak.try_case(bench, kind, seed, number)
        return found[0]

    assert drawn(0, 1) == drawn(0, 1)
    assert len({drawn(0, 1), drawn(0, 2), drawn(1, 1)}) == 3


def test_an_error_of_the_harness_is_told(tmp_path):
    def breaks(bench, rng, result) -> None:
        raise ValueError("of its own")

    result = soak.try_case(
        soak.Bench(None, tmp_path, None, ["gan"]), Kind("sample", 1, breaks), 0, 0
    )
    assert result.findings == [("sample", "the harness failed: ValueError: of its own")]


def test_names_that_do_not_exist_are_refused(capsys):
    for flag in ("--systems=gann", "--only=kil", "--only=kil:3"):
        with pytest.raises(SystemExit):
            soak.main([flag])
    assert "there are" in capsys.readouterr().err

"""Two processes of four devices each choose one length for a run with a budget."""

import json

from tests.helpers.processes import drivers
from tests.processes import choosing


def test_processes_whose_clocks_differ_choose_the_same(tmp_path):
    with drivers(choosing, tmp_path) as group:
        ended = group.wait()
    assert [process.status for process in ended] == [0, 0], [process.err for process in ended]
    first, second = (json.loads((tmp_path / f"chosen-{n}.json").read_text()) for n in (0, 1))
    assert first == second
    whole, steps = first["chosen"]["chosen"]["run.steps"]
    assert int(whole) == 100_000_000
    assert 0 < int(steps) < int(whole)
    assert first["config"]["run.steps"] == steps
    assert "of the recipe's 100,000,000" in ended[0].out
    assert ended[1].out == ""  # process 0 alone prints
    left = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert left == ["classifier"]  # what was tried is gone

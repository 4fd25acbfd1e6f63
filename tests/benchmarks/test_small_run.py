"""A whole run of the benchmark without PyTorch, with the smallest of its cases."""

import copy
import json

import pytest

from benchmarks import __main__ as bench
from benchmarks import compare, machine, step, table


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(exit status, the JSON, the tables) of a small run of the dense GAN."""
    path = tmp_path_factory.mktemp("bench") / "folder" / "dense.json"
    words = ["--system=gan_dense", "--parts=step,sample,data,checkpoint", "--small"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "torch_is_here", lambda: False)
        patch.setattr(step.Opened, "kept", lambda self: None)  # whatever is installed here
        patch.setattr(machine, "_version", lambda package: "")
        status = bench.main([*words, "--seconds=0", f"--json={path}"])
    return status, json.loads(path.read_text()), path.with_suffix(".md").read_text()


def test_figures_are_kept(run):
    status, results, _ = run
    assert status == 0
    assert results["small"]
    assert results["peaks"]["float32"] > 0
    found = results["cases"]["gan_dense"]
    assert found["config"] == "mlpgan_mnist"
    assert found["step"]["images"] == 8
    # two products of matrices in each network alone
    assert found["step"]["operations"] > 8 * 2 * 784 * 16
    assert found["step"]["memory"] > 4 * 784 * 16
    assert [*found["step"]["times"]] == ["gan_jax"]
    assert found["checkpoint"]["bytes"] > 0
    for times in (found["sample"]["times"]["gan_jax"], found["checkpoint"]["held"]):
        assert 0 < times["fastest"] <= times["median"]
    assert 0 < found["data"]["times"]["gan_jax"]["median"] < 1


def test_the_table_shows_them(run):
    _, results, tables = run
    assert "PyTorch is not installed, so gan_jax was timed alone" in tables
    head, line, row = (text for text in tables.splitlines() if text.startswith("|"))
    titles, cells = ([cell.strip() for cell in text.strip("|").split("|")] for text in (head, row))
    assert set(line) <= {"|", "-", " "}
    found = dict(zip(titles, cells, strict=True))
    assert found["case"] == "gan_dense: dense GAN, 28 px"
    assert found["images"] == "8"
    median = results["cases"]["gan_dense"]["step"]["times"]["gan_jax"]["median"]
    assert float(found["step, ms"].replace(",", "")) == pytest.approx(1e3 * median, rel=0.01)
    assert "best PyTorch, ms" not in found
    assert {"samples/s", "data, images/s", "a save holds, ms", "of peak"} <= {*found}


def test_the_table_compares_steps_with_and_without_onednn_with_pytorch(run):
    results = copy.deepcopy(run[1])
    times = results["cases"]["gan_dense"]["step"]["times"]
    for name, factor in (("PyTorch", 4), ("PyTorch, channels last", 2), (step.PLAIN, 3)):
        times[name] = dict(times["gan_jax"], median=factor * times["gan_jax"]["median"])
    lines = [line for line in table.markdown(results).splitlines() if line.startswith("|")]
    head, row = ([cell.strip() for cell in line.split("|")] for line in (lines[0], lines[2]))
    cells = dict(zip(head, row, strict=True))
    assert cells["best PyTorch, ms"].endswith("(PyTorch, channels last)")
    assert (cells["of PyTorch's time"], cells["without oneDNN"]) == ("0.500", "1.50")


def test_a_result_compared_with_itself(run, tmp_path, capsys):
    path = tmp_path / "same.json"
    path.write_text(json.dumps(run[1]))
    assert compare.main([str(path), str(path)]) == 0
    assert " 0 of them slower" in capsys.readouterr().out

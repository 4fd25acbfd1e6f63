"""What two results of the benchmark say together."""

import copy
import json

import pytest

from benchmarks import compare


def times(median: float, spread: float = 0.0) -> dict[str, float]:
    return {"median": median, "fastest": median, "spread": spread, "cores": median, "samples": 5}


RESULTS = {
    "machine": {"device": "a processor", "cores": "2"},
    "small": False,
    "peaks": {"float32": 1e11},
    "cases": {
        "dcgan": {
            "title": "a DCGAN",
            "step": {
                "images": 64,
                "operations": 1e9,
                "memory": 5e7,
                "times": {"gan_jax": times(0.1, 0.01), "PyTorch": times(0.2)},
            },
            "compile": {"cold": 10.0, "first_step_cold": 20.0, "trace": 1.0},
            "checkpoint": {"held": times(0.01), "bytes": 1000},
        }
    },
    "details": {"norm": {"title": "a norm", "images": 0, "times": {"by groups": times(1.0)}}},
}


@pytest.fixture
def compared(tmp_path, capsys):
    """Compares RESULTS with a copy that a function has changed: (status, lines)."""

    def run(change) -> tuple[int, list[str]]:
        after = copy.deepcopy(RESULTS)
        change(after)
        paths = []
        for name, found in (("before", RESULTS), ("after", after)):
            paths.append(tmp_path / f"{name}.json")
            paths[-1].write_text(json.dumps(found))
        status = compare.main([str(path) for path in paths])
        return status, capsys.readouterr().out.splitlines()

    return run


def test_equal_results(compared):
    assert compared(lambda after: None) == (
        0,
        ["7 figures compared, 0 of them slower or larger than noise explains"],
    )


def test_a_slower_step_is_named(compared):
    def slower(after):
        after["cases"]["dcgan"]["step"]["times"]["gan_jax"] = times(0.15, 0.01)

    status, lines = compared(slower)
    assert status == 1
    said = "slower or larger: dcgan, step: 100 ms → 150 ms (1.50 times; noise 20 ms)"
    assert lines[0] == said


def test_noise_explains_small_differences(compared):
    def change(after):
        step = after["cases"]["dcgan"]["step"]
        step["times"]["gan_jax"] = times(0.115, 0.01)  # both spreads together are 20 ms
        step["times"]["PyTorch"] = times(9.0)  # not ours
        step["operations"] = 1.02e9
        after["cases"]["dcgan"]["compile"]["cold"] = 12.0  # measured once

    assert compared(change)[0] == 0


@pytest.mark.parametrize(
    ("group", "part", "key", "value", "name"),
    [
        ("dcgan", "step", "memory", 6e7, "dcgan, step, memory: 50 MB → 60 MB"),
        ("dcgan", "step", "operations", 2e9, "dcgan, step, operations: 1e+09 → 2e+09"),
        ("dcgan", "compile", "cold", 20.0, "dcgan, compile, cold: 10 s → 20 s"),
        ("dcgan", "checkpoint", "held", times(0.02), "dcgan, checkpoint, held: 10 ms → 20 ms"),
    ],
)
def test_other_figures(compared, group, part, key, value, name):
    def change(after):
        after["cases"][group][part][key] = value

    status, lines = compared(change)
    assert status == 1
    assert lines[0].startswith(f"slower or larger: {name}")


def test_what_became_faster_is_no_fault(compared):
    def change(after):
        after["details"]["norm"]["times"]["by groups"] = times(0.5)

    status, lines = compared(change)
    assert status == 0
    assert lines[0].startswith("faster or smaller: norm, by groups: 1 s → 500 ms")


def test_other_machines_are_told(compared):
    def change(after):
        after["machine"]["cores"] = "4"
        after["peaks"]["float32"] = 2e11

    assert compared(change)[1][:2] == [
        "note: cores differs: 2, then 4",
        "note: the peak of the machine in float32 was 2.00 times as high",
    ]


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_files_that_are_no_result(tmp_path, capsys, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    assert compare.main([str(path), str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {path}: no result of python -m benchmarks")

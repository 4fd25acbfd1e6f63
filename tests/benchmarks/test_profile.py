"""What is read from the traces of the profiler."""

import gzip
import json

import pytest

from benchmarks import profile
from benchmarks.profile import Span
from gan_jax.errors import UserError


def named(kind: str, name: str, **ids: int) -> dict:
    return {"ph": "M", "name": kind, "args": {"name": name}, **ids}


def ran(start: float, length: float, pid: int = 1, tid: int = 1) -> dict:
    return {"ph": "X", "name": "kernel", "pid": pid, "tid": tid, "ts": start, "dur": length}


GPU = [
    named("process_name", "/device:GPU:0", pid=1),
    named("thread_name", "Stream #7(Compute)", pid=1, tid=1),
    named("thread_name", "Stream #8(Memset)", pid=1, tid=2),
    named("thread_name", "Steps", pid=1, tid=3),
    named("process_name", "/host:CPU", pid=9),
    named("thread_name", "python", pid=9, tid=1),
]


def test_pauses_between_spans_that_overlap():
    spans = [Span(0, 10), Span(5, 30), Span(20, 25), Span(40, 50), Span(50, 60)]
    assert profile.gaps(spans) == [10]
    assert profile.gaps([]) == []


def test_a_device_that_waits():
    """20 and 40 of 1000 microseconds; what the host does, and lines that repeat others, do not
    count."""
    kernels = [ran(0, 480), ran(500, 200, tid=2), ran(600, 160), ran(800, 200)]
    found = profile.read([*GPU, *kernels, ran(0, 1000, tid=3), ran(0, 5000, pid=9)])
    assert found["busy"] == pytest.approx(0.94)
    assert found["waited_ms"] == pytest.approx(0.060 / profile.STEPS)
    assert found["longest_pause_ms"] == pytest.approx(0.040)
    assert found["kernels"] == 4 / profile.STEPS
    row = profile.line("dcgan_28", 0.0015, found)
    assert row[:2] == ["dcgan_28", "1.50"]
    assert "busy 94.0 %" in row[2]


def test_a_trace_of_a_processor_says_what_it_contains():
    found = profile.read([*GPU[4:], ran(0, 5, pid=9), ran(5, 5, pid=9)])
    assert found == {"events": {"/host:CPU, python": 2}}
    row = profile.line("x", 1.0, found)
    assert row[2] == "no device in the trace: 2 events of /host:CPU, python"


def test_the_newest_trace_is_read(tmp_path):
    with pytest.raises(UserError, match=r"wrote no \*\.trace\.json\.gz"):
        profile.events(tmp_path)
    folder = tmp_path / "plugins" / "profile" / "now"
    folder.mkdir(parents=True)
    with gzip.open(folder / "host.trace.json.gz", "wt") as file:
        json.dump({"traceEvents": GPU}, file)
    assert profile.events(tmp_path) == GPU

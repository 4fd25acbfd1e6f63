"""Threads and processes that decode images: the same batches and errors, and nothing left over."""

import itertools
import os
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from gan_jax import data
from gan_jax.data import decoding
from gan_jax.errors import UserError
from tests.helpers.data_sections import Stage, typed

ROOT = __file__.rpartition("/tests/")[0]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """14 photos of three formats and several sizes, in two classes; one of them is cut off."""
    root = tmp_path_factory.mktemp("pictures")
    for i in range(14):
        pixels = np.random.default_rng(i).integers(0, 256, (20 + i, 24, 3), np.uint8)
        (root / "ab"[i % 2]).mkdir(exist_ok=True)
        path = root / "ab"[i % 2] / f"{i:02}.{('png', 'jpg', 'webp')[i % 3]}"
        Image.fromarray(pixels).save(path)
        if i == 9:
            path.write_bytes(path.read_bytes()[:-400])
    return root


def opened(place, workers, way, **changes):
    section = {"source": "folder", "path": str(place), "resolution": 8, "resize": "random_crop"}
    section |= {"flip": True, "cache_mb": 0, "on_error": "skip", "validation_fraction": 0.2}
    return data.make(typed(**section | changes), workers=workers, decoding=way)


def batches(made, count=4, step=0):
    return list(itertools.islice(made("train", Stage(5), step), count))


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


@pytest.fixture(scope="module")
def expected(pictures):
    return batches(opened(pictures, 0, "threads"))


@pytest.fixture(scope="module")
def processes(pictures):
    """The set, decoded by two processes."""
    made = opened(pictures, 2, "processes")
    made.first = batches(made)  # in which they start
    return made


def test_any_number_of_threads_makes_the_same_batches(pictures, expected):
    for workers in (1, 3, decoding.AUTO):
        assert_same(batches(opened(pictures, workers, "auto")), expected)


def test_processes_make_the_same_batches_and_seek(pictures, processes, expected):
    assert_same(processes.first, expected)
    assert_same(batches(processes, 2, step=2), expected[2:])
    assert processes.skipped == 1
    threads = opened(pictures, 1, "threads")
    assert_same([processes.all("train")], [threads.all("train")])
    assert_same(processes("validation", Stage(2), 0), threads("validation", Stage(2), 0))


def test_an_image_that_cannot_be_read_ends_in_the_same_line(pictures):
    lines = []
    for way in ("threads", "processes"):
        made = opened(pictures, 1, way, on_error="raise", validation_fraction=0.0)
        with pytest.raises(UserError, match=r"cannot read .*09\.png .*on_error=skip") as caught:
            made.all("train")
        lines.append(str(caught.value))
    assert lines[0] == lines[1]


def test_a_zip_is_read_here_and_decoded_there(pictures, expected, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in sorted(pictures.rglob("*.*")):
            archive.write(path, path.relative_to(pictures).as_posix())
    assert_same(batches(opened(tmp_path / "a.zip", 1, "processes")), expected)


@pytest.fixture
def started(monkeypatch):
    """The numbers of the processes that were started."""
    numbers, start = [], subprocess.Popen

    def noted(*args, **options):
        process = start(*args, **options)
        numbers.append(process.pid)
        return process

    monkeypatch.setattr(decoding.subprocess, "Popen", noted)
    return numbers


def test_signals_do_not_end_a_process_and_one_that_ends_is_named(pictures, started):
    made = opened(pictures, 1, "processes")
    whole = made.examples("train", 4)
    for number in (signal.SIGINT, signal.SIGTERM):  # as terminals and schedulers send to a group
        os.kill(started[0], number)
    assert_same([made.examples("train", 4)], [whole])
    os.kill(started[0], signal.SIGKILL)
    message = r"process that decodes images has ended \(SIGKILL\).*config\.run\.workers"
    with pytest.raises(UserError, match=message):
        made.examples("train", 4)


def test_signals_do_not_end_a_process_that_starts(started):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    process = decoding.Process()
    for number in decoding.IGNORED:
        os.kill(started[0], number)
    assert process.ask((None, [])) == []
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


ORPHAN = """
import os, signal
from gan_jax.data import decoding
process = decoding.Process()
assert process.ask((None, [])) == []
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_no_process_outlives_the_one_that_was_killed():
    # the pipe is open for as long as anybody who inherited it lives
    found = subprocess.run(
        [sys.executable, "-c", ORPHAN], cwd=ROOT, stderr=subprocess.PIPE, timeout=300
    )
    assert found.returncode == -signal.SIGKILL
    assert found.stderr == b""


def test_a_process_does_without_jax():
    loaded = (
        "from gan_jax.data import decoding; import sys; print({*sys.modules} & {'jax', 'grain'})"
    )
    found = subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout.strip() == "set()", found.stderr


def test_how_many_workers_there_are(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(6), raising=False)
    monkeypatch.setattr(decoding, "QUOTA", str(tmp_path / "cpu.max"))
    assert decoding.cores() == 6
    assert decoding.workers(decoding.AUTO, in_memory=False) == 6
    assert decoding.workers(decoding.AUTO, in_memory=True) == 1  # there is nothing to decode
    assert [decoding.workers(n, False) for n in (0, 1, 9)] == [0, 1, 9]
    for quota, cores in (("250000 100000", 2), ("50000 100000", 1), ("max 100000", 6)):
        (tmp_path / "cpu.max").write_text(quota)
        assert decoding.cores() == cores
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(99), raising=False)
    assert decoding.workers(decoding.AUTO, in_memory=False) == decoding.MOST

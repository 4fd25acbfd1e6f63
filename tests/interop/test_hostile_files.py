"""Files made to do harm, and files damaged at random: all end in values or in one line.

Each is read within bounds of memory and time, so a file that would fill the memory is found.
"""

import os

import pytest

from tests.helpers import fuzz, hostile, judge
from tests.helpers.formats import FORMATS

READ_WHOLE = [  # whose small files are complete; the others lack what their networks need
    *("npz of images", "npz as a set", "npz of weights", "npz of statistics", "npz of MTCNN"),
    *("PyTorch", "TorchScript", "pickle of arrays", "TensorFlow's index", "TensorFlow's data"),
    *("zip of images", "dataset.json", "image", "idx", "packed idx", "landmarks", "list of faces"),
    *("tar of CIFAR-10", "config.json", "metrics.jsonl", "curves", "summary.json", "quality.json"),
]


@pytest.mark.parametrize("name", READ_WHOLE)
def test_valid_files_are_read(tmp_path, name):
    form = FORMATS[name]
    form.beside(tmp_path)
    for content in form.valid():
        (tmp_path / form.file).write_bytes(content)
        form.read(tmp_path / form.file)


@pytest.mark.parametrize("name", FORMATS)
def test_a_hostile_file_ends_in_values_or_one_line(tmp_path, monkeypatch, name):
    form = FORMATS[name]
    monkeypatch.chdir(tmp_path)
    form.beside(tmp_path)
    faults = {}
    for kind, make in form.hostile.items():
        (tmp_path / form.file).write_bytes(make())
        faults[kind] = judge.fault(form.read, tmp_path / form.file)
    assert {kind: fault for kind, fault in faults.items() if fault} == {}
    assert not os.path.exists("ran"), "a file had something run"


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_no_regular_file_ends_at_once(tmp_path, name):
    """Opening a pipe would wait for its writer, and a device never ends."""
    form, faults = FORMATS[name], {}
    for kind, make in hostile.SPECIAL.items():
        folder = tmp_path / kind
        folder.mkdir()
        form.beside(folder)
        make(folder / form.file)
        faults[kind] = judge.fault(form.read, folder / form.file, seconds=10)
    assert {kind: fault for kind, fault in faults.items() if fault} == {}


def test_files_damaged_at_random_end_in_values_or_one_line():
    """A slice of `python -m tests.helpers.fuzz`, the same in every run as far as it gets."""
    each, faults = 5 / len(FORMATS), []
    for name in FORMATS:
        found = fuzz.tried(name, 0, each)
        faults += [f"{name}, input {number}: {fault}" for number, fault in found if fault]
    assert faults == []


@pytest.mark.parametrize(
    ("read", "fault"),
    [
        (lambda path: bytearray(2**30), "MemoryError"),
        (lambda path: path.read_bytes(), "Hanging"),
        (lambda path: [].pop(), "IndexError"),
    ],
)
def test_the_judge_finds_what_it_looks_for(tmp_path, read, fault):
    os.mkfifo(tmp_path / "a")
    assert fault in judge.fault(read, tmp_path / "a", seconds=0.2)

"""Contenders that are made and timed in a process of their own."""

import contextlib
import os

import pytest

from benchmarks import __main__ as bench
from benchmarks import apart, cases, step, timing, twins
from benchmarks.apart import Apart
from benchmarks.details import Detail, attention, theirs
from benchmarks.timing import Contender
from gan_jax.errors import UserError
from gan_jax.ops import onednn


def made(repeats: int):
    """A contender that is timed, two that fail, and what is known there."""
    about = os.getpid(), apart.inside(), os.environ[onednn.SWITCH]
    calls = {"counts": lambda: None, "fails": broken, "ends": lambda: os._exit(3)}
    return {name: Contender(call, repeats=repeats) for name, call in calls.items()}, about


def broken():
    raise ValueError("arrays are not equal\n\nMismatched elements: 3 / 4")


def failed():
    raise UserError("loss/gen is 1 here and 2 there")


@pytest.fixture(scope="module")
def process():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(onednn.SWITCH, "1")
        with contextlib.closing(Apart(made, 7)) as process:
            assert os.environ[onednn.SWITCH] == "1"
            yield process


def test_another_process_times_its_contenders_in_turn_with_ours(process):
    distant, (number, inside, switch) = process.contenders()
    assert number != os.getpid()
    assert (inside, apart.inside()) == (True, False)
    assert switch == "0"  # oneDNN leaves the threads of that process to PyTorch
    assert [*distant] == ["counts", "fails", "ends"]
    assert distant["counts"].repeats == 7
    both = {"here": Contender(lambda: None), "counts": distant["counts"]}
    found = timing.race(both, seconds=0, least=3)
    assert {name: len(times.calls) for name, times in found.items()} == {"here": 3, "counts": 3}
    assert found["counts"].fastest > 0


def test_our_step_with_tcmalloc_is_timed_where_that_is_installed(monkeypatch):
    """It has to be there before a process begins, so the step is in a process of its own."""
    (case,) = cases.chosen("gan_dense")
    begun = []

    class Begun:
        def __init__(self, *words, environment):
            begun.append((words, environment))

        def contenders(self):
            return {"gan_jax": "timed there"}, None

        def close(self):
            begun.append("closed")

    monkeypatch.setattr(step.apart, "Apart", Begun)
    monkeypatch.setattr(step.ctypes.util, "find_library", lambda name: None)
    assert step.Opened(case, 0, small=True).kept() is None
    monkeypatch.setattr(step.ctypes.util, "find_library", "lib{}.so.4".format)
    with contextlib.closing(step.Opened(case, 0, small=True)) as opened:
        assert opened.kept() == "timed there"
    environment = {"LD_PRELOAD": "libtcmalloc_minimal.so.4"}
    assert begun == [((twins.alone, case, True), environment), "closed"]
    monkeypatch.setattr(step.heaps, "allocator", lambda: "tcmalloc")  # as in all of them
    assert step.Opened(case, 0, small=True).kept() is None


def test_a_contender_that_fails_is_one_line_and_the_others_go_on(process):
    distant, _ = process.contenders()
    with pytest.raises(UserError, match=r"^arrays are not equal  Mismatched elements: 3 / 4$"):
        distant["fails"].warm()
    assert distant["counts"].sample(1)[0] > 0


def test_a_process_that_ends_is_one_line():
    with contextlib.closing(Apart(made, 7)) as process:
        distant, _ = process.contenders()
        with pytest.raises(UserError, match="ended with status 3"):
            distant["ends"].sample(1)


def test_an_error_over_there_is_raised_here():
    said = pytest.raises(UserError, match=r"^loss/gen is 1 here and 2 there$")
    with contextlib.closing(Apart(failed)) as process, said:
        process.contenders()


def test_of_a_detail_only_those_of_pytorch_are_made_apart():
    detail = Detail("two", "two", "two", lambda small: dict.fromkeys(("gan_jax", "PyTorch, fast")))
    assert [*theirs(detail.make, True)[0]] == ["PyTorch, fast"]
    assert not any(name.startswith("PyTorch") for name in attention.DETAILS[0].make(True))


@pytest.mark.parametrize("module", bench.MODULES, ids=lambda module: module.__name__)
def test_a_detail_says_whether_it_has_contenders_in_pytorch(module):
    """Otherwise nobody would make them."""
    assert {entry.torch for entry in module.DETAILS} == {hasattr(module, "beside_torch")}

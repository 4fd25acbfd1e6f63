"""Races of contenders and the statistics of their times."""

import pytest

from benchmarks import timing
from benchmarks.timing import Contender, Times


def test_statistics_of_samples():
    times = Times(calls=[4.0, 1.0, 2.0, 3.0, 100.0], cores=[1.0, 2.0, 9.0])
    assert (times.median, times.fastest, times.spread) == (3.0, 1.0, 2.0)
    assert times.summary() == {
        "median": 3.0, "fastest": 1.0, "spread": 2.0, "cores": 2.0, "samples": 5,
    }  # fmt: skip


def test_contenders_run_in_turn_and_every_sample_is_waited_for(monkeypatch):
    monkeypatch.setattr(timing, "SHORTEST", 0.0)
    seen: list[str] = []

    def contender(name: str) -> Contender:
        return Contender(
            call=lambda: seen.append(name) or name,
            wait=lambda result: seen.append(f"{result} is ready"),
            before=lambda: seen.append("before"),
        )

    found = timing.race({"a": contender("a"), "b": contender("b")}, seconds=0, least=3)
    assert {name: len(times.calls) for name, times in found.items()} == {"a": 3, "b": 3}
    rounds = [word for word in seen if word in ("a", "b")]
    # two calls of each before, then rounds in alternating order
    assert rounds == ["a", "a", "b", "b", "a", "b", "b", "a", "a", "b"]
    assert seen.count("a is ready") == 5
    assert seen.count("before") == 8


def test_short_calls_are_repeated_in_a_sample(monkeypatch):
    monkeypatch.setattr(timing, "MOST_CALLS", 7)
    count = 0

    def call() -> None:
        nonlocal count
        count += 1

    times = timing.race({"short": Contender(call)}, seconds=0, least=2)["short"]
    assert count == 2 + 2 * 7
    assert len(times.calls) == 2


def test_how_many_calls_make_a_sample_may_be_said():
    seen: list[int] = []
    timing.race({"a": Contender(lambda: seen.append(1), repeats=3)}, seconds=0, least=2)
    assert len(seen) == 2 + 2 * 3


def test_nothing_to_race():
    assert timing.race({}, seconds=10) == {}


def test_a_contender_that_fails_is_not_passed_over():
    def fails() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        timing.race({"broken": Contender(fails)}, seconds=0)

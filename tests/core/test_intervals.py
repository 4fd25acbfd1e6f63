"""What is due after a step, and how a run ends there."""

import pytest

from gan_jax.core.intervals import Due, Every, Intervals
from gan_jax.core.system import Stage

STAGE = Stage(8, 4, start=10, steps=10)
EVERY = Intervals(log=Every(3), sample=Every(4), evaluate=Every(5), quality=Every(0), save=Every(6))


def at(step: int, last: bool = False, stop: bool = False) -> Due:
    """In epochs of 4 steps."""
    return Due.at(step, STAGE, 4, EVERY, last, stop)


def names(due: Due) -> list[str]:
    return [n for n in ("log", "row", "epoch", "sample", "save") if getattr(due, n)]


def test_intervals_say_what_is_due():
    assert names(at(11)) == []
    assert names(at(12)) == ["log", "row", "sample", "save"]
    assert names(at(14)) == ["epoch"]  # epochs count inside the stage
    assert names(at(16)) == ["sample"]
    assert at(15).evaluations == at(15).counted == {"evaluate"}
    assert at(16).evaluations == set()


def test_the_last_step_does_everything_but_counts_only_what_was_due():
    due = at(19, last=True)
    assert names(due) == ["log", "row", "sample", "save"]
    assert due.evaluations == {"evaluate", "quality"}
    assert due.counted == set()
    assert at(15, last=True).counted == {"evaluate"}


def test_a_signal_asks_for_a_line_and_a_save_but_for_no_row():
    assert names(at(11, stop=True)) == ["log", "save"]


@pytest.mark.parametrize("every", [Every(3), Every(1, "epochs"), Every(16, "images"), Every(0),
                                   Every(2, "ticks"), Every(0, "ticks")])  # fmt: skip
@pytest.mark.parametrize("length", [4, 7, 12])
def test_how_often_an_interval_ends_in_a_stage(every, length):
    """Epochs are counted from the start of the stage, of which the first step is 11."""
    for stage in (Stage(8, 4, start=10, steps=10, ticks={12: 1, 15: 2, 18: 3, 20: 4}), STAGE):
        ends = [step for step in range(11, 21) if every.due(step, stage, length)]
        assert every.times(stage, length) == len(ends)


# step, last, stop, patience exhausted, minutes over → saved, end
ENDS = {
    "goes on": (11, False, False, False, False, False, ""),
    "minutes are over": (11, False, False, False, True, True, ""),
    "patience has run out": (11, False, False, True, False, True, "stopped early"),
    "a signal": (11, False, True, False, False, True, "terminated"),
    "a signal and patience": (11, False, True, True, False, True, "terminated"),
    "the last step": (20, True, False, False, False, True, "finished"),
    "a signal at the last step": (20, True, True, True, True, True, "finished"),
    # a stage's last state is saved when the next stage has been entered
    "the end of a stage": (20, False, False, False, False, False, ""),
    "a signal at the end of a stage": (20, False, True, False, True, False, ""),
    "patience at the end of a stage": (20, False, False, True, False, True, "stopped early"),
}


@pytest.mark.parametrize("case", ENDS)
def test_how_a_run_ends(case):
    step, last, stop, exhausted, minutes_over, saved, end = ENDS[case]
    due = at(step, last, stop).settled(exhausted, minutes_over)
    assert (due.save, due.end) == (saved, end)


def test_patience_of_zero_never_runs_out():
    assert not EVERY.exhausted(1000)
    patient = Intervals(*[Every(1)] * 5, patience=3)
    assert [patient.exhausted(n) for n in (2, 3, 4)] == [False, True, True]

"""A signal to one process of a cluster reaches the loops of all, wherever they are."""

import pytest

from gan_jax.core import bond, cluster
from gan_jax.core.bond import Bond
from gan_jax.core.intervals import Every
from tests.helpers.loop_run import Run

STAGES = ((0, 3), (3, 5))  # first step and length


@pytest.fixture
def bound(monkeypatch) -> Bond:
    """This process as if it had others, which answer at once."""
    alone = Bond(0, 1)
    monkeypatch.setattr(bond, "current", alone)
    return alone


class Asked(Run):
    """A run in which another process is asked to stop while `step` is logged."""

    def __init__(self, bound: Bond, step: int):
        super().__init__(stages=STAGES, intervals={"log": Every(1)})
        self.bound, self.step = bound, step

    def write_scalars(self, step, scalars, kind="train"):
        super().write_scalars(step, scalars, kind)
        if (step, kind) == (self.step, "train"):
            self.bound.ask("process 1 on far")


# in a stage's last step the state is saved when the next stage has been entered, and at 8 the run
# is over; elsewhere the question of this step has been answered already
@pytest.mark.parametrize(("at", "ends"), [(1, 2), (3, 3), (4, 5), (8, 8)])
def test_the_run_ends_with_the_state_saved(bound, lines, at, ends):
    run = Asked(bound, at)
    outcome = run.go()
    assert (outcome.reason, outcome.step, max(run.saved)) == ("terminated", ends, ends)
    told = "process 1 on far was asked to stop: all stop after this step, with the state saved"
    assert lines.count(told) == 1


def test_a_run_that_begins_after_the_signal_ends_with_its_first_step(bound):
    """Such as a run whose classifier was trained when it came."""
    bound.ask("process 1 on far")
    run = Run(stages=STAGES)
    outcome = run.go()
    assert (outcome.reason, outcome.step, max(run.saved)) == ("terminated", 1, 1)


def test_the_measured_values_of_process_0_count(monkeypatch):
    """They choose the best state, and end a run that has become no better."""
    monkeypatch.setattr(cluster, "same", lambda name, found: dict.fromkeys(found, 2.0))
    run = Run(stages=STAGES, intervals={"quality": Every(1)}, scores=[3.0, 1.0])
    run.go()
    assert [event for event in run.events if event[0] == "best"] == [("best", 1), ("best", 4)]

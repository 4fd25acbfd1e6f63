"""The loop: what happens after a step and in which order, stages, patience, broken values."""

import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.core import train_step
from gan_jax.core.best_states import Best
from gan_jax.core.console import Console
from gan_jax.core.intervals import Every
from gan_jax.core.nonfinite import Watch
from gan_jax.core.system import Net, Stage, new_state
from gan_jax.core.train_step import NonFinite, TrainCarry
from gan_jax.errors import UserError
from tests.helpers.loop_run import LENGTH, Run


def test_order_of_what_happens_after_a_step():
    every = Every(4)
    names = ("log", "sample", "evaluate", "quality", "save")
    run = Run(intervals=dict.fromkeys(names, every), stages=((0, 4),))
    outcome = run.go()
    assert run.events == [
        ("train", 4),
        ("epoch", 4),
        ("sample", 4),
        ("validate",),
        ("quality",),
        ("eval", 4),
        ("best", 4),
        ("save", 4),
    ]
    assert (outcome.reason, outcome.step) == ("finished", 4)
    assert run.rows[-1]["val/score"] == 4
    # a saved state knows its own score
    assert run.saved[4][0]["state"].validation.tolist() == [1, 1]
    assert run.saved[4][1]["best_value"] == 1.0


# (interval, steps inside a stage that starts at 10, with epochs of 4 steps and batches of 4)
TABLE = {
    "3": [12, 15, 18],
    "3 steps": [12, 15, 18],
    "1 epoch": [14, 18],
    "0.5 epochs": [12, 14, 16, 18],
    "2 epochs": [18],
    "20 images": [15],
    "1 image": [11, 12, 13, 14, 15, 16, 17, 18],
    "1,000": [],
    "0": [],
    "0 epochs": [],
}


@pytest.mark.parametrize("text", TABLE)
def test_every(text):
    every, stage = Every.parse(text, "config.run.log_every"), Stage(2, 4, 10, 8)
    assert [s for s in range(11, 19) if every.due(s, stage, LENGTH)] == TABLE[text]


@pytest.mark.parametrize("text", ["", "often", "-1", "3 weeks", "nan", "inf", "1 2 steps"])
def test_every_names_what_it_cannot_read(text):
    with pytest.raises(UserError, match=r"config\.run\.log_every"):
        Every.parse(text, "config.run.log_every")


def test_epoch_averages_also_where_a_resumption_falls_into_the_epoch():
    straight = Run(intervals={"save": Every(3)})
    straight.go()
    expected = {4: np.mean([1, 2, 3, 4]), 8: np.mean([5, 6, 7, 8])}
    assert {s: r["loss/a"] for s, r in straight.of_kind("epoch").items()} == expected
    assert sorted(straight.saved) == [3, 6, 8]
    for step, left in ((3, [4, 8]), (6, [8])):
        resumed = Run()
        resumed.resume(straight, step)
        found = {s: r["loss/a"] for s, r in resumed.of_kind("epoch").items()}
        assert found == {s: expected[s] for s in left}


@pytest.mark.parametrize(
    ("log", "said"),
    [(1, [1, 2, 3, 4, 5, 6]), (4, [1, 2, 3, 4, 5, 6]), (10, [1, 3, 5, 6]), (0, None)],
)
def test_averages_are_said_no_more_often_than_the_log(log, said, lines):
    """Of six epochs of 4 steps; rows of all of them stay."""
    run = Run(stages=((0, 24),), intervals={"log": Every(log)})
    run.go()
    found = [int(x.split()[1].rstrip(",")) for x in lines if "averages" in x]
    assert found == (said or [1, 2, 3, 4, 5, 6])
    assert sorted(run.of_kind("epoch")) == [4, 8, 12, 16, 20, 24]


def test_rates_and_remaining_time_are_logged():
    run = Run(intervals={"log": Every(2)})
    outcome = run.go()
    rows = run.of_kind("train")
    assert list(rows) == [2, 4, 6, 8]
    for step, row in rows.items():
        assert row["time/images_per_second"] > 0
        assert row["time/steps_per_second"] > 0
        assert (row["time/eta_seconds"] == 0) == (step == 8)
        assert row["epoch"] == step / LENGTH
        assert row["loss/a"] == step
    assert outcome.images_per_second > 0
    assert outcome.progress.seconds > 0


# scores


@pytest.mark.parametrize("due", ["epoch", "sample", "evaluate", "quality", "save"])
def test_steps_are_done_before_the_clock_stands_still(due, monkeypatch):
    """Else the time of those that are still queued would be taken for that of what is done then."""
    queued, paused = [], []
    take, pause = Watch._take, Console.pause

    def noted(watch):
        queued.pop(0)
        take(watch)

    def add(watch, step, metrics):
        queued.append(step)
        watch._pending.append((step, metrics))

    def pausing(console):
        paused.append(list(queued))
        return pause(console)

    monkeypatch.setattr(Watch, "_take", noted)
    monkeypatch.setattr(Watch, "add", add)
    monkeypatch.setattr(Console, "pause", pausing)
    last = 3 + LENGTH
    Run(intervals={} if due == "epoch" else {due: Every(2)}, stages=((0, last),)).go()
    waited = {LENGTH, last, *([] if due == "epoch" else range(2, last, 2))}
    # the first pause is that of the first step
    assert {step for step, left in enumerate(paused[1:], 1) if not left} == waited


def test_patience_stops_early_and_for_good():
    """Better at 2 and 4, then twice not: stops after 8 of 20."""
    run = Run(
        stages=((0, 20),),
        intervals={"quality": Every(2), "patience": 2},
        scores=[3.0, 2.0, 2.0, 2.5],
    )
    outcome = run.go()
    assert (outcome.reason, outcome.step) == ("stopped early", 8)
    assert (outcome.progress.best_value, outcome.progress.best_step) == (2.0, 4)
    assert [e for e in run.events if e[0] == "best"] == [("best", 2), ("best", 4)]
    assert list(run.saved) == [8]
    again = Run(stages=((0, 20),), intervals={"quality": Every(2), "patience": 2})
    outcome = again.resume(run, 8)
    assert (outcome.reason, outcome.step, again.events) == ("stopped early", 8, [])


def test_only_counted_evaluations_reach_the_state():
    """The evaluation that merely the end of a run asked for leaves no trace in the state."""
    run = Run(stages=((0, 5),), intervals={"quality": Every(2), "save": Every(1)}, scores=[3, 2, 1])
    outcome = run.go()
    seen = [run.saved[s][0]["state"].validation.tolist() for s in range(1, 6)]
    assert seen == [[np.inf, 0], [3, 1], [3, 1], [2, 2], [2, 2]]
    assert (outcome.progress.evaluations, outcome.progress.best_step) == (2, 5)
    assert list(run.of_kind("eval")) == [2, 4, 5]


def test_highest_where_the_rule_says_so_and_nan_never():
    scores = [float("nan"), 1.0, 3.0, float("inf"), 2.0]
    run = Run(
        stages=((0, 5),), intervals={"quality": Every(1)}, scores=scores,
        rule=Best("quality", lowest=False),
    )  # fmt: skip
    outcome = run.go()
    assert [e[1] for e in run.events if e[0] == "best"] == [2, 3]
    assert (outcome.progress.best_value, outcome.progress.best_step) == (3.0, 3)


@pytest.mark.parametrize("found_by", ["log", "evaluate", "save"])
def test_a_broken_metric_stops_before_anything_broken_is_kept(found_by):
    """Step 6 is NaN; the next log, score or save finds it, names it, and keeps step 4."""
    run = Run(
        intervals={found_by: Every(2), "save": Every(4) if found_by != "save" else Every(2)},
        loss=lambda state, mean: jnp.where(state.step == 5, jnp.nan, mean),
        rule=Best("val/score", lowest=False),
    )
    with pytest.raises(NonFinite, match=r"step 6: loss/a is not finite; training stopped"):
        run.go()
    assert max(run.saved) == 4
    assert all(np.isfinite(r["loss/a"]) for r in run.of_kind("train").values())
    assert all(e[1] < 6 for e in run.events if e[0] in ("best", "train", "save"))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("kept_by", ["save", "best"])
def test_weights_that_break_without_a_metric_that_shows_it_are_not_kept(value, kept_by):
    class Breaking(Run):
        def step(self, state, batch, key, stage):
            state, metrics = super().step(state, batch, key, stage)
            mean = jnp.where(state.step == 6, value, jnp.ones(3))
            net = state.nets["net"].replace(stats={"mean": mean})
            return state.replace(nets={"net": net}), metrics

        def init(self, key, batch, stage):
            return new_state(
                {"net": Net({"w": jnp.zeros(())}, {"mean": jnp.ones(3)}, {})},
                {"entered": jnp.zeros(())},
            )

    intervals = {"save": Every(2)} if kept_by == "save" else {"save": Every(4), "quality": Every(2)}
    run = Breaking(intervals=intervals, scores=[3.0, 2.0, 1.0])
    with pytest.raises(NonFinite, match=r"^step 6: the weights of net, .*; training stopped"):
        run.go()
    assert max(run.saved) == 4
    assert [e[1] for e in run.events if e[0] == "best"] == ([] if kept_by == "save" else [2, 4])


def test_the_reduction_on_devices_finds_what_that_on_the_host_finds():
    nets = {"a": [jnp.ones((3, 2)), jnp.full(2, 2.0, jnp.bfloat16)], "b": [jnp.full(4, 1e20)]}
    host, device = train_step._sums_on_host(nets), train_step._sums_on_devices(nets)
    assert host["a"] == float(device["a"]) == 14.0
    assert not np.isfinite(host["b"])
    assert not np.isfinite(device["b"])


# stages

TWO = ((0, 3), (3, 5))


def test_each_stage_is_entered_once_also_by_a_resumption():
    run = Run(stages=TWO, intervals={"save": Every(1)})
    assert run.go().step == 8
    assert run.entered == [0, 3]
    # the first stage's last state is saved when the second has been entered
    assert [e[1] for e in run.events if e[0] == "save"] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert float(run.saved[3][0]["state"].extra["entered"]) == 2
    for step, left in ((2, [3]), (3, []), (5, [])):
        resumed = Run(stages=TWO)
        carry = resumed.resume(run, step).carry
        assert resumed.entered == left
        assert float(carry.state.extra["entered"]) == 2


def test_epochs_and_best_values_begin_anew_with_a_stage():
    run = Run(
        stages=((0, 6), (6, 6)), intervals={"quality": Every(2)}, scores=[1.0, 2.0, 3.0, 9.0, 8.0]
    )
    outcome = run.go()
    assert [e[1] for e in run.events if e[0] == "best"] == [2, 8, 10, 12]
    assert outcome.progress.best_step == 12
    rows = run.of_kind("epoch")
    assert {s: r["loss/a"] for s, r in rows.items()} == {4: 2.5, 10: 8.5}
    assert [rows[s]["epoch"] for s in rows] == [1, 1]


def test_a_stage_may_start_from_the_best_state_of_the_one_before():
    """Nets come from step 2, the step goes on from 3; at the same resolution they stay."""
    options = {"intervals": {"quality": Every(1)}, "scores": [2.0, 1.0, 3.0]}
    run = Run(stages=((0, 3, 2), (3, 5, 4)), **options)
    run.options["start_from_best"] = lambda path, carry: TrainCarry(**run.kept[path])
    carry = run.go().carry
    assert int(carry.state.step) == 8
    assert float(carry.state.nets["net"].params["w"]) == 2 + 5
    assert float(Run(stages=TWO, **options).go().carry.state.nets["net"].params["w"]) == 8
    same = Run(stages=TWO, **options)
    same.options["start_from_best"] = run.options["start_from_best"]
    assert float(same.go().carry.state.nets["net"].params["w"]) == 8


def test_patience_that_ends_with_a_stage_saves_its_state():
    run = Run(
        stages=((0, 4), (4, 4)), intervals={"quality": Every(2), "patience": 1}, scores=[1.0, 2.0]
    )
    outcome = run.go()
    assert (outcome.reason, outcome.step) == ("stopped early", 4)
    assert list(run.saved) == [4]

"""Steps that are not finite: skipped, counted and bounded, or tried again with another key; signals
and failed saves that end the loop."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.core import loss_scale, train_step
from gan_jax.core.intervals import Every
from gan_jax.core.nonfinite import attempt_key
from gan_jax.core.state_writer import SaveFailed
from gan_jax.core.system import Net
from gan_jax.core.train_step import NonFinite, fresh
from tests.helpers.loop_run import KEY, MESH, Run

SKIP = {"on_nonfinite": "skip", "nonfinite_limit": 2}


def broken_at(*steps):
    """A loss that is NaN at these steps."""
    return lambda state, mean: jnp.where(jnp.isin(state.step + 1, jnp.array(steps)), jnp.nan, mean)


def weight(carry) -> float:
    return float(carry.state.nets["net"].params["w"])


def test_a_step_that_is_skipped_changes_nothing_but_its_number(lines):
    run = Run(intervals={"log": Every(2), "save": Every(4)}, loss=broken_at(3, 6), **SKIP)
    outcome = run.go()
    assert (outcome.step, int(outcome.carry.state.step)) == (8, 8)
    assert weight(outcome.carry) == 6  # each step that is applied adds 1
    assert outcome.progress.skipped == 2
    rows = run.of_kind("train")
    assert [row["skipped/steps"] for row in rows.values()] == [0, 1, 2, 2]
    assert np.isnan(rows[6]["loss/a"])
    # averages are those of the steps that were applied
    assert {s: r["loss/b"] for s, r in run.of_kind("epoch").items()} == {4: 7 / 3, 8: 20 / 3}
    assert "step 3: loss/a is not finite; it is skipped (1 so far in this run)" in lines
    assert "skipped/in_a_row" not in rows[2]


class Masking(Run):
    """A system that skips updates itself, at steps 3 and 5 to 8, and masks their metrics."""

    def step(self, state, batch, key, stage):
        state, metrics = super().step(state, batch, key, stage)
        broken = jnp.isin(state.step, jnp.array([3, 5, 6, 7, 8]))
        norm = jnp.where(broken, jnp.inf, 2.0)
        metrics |= {"loss/a": jnp.where(broken, jnp.nan, metrics["loss/a"]), "grad_norm/net": norm}
        metrics |= {"score/real": jnp.where(broken, -jnp.inf, 1.0), "loss/zero": jnp.zeros(())}
        return state, loss_scale.mask_nonfinite(metrics, {"net": broken.astype(jnp.int32)}, 2)


@pytest.mark.parametrize("options", [{}, SKIP], ids=["stop", "skip"])
def test_updates_that_a_system_skips_are_no_zeros_in_rows_and_averages(options):
    run = Masking(intervals={"log": Every(1)}, **options)
    run.go()
    rows = run.of_kind("train")
    assert [step for step, row in rows.items() if np.isnan(row["loss/a"])] == [3, 5, 6, 7, 8]
    for name in ("grad_norm/net", "score/real"):
        assert [step for step, row in rows.items() if np.isnan(row[name])] == [3, 5, 6, 7, 8]
    assert all(row["loss/zero"] == 0 for row in rows.values())
    assert [row["skipped/net"] for row in rows.values()] == [0, 0, 1, 0, 1, 1, 1, 1]
    epochs = run.of_kind("epoch")
    assert epochs[4]["loss/a"] == epochs[4]["loss/b"] == 7 / 3  # of steps 1, 2 and 4
    assert (epochs[4]["grad_norm/net"], epochs[4]["skipped/net"]) == (2, 1 / 4)
    assert np.isnan(epochs[8]["loss/a"])  # there was none
    assert epochs[8]["skipped/net"] == 1


def test_a_loss_of_zero_is_one_if_no_update_was_skipped():
    run = Run(intervals={"log": Every(1)}, loss=lambda state, mean: 0 * mean, **SKIP)
    run.go()
    assert all(row["loss/a"] == 0 for row in run.of_kind("train").values())


def test_a_step_whose_weights_break_is_skipped_too():
    class Breaking(Run):
        def step(self, state, batch, key, stage):
            state, metrics = super().step(state, batch, key, stage)
            value = jnp.where(state.step == 5, jnp.inf, state.nets["net"].params["w"])
            return state.replace(nets={"net": Net({"w": value}, {}, {})}), metrics

    assert weight(Breaking(intervals={"save": Every(1)}, **SKIP).go().carry) == 7


def test_too_many_in_a_row_end_the_run():
    run = Run(intervals={"save": Every(2)}, loss=broken_at(2, 4, 5, 6, 7), **SKIP)
    message = (
        r"^step 6: loss/a is not finite, as in the 2 steps before it, which were skipped; training "
        r"stopped.*--config.run.on_nonfinite=rollback, or try"
    )
    with pytest.raises(NonFinite, match=message):
        run.go()


def test_a_resume_amid_skipped_steps_goes_on_as_if_nothing_had_been():
    straight = Run(intervals={"save": Every(1)}, loss=broken_at(3, 4), **SKIP)
    expected = straight.go()
    resumed = Run(loss=broken_at(3, 4), **SKIP)
    found = resumed.resume(straight, 3)
    assert weight(found.carry) == weight(expected.carry) == 6
    assert found.progress.skipped == expected.progress.skipped == 2
    assert resumed.of_kind("epoch") == {
        s: row for s, row in straight.of_kind("epoch").items() if s > 3
    }


@pytest.mark.parametrize("then", ["stop", "rollback"])
def test_what_was_skipped_does_not_end_a_run_that_skips_no_more(then):
    """As the end of a run that has skipped too much advises, or after a signal amid such steps."""
    before = Run(intervals={"save": Every(1)}, loss=broken_at(3, 4), **SKIP)
    before.go()
    resumed = Run(intervals={"log": Every(1)}, on_nonfinite=then)
    assert weight(resumed.resume(before, 4).carry) == 2 + 4  # two steps were left out
    broken = Run(intervals={"log": Every(1)}, loss=broken_at(6), on_nonfinite=then)
    with pytest.raises(NonFinite, match=r"^step 6: loss/a is not finite"):
        broken.resume(before, 4)


def test_only_skipping_changes_the_program():
    run = Run()
    carry = fresh(run.system, MESH, KEY, run.batch(0))
    arguments = carry, MESH.put(run.batch(1)), KEY, run.stages[0]
    text = {
        skips: train_step.train_function(run.system, MESH, skips).lower(*arguments).as_text()
        for skips in (False, True)
    }
    assert "is_finite" in text[False]  # of the metrics
    for word in ("stablehlo.case", "stablehlo.if"):
        assert word not in text[False]
    assert "stablehlo.case" in text[True]


def test_another_attempt_draws_other_numbers():
    keys = [jax.random.key_data(attempt_key(KEY, n)).tolist() for n in range(4)]
    assert keys[0] == jax.random.key_data(KEY).tolist()
    assert len({tuple(key) for key in keys}) == 4


def test_a_state_that_cannot_be_saved_ends_the_loop_soon(monkeypatch):
    def failed():
        if run.saved:
            raise SaveFailed("the disk is full")

    run = Run(intervals={"save": Every(3)}, raise_failure=failed)
    with pytest.raises(SaveFailed):
        run.go()
    assert list(run.saved) == [3]


@pytest.mark.parametrize("at", [3, 8])
def test_a_signal_in_the_last_step_of_a_stage_ends_the_run_with_the_state(at, capsys):
    """At 3 the next stage would compile first, at 8 the pictures of the end would be made."""

    class Stopped(Run):
        def write_scalars(self, step, scalars, kind="train"):
            super().write_scalars(step, scalars, kind)
            if step == at and kind == "train":
                os.kill(os.getpid(), signal.SIGTERM)

    run = Stopped(stages=((0, 3), (3, 5)), intervals={"log": Every(1)})
    outcome = run.go()
    assert (outcome.reason, outcome.step, max(run.saved)) == ("terminated", at, at)
    again = Run(stages=((0, 3), (3, 5))).resume(run, at)
    assert (again.reason, weight(again.carry)) == ("finished", 8)

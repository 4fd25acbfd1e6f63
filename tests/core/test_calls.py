"""Several steps in one call: nothing else about a run changes."""

import itertools
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.core import calls, programs, sharing
from gan_jax.core.calls import Calls
from gan_jax.core.intervals import Due, Every, Intervals
from gan_jax.core.programs import Programs
from gan_jax.core.recorder import Recorder
from gan_jax.core.rehearsal import Rehearsal
from gan_jax.core.system import Stage, new_state
from gan_jax.core.train_step import NonFinite, TrainCarry, several_function
from tests.helpers.loop_run import KEY, MESH, Run
from tests.helpers.trees import assert_same_bits

INTERVALS = {
    "log": Every(10), "sample": Every(6), "evaluate": Every(9), "quality": Every(15),
    "save": Every(7),
}  # fmt: skip
STAGES = ((0, 21), (21, 13, 4), (34, 12, 4))
SKIP = {"on_nonfinite": "skip", "nonfinite_limit": 2}


@pytest.fixture
def sizes(monkeypatch):
    """The number of steps of each call, as runs make them."""
    found = []
    train = Programs.train

    def counted(self, carry, batches, key, stage):
        found.append(len(batches))
        return train(self, carry, batches, key, stage)

    monkeypatch.setattr(Programs, "train", counted)
    return found


@pytest.fixture
def eager(monkeypatch):
    """Programs for calls of up to four steps are compiled wherever a run has steps left."""
    monkeypatch.setattr(sharing, "TIMED", 0.0)
    monkeypatch.setattr(sharing, "WORTH", 0.0)
    monkeypatch.setattr(sharing, "TRIED", 0.0)
    monkeypatch.setattr(calls, "SHORT", np.inf)
    monkeypatch.setattr(calls, "LONGEST", np.inf)
    monkeypatch.setattr(calls, "LOOKED_AT", 4)


def unclocked(row: dict) -> dict:
    """A row without what depends on the clock."""
    return {k: v for k, v in row.items() if not k.startswith("time/")}


def the_same(one: Run, other: Run) -> None:
    """That two runs have told, written and saved the same, apart from the clock."""
    assert one.events == other.events
    np.testing.assert_equal(*[[unclocked(row) for row in run.rows] for run in (one, other)])
    assert one.saved.keys() == other.saved.keys()
    for step, (tree, meta) in one.saved.items():
        found, told = other.saved[step]
        assert_same_bits(tree, found)
        assert meta | {"seconds": 0} == told | {"seconds": 0}
    for stage, tree in one.kept.items():
        assert_same_bits(tree, other.kept[stage])


def run_of(steps_per_call: int, **options) -> Run:
    """Nothing is compiled ahead unless `options` say so: that asks for the data of validation."""
    usual = dict(intervals=INTERVALS, stages=STAGES, scores=[3.0, 1.0, 2.0], compile_ahead=False)
    return Run(steps_per_call=steps_per_call, **(usual | options))


def test_a_run_is_the_same_whatever_a_call_takes(sizes):
    """Three stages, of which two share their programs."""
    single = run_of(1)
    single.go()
    assert set(sizes) == {1}
    sizes.clear()
    several = run_of(2)
    several.go()
    assert set(sizes) == {1, 2}
    assert sum(sizes) == 46
    the_same(single, several)


@pytest.mark.parametrize("at", [14, 28])
def test_a_resumption_may_have_calls_of_another_length(at):
    straight, resumed = run_of(1), run_of(3)
    straight.go()
    resumed.scores = itertools.chain([3.0, 1.0, 2.0][at // 15 :], itertools.repeat(1.0))
    resumed.resume(straight, at)
    assert [e for e in straight.events if e[-1] in resumed.saved and e[0] == "save" and e[1] > at]
    for step in resumed.saved:
        assert_same_bits(straight.saved[step][0], resumed.saved[step][0])
    for kind in ("train", "epoch", "eval"):
        rows = straight.of_kind(kind)
        for step, row in resumed.of_kind(kind).items():
            assert unclocked(row) == unclocked(rows[step])


def test_each_program_is_compiled_once_for_a_stage(monkeypatch):
    made = []
    init = Programs.__init__

    def kept(self, *arguments):
        init(self, *arguments)
        made.append(self)

    monkeypatch.setattr(Programs, "__init__", kept)
    run_of(2).go()
    (found,) = made
    assert found._single.function._cache_size() == 2  # the last two stages are alike
    assert len(found._several.seconds) == 2


def test_where_something_is_due_more_often_every_step_is_a_call(sizes, lines):
    run_of(8).go()
    assert set(sizes) == {1}
    assert len([x for x in lines if "steps_per_call=8: something is due more often" in x]) == 2


def test_the_length_is_chosen_where_that_is_worth_it(sizes, lines, eager):
    single, chosen = run_of(1), run_of(0)
    single.go()
    sizes.clear()
    chosen.go()
    the_same(single, chosen)
    assert max(sizes) > 1
    assert any(x.startswith("steps are short here: ") for x in lines)


@pytest.mark.parametrize(("slower", "taken_back"), [(0.0, True), (np.inf, False)])
def test_a_choice_that_makes_steps_slower_is_taken_back(
    lines, eager, monkeypatch, slower, taken_back
):
    monkeypatch.setattr(sharing, "SLOWER", slower)
    intervals = {"log": Every(8)}
    single, run = (run_of(n, stages=((0, 64),), intervals=intervals) for n in (1, 0))
    single.go()
    run.go()
    the_same(single, run)
    said = "steps were faster one by one: each is a call of its own again"
    assert (said in lines) == taken_back


def test_a_short_run_compiles_no_second_program(sizes, lines):
    run = run_of(0, stages=((0, 200),), intervals={"log": Every(50)})
    run.go()
    assert set(sizes) == {1}


def test_the_best_length_is_the_one_with_the_fewest_calls():
    run = run_of(0)
    job = type("Job", (), {"intervals": run.intervals, "epoch_steps": lambda self, stage: 400})()
    found, stage = Calls(job), Stage(8, 4, 0, 10_000)
    every = Intervals(*[Every(100)] * 5)
    job.intervals = every
    # 100 steps are three calls of 32 and four of one, or six of 16 and four of one
    assert found.needed(32, stage, 0) == 10 * 7
    assert found.needed(16, stage, 0) == 10 * 10
    assert found.best(stage, 0, 0.001) == 32
    assert found.best(stage, 0, 0.002) == 16  # 25 and more would be longer than 50 ms
    assert found.best(stage, 0, 0.006) == 1
    job.intervals = Intervals(*[Every(1)] * 5)
    assert found.best(stage, 0, 0.001) == 1


# several things due, in steps, epochs, images and ticks
UNITS = (
    {"log": Every(7), "sample": Every(2, "epochs"), "save": Every(0)},
    {"log": Every(0), "quality": Every(0.75, "epochs"), "save": Every(50, "images")},
    {"evaluate": Every(2, "ticks"), "save": Every(1, "ticks"), "log": Every(0)},
)


@pytest.mark.parametrize("chosen", UNITS)
def test_what_comes_next_is_what_is_due_there(chosen):
    names = ("log", "sample", "evaluate", "quality", "save")
    every = Intervals(**dict.fromkeys(names, Every(0)) | chosen)
    stage = Stage(8, 4, 10, 40, ticks={13: 1, 22: 2, 30: 3, 47: 4})
    due = [Due.at(s, stage, 11, every, last=False, stop=False) for s in range(11, 51)]
    events = [
        s
        for s, d in enumerate(due, 11)
        if d.log or d.epoch or d.sample or d.evaluations or d.save or d.stage_over
    ]
    for step in range(10, 50):
        assert every.next(step, stage, 11) == min(s for s in events if s > step)


# the first call of several steps


def test_a_program_that_rounds_otherwise_is_found_and_not_used(sizes, lines, monkeypatch):
    def off(*arguments):
        right = several_function(*arguments)

        def train(carry, batches, key, stage):
            carry, metrics = right(carry, batches, key, stage)
            return carry, metrics | {"loss/b": jnp.nextafter(metrics["loss/b"], jnp.inf)}

        return jax.jit(train, static_argnums=3)

    single = run_of(1)
    single.go()
    sizes.clear()
    monkeypatch.setattr(programs, "several_function", off)
    run = run_of(2)
    run.go()
    the_same(single, run)
    assert sizes.count(2) == 2  # once with the programs of either size of images
    said = "several steps in a call would be rounded otherwise here: each is a call of its own"
    assert lines.count(said) == 2


@pytest.mark.parametrize(("apart", "alike"), [("", True), ("several", False), ("single", True)])
def test_what_is_never_twice_the_same_is_not_asked_of_several_steps(apart, alike):
    """Steps that add 1; those that are `apart` count their own calls in."""
    calls = itertools.count()

    def one(carry, batch, key, stage):
        more = next(calls) if apart == "single" else 0
        return carry._replace(steps=carry.steps + 1 + more), {"loss/a": carry.steps}

    def several(carry, batches, key, stage):
        for _ in range(2 if apart == "several" else 0):
            carry = carry._replace(steps=carry.steps + 1)
        steps = carry.steps + jnp.arange(3)
        return carry._replace(steps=carry.steps + 3), {"loss/a": steps}

    carry = TrainCarry(new_state({}), {}, jnp.zeros((), jnp.int32), {})
    rehearsal = Rehearsal(MESH, one, several)
    carry, metrics, found = rehearsal(carry, [Run.batch(0)] * 3, KEY, Stage(2, 4, 0, 9))
    assert found == alike
    if apart != "single":
        assert int(carry.steps) == 3
        assert np.asarray(metrics["loss/a"]).tolist() == [0, 1, 2]


def test_a_convolution_is_found_wherever_a_program_has_it():
    image = jnp.zeros((1, 1, 4, 4))

    def convolved(x):
        return jax.lax.conv(x, jnp.zeros((1, 1, 4, 4)), (1, 1), "SAME")

    def looped(x):
        return jax.lax.fori_loop(0, 3, lambda index, x: jax.jit(convolved)(x), x)

    def chosen(x):
        return jax.lax.cond(x.sum() > 0, convolved, lambda x: x, x)

    for function in (convolved, looped, chosen):
        assert sharing.has_convolution(jax.make_jaxpr(function)(image).jaxpr)
    assert not sharing.has_convolution(jax.make_jaxpr(jnp.tanh)(image).jaxpr)


def test_on_a_cpu_steps_with_convolutions_do_not_share_a_call(sizes, lines):
    class Convolving(Run):
        def step(self, state, batch, key, stage):
            state, metrics = super().step(state, batch, key, stage)
            image = batch["image"].astype(jnp.float32)
            found = jax.lax.conv(image, jnp.ones((1, 2, 2, 2)), (1, 1), "SAME")
            return state, metrics | {"loss/b": found.mean()}

    Convolving(steps_per_call=2).go()
    assert set(sizes) == {1}
    said = "config.run.steps_per_call=2: convolutions would be slow and rounded otherwise on a CPU"
    assert f"{said}, so every step is a call of its own" in lines


# steps that are not finite, and signals


def broken_at(*steps):
    """A loss that is NaN at these steps."""
    return lambda state, mean: jnp.where(jnp.isin(state.step + 1, jnp.array(steps)), jnp.nan, mean)


def test_steps_in_the_midst_of_a_call_are_skipped_and_named(lines):
    runs = []
    for size in (1, 3):
        run = run_of(size, loss=broken_at(3, 12, 13), **SKIP)
        run.go()
        runs.append(run)
    the_same(*runs)
    said = [x for x in lines if "it is skipped" in x]
    assert len(said) == 4
    assert said[:2] == said[2:]
    assert said[0] == "step 3: loss/a is not finite; it is skipped (1 so far in this run)"


@pytest.mark.parametrize("options", [{}, SKIP])
def test_a_run_ends_with_the_line_that_names_its_broken_step(options):
    ends = []
    for size in (1, 3):
        run = run_of(size, loss=broken_at(10, 11, 12), **options)
        with pytest.raises(NonFinite) as found:
            run.go()
        ends.append((str(found.value), run))
    (line, single), (other, several) = ends
    assert line == other
    assert line.startswith("step 12" if options else "step 10")
    assert list(single.saved) == list(several.saved) == [7]


def test_a_signal_in_the_midst_of_a_call_saves_its_last_step(sizes):
    class Stopped(Run):
        def data(self, split, stage, step):
            for number, batch in enumerate(super().data(split, stage, step), step + 1):
                if split == "train" and number == 9:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch

    run = Stopped(stages=((0, 40),), intervals={"log": Every(20)}, steps_per_call=3)
    # epochs of four steps: calls end with 1, 4, 5, 8, then 9 alone or 11 with 12 due
    outcome = run.go()
    assert outcome.reason == "terminated"
    assert list(run.saved) == [outcome.step]
    straight = Run(stages=((0, 40),), intervals={"save": Every(outcome.step)})
    straight.go()
    assert_same_bits(straight.saved[outcome.step][0], run.saved[outcome.step][0])


def test_the_first_call_of_several_steps_is_in_no_rate(monkeypatch):
    """It is made twice, while the clock stands still."""
    passed = []
    monkeypatch.setattr(Recorder, "pass_over", lambda self, steps: passed.append(steps))
    run_of(4, intervals={"log": Every(8)}).go()
    assert passed
    assert all(steps > 1 for steps in passed)


# what moves between the host and the devices


def test_the_carry_is_donated(monkeypatch):
    given = []
    train = Programs.train

    def kept(self, carry, batches, key, stage):
        if len(batches) == 1 or stage in self._rehearsed:  # else it was fetched, to be used again
            given.append((carry, len(batches)))
        return train(self, carry, batches, key, stage)

    monkeypatch.setattr(Programs, "train", kept)
    # without a best state, which this run would keep where it lies on the devices
    run_of(2, intervals={**INTERVALS, "quality": Every(0)}).go()
    assert {count for _, count in given} == {1, 2}
    for carry, _ in given:
        assert all(x.is_deleted() for x in jax.tree.leaves(carry))

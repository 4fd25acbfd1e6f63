"""What a run is foretold to take, from the time of its first steps."""

import copy

import jax
import jax.numpy as jnp
import pytest

from gan_jax.core import recorder
from gan_jax.core.console import Console
from gan_jax.core.mesh import fetch
from gan_jax.core.recorder import Recorder
from gan_jax.core.system import Stage
from gan_jax.files import amount
from gan_jax.run import disk_use, feasibility
from gan_jax.run.experiment import Experiment
from tests.helpers import contract


@pytest.fixture(scope="module")
def gan():
    """Six steps of 8 images."""
    return Experiment(contract.load("dcgan_mnist"))


def test_time_memory_and_disk(gan, lines):
    feasibility.foretell(gan, 2, 30.0)
    (line,) = lines
    assert line.startswith("30 s a step x 4 steps = about 2 min, without sampling and evaluation")
    assert "; memory " in line
    state = sum(x.nbytes for x in jax.tree.leaves(fetch(gan.fresh())))
    found = disk_use.of(gan)
    assert (found.state_bytes, sum(found.states.values())) == (state, 3)  # two newest, the best
    # raw and averaged, at steps 3 and 6: 8 images of 8 x 8
    assert (found.grids, found.grid_bytes) == (4, 512)
    assert found.total == 3 * state + 4 * 512
    assert f"disk about {amount(found.total)}" in line


@pytest.mark.parametrize(("every", "drawn"), [("2", 3), ("4", 2), ("0", 1), ("6", 1)])
def test_the_last_step_draws_whatever_the_interval(gan, every, drawn):
    made = copy.copy(gan)
    made.config = gan.config.copy_and_resolve_references()
    made.config.run.sample_every = every
    assert disk_use.rounds(made, "sample_every") == drawn


def test_a_run_of_days_names_what_makes_it_shorter(gan, lines):
    feasibility.foretell(gan, 0, 86400.0)
    assert "x 6 steps = about 6.0 days" in lines[0]
    assert lines[1].startswith("that is longer than a day; smaller values make it less: ")
    assert "config.run.steps (now 6)" in lines[1]
    assert "config.batch_size (now 8)" in lines[1]
    assert "config.data.resolution (now 8)" in lines[1]


def test_a_run_that_fills_the_memory(gan, lines, monkeypatch):
    monkeypatch.setattr(feasibility, "_memory", lambda: 1_000_000)
    feasibility.foretell(gan, 0, 0.1)
    assert lines[1].startswith("that is close to the machine's memory")


def test_a_growing_run_is_told_of_its_present_resolution(lines):
    grown = Experiment(contract.load("progan_mnist"))
    feasibility.foretell(grown, 0, 1.0)
    ends = [stage.end for stage in grown.system.stages if stage.resolution == 4]
    assert f"x {ends[-1]} steps = about" in lines[0]
    assert "until 4 px are done" in lines[0]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (5400, "1.5 h"),
        (86400, "24.0 h"),
        (2e5, "2.3 days"),
    ],
)
def test_durations(seconds, words):
    assert feasibility.duration(seconds) == words


@pytest.mark.parametrize("log_every", [1, 100])
def test_it_is_said_once_after_a_few_steps_whatever_the_interval(monkeypatch, log_every):
    monkeypatch.setattr(recorder, "TIMED_SECONDS", 0.0)
    told, logged, stage = [], [], Stage(8, 4, 0, 20)
    console = Console(0, 20, quiet=True)

    class Writer:
        def write_scalars(self, step, scalars, kind="train"):
            logged.append(step)

        def flush(self):
            pass

    made = Recorder(Writer(), console, forecast=lambda *found: told.append(found))
    made.enter([stage], 0, 5, 0)
    monkeypatch.setattr(console, "line", lambda epoch, step, *_: logged.append(("line", step)))
    metrics = {"loss/gen": jnp.zeros(())}
    made.first_step(1, metrics)
    for step in range(2, 9):
        due = step % log_every == 0
        if due:
            made.log(step, metrics)
        made.foretell(step, metrics, due)
    ((step, seconds),) = told
    assert step == 1 + recorder.TIMED_STEPS
    assert seconds > 0
    assert logged.count(("line", step)) == 1
    assert (step in logged) == (log_every == 1)  # a row is written only where one is due

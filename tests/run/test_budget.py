"""--budget=1h: the length of a run is chosen from what its parts take, and then kept."""

import functools
import itertools
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import budgeting, training
from gan_jax import config as configs
from gan_jax.core import train_step
from gan_jax.core.mesh import Mesh
from gan_jax.core.system import Net, Stage, System, new_state
from gan_jax.run import budget as budgets
from gan_jax.run import disk_use, trial
from gan_jax.run import folder as folders
from gan_jax.run.budget import USED, Budget
from gan_jax.run.experiment import Experiment
from gan_jax.run.shortening import shortened
from gan_jax.run.trial import Costs
from tests.helpers import contract
from tests.helpers.one_line import assert_refused


def long_config(name="mlpgan_mnist", steps="10000"):
    """A tiny network whose recipe is long."""
    config = contract.load(name)
    config.run.update(devices=1, steps=steps, log_every="100", sample_every="500")
    config.run.update(eval_every="1000", quality_every="0", save_every="2000")
    return config


@pytest.fixture
def gan():
    return Experiment(long_config())


def costs(experiment, step=1.0, setup=10.0, **rounds):
    return Costs(setup, dict.fromkeys(experiment.system.stages, step), rounds)


def chosen(experiment, seconds, found):
    """What is chosen for a budget, when the clock stands still while it is."""
    budget = Budget(f"{seconds}s", seconds)
    return budgets.choose(experiment, budget, lambda: found, 0.0, clock=lambda: 0.0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("20 min", 1200), ("1.5h", 5400), ("2d", 172800), (".5H", 1800)],
)
def test_times(text, seconds):
    assert budgets.parse(text).seconds == seconds


@pytest.mark.parametrize("text", ["1", "h", "-1h", "0s", "1w", "nan h", "1e3s", "9" * 400 + "h"])
def test_what_is_no_time(text):
    assert_refused("budget=", budgets.parse, text)


def test_none():
    assert budgets.parse("") is None


def test_a_recipe_that_fits_stays_as_it_is(gan, lines):
    before = gan.config.to_json()
    made, record = chosen(gan, 20000, costs(gan, sample=1.0))
    assert made is gan
    assert gan.config.to_json() == before
    assert record == {"text": "20000s", "chosen": {}}
    assert lines == ["--budget=20000s: the whole recipe fits, and takes about 2.8 h"]


def test_what_is_chosen_fits_with_compiling_and_evaluations(gan, lines):
    found = costs(gan, step=1.0, setup=100.0, sample=10.0, eval=5.0, save=2.0)
    made, record = chosen(gan, 2000, found)
    steps = made.last.end
    rounds = {"sample_every": 10.0, "eval_every": 5.0, "save_every": 2.0}
    spent = 100 + steps + sum(disk_use.rounds(made, key) * t for key, t in rounds.items())
    assert 0.95 * USED * 2000 < spent <= USED * 2000
    assert made.config.run.steps == str(steps)
    assert record["chosen"]["run.steps"] == ["10000", str(steps)]
    assert lines[0].startswith(f"--budget=2000s: {steps:,} steps, 13 % of the recipe's 10,000")
    assert "the whole recipe would take about 2.9 h here" in lines[0]


def test_evaluations_that_take_long_become_few(gan):
    made, _ = chosen(gan, 2000, costs(gan, sample=150.0, eval=10.0))
    grids, validations = (disk_use.rounds(made, key) for key in ("sample_every", "eval_every"))
    assert 1 <= grids <= 2
    assert grids * 150 + validations * 10 <= 0.25 * USED * 2000
    assert made.last.end % int(made.config.run.sample_every) >= 0
    assert made.last.end > 1000


@pytest.mark.parametrize("every", ["300 steps", "0", "20000 steps"])
def test_the_pictures_and_scores_of_the_last_step_are_counted(gan, every):
    """They are made whether an interval ends there or not."""
    gan.config.run.sample_every = every
    seconds = 1000 * disk_use.rounds(gan, "sample_every")
    fitting = (10_010 + seconds + 1) / USED
    assert chosen(gan, fitting, costs(gan, sample=1000.0))[0] is gan
    whole = gan.config.to_json()
    made, _ = chosen(gan, fitting - 500 / USED, costs(gan, sample=1000.0))
    assert made.config.to_json() != whole
    takes = 10 + made.last.end + 1000 * disk_use.rounds(made, "sample_every")
    assert takes <= 1.01 * (seconds + 9_510)


def test_almost_all_of_a_recipe_is_said_in_plain_digits(gan, lines):
    chosen(gan, 10_005 / USED, costs(gan))
    assert ", 100 % of the recipe's 10,000, with" in lines[0]


def test_time_that_was_spent_before_is_gone(gan):
    clock = iter((1500.0,))
    budget = Budget("2000s", 2000.0)
    made, _ = budgets.choose(gan, budget, lambda: costs(gan), 0.0, clock=lambda: next(clock))
    assert made.last.end <= USED * 2000 - 1500


def test_too_little_time_is_refused_with_what_would_help(gan):
    found = costs(gan, step=3.0, setup=40.0, sample=5.0)
    error = assert_refused("budget=90s: too short for this run here", chosen, gan, 90, found)
    assert "Compiling takes about 40 s" in error
    assert "config.model.gen.width (now" in error
    assert "config.batch_size (now 8)" in error
    assert "run.steps" not in error


def test_little_of_a_recipe_gets_a_hint(gan, lines):
    chosen(gan, 200, costs(gan))
    assert lines[1].startswith("that is little of it; smaller values leave more steps: config.")


def test_schedules_and_averages_shrink_with_the_run():
    config = long_config()
    first, second = config.optim.gen, config.optim.disc
    first.schedule.update(name="linear", warmup=200.0, begin=4000.0, length=9000.0)
    first.update(ema=(0.999, 0.99, 0.95), ema_start=100)
    second.schedule.update(name="piecewise_constant", boundaries=(5000.0,), factors=(0.1,))
    second.ema_half_life = 8000.0
    config.loss.update(noise=0.1, noise_steps=3000)
    found = shortened(Experiment(config), 0.1, {"sample": 20, "eval": 10, "save": 5})
    assert found["run.steps"] == "1000"
    expected = {"warmup": 20.0, "begin": 400.0, "length": 900.0}
    assert {k: found[f"optim.gen.schedule.{k}"] for k in expected} == expected
    assert found["optim.gen.ema"] == (pytest.approx(0.999**10, rel=1e-5), 0.904382, 0.9)
    assert found["optim.gen.ema_start"] == 10
    assert found["optim.disc.schedule.boundaries"] == (500.0,)
    assert found["optim.disc.ema_half_life"] == 800.0
    assert found["loss.noise_steps"] == 300
    intervals = {k: found[f"run.{k}_every"] for k in ("sample", "eval", "save", "log")}
    assert intervals == {"sample": "50", "eval": "100", "save": "200", "log": "50"}


def _rates_along(experiment):
    """The generator's learning rate at four places of a run."""
    rate, end = experiment.system.rates["gen"], experiment.last.end
    return [float(rate(int(end * place))) for place in (0.1, 0.4, 0.6, 0.9)]


def test_the_rate_falls_at_the_same_share_of_a_shorter_run():
    """Also where the config counts whole epochs, of which the shorter run has less than one."""
    config = long_config(steps="200 epochs")
    config.optim.gen.schedule.update(name="halving", unit="epochs", every=50.0)
    whole = Experiment(config)
    before = _rates_along(whole)
    end = whole.last.end
    config.update_from_flattened_dict(shortened(whole, 0.02, {}))
    short = Experiment(config, data=whole.data)
    assert short.last.end == pytest.approx(0.02 * end, abs=1)
    after = _rates_along(short)
    assert after == pytest.approx(before)
    assert len(set(after)) == 4


def test_fewer_evaluations_are_less_patience(gan):
    gan.config.run.patience = 6
    gan.config.best.metric = "val/gen"
    gan.config.optim.gen.schedule.update(name="plateau", patience=4, cooldown=1)
    found = shortened(gan, 0.5, {"sample": 10, "eval": 5})
    assert found["run.patience"] == 3
    assert found["optim.gen.schedule.patience"] == 2
    assert "optim.gen.schedule.cooldown" not in found  # 1 of 1


def test_every_stage_of_a_growing_run_becomes_shorter():
    config = contract.load("progan_mnist")
    config.run.update(devices=1, steps="21000 images", sample_every="1 tick")
    config.growth.update(training_kimg=3.0, transition_kimg=3.0, ticks="4:2,8:1")
    whole = Experiment(config)
    found = Costs(0.0, {stage: float(stage.resolution) for stage in whole.system.stages}, {})
    grids = disk_use.times(whole, "sample_every")
    made, record = chosen(whole, 0.25 * found.training(whole.system.stages) / USED, found)
    assert {"growth.training_kimg", "growth.transition_kimg", "growth.ticks"} <= {*record["chosen"]}
    sides = [[s.resolution for s in e.system.stages] for e in (whole, made)]
    assert sides[0] == sides[1]
    pairs = zip(whole.system.stages, made.system.stages, strict=True)
    shares = [after.steps / before.steps for before, after in pairs]
    assert all(share == pytest.approx(0.25, rel=0.1) for share in shares), shares
    assert found.training(made.system.stages) <= 0.2525 * found.training(whole.system.stages)
    assert disk_use.times(made, "sample_every") == pytest.approx(grids, abs=1)


def test_a_preset_is_shortened_too():
    config = contract.load("progan_cifar10_theano:labels")
    config.growth.update(preset="v2-1gpu", training_kimg=-1.0, transition_kimg=-1.0)
    config.run.steps = "preset"
    found = configs.SYSTEMS["progan"].shortened(config, 0.01)
    assert found["run.steps"] == "120000 images"
    assert found["growth.training_kimg"] == found["growth.transition_kimg"] == 6.0
    assert found["growth.ticks"].startswith("4:1.6,8:1.4,")


class Clock:
    """Every look at it takes a second."""

    now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


@pytest.fixture
def growing():
    """An experiment of a single weight at 2, 4 and 8 px, whose steps compile at once."""

    def init(key, batch, stage):
        return new_state({"net": Net({"w": jnp.zeros(())}, {}, {})})

    def step(state, batch, key, stage):
        mean = jnp.mean(batch["image"].astype(jnp.float32))
        return state.replace(step=state.step + 1), {"loss/a": mean}

    def evaluate(state, batch, key, stage):
        return {"loss": jnp.ones(4)}

    def batch(stage):
        images = np.zeros((4, stage.resolution, stage.resolution, 1), np.uint8)
        return {"image": images, "valid": np.ones(4, np.float32)}

    def data(split, stage, start):
        return itertools.repeat(batch(stage), 1 if split == "validation" else 99)

    stages = tuple(Stage(side, 4, 10 * i, 10) for i, side in enumerate((2, 4, 8)))
    data.sizes = {"validation": 4}
    mesh = Mesh(1)
    made = SimpleNamespace(system=System(stages, init, step, evaluate, None), mesh=mesh, data=data)
    made.key, made.batch = mesh.copy(jax.random.key(0)), batch
    made.carry = train_step.shapes(made.system, made.key, batch(stages[0]))
    made.fresh = lambda: train_step.fresh(made.system, mesh, made.key, batch(stages[0]))
    made.shapes = lambda: mesh.shape(made.carry._asdict())
    made.config = SimpleNamespace(run=SimpleNamespace(on_nonfinite="stop"))
    made.lowered_step = functools.partial(Experiment.lowered_step, made)
    return made


def test_a_trial_measures_every_stage_and_round(growing):
    drawn, stages = [], growing.system.stages
    rounds = {"sample": lambda carry, stage: drawn.append(stage)}
    found = trial.costs(growing, rounds, budget=1e4, clock=Clock())
    assert found == Costs(1.0, dict.fromkeys(stages, 1.0), {"eval": 1.0, "sample": 1.0})
    assert drawn == [stages[-1]] * 2
    assert found.training(stages) == 30.0


def test_stages_for_which_there_is_no_time_are_estimated(growing):
    drawn, stages = [], growing.system.stages
    rounds = {"sample": lambda carry, stage: drawn.append(stage)}
    found = trial.costs(growing, rounds, budget=5.0, clock=Clock())
    times = [found.steps[stage] for stage in stages]
    assert times[2] == 1.0  # the last one is tried
    assert 0.0 < times[0] < times[1] < 0.5  # by the number of pixels, and what does not grow
    assert drawn == [stages[2]]  # a second is long here, so it is drawn once


def test_between_two_stages_that_were_tried_the_others_lie_on_a_line():
    small, middle, large = stages = [Stage(side, 4, 0, 1) for side in (4, 8, 16)]
    work = dict(zip(stages, (10.0, 40.0, 160.0), strict=True))
    found = trial._estimated({large: 3.5, small: 0.5}, work)
    assert found == {small: 0.5, middle: pytest.approx(1.1), large: 3.5}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run of whose 10,000 steps a budget left 40, and the lines about it."""
    folder = tmp_path_factory.mktemp("budget") / "run"

    def tried(experiment, rounds, seconds):
        assert (set(rounds), seconds) == ({"save", "sample"}, 80.0)
        for call in rounds.values():
            call(experiment.fresh(), experiment.last)
        return costs(experiment, 2.0, setup=0.0)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(trial, "costs", tried)
        patched.setattr(budgets, "USED", 1.0)
        patched.setattr(budgets, "FEWEST_STEPS", 5)
        patched.setattr(budgeting.time, "time", lambda: 1e9)
        training.train(long_config(), folder, budget="80s")
    return folder


def stored(folder):
    return json.loads((folder / "config.json").read_text())


def test_a_run_keeps_what_was_chosen(run, lines):
    assert stored(run)["config"]["run"]["steps"] == "40"
    assert stored(run)["budget"]["text"] == "80s"
    assert not [*run.glob("trial-*")]
    assert json.loads((run / "summary.json").read_text())["step"] == 40
    for budget in ("80s", ""):  # the same command again, and without the budget
        assert training.train(long_config(), run, budget=budget)["step"] == 40
    assert any("already finished at step 40" in line for line in lines)
    assert_refused(
        f"budget=2h: the run in {run} began with --budget=80s, and keeps its length",
        training.train,
        long_config(),
        run,
        "2h",
    )


def test_a_resume_may_still_change_the_length(run):
    config = long_config()
    config.run.steps = "42"
    budgets.resume(run, config, None)
    assert config.run.steps == "42"
    assert config.run.log_every == stored(run)["config"]["run"]["log_every"] != "100"
    assert folders.check(run, config)


def test_a_length_is_chosen_again_where_no_state_was_saved(run, tmp_path, lines):
    """The recipe has no average and a constant rate, so that nothing but config.run differs."""
    config = long_config()
    config.optim.gen.ema = ()
    content = stored(run)
    content["config"]["optim"]["gen"]["ema"] = []
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert folders.check(tmp_path, config) is False
    assert "this one replaces it" in lines[-1]
    del content["budget"]
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert folders.check(tmp_path, config)


def test_a_run_without_a_budget_gets_none_later(run, tmp_path):
    (tmp_path / "checkpoints/3").mkdir(parents=True)
    (tmp_path / "checkpoints/3/state").write_text("")
    content = stored(run)
    del content["budget"]
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert_refused(
        f"budget=80s: the run in {tmp_path} began without a budget",
        budgets.resume,
        tmp_path,
        long_config(),
        budgets.parse("80s"),
    )

"""Learning rates against tables worked out by hand, as functions of the step under jit."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.core import optim
from gan_jax.core import schedules as rates
from gan_jax.core.system import Stage
from gan_jax.errors import UserError

RUN = (Stage(8, 4, 0, 100),)  # 100 steps of 4 images
GROWING = (Stage(4, 16, 0, 5), Stage(8, 8, 5, 6), Stage(8, 2, 11, 100))  # epochs of 2, 3 and 10
EPOCHS = (2, 3, 10)


def section(**changes) -> SimpleNamespace:
    return SimpleNamespace(**{**rates.defaults(), **changes})


def values(rate, steps) -> np.ndarray:
    """The rate at int32 steps, in one compiled call."""
    return np.asarray(jax.jit(jax.vmap(rate))(jnp.asarray(steps, jnp.int32)))


def check(table: dict[int, float], lr: float, stages=RUN, epoch_steps=(10,), **changes) -> None:
    rate = rates.make(lr, section(**changes), stages, epoch_steps, "s")
    np.testing.assert_allclose(
        values(rate, list(table)), list(table.values()), rtol=2e-6, atol=1e-7 * lr
    )


def test_the_default_and_plateau_are_constant():
    check({0: 2e-4, 1: 2e-4, 10**6: 2e-4}, 2e-4)
    check({0: 2e-4, 99: 2e-4}, 2e-4, name="plateau")


def test_schedules_of_warpgan():
    """WarpGAN's three strategies in doubles, but where the original refuses the step (-1)."""
    with np.load(Path(__file__).parents[1] / "golden/warpgan/lr_schedules.npz") as file:
        golden = dict(file)
    schedules = json.loads(str(golden["meta"]))["options"]["schedules"]
    run = (Stage(8, 1, 0, 100_000),)
    checked = 0
    for name, kind, options in schedules:
        if kind == "step":
            first, *_ = options.values()
            chosen = dict(boundaries=tuple(map(int, options)), rates=tuple(options.values()))
        else:
            first = options["initial"]
            chosen = dict(length=options["end_step"], begin=options.get("start", 0.0))
            chosen["every"] = options.get("interval", 0.0) if kind == "cosine" else 0.0
        expected = golden[f"out/{name}"]
        with jax.enable_x64(True):
            rate = rates.make(first, section(name=kind, **chosen), run, (100,), "s")
            found = values(rate, golden["in/steps"])
        assert found.dtype == np.float64
        given = expected != -1
        np.testing.assert_allclose(found[given], expected[given], rtol=1e-12, err_msg=name)
        checked += given.sum()
    assert checked > 60


def test_cosine_that_changes_at_multiples_only():
    change = dict(name="cosine", every=7.0, length=20.0)

    def at(t):
        return 0.5 * (1 + math.cos(math.pi * t / 20))

    check({0: 1.0, 6: 1.0, 7: at(7), 13: at(7), 14: at(14), 20: at(14), 21: 0.0}, 1.0, **change)


def test_piecewise_constant_multiplies_factors_up():
    table = {0: 1.0, 9: 1.0, 10: 0.5, 19: 0.5, 20: 0.05, 99: 0.05}
    check(table, 1.0, name="piecewise_constant", boundaries=(10, 20), factors=(0.5, 0.1))
    check(
        {20: 0.2},
        1.0,
        name="piecewise_constant",
        boundaries=(10, 20),
        factors=(0.5, 0.1),
        floor=0.2,
    )
    check({0: 3.0}, 3.0, name="piecewise_constant", boundaries=(), factors=())


def test_halving_cuts_on_the_epoch_before_a_multiple():
    """lr0 1e-4 every 90 epochs: 5e-5 from the epoch with index 89, 2.5e-5 from 179."""
    epochs = {0: 1e-4, 88: 1e-4, 89: 5e-5, 90: 5e-5, 178: 5e-5, 179: 2.5e-5, 269: 1.25e-5}
    run = (Stage(8, 4, 0, 3000),)
    table = {10 * e: v for e, v in epochs.items()} | {889: 1e-4, 890: 5e-5, 899: 5e-5}
    check(table, 1e-4, stages=run, name="halving", unit="epochs", every=90)
    table = {8: 1.0, 9: 0.1, 19: 0.01, 29: 0.003, 99: 0.003}
    check(table, 1.0, name="halving", every=10, factor=0.1, floor=0.003)


def test_cuts_fall_on_the_exact_step_for_every_interval():
    """XLA divides by multiplying with the reciprocal, which rounds some quotients down."""
    steps = jnp.arange(2000, dtype=jnp.float32)
    every = jnp.arange(1, 200, dtype=jnp.float32)
    for length in (3, 7, 41, 49, 55, 61, 83, 90, 107, 147, 197):
        stairs = rates.exponential(1.0, 0.5, length, True)
        found = np.asarray(jax.jit(jax.vmap(stairs))(steps[: 20 * length]))
        exact = 0.5 ** (np.arange(2000)[: 20 * length] // length)
        np.testing.assert_allclose(found, exact, rtol=1e-5)
        restarts = rates.cosine_restarts(1.0, length)
        found = np.asarray(jax.jit(jax.vmap(restarts))(steps[:20] * length))
        np.testing.assert_array_equal(found, np.ones(20, np.float32))
    counts = np.asarray(jax.jit(rates._periods)(10 * every, every))
    np.testing.assert_array_equal(counts, 10)


def test_exponential_smooth_and_in_stairs():
    smooth = dict(name="exponential", every=10, factor=0.25)
    check({0: 1.0, 5: 0.5, 10: 0.25, 15: 0.125, 20: 0.0625}, 1.0, **smooth)
    stairs = smooth | dict(staircase=True)
    check({0: 1.0, 9: 1.0, 10: 0.25, 19: 0.25, 20: 0.0625}, 1.0, **stairs)
    check({20: 0.1, 90: 0.1}, 1.0, floor=0.1, **stairs)


@pytest.mark.parametrize(
    ("mode", "gamma", "table"),
    [
        ("triangular", 1.0, {0: 0.1, 2: 0.55, 4: 1.0, 6: 0.55, 8: 0.1, 12: 1.0, 20: 1.0}),
        ("triangular2", 1.0, {0: 0.1, 4: 1.0, 8: 0.1, 10: 0.325, 12: 0.55, 20: 0.325}),
        ("exp_range", 0.5, {0: 0.1, 1: 0.2125, 2: 0.2125, 4: 0.15625, 12: 0.1 + 0.9 / 4096}),
    ],
)
def test_cyclic(mode, gamma, table):
    check(table, 1.0, name="cyclic", every=4, floor=0.1, mode=mode, gamma=gamma)


def test_cosine_over_the_run_or_a_length():
    """(1 + cos(π/3)) / 2 = 3/4, (1 + cos(π/2)) / 2 = 1/2."""
    check({0: 1.0, 50: 0.5, 100: 0.0, 200: 0.0}, 1.0, name="cosine")
    table = {0: 1.0, 10: 0.2 + 0.8 * 0.75, 15: 0.6, 20: 0.2 + 0.8 * 0.25, 30: 0.2, 99: 0.2}
    check(table, 1.0, name="cosine", length=30, floor=0.2)


def test_cosine_restarts():
    """Periods of 8; with growth 2 of 8, 16, 32, beginning at 0, 8, 24."""
    table = {0: 1.0, 4: 0.5, 8: 1.0, 12: 0.5, 16: 1.0, 96: 1.0}
    check(table, 1.0, name="cosine_restarts", length=8)
    table = {0: 1.0, 4: 0.5, 8: 1.0, 16: 0.5, 24: 1.0, 40: 0.5, 56: 1.0}
    check(table, 1.0, name="cosine_restarts", length=8, growth=2)
    check({8: 1.0, 16: 0.55, 0: 1.0}, 1.0, name="cosine_restarts", length=8, growth=2, floor=0.1)


@pytest.mark.parametrize("growth", [1.0, 1.5, 2.0, 3.0])
def test_restarts_are_exact_after_millions_of_steps(growth):
    """One step before a restart the rate is almost zero, at the restart it is lr again."""
    length, begins = 1000.0, [0.0]
    while len(begins) < 7:
        begins.append(begins[-1] + length * growth ** (len(begins) - 1))
    places = np.array([b + d for b in begins[1:] for d in (-1, 0)], np.float32)
    found = np.asarray(jax.jit(jax.vmap(rates.cosine_restarts(1.0, length, growth)))(places))
    assert (found[0::2] < 1e-4).all()
    np.testing.assert_array_equal(found[1::2], 1.0)


def test_linear_anneal():
    check({0: 1.0, 25: 0.75, 50: 0.5, 100: 0.0, 150: 0.0}, 1.0, name="linear")
    table = {0: 1.0, 10: 1.0, 20: 0.55, 30: 0.1, 90: 0.1}
    check(table, 1.0, name="linear", begin=10, length=30, floor=0.1)
    check({0: 1.0, 100: 1.0}, 1.0, name="linear", begin=200)  # a run too short to reach the line
    table = {0: 1.0, 50: 1.0, 75: 0.5, 100: 0.0}
    check(table, 1.0, name="linear", hold=0.5)
    check({0: 1.0, 10: 1.0, 25: 0.5, 40: 0.0}, 1.0, name="linear", hold=0.25, length=40)


def test_warm_up_in_front():
    """The first step trains at lr / length; the rate behind begins at its own beginning."""
    check({0: 0.25, 1: 0.5, 2: 0.75, 3: 1.0, 4: 1.0, 99: 1.0}, 1.0, warmup=4)
    check({0: 0.1, 9: 1.0, 10: 1.0, 55: 0.5, 100: 0.0}, 1.0, warmup=10, name="cosine")
    stairs = dict(name="exponential", every=8, factor=0.1, staircase=True)
    check({2: 0.75, 4: 1.0, 11: 1.0, 12: 0.1}, 1.0, warmup=4, **stairs)
    check({0: 0.4, 1: 0.8, 2: 1.0, 3: 1.0}, 1.0, warmup=2.5)  # never above lr
    epochs = dict(warmup=2, unit="epochs", name="halving", every=3)
    check({0: 0.05, 9: 0.5, 19: 1.0, 20: 1.0, 39: 1.0, 40: 0.5}, 1.0, **epochs)
    check({0: 0.05, 9: 0.5, 19: 1.0, 20: 1.0}, 1.0, warmup=80, unit="images")


def test_places_in_several_stages():
    """Stages of 5, 6 and 100 steps with 16, 8 and 2 images a step."""
    steps = [0, 1, 5, 6, 8, 11, 12, 21]
    expected = {
        "steps": steps,
        "images": [0, 16, 80, 88, 104, 128, 130, 148],
        "epochs": [0, 0.5, 2.5, 2.5 + 1 / 3, 3.5, 4.5, 4.6, 5.5],
    }
    for unit, places in expected.items():
        found = values(lambda s, unit=unit: rates.place(s, unit, GROWING, EPOCHS), steps)
        np.testing.assert_allclose(found, places, rtol=1e-6)
    table = {0: 1.0, 4: 1.0, 5: 0.5, 10: 0.5, 11: 0.25, 60: 0.25}
    growing = dict(stages=GROWING, epoch_steps=EPOCHS)
    cuts = dict(name="piecewise_constant", boundaries=(80, 128), factors=(0.5, 0.5))
    check(table, 1.0, unit="images", **cuts, **growing)
    # 328 images in all, 14.5 epochs
    check({0: 1.0, 5: 1 - 80 / 328, 111: 0.0}, 1.0, name="linear", unit="images", **growing)
    check({5: 1 - 2.5 / 14.5, 111: 0.0}, 1.0, name="linear", unit="epochs", **growing)


def test_more_images_than_an_int32_holds():
    run = (Stage(8, 4096, 0, 2_000_000),)
    rate = rates.make(1.0, section(name="linear", unit="images"), run, (10,), "s")
    np.testing.assert_allclose(values(rate, [0, 1_000_000, 2_000_000]), [1, 0.5, 0], atol=1e-6)


def test_the_step_is_an_int32_scalar_under_jit():
    rate = jax.jit(rates.make(1e-3, section(name="cosine"), RUN, (10,), "s"))
    assert rate(jnp.zeros((), jnp.int32)).dtype == jnp.float32
    assert rate(jnp.zeros((), jnp.int32)).shape == ()
    assert rate._cache_size() == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(name="steps"), ["s.name='steps'", "halving"]),
        (dict(name="step", boundaries=(1, 2)), ["2 boundaries", "1 rates"]),
        (dict(name="step", rates=(-1.0,)), ["schedule.rates", "-1.0"]),
        (dict(name="cosine", every=-1.0), ["s.every=-1.0"]),
        (dict(unit="step"), ["s.unit='step'", "images"]),
        (dict(name="halving"), ["s.every=0.0", "above 0"]),
        (dict(name="exponential", every=-1), ["s.every=-1"]),
        (dict(name="cyclic"), ["s.every=0.0"]),
        (dict(mode="square"), ["s.mode='square'", "triangular2"]),
        (dict(floor=2.0), ["s.floor=2.0", "lr=1.0"]),
        (dict(floor=-1.0), ["s.floor=-1.0"]),
        (dict(warmup=-1), ["s.warmup=-1"]),
        (dict(length=-1), ["s.length=-1"]),
        (dict(begin=-1), ["s.begin=-1"]),
        (dict(hold=-0.1), ["s.hold=-0.1", "below 1"]),
        (dict(hold=1.0), ["s.hold=1.0", "below 1"]),
        (dict(hold=0.5, begin=10.0), ["s.hold=0.5", "s.begin=10.0", "leave one of them at 0"]),
        (dict(factor=0), ["s.factor=0"]),
        (dict(gamma=-0.5), ["s.gamma=-0.5"]),
        (dict(name="plateau", factor=1.0), ["s.factor=1.0", "plateau"]),
        (dict(growth=0.5), ["s.growth=0.5"]),
        (dict(name="linear", begin=20, length=10), ["s.begin=20", "s.length=10"]),
        (dict(name="piecewise_constant", boundaries=(1, 2)), ["2 boundaries", "1 factors"]),
        (
            dict(name="piecewise_constant", boundaries=(2, 1), factors=(1, 1)),
            ["boundaries", "rise"],
        ),
    ],
)
def test_mistakes_are_named(changes, words):
    with pytest.raises(UserError) as error:
        rates.make(1.0, section(**changes), RUN, (10,), "s")
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_negative_rate_and_unknown_unit():
    with pytest.raises(UserError, match="lr=-1"):
        rates.make(-1.0, section(), RUN, (10,), "s")
    with pytest.raises(UserError, match="unit='days'"):
        rates.at_step(rates.constant(1.0), "days", RUN, (10,))


def test_which_rates_depend_on_the_length_of_the_run():
    for name in rates.NAMES:
        expected = name in ("cosine", "cosine_restarts", "linear")
        assert rates.depends_on_total(section(name=name)) is expected
        assert rates.depends_on_total(section(name=name, length=5.0)) is False
        lengths = [(Stage(8, 4, 0, n),) for n in (50, 100)]
        made = [rates.make(1.0, section(name=name, every=7), run, (10,), "s") for run in lengths]
        same = np.array_equal(values(made[0], range(0, 50, 7)), values(made[1], range(0, 50, 7)))
        assert same is not expected


# what a person should know before training


@pytest.mark.parametrize(
    ("changes", "said", "key"),
    [
        (dict(warmup=1000.0), "is still warming up when the run ends, at 100 steps", "warmup"),
        (dict(warmup=100.0, name="cosine"), "is still warming up", "warmup"),
        (
            dict(warmup=10.0, unit="epochs"),
            "still warming up when the run ends, at 10 epochs",
            "warmup",
        ),
        (
            dict(name="linear", begin=100.0, length=200.0),
            "never falls, because the run ends",
            "begin",
        ),
        (dict(name="linear", hold=0.5, length=400.0), "never falls", "hold"),
        (
            dict(name="linear", unit="epochs", begin=9.0, length=20.0, staircase=True),
            "falls",
            "begin",
        ),
        (dict(name="halving", unit="epochs", every=11.0), "at 10 epochs", "every"),
        (dict(name="exponential", every=100.0, staircase=True), "never falls", "every"),
        (dict(name="step", boundaries=(100.0,), rates=(1e-5,)), "never falls", "boundaries"),
        (
            dict(name="piecewise_constant", unit="images", boundaries=(400.0,), factors=(0.1,)),
            "at 400 images",
            "boundaries",
        ),
        (dict(name="cosine", every=100.0), "never falls", "every"),
    ],
)
def test_a_rate_that_is_never_warm_or_never_falls_is_told(changes, said, key):
    found = rates.remark(2e-4, section(**changes), RUN, (10,))
    assert said in found[0]
    assert found[1] == key


@pytest.mark.parametrize(
    "changes",
    [
        dict(),
        dict(warmup=99.0),
        dict(name="plateau"),
        dict(name="cyclic", every=1000.0),
        dict(name="linear", begin=98.0),
        dict(name="linear", hold=0.5),
        dict(name="halving", unit="epochs", every=10.0),
        dict(name="halving", every=1000.0, factor=1.0),
        dict(name="exponential", every=99.0, staircase=True),
        dict(name="exponential", every=1000.0),
        dict(name="step", boundaries=(99.0,), rates=(1e-5,)),
        dict(name="piecewise_constant"),  # its factor is 1
        dict(name="cosine", floor=2e-4),
    ],
)
def test_nothing_is_told_of_a_rate_that_does_as_asked(changes):
    assert rates.remark(2e-4, section(**changes), RUN, (10,)) == ("", "")


def test_networks_with_the_same_rate_share_a_line():
    late = SimpleNamespace(lr=2e-4, schedule=section(warmup=500.0))
    fine = SimpleNamespace(lr=2e-4, schedule=section())
    assert optim.notices(dict(gen=late, disc=late, other=fine), RUN, (10,)) == (
        "the learning rate of gen and disc is still warming up when the run ends, at 100 steps; "
        "change config.optim.gen.schedule.warmup and config.optim.disc.schedule.warmup, or raise "
        "config.run.steps",
    )
    assert optim.notices(dict(gen=fine), RUN, (10,)) == ()

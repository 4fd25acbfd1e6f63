"""Learning rates: pure functions of the place in training.

A rate maps a place t to a learning rate. The place is measured in steps, images or epochs, whole
or fractional; `at_step` turns such a function into a function of the step. Nothing is counted
anywhere, so skipped updates, several critic steps and changing batch sizes cannot shift a rate.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.core.system import Stage
from gan_jax.errors import UserError, above, at_least, one_of

Rate = Callable[[jax.Array], jax.Array]  # place → learning rate, both scalars
UNITS = ("steps", "images", "epochs")
FARTHEST = 2.0**40  # a place that no training reaches


def _periods(t: jax.Array, length: float) -> jax.Array:
    """How many whole periods fit into t; exact if t is a multiple of `length`.

    A plain floor(t / length) is one too low at some multiples, because XLA turns the division into
    a multiplication.
    """
    return jnp.floor_divide(t, jnp.asarray(length, t.dtype))


def constant(lr: float) -> Rate:
    """lr."""
    return lambda t: jnp.asarray(lr, float)


def piecewise_constant(
    lr: float, boundaries: Sequence[float], factors: Sequence[float], floor: float = 0.0
) -> Rate:
    """max(floor, lr times every factor whose boundary is ≤ t); the factors multiply up."""
    if len(boundaries) != len(factors):
        raise UserError(
            f"schedule: {len(boundaries)} boundaries but {len(factors)} factors; give one each"
        )
    if list(boundaries) != sorted(boundaries):
        raise UserError(f"schedule.boundaries must rise, found {tuple(boundaries)}")
    edges, scales = np.array(boundaries, np.float64), np.array(factors, np.float64)

    def rate(t: jax.Array) -> jax.Array:
        past = t >= jnp.asarray(edges, t.dtype)
        return jnp.maximum(floor, lr * jnp.prod(jnp.where(past, jnp.asarray(scales, t.dtype), 1.0)))

    return rate


def step(lr: float, boundaries: Sequence[float], rates: Sequence[float]) -> Rate:
    """The rate of the largest boundary that is ≤ t; lr before the first boundary."""
    if len(boundaries) != len(rates):
        raise UserError(
            f"schedule: {len(boundaries)} boundaries but {len(rates)} rates; give one each"
        )
    if list(boundaries) != sorted(boundaries):
        raise UserError(f"schedule.boundaries must rise, found {tuple(boundaries)}")
    if any(rate < 0 for rate in rates):
        raise UserError(f"schedule.rates must not be below 0, found {tuple(rates)}")
    edges, choices = np.array(boundaries, np.float64), np.array([lr, *rates], np.float64)
    return lambda t: jnp.asarray(choices, t.dtype)[jnp.sum(t >= jnp.asarray(edges, t.dtype))]


def halving(lr: float, every: float, factor: float = 0.5, floor: float = 0.0) -> Rate:
    """max(floor, lr · factor^floor((⌊t⌋ + 1) / every)), t in epochs: the first cut falls on the
    epoch with index every − 1, as a loop that tests `(epoch + 1) % every == 0` before training
    the epoch does."""
    return lambda t: jnp.maximum(floor, lr * jnp.power(factor, _periods(jnp.floor(t) + 1, every)))


def exponential(lr: float, decay: float, every: float, staircase: bool, floor: float = 0.0) -> Rate:
    """max(floor, lr · decay^(t / every)); with `staircase` the exponent is rounded down."""

    def rate(t: jax.Array) -> jax.Array:
        exponent = _periods(t, every) if staircase else t / every
        return jnp.maximum(floor, lr * jnp.power(decay, exponent))

    return rate


def cyclic(lr: float, low: float, half_cycle: float, mode: str, gamma: float = 1.0) -> Rate:
    """low + (lr − low) · max(0, 1 − |t/s − 2c + 1|) · scale, with s = half_cycle and the cycle
    c = ⌊1 + t / 2s⌋.

    scale is 1 (triangular), 1 / 2^(c − 1) (triangular2) or gamma^t (exp_range).
    Source: L. N. Smith, Cyclical learning rates for training neural networks, 2017.
    """

    def rate(t: jax.Array) -> jax.Array:
        cycle = jnp.floor(1 + t / (2 * half_cycle))
        height = jnp.maximum(0.0, 1 - jnp.abs(t / half_cycle - 2 * cycle + 1))
        scale = {
            "triangular": lambda: 1.0,
            "triangular2": lambda: jnp.power(0.5, cycle - 1),
            "exp_range": lambda: jnp.power(gamma, t),
        }[mode]()
        return low + (lr - low) * height * scale

    return rate


def cosine(lr: float, length: float, floor: float = 0.0) -> Rate:
    """floor + (lr − floor) · (1 + cos(π · min(t / length, 1))) / 2."""
    return lambda t: (
        floor + (lr - floor) * 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(t / length, 1.0)))
    )


def cosine_restarts(lr: float, length: float, growth: float = 1.0, floor: float = 0.0) -> Rate:
    """A cosine from lr to floor over `length`, restarted; each period is `growth` times the last.

    Source: Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts, 2017.
    """

    if growth == 1.0:

        def through(t: jax.Array) -> jax.Array:
            return jnp.mod(t, jnp.asarray(length, t.dtype)) / length
    else:
        # where every period begins and how long it is, computed once in double precision
        count = math.ceil(math.log1p(FARTHEST / length * (growth - 1)) / math.log(growth)) + 1
        lengths = length * np.power(float(growth), np.arange(count))
        begins = np.cumsum(lengths) - lengths
        lengths, begins = lengths.astype(np.float32), begins.astype(np.float32)

        def through(t: jax.Array) -> jax.Array:
            period = jnp.sum(t >= begins) - 1
            return (t - jnp.asarray(begins)[period]) / jnp.asarray(lengths)[period]

    return lambda t: floor + (lr - floor) * 0.5 * (1 + jnp.cos(jnp.pi * through(t)))


def linear(lr: float, begin: float, end: float, floor: float = 0.0) -> Rate:
    """lr until `begin`, then a straight line down to `floor` at `end`, then `floor`."""
    span = max(end - begin, 1e-9)

    def rate(t: jax.Array) -> jax.Array:
        left = jnp.clip((end - t) / span, 0.0, 1.0)  # from the end: the last steps keep precision
        return jnp.where(t <= begin, lr, floor + (lr - floor) * left)

    return rate


def in_steps(rate: Rate, staircase: bool = True, every: float = 0.0) -> Rate:
    """The same rate, but changing only at certain places.

    With `every` above 0 it is the rate at the last multiple of `every`; otherwise, with
    `staircase`, the rate at ⌊t⌋, as in a loop that sets the rate once per epoch.
    """
    if every:
        return lambda t: rate(_periods(t, every) * every)
    return (lambda t: rate(jnp.floor(t))) if staircase else rate


def halving_period(epochs: float, ratio: float, factor: float = 0.5) -> int:
    """The longest period in whole epochs with which `halving` ends at `ratio` or less of its first
    rate: ⌊epochs / n⌋, where n = ⌈log ratio / log factor⌉ cuts are needed. 200, 1/100 → 28."""
    cuts = math.ceil(math.log(ratio) / math.log(factor) - 1e-9)
    return max(math.floor(epochs / cuts), 1)


def warm_up(rate: Rate, lr: float, length: float, unit: float) -> Rate:
    """A straight line to lr over `length`, then `rate` from its own beginning.

    `unit` is one step expressed in the units of t. The first step already has a rate above 0,
    lr · unit / length, and no step has one above lr.
    """
    if length <= 0:
        return rate

    def warm(t: jax.Array) -> jax.Array:
        rising = lr * jnp.minimum((t + unit) / length, 1.0)
        return jnp.where(t < length, rising, rate(jnp.maximum(t - length, 0)))

    return warm


def place(
    step: jax.Array, unit: str, stages: Sequence[Stage], epoch_steps: Sequence[int]
) -> jax.Array:
    """Where `step` lies before its update, float []: the steps taken, the images seen, or the
    epochs completed plus the fraction of the current one.

    Steps and epochs are computed in int32, images, of which there may be more than 2^31, in floats:
    float32, or float64 where that is enabled.
    """
    if unit == "steps":
        return step.astype(float)
    whole, part = jnp.zeros((), jnp.int32), jnp.zeros((), float)
    for stage, length in zip(stages, epoch_steps, strict=True):
        inside = jnp.clip(step - stage.start, 0, stage.steps)
        if unit == "images":
            part = part + inside.astype(float) * stage.batch_size
        else:
            whole = whole + inside // length
            part = part + (inside % length).astype(float) / length
    return whole.astype(float) + part


def at_step(
    rate: Rate, unit: str, stages: Sequence[Stage], epoch_steps: Sequence[int]
) -> Callable[[jax.Array], jax.Array]:
    """The learning rate as a function of the step (int32 [])."""
    one_of("schedule.unit", unit, UNITS)
    return lambda step: rate(place(jnp.asarray(step, jnp.int32), unit, stages, epoch_steps))


def defaults() -> dict:
    """The `schedule` section of an optimizer's config.

    `name` picks the shape; lengths are in `unit`; `length` 0 means the whole run.
    """
    return dict(
        name="constant",  # constant | plateau | piecewise_constant | step | halving |
        # exponential | cyclic | cosine | cosine_restarts | linear
        unit="steps",  # steps | images | epochs
        warmup=0.0,
        length=0.0,  # cosine, cosine_restarts (first period), linear (where it ends); 0: whole run
        begin=0.0,  # linear: where the line starts
        hold=0.0,  # linear: in place of begin, the start as a share of its length; below 1
        every=0.0,  # halving, exponential: length of one decay; cyclic: half a cycle; cosine: above
        # 0 the rate changes at its multiples only
        factor=0.5,  # halving, exponential, plateau
        floor=0.0,  # the rate never falls below; cyclic: its lower end
        staircase=False,  # exponential: whole periods only; linear, cosine: whole units only
        mode="triangular",  # cyclic: triangular | triangular2 | exp_range
        gamma=1.0,  # cyclic exp_range
        growth=1.0,  # cosine_restarts: each period this many times the last
        boundaries=(0.0,),  # piecewise_constant, with factors that multiply up; step, with rates
        factors=(1.0,),
        rates=(0.0,),  # step: the rate itself from each boundary on
        patience=5,  # plateau: evaluations without improvement before a cut
        threshold=0.01,  # plateau: relative improvement that counts
        cooldown=0,  # plateau: evaluations after a cut that are not counted
    )


NAMES = {  # the keys that each schedule needs
    "constant": (),
    "plateau": (),  # constant here: the optimizer's link `plateau` cuts it
    "piecewise_constant": ("boundaries", "factors"),
    "step": ("boundaries", "rates"),
    "halving": ("every",),
    "exponential": ("every",),
    "cyclic": ("every",),
    "cosine": (),
    "cosine_restarts": (),
    "linear": (),
}
DEPENDS_ON_TOTAL = ("cosine", "cosine_restarts", "linear")  # if length is 0


def depends_on_total(schedule) -> bool:
    """Whether the rate would change if the run were made longer."""
    return schedule.name in DEPENDS_ON_TOTAL and schedule.length == 0


def _check(lr: float, schedule, key: str) -> None:
    """Raises UserError naming `key` for values of a schedule section that are not accepted."""
    one_of(f"{key}.name", schedule.name, NAMES)
    one_of(f"{key}.unit", schedule.unit, UNITS)
    if "every" in NAMES[schedule.name] and schedule.every <= 0:
        raise UserError(f"{key}.every={schedule.every}: {schedule.name} needs a length above 0")
    one_of(f"{key}.mode", schedule.mode, ("triangular", "triangular2", "exp_range"))
    if not 0 <= schedule.floor <= lr:
        raise UserError(f"{key}.floor={schedule.floor} with lr={lr}: needs 0 ≤ floor ≤ lr")
    for name in ("warmup", "length", "begin", "every"):
        at_least(f"{key}.{name}", getattr(schedule, name), 0)
    for name in ("factor", "gamma"):
        above(f"{key}.{name}", getattr(schedule, name), 0)
    if schedule.name == "plateau" and schedule.factor >= 1:
        raise UserError(f"{key}.factor={schedule.factor}: plateau cuts by a factor below 1")
    if schedule.growth < 1:
        raise UserError(f"{key}.growth={schedule.growth}: a period cannot be shorter than the last")
    if not 0 <= schedule.hold < 1:
        raise UserError(f"{key}.hold={schedule.hold}: a share of the length, from 0 to below 1")
    if schedule.hold and schedule.begin:
        raise UserError(
            f"{key}.hold={schedule.hold} and {key}.begin={schedule.begin} both say where the line "
            "starts; leave one of them at 0"
        )
    if schedule.name == "linear" and 0 < schedule.length < schedule.begin:
        raise UserError(
            f"{key}.begin={schedule.begin}: the line would begin after its end at {key}.length="
            f"{schedule.length}; lower the one or raise the other"
        )


def make(
    lr: float, schedule, stages: Sequence[Stage], epoch_steps: Sequence[int], key: str
) -> Rate:
    """The learning rate as a function of the step, from a schedule section (see `defaults`).

    `schedule` is any object with those attributes; `key` is its place in the config, for errors.
    Raises UserError for an unknown name, unit or mode, and for lengths that must be positive.
    """
    _check(lr, schedule, key)
    end = stages[-1].end
    total = float(place(jnp.asarray(end, jnp.int32), schedule.unit, stages, epoch_steps))
    length = schedule.length or max(total - schedule.warmup, 1e-9)
    begin = schedule.begin or schedule.hold * length
    rate = {
        "constant": lambda: constant(lr),
        "plateau": lambda: constant(lr),
        "piecewise_constant": lambda: piecewise_constant(
            lr, schedule.boundaries, schedule.factors, schedule.floor
        ),
        "step": lambda: step(lr, schedule.boundaries, schedule.rates),
        "halving": lambda: halving(lr, schedule.every, schedule.factor, schedule.floor),
        "exponential": lambda: exponential(
            lr, schedule.factor, schedule.every, schedule.staircase, schedule.floor
        ),
        "cyclic": lambda: cyclic(lr, schedule.floor, schedule.every, schedule.mode, schedule.gamma),
        "cosine": lambda: in_steps(
            cosine(lr, length, schedule.floor), schedule.staircase, schedule.every
        ),
        "cosine_restarts": lambda: cosine_restarts(lr, length, schedule.growth, schedule.floor),
        "linear": lambda: in_steps(linear(lr, begin, length, schedule.floor), schedule.staircase),
    }[schedule.name]()
    first = stages[0]
    unit = {"steps": 1.0, "images": float(first.batch_size), "epochs": 1.0 / epoch_steps[0]}
    rate = warm_up(rate, lr, schedule.warmup, unit[schedule.unit])
    return at_step(rate, schedule.unit, stages, epoch_steps)


FALLING = ("piecewise_constant", "step", "halving", "exponential", "cosine", "linear")


def remark(
    lr: float, schedule, stages: Sequence[Stage], epoch_steps: Sequence[int]
) -> tuple[str, str]:
    """(What a person should know about a learning rate before training; the key of the schedule to
    change for it): that the run ends before the rate is warm, or before it falls. ("", "") if there
    is nothing to know.

    The arguments are those of `make`, which has accepted them.
    """
    end, unit = stages[-1].end, schedule.unit
    total = float(place(jnp.asarray(end, jnp.int32), unit, stages, epoch_steps))
    if schedule.warmup >= total:
        return f"is still warming up when the run ends, at {total:,g} {unit}", "warmup"
    if schedule.name not in FALLING or not lr or not _falls(lr, schedule):
        return "", ""
    last = make(lr, schedule, stages, epoch_steps, "schedule")(jnp.asarray(end - 1, jnp.int32))
    if float(last) != float(jnp.asarray(lr, float)):
        return "", ""
    keys = {
        "piecewise_constant": "boundaries",
        "step": "boundaries",
        "halving": "every",
        "exponential": "every",
        "cosine": "every" if schedule.every else "length",
        "linear": "hold" if schedule.hold else "begin" if schedule.begin else "length",
    }
    return f"never falls, because the run ends before, at {total:,g} {unit}", keys[schedule.name]


def _falls(lr: float, schedule) -> bool:
    """Whether a schedule that can fall is asked to, at some time."""
    if schedule.name == "piecewise_constant":
        return any(factor < 1 for factor in schedule.factors)
    if schedule.name == "step":
        return any(rate < lr for rate in schedule.rates)
    if schedule.name in ("halving", "exponential") and schedule.factor >= 1:
        return False
    return schedule.floor < lr

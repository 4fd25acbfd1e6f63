"""The only training loop.

Order of what happens after a step, when due: log, end of epoch, sample, validate, quality, offer
best, save. Evaluation comes before saving, so a saved state knows its own score; a test holds the
order. Everything that needs a data set, a metric or a picture arrives as an argument.
"""

import dataclasses
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.core.checkpoint import Best, BestStates, Checkpoints
from gan_jax.core.intervals import Every
from gan_jax.core.mesh import Mesh, fetch
from gan_jax.core.precompile import Ahead, Program
from gan_jax.core.preemption import Stopper, agree
from gan_jax.core.system import Batch, Stage, System, TrainState
from gan_jax.core.writer import Console, Writer
from gan_jax.errors import UserError

Data = Callable[[str, Stage, int], Iterator[Batch]]
Scores = dict[str, float]


class NonFinite(UserError):
    """A loss or a gradient norm is NaN or infinite."""


@dataclass(frozen=True)
class Intervals:
    """When the loop does what."""

    log: Every
    sample: Every
    evaluate: Every
    quality: Every
    save: Every
    save_minutes: float = 10.0
    patience: int = 0  # evaluations without a better value before training stops; 0: never


class Carry(NamedTuple):
    """What the jitted step carries: the state, and sums over the running epoch."""

    state: TrainState
    sums: dict[str, jax.Array]  # float32, by metric
    steps: jax.Array  # steps summed, int32
    broken: dict[str, jax.Array]  # first step at which a metric was not finite, or −1


@dataclass
class Progress:
    """Host-side facts that a checkpoint carries as JSON."""

    stage: int = -1  # the stage that was entered last
    best_value: float | None = None  # of the running stage
    best_step: int | None = None
    waited: int = 0  # evaluations since then
    evaluations: int = 0
    seconds: float = 0.0  # spent in training steps, over all processes of the run


@dataclass
class Probes:
    """Measurements that arrive from outside."""

    draw: Callable[[TrainState, Stage], dict[str, np.ndarray]] | None = None
    quality: Callable[[TrainState, Stage], Scores] | None = None
    refresh: Callable[[], None] | None = None  # redraw curves and the like
    # for a stage to come, of a state in shapes; told whether it is not wanted any more
    prepare: Callable[[TrainState, Stage, Callable[[], bool]], None] | None = None


@dataclass
class Outcome:
    """How a run ended: "finished", "stopped early" or "terminated" (by a signal)."""

    reason: str
    step: int
    carry: Carry
    progress: Progress
    images_per_second: float = 0.0


def shapes(system: System, key: jax.Array, batch: Batch) -> Carry:
    """The carry as shapes, without computing anything."""
    stage = system.stages[0]
    arrays = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in batch.items()}
    state = jax.eval_shape(lambda k, b: system.init(k, b, stage), key, arrays)
    _, metrics = jax.eval_shape(
        lambda s, b, k: system.train_step(s, b, k, stage), state, arrays, key
    )
    scalar = lambda dtype: {n: jax.ShapeDtypeStruct((), dtype) for n in metrics}  # noqa: E731
    count = jax.ShapeDtypeStruct((), jnp.int32)
    return Carry(state, scalar(jnp.float32), count, scalar(jnp.int32))


def fresh(
    system: System, mesh: Mesh, key: jax.Array, batch: Batch, like: Carry | None = None
) -> Carry:
    """The carry at step 0. `batch` is one global batch (numpy), for its shapes; `like`: what
    `shapes` gives, where that is known already."""
    stage = system.stages[0]
    init = jax.jit(lambda k, b: system.init(k, b, stage), out_shardings=mesh.replicated)
    state = init(key, {k: np.zeros(v.shape, v.dtype) for k, v in batch.items()})
    rest = like or shapes(system, key, batch)
    return mesh.copy(
        Carry(
            state,
            {n: jnp.zeros((), jnp.float32) for n in rest.sums},
            jnp.zeros((), jnp.int32),
            {n: jnp.full((), -1, jnp.int32) for n in rest.broken},
        )
    )


def train_function(system: System, mesh: Mesh) -> Callable[..., tuple[Carry, dict]]:
    """(carry, batch, root key, stage) → (carry, metrics), jitted; the carry is donated."""

    def train(carry: Carry, batch: Batch, root: jax.Array, stage: Stage):
        # folded with the step before the update: what happens is a function of (seed, step)
        key = jax.random.fold_in(root, carry.state.step)
        state, metrics = system.train_step(carry.state, batch, key, stage)
        sums = {n: carry.sums[n] + v.astype(jnp.float32) for n, v in metrics.items()}
        broken = {
            n: jnp.where((carry.broken[n] < 0) & ~jnp.isfinite(v), state.step, carry.broken[n])
            for n, v in metrics.items()
        }
        return Carry(state, sums, carry.steps + 1, broken), metrics

    return jax.jit(
        train,
        static_argnums=3,
        donate_argnums=0,
        out_shardings=mesh.replicated,
        compiler_options=system.compiler_options,
    )


RUN_AHEAD = 2  # steps whose batches may wait on the devices
EVALUATION = 2**31 - 1  # folded into the root key for validation


class Validator:
    """(state, stage) → {"val/<name>": mean over the validation set}.

    Every image counts once: batches are padded and carry `valid` [B]. The key is the same for all
    of them and at every evaluation, and each batch brings its images' numbers in the set as `seed`
    [B]: what is drawn for an image follows from its number, whatever the size of a batch.
    """

    def __init__(self, system: System, mesh: Mesh, data: Data, key: jax.Array):
        self.mesh, self.data, self.key = mesh, data, key

        def sums(state: TrainState, batch: Batch, root: jax.Array, index: jax.Array, stage: Stage):
            weight = batch["valid"]
            numbers = index * len(weight) + jnp.arange(len(weight), dtype=jnp.int32)
            out = system.eval_step(state, {**batch, "seed": numbers}, root, stage)
            values = {n: jnp.sum(jnp.where(weight > 0, v, 0)) for n, v in out.items()}
            return values, jnp.sum(weight)

        jitted = jax.jit(sums, static_argnums=4, out_shardings=mesh.replicated)
        self.program = Program(jitted, arrays=4)

    def __call__(self, state: TrainState, stage: Stage) -> Scores:
        totals: dict[str, float] = {}
        count = 0.0
        for index, batch in enumerate(self.data("validation", stage, stage.start)):
            batch = self.mesh.put(batch)
            sums, weight = fetch(self.program(state, batch, self.key, np.int32(index), stage))
            count += float(weight)
            for name, value in sums.items():
                totals[name] = totals.get(name, 0.0) + float(value)
        return {f"val/{name}": total / max(count, 1.0) for name, total in totals.items()}

    def prepare(self, state: TrainState, batch: Batch, stage: Stage) -> None:
        """Compiles for a stage, of a state and a batch in shapes, if there is a validation set."""
        if next(iter(self.data("validation", stage, stage.start)), None) is not None:
            valid = self.mesh.rows(stage.batch_size, (), np.float32)
            batch = {**batch, "valid": valid}
            self.program.prepare(state, batch, self.key, np.int32(0), stage)


def run(
    system: System,
    data: Data,
    epoch_steps: Callable[[Stage], int],
    mesh: Mesh,
    key: jax.Array,
    carry: Carry,
    progress: Progress,
    intervals: Intervals,
    writer: Writer,
    console: Console,
    checkpoints: Checkpoints,
    best: BestStates,
    rule: Best,
    probes: Probes,
    start_from_best: Callable[[Path, Carry], Carry] | None = None,
    compile_ahead: bool = True,
) -> Outcome:
    """Trains from `carry` to the end of the last stage.

    Args:
      data: (split, stage, step) → iterator over batches that begins after `step`.
      epoch_steps: steps in one epoch of a stage.
      key: the root key; the step is folded into it before each update.
      rule: the metric whose best state is kept.
      start_from_best: reads a best state into a carry; when given, a stage of another resolution
        starts from the best state of the one before.
      compile_ahead: what a stage of another resolution or batch size needs is compiled beside the
        training of the stage before.

    Raises NonFinite when a metric is not finite; the newest checkpoint is then a good one.
    """
    train = Program(train_function(system, mesh), arrays=3)
    validate = Validator(system, mesh, data, jax.random.fold_in(key, EVALUATION))
    final = system.stages[-1].end
    sides = len({stage.resolution for stage in system.stages})
    step = int(carry.state.step)
    trained_before = progress.seconds

    def save() -> None:
        _check(carry, checkpoints)
        writer.flush()
        progress.seconds = trained_before + console.trained_seconds
        checkpoints.save(step, carry._asdict(), vars(progress))

    def end(reason: str) -> Outcome:
        seconds = console.trained_seconds
        rate = trained_images / seconds if seconds else 0.0
        return Outcome(reason, step, carry, shown, rate)

    def prepare(stage: Stage) -> None:
        rows = {k: mesh.rows(stage.batch_size, *kind) for k, kind in kinds.items()}
        train.prepare(shape, rows, key, stage)
        if not ahead.stopped():
            validate.prepare(shape.state, rows, stage)
        if probes.prepare and not ahead.stopped():
            probes.prepare(shape.state, stage, ahead.stopped)

    ahead = Ahead(prepare)
    trained_images, shown = 0, progress
    if 0 < intervals.patience <= progress.waited:
        return end("stopped early")
    with Stopper() as stopper, ahead:
        for index, stage in enumerate(system.stages):
            if step >= stage.end:
                continue
            length = epoch_steps(stage)
            if progress.stage != index:
                carry = _enter(system, carry, stage, index, best, start_from_best, console)
                progress.stage, progress.best_value, progress.best_step = index, None, None
                progress.waited = 0
                if index:
                    save()  # a resume never chooses the best state again
            ahead.wait()
            if ahead.failure is not None:
                reason = " ".join(str(ahead.failure).split())[:200]
                console.say(f"note: what this stage needs is compiled only now ({reason})")
                ahead.failure = None
            later = system.stages[index:]
            for program in (train, validate.program):
                program.forget(lambda needed, later=later: needed in later)
            following = next((s for s in later if s != stage), None)
            place, until = "", final
            if sides > 1:
                place = f"{stage.resolution} px"
                until = [s.end for s in later if s.resolution == stage.resolution][-1]
            begun = logged = step
            unsaid = True  # whether averages may be said: once after each line of the log
            pending: deque[dict] = deque()
            for step, batch in enumerate(data("train", stage, begun), start=begun + 1):
                carry, metrics = train(carry, mesh.put(batch), key, stage)
                pending.append(metrics)
                if len(pending) > RUN_AHEAD:
                    jax.block_until_ready(pending.popleft())
                if step == begun + 1:  # the first step compiles: not part of any rate
                    jax.block_until_ready(metrics)
                    console.restart(step)
                    logged = step
                    if compile_ahead and following is not None:
                        shape = Carry(**mesh.shape(carry._asdict()))
                        kinds = {k: (v.shape[1:], v.dtype) for k, v in batch.items()}
                        ahead.begin(following)
                last, stop = step == final, stopper.now(step)
                due = lambda every: every.due(step, stage, length)  # noqa: B023, E731

                if due(intervals.log) or last or stop:
                    values = fetch(metrics)
                    seen = (step - logged) * stage.batch_size
                    trained_images, logged = trained_images + seen, step
                    values |= console.tick(step, seen, until)
                    epoch = (step - stage.start) / length
                    _check(carry, checkpoints)
                    if due(intervals.log) or last:
                        writer.write_scalars(step, {"epoch": epoch, **values})
                    console.line(epoch, step, values, round(stage.steps / length, 2), place)
                    unsaid = True
                with console.pause():
                    if (step - stage.start) % length == 0:
                        _check(carry, checkpoints)
                        count = int(carry.steps)
                        means = {n: float(v) / count for n, v in fetch(carry.sums).items()}
                        number = (step - stage.start) // length
                        writer.write_scalars(step, {"epoch": number, **means}, kind="epoch")
                        losses = {n: v for n, v in means.items() if n.startswith("loss/")}
                        if unsaid or not intervals.log.count:
                            console.say(_score_line(f"epoch {number}, averages", losses))
                        unsaid = False
                        carry = _new_epoch(carry)
                    if probes.draw and (due(intervals.sample) or last):
                        writer.write_images(step, probes.draw(carry.state, stage))
                    measured: Scores = {}
                    timely: set[str] = set()  # not only because the run ends here
                    for every, probe in (
                        (intervals.evaluate, validate),
                        (intervals.quality, probes.quality),
                    ):
                        if probe and (due(every) or last):
                            found = probe(carry.state, stage)
                            measured |= found
                            timely |= found.keys() if due(every) else set()
                    if measured:
                        writer.write_scalars(step, measured, kind="eval")
                        console.say(_score_line(f"step {step}", measured))
                    if rule.metric in measured:
                        # an evaluation that only the end of the run asked for leaves no trace in
                        # the state, so that a longer run passes through the same states
                        counted = rule.metric in timely
                        carry, shown = _offer(
                            step, index, carry, measured[rule.metric], progress, best, rule,
                            counted, counted or not start_from_best, checkpoints, mesh,
                        )  # fmt: skip
                    if measured and probes.refresh:
                        writer.flush()
                        probes.refresh()
                    exhausted = 0 < intervals.patience <= progress.waited
                    clock = False
                    if intervals.save_minutes > 0 and (
                        jax.process_count() == 1 or due(intervals.log)
                    ):
                        clock = agree(checkpoints.minutes_since_save() >= intervals.save_minutes)
                    # a stage's last state is saved when the next one has been entered
                    crossing = step == stage.end and not last and not exhausted
                    if not crossing and (due(intervals.save) or clock or last or stop or exhausted):
                        save()
                if stop and not last and not crossing:  # after a crossing: once saved
                    return end("terminated")
                if exhausted and not last:
                    return end("stopped early")
                if step == stage.end:
                    break
    return end("finished")


def _enter(
    system: System, carry: Carry, stage: Stage, index: int, best: BestStates, start_from_best,
    console: Console,
) -> Carry:  # fmt: skip
    """The carry that a stage begins with; with start_from_best, nets and extra of the best."""
    grown = index > 0 and system.stages[index - 1].resolution != stage.resolution
    path = best.path(index - 1) if start_from_best and grown else None
    if start_from_best and grown and path is None:
        console.say("nothing was measured in the stage before: its last state is taken")
    if path is not None:
        chosen = start_from_best(path, carry).state
        state = carry.state.replace(nets=chosen.nets, extra=chosen.extra)
        carry = carry._replace(state=state)
    return _new_epoch(carry._replace(state=system.enter_stage(carry.state, stage)))


def _new_epoch(carry: Carry) -> Carry:
    zero = jax.tree.map(jnp.zeros_like, (carry.sums, carry.steps))
    return carry._replace(sums=zero[0], steps=zero[1])


def _check(carry: Carry, checkpoints: Checkpoints) -> None:
    """Raises NonFinite if any metric has been NaN or infinite since the run began."""
    broken = {n: int(s) for n, s in fetch(carry.broken).items() if s >= 0}
    if broken:
        name = min(broken, key=broken.get)
        good = checkpoints.saved_step
        kept = "no checkpoint was written yet" if good is None else f"checkpoint {good} is kept"
        others = sorted(n for n, s in broken.items() if s == broken[name] and n != name)
        also = f" (with {', '.join(others)})" if others else ""
        raise NonFinite(
            f"step {broken[name]}: {name} is not finite{also}; training stopped, {kept}. Try a "
            "lower learning rate or config.optim.<net>.clip_norm in another --workdir"
        )


def _offer(
    step: int, stage: int, carry: Carry, value: float, progress: Progress, best: BestStates,
    rule: Best, counted: bool, kept: bool, checkpoints: Checkpoints, mesh: Mesh,
) -> tuple[Carry, Progress]:  # fmt: skip
    """Keeps the state if `value` is the best of its stage; writes a counted value into the state.

    Returns the progress to show: that of the run, with a value that was not counted beside it.
    """
    _check(carry, checkpoints)
    shown = progress if counted else dataclasses.replace(progress)
    if counted:
        progress.evaluations += 1
        progress.waited += 1
        seen = np.array([value, progress.evaluations], np.float32)
        carry = carry._replace(state=carry.state.replace(validation=mesh.copy(seen)))
    if rule.better(value, shown.best_value):
        shown.best_value, shown.best_step, shown.waited = value, step, 0
        if kept:  # else: a longer run would not pass it, and must not start from it
            best.save(stage, step, carry._asdict(), vars(shown))
    return carry, shown


def _score_line(place: str, scores: Scores) -> str:
    shown = {k: v for k, v in scores.items() if not k.startswith("class_fraction/")}
    return f"{place}: " + " · ".join(
        f"{k} {v:.4f}" if math.isfinite(v) else f"{k} {v}" for k, v in shown.items()
    )

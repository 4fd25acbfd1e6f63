"""Every mode as a function, and `load` for code that wants a trained model.

    import gan_jax
    model = gan_jax.load("runs/a")
    images = model.sample(seeds=range(64))          # uint8 [64, H, W, C]

The one place where the rooms meet: it builds data, system, engine and reports from a config and
hands each what it needs of the others.
"""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gan_jax import config as configs
from gan_jax.core import checkpoint, loop
from gan_jax.core.intervals import Every
from gan_jax.core.sampler import Sampler
from gan_jax.core.system import Stage, TrainState
from gan_jax.core.writer import Console, Writer
from gan_jax.errors import UserError
from gan_jax.evaluation import quality
from gan_jax.files import write_json
from gan_jax.metrics import neighbours
from gan_jax.modes import sample as export
from gan_jax.modes.caricature import warp as warp
from gan_jax.report import curves, epochs, grids
from gan_jax.run import class_names
from gan_jax.run import folder as folders
from gan_jax.run import summary as outcomes
from gan_jax.run.experiment import Experiment
from gan_jax.run.model import Adjust, Model, as_it_is, load, measured, with_restored

defaults = configs.defaults
sample, dry_run = export.sample, export.dry_run
FIRST_DRAWING = 20.0  # seconds from a run's start
DRAWING = 0.05  # the share of the time that curves may take while a run goes on
TERMINATED = 75  # exit status after SIGTERM or Ctrl-C: state saved, run it again to go on


def train(config: ConfigDict, workdir: str | Path, say=print) -> dict[str, Any]:
    """Trains, or goes on training, in `workdir`; returns the summary that summary.json holds.

    Raises UserError for everything a user can get wrong; `summary["reason"]` is "finished",
    "stopped early" or "terminated".
    """
    began = time.time()
    main = jax.process_index() == 0
    say = say if main else lambda text: None
    configs.prepare(config)
    folder = folders.claim(workdir, lock=main, say=say)
    try:
        stored = folders.check(folder, config, say)
        experiment = Experiment(config)
        if stored:
            folders.check_facts(folder, experiment.facts)
        _announce(experiment, say)
        return _train(experiment, folder, stored, began, say, main)
    except Terminated:
        return {"reason": "terminated", "step": 0, "workdir": str(folder)}
    finally:
        folders.release(folder)


def _train(
    experiment: Experiment, folder: Path, stored: bool, began: float, say, main: bool
) -> dict:
    config, system, mesh = experiment.config, experiment.system, experiment.mesh
    length = experiment.data.epoch_steps
    intervals = _intervals(config)
    for name, every in vars(intervals).items():
        if getattr(every, "unit", "") == "ticks" and not any(s.ticks for s in system.stages):
            key = {"evaluate": "eval"}.get(name, name)
            raise UserError(f"config.run.{key}_every: config.system={config.system} has no ticks")
    _check_best(experiment)
    keep_every = Every.parse(config.run.keep_every, "config.run.keep_every")
    if keep_every.unit == "ticks":
        raise UserError(
            f"config.run.keep_every={config.run.keep_every!r}: ticks differ in length; give steps, "
            "epochs or images"
        )
    rule = checkpoint.Best(config.best.metric, config.best.mode == "min")
    states = checkpoint.Checkpoints(
        folder / "checkpoints",
        config.run.keep,
        keep_every.steps(system.stages[0], length(system.stages[0])),
        say,
    )
    best = checkpoint.BestStates(folder / "best", rule, say)
    restored = states.restore_newest(experiment.shapes())
    if restored:
        step, tree, meta = restored
        carry, progress = loop.Carry(**tree), loop.Progress(**meta)
        if progress.stage >= len(system.stages):
            raise UserError(
                f"config.run.steps={config.run.steps!r} ends before step {step}, where this run "
                "is already; raise it"
            )
        ended = step >= experiment.last.end or 0 < intervals.patience <= progress.waited
        summary = folders.read_summary(folder)
        if ended and summary.get("step") == step:
            states.close()
            more = "steps" if step >= experiment.last.end else "patience"
            say(f"already finished at step {step}; raise config.run.{more} to go on")
            outcomes.show(summary, say)
            return summary
        say(f"resuming from step {step}")
    else:
        if stored:
            say("no checkpoint yet: starting from step 0")
        step, progress = 0, loop.Progress()
        carry = experiment.fresh()
        carry = with_restored(experiment, carry, say)
    if main:
        best.cut(step)
        folders.write_config(folder, config, mesh.size, experiment.facts)
        grids.save_sheet(folder / "reals.png", _reals(experiment))

    chooser = _chooser(experiment, say)
    stage = system.stages[max(progress.stage, 0)]
    probes, sampler, titles = _probes(experiment, folder, say, stage)
    writer = Writer(folder, step, _grid_saver(titles), quiet=not main)
    console = Console(step, experiment.last.end, quiet=not main)
    try:
        outcome = loop.run(
            system, experiment.data, length, mesh, experiment.key, carry, progress, intervals,
            writer, console, states, best, rule, probes, chooser, config.run.compile_ahead,
        )  # fmt: skip
        console.close()
        # a translation has its own target to be compared with
        new = system.sample_step is not None and not experiment.facts.input_channels
        if outcome.reason != "terminated" and new:
            stage = system.stages[max(outcome.progress.stage, 0)]
            _neighbour_sheet(experiment, folder, sampler, outcome.carry.state, stage)
        summary = outcomes.summary(experiment, folder, outcome, began, rule)
        if experiment.data.skipped:
            say(f"{experiment.data.skipped} images could not be read; others took their place")
        if main:
            write_json(folder / "summary.json", summary)
            outcomes.show(summary, say)
        return summary
    finally:
        console.close()
        writer.close()
        states.close()
        best.close()
        if main:
            _refresher(experiment, folder)()


def _intervals(config: ConfigDict) -> loop.Intervals:
    run = config.run
    every = lambda name: Every.parse(run[name], f"config.run.{name}")  # noqa: E731
    if config.best.mode not in ("min", "max"):
        raise UserError(f"config.best.mode={config.best.mode!r}: accepted are min, max")
    return loop.Intervals(
        log=every("log_every"),
        sample=every("sample_every"),
        evaluate=every("eval_every"),
        quality=every("quality_every"),
        save=every("save_every"),
        save_minutes=run.save_minutes,
        patience=run.patience,
    )


def _chooser(experiment: Experiment, say):
    """Reads the state that a new resolution starts from, where the config asks for the best one."""
    if not experiment.config.best.get("start_from_best"):
        return None
    measured = experiment.measures_quality or experiment.data.sizes["validation"]
    if not measured:
        raise UserError(
            "config.best.start_from_best: nothing is measured in this run; set "
            "config.run.quality_every"
        )

    def read(path: Path, carry: loop.Carry) -> loop.Carry:
        tree, meta = checkpoint.read(path, experiment.shapes())
        value = f"{experiment.config.best.metric} {meta['best_value']:.4f}"
        say(f"a new resolution starts from the best state of the last: step {path.name}, {value}")
        return loop.Carry(**tree)

    return read


def _check_best(experiment: Experiment) -> None:
    """Raises UserError when the metric that picks the best state is not measured in this run."""
    config = experiment.config
    known = [
        f"val/{name}" for name in experiment.evaluated() if experiment.data.sizes["validation"]
    ]
    if experiment.measures_quality:
        quality.check(experiment)
    figures = [] if experiment.system.sample_step is None else quality.figure_names(experiment)
    if experiment.measures_quality:
        known += figures
    if known and config.best.metric not in known:  # where nothing is measured, nothing is best
        accepted = ", ".join(known)
        if figures and not experiment.measures_quality:
            accepted += f", and with config.run.quality_every also {', '.join(figures)}"
        raise UserError(
            f"config.best.metric={config.best.metric!r} is not measured in this run; accepted are "
            f"{accepted}"
        )


def _announce(experiment: Experiment, say) -> None:
    """What a person wants to know before the first step."""
    devices = {d.device_kind for d in experiment.mesh.mesh.devices.flat}
    say(f"data: {experiment.data.description}")
    say(f"devices: {experiment.mesh.size} x {', '.join(sorted(devices))}")
    state = experiment.carry.state
    for name, net in state.nets.items():
        count = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(net.params))
        rate = experiment.system.rates.get(name)
        schedule = f", {_rate_line(rate, experiment.last.end)}" if rate else ""
        say(f"{name}: {count:,} parameters{schedule}")
    for notice in experiment.system.notices:
        say(notice)


def _rate_line(rate, steps: int) -> str:
    """First and last learning rate and their ratio; a warm-up's first step is no base for it."""
    sampled = np.asarray(jax.vmap(rate)(np.linspace(0, steps - 1, 200).astype(np.int32)))
    top, end = float(sampled.max()), float(sampled[-1])
    if top == end == float(sampled.min()):
        return f"learning rate {top:.3g}"
    return (
        f"learning rate {top:.3g} at most, {end:.3g} at the end (ratio {end / max(top, 1e-30):.3g})"
    )


def _reals(experiment: Experiment) -> np.ndarray:
    """The first training images as a grid; pairs as input beside target."""
    if not experiment.facts.input_channels:
        return grids.grid(experiment.data.examples("train", 64)["image"])
    found = experiment.data.examples("train", 16)
    return grids.grid(grids.triples(found["input"], found["target"], None), columns=4)


def _grid_saver(titles: tuple[str, ...]):
    """Writes a grid with a column for each title, or a square one without titles."""

    def save(path: Path, images: np.ndarray) -> np.ndarray:
        picture = grids.grid(images, columns=len(titles), column_titles=titles)
        grids.save_sheet(path, picture)
        return picture

    return save


def _probes(
    experiment: Experiment, folder: Path, say, stage: Stage
) -> tuple[loop.Probes, Sampler | None, tuple[str, ...]]:
    """What the loop measures and draws, from `stage` on; what draws, and a grid's titles."""
    if experiment.system.sample_step is None:
        return loop.Probes(refresh=_refresher(experiment, folder, FIRST_DRAWING)), None, ()
    batch, titles = experiment.grid_batch()
    sampler = experiment.sampler(len(batch["seed"]))

    def draw(state: TrainState, stage: Stage) -> dict[str, np.ndarray]:
        made = sampler(state, batch, stage)
        times = (
            experiment.facts.resolution // stage.resolution
        )  # all pictures of a run have one size
        made = {k: grids.enlarged(v, times) for k, v in made.items()}
        if not experiment.facts.input_channels:
            return made
        return {k: grids.triples(batch["input"], v, batch["target"]) for k, v in made.items()}

    measure = None
    if experiment.measures_quality:
        measure = quality.Quality(experiment, lambda: _judge(experiment, folder, say), say, stage)
        quality.remember(folder, measure.about, write=jax.process_index() == 0)

    def prepare(state: TrainState, stage: Stage, stopped) -> None:
        sampler.program.forget(lambda s: 2 * s.resolution >= stage.resolution)
        sampler.prepare(state, batch, stage)
        if measure:
            measure.prepare(state, stage, stopped)

    return (
        loop.Probes(draw, measure, _refresher(experiment, folder, FIRST_DRAWING), prepare),
        sampler,
        titles,
    )


def _refresher(experiment: Experiment, folder: Path, wait: float = 0.0):
    """Redraws curves.png, the best value of the chosen metric marked, and epochs.csv: not within
    the first `wait` seconds, and then where drawing takes a small part of the time since the last
    one."""
    best, earliest = experiment.config.best, time.monotonic() + wait

    def refresh() -> None:
        nonlocal earliest
        began = time.monotonic()
        if began < earliest:
            return
        curves.curves(folder / "metrics.jsonl", folder / "curves.png", {best.metric: best.mode})
        rows = curves.read_rows(folder / "metrics.jsonl")
        epochs.write(folder / "epochs.csv", rows, (best.metric, best.mode))
        ended = time.monotonic()
        earliest = ended + (ended - began) / DRAWING

    return refresh


def _judge(experiment: Experiment, folder: Path, say) -> Model:
    """The classifier that judges samples: the named one, or one trained now beside the run."""
    config = experiment.config
    if config.quality.classifier:
        return _fitting(load(config.quality.classifier), experiment)
    own = configs.defaults("classifier")
    with own.unlocked():
        own.data.update(config.data.to_dict())
        own.data.flip = False
        if own.data.pairs == "upscale":  # made of labelled images; it judges the large ones
            own.data.pairs = "none"
    own.seed, own.model.width = config.seed, config.quality.classifier_width
    own.best.update(metric="val/accuracy", mode="max")
    own.batch_size = min(own.batch_size, experiment.facts.train_size)
    own.run.update(
        steps=config.quality.classifier_steps, eval_every="0", save_every="0", log_every="250",
        # its batch need not divide by as many devices as the run's does
        devices=math.gcd(own.batch_size, experiment.mesh.size), workers=config.run.workers, keep=1,
    )  # fmt: skip
    if folders.read_summary(folder / "classifier").get("reason") == "finished":
        say = lambda text: None  # noqa: E731  nothing new to tell
        if _as_trained(folder / "classifier", own):
            return _fitting(load(folder / "classifier"), experiment)
    say("classifier that will judge the samples:")
    summary = train(own, folder / "classifier", lambda text: say(f"  {text}"))
    if summary["reason"] == "terminated":
        raise Terminated("stopped by a signal while the classifier was trained; run it again")
    return _fitting(load(folder / "classifier"), experiment)


def _as_trained(folder: Path, config: ConfigDict) -> bool:
    """Whether the run in a folder is what `config` asks for; it is only read. UserError as
    `workdir.check`."""
    lines: list[str] = []
    return folders.check(folder, config, lines.append) and not any("run.steps" in x for x in lines)


class Terminated(UserError):
    """A signal ended the training of the classifier; there is no run to summarise yet."""


def _fitting(judge: Model, experiment: Experiment) -> Model:
    found, wanted = judge.experiment.facts, experiment.facts
    if "features" not in judge.experiment.system.tasks:
        raise UserError("config.quality.classifier: that run is not a classifier's")
    if found[:3] != wanted[:3]:
        raise UserError(
            f"config.quality.classifier was trained on {found.resolution} px, "
            f"{found.channels} channels, {found.num_classes} classes; this run has "
            f"{wanted.resolution}, {wanted.channels}, {wanted.num_classes}"
        )
    other = class_names.disagree(found.class_names, wanted.class_names)
    if other:
        raise UserError(f"config.quality.classifier has learnt other classes: {other} of this run")
    return judge


def _fitting_count(experiment: Experiment) -> int:
    """How many images make up 512 MB: comparisons with real images use no more of them."""
    facts = experiment.facts
    return max(2**29 // (facts.resolution**2 * facts.channels), 1)


def _neighbour_sheet(
    experiment: Experiment,
    folder: Path,
    sampler: Sampler,
    state: TrainState,
    stage: Stage,
    rows: int = 10,
) -> None:
    """neighbours.png: samples beside their closest training images."""
    made = sampler(state, experiment.sample_batch(range(rows)), stage)
    samples = made.get("ema", next(iter(made.values())))
    samples = grids.enlarged(samples, experiment.facts.resolution // stage.resolution)
    bank = experiment.data.all("train", limit=_fitting_count(experiment))["image"]
    indices, distances = neighbours.nearest(samples, bank, k=min(7, len(bank)))
    distances /= np.sqrt(samples[0].size)  # root mean square difference in grey levels
    sheet = grids.neighbour_sheet(samples, bank[indices], distances)
    if jax.process_index() == 0:  # drawing is a matter for all processes
        grids.save_sheet(folder / "neighbours.png", sheet)


def evaluate(
    workdir: str | Path,
    which: str = "newest",
    say=print,
    config: ConfigDict | None = None,
    adjust: Adjust = as_it_is,
    places: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """Validation losses, and where the run measures it the quality of its images; written to
    evaluate.json in the run's folder.

    `config`: its section `quality` is used instead of the run's, and then always. Of an imported
    run, which has no data, also its section `data`. `adjust` is applied to the model. `places`:
    where the data are now, see `load`.
    """
    folder = Path(workdir)
    model = load(folder, which, places)
    if config is not None and config.system != model.config.system:
        raise UserError(
            f"--config is for config.system={config.system!r}, --workdir={folder} holds a run "
            f"of {model.config.system!r}"
        )
    model = adjust(measured(model, config))
    experiment = model.experiment
    if config is not None:
        configs.prepare(config)
        experiment.config.quality.update(config.quality)
        configs.check(experiment.config)
    scores, about = model.evaluate(), {}
    if experiment.system.sample_step is not None and (
        config is not None or experiment.measures_quality
    ):
        measure = quality.Quality(
            experiment, lambda: _judge(experiment, folder, say), say, model.stage
        )
        scores |= measure(model.state, model.stage)
        about = {"quality": measure.about}
    for name, value in scores.items():
        say(f"{name} {value:.6g}")
    if about:
        say(json.dumps(about))
    try:
        result = {"step": model.step, "state": which, **scores, **about}
        write_json(folder / "evaluate.json", result)
    except OSError as error:  # the figures are told, and the run is only read
        say(f"note: {folder / 'evaluate.json'} cannot be written ({error.strerror or error})")
    return scores


def train_status(config: ConfigDict, workdir: str | Path, say=print) -> int:
    """`train` as an exit status: 0, or TERMINATED after a signal."""
    summary = train(config, workdir, say)
    return TERMINATED if summary["reason"] == "terminated" else 0

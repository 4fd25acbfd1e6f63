"""`gan_jax.train`: trains a run, from its first step or from where it was left.

Here the rooms meet: data, system, engine and reports are built from a config, and each is given
what it needs from the others.
"""

import contextlib
import functools
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from gan_jax import budgeting, config_checks, log
from gan_jax import config as configs
from gan_jax.core import bond, cluster, loop, shared_folder
from gan_jax.core.best_states import Best, BestStates
from gan_jax.core.checkpoint import Checkpoints
from gan_jax.core.console import Console, timed
from gan_jax.core.intervals import Intervals
from gan_jax.core.job import Job, Outcome, Probes, Progress
from gan_jax.core.recorder import Recorder
from gan_jax.core.saved_states import read, states_in
from gan_jax.core.state_writer import SaveFailed
from gan_jax.core.system import Stage, TrainState
from gan_jax.core.train_step import NonFinite, TrainCarry, continued, remedy
from gan_jax.core.writer import Writer
from gan_jax.errors import UserError, is_full_memory
from gan_jax.evaluation import feature_classifier, quality, section
from gan_jax.evaluation.feature_classifier import Terminated
from gan_jax.files import reason, write_json
from gan_jax.growing import tolerated
from gan_jax.report import grids
from gan_jax.run import budget as budgets
from gan_jax.run import claims, feasibility, memory, missing, pictures, provenance, spacing
from gan_jax.run import folder as folders
from gan_jax.run import summary as summaries
from gan_jax.run.experiment import Experiment
from gan_jax.run.weights import restore_weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Run:
    """A run while it is being trained."""

    experiment: Experiment
    folder: Path
    main: bool  # whether this process is the one that writes
    intervals: Intervals
    chosen: dict[str, Any] | None = None  # keys that were chosen for a budget


def train(config: ConfigDict, workdir: str | Path, budget: str = "") -> dict[str, Any]:
    """Starts the run in `workdir`, or resumes it; returns the contents of summary.json.

    `workdir` may be an address, gs://bucket/path or s3://bucket/path: a copy of it on the disk is
    trained in, and copied back every `config.run.sync_seconds` and at the end.
    `budget` is a time, such as "30m", "1.5h" or "2d". A few steps are tried then, and `config` is
    changed so that the run ends within that time; a run that is resumed keeps what was chosen.
    `summary["reason"]` is "finished", "stopped early" or "terminated" (by a signal). Raises
    UserError for everything a user can get wrong.
    """
    cluster.join()
    main, limit = cluster.is_first(), budgets.parse(budget)
    configs.prepare(config)
    with shared_folder.trained(workdir, config.run.sync_seconds) as place:
        folder = claims.claim(place, lock=main)
        try:
            shared_folder.check_shared(folder)
            cluster.check_same("config", configs.without_places(config))
            cluster.check_same("budget", limit)
            # a command that is refused before the run has begun leaves no file behind
            with log.kept_in(folder / "log.txt", (folder / "config.json").exists):
                return _opened(config, folder, main, limit)
        except Terminated:
            return {"reason": "terminated", "step": 0, "workdir": str(folder)}
        finally:
            claims.release(folder)


def _opened(
    config: ConfigDict, folder: Path, main: bool, budget: budgets.Budget | None
) -> dict[str, Any]:
    """The rest of `train`, in a folder that no other process trains in."""
    began = time.time()
    try:
        with memory.explained(config, memory.of_training):
            shared_folder.bring(folder / "config.json", folder / "quality.json")
            budgets.resume(folder, config, budget)
            stored = folders.check(folder, config)
            experiment = Experiment(config, begun=stored)
            if stored:
                folders.check_facts(folder, experiment.facts)
            summaries.announce(experiment)
            cluster.together("the run's folder is read")  # which process 0 is about to change
            run = _Run(experiment, folder, main, spacing.intervals(experiment))
            _check_best(experiment)
            if budget and not stored:
                shorter, chosen = budgeting.shortened(experiment, folder, budget, began, train)
                run = _Run(shorter, folder, main, spacing.intervals(shorter), chosen)
            return _attempts(run, stored, began)
    except OSError as error:
        # single files have been dealt with, so this is the disk of the run or of its data
        failed = _disk_failed(error, folder)
        logger.debug(f"error: {failed}")
        raise failed from error
    except UserError as error:
        logger.debug(f"error: {error}")  # for the log file: whoever called prints it
        raise


def _attempts(run: _Run, stored: bool, began: float) -> dict[str, Any]:
    """Trains, and goes back to the newest good state where `config.run.on_nonfinite` says so.

    `stored` says whether the folder already holds a config; `began` is when this process started.
    """
    config, rollbacks = run.experiment.config.run, 0
    while True:
        try:
            return _train(run, stored, began, rollbacks)
        except NonFinite as error:
            if config.on_nonfinite != "rollback":
                raise
            rollbacks = error.rollbacks + 1
            if rollbacks > config.nonfinite_limit:
                raise NonFinite(
                    f"{error.what}, although the run has gone back {error.rollbacks} times",
                    remedy(max(states_in(run.folder / "checkpoints"), default=None), "rollback"),
                ) from error
            logger.warning(
                f"{error.what}: going back to the newest good state, and on with other random "
                f"numbers ({rollbacks} of at most {config.nonfinite_limit} times)"
            )
            stored = True


def _train(run: _Run, stored: bool, began: float, rollbacks: int) -> dict[str, Any]:
    """Trains from the newest state; `rollbacks` is how often the run has gone back to it before."""
    experiment, folder = run.experiment, run.folder
    states, best = _states(run)
    if restored := states.restore_newest(experiment.shapes()):
        step, tree, meta = restored
        carry, progress = continued(tree, experiment.config.run.on_nonfinite), Progress(**meta)
        if run.main:
            best.cut(step)
        summary = _finished(run, step, progress)
        if summary is not None:
            if run.main:
                states.sweep()
            return summary
        logger.info(f"resuming from step {step}")
        if not rollbacks:
            missing.tell(folder, step, progress, experiment)
    else:
        if stored and run.main:
            missing.begin_again(folder, experiment.config.run.save_minutes)
        step, progress = 0, Progress()
        with timed("initialising the networks"):
            carry = restore_weights(experiment, experiment.fresh())
        if run.main:
            best.cut(step)
    progress.rollbacks = max(progress.rollbacks, rollbacks)
    if run.main:
        _begin_files(run, step if stored else None)
    job, grid = _job(run, states, best, step, progress)
    with contextlib.ExitStack() as ending:
        if run.main:
            ending.push(functools.partial(_drawn, run))
        for part in (best, states, job.recorder.writer, job.recorder.console):
            ending.callback(part.close)
        ending.push(functools.partial(_told, folder))
        try:
            outcome = loop.run(job, carry, progress)
        except NonFinite as error:
            error.rollbacks = progress.rollbacks
            raise
        shared_folder.finish(folder)
        job.recorder.console.close()
        return _concluded(run, outcome, grid, began)


def _told(folder: Path, kind: type[BaseException] | None, error: Any, *_: object) -> None:
    """Tells other processes, which wait for this one, what ends it."""
    # a full memory is told by whoever can say what to lower
    if kind and issubclass(kind, Exception) and not is_full_memory(error):
        bond.tell_error(_disk_failed(error, folder) if issubclass(kind, OSError) else error)


def _disk_failed(error: OSError, folder: Path) -> SaveFailed:
    """What is said of an error of the disk that holds the run in `folder` or its data."""
    return SaveFailed(f"{error.filename or folder}: {reason(error)}; training stopped")


def _drawn(run: _Run, kind: type[BaseException] | None, *_: object) -> None:
    """Draws the last pictures of a run, unless somebody wants it to end at once."""
    if kind is None or issubclass(kind, Exception):
        pictures.refresher(run.experiment, run.folder, ended=True)()
        feature_classifier.draw_missed(run.folder)


def _states(run: _Run) -> tuple[Checkpoints, BestStates]:
    """The places of the run's states."""
    config, check = run.experiment.config, functools.partial(claims.check_held, run.folder)
    retries = config.run.save_retries
    states = Checkpoints(
        run.folder / "checkpoints",
        config.run.keep,
        spacing.keep_every(run.experiment),
        retries,
        check,
        first=lambda: best.wait(),  # a state whose progress names a best state comes after that
    )
    rule = Best(config.best.metric, config.best.mode == "min")
    best = BestStates(run.folder / "best", rule, lambda: states.complete, retries, check)
    return states, best


def _begin_files(run: _Run, resumed: int | None) -> None:
    """Writes what describes the run, which goes on from step `resumed` if it was there before."""
    experiment, folder = run.experiment, run.folder
    made_of = (experiment.config, experiment.mesh.size, experiment.facts)
    provenance.write_config(folder, *made_of, resumed, run.chosen, experiment.stage_starts)
    with tolerated(str(folder / "reals.png"), logger.warning):
        pictures.save_reals(experiment, folder)


def _finished(run: _Run, step: int, progress: Progress) -> dict[str, Any] | None:
    """The summary of a run that has nothing left to do after `step`; None if training goes on.

    Raises UserError if config.run.steps ends before `step`.
    """
    experiment = run.experiment
    if progress.stage >= len(experiment.system.stages):
        steps = f"config.run.steps={experiment.config.run.steps!r}"
        raise UserError(f"{steps} ends before step {step}, where this run is already; raise it")
    over = step >= experiment.last.end
    summary = cluster.decided("the summary", lambda: folders.read_summary(run.folder))
    concluded = summary.get("step") == step and summary.get("reason") != "terminated"
    if not (concluded and (over or run.intervals.exhausted(progress.waited))):
        return None
    more = "steps" if over else "patience"
    logger.info(f"already finished at step {step}; raise config.run.{more} to go on")
    summaries.show(summary)
    if run.main:
        pictures.draw_missed(pictures.refresher(experiment, run.folder, ended=True))
        feature_classifier.draw_missed(run.folder)
    return summary


def _job(
    run: _Run, states: Checkpoints, best: BestStates, step: int, progress: Progress
) -> tuple[Job, pictures.SampleGrid | None]:
    """The loop's job from `step` on, and the sample grid, None if the system makes no images."""
    experiment, folder = run.experiment, run.folder
    start_from_best = _best_reader(experiment)
    grid = None if experiment.system.sample_step is None else pictures.SampleGrid(experiment)
    probes = _probes(run, grid, progress.stage_of(experiment.system.stages))
    refresh = pictures.refresher(experiment, folder, pictures.FIRST_DRAWING)
    save_grid = functools.partial(grids.save_grid, titles=grid.titles if grid else ())
    check = functools.partial(claims.check_held, folder)
    writer = Writer(folder, step, save_grid, not run.main, check)
    if not step:
        settings = configs.flat(configs.plain(experiment.config))
        writer.write_hparams({key: json.dumps(value) for key, value in settings.items()})
    console = Console(step, experiment.last.end, quiet=not run.main)
    forecast = functools.partial(feasibility.foretell, experiment)
    job = Job(
        system=experiment.system,
        data=experiment.data,
        epoch_steps=experiment.data.epoch_steps,
        mesh=experiment.mesh,
        key=experiment.key,
        intervals=run.intervals,
        recorder=Recorder(writer, console, refresh, progress.seconds, forecast),
        checkpoints=states,
        best=best,
        probes=probes,
        start_from_best=start_from_best,
        compile_ahead=experiment.config.run.compile_ahead,
        on_nonfinite=experiment.config.run.on_nonfinite,
        nonfinite_limit=experiment.config.run.nonfinite_limit,
        steps_per_call=config_checks.steps_per_call(experiment.config),
    )
    return job, grid


def _probes(run: _Run, grid: pictures.SampleGrid | None, first: Stage) -> Probes:
    """The functions with which the loop samples from a state and measures it, from the stage
    `first` on."""
    if grid is None:
        return Probes()
    experiment, folder = run.experiment, run.folder
    measure = quality_of(experiment, folder, first) if experiment.measures_quality else None
    if measure:
        with tolerated(str(folder / "quality.json"), logger.warning):
            quality.remember(folder, measure.about, write=run.main)

    def prepare(state: TrainState, stage: Stage, stopped: Callable[[], bool]) -> None:
        grid.prepare(state, stage)
        if measure:
            measure.prepare(state, stage, stopped)

    return Probes(grid.draw, measure, prepare)


def quality_of(
    experiment: Experiment, folder: Path, stage: Stage, keep: bool = True
) -> quality.Quality:
    """What measures the images of a run, `stage` first; a classifier is trained where one is needed
    and none is named. With `keep`, statistics of the real images are kept in the folder."""
    return quality.Quality(
        experiment,
        lambda: feature_classifier.find(experiment, folder, train),
        stage,
        folder if keep else None,
    )


def _concluded(
    run: _Run, outcome: Outcome, grid: pictures.SampleGrid | None, began: float
) -> dict[str, Any]:
    """Writes neighbours.png and summary.json at the end of a run; returns the summary."""
    experiment = run.experiment
    # a translation is compared with its own target, so it needs no neighbours
    new = grid is not None and not experiment.facts.input_channels
    if outcome.reason != "terminated" and new:
        stage = outcome.progress.stage_of(experiment.system.stages)
        with tolerated(str(run.folder / "neighbours.png"), logger.warning):
            grid.save_neighbours(run.folder, outcome.carry.state, stage)
    own = (experiment, run.folder, outcome, began)
    summary = cluster.decided("the summary", lambda: summaries.summary(*own))
    if skipped := experiment.data.skipped:
        logger.warning(f"{skipped} images could not be read; others took their place")
    if run.main:
        with tolerated(str(run.folder / "summary.json"), logger.warning):
            write_json(run.folder / "summary.json", summary)
    summaries.show(summary)
    return summary


def _best_reader(experiment: Experiment) -> Callable[[Path, TrainCarry], TrainCarry] | None:
    """The function that reads the best state, from which a new resolution starts.

    None unless the config asks for it. Raises UserError if nothing in this run is measured, so
    that no state could be the best.
    """
    if not experiment.config.best.get("start_from_best"):
        return None
    if not (experiment.measures_quality or experiment.data.sizes["validation"]):
        raise UserError(
            "config.best.start_from_best: nothing is measured in this run; set "
            "config.run.quality_every"
        )

    def read_best(path: Path, carry: TrainCarry) -> TrainCarry:
        shared_folder.bring(path)
        tree, meta = read(path, experiment.shapes())
        value = f"{experiment.config.best.metric} {meta['best_value']:.4f}"
        logger.info(
            f"a new resolution starts from the best state of the last: step {path.name}, {value}"
        )
        return TrainCarry(**tree)

    return read_best


def _check_best(experiment: Experiment) -> None:
    """Raises UserError when nothing can measure the metric that picks the best state in this run.

    A metric of quality that is only not asked for gets a note instead: systems have it by default.
    """
    config = experiment.config
    validates = experiment.data.sizes["validation"] > 0
    known = [f"val/{name}" for name in experiment.evaluated() if validates]
    if experiment.measures_quality:
        quality.check(experiment)
    makes_images = experiment.system.sample_step is not None
    of_quality = section.metric_names(experiment) if makes_images else []
    if experiment.measures_quality:
        known += of_quality
    if config.best.metric in of_quality and not experiment.measures_quality:
        logger.info(
            f"config.best.metric={config.best.metric}: nothing measures it in this run, so no best "
            "state is kept; set config.run.quality_every for one"
        )
    elif known and config.best.metric not in known:  # where nothing is measured, nothing is best
        accepted = ", ".join(known)
        if of_quality and not experiment.measures_quality:
            accepted += f", and with config.run.quality_every also {', '.join(of_quality)}"
        raise UserError(
            f"config.best.metric={config.best.metric!r} is not measured in this run; accepted are "
            f"{accepted}"
        )

"""What of a run's folder is gone when the run resumes, or begins again without a state."""

import contextlib
import logging
import math
from pathlib import Path

from gan_jax.core.intervals import Every
from gan_jax.core.job import Progress
from gan_jax.core.saved_states import best_states_in, read_meta, unused
from gan_jax.errors import UserError
from gan_jax.report.series import read_rows
from gan_jax.run import folder as folders
from gan_jax.run.experiment import Experiment

logger = logging.getLogger(__name__)


def tell(folder: Path, step: int, progress: Progress, experiment: Experiment) -> None:
    """Logs a line about what a run that resumes from `step` has written and does not find again.

    It cannot be made anew, and the run goes on without it.
    """
    gone = parts(folder, step, progress, experiment) if step else []
    if gone:
        logger.warning(
            f"{folder}: missing are {'; '.join(gone)}. They were moved or removed since this run "
            f"began; it goes on from step {step} without them"
        )


def begin_again(folder: Path, save_minutes: float) -> None:
    """Logs that a run of which no checkpoint is there begins again at step 0.

    Its best states would be replaced. If they were trained for longer than `save_minutes`, which
    config.run.save_minutes lets pass until the first checkpoint, somebody has removed checkpoints,
    and these states are all that is left of the run: they are set aside.
    """
    logger.info("no checkpoint yet: starting from step 0")
    found = best_states_in(folder / "best")
    if not found or max(map(_seconds, found.values())) < 60 * save_minutes:
        return
    target = unused(folder / "best-before")
    (folder / "best").rename(target)
    logger.warning(
        f"{folder}: the checkpoints of this run are gone, so that it begins again; its best states "
        f"are kept in {target.name}/"
    )


def _seconds(state: Path) -> float:
    """How long a best state had been trained, inf where that cannot be read."""
    try:
        return float(read_meta(state)["seconds"])
    except (OSError, ValueError, TypeError, KeyError):
        return math.inf


def parts(folder: Path, step: int, progress: Progress, experiment: Experiment) -> list[str]:
    """The parts that are missing, with what that means."""
    found = []
    if not (folder / "config.json").exists():
        found.append("config.json, so that nothing says whether this is the config it began with")
    if not (folder / "metrics.jsonl").exists():
        found.append("metrics.jsonl, so that curves and epochs.csv begin here")
    elif (lost := progress.rows - _rows(folder, step)) > 0:
        found.append(
            f"{lost:,} of {progress.rows:,} rows of metrics.jsonl, and with them their curves"
        )
    if not any(folder.glob("events/events.out.tfevents.*")):
        found.append("the event files in events/, so that TensorBoard's curves begin here")
    if _is_sampled(folder, experiment, step) and not (folder / "samples").is_dir():
        found.append("samples/ with the grids so far")
    if experiment.measures_quality and not (folder / "quality.json").exists():
        found.append("quality.json, so that nothing says what earlier scores were measured with")
    # a better one may be there that only the end of a shorter run measured
    stages = {stage for stage, _ in best_states_in(folder / "best")}
    if progress.best_step is not None and progress.stage not in stages:
        metric = experiment.config.best.metric
        found.append(
            f"the best state, of step {progress.best_step} with {metric} "
            f"{progress.best_value:.4f}, so that there is none until a better one comes"
        )
    return found


def _is_sampled(folder: Path, experiment: Experiment, step: int) -> bool:
    """Whether a run has drawn a grid up to a step, as its config was before it goes on."""
    if experiment.system.sample_step is None:
        return False
    text = experiment.config.run.sample_every
    with contextlib.suppress(UserError, KeyError, TypeError):
        text = folders.read_config(folder)["config"]["run"]["sample_every"]
    first, every = experiment.system.stages[0], Every.parse(text, "config.run.sample_every")
    return every.next(0, first, experiment.data.epoch_steps(first)) <= step


def _rows(folder: Path, step: int) -> int:
    """How many rows of metrics.jsonl there are up to a step; 0 if it cannot be read."""
    try:
        return sum(row["step"] <= step for row in read_rows(folder / "metrics.jsonl"))
    except UserError:
        return 0

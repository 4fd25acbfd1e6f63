"""What is logged about a run before its first step and after its last one, and summary.json."""

import contextlib
import logging
import math
import os
import re
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gan_jax import heaps
from gan_jax.core import best_states
from gan_jax.core.console import clock, shown
from gan_jax.core.job import Outcome
from gan_jax.errors import UserError
from gan_jax.ops import onednn
from gan_jax.report import series
from gan_jax.run.experiment import Experiment

logger = logging.getLogger(__name__)
_GRID = re.compile(r"[0-9]+_.*\.png")
ALL_BUT_0 = 1e-3  # a last learning rate of this share of the highest is shown as 0


def announce(experiment: Experiment) -> None:
    """Logs, before the first step, the data, devices, sizes of networks and learning rates."""
    devices = {d.device_kind for d in experiment.mesh.mesh.devices.flat}
    logger.info(f"data: {experiment.data.description}")
    words = [f"{experiment.mesh.size} x {', '.join(sorted(devices))}"]
    if onednn.in_use():
        words.append("convolutions by oneDNN")
    if jax.default_backend() == "cpu" and (allocator := heaps.allocator()):
        words.append(f"memory by {allocator}")
    logger.info(f"devices: {', '.join(words)}")
    state = experiment.carry.state
    for name, net in state.nets.items():
        count = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(net.params))
        rate = experiment.system.rates.get(name)
        schedule = f", {_rate_line(rate, experiment.last.end)}" if rate else ""
        logger.info(f"{name}: {count:,} parameters{schedule}")
    for notice in experiment.system.notices:
        logger.info(notice)


def _rate_line(rate, steps: int) -> str:
    """A line with the highest and the last learning rate. It does not use the first one, which is
    small where there is a warm-up. A rate that has all but reached 0 is shown as 0."""
    sampled = np.asarray(jax.vmap(rate)(np.linspace(0, steps - 1, 200).astype(np.int32)))
    top, end = float(sampled.max()), float(sampled[-1])
    if top == end:
        return f"learning rate {top:.3g}"
    return f"learning rate {top:.3g} → {end if end > ALL_BUT_0 * top else 0:.3g}"


def summary(experiment: Experiment, folder: Path, outcome: Outcome, began: float) -> dict:
    """The content of summary.json. `began` is when this process started, as in time.time()."""
    progress, section = outcome.progress, experiment.config.best
    rule = best_states.Best(section.metric, section.mode == "min")
    best = progress.best_value, progress.best_step
    scores, scores_step = outcome.scores, outcome.scores_step
    if not scores:  # an earlier process was killed after it had evaluated
        scores_step, scores = _last_scores(folder)
        # what only the end of the run made due is not in its progress
        if scores_step == outcome.step and rule.better(scores.get(rule.metric, math.nan), best[0]):
            best = scores[rule.metric], scores_step
    # nor is what only the end of a shorter run did, which this one went on from
    stage = min(progress.stage, len(experiment.system.stages) - 1)
    with contextlib.suppress(OSError):
        step, value = best_states.on_disk(folder / "best", stage, rule) or (0, None)
        best = (value, step) if value is not None and rule.better(value, best[0]) else best
    return {
        "reason": outcome.reason,
        "step": outcome.step,
        "best": {"metric": rule.metric, "value": best[0], "step": best[1]},
        "scores": {k: float(v) for k, v in scores.items()},
        "scores_step": scores_step if scores else None,
        "wall_seconds": round(time.time() - began, 1),
        "train_seconds": round(progress.seconds, 1),
        "images_per_second": round(outcome.images_per_second, 1),
        "memory": peak_memory(),
        "skipped_images": experiment.data.skipped,
        "last_grid": _last_grid(folder),
        "workdir": str(folder),
    }


def _last_scores(folder: Path) -> tuple[int, dict[str, float]]:
    """The step and the scores of the last evaluation in metrics.jsonl; (0, {}) if there is none, or
    it cannot be read."""
    try:
        rows = series.read_rows(folder / "metrics.jsonl")
    except UserError:
        return 0, {}
    rows = [row for row in rows if row.get("kind") == "eval"]
    row = rows[-1] if rows else {"step": 0}
    return int(row["step"]), {k: float(v) for k, v in row.items() if k not in series.NOT_METRICS}


def _last_grid(folder: Path) -> str:
    """The path of the newest grid, that of averaged weights where there is one; "" without any."""
    try:
        names = os.listdir(folder / "samples")
    except OSError:
        return ""
    grids = [folder / "samples" / name for name in names if _GRID.fullmatch(name)]

    def newest_first(path: Path) -> tuple[int, str]:
        return -int(path.name.split("_")[0]), path.name

    return str(min(grids, key=newest_first, default=""))


def peak_memory() -> dict[str, Any]:
    """Peak bytes from the device's own statistics if it keeps any, else the process's maximum."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return {"bytes": int(stats["peak_bytes_in_use"]), "source": "device statistics"}
    return {"bytes": heaps.peak(), "source": "maximum resident set of the process"}


def show(summary: dict) -> None:
    """Logs the summary of a run."""
    best = summary["best"]
    terminated = summary["reason"] == "terminated"
    how = "terminated by a signal" if terminated else summary["reason"]
    rest = ": the state is saved, and the same command goes on from it" if terminated else ""
    logger.info(f"{how} at step {summary['step']} after {clock(summary['wall_seconds'])}{rest}")
    scores = shown(summary["scores"])
    if scores:
        measured = summary.get("scores_step", summary["step"])  # earlier revisions did not say
        earlier = "" if measured == summary["step"] else f" of step {measured}"
        logger.info(f"scores{earlier}: " + ", ".join(f"{k} {v:.4f}" for k, v in scores.items()))
    if best["value"] is not None:
        logger.info(f"best {best['metric']}: {best['value']:.4f} at step {best['step']}")
    if summary["last_grid"]:
        logger.info(f"last grid: {summary['last_grid']}")
    logger.info(f"run folder: {summary['workdir']}")

"""How a run ended: summary.json and the lines that say it."""

import re
import resource
import sys
import time
from pathlib import Path
from typing import Any

import jax

from gan_jax.core import loop
from gan_jax.core.checkpoint import Best
from gan_jax.core.writer import clock
from gan_jax.report import curves
from gan_jax.run.experiment import Experiment


def summary(
    experiment: Experiment, folder: Path, outcome: loop.Outcome, began: float, rule: Best
) -> dict:
    """What summary.json holds."""
    progress = outcome.progress
    return {
        "reason": outcome.reason,
        "step": outcome.step,
        "best": {
            "metric": rule.metric,
            "value": progress.best_value,
            "step": progress.best_step,
        },
        "scores": _last_scores(folder),
        "wall_seconds": round(time.time() - began, 1),
        "train_seconds": round(progress.seconds, 1),
        "images_per_second": round(outcome.images_per_second, 1),
        "memory": peak_memory(),
        "skipped_images": experiment.data.skipped,
        "last_grid": _last_grid(folder),
        "workdir": str(folder),
    }


def _last_scores(folder: Path) -> dict[str, float]:
    """The scores of the last evaluation in metrics.jsonl, whichever process wrote it."""
    rows = [r for r in curves.read_rows(folder / "metrics.jsonl") if r.get("kind") == "eval"]
    row = rows[-1] if rows else {}
    return {k: float(v) for k, v in row.items() if k not in ("step", "kind")}


def _last_grid(folder: Path) -> str:
    """The newest grid: of averaged weights where there are any."""
    grids = [p for p in folder.glob("samples/*_*.png") if re.match("[0-9]+_", p.name)]
    newest_first = lambda p: (-int(p.name.split("_")[0]), p.name)  # noqa: E731
    return str(min(grids, key=newest_first, default=""))


def peak_memory() -> dict[str, Any]:
    """Peak bytes: the device's own statistics where it keeps them, else the process's maximum."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return {"bytes": int(stats["peak_bytes_in_use"]), "source": "device statistics"}
    scale = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    return {"bytes": peak, "source": "maximum resident set of the process"}


def show(summary: dict, say) -> None:
    """Prints what a person wants to know at the end."""
    best = summary["best"]
    say(f"{summary['reason']} at step {summary['step']} after {clock(summary['wall_seconds'])}")
    shown = {k: v for k, v in summary["scores"].items() if not k.startswith("class_fraction/")}
    if shown:
        say("scores: " + ", ".join(f"{k} {v:.4f}" for k, v in shown.items()))
    if best["value"] is not None:
        say(f"best {best['metric']}: {best['value']:.4f} at step {best['step']}")
    if summary["last_grid"]:
        say(f"last grid: {summary['last_grid']}")
    say(f"run folder: {summary['workdir']}")

"""A run's epochs as a table for spreadsheets."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from gan_jax.report.series import as_number, extreme

KINDS = ("epoch", "eval")


def table(rows: Iterable[Mapping[str, Any]], best: tuple[str, str], after: int = 0) -> bytes | None:
    """The content of epochs.csv from the rows of metrics.jsonl; None if no epoch has ended yet.

    There is a line for each epoch or evaluation: `epoch`, `step`, the averages over the epoch
    (`loss/gen`), the scores (`val/l1`), and `best`, which is "yes" for the best value of the metric
    `best[0]` beyond the step `after`: the lowest if `best[1]` is "min", else the highest.
    """
    lines: dict[int, dict[str, Any]] = {}
    for row in rows:
        if row.get("kind") in KINDS:
            kept = {k: v for k, v in row.items() if k not in ("kind", "wall_time")}
            lines.setdefault(int(row["step"]), {}).update(kept)
    names = sorted({name for line in lines.values() for name in line} - {"epoch", "step"})
    if not names:
        return None
    metric, mode = best
    scores = np.array([as_number(line.get(metric)) for line in lines.values()], float)
    chosen = extreme((np.array([*lines]), scores), mode, after)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epoch", "step", *names, "best"])
    for step, line in sorted(lines.items()):
        values = [line.get(name, "") for name in ("epoch", "step", *names)]
        writer.writerow([*values, "yes" if chosen and step == chosen.step else ""])
    return text.getvalue().encode("utf-8", "replace")

"""The scores of a run as the lines of a table: the newest value and the best of each."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from gan_jax.report.panels import Best
from gan_jax.report.series import Extreme, Row, by_name, extreme

MOST = 200  # lines of a table


class Score(NamedTuple):
    """One metric of a run's evaluations."""

    key: str
    newest: Extreme
    best: Extreme | None  # None where neither direction is better, or no value can be the best
    mode: str  # "min", "max" or ""


def of_rows(
    rows: Iterable[Row],
    directions: Mapping[str, str],
    best: Best | None = None,
    stage_start: float = 0,
) -> list[Score]:
    """The scores of a run, that which picks the best state first.

    `directions` says of each metric whether lower ("min") or higher ("max") is better. The best
    values are those of the steps after `stage_start`.
    """
    evaluated = [row for row in rows if row.get("kind") == "eval"]
    found = []
    for key, kinds in by_name(evaluated).items():
        steps, values = points = kinds["eval"]
        mode, top = directions.get(key, ""), None
        if best and key == best.metric:
            mode, top = best.mode, best.found
        if mode and top is None:
            top = extreme(points, mode, stage_start)
        found.append(Score(key, Extreme(steps[-1].item(), float(values[-1])), top, mode))
    chosen = best.metric if best else ""
    return sorted(found, key=lambda score: score.key != chosen)[:MOST]


def is_part(key: str) -> bool:
    """Whether a score is a part of another, such as its value for one class."""
    return "/" in key and not key.startswith("val/")


def winners(values: Iterable[float | None], mode: str) -> set[int]:
    """The places of the best of some values; empty if neither direction is better, if there is
    nothing to compare, or if all are the same."""
    usable = {i: v for i, v in enumerate(values) if v is not None and math.isfinite(v)}
    if not mode or len(usable) < 2 or len(set(usable.values())) == 1:
        return set()
    top = (min if mode == "min" else max)(usable.values())
    return {i for i, v in usable.items() if v == top}

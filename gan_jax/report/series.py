"""A run's numbers as series over its steps, thinned to what a drawing can show."""

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gan_jax import files
from gan_jax.errors import UserError

Row = Mapping[str, Any]
Points = tuple[np.ndarray, np.ndarray]  # steps [n], values [n]

KINDS = ("eval", "epoch", "train")  # the first that a metric has is its strong line
COUNTED = ("rate/", "progress/", "growth/")  # what a run prescribes, and does not measure
NOT_METRICS = ("step", "kind", "wall_time")  # what every row has
NOT_DRAWN = (*NOT_METRICS, "epoch", "time/eta_seconds", "time/steps_per_second")


class Extreme(NamedTuple):
    """The best value of a metric, and the step at which it was measured."""

    step: float
    value: float


def read_rows(jsonl_path: str | os.PathLike[str]) -> list[Row]:
    """The rows of a metrics.jsonl, without unfinished and unknown lines; [] without a file.

    Raises UserError for a file that cannot be read.
    """
    path, rows = Path(jsonl_path), []
    try:
        text = files.read_bytes(path).decode(errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path} cannot be read: {files.reason(error)}") from error
    for line in text.splitlines():
        try:
            row = files.parse_json(line)
        except ValueError:
            continue  # a run was killed while it wrote this line
        if isinstance(row, dict) and _is_step(row.get("step")):
            rows.append(row)
    return rows


def _is_step(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < 2**63  # not NaN


def by_name(rows: Iterable[Row]) -> dict[str, dict[str, Points]]:
    """name → kind → points in order of step; values that are not numbers are left out."""
    found: dict[str, dict[str, dict[float, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name in NOT_DRAWN or ("/" not in name and row.get("kind") != "eval"):
                continue
            number = as_number(value)
            if number is not None:
                kinds = found.setdefault(name, {})
                kinds.setdefault(str(row.get("kind", "train")), {})[row["step"]] = number
    return {
        name: {
            kind: (np.array(sorted(points)), np.array([points[step] for step in sorted(points)]))
            for kind, points in kinds.items()
        }
        for name, kinds in found.items()
    }


def as_number(value: Any) -> float | None:
    """A JSON number, or one written as "nan" or "inf", which JSON does not have; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def strong_kind(name: str, kinds: Mapping[str, Points]) -> str:
    """The kind of rows whose values are a metric's strong line."""
    if name.startswith(COUNTED) and "train" in kinds:
        return "train"  # an average over an epoch is not a rate that was ever used
    return next(kind for kind in (*KINDS, *kinds) if kind in kinds)


def extreme(points: Points, mode: str, after: float = -math.inf) -> Extreme | None:
    """The lowest value if `mode` is "min", else the highest, of the finite values at steps beyond
    `after`; None if there is none. Of equal values the first counts."""
    steps, values = points
    usable = np.flatnonzero(np.isfinite(values) & (steps > after))
    if not usable.size:
        return None
    choose = np.argmin if mode == "min" else np.argmax
    at = usable[choose(values[usable])]
    return Extreme(steps[at].item(), float(values[at]))


def stage_start(starts: Iterable[float], rows: Iterable[Row]) -> float:
    """The step at which the stage of the last row begins, of those at which a run's stages begin;
    0 if nothing is known of them. Each stage has a best state of its own, since images of other
    stages may be smaller, or half faded in."""
    last = max((row["step"] for row in rows), default=0)
    return max((start for start in starts if start < last), default=0)


def thinned(points: Points, most: int) -> Points:
    """At most `most` (4 or more) of the points: the first, the last, and of each stretch between
    them the lowest and the highest. Infinite values become NaN."""
    steps, values = points
    values = np.where(np.isfinite(values), values, np.nan)
    if len(steps) <= most:
        return steps, values
    kept = {0, len(steps) - 1}
    for part in np.array_split(np.arange(1, len(steps) - 1), (most - 2) // 2):
        if part.size and not np.isnan(values[part]).all():
            kept |= {
                part[np.nanargmin(values[part])].item(),
                part[np.nanargmax(values[part])].item(),
            }
        elif part.size:
            kept.add(part[0].item())
    chosen = sorted(kept)
    return steps[chosen], values[chosen]


def means(points: Points, count: int) -> Points:
    """The means of stretches of `count` points each, the last of which may be shorter, at the last
    step of the stretch; values that are not finite are left out."""
    steps, values = points
    places = np.arange(0, len(steps), count)
    finite = np.isfinite(values)
    sums = np.add.reduceat(np.where(finite, values, 0.0), places)
    counts = np.add.reduceat(finite.astype(float), places)
    ends = np.minimum(places + count, len(steps)) - 1
    return steps[ends], np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)

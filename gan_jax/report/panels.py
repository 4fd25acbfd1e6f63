"""The curves of a page as JSON values, which the page's own script draws.

A page has sections ("Scores", "Losses and accuracies", …), a section has panels, and a panel has
lines. A line holds the points of one metric: `x` are steps and `y` values, null where a value is
not finite.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gan_jax.report import names
from gan_jax.report.series import COUNTED, Extreme, Points, means, strong_kind, thinned

Series = Mapping[str, Mapping[str, Points]]  # metric → kind → points

MOST_POINTS = 500  # of a line
ALL_POINTS = 40_000  # of a page, which shares them out among its lines
MOST_NOISY = 150  # points of a line of single steps; those of more are drawn as averages
LEAST_EPOCHS = 3  # whose averages are drawn
MOST_LINES = 24  # of a panel
MOST_PANELS = 80
SECTIONS = ("Scores", "Losses and accuracies", "Learning rates and gradients", "Speed and progress")
GROUPS = {  # group of metrics → section, title and label of their common panel
    "loss": (1, "Losses", "loss"),
    "accuracy": (1, "Accuracies", "share"),
    "rate": (2, "Learning rates", "learning rate"),
    "grad_norm": (2, "Gradient norms", "norm"),
    "loss_scale": (2, "Loss scales", "factor"),
    "time": (3, "Speed", "per second"),
}
OWN = ("time/data_wait",)  # a share, which has no place among rates
# A panel whose values span a larger ratio starts with a logarithmic axis. For losses differences
# matter more than ratios, so they have a linear axis for longer.
LOG_RATIOS = {"learning rate": 50, "norm": 50, "factor": 50}
LOG_RATIO = 1000
COLOURS = 8  # that the page's style has
FIXED = {"gen": 0, "disc": 1}  # the same networks look the same in every panel
MOST_PARTS = 6  # of a score ("swd/16") that are compared between runs


class Best(NamedTuple):
    """The metric that picks a run's best state: its name, "min" or "max", and its best value."""

    metric: str
    mode: str
    found: Extreme | None = None


class Line(NamedTuple):
    """One line of a panel before it is drawn."""

    key: str  # the metric
    name: str  # in words
    kinds: Mapping[str, Points]
    colour: int  # those from COLOURS on are the same colours again, dashed
    star: Extreme | None = None
    faint: bool = True  # whether what lies behind the averages is drawn too


class Panel(NamedTuple):
    """One panel before it is drawn."""

    section: int  # its number
    title: str
    label: str  # what its values are
    keys: list[str]


def of_run(
    series: Series, best: Best | None = None, classes: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The sections of one run's curves; the value `best.found` of its metric gets a star.

    `classes` are the names of the data's classes.
    """
    layout = _layout(series, best, classes)
    most = _points_per_line(sum(len(series[key]) for panel in layout for key in panel.keys))
    found: list[dict[str, Any]] = []
    for panel in layout:
        keys = _chosen(panel.keys, series)
        lines = [
            Line(
                key,
                names.words(key, classes),
                series[key],
                colour,
                best.found if best and key == best.metric else None,
            )
            for key, colour in zip(keys, _colours(keys), strict=True)
        ]
        found.append(_drawn(panel, lines, most))
    return _by_section(found)


def of_runs(
    runs: Mapping[str, Series], bests: Sequence[Best | None] = (), classes: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The sections of several runs' curves: a panel for each metric, with a line for each run that
    has it. A line is called after its run, and its colour is the run's place. Scores with many
    parts, such as a value for each class, are left out."""
    keys = dict.fromkeys(key for series in runs.values() for key in series)
    merged = {key: _merged([s[key] for s in runs.values() if key in s]) for key in keys}
    layout = [
        Panel(panel.section, names.title(key, classes), panel.label, [key])
        for panel in _layout(merged, next(filter(None, bests), None), classes)
        for key in (panel.keys if panel.section or len(panel.keys) <= MOST_PARTS else [])
    ][:MOST_PANELS]
    most = _points_per_line(len(layout) * len(runs))
    found = []
    for panel in layout:
        (key,) = panel.keys
        lines = []
        for place, (name, series) in enumerate(runs.items()):
            if key in series:
                kind = _strong(key, series[key])
                best = bests[place] if place < len(bests) else None
                star = best.found if best and best.metric == key else None
                lines.append(Line(key, name, {kind: series[key][kind]}, place, star, False))
        found.append(_drawn(panel, lines, most))
    return _by_section(found)


def _merged(several: Sequence[Mapping[str, Points]]) -> Mapping[str, Points]:
    """The kinds that any of the runs has, with the points of the first that has them."""
    return {kind: points for kinds in reversed(several) for kind, points in kinds.items()}


def _points_per_line(lines: int) -> int:
    return max(min(MOST_POINTS, ALL_POINTS // max(lines, 1)), 4)


def _layout(series: Series, best: Best | None, classes: Sequence[str]) -> list[Panel]:
    """Which metrics share a panel. Scores come first, and among them that which picks the best
    state; each score has a panel of its own, but the parts of one ("class_fraction/3") share it."""
    scores: dict[str, list[str]] = {}
    train: dict[str, list[str]] = {}
    for key, kinds in series.items():
        group, slash, _ = key.partition("/")
        if "eval" in kinds:
            whole = group == "val" or not slash
            scores.setdefault(key if whole else f"{group}/", []).append(key)
        else:
            train.setdefault(group_of(key), []).append(key)
    chosen = best.metric if best else ""
    panels = [
        Panel(0, _score_title(key, keys, classes), "", keys)
        for key, keys in sorted(scores.items(), key=lambda item: item[0] != chosen)
    ]
    order = [*GROUPS]
    for group, keys in sorted(train.items(), key=lambda item: [*order, item[0]].index(item[0])):
        other = (3, names.title(keys[0]) if len(keys) == 1 else names.title(group), "")
        panels.append(Panel(*GROUPS.get(group, other), keys))
    return sorted(panels, key=lambda panel: panel.section)[:MOST_PANELS]


def group_of(key: str) -> str:
    """The metrics of training with the same one share a panel."""
    return key if key in OWN else key.partition("/")[0]


def _score_title(key: str, keys: Sequence[str], classes: Sequence[str]) -> str:
    if len(keys) == 1:
        return names.title(keys[0], classes)
    parts = f"{names.title(key[:-1])}, parts"
    return "Shares of the classes" if key == "class_fraction/" else parts


def _chosen(keys: list[str], series: Series) -> list[str]:
    """The metrics of a panel that are drawn: of many those that end highest and lowest."""
    if len(keys) <= MOST_LINES:
        return keys

    def last(key: str) -> float:
        values = series[key][_strong(key, series[key])][1]
        finite = values[np.isfinite(values)]
        return float(finite[-1]) if finite.size else 0.0

    ordered = sorted(keys, key=last)
    ends = {*ordered[: MOST_LINES // 2], *ordered[-MOST_LINES // 2 :]}
    return [key for key in keys if key in ends]


def _colours(keys: Sequence[str]) -> list[int]:
    """A colour for each metric of a panel; those of a generator or discriminator are fixed."""
    fixed = [FIXED.get(key.split("/", 1)[-1]) for key in keys]
    free = [colour for colour in range(COLOURS) if colour not in fixed]
    others = iter([n + COLOURS * again for again in range(MOST_LINES) for n in free])
    found = [next(others) if colour is None else colour for colour in fixed]
    # the two networks often share one learning rate, so that one line lies on the other
    return [n + COLOURS if key == "rate/disc" else n for key, n in zip(keys, found, strict=True)]


def _strong(key: str, kinds: Mapping[str, Points]) -> str:
    """The kind of rows that a metric's strong line is drawn from; a few averages make no line."""
    kind = strong_kind(key, kinds)
    few = kind == "epoch" and len(kinds[kind][0]) < LEAST_EPOCHS
    return "train" if few and "train" in kinds else kind


def _drawn(panel: Panel, lines: Sequence[Line], most: int) -> dict[str, Any]:
    """A panel as JSON values."""
    strong = [line.kinds[_strong(line.key, line.kinds)][1] for line in lines]
    finite = np.concatenate([v[np.isfinite(v)] for v in strong]) if strong else np.zeros(0)
    ratio = finite.max() / finite.min() if finite.size and finite.min() > 0 else 1
    drawn, all_keys = len({line.key for line in lines}), len(panel.keys)
    return {
        "section": panel.section,
        "title": panel.title,
        "key": panel.keys[0] if len(panel.keys) == 1 else "",
        "log": bool(ratio > LOG_RATIOS.get(panel.label, LOG_RATIO)),
        "note": f"{drawn} highest and lowest of {all_keys}" if drawn < all_keys else "",
        "lines": [_line(line, most) for line in lines],
    }


def _line(line: Line, most: int) -> dict[str, Any]:
    strong = _strong(line.key, line.kinds)
    missing = sum(int((~np.isfinite(values)).sum()) for _, values in line.kinds.values())
    points = line.kinds[strong]
    faint = [
        points
        for kind, points in line.kinds.items()
        if kind != strong and not (kind == "epoch" and strong == "train")
    ]
    averaged = 1
    if strong == "train" and not line.key.startswith(COUNTED):
        averaged = math.ceil(len(points[0]) / MOST_NOISY)
        if averaged > 1:
            faint, points = [points], means(points, averaged)
    return {
        "name": line.name,
        "key": line.key,
        "colour": line.colour,
        "kind": strong,
        "averaged": averaged,
        "missing": missing,
        "star": line.star and [rounded(line.star.step), rounded(line.star.value)],
        "strong": _points(points, most),
        "faint": [_points(points, most) for points in faint] if line.faint else [],
    }


def _points(points: Points, most: int) -> dict[str, list]:
    steps, values = thinned(points, most)
    return {"x": [rounded(x) for x in steps.tolist()], "y": [rounded(y) for y in values.tolist()]}


def rounded(number: float) -> float | int | None:
    """A number with six digits, as short in JSON as it can be; None if it is not finite."""
    if not math.isfinite(number):
        return None
    if float(number).is_integer() and abs(number) < 2**53:
        return int(number)
    return float(f"{number:.6g}")


def _by_section(panels: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    sections = []
    for number, title in enumerate(SECTIONS):
        own = [panel for panel in panels if panel["section"] == number]
        if own:
            sections.append({"title": title, "panels": own})
    return sections

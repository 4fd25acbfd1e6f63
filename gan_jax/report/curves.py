"""A run's metrics over time, drawn from its metrics.jsonl.

A row is {"step": 100, "kind": "train", "loss/gen": 0.7, …}; kinds are `train` (every log interval,
drawn faint), `epoch` (averages, drawn strong) and `eval` (drawn with markers, the best one marked).
The part of a name before its first "/" is its group. Each group has a panel, and each evaluated
metric a panel of its own, because their scales have nothing in common.
"""

import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from gan_jax import files
from gan_jax.errors import one_line
from gan_jax.report import grids
from gan_jax.report.names import words
from gan_jax.report.panels import OWN, group_of
from gan_jax.report.rates_plot import compact
from gan_jax.report.series import Points, Row, by_name, extreme, read_rows, strong_kind

TITLES = {  # group → title and axis label, in the order of the panels
    "loss": ("losses", "loss"),
    "accuracy": ("accuracies", "fraction"),
    "rate": ("learning rates", "learning rate"),
    "grad_norm": ("gradient norms", "norm"),
}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#332288")
FIXED = {"gen": COLOURS[0], "disc": COLOURS[1]}  # the same networks look the same in every picture
HIGHER_IS_BETTER = (
    *("accuracy", "entropy", "confidence", "inception", "precision", "recall", "density"),
    *("coverage", "psnr", "ssim", "rank", "likelihood"),
)
MANY = matplotlib.colormaps["tab20"]  # for panels with more lines than COLOURS
LARGEST_SPLIT = 6  # an evaluated group with more metrics shares one panel
MOST_PANELS, MOST_LINES = 36, 40
LONGEST_NAME = 60  # characters
WIDTH, HEIGHT = 4.3, 3.0  # of a panel with all around it, in inches
MARGINS = (0.72, 0.1, 0.5, 0.3, 0.17)  # left, right, bottom, title, each line of names, in inches
MOST_POINTS = 1500  # per line; a panel is 400 pixels wide
# A panel whose values span a larger ratio gets a logarithmic axis. For losses differences matter
# more than ratios, so they have a linear axis for longer.
LOG_RATIOS = {"loss": 1000, "learning rate": 50, "norm": 50}


def curves(
    jsonl_path: str | os.PathLike[str],
    png_path: str | os.PathLike[str],
    best: Mapping[str, str] | None = None,
) -> None:
    """Draws metrics.jsonl as a PNG with three panels per row.

    Without a file, or without rows, the picture says that nothing has been logged yet.

    Args:
        best: evaluated metric → "min" or "max": the metrics whose best value is marked. By default
            it is marked for all: the lowest value, or the highest for accuracies, entropies and
            other metrics in HIGHER_IS_BETTER.
    """
    files.write_bytes(png_path, draw(read_rows(jsonl_path), best))


def draw(rows: Iterable[Row], best: Mapping[str, str] | None = None, after: int = 0) -> bytes:
    """The picture of `curves` as PNG bytes. Best values are those beyond the step `after`."""
    series = {_plain(name): kinds for name, kinds in by_name(rows).items()}
    panels = [(*head, names[:MOST_LINES]) for *head, names in _panels(series)[:MOST_PANELS]]
    columns = min(3, max(1, len(panels)))
    lines = max(1, math.ceil(len(panels) / columns))
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * lines), dpi=100)
    FigureCanvasAgg(figure)
    if not panels:
        figure.text(0.5, 0.5, "nothing logged yet", ha="center", va="center", color="0.4")
    colours = _colours(names for _, _, names in panels)
    first, legends = None, []
    for index, (title, label, names) in enumerate(panels):
        axes = figure.add_subplot(lines, columns, index + 1, sharex=first)
        first, shown = first or axes, {name: series[name] for name in names}
        legends.append(_draw_panel(axes, title, label, shown, colours, best or {}, after))
    _place(figure, legends, lines, columns)
    return _png(figure)


def _place(figure: Figure, legends: Sequence[int], lines: int, columns: int) -> None:
    """Moves each panel into its cell, below its title and `legends` lines of names.

    The panels of a line begin and end at the same height. Matplotlib's own layouts measure every
    label twice, which takes longer than drawing them.
    """
    left, right, bottom, title, line = MARGINS
    for index, axes in enumerate(figure.axes):
        row, column = divmod(index, columns)
        head = title + line * max(legends[row * columns : (row + 1) * columns])
        x, y = WIDTH * column + left, HEIGHT * (lines - 1 - row) + bottom
        width, height = WIDTH - left - right, HEIGHT - head - bottom
        axes.set_position(
            [
                x / columns / WIDTH,
                y / lines / HEIGHT,
                width / columns / WIDTH,
                height / lines / HEIGHT,
            ]
        )
        axes.yaxis.set_label_coords(-(left - 0.18) / width, 0.5)


def _png(figure: Figure) -> bytes:
    """PNG bytes with a palette of 256 colours, which looks the same at a third of the size."""
    figure.set_facecolor("white")
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    # The default, median cut, drops rare colours such as the star's.
    method, dither = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
    picture = Image.fromarray(pixels).quantize(256, method=method, dither=dither)
    buffer = io.BytesIO()
    picture.save(buffer, format="png", optimize=True, pnginfo=grids.sheet_mark())
    return buffer.getvalue()


def _plain(name: str) -> str:
    """A metric's name as matplotlib can draw it: a dollar sign would begin a formula."""
    return one_line(name[:LONGEST_NAME]).replace("$", r"\$")


def _panels(series: Mapping[str, Mapping[str, Points]]) -> list[tuple[str, str, list[str]]]:
    """(title, axis label, names) of every panel: those of training first, then evaluation."""
    train: dict[str, list[str]] = {}
    evaluated: dict[str, list[str]] = {}
    for name, kinds in series.items():
        groups = evaluated if "eval" in kinds else train
        groups.setdefault(group_of(name), []).append(name)
    panels = []
    for group in sorted(train, key=lambda g: ([*TITLES, g].index(g), g == "time", g)):
        title, label = TITLES.get(group, (group.replace("_", " "), "value"))
        if group == "time":
            title, label = "speed", "per second"
        if group in OWN:
            title, label = words(group), "share"
        panels.append((title, label, train[group]))
    for group, names in evaluated.items():
        numbered = len(names) > 1 and all(_short(name).isdigit() for name in names)
        if numbered or len(names) > LARGEST_SPLIT:
            panels.append((f"evaluation: {group.replace('_', ' ')}", "value", names))
        else:
            panels += [(f"evaluation: {name}", _short(name), [name]) for name in names]
    return panels


def _colours(panels: Iterable[Sequence[str]]) -> dict[str, str]:
    """A colour for each name (without its group), the same in every panel if possible."""
    chosen = dict(FIXED)
    for names in panels:
        if len(names) > len(COLOURS):
            chosen |= {_short(n): MANY(i % MANY.N) for i, n in enumerate(names)}
        taken = {chosen[_short(n)] for n in names if _short(n) in chosen}
        for name in names:
            if _short(name) not in chosen:
                free = [c for c in COLOURS if c not in taken] or COLOURS
                chosen[_short(name)] = free[len(chosen) % len(free)]
                taken.add(chosen[_short(name)])
    return chosen


def _short(name: str) -> str:
    return name.split("/", 1)[-1]


def _draw_panel(
    axes: Axes,
    title: str,
    label: str,
    series: Mapping[str, Mapping[str, Points]],
    colours: Mapping[str, str],
    best: Mapping[str, str],
    after: int = 0,
) -> int:
    """Draws a group of metrics; returns the number of lines of its legend. Best values are those
    beyond the step `after`."""
    shown: list[np.ndarray] = []  # values that the axis has to reach
    strongest: list[np.ndarray] = []
    missing = 0
    for name, kinds in series.items():
        colour = colours[_short(name)] if len(series) > 1 else COLOURS[0]
        if _short(name) in FIXED:
            colour = FIXED[_short(name)]
        missing += sum(int((~np.isfinite(values)).sum()) for _, values in kinds.values())
        label_line = _short(name) if len(series) > 1 else None  # else the title says it
        strong, faint = _draw_series(axes, name, kinds, colour, label_line)
        strongest.append(strong)
        shown += [strong, faint]
        if "eval" in kinds and len(series) == 1:
            _mark_best(axes, name, kinds["eval"], best, after)
    _set_axes(axes, _finite(shown), _finite(strongest), label)
    handles, labels = axes.get_legend_handles_labels()
    longest = max(map(len, labels), default=0)
    columns = 6 if longest <= 3 else 3 if longest < 14 else 2
    lines = math.ceil(len(labels) / columns)
    if labels:
        axes.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(-0.02, 0.98), ncols=columns,
            frameon=False, fontsize=8, handlelength=1.4, columnspacing=1.0, labelspacing=0.2,
        )  # fmt: skip
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", pad=6 + 12.5 * lines)
    if missing:
        note = f"{missing} value{'s' if missing > 1 else ''} not finite"
        axes.text(
            0.98, 0.96, note, transform=axes.transAxes, ha="right", va="top", fontsize=8,
            color="#b00020", bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8},
        )  # fmt: skip
    return lines


def _finite(values: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([v[np.isfinite(v)] for v in values]) if values else np.zeros(0)


def _draw_series(
    axes: Axes, name: str, kinds: Mapping[str, Points], colour: str, label: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """Draws one metric; returns the values of its strong line and the range of its faint one."""
    faint = np.zeros(0)
    strong = strong_kind(name, kinds)
    for kind, (steps, values) in kinds.items():
        if kind == "epoch" and strong == "train":
            continue
        steps, kept = _thin(steps, values)
        if kind == strong:
            mark = "o" if kind == "eval" or len(steps) <= 30 else ""
            dash = (0, (4, 3)) if name == "rate/disc" else "-"  # they often share one rate
            axes.plot(
                steps, kept, color=colour, lw=1.6, ls=dash, marker=mark, ms=3.5, label=label,
                zorder=3,
            )  # fmt: skip
            main = values
        else:
            axes.plot(steps, kept, color=colour, lw=0.8, alpha=0.3, zorder=2)
            finite = values[np.isfinite(values)]
            # a few outliers must not flatten everything else
            faint = np.percentile(finite, [0.5, 99.5]) if finite.size else finite
    return main, faint


def _thin(steps: np.ndarray, values: np.ndarray) -> Points:
    every = math.ceil(len(steps) / MOST_POINTS)
    values = np.where(np.isfinite(values), values, np.nan)
    return steps[::every], values[::every]


def _mark_best(
    axes: Axes, name: str, points: Points, best: Mapping[str, str], after: int = 0
) -> None:
    if best and name not in best:  # an adversarial loss has no best value
        return
    high = any(word in name.lower() for word in HIGHER_IS_BETTER)
    direction = best.get(name, "max" if high else "min")
    found = extreme(points, direction, after)
    if found is None:
        return
    label = f"best {found.value:.4g} at step {found.step:,}"
    axes.plot(
        found.step, found.value, marker="*", ms=12, color="#e6ab02", mec="0.2", mew=0.6, ls="",
        label=label, zorder=4,
    )  # fmt: skip


def _set_axes(axes: Axes, finite: np.ndarray, strong: np.ndarray, label: str) -> None:
    axes.set_xlabel("step", fontsize=8)
    axes.set_ylabel(label, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(color="0.9", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _steps(x)))
    if not finite.size:
        return
    low, high = float(finite.min()), float(finite.max())
    ratio = strong.max() / strong.min() if strong.size and strong.min() > 0 else 1
    if low > 0 and ratio > LOG_RATIOS.get(label, 1000):
        axes.set_yscale("log")
        axes.set_ylim(low / 1.15, high * 1.15)
        return
    room = 0.05 * (high - low) or 0.1 * abs(high) or 0.1
    axes.set_ylim(low - room, high + room)
    if high < 0.01:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: compact(y)))


def _steps(step: float) -> str:
    if abs(step) >= 1e6:
        return f"{step / 1e6:g}M"
    return f"{step / 1e3:g}k" if abs(step) >= 10_000 else f"{step:g}"

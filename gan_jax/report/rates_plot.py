"""Learning-rate schedules as small multiples, for the documentation."""

import io
import math
import os
from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from gan_jax import files


def plot_rates(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    path: str | os.PathLike[str],
    xlabel: str,
) -> None:
    """Draws one small panel per schedule, all with the same axes so that they can be compared.

    Args:
        curves: name → (x, rate).
        path: the PNG to write.
        xlabel: the unit of x, "epoch" or "step".

    Raises:
        ValueError: no curves.
    """
    if not curves:
        raise ValueError("there are no curves to draw")
    columns = min(4, len(curves))
    lines = math.ceil(len(curves) / columns)
    figure = Figure(figsize=(2.7 * columns, 1.9 * lines), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    top = max(max(rates) for _, rates in curves.values())
    first = None
    for index, (name, (x, rates)) in enumerate(curves.items()):
        axes = figure.add_subplot(lines, columns, index + 1, sharex=first, sharey=first)
        first = first or axes
        axes.plot(x, rates, color="#0072b2", lw=1.5)
        axes.fill_between(x, 0, rates, color="#0072b2", alpha=0.1, lw=0)
        axes.set_title(name, fontsize=9, loc="left")
        axes.set_ylim(0, 1.08 * top)
        axes.margins(x=0.01)
        axes.grid(color="0.9", lw=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=7)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: compact(y)))
        if index + columns >= len(curves):  # nothing below it
            axes.set_xlabel(xlabel, fontsize=8)
        if index % columns == 0:
            axes.set_ylabel("learning rate", fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white")
    files.write_bytes(path, buffer.getvalue())


def compact(number: float) -> str:
    """0.00025 → "2.5e-4", 0.5 → "0.5", 0 → "0"."""
    if number == 0 or abs(number) >= 0.01:
        return f"{number:.3g}"
    mantissa, exponent = f"{number:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"

"""The terms of a variational bound over the steps of a chain, as a picture."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gan_jax.report import grids

TITLES = {
    "vb": "bits per dimension that each step costs",
    "xstart_mse": "mean square error of the predicted image",
    "mse": "mean square error of the predicted noise",
}


def bound(t: np.ndarray, terms: Mapping[str, np.ndarray], path: str | Path) -> None:
    """Writes a PNG: a panel each for `vb`, `xstart_mse` and `mse`, float [T], over t, int [T]."""
    figure = Figure(figsize=(13, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, title) in zip(figure.subplots(1, 3), TITLES.items(), strict=True):
        axes.plot(t, np.maximum(terms[name], 1e-12), linewidth=1.4)
        axes.set_yscale("log")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("t")
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=90, metadata=dict([grids.MARK]))

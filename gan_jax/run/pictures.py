"""The pictures in a run's folder (real images, sample grids, neighbours, curves) and its page."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np

from gan_jax.core.system import Stage, TrainState
from gan_jax.errors import UserError
from gan_jax.files import write_bytes
from gan_jax.growing import tolerated
from gan_jax.heaps import give_back
from gan_jax.metrics import neighbours
from gan_jax.patience import is_gone, patient
from gan_jax.report import epochs, grids, page
from gan_jax.report.frames import Pictures
from gan_jax.report.series import read_rows
from gan_jax.run.experiment import Experiment
from gan_jax.run.view import view

logger = logging.getLogger(__name__)

FIRST_DRAWING = 20.0  # seconds after a run's start before curves are first drawn
DRAWING = 0.05  # the share of a run's time that drawing curves and the page may take
SHRINKING = 1.0  # seconds in which grids are made small for a page; those left over wait
LAST_SHRINKING = 30.0  # the same for the page at the end of training
MOST_BYTES = 2**29  # of the real images among which neighbours are searched


def save_reals(experiment: Experiment, folder: Path) -> None:
    """Writes reals.png, a grid of the first training images; for pairs, each input is beside its
    target."""
    if experiment.facts.input_channels:
        found = experiment.data.examples("train", 16)
        pairs = grids.triples(found["input"], found["target"], None)
        picture = grids.grid(pairs, columns=4)
    else:
        picture = grids.grid(experiment.data.examples("train", 64)["image"])
    grids.save_sheet(folder / "reals.png", picture)


class SampleGrid:
    """The images that a run makes again and again from the same seeds, enlarged to the same size at
    every stage.

    `titles` are those of the grid's columns; () for a square grid without titles.
    """

    def __init__(self, experiment: Experiment):
        self.experiment = experiment
        self.batch, self.titles = experiment.grid_batch()
        self.sampler = experiment.sampler(len(self.batch["seed"]))

    def draw(self, state: TrainState, stage: Stage) -> dict[str, np.ndarray]:
        """Images uint8 [N, H, W, C] by name ("raw", "ema"); for pairs, input, output and target in
        turn, [3N, H, W, 3]."""
        times = self.experiment.facts.resolution // stage.resolution
        made = self.sampler(state, self.batch, stage)
        made = {k: grids.enlarged(v, times) for k, v in made.items()}
        if not self.experiment.facts.input_channels:
            return made
        source, target = self.batch["input"], self.batch["target"]
        return {k: grids.triples(source, v, target) for k, v in made.items()}

    def prepare(self, state: TrainState, stage: Stage) -> None:
        """Compiles for a later stage, given a state as shapes."""
        # the current stage, of half the resolution, still makes images
        self.sampler.program.forget(lambda s: 2 * s.resolution >= stage.resolution)
        self.sampler.prepare(state, self.batch, stage)

    def save_neighbours(
        self, folder: Path, state: TrainState, stage: Stage, rows: int = 10
    ) -> None:
        """Writes neighbours.png: samples beside the training images that are closest to them."""
        experiment, facts = self.experiment, self.experiment.facts
        made = self.sampler(state, experiment.sample_batch(range(rows)), stage)
        samples = made.get("ema", next(iter(made.values())))
        samples = grids.enlarged(samples, facts.resolution // stage.resolution)
        most = max(MOST_BYTES // (facts.resolution**2 * facts.channels), 1)
        bank = experiment.data.all("train", limit=most)["image"]
        indices, distances = neighbours.nearest(samples, bank, k=min(7, len(bank)))
        distances /= np.sqrt(samples[0].size)  # root mean square difference in grey levels
        sheet = grids.neighbour_sheet(samples, bank[indices], distances)
        if jax.process_index() == 0:  # all processes take part in sampling, one of them writes
            grids.save_sheet(folder / "neighbours.png", sheet)


def are_last(folder: Path) -> bool:
    """Whether what a `refresher` makes has been made after summary.json, and so for the last
    time."""
    names = {"curves.png", "report.html"}
    try:
        rows = read_rows(folder / "metrics.jsonl")
        names |= {"epochs.csv"} if any(row.get("kind") in epochs.KINDS for row in rows) else set()
        ended = (folder / "summary.json").stat().st_mtime
        return all((folder / name).stat().st_mtime >= ended for name in names)
    except (OSError, UserError):
        return False


def draw_missed(best: Mapping[str, str], folder: Path) -> None:
    """Draws the last pictures of a run that is over, unless they are there: a kill may have come
    before they were drawn, or the disk may not have taken them. `best` is as for `refresher`."""
    if not are_last(folder):
        refresher(best, folder, ended=True)()


def refresher(
    best: Mapping[str, str], folder: Path, wait: float = 0.0, ended: bool = False
) -> Callable[[], None]:
    """A function that redraws curves.png, with the best value of the chosen metric marked, and
    rewrites epochs.csv and report.html.

    `best` has the name of that metric and its mode, "min" or "max", as `config.best` has. What
    cannot be written is said in a line and done the next time; it keeps nothing else from being
    written. The function does nothing within the first `wait` seconds, nor while it would take more
    than a small share (DRAWING) of the time since it was last done. `ended` says that training is
    over. Only one of a run's processes writes.
    """
    earliest, small = time.monotonic() + wait, Pictures()

    def refresh() -> None:
        nonlocal earliest
        began = time.monotonic()
        if began < earliest or jax.process_index():
            return
        if is_gone(folder):  # whoever trains has been told
            return
        rows, seconds = [], LAST_SHRINKING if ended else SHRINKING

        def write_curves(path: Path) -> None:
            from gan_jax.report import curves  # here: matplotlib takes long to import

            write_bytes(path, curves.draw(rows, {best["metric"]: best["mode"]}))

        def write_epochs(path: Path) -> None:
            epochs.write(path, rows, (best["metric"], best["mode"]))

        def write_page(path: Path) -> None:
            page.write(view(folder, rows, not ended), path, small, seconds)

        written = {"curves.png": write_curves, "epochs.csv": write_epochs}
        # reads many files: an error of one that passes would cost all of the page
        written["report.html"] = patient(write_page)
        for name, write in written.items():
            with tolerated(str(folder / name), logger.warning, UserError):
                rows = rows or read_rows(folder / "metrics.jsonl")
                write(folder / name)
        give_back()  # a figure refers to itself, and would keep its pixels
        ended_at = time.monotonic()
        earliest = ended_at + (ended_at - began) / DRAWING

    return refresh

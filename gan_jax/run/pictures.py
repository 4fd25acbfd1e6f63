"""The pictures in a run's folder (real images, sample grids, neighbours, curves) and its page."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from gan_jax.core.system import Stage, TrainState
from gan_jax.data.image_set import spread
from gan_jax.errors import UserError
from gan_jax.files import write_bytes
from gan_jax.growing import tolerated
from gan_jax.heaps import give_back
from gan_jax.metrics import neighbours
from gan_jax.patience import is_gone, patient
from gan_jax.report import epochs, grids, page
from gan_jax.report.frames import Pictures
from gan_jax.report.series import Row, read_rows, stage_start
from gan_jax.run.experiment import Experiment
from gan_jax.run.view import view

logger = logging.getLogger(__name__)

FIRST_DRAWING = 20.0  # seconds after a run's start before curves are first drawn
DRAWING = 0.05  # the share of a run's time that drawing curves and the page may take
SHRINKING = 1.0  # seconds in which grids are made small for a page; those left over wait
LAST_SHRINKING = 30.0  # the same for the page at the end of training
MOST_BYTES = 2**31  # of the real images among which neighbours are searched
BLOCK_BYTES = 2**24  # of those that are compared at a time, in float64


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
        """Writes neighbours.png: samples beside the training images that are closest to them.

        Of a set with more than MOST_BYTES of pixels a part is searched, evenly spaced. The sheet
        and a line say so, since a copy of an image that was not searched would look new.
        """
        experiment, facts = self.experiment, self.experiment.facts
        made = self.sampler(state, experiment.sample_batch(range(rows)), stage)
        samples = made.get("ema", next(iter(made.values())))
        samples = grids.enlarged(samples, facts.resolution // stage.resolution)
        size, total = facts.resolution**2 * facts.channels, experiment.data.sizes["train"]
        part = spread(total, max(MOST_BYTES // size, 1))
        if len(part) < total:
            logger.info(f"neighbours.png: searching {len(part):,} of the {total:,} training images")

        def images(rows: np.ndarray) -> np.ndarray:
            return experiment.data.rows("train", rows)["image"]

        block = max(BLOCK_BYTES // size, 1)
        blocks = (images(part[at : at + block]) for at in range(0, len(part), block))
        indices, distances = neighbours.search(samples, blocks, k=min(7, len(part)))
        closest = images(part[indices.reshape(-1)])
        closest = closest.reshape(*indices.shape, *closest.shape[1:])
        distances /= np.sqrt(samples[0].size)  # root mean square difference in grey levels
        among = (len(part), total) if len(part) < total else ()
        sheet = grids.neighbour_sheet(samples, closest, distances, among)
        if jax.process_index() == 0:  # all processes take part in sampling, one of them writes
            grids.save_sheet(folder / "neighbours.png", sheet)


def are_last(folder: Path) -> bool:
    """Whether what a `Refresher` makes has been made after summary.json, and so for the last
    time."""
    names = {"curves.png", "report.html"}
    try:
        rows = read_rows(folder / "metrics.jsonl")
        names |= {"epochs.csv"} if any(row.get("kind") in epochs.KINDS for row in rows) else set()
        ended = (folder / "summary.json").stat().st_mtime
        return all((folder / name).stat().st_mtime >= ended for name in names)
    except (OSError, UserError):
        return False


def refresher(
    experiment: Experiment, folder: Path, wait: float = 0.0, ended: bool = False
) -> "Refresher":
    """The `Refresher` of an experiment's run."""
    return Refresher(experiment.config.best, folder, wait, ended, experiment.stage_starts)


def draw_missed(refresh: "Refresher") -> None:
    """Draws the last pictures of a run that is over, unless they are there: a kill may have come
    before they were drawn, or the disk may not have taken them."""
    if not are_last(refresh.folder):
        refresh()


class Refresher:
    """Redraws curves.png, with the best value of the chosen metric marked, and rewrites epochs.csv
    and report.html, whenever it is called.

    What cannot be written is done the next time, and said in a line the first time; it keeps
    nothing else from being written. Only one of a run's processes writes.

    Args:
      best: the name of the metric and its mode, "min" or "max", as `config.best` has them.
      folder: the run's.
      wait: a call does nothing within the first `wait` seconds, nor while drawing would take more
        than a small share (DRAWING) of the time since it was last done.
      ended: whether training is over.
      starts: the steps at which the run's stages begin. The best value is that of the stage in
        which the run is, since values of different resolutions cannot be compared.

    Attributes:
      folder: the run's.
    """

    def __init__(
        self,
        best: Mapping[str, str],
        folder: Path,
        wait: float = 0.0,
        ended: bool = False,
        starts: Sequence[int] = (),
    ):
        self._best, self.folder, self._ended = best, folder, ended
        self._starts = starts
        self._earliest, self._small = time.monotonic() + wait, Pictures()
        self._failing: set[str] = set()

    def __call__(self) -> None:
        """Draws, if it is time."""
        began = time.monotonic()
        if began < self._earliest or jax.process_index():
            return
        if is_gone(self.folder):  # whoever trains has been told
            return
        rows: list[Row] = []
        made = {"curves.png": self._curves, "epochs.csv": self._epochs, "report.html": self._page}
        for name, make in made.items():
            problems: list[str] = []
            with tolerated(str(self.folder / name), problems.append, UserError):
                rows = rows or read_rows(self.folder / "metrics.jsonl")
                if (content := make(rows)) is not None:
                    write_bytes(self.folder / name, content)
            if problems and name not in self._failing:
                logger.warning(problems[0])
            (self._failing.add if problems else self._failing.discard)(name)
        give_back()  # a figure refers to itself, and would keep its pixels
        ended = time.monotonic()
        self._earliest = ended + (ended - began) / DRAWING

    def _curves(self, rows: list[Row]) -> bytes:
        from gan_jax.report import curves  # here: matplotlib takes long to import

        best = {self._best["metric"]: self._best["mode"]}
        return curves.draw(rows, best, stage_start(self._starts, rows))

    def _epochs(self, rows: list[Row]) -> bytes | None:
        best = self._best["metric"], self._best["mode"]
        return epochs.table(rows, best, stage_start(self._starts, rows))

    @patient  # it reads many files: an error of one that passes would cost all of the page
    def _page(self, rows: list[Row]) -> bytes:
        seconds = LAST_SHRINKING if self._ended else SHRINKING
        return page.made(view(self.folder, rows, not self._ended), self._small, seconds)

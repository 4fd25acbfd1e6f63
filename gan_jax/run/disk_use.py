"""The space that a run will take on the disk, as it follows from its config."""

from typing import NamedTuple

import jax
import numpy as np

from gan_jax.core import ema
from gan_jax.core.intervals import Every
from gan_jax.files import amount
from gan_jax.run.experiment import Experiment


class DiskUse(NamedTuple):
    """The saved states of a run by kind, the bytes of one, and the same of its sample grids."""

    states: dict[str, int]
    state_bytes: int
    grids: int
    grid_bytes: int

    @property
    def total(self) -> int:
        """Bytes of all of them."""
        return sum(self.states.values()) * self.state_bytes + self.grids * self.grid_bytes

    def line(self) -> str:
        """All of it in a line for a person."""
        named = ", ".join(f"{count:,} {name}" for name, count in self.states.items() if count)
        text = f"{sum(self.states.values()):,} states ({named}) of {amount(self.state_bytes)} each"
        if self.grids:
            text += f", and {self.grids:,} sample grids of about {amount(self.grid_bytes)}"
        return f"disk: about {amount(self.total)}: {text}"


def of(experiment: Experiment) -> DiskUse:
    """What the run of an experiment will take."""
    measured = experiment.measures_quality or validates(experiment)
    states = {
        "newest": experiment.config.run.keep,
        "kept for good": times(experiment, "keep_every"),
        "best": len(experiment.system.stages) if measured else 0,
    }
    return DiskUse(states, size(experiment.carry), *_grids(experiment))


def _grids(experiment: Experiment) -> tuple[int, int]:
    """(the number of pictures of sample grids, the bytes of the pixels of one)."""
    if experiment.system.sample_step is None:
        return 0, 0
    facts = experiment.facts
    net = experiment.carry.state.nets[next(iter(experiment.system.rates))]
    weights = 1 + (len(ema.links(net.opt)["ema"].params) if ema.has_average(net) else 0)
    # a picture is enlarged by whole pixels, which takes no space in a PNG
    pixels = experiment.config.run.sample_count * facts.resolution**2
    channels = 3 * 3 if facts.input_channels else facts.channels  # input, output and target
    return weights * rounds(experiment, "sample_every"), pixels * channels


def times(experiment: Experiment, key: str) -> int:
    """How often an interval of config.run ends."""
    every = Every.parse(experiment.config.run[key], f"config.run.{key}")
    stages = experiment.system.stages
    return sum(every.times(stage, experiment.data.epoch_steps(stage)) for stage in stages)


def rounds(experiment: Experiment, key: str) -> int:
    """How often images are drawn or measured: whenever the interval `key` of config.run ends, and
    after the last step."""
    every, last = Every.parse(experiment.config.run[key], f"config.run.{key}"), experiment.last
    ends = every.due(last.end, last, experiment.data.epoch_steps(last))
    return times(experiment, key) + (not ends)


def validates(experiment: Experiment) -> bool:
    """Whether there are images to validate on."""
    return experiment.data.sizes["validation"] > 0


def size(tree) -> int:
    """Bytes of all arrays of a tree."""
    return sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))

"""What a run will take on this machine, foretold from its first timed steps."""

import logging

import jax

from gan_jax import npz
from gan_jax.core.console import brief
from gan_jax.files import amount
from gan_jax.run import disk_use
from gan_jax.run.experiment import Experiment
from gan_jax.run.memory import sizes
from gan_jax.run.summary import peak_memory

logger = logging.getLogger(__name__)

LONG = 24 * 3600.0  # seconds; a longer run gets a hint at what makes it shorter
CROWDED = 0.8  # share of the machine's memory


def foretell(experiment: Experiment, step: int, seconds: float) -> None:
    """Logs how long the rest of the run will take, with its memory and disk.

    `seconds` is what one step takes, at the resolution of `step`. A run that will take longer than
    a day, or most of the memory, also gets the keys that would make it smaller.
    """
    stages = experiment.system.stages
    side = next((stage.resolution for stage in stages if step < stage.end), stages[-1].resolution)
    end = [stage.end for stage in stages if stage.resolution == side][-1]
    left = (end - step) * seconds
    used, there = peak_memory()["bytes"], _memory()
    of = f" of {amount(there)}" if there else ""
    until = f" until {side} px are done" if end != stages[-1].end else ""
    logger.info(
        f"{brief(seconds)} s a step x {end - step:,} steps = about {duration(left)}{until}, "
        f"without sampling and evaluation; memory {amount(used)}{of}, disk about "
        f"{amount(disk_use.of(experiment).total)}"
    )
    crowded = bool(there) and used > CROWDED * there
    if left > LONG or crowded:
        what = "close to the machine's memory" if crowded else "longer than a day"
        logger.info(f"that is {what}; smaller values make it less: {', '.join(keys(experiment))}")
        if left > LONG:
            logger.info("--budget=8h, in another folder, shortens the recipe so that it fits")


def keys(experiment: Experiment, length: bool = True) -> list[str]:
    """The keys of the config that make a step cheaper, with their values: "batch_size (now 64)".

    With `length` the number of steps comes first.
    """
    steps = [f"config.run.steps (now {experiment.config.run.steps})"] if length else []
    return [*steps, *sizes(experiment.config)]


def _memory() -> int:
    """Bytes of the device's memory, or of this process's if the device is the CPU; 0: unknown."""
    stats = jax.local_devices()[0].memory_stats()
    if stats:
        return int(stats.get("bytes_limit", 0))
    known = npz.memory()
    return known if known < npz.UNLIMITED else 0


def duration(seconds: float) -> str:
    """Seconds as a person says them: 40 s, 12 min, 3.5 h, 2.1 days."""
    for unit, name in ((86400.0, "days"), (3600.0, "h")):
        if seconds >= 1.5 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"

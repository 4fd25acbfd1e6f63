"""What a run does around its steps: sampling, saving, and reading its data."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import pictures, timing
from benchmarks.cases import stage_of
from benchmarks.ours import Ours
from benchmarks.step import Opened
from gan_jax import data
from gan_jax.core import train_step
from gan_jax.core.checkpoint import Checkpoints

SAVES = 5
SPELLS, SHORTEST_SPELL = 8, 0.05  # samples of reading, and seconds of each at least


def sample(opened: Opened) -> dict[str, Any]:
    """Images drawn by the system's own sampler, pixels on the host, beside PyTorch's generator.

    {} for a system that makes no images.
    """
    step, count = opened.step, opened.case.drawn(opened.small)
    experiment = step.experiment
    if experiment.system.sample_step is None:
        return {}
    batch, draw = _sampling_batch(step, count), experiment.sampler(count)

    def ours() -> dict[str, np.ndarray]:
        return draw(step.carry.state, batch, experiment.last, ("raw",))

    contenders = {"gan_jax": timing.Contender(ours), **opened.twins("sample")}
    times = timing.race(contenders, opened.seconds)
    return {"images": count, "times": {name: found.summary() for name, found in times.items()}}


def _sampling_batch(step: Ours, count: int) -> dict[str, np.ndarray]:
    """Seeds, and the inputs or classes that images are made from: [count, …]."""
    given = {name: step.pixels[name] for name in ("input", "label") if name in step.pixels}
    repeated = {name: np.resize(a, (count, *a.shape[1:])) for name, a in given.items()}
    return {"seed": np.arange(count, dtype=np.int32), **repeated}


def checkpoint(opened: Opened) -> dict[str, Any]:
    """How long saving a state holds the training loop up, and until it is on the disk.

    The loop checks the weights and waits for a copy; a thread writes the copy.
    """
    carry = jax.block_until_ready(opened.step.carry)
    held, written = timing.Times(), timing.Times()
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder) / "checkpoints", keep=1)
        for number in range(SAVES):
            began, spent = time.perf_counter(), time.process_time()
            train_step.check_weights(carry.state, None)
            checkpoints.save(number, carry._asdict(), {})
            held.calls.append(time.perf_counter() - began)
            held.cores.append(time.process_time() - spent)
            checkpoints.wait()
            written.calls.append(time.perf_counter() - began)
            written.cores.append(time.process_time() - spent)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(carry))
    return {"bytes": size, "held": held.summary(), "written": written.summary()}


def read(opened: Opened) -> dict[str, Any]:
    """Images a second of the data of a config, from files of its kind that are made here.

    Batches are decoded, changed and put together as in training, by as many workers as in training.
    The times are those of one image. Batches come in bursts, so a sample is a spell of many.
    """
    config, stage = opened.case.load(opened.small), stage_of(opened.experiment)
    times, spell = timing.Times(), max(opened.seconds / SPELLS, SHORTEST_SPELL)
    with tempfile.TemporaryDirectory() as folder:
        config.data.update(pictures.like(config, Path(folder)))
        made = data.make(config.data, workers=config.run.workers, decoding=config.run.decoding)
        batches = made("train", _From(stage.batch_size), 0)
        _read_for(batches, spell)  # workers start, and the first images are read from the disk
        for _ in range(SPELLS):
            wall, cores, count = _read_for(batches, spell)
            times.calls.append(wall / (count * stage.batch_size))
            times.cores.append(cores / (count * stage.batch_size))
    return {"images": 1, "times": {"gan_jax": times.summary()}}


def _read_for(batches: Iterator[Any], seconds: float) -> tuple[float, float, int]:
    """(seconds, seconds of processor time, batches) of reading for so long."""
    began, spent, count = time.perf_counter(), time.process_time(), 0
    while not count or time.perf_counter() - began < seconds:
        next(batches)
        count += 1
    return time.perf_counter() - began, time.process_time() - spent, count


class _From:
    """Of a stage what the data ask for, as if training had just begun."""

    start = 0

    def __init__(self, batch_size: int):
        self.batch_size = batch_size

"""Ten steps of every system in two processes, see `test_topologies.py`.

The state is split over the four devices of a process, and each process has half of the batch. What
moves between the devices is read from the compiled step. The state is saved as a run saves it,
before the first step and after the fifth and the tenth.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from gan_jax.core import train_step
from gan_jax.core.checkpoint import Checkpoints
from gan_jax.core.mesh import Mesh, fetch
from gan_jax.evaluation import networks
from gan_jax.run.experiment import Experiment
from tests.helpers import contract
from tests.helpers.collectives import unwanted
from tests.helpers.processes import join

STEPS, SAVED = 10, (0, 5, 10)


def experiment_of(program: str, devices: int, fsdp: int) -> Experiment:
    """The tiny experiment of a config, on this number of devices."""
    config = contract.load(program)
    # Adam turns the rounding of a zero gradient into a full step unless eps is large
    for section in config.optim.values():
        section.eps = 1e-3
    config.run.update(devices=devices, keep=len(SAVED))
    config.mesh.update(fsdp=fsdp, least_mb=0.0)
    return Experiment(config)


def doubled(tree):
    """float64 in place of float32, and of pixels, of which a step makes floats."""

    def cast(x: np.ndarray) -> np.ndarray:
        floats = x.dtype == np.float32 or (x.dtype == np.uint8 and x.ndim == 4)
        return np.array(x, np.float64 if floats else x.dtype)

    return jax.tree.map(cast, tree)


def steps(
    experiment: Experiment,
    carry: train_step.TrainCarry,
    first: int,
    last: int,
    inspect: Callable[[jax.stages.Compiled], None] = lambda program: None,
) -> Iterator[tuple[int, train_step.TrainCarry]]:
    """(step, carry) after each of the steps after `first`; the carry is donated to the next one.
    `inspect` is given the compiled program."""
    stage, program = experiment.system.stages[0], None
    batches = experiment.data("train", stage, first)
    for step, batch in zip(range(first + 1, last + 1), batches, strict=False):
        put = experiment.mesh.put(doubled(batch))
        if program is None:
            train = train_step.train_function(experiment.system, experiment.mesh)
            program = train.lower(carry, put, experiment.key, stage).compile()
            inspect(program)
        carry, _ = program(carry, put, experiment.key)
        yield step, carry


def train(program: str, folder: Path) -> None:
    experiment = experiment_of(program, 8, 4)
    mesh: Mesh = experiment.mesh
    begun = fetch(experiment.fresh())  # in single precision, as a run begins
    states = Checkpoints(folder, keep=len(SAVED))
    with jax.enable_x64(True):
        carry = mesh.lay(doubled(begun))
        assert not all(x.is_fully_replicated for x in jax.tree.leaves(carry))
        states.save(0, carry._asdict(), {})

        def inspect(program: jax.stages.Compiled) -> None:
            found = unwanted(program, carry)
            assert not found, found

        for step, after in steps(experiment, carry, 0, STEPS, inspect):
            if step in SAVED:
                states.save(step, after._asdict(), {})
        states.close()


def open_together(program: str) -> None:
    """Real images are opened by one process each, and known to both."""
    experiment = experiment_of(program, 8, 1)
    opened, data = [], experiment.data

    def counted(split: str, rows: np.ndarray):
        opened.append(len(rows))
        return type(data).rows(data, split, rows)

    data.rows, wanted = counted, np.arange(5, 40)
    (found,) = networks.row_batches(experiment, "train", wanted)
    assert opened == [20]  # of 40, of which the last five are padding
    for name, values in type(data).rows(data, "train", wanted).items():
        np.testing.assert_array_equal(found[name], values)


def main() -> None:
    join()
    open_together("classifier_mnist")
    for name in contract.FLOAT32:
        train(name, Path(sys.argv[1]) / name)
    print("done", flush=True)

"""How long the programs of a config take to be made: tracing, lowering and compiling.

    python -m benchmarks.compile_time diffusion_imagenet256 --facts=classes=1000
    python -m benchmarks.compile_time diffusion_mnist --parts=step,sampling --options=FLAG=VALUE

For every config, NAME or NAME:VARIANT, the training step, and with `--parts` sampling as well, is
made for this machine from shapes alone: no image is read, and nothing is run. The table shows, for
each part of the work, seconds by the clock and of the processor, and how large the program is then:
operations of the traced program (those of a function that is called several times count once), of
the lowered one, and of the compiled one. Times of the processor are of all threads; they compare
best on a machine that has other things to do. Batches do not matter, so they are small.
"""

import argparse
import dataclasses
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import jaxprs_in_params

from gan_jax import config as configs
from gan_jax import heaps
from gan_jax.core.train_step import TrainCarry, train_function
from gan_jax.run import described_data
from gan_jax.run.experiment import Experiment

CONFIGS = Path(__file__).parents[1] / "configs"
PARTS = ("step", "sampling")
_OPERATION = re.compile(r"^\s*(?:ROOT )?%[\w.:#\-]+ = ", re.MULTILINE)


class Work(NamedTuple):
    """A part of making a program: seconds by the clock and of the processor, and the operations of
    the program after it."""

    name: str
    wall: float
    cpu: float
    operations: int

    def line(self) -> str:
        """As a row of the table."""
        return f"    {self.name:10s} {self.wall:8.1f} {self.cpu:8.1f} {self.operations:10,d}"


def timed(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """(the result of a function, seconds by the clock, seconds of the processor)."""
    wall, cpu = time.perf_counter(), time.process_time()
    made = function()
    return made, time.perf_counter() - wall, time.process_time() - cpu


def equations(jaxpr: Any) -> int:
    """The operations of a traced program, with those of the functions that it calls, each once."""
    seen: dict[int, Any] = {}

    def count(jaxpr: Any) -> int:
        if id(jaxpr) in seen:
            return 0
        seen[id(jaxpr)] = jaxpr
        inner = (sub for eqn in jaxpr.eqns for sub in jaxprs_in_params(eqn.params))
        return len(jaxpr.eqns) + sum(map(count, inner))

    return count(jaxpr)


def load(name: str, facts: str, rows: int) -> Experiment:
    """The experiment of a config "NAME" or "NAME:VARIANT" on one device, whose data are not read.

    `facts` is what the config does not say about them, see `described_data.facts`; `rows` is the
    number of images of a step.
    """
    file, _, variant = name.partition(":")
    config = configs.load_file(str(CONFIGS / f"{file}.py"), variant)
    configs.prepare(config)
    config.run.devices, config.batch_size = 1, rows
    if "microbatches" in config:
        config.microbatches = 1
    return Experiment(config, described_data.facts(config, facts), begun=True)


def arguments(experiment: Experiment, part: str, rows: int) -> tuple[Any, tuple]:
    """A jitted function of an experiment, and the shapes with which it is called."""
    stage = dataclasses.replace(experiment.last, batch_size=rows)
    mesh, shapes = experiment.mesh, experiment.shapes()
    batch = {k: mesh.rows(rows, v.shape[1:], v.dtype) for k, v in experiment.batch(stage).items()}
    if part == "step":
        skips = experiment.config.run.on_nonfinite == "skip"
        step = train_function(experiment.system, mesh, skips)
        return step, (TrainCarry(**shapes), batch, experiment.key, stage)
    draw = experiment.sampler(rows).program.function
    drawn = {**batch, "seed": mesh.rows(rows, (), np.int32)}
    return draw, (shapes["state"], drawn, experiment.key, stage, ())


def made(experiment: Experiment, part: str, rows: int, options: dict[str, str]) -> Iterator[Work]:
    """The parts of the work that the program `part` of an experiment takes, one after the other."""
    # the first trace of a step is that of its shapes, which a run needs as well
    (function, shapes), wall, cpu = timed(lambda: arguments(experiment, part, rows))
    traced, more_wall, more_cpu = timed(lambda: function.trace(*shapes))
    yield Work("tracing", wall + more_wall, cpu + more_cpu, equations(traced.jaxpr.jaxpr))
    lowered, wall, cpu = timed(traced.lower)
    yield Work("lowering", wall, cpu, len(_OPERATION.findall(lowered.as_text())))
    compiled, wall, cpu = timed(lambda: lowered.compile(options))
    yield Work("compiling", wall, cpu, len(_OPERATION.findall(compiled.as_text())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="+", help="NAME or NAME:VARIANT of configs/")
    parser.add_argument("--facts", default="", help="about the data, such as classes=1000")
    parser.add_argument("--rows", type=int, default=1, help="images of a step")
    parser.add_argument("--parts", default="step", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--options", default="", help="of XLA: NAME=VALUE, separated by commas")
    chosen = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    options = dict(pair.split("=", 1) for pair in chosen.options.split(",") if pair)
    print(f"    {'':10s} {'s clock':>8s} {'s CPU':>8s} {'operations':>10s}")
    for name in chosen.configs:
        for part in chosen.parts.split(","):
            experiment = load(name, chosen.facts, chosen.rows)
            print(f"{name}, {part}")
            found = []
            for work in made(experiment, part, chosen.rows, options):
                print(work.line(), flush=True)
                found.append(work)
            total = Work("in all", sum(w.wall for w in found), sum(w.cpu for w in found), 0)
            print(total.line()[:-11].rstrip())
    print(f"most memory of the process: {heaps.peak() / 2**30:.1f} GiB")


if __name__ == "__main__":
    main()

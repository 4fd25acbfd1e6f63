"""What several devices share of a system's programs: the work of each, and what moves between them.

    python -m benchmarks.scaling dcgan_mnist warpgan_folder         tiny networks, 8 devices
    python -m benchmarks.scaling --full --devices=64 --rows=16 dcgan_cifar10

For every config, NAME or NAME:VARIANT, it compiles the training step, validation and sampling for
one device and for many simulated ones, with `rows` images for each device, and prints the floating
point operations of one of the many as a multiple of its share of the work of one device, and every
array that moves between devices. Nothing is run, so batches may be of any size. The numbers come
from XLA's own analysis of the compiled program, which counts the body of a loop once.
"""

import argparse
import collections
import dataclasses
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from gan_jax import config as configs
from gan_jax.core.validation import Validator
from gan_jax.run.experiment import Experiment

KINDS = (
    "all-reduce",
    "all-gather",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
)
_CALL = re.compile(rf"= (.*?) ({'|'.join(KINDS)})(?:-start)?\(")
_ARRAY = re.compile(r"\b([a-z]+\d+\w*|pred)\[([\d,]*)\]")
PARTS = ("step", "validation", "sampling")


class Moved(NamedTuple):
    """An array that a collective operation gives each device."""

    kind: str  # one of KINDS
    dtype: str  # as XLA names it, such as "f32"
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many elements it has."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __str__(self) -> str:
        return f"{self.kind} {self.dtype}{list(self.shape)}"


def moved(program: jax.stages.Compiled) -> list[Moved]:
    """Every array that moves between devices in a compiled program."""
    return [
        Moved(call[2], dtype, tuple(int(n) for n in shape.split(",") if n))
        for call in _CALL.finditer(program.as_text())
        for dtype, shape in _ARRAY.findall(call[1])
    ]


def work(program: jax.stages.Compiled) -> float:
    """The floating point operations of one device in a compiled program."""
    return float(program.cost_analysis()["flops"])


def on_devices(experiment: Experiment, devices: int) -> Experiment:
    """The same experiment on the first `devices` devices."""
    config = experiment.config.copy_and_resolve_references()
    config.run.devices = devices
    return Experiment(config, experiment.facts)


def lowered(experiment: Experiment, rows: int, part: str = "step") -> jax.stages.Lowered:
    """A program of an experiment on its devices, with batches of `rows` images in all.

    `part` is one of PARTS. Stage and networks are those that training ends with.
    """
    stage = dataclasses.replace(experiment.last, batch_size=rows)
    if part == "step":
        return experiment.lowered_step(stage)
    mesh, state = experiment.mesh, experiment.shapes()["state"]
    shaped = {k: mesh.rows(rows, v.shape[1:], v.dtype) for k, v in experiment.batch(stage).items()}
    if part == "validation":
        validate = Validator(experiment.system, mesh, None, experiment.key).program.function
        batch = {**shaped, "valid": mesh.rows(rows, (), np.float32)}
        return validate.lower(state, batch, experiment.key, np.int32(0), stage)
    draw = experiment.sampler(rows).program.function
    batch = {**shaped, "seed": mesh.rows(rows, (), np.int32)}
    return draw.lower(state, batch, experiment.key, stage, ())


def load(name: str, full: bool = False) -> Experiment:
    """The experiment of a config "NAME" or "NAME:VARIANT" with tiny networks, or `full` ones for
    the same images."""
    file, _, variant = name.partition(":")
    small = Experiment(configs.load_file(f"configs/{file}.py", f"{variant},tiny"))
    if not full:
        return small
    config = configs.load_file(f"configs/{file}.py", variant)
    side = config.data.resolution or small.facts.resolution
    return Experiment(config, small.facts._replace(resolution=side))


def table(name: str, options: argparse.Namespace) -> Iterator[str]:
    """The lines about one config."""
    experiment = load(name, options.full)
    for part in options.parts.split(","):
        if part == "sampling" and experiment.system.sample_step is None:
            continue
        found = {}
        for devices in (1, options.devices):
            rows = options.rows * options.devices
            program = lowered(on_devices(experiment, devices), rows, part).compile()
            found[devices] = work(program)
        share = found[options.devices] * options.devices / found[1]
        yield (
            f"{name:32s} {part:10s} {found[1] / 1e6:12.1f} {found[options.devices] / 1e6:12.1f}"
            f" {share:7.3f}"
        )
        count = collections.Counter(m for m in moved(program) if m.kind != "all-reduce")
        reduced = sum(m.size for m in moved(program) if m.kind == "all-reduce")
        yield f"    all-reduce of {reduced:,} numbers in all"
        yield from (f"    {number} x {what}" for what, number in count.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="+", help="NAME or NAME:VARIANT of configs/")
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--rows", type=int, default=88, help="images for each device")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--full", action="store_true", help="networks of their full size")
    options = parser.parse_args()
    # read when the first device is asked for; what the compiler leaves out changes no sharding
    simulated = f"--xla_force_host_platform_device_count={options.devices}"
    quick = "--xla_backend_optimization_level=0"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {simulated} {quick}"
    print(f"{'':32s} {'':10s} {'MFLOP on one':>12s} {'of many each':>12s} {'x share':>7s}")
    for name in options.configs:
        for line in table(name, options):
            print(line, flush=True)
        jax.clear_caches()


if __name__ == "__main__":
    main()

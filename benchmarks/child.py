"""One case's step compiled in a process of its own, for benchmarks/commands.py.

    python -m benchmarks.child --case=dcgan_28 [--small]

The last line is a JSON: seconds of tracing and of compiling, and the memory of the process when it
has made a few steps. Programs are kept in the folder JAX_COMPILATION_CACHE_DIR, if it is set.
"""

import argparse
import json
import time

import jax

from benchmarks import cases
from benchmarks.ours import Ours
from gan_jax import heaps

STEPS = 3


def main() -> None:
    """Compiles the step and runs it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", required=True)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    (case,) = cases.chosen(options.case)
    experiment = case.experiment(options.small)
    step = Ours(experiment)
    began = time.perf_counter()
    lowered = step.train.lower(step.carry, step.batch, experiment.key, step.stage)
    traced = time.perf_counter()
    step.program = lowered.compile()
    compiled = time.perf_counter()
    for _ in range(STEPS):
        metrics = step.step()
    jax.block_until_ready(metrics)
    found = {
        "trace": traced - began,
        "compile": compiled - traced,
        "process": heaps.peak(),
        "device": _device_peak(),
    }
    print(json.dumps(found))


def _device_peak() -> int:
    """The most bytes that were in use on the device; 0 where it does not say."""
    return int((jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0))


if __name__ == "__main__":
    main()

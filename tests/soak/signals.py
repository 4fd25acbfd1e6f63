"""SIGTERM and Ctrl-C at any moment, once and twice: the run ends soon, and goes on later."""

import re
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from gan_jax.core import saved_states
from tests.soak import rules
from tests.soak.cases import Bench, Kind, Result

STOPPED = 75
SOON = 30.0  # seconds within which the process ends
NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}


def stop(bench: Bench, rng: np.random.Generator, result: Result) -> None:
    """Stops a run by a signal at an operation or a moment, and gives the command again."""
    program, folder = bench.program(rng), bench.folder()
    reference = bench.reference(program)
    number = list(NAMES)[int(rng.integers(2))]
    twice = rng.random() < 0.35
    if rng.random() < 0.5:
        first = int(rng.integers(1, len(reference.operations) + 1))
        rule = rules.Rule(str(folder), "signal", first=first, number=number)
        process = bench.start(program, folder, rule)
        process.until_struck()
        moment = f"operation {first}"
    else:
        # the first moments belong to Python, which has no handler yet
        seconds = float(rng.uniform(0.1, 1.05)) * reference.seconds
        process = bench.start(program, folder)
        bench.server.status(process.pid, seconds)
        process.send(number)
        moment = f"{seconds:.1f} s"
    if twice:
        time.sleep(float(rng.uniform(0, 0.5)))
        process.send(number)
    row = f"{NAMES[number]}, {'twice' if twice else 'once'}"
    # a machine that does other things as well makes all of it slower
    done = process.wait(SOON + 2 * reference.seconds)
    # 0: the run had ended before
    moved = displaced(reference.content, folder) if done.status == STOPPED else ""
    faults = done.faults(0, STOPPED) or bench.continued(program, folder, without=moved)
    result.add(row, [f"{program.name} at {moment}: {fault}" for fault in faults])


def displaced(undisturbed: dict[str, Any], folder: Path) -> str:
    """What a stop changes in which states are there at the end, as a regular expression of paths.

    The newest states are kept. If the one that the stop has saved is among them, and saved by no
    interval, it takes the place of the oldest that an undisturbed run keeps.
    """
    paths = [re.fullmatch(r"checkpoints/(\d+)", name) for name in undisturbed]
    kept = [int(path[1]) for path in paths if path]
    stopped = max(saved_states.states_in(folder / "checkpoints"), default=0)
    if stopped in kept or stopped < min(kept):
        return ""
    return f"checkpoints/({stopped}|{min(kept)})"


KINDS = (Kind("stop", 8, stop),)

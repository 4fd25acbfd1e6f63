"""What has harnesses of its own: hostile files; and numbers that are not finite."""

import re
import subprocess
import sys

import numpy as np

from tests.soak import runs
from tests.soak.cases import Bench, Kind, Result
from tests.soak.processes import ROOT

SECONDS = 30  # of fuzzing in one case
FUZZED = re.compile(r"(\d+) of (\d+) ended in values or one line")


def hostile(bench: Bench, rng: np.random.Generator, result: Result) -> None:
    """Damaged files for every reader, by tests/helpers/fuzz.py."""
    command = [sys.executable, "-m", "tests.helpers.fuzz"]
    command += [f"--seconds={SECONDS}", f"--seed={rng.integers(2**31)}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    row, found = "damaged files of every format", FUZZED.search(done.stdout)
    if not found:
        result.add(row, [f"the fuzzer did not end: {done.stderr[-300:]}"])
        return
    survived, total = map(int, found.groups())
    faults = [line.strip() for line in done.stdout.splitlines() if line.startswith("  ")]
    for _ in range(total - survived):
        result.add(row, [f"{' '.join(command[1:])}: {faults[:1]}"], 0)
    result.add(row, [], total)


def numbers(bench: Bench, rng: np.random.Generator, result: Result) -> None:
    """A rate so high that weights overflow: an end in one line, and no state that is not finite."""
    program, folder = bench.program(rng), bench.folder()
    nets = {"gan": ("gen", "disc"), "gan_quality": ("gen", "disc"), "progan": ("gen", "disc")}
    nets |= {"pix2pix": ("gen", "disc"), "warpgan": ("gen", "disc"), "diffusion": ("unet",)}
    chosen = nets.get(program.name, ("classifier",))
    settings = {f"optim__{chosen[int(rng.integers(len(chosen)))]}__lr": "1e30"}
    done = bench.run(program, folder, **settings)
    faults = done.faults(0, 1) + runs.readable_states(folder)
    again = bench.run(program, folder, **settings)
    faults = faults or again.faults(0, 1)
    result.add("weights that overflow", [f"{program.name} {settings}: {f}" for f in faults])


KINDS = (Kind("hostile", 4, hostile), Kind("numbers", 2, numbers))

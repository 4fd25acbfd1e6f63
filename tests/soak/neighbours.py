"""Several processes at one folder: two that train, and readers beside one that trains."""

import re
import signal
import sys
import time
from pathlib import Path

import numpy as np

from tests.soak import rules
from tests.soak.cases import Bench, Kind, Result
from tests.soak.disk import DENSE

NO_LOCKS = ("ENOLCK", "ENOSYS", "EOPNOTSUPP")
# a save at every step, of which only the newest is kept: the reader's state goes while it reads
ONE_STATE = {**DENSE, "run__steps": "60", "run__keep": "1", "run__sample_every": "0"}


def two(bench: Bench, rng: np.random.Generator, result: Result) -> None:
    """A second process is refused while one trains, whatever becomes of the file .lock."""
    program, folder = bench.program(rng, "gan", "classifier"), bench.folder()
    how = ("as it is", "the file .lock removed", "a file system without locks")[
        int(rng.integers(3))
    ]
    rule = None
    if how == "a file system without locks":
        error = NO_LOCKS[int(rng.integers(len(NO_LOCKS)))]
        rule = rules.Rule(str(folder), "fail", ("lock",), "*", (error,), most=0)
    first = bench.start(program, folder, rule, **DENSE)
    begun = first.until("step 1/")
    if how == "the file .lock removed":
        (folder / ".lock").unlink()
    second = bench.run(program, folder, rule, **DENSE)
    done = first.wait()
    faults = done.faults(0) or second.faults(1)
    if not begun:
        faults.append("the first process ended before it made a step")
    if not faults and not re.search(r"process \d+ on \S+", second.err):
        faults.append(f"the refusal names neither process nor host: {second.err.strip()}")
    faults = faults or bench.continued(program, folder, beside=r"\.lease.*", **DENSE)
    result.add("two processes at one folder", [f"{how}: {fault}" for fault in faults])


def takeover(bench: Bench, rng: np.random.Generator, result: Result) -> None:
    """The folder of a process that was killed, on a file system without locks, is taken over."""
    program, folder = bench.program(rng, "gan", "classifier"), bench.folder()
    rule = rules.Rule(str(folder), "fail", ("lock",), "*", ("ENOLCK",), most=0)
    first = bench.start(program, folder, rule)
    bench.server.status(first.pid, float(rng.uniform(0.2, 0.9)) * bench.reference(program).seconds)
    first.send(signal.SIGKILL)
    first.wait()
    done = bench.run(program, folder, rule)
    faults = done.faults(0) or bench.continued(program, folder, beside=r"\.lease.*")
    result.add("a stale lease", [f"{program.name}: {fault}" for fault in faults])


def read_often() -> None:
    """In a process of its own: loads the run in a folder as long as it trains, and samples from it;
    prints what came of each reading."""
    import gan_jax
    from gan_jax.errors import UserError

    folder = Path(sys.argv[1])
    while not (folder / "summary.json").exists():
        try:
            model = gan_jax.load(folder)
            print("read", model.step, model.sample(range(2)).shape, flush=True)
        except UserError as error:
            print("refused", error, flush=True)


def reading(bench: Bench, rng: np.random.Generator, result: Result) -> None:
    """Readers beside a process that saves at every step and keeps one state."""
    program, folder = bench.program(rng, "gan"), bench.folder()
    bench.reference(program, **ONE_STATE)
    writer = bench.start(program, folder, **ONE_STATE)
    writer.until("step 3/")
    reader = bench.server.start(folder, call="tests.soak.neighbours:read_often")
    others = []
    while writer.running() and len(others) < 4:
        mode = "sample" if len(others) % 2 else "evaluate"
        flags = ("--seeds=0-1", f"--out={bench.folder()}") if mode == "sample" else ()
        process = bench.server.start(f"--mode={mode}", f"--workdir={folder}", *flags)
        others.append((mode, process.wait()))
        time.sleep(0.1)
    done, read = writer.wait(), reader.wait()
    faults = done.faults(0) or bench.continued(program, folder, r"evaluate\.json", **ONE_STATE)
    row = "reading beside a run that saves"
    result.add(row, faults)
    lines = read.out.splitlines()
    refused = [line for line in lines if line.startswith("refused")]
    result.add(row, read.faults(0) or refused, max(len(lines), 1))
    for mode, ended in others:
        result.add(row, [f"{mode}: {fault}" for fault in ended.faults(0)])


KINDS = (Kind("two", 4, two), Kind("takeover", 2, takeover), Kind("reading", 4, reading))

"""SIGKILL at chosen moments: the same command always goes on, and ends with the same bits."""

import signal
import threading

import numpy as np

from tests.soak import rules, runs
from tests.soak.cases import Bench, Kind, Reference, Result
from tests.soak.processes import ROOT

MOST = 5  # kills of one run
# what is killed at an operation on these files, by the row of the table
PLACES = {
    "kill at start-up": ("*config.json*", ".lock", "log.txt", "*reals.png*", "[a-z]*"),
    "kill while a state is saved": ("checkpoints/*",),
    "kill while a best state is saved or removed": ("best/*",),
    "kill while samples are drawn": ("samples/*",),
    "kill while logs and pages are written": (
        "metrics.jsonl", "events/*", "log.txt", "*epochs.csv*", "*curves.png*", "*report.html*",
        "*summary.json*", "*neighbours.png*",
    ),
    "kill while its classifier trains": ("classifier/*",),
}  # fmt: skip
BY_TIME = "kill at any time: start-up, compiling, steps, the end"
# a small file of guided-diffusion, and what its shapes do not tell
IMPORT = (
    "--mode=import",
    f"--from={ROOT}/tests/golden/guided_diffusion/trainstep/checkpoint_files/model000005.pt",
    f"--config={ROOT}/configs/diffusion_mnist.py:tiny",
    "--config.model.num_channels=32", "--config.model.channel_mult=(1,)",
    "--config.model.num_heads=1", "--config.model.num_head_channels=0",
    "--config.model.norm_groups=32", "--config.model.resblock_updown=True",
    "--config.discrete.variance=fixed_large", "--config.data.channels=rgb",
)  # fmt: skip
_imported: dict = {}  # what an undisturbed import makes, and how many operations it is
_imported_lock = threading.Lock()
POWER = "loss of power: writes that were not synchronised are gone"
AT_STAGES = "kill at any time of a run with stages and fades"


def by_operation(
    rng: np.random.Generator, folder, reference: Reference, kills: int
) -> tuple[str, rules.Rule]:
    """(row, rule) of a kill at an operation that changes something, after so many other kills."""
    rows = [row for row, patterns in PLACES.items() if _count(reference, patterns)]
    row = rows[int(rng.integers(len(rows)))]
    patterns = [p for p in PLACES[row] if reference.count(p, rules.CHANGES)]
    pattern = patterns[int(rng.integers(len(patterns)))]
    most = reference.count(pattern, rules.CHANGES)
    # a run that goes on has less left to do
    most = min(most, 40) if row == "kill at start-up" else max(most // (1 + kills), 1)
    action = ("kill_before", "kill_after")[int(rng.integers(2))]
    first = int(rng.integers(1, most + 1))
    return row, rules.Rule(str(folder), action, rules.CHANGES, pattern, first=first)


def _count(reference: Reference, patterns: tuple[str, ...]) -> int:
    return sum(reference.count(pattern, rules.CHANGES) for pattern in patterns)


def kill(bench: Bench, rng: np.random.Generator, result: Result) -> None:
    """Kills a run up to five times in a row, then lets it end."""
    program = bench.program(rng)
    reference, folder = bench.reference(program), bench.folder()
    rows, story = [], [program.name]
    for _ in range(MOST):
        if rng.random() < 0.35:
            moment = float(rng.uniform(0, 1.1)) * reference.seconds
            process = bench.start(program, folder)
            bench.server.status(process.pid, moment)
            process.send(signal.SIGKILL)
            row, what = AT_STAGES if program.name == "progan" else BY_TIME, f"after {moment:.1f} s"
            done = process.wait()
        else:
            row, what = by_operation(rng, folder, reference, len(rows))
            done = bench.run(program, folder, what)
        story.append(str(what))
        if done.status != -signal.SIGKILL:
            if faults := done.faults(0):
                result.add(row, [f"{', '.join(story)}: {'; '.join(faults)}"])
            break
        rows.append(row)
    faults = bench.continued(program, folder)
    for row in rows[:-1]:
        result.add(row, [])
    for row in rows[-1:]:
        result.add(row, [f"{', '.join(story)}: {fault}" for fault in faults[:3]])


def kill_import(bench: Bench, rng: np.random.Generator, result: Result) -> None:
    """Kills an import of weights at an operation; the same command then makes the whole run."""
    with _imported_lock:
        if not _imported:
            folder = bench.folder()
            traced = bench.server.start(*IMPORT, f"--workdir={folder}", rule=_trace(folder)).wait()
            if faults := traced.faults(0):
                raise RuntimeError(f"importing does not end without faults: {faults[0]}")
            changes = [s for s in traced.strikes if s[1] in rules.CHANGES]
            _imported.update(content=runs.content(folder), count=len(changes))
    folder = bench.folder()
    action = ("kill_before", "kill_after")[int(rng.integers(2))]
    first = int(rng.integers(1, _imported["count"] + 1))
    rule = rules.Rule(str(folder), action, rules.CHANGES, first=first)
    words = (*IMPORT, f"--workdir={folder}")
    if bench.server.start(*words, rule=rule).wait().status != -signal.SIGKILL:
        return
    done = bench.server.start(*words).wait()
    # the folder was whole already if the last operations were left
    complete = done.status == 1 and "holds a run already" in done.err
    faults = [] if complete else done.faults(0)
    faults = faults or runs.differences(_imported["content"], folder)
    result.add("kill while weights are imported", [f"{rule}: {fault}" for fault in faults])


def lose_power(bench: Bench, rng: np.random.Generator, result: Result) -> None:
    """Kills a run at an operation and takes away what was not yet synchronised."""
    program, folder = bench.program(rng), bench.folder()
    reference, story = bench.reference(program), [program.name]
    count = reference.count("*", rules.CHANGES)
    for _ in range(3):
        before = {
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in folder.rglob("*")
            if path.is_file()
        }
        first = int(rng.integers(1, count + 1))
        rule = rules.Rule(str(folder), "power", rules.CHANGES, first=first)
        done = bench.run(program, folder, rule)
        if done.status != -signal.SIGKILL:
            break
        lost = rules.lose_power(folder, before, done.strikes)
        story.append(f"{rule}, {lost} files lost something")
        result.injected[POWER] += 1
    faults = bench.continued(program, folder)
    result.add(POWER, [f"{', '.join(story)}: {fault}" for fault in faults], 0)


def _trace(folder) -> rules.Rule:
    return rules.Rule(str(folder), "trace")


KINDS = (Kind("kill", 47, kill), Kind("kill_import", 3, kill_import), Kind("power", 10, lose_power))

"""A disk that fails: at every kind of operation, in every way, once or for good.

What passes costs nothing. Logs and pictures never end a run. A state that cannot be saved ends it
with the status 74, the earlier states are whole, and once the disk works the same command goes on.
"""

import numpy as np

from tests.soak import rules, runs
from tests.soak.cases import Bench, Kind, Result

FAILED = 74  # exit status of a run that its disk has stopped
# a save at every step, a picture and an evaluation at every other
DENSE = {"run__steps": "30", "run__save_every": "1", "run__sample_every": "2",
         "run__eval_every": "2"}  # fmt: skip
STATES = ("checkpoints/*", "best/*")
# what may fail for good without an end to training, and what of it is then not compared; a run may
# have trained a classifier, with a folder like its own
LOGS = {
    "metrics.jsonl": r"metrics\.jsonl|epochs\.csv",
    "events/*": "events",
    "log.txt": r"log\.txt",
    "samples/*": r"samples/.*|events|report\.html",  # the page shows the grids
    # with temporary files that could not be removed
    "*curves.png*": r"(classifier/)?\.?curves\.png.*",
    "*epochs.csv*": r"(classifier/)?\.?epochs\.csv.*",
    "*report.html*": r"(classifier/)?\.?report\.html.*",
}
# what the next command draws again, and what is not compared then: rows may never have been written
DRAWN = {
    "metrics.jsonl": LOGS["metrics.jsonl"],
    "*curves.png*": "",
    "*epochs.csv*": "",
    "*report.html*": "",
}
HALVES = "short"  # writes fall short, which is no error
START = ("*config.json*", ".lock", "*reals.png*", "*quality.json*")


def way(rng: np.random.Generator) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """(action, kinds of operations, errors) of a failing disk."""
    names = [*rules.ERRORS, HALVES]
    name = names[int(rng.integers(len(names)))]
    if name == HALVES:
        return "short", ("write",), ("EIO",)
    return "fail", rules.ERRORS[name], (name,)


def struck(rng: np.random.Generator, reference, patterns, kinds) -> tuple[str, int] | None:
    """(pattern, how many operations fit it) for one of the patterns that have any."""
    counts = {pattern: reference.count(pattern, kinds) for pattern in patterns}
    found = [pattern for pattern, count in counts.items() if count]
    if not found:
        return None
    pattern = found[int(rng.integers(len(found)))]
    return pattern, counts[pattern]


def passing(bench: Bench, rng: np.random.Generator, result: Result) -> None:
    """Many faults in one run, each of which has passed when the operation is tried again."""
    program = bench.program(rng, "gan", "classifier")
    reference, folder = bench.reference(program, **DENSE), bench.folder()
    action, kinds, errors = way(rng)
    states = rng.random() < 0.4
    row = "disk: passing faults, " + ("states" if states else "logs and pictures")
    found = struck(rng, reference, STATES if states else LOGS, kinds)
    if not found:
        return
    pattern, count = found
    # so far apart that an attempt to save, which is many operations, is struck once
    saves = max(reference.count(pattern.replace("*", "*[0-9]"), ("rename",)), 1)
    each = count / saves * rng.uniform(2, 4) if states else rng.uniform(8, 16)
    every = max(int(each), 2)
    rule = rules.Rule(
        str(folder), action, kinds, pattern, errors, int(rng.integers(1, every + 1)), every, 0
    )
    done = bench.run(program, folder, rule, **DENSE)
    faults = done.faults(0) or runs.differences(reference.content, folder)
    result.add(row, [f"{program.name}, {rule}: {f}" for f in faults], max(len(done.strikes), 1))


def starting(bench: Bench, rng: np.random.Generator, result: Result) -> None:
    """One passing fault at the start: it costs nothing, or the command ends in one line; given
    again, it trains."""
    program = bench.program(rng)
    reference, folder = bench.reference(program), bench.folder()
    action, kinds, errors = way(rng)
    found = struck(rng, reference, START, kinds)
    if not found:
        return
    first = int(rng.integers(1, found[1] + 1))
    rule = rules.Rule(str(folder), action, kinds, found[0], errors, first)
    done = bench.run(program, folder, rule)
    faults = done.faults(0, 1, FAILED) or bench.continued(program, folder)
    result.add("disk: passing faults, start", [f"{program.name}, {rule}: {f}" for f in faults])


def lasting_logs(bench: Bench, rng: np.random.Generator, result: Result) -> None:
    """Logs or pictures that cannot be written any more: training ends as if they could."""
    program = bench.program(rng)
    reference, folder = bench.reference(program), bench.folder()
    action, kinds, errors = way(rng)
    found = struck(rng, reference, LOGS, kinds)
    if not found or action == HALVES:
        return
    first = int(rng.integers(1, found[1] + 1))
    rule = rules.Rule(str(folder), action, kinds, found[0], errors, first, most=0)
    done = bench.run(program, folder, rule)
    # a file that cannot even be opened when the run begins may be a reason not to begin
    begun = "step 1/" in done.out or done.status == 0
    faults = done.faults(0) if begun else done.faults(0, 1)
    if done.status == 0:
        faults += runs.differences(reference.content, folder, without=lost(found[0], kinds))
    faults = faults or [f"then: {f}" for f in bench.run(program, folder).faults(0)]
    if done.status == 0 and found[0] in DRAWN:
        then = runs.differences(reference.content, folder, without=DRAWN[found[0]])
        faults = faults or [f"then: {f}" for f in then]
    result.add("disk: lasting, logs and pictures", [f"{program.name}, {rule}: {f}" for f in faults])


def lost(pattern: str, kinds: tuple[str, ...]) -> str:
    """What need not be there when these kinds of operations fail on a log for good, as a regular
    expression: curves and the page are drawn from rows, if these can be read."""
    unread = pattern == "metrics.jsonl" and {"open", "read"} & {*kinds}
    return LOGS[pattern] + (r"|curves\.png|report\.html" if unread else "")


def lasting_states(bench: Bench, rng: np.random.Generator, result: Result) -> None:
    """States, or all of the folder, cannot be written any more."""
    program = bench.program(rng)
    reference, folder = bench.reference(program), bench.folder()
    action, kinds, errors = way(rng)
    everything = rng.random() < 0.4
    row = "disk: lasting, " + ("the whole folder" if everything else "states")
    found = struck(rng, reference, ("*",) if everything else STATES, kinds)
    if not found or action == HALVES:
        return
    first = int(rng.integers(1, found[1] + 1))
    rule = rules.Rule(str(folder), action, kinds, found[0], errors, first, most=0)
    done = bench.run(program, folder, rule, run__save_retries="2")
    faults = done.faults(0, 1, FAILED) + runs.readable_states(folder)
    # what is left of states that could not be removed goes with the next save
    beside = r"(checkpoints|best/stage\d+)/\d+" if done.status == 0 else ""
    faults = faults or bench.continued(program, folder, beside)
    result.add(row, [f"{program.name}, {rule}: {f}" for f in faults])


KINDS = (
    Kind("passing", 20, passing),
    Kind("starting", 5, starting),
    Kind("lasting_logs", 7, lasting_logs),
    Kind("lasting_states", 12, lasting_states),
)

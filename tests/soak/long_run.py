"""400,000 steps of a tiny system: memory, open files, threads and speed stay what they are."""

import json
import os
import time
from pathlib import Path

import numpy as np

from tests.soak.cases import Bench, Kind, Result
from tests.soak.programs import PROGRAMS

STEPS = 400_000
FIFTHS = ((STEPS // 5, 2 * STEPS // 5), (4 * STEPS // 5, STEPS))  # the second and the last
GROWTH = 1.01  # the last fifth beside the second
SLOWER = 1.05
# 200 rows, 10 states and nothing else that depends on how often something is drawn
SETTINGS = {
    "run__steps": str(STEPS), "run__log_every": str(STEPS // 200), "run__sample_every": "0",
    "run__save_every": str(STEPS // 10), "run__eval_every": str(STEPS // 10),
}  # fmt: skip


def long_run(bench: Bench, rng: np.random.Generator, result: Result) -> None:
    """Trains for long and compares the second fifth with the last."""
    program, folder = PROGRAMS["gan"], bench.place / "long"
    process, seen = bench.start(program, folder, **SETTINGS), []
    while process.running():
        time.sleep(0.1)
        rows = _rows(folder)
        if rows and (not seen or rows[-1]["step"] > seen[-1][0]) and (now := _state(process.pid)):
            seen.append((rows[-1]["step"], *now))
    done = process.wait()
    row, faults = f"a run of {STEPS:,} steps", done.faults(0)
    if faults:
        result.add(row, faults)
        return
    names = ("memory", "open files", "threads")
    for place, name in enumerate(names, start=1):
        early, late = (_median(s[place] for s in seen if a < s[0] <= b) for a, b in FIFTHS)
        grown = late > early * GROWTH and late > early + (1 if place > 1 else 0)
        said = [f"{name}: {early:.0f} in the second fifth, {late:.0f} in the last"]
        print(f"  long run: {said[0]}", flush=True)
        result.add(f"{row}: {name} is flat", said if grown else [])
    early, late = (_seconds_of_a_step(_rows(folder), a, b) for a, b in FIFTHS)
    said = [f"{early * 1e3:.3f} ms a step in the second fifth, {late * 1e3:.3f} in the last"]
    print(f"  long run: {said[0]}", flush=True)
    result.add(f"{row}: its speed stays", said if late > early * SLOWER else [])


def _rows(folder: Path) -> list[dict]:
    try:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        return [row for row in map(json.loads, lines) if row["kind"] == "train"]
    except (OSError, ValueError):
        return []


def _state(pid: int) -> tuple[int, int, int] | None:
    """(resident pages, open files, threads) of a process; None if it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages, len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return None


def _median(values) -> float:
    return float(np.median([*values]))


def _seconds_of_a_step(rows: list[dict], begin: int, end: int) -> float:
    """That of the fastest tenth of the rows, so that what else the machine did does not count."""
    speeds = [row["time/steps_per_second"] for row in rows if begin < row["step"] <= end]
    return 1 / float(np.quantile(speeds, 0.9))


LONG = Kind("long", 1, long_run)

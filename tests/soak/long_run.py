"""Two million steps of a tiny system: memory, open files, threads and speed stay what they are."""

import json
import os
import time
from pathlib import Path

import numpy as np

from tests.soak.cases import Bench, Kind, Result
from tests.soak.programs import PROGRAMS

STEPS = 2_000_000
# two parts of the run are compared, each a fifth of it: the last, and an early one, which begins
# when curves have been drawn and a fifth of the run has passed since. What draws them keeps fonts,
# and the first times objects that stay lie scattered among those that go
PART, SINCE = STEPS // 5, STEPS // 5
GROWTH = 1.01  # the last part beside the early one
SLOWER = 1.05  # beside a loop
BETWEEN_LOOPS = 1.0  # seconds
# 200 rows, 10 states and nothing else that depends on how often something is drawn. Epochs of 1,024
# steps: with the eight of `tiny` they would write 50,000 rows, which are read whenever curves are
# drawn
SETTINGS = {
    "data__synthetic_size": "8192",
    "run__steps": str(STEPS), "run__log_every": str(STEPS // 200), "run__sample_every": "0",
    "run__save_every": str(STEPS // 10), "run__eval_every": str(STEPS // 10),
}  # fmt: skip


def long_run(bench: Bench, rng: np.random.Generator, result: Result) -> None:
    """Trains for long and compares an early part of the run with the last."""
    program, folder, begin = PROGRAMS["gan"], bench.place / "long", 0
    process, seen, paces = bench.start(program, folder, **SETTINGS), [], []
    written = _Rows(folder / "metrics.jsonl")
    while process.running():
        time.sleep(0.1)
        rows = written.read()
        if not paces or time.time() > paces[-1][0] + BETWEEN_LOOPS:
            paces.append((time.time(), _loop()))
        if rows and not begin and (folder / "curves.png").exists():
            begin = rows[-1]["step"] + SINCE
        if rows and (not seen or rows[-1]["step"] > seen[-1][0]) and (now := _state(process.pid)):
            seen.append((rows[-1]["step"], *now))
    done = process.wait()
    row, faults = f"a run of {STEPS:,} steps", done.faults(0)
    if faults:
        result.add(row, faults)
        return
    parts = ((begin, begin + PART), (STEPS - PART, STEPS))
    if not begin or begin > STEPS - PART:
        result.add(row, [f"curves were drawn too late to compare: {begin} of {STEPS} steps"])
        return
    # TensorStore ends its five threads when it was idle for half a minute, and begins new ones for
    # the next save: whatever is not given back raises the least number as well
    measures = {"memory": _median, "open files": _median, "threads": min}
    for place, (name, measure) in enumerate(measures.items(), start=1):
        early, late = (measure(s[place] for s in seen if a < s[0] <= b) for a, b in parts)
        grown = late > early * GROWTH and late > early + (1 if place > 1 else 0)
        said = [f"{name}: {early:.0f} early, {late:.0f} at the end"]
        print(f"  long run: {said[0]}", flush=True)
        result.add(f"{row}: {name} is flat", said if grown else [])
    rows = written.read()
    (early, before), (late, after) = (_seconds_of_a_step(rows, paces, a, b) for a, b in parts)
    said = [
        f"{early * 1e3:.3f} ms a step early, {late * 1e3:.3f} at the end; beside "
        f"them a loop took {before * 1e3:.2f} and {after * 1e3:.2f} ms"
    ]
    print(f"  long run: {said[0]}", flush=True)
    slower = late / early > SLOWER * after / before
    result.add(f"{row}: its speed stays", said if slower else [])


class _Rows:
    """The rows of training steps in a file that grows. What was read is not read again: that would
    take more and more of the processor that trains."""

    def __init__(self, path: Path):
        self._path, self._end, self._found = path, 0, []

    def read(self) -> list[dict]:
        """All rows that are complete by now."""
        try:
            with open(self._path, "rb") as file:
                file.seek(self._end)
                text = file.read()
        except OSError:  # not there yet
            return self._found
        text = text[: text.rfind(b"\n") + 1]
        self._end += len(text)
        rows = (json.loads(line) for line in text.splitlines() if b'"train"' in line)
        self._found += [row for row in rows if row["kind"] == "train"]
        return self._found


def _state(pid: int) -> tuple[int, int, int] | None:
    """(resident pages, open files, threads) of a process; None if it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages, len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return None


def _median(values) -> float:
    return float(np.median([*values]))


def _seconds_of_a_step(
    rows: list[dict], paces: list[tuple[float, float]], begin: int, end: int
) -> tuple[float, float]:
    """The median of the rows, and that of the loops beside them: a machine that becomes slower, as
    one that others share does, is no fault of the run."""
    chosen = [row for row in rows if begin < row["step"] <= end]
    first, last = chosen[0]["wall_time"], chosen[-1]["wall_time"]
    loops = _median(seconds for at, seconds in paces if first <= at <= last)
    return _median(1 / row["time/steps_per_second"] for row in chosen), loops


def _loop() -> float:
    """Seconds of some work that is always the same: the fastest of three times."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        sum(number * number for number in range(50_000))
        times.append(time.perf_counter() - began)
    return min(times)


LONG = Kind("long", 1, long_run)

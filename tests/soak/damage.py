"""Parts of a run's folder that are damaged, missing or moved, between two starts and while it
trains. What is missing is named, and nothing is pretended."""

import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gan_jax.core import saved_states
from tests.soak import rules, runs
from tests.soak.cases import Bench, Kind, Result
from tests.soak.disk import FAILED
from tests.soak.programs import Program

SAME, NAMED, REFUSED = "the same bits", "named", "refused in one line"
BESIDE = r"damaged-.*|.*not-a-state.*|checkpoints/(12\.zip|9 \(1\)|notes\.txt)"


def newest(folder: Path) -> Path:
    """The newest state of a run."""
    states = saved_states.states_in(folder / "checkpoints")
    return states[max(states)]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


def _flip(path: Path, rng: np.random.Generator) -> None:
    data = bytearray(path.read_bytes())
    data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)


def _of_state(change: Callable[[Path, np.random.Generator], None]):
    """Damages one of the files whose checksums a state holds."""

    def do(folder: Path, rng: np.random.Generator) -> None:
        state = newest(folder)
        files = [f for part in ("state", "meta") for f in _files(state / part)]
        files = [file for file in files if file.name != "commit_success.txt"]
        change(files[int(rng.integers(len(files)))], rng)

    return do


def _half(path: Path, rng: np.random.Generator) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(rng.integers(len(data)))])


def _rows_lost(folder: Path, rng: np.random.Generator) -> None:
    """Cuts off rows that the newest state counts: a resume drops later ones anyway."""
    path = folder / "metrics.jsonl"
    counted = saved_states.read_meta(newest(folder))["rows"]
    rows = path.read_bytes().splitlines(keepends=True)[:counted]
    path.write_bytes(b"".join(rows)[: int(rng.integers(sum(map(len, rows))))])


def _noise(path: Path, rng: np.random.Generator) -> None:
    path.write_bytes(rng.bytes(int(rng.integers(1, 200))))


def _gone(path: Path, rng: np.random.Generator | None = None) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _at(name: str, change: Callable) -> Callable[[Path, np.random.Generator], None]:
    return lambda folder, rng: change(folder / name, rng)


def _folder_instead(path: Path, rng: np.random.Generator) -> None:
    _gone(path)
    path.mkdir()


def _link_instead(path: Path, rng: np.random.Generator) -> None:
    _gone(path)
    target = path.parent.parent / "target"
    target.write_text("precious")
    path.symlink_to(target)


def _foreign(folder: Path, rng: np.random.Generator) -> None:
    for name in ("12.zip", "9 (1)", "notes.txt"):
        (folder / "checkpoints" / name).write_text("mine")


# what is done to the folder, what must come of it, and which word names what is missing
BETWEEN: dict[str, tuple[Callable, str, str]] = {
    "a bit of the newest state": (_of_state(_flip), SAME, ""),
    "half a file of the newest state": (_of_state(_half), SAME, ""),
    "noise in the newest state": (_of_state(_noise), SAME, ""),
    "a file of the newest state gone": (_of_state(_gone), SAME, ""),
    "checksums gone": (lambda f, r: _gone(newest(f) / saved_states.SUMS), SAME, ""),
    "checksums half": (lambda f, r: _half(newest(f) / saved_states.SUMS, r), SAME, ""),
    "the newest state empty": (lambda f, r: _folder_instead(newest(f), r), SAME, ""),
    "the newest state gone": (lambda f, r: _gone(newest(f)), SAME, ""),
    "all states gone": (_at("checkpoints", _gone), NAMED, "checkpoint"),
    "foreign files beside states": (_foreign, SAME, ""),
    "best/ gone": (_at("best", _gone), NAMED, "best"),
    "events/ gone": (_at("events", _gone), NAMED, "events"),
    "samples/ gone": (_at("samples", _gone), NAMED, "samples"),
    "metrics.jsonl gone": (_at("metrics.jsonl", _gone), NAMED, "metrics.jsonl"),
    "metrics.jsonl half": (_rows_lost, NAMED, "metrics.jsonl"),
    "metrics.jsonl a folder": (_at("metrics.jsonl", _folder_instead), REFUSED, "metrics.jsonl"),
    "metrics.jsonl a link": (_at("metrics.jsonl", _link_instead), NAMED, "metrics.jsonl"),
    "epochs.csv gone": (_at("epochs.csv", _gone), SAME, ""),
    "epochs.csv noise": (_at("epochs.csv", _noise), SAME, ""),
    "log.txt a folder": (_at("log.txt", _folder_instead), SAME, ""),
    "log.txt gone": (_at("log.txt", _gone), SAME, ""),
    ".lock gone": (_at(".lock", _gone), SAME, ""),
    ".lock a link": (_at(".lock", _link_instead), REFUSED, "link"),
    "config.json half": (_at("config.json", _half), REFUSED, "config.json"),
    "config.json noise": (_at("config.json", _noise), REFUSED, "config.json"),
    "config.json gone": (_at("config.json", _gone), NAMED, "config.json"),
    "summary.json noise": (_at("summary.json", _noise), SAME, ""),
    "report.html a folder": (_at("report.html", _folder_instead), NAMED, "report.html"),
}


def half(bench: Bench, program: Program) -> Path:
    """A run of this program that was killed half-way, in a folder of its own."""
    saves = [
        path
        for kind, path in bench.reference(program).operations
        if kind == "rename" and re.fullmatch(r"checkpoints/[0-9]+", path)
    ]
    folder, appears = bench.folder(), saves[len(saves) // 2]
    rule = rules.Rule(str(folder), "kill_after", ("rename",), appears)
    done = bench.run(program, folder, rule)
    if done.status != -signal.SIGKILL:
        raise RuntimeError(f"{program.name} was not killed when {appears} appeared: {done.said}")
    return folder


def between(bench: Bench, rng: np.random.Generator, result: Result) -> None:
    """Damages the folder of a run that was killed half-way, and gives the command again."""
    program = bench.program(rng)
    folder, name = half(bench, program), list(BETWEEN)[int(rng.integers(len(BETWEEN)))]
    if name == "samples/ gone" and not any((folder / "samples").iterdir()):  # a classifier has none
        return
    do, wanted, word = BETWEEN[name]
    do(folder, rng)
    done = bench.run(program, folder)
    reference = bench.reference(program).content
    faults = done.faults(*{SAME: (0,), NAMED: (0, 1), REFUSED: (1,)}[wanted])
    if not faults and word not in done.out + done.err:
        faults = [f"{word} is not named: {done.said}"]
    if not faults and done.status == 0:
        missing = name.split()[0].rstrip("/")
        without = f"{missing}(/.*)?|epochs.csv" if wanted == NAMED or "a folder" in name else ""
        rows = missing != "metrics.jsonl"  # of which those that are lost are not counted
        faults = runs.differences(reference, folder, BESIDE, without, rows)
    target = folder.parent / "target"
    if target.exists() and target.read_text() != "precious":
        faults.append("the target of a link was written to")
    result.add("damage between two starts", [f"{program.name}, {name}: {f}" for f in faults])


# what happens to the folder while the run trains
DURING = {
    "events/ removed": lambda folder: _gone(folder / "events"),
    "best/ removed": lambda folder: _gone(folder / "best"),
    "samples/ removed": lambda folder: _gone(folder / "samples"),
    "checkpoints/ removed": lambda folder: _gone(folder / "checkpoints"),
    "the newest state removed": lambda folder: _gone(newest(folder)),
    "metrics.jsonl removed": lambda folder: _gone(folder / "metrics.jsonl"),
    "epochs.csv removed": lambda folder: _gone(folder / "epochs.csv"),
    "log.txt removed": lambda folder: _gone(folder / "log.txt"),
    "config.json removed": lambda folder: _gone(folder / "config.json"),
    "a folder in the place of report.html": lambda folder: _instead(folder / "report.html"),
    "a folder in the place of the next grid": lambda folder: _instead(
        folder / "samples/000008_ema.png"
    ),
    "all of the folder removed": _gone,
    "all of the folder moved": lambda folder: folder.rename(folder.with_name("moved")),
}


def _instead(path: Path) -> None:
    _gone(path)
    path.mkdir(parents=True)


def during(bench: Bench, rng: np.random.Generator, result: Result) -> None:
    """Stops a run for a moment at an operation, damages its folder, and lets it go on."""
    program, folder = bench.program(rng), bench.folder()
    reference = bench.reference(program)
    name = list(DURING)[int(rng.integers(len(DURING)))]
    kinds = ("create", "write", "rename")
    patterns = ("checkpoints/*", "metrics.jsonl", "samples/*")  # a classifier draws no samples
    patterns = [pattern for pattern in patterns if reference.count(pattern, kinds)]
    pattern = patterns[int(rng.integers(len(patterns)))]
    # not at the first operations: what is damaged has to be there
    count = reference.count(pattern, kinds)
    first = int(rng.integers(count // 2, count)) + 1
    rule = rules.Rule(str(folder), "signal", kinds, pattern, first=first, number=signal.SIGSTOP)
    process = bench.start(program, folder, rule)
    if process.until_struck():
        DURING[name](folder)
        process.send(signal.SIGCONT)
    done = process.wait()
    faults = done.faults(0, 1, FAILED)
    place = folder.with_name("moved") if folder.with_name("moved").exists() else folder
    faults = faults or [f"then: {f}" for f in bench.run(program, place).faults(0)]
    # states before the last may be gone, and so may rows
    last = max(saved_states.states_in(reference.folder / "checkpoints"))
    without = rf"(?!checkpoints/{last}$).*"
    faults = faults or runs.differences(reference.content, place, BESIDE, without)
    said = [f"{program.name}, {name} at {rule}: {fault}" for fault in faults]
    result.add("damage while it trains", said)


KINDS = (Kind("between", 10, between), Kind("during", 6, during))

"""What a run's folder says, without times, so that two runs can be compared bit by bit."""

import csv
import hashlib
import io
import json
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event

from gan_jax.core import saved_states

TIMES = re.compile(
    r"wall_time|time/.*|memory/.*|.*seconds|images_per_second|memory|workdir|last_grid"
)
NAMES_ALONE = {"log.txt", "config.log", ".lock", "curves.png", "report.html"}  # contents hold times
OWN_RULE = {"metrics.jsonl", "epochs.csv", "summary.json", "config.json", "quality.json"}
STATE = re.compile(r"((?:.*/)?(?:checkpoints|best/stage\d+)/\d+)/.*")
EVENTS = re.compile(r"(.*/)?events/events\.out\.tfevents\..*")


def content(folder: Path) -> dict[str, Any]:
    """What a run's folder holds, by path; what is not comparable is there by its name alone.

    Raises Damaged for a state that cannot be read.
    """
    found: dict[str, Any] = {}
    for path in sorted(Path(folder).rglob("*")):
        name = path.relative_to(folder).as_posix()
        if state := STATE.fullmatch(name):
            if state[1] not in found:
                found[state[1]] = _state(folder / state[1])
        elif EVENTS.fullmatch(name):
            found.setdefault("events", Counter()).update(_events(path))
        elif path.is_file() and not re.fullmatch(r"(.*/)?(best|checkpoints)/.*", name):
            found[name] = _file(path)
        elif path.is_file():
            found[name] = "a file that is no state"
    return found


def _state(folder: Path) -> Any:
    meta = saved_states.read_meta(folder)
    arrays = saved_states.read_arrays(folder)
    sums = {name: (x.shape, str(x.dtype), zlib.crc32(x.tobytes())) for name, x in arrays.items()}
    return {"meta": _timeless(meta), **sums}


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if not TIMES.fullmatch(k)}
    return value


def _file(path: Path) -> Any:
    if path.name == "metrics.jsonl":
        return [_timeless(json.loads(line)) for line in path.read_text().splitlines()]
    if path.name == "epochs.csv":
        rows = csv.DictReader(io.StringIO(path.read_text()))
        return [_timeless(dict(row)) for row in rows]
    if path.name == "config.json":
        return json.loads(path.read_text())["data"]
    if path.name in OWN_RULE:
        return _timeless(json.loads(path.read_text()))
    if path.name in NAMES_ALONE:
        return "is there"
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _events(path: Path) -> list[tuple[int, str]]:
    """(step, tag) of every value in an event file."""
    return [
        (event.step, value.tag)
        for event in events_of(path.read_bytes())
        for value in event.summary.value
        if not TIMES.fullmatch(value.tag) and not value.tag.startswith("_hparams_")
    ]


def events_of(data: bytes) -> list[Event]:
    """The events in the bytes of a file; the last one may be unfinished."""
    found, at = [], 0
    while at + 12 <= len(data):
        end = at + 16 + int.from_bytes(data[at : at + 8], "little")
        if end > len(data):
            break
        found.append(Event.FromString(data[at + 12 : end - 4]))
        at = end
    return found


def differences(
    wanted: dict[str, Any], folder: Path, beside: str = "", without: str = "", rows: bool = True
) -> list[str]:
    """How a folder differs from what it should hold, a line for each file.

    `beside` is a regular expression of paths that may be there as well, `without` one of paths that
    are not compared. If `rows` is false, states may count other numbers of rows.
    """
    try:
        found = content(folder)
    except (OSError, ValueError, KeyError, saved_states.UserError) as error:
        return [f"cannot be read: {type(error).__name__}: {error}"[:300]]
    if not rows:
        wanted, found = _without_rows(wanted), _without_rows(found)
    lines = []
    for name in sorted({*wanted, *found}):
        if without and re.fullmatch(without, name):
            continue
        if name not in found:
            lines.append(f"{name} is missing")
        elif name not in wanted:
            if not (beside and re.fullmatch(beside, name)):
                lines.append(f"{name} should not be there")
        elif wanted[name] != found[name]:
            lines.append(f"{name} differs: {_difference(wanted[name], found[name])}")
    return lines


def _without_rows(held: dict[str, Any]) -> dict[str, Any]:
    """The same content; states do not say how many rows metrics.jsonl had."""

    def of(value: Any) -> Any:
        if not (isinstance(value, dict) and isinstance(value.get("meta"), dict)):
            return value
        return {**value, "meta": {k: v for k, v in value["meta"].items() if k != "rows"}}

    return {name: of(value) for name, value in held.items()}


def _difference(wanted: Any, found: Any) -> str:
    """The first difference between two values, in a few words."""
    if isinstance(wanted, Counter):
        more, less = found - wanted, wanted - found
        return f"too often {list(more.items())[:3]}, missing {list(less.items())[:3]}"
    if isinstance(wanted, dict) and isinstance(found, dict):
        keys = [k for k in {**wanted, **found} if wanted.get(k) != found.get(k)]
        return "; ".join(f"{k}: {wanted.get(k)} → {found.get(k)}" for k in keys[:3])[:300]
    if isinstance(wanted, list) and isinstance(found, list):
        if len(wanted) != len(found):
            return f"{len(wanted)} rows → {len(found)}"
        place = next(i for i, (a, b) in enumerate(zip(wanted, found, strict=True)) if a != b)
        return f"row {place}: {_difference(wanted[place], found[place])}"
    return f"{str(wanted)[:100]} → {str(found)[:100]}"


def readable_states(folder: Path) -> list[str]:
    """What is wrong with the saved states of a run: a line for each that cannot be read."""
    lines = []
    paths = [
        *saved_states.states_in(folder / "checkpoints").values(),
        *saved_states.best_states_in(folder / "best").values(),
    ]
    for path in paths:
        try:
            saved_states.read_arrays(path)
        except (OSError, ValueError, saved_states.UserError) as error:
            lines.append(f"a state cannot be read: {error}"[:300])
    return lines

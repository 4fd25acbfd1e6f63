"""What the HTML page of a run shows, collected from its folder.

Everything comes from files, so the page of a run can be made anywhere, also from a copy of its
folder, and files that are missing or damaged leave a gap.
"""

import datetime
import json
import shlex
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from gan_jax import config as configs
from gan_jax.core import best_states, saved_states
from gan_jax.core.console import brief, clock
from gan_jax.errors import UserError
from gan_jax.files import read_json
from gan_jax.metrics.directions import direction
from gan_jax.report.names import words
from gan_jax.report.panels import Best
from gan_jax.report.run_view import RunView, SavedState, Setting
from gan_jax.report.series import (
    Extreme,
    Row,
    as_number,
    by_name,
    extreme,
    read_rows,
    stage_start,
)
from gan_jax.run import claims
from gan_jax.run import folder as folders

CHANNELS = {1: "grey ", 3: "colour "}
MOST_STATES = 30


def view(
    folder: str | Path, rows: Sequence[Row] | None = None, training: bool | None = None
) -> RunView:
    """What the page of a run shows.

    Args:
      folder: the run's folder, as the user names it.
      rows: those of its metrics.jsonl, if they have been read already.
      training: whether the run is being trained; None: if a process holds its folder.

    Raises UserError if it is not the folder of a run.
    """
    folder = Path(folder)
    if not any((folder / name).exists() for name in ("config.json", "metrics.jsonl")):
        raise UserError(
            f"{folder} is not the folder of a run: it has neither config.json nor metrics.jsonl; "
            "give the folder of a training run"
        )
    rows = read_rows(folder / "metrics.jsonl") if rows is None else rows
    about, summary = _read(folder / "config.json"), folders.read_summary(folder)
    config = _section(about, "config")
    status, progress = _status(folder, rows, summary, training)
    starts = _numbers(about.get("stage_starts"))
    start = stage_start(starts, rows)
    best = _best(folder, rows, config, start)
    command = _words(about.get("command"))
    shown = shlex.join(command) or _call(folder, status)
    states, left_out = _states(folder, best)
    keys = {key for row in rows if row.get("kind") == "eval" for key in row}
    return RunView(
        folder=folder,
        name=folder.resolve().name,
        rows=rows,
        stage_start=start,
        sentence=_sentence(about, config, command),
        status=status,
        progress=progress + _total(config) if rows else progress,
        command=shown,
        advice=_advice(status) if shown else "",
        facts=_facts(rows, summary, status, len(starts) > 1),
        times=_times(folder, about),
        best=best,
        directions={key: direction(key) for key in keys},
        classes=_words(_section(about, "data").get("class_names")),
        changed=_changed(config, command),
        settings=configs.flat(config),
        environment=_environment(about),
        states=states,
        states_left_out=left_out,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _section(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def _words(found: Any) -> list[str]:
    return [str(word) for word in found] if isinstance(found, list) else []


def _numbers(found: Any) -> list[float]:
    numbers = map(as_number, found) if isinstance(found, list) else ()
    return [number for number in numbers if number is not None]


def _status(
    folder: Path, rows: Sequence[Row], summary: Mapping[str, Any], training: bool | None
) -> tuple[str, str]:
    """The run's status and how far it has got, in words."""
    step = max((row["step"] for row in rows), default=0)
    place = f"step {step:,}" if rows else ""
    if training or (training is None and claims.in_use(folder)):
        return "training", place
    reason, ended = summary.get("reason"), as_number(summary.get("step"))
    # a summary of an earlier process says nothing about the steps after it
    if isinstance(reason, str) and ended is not None and ended >= step:
        named = {"terminated": "by a signal", "stopped early": "early, as its patience ran out"}
        status = "finished" if reason == "finished" else "stopped"
        return status, f"{named.get(reason, '')} at step {ended:,.0f}".strip()
    return ("interrupted", f"at {place}") if rows else ("empty", "")


def _total(config: Mapping[str, Any]) -> str:
    """The length of the run as the config writes it: " of 4,000" steps, " of 20 epochs"."""
    count, _, unit = str(_section(config, "run").get("steps", "")).partition(" ")
    if not count.isdecimal():
        return ""
    return f" of {int(count):,}" if unit in ("", "steps") else f"; the run has {count} {unit}"


def _best(
    folder: Path, rows: Sequence[Row], config: Mapping[str, Any], start: float
) -> Best | None:
    """The metric that picks the best state, and its best value.

    In a run of several stages the best value is that of the last stage, which begins at `start`, as
    values of different resolutions cannot be compared.
    """
    chosen = _section(config, "best")
    metric, mode = chosen.get("metric"), chosen.get("mode")
    if not isinstance(metric, str) or mode not in ("min", "max"):
        return None
    saved = saved_states.best_states_in(folder / "best")
    last = max(saved, default=(0, 0))
    if last[0] > 0:
        rule = best_states.Best(metric, mode == "min")
        step, value = best_states.on_disk(folder / "best", last[0], rule) or (0, None)
        return Best(metric, mode, None if value is None else Extreme(step, value))
    points = by_name(row for row in rows if row.get("kind") == "eval").get(metric, {}).get("eval")
    return Best(metric, mode, extreme(points, mode, start) if points else None)


def _states(folder: Path, best: Best | None) -> tuple[list[SavedState], int]:
    """The saved states, those that are best first, then the newest; and how many are left out."""
    found = []
    stages = saved_states.best_states_in(folder / "best")
    for (stage, step), path in sorted(stages.items(), reverse=True):
        value = best_states.saved_value(path)
        score = f": {words(best.metric)} {value:.6g}" if best and value is not None else ""
        several = f" of stage {stage}" if max(stages)[0] else ""
        found.append(SavedState(str(path.relative_to(folder)), step, f"best{several}{score}"))
    saved = saved_states.states_in(folder / "checkpoints")
    for step in sorted(saved, reverse=True):
        note = "newest; training goes on from here" if step == max(saved) else ""
        found.append(SavedState(str(saved[step].relative_to(folder)), step, note))
    return found[:MOST_STATES], max(len(found) - MOST_STATES, 0)


def _sentence(about: Mapping[str, Any], config: Mapping[str, Any], command: Sequence[str]) -> str:
    """What the run is: its system, config file, data and devices, as far as they are known."""
    if not config:
        return ""
    system = str(config.get("system", ""))
    known = system in configs.SYSTEMS
    parts = [configs.SYSTEMS[system].TITLE if known else f"A model of the system {system}"]
    file, _, variant = _config_file(command).partition(":")
    if file:
        variants = f" (variant {variant})" if variant else ""
        parts.append(f"from {file}{variants}")
    data = _data(_section(about, "data"), _section(config, "data"))
    devices = _devices(about)
    ending = f"trained on {data}" if data else ""
    ending += f" with {devices}" if ending and devices else ""
    return " ".join(parts) + (f", {ending}." if ending else ".")


def _config_file(command: Sequence[str]) -> str:
    for word, following in pairwise([*command, ""]):
        name, equals, value = word.partition("=")
        if name in ("--config", "-config"):
            return value if equals else following
    return ""


def _data(facts: Mapping[str, Any], section: Mapping[str, Any]) -> str:
    """Such as "10,000 grey images of 28 px in 10 classes (digits)", or "126 people, in colour
    images of 64 px"."""
    count, side = as_number(facts.get("train_size")), as_number(facts.get("resolution"))
    if not count or not side:
        return ""
    kind = CHANNELS.get(facts.get("channels"), "")
    pairs = "pairs of " if facts.get("input_channels") else ""
    pairs = "people, in " if section.get("pairs") == "identities" else pairs
    classes = as_number(facts.get("num_classes")) or 0
    labelled = f" in {classes:.0f} classes" if classes > 1 else ""
    path = str(section.get("path") or section.get("name") or "")
    source = f"{section.get('source', '')} {path}".strip()
    named = f" ({source})" if source else ""
    return f"{count:,.0f} {pairs}{kind}images of {side:.0f} px{labelled}{named}"


def _devices(about: Mapping[str, Any]) -> str:
    devices = _section(about, "devices")
    platform, count = str(devices.get("platform", "")), devices.get("count", 1)
    kind = str(about.get("device_kind") or platform)
    if not platform:
        return ""
    same = kind.lower() == platform.lower()
    plural = "" if count == 1 else "s"
    return f"{count} {platform.upper()}{plural}" if same else f"{count} x {kind}"


def _call(folder: Path, status: str) -> str:
    """A command that goes on with a run of which no command line is known; "" for one that is over
    or has saved no state."""
    if status == "finished" or not saved_states.states_in(folder / "checkpoints"):
        return ""
    place = json.dumps(str(folder))
    script = f"import gan_jax; gan_jax.train(gan_jax.load({place}).config, {place})"
    return shlex.join(["python", "-c", script])


def _advice(status: str) -> str:
    if status == "finished":
        return "To train longer, run this with a larger --config.run.steps."
    if status == "training":
        return "If training is stopped, this command goes on with it."
    return "This command goes on where the run was left."


def _facts(
    rows: Sequence[Row], summary: Mapping[str, Any], status: str, grows: bool
) -> list[tuple[str, str]]:
    found = []
    last = next((row for row in reversed(rows) if "time/images_per_second" in row), {})
    rate = as_number(last.get("time/images_per_second"))
    if rate:
        found.append(("Speed", f"{brief(rate)} images per second"))
    left = as_number(last.get("time/eta_seconds"))
    if status == "training" and left is not None:
        until = " at this resolution," if grows else ""
        found.append((f"Time left{until} at the last update", clock(left)))
    spent = as_number(summary.get("train_seconds"))
    if spent is not None and status in ("finished", "stopped"):
        found.append(("Time in training steps", clock(spent)))
    return found


def _times(folder: Path, about: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = []
    begun = about.get("begun") or about.get("written")
    if isinstance(begun, str):
        found.append(("Begun", begun))
    paths = [folder / name for name in ("metrics.jsonl", "summary.json", "config.json")]
    changed = [path.stat().st_mtime for path in paths if path.exists()]
    if changed:
        last = datetime.datetime.fromtimestamp(max(changed), datetime.UTC)
        found.append(("Last update", last.isoformat(timespec="seconds")))
    return found


def _changed(config: Mapping[str, Any], command: Sequence[str]) -> list[Setting]:
    """The settings that are not their system's defaults, those of the command line first.

    A value that the run itself decided in place of "auto" is not among them.
    """
    try:
        usual = configs.flat(configs.plain(configs.defaults(str(config.get("system", "")))))
    except UserError:
        return []
    typed = {
        word.lstrip("-").partition("=")[0].partition("config.")[2]
        for word in command
        if word.startswith(("--config.", "--noconfig."))
    }
    stored = configs.flat(config)
    found = [
        Setting(key, value, usual.get(key, "none in this version"), key in typed)
        for key, value in stored.items()
        if value != usual.get(key) and (usual.get(key) != "auto" or key in typed)
    ]
    return sorted(found, key=lambda setting: not setting.typed)


def _environment(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = [("git revision", str(about["git"]))] if about.get("git") else []
    if devices := _devices(about):
        found.append(("devices", devices))
    found += [(name, str(version)) for name, version in _section(about, "versions").items()]
    return found

"""config.log: when a run began and was resumed, and what had changed in it each time."""

import contextlib
import datetime
import json
import logging
import shlex
from pathlib import Path
from typing import Any

from gan_jax import config as configs
from gan_jax.errors import UserError, one_line
from gan_jax.files import open_own, reason

logger = logging.getLogger(__name__)

COMPARED = ("config", "versions", "git", "devices")  # entries of config.json


def note(folder: Path, step: int, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Appends to config.log that the run begins or goes on after `step`.

    `before` is the content of config.json as the last start of the run left it, {} if there was
    none, and `now` the new content. Of a start there is one line, with the command. Of a resume
    there is one more for each key that has changed: "config.run.steps: "9" → "12"". A log that
    cannot be written is no reason not to train, so it only costs a warning.
    """
    if before:
        found = changes(before, now)
        lines = ["resumed" + ("" if found else ", nothing has changed"), *found]
    else:
        command = shlex.join(now.get("command", []))
        lines = [f"begun: {command}" if command else "begun"]
    date = datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S")
    text = "".join(f"{date} step {step}: {one_line(line)}\n" for line in lines)
    try:
        with open_own(folder / "config.log", "ab") as file:
            file.write(text.encode())
    except OSError as error:
        logger.warning(f"{folder / 'config.log'} cannot be written: {reason(error)}")


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """A line for each key of two contents of config.json that differs: its old and new value.

    A key that gan_jax has only known since then is among them if its value is not the default.
    """
    old = {name: before.get(name) for name in COMPARED}
    with contextlib.suppress(KeyError, UserError):  # else as it stands there
        old["config"] = configs.plain(configs.typed(before["config"]))
    new = {name: now.get(name) for name in COMPARED}
    found = configs.differences(old, new)
    return [f"{key}: {_shown(a)} → {_shown(b)}" for key, (a, b) in found.items()]


def _shown(value: Any) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)

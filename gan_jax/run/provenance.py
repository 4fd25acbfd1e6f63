"""config.json: what a run was made with, its config, command, versions, git revision and facts."""

import datetime
import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from gan_jax import config as configs
from gan_jax.buckets import addresses
from gan_jax.core.system import Facts
from gan_jax.files import read_json, write_json
from gan_jax.ops import onednn
from gan_jax.run import config_log

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "numpy",
    "ml-collections",
)


def write_config(
    folder: Path,
    config: ConfigDict,
    devices: int,
    facts: Facts,
    resumed: int | None = None,
    budget: dict[str, Any] | None = None,
    starts: Sequence[int] = (),
) -> None:
    """Writes config.json: the resolved config with the command, versions, git revision, devices and
    facts, the time of this start of the run, and that of its first.

    `resumed` is the step after which a run goes on that had begun before, None for a new run. A
    line about it is added to config.log. `budget` says which keys of a new run were chosen for its
    time; see `budget.choose`. `starts` are the steps at which its stages begin.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    before = _read(folder / "config.json")
    values = {
        "config": configs.plain(config),
        "versions": versions(),
        "git": git_revision(),
        "data": facts._asdict(),
        "devices": {"platform": jax.default_backend(), "count": devices},
        "device_kind": jax.local_devices()[0].device_kind,
        "command": command(folder) or before.get("command", []),
        "begun": before.get("begun") or before.get("written") or now,
        "written": now,
    }
    if chosen := before.get("budget") if resumed is not None else budget:
        values["budget"] = chosen
    if len(starts) > 1:
        values["stage_starts"] = list(starts)
    # first the log: what has changed can be read off config.json until that is written
    config_log.note(folder, resumed or 0, {} if resumed is None else before, values)
    write_json(folder / "config.json", values)


def _read(path: Path) -> dict:
    """The file as it was; {} if it is missing or damaged."""
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def command(folder: Path) -> list[str]:
    """The words of the command line with which launch.py was started to train in `folder`; [] if
    this process was started in another way, or for another folder."""
    words = sys.argv[1:]
    workdir = _flag(words, "workdir")
    if Path(sys.argv[0]).name != "launch.py" or _flag(words, "mode") not in ("", "train"):
        return []
    place = Path(addresses.local(workdir)).expanduser() if workdir else None
    if place is None or place.resolve() != Path(folder).resolve():
        return []  # such as that of the classifier beside a run
    return ["python", sys.argv[0], *words]


def _flag(words: list[str], name: str) -> str:
    """The last value of a flag on a command line, "" if it is not there."""
    found = ""
    for word, following in pairwise([*words, ""]):
        key, equals, value = word.partition("=")
        if key in (f"--{name}", f"-{name}"):
            found = value if equals else following
    return found


def versions() -> dict[str, str]:
    """The versions of Python and of the packages on which results depend; "unknown" for one that
    is not installed as a package. oneDNN's is among them where it computes convolutions."""
    found = {"python": platform.python_version()}
    for name in (*PACKAGES, onednn.PACKAGE) if onednn.in_use() else PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def git_revision() -> str:
    """The commit of the code, with "-dirty" if files differ from it; "" outside a checkout."""
    describe = ("describe", "--always", "--dirty", "--abbrev=40")
    command = ["git", "-C", str(Path(__file__).parent), *describe]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()

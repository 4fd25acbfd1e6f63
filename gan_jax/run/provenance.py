"""config.json: what a run was made with, its config, versions, git revision and facts."""

import datetime
import importlib.metadata
import platform
import subprocess
from pathlib import Path

import jax
from ml_collections import ConfigDict

from gan_jax import config as configs
from gan_jax.core.system import Facts
from gan_jax.files import write_json

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


def write_config(folder: Path, config: ConfigDict, devices: int, facts: Facts) -> None:
    """Writes config.json: the resolved config with versions, git revision, devices and facts."""
    write_json(
        folder / "config.json",
        {
            "config": configs.plain(config),
            "versions": versions(),
            "git": git_revision(),
            "data": facts._asdict(),
            "devices": {"platform": jax.default_backend(), "count": devices},
            "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
    )


def versions() -> dict[str, str]:
    """The versions of Python and of the packages on which results depend; "unknown" for one that
    is not installed as a package."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
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

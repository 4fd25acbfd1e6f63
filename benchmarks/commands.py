"""What a command takes until it trains: compiling, and launch.py up to the first step.

Each is measured in processes of their own: with an empty folder of compiled programs ("cold"), and
again with what the first one left there ("cached").
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import pictures
from benchmarks.cases import Case
from benchmarks.step import Opened
from gan_jax.errors import UserError, one_line

ROOT = Path(__file__).parents[1]
FIRST_STEP = "the first step was made"  # the beginning of the line that launch.py prints then
PATIENCE = 1200  # seconds that a process may take
# intervals of what is not to happen before the first step, or to be prepared for
NEVER = ("sample_every", "eval_every", "quality_every")
# a value of validation in place of a metric of samples, for which a network would be trained first
VALIDATED = {"gan": "val/gen", "progan": "val/wasserstein"}


def measure(opened: Opened) -> dict[str, Any]:
    """The part "compile": cold and cached seconds, and the memory of a process that trains."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for state in ("cold", "cached"):
            one = _compiled(opened.case, opened.small, Path(folder) / "step")
            found[state] = one["compile"]
            found["trace"], found["process"] = one["trace"], one["process"]
            found["device"] = one["device"]
        for state in ("cold", "cached"):
            found[f"first_step_{state}"] = first_step(opened.case, opened.small, Path(folder))
    return found


def _environment(cache: Path) -> dict[str, str]:
    """This environment, with programs of any size kept in `cache`."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        # a process on the same GPU must not find all of its memory taken
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }


def _compiled(case: Case, small: bool, cache: Path) -> dict[str, float]:
    """What benchmarks/child.py finds."""
    words = [sys.executable, "-m", "benchmarks.child", f"--case={case.name}"]
    done = subprocess.run(
        [*words, *(["--small"] if small else [])],
        cwd=ROOT, env=_environment(cache), capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    if done.returncode:
        raise UserError(f"{case.name} in a process of its own: {_last_line(done.stderr)}")
    return json.loads(done.stdout.splitlines()[-1])


def first_step(case: Case, small: bool, folder: Path) -> float:
    """Seconds from the start of launch.py to the line that says that the first step was made.

    `folder` holds the data and the compiled programs; the run is ended and removed.
    """
    with tempfile.TemporaryDirectory(dir=folder) as run:
        began = time.perf_counter()
        process = subprocess.Popen(
            command(case, small, folder, Path(run)),
            cwd=ROOT, env=_environment(folder / "launch"), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        lines = []
        try:
            for line in process.stdout:
                lines.append(line)
                if FIRST_STEP in line:
                    return time.perf_counter() - began
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
    raise UserError(f"{case.name}: launch.py ended before its first step: {_last_line(lines)}")


def command(case: Case, small: bool, folder: Path, run: Path) -> list[str]:
    """The words of a training command for a case, on data that are made in `folder`."""
    config, place = case.load(small), folder / "data"
    if place.exists():
        values = json.loads((place / "values.json").read_text())
    else:
        place.mkdir()
        values = pictures.like(config, place)
        (place / "values.json").write_text(json.dumps(values))
    named = {f"data.{key}": value for key, value in values.items()} | case.values(small)
    named |= {f"run.{key}": "0" for key in NEVER} | {"run.devices": 1}
    if case.system in VALIDATED:
        named["best.metric"] = VALIDATED[case.system]
    words = [f"--config={case.config}", f"--workdir={run / 'run'}"]
    words += [f"--compilation_cache={folder / 'launch'}"]
    words += [f"--config.{key}={_written(value)}" for key, value in named.items()]
    return [sys.executable, str(ROOT / "launch.py"), *words]


def _written(value: Any) -> str:
    """A value as the command line takes it."""
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _last_line(lines: str | list[str]) -> str:
    """The last line that says something."""
    found = lines.splitlines() if isinstance(lines, str) else lines
    return one_line(next((line for line in reversed(found) if line.strip()), "nothing was printed"))

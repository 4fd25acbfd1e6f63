"""Runs launch.py as a person does: a process of its own, or in this one where that is the same."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from gan_jax.core import saved_states
from gan_jax.modes import door
from tests.helpers.forks import Forked, one_device_flags

ROOT = Path(__file__).parents[2]
TINY = "--config=configs/dcgan_mnist.py:tiny"


def command(*arguments: str) -> list[str]:
    """launch.py with these arguments."""
    return [sys.executable, str(ROOT / "launch.py"), *map(str, arguments)]


def one_device() -> dict[str, str]:
    """This environment without the eight devices of the test session."""
    return {**os.environ, "XLA_FLAGS": one_device_flags()}


def python(
    code: str, *arguments: object, environment: dict[str, str] | None = None, **options
) -> subprocess.CompletedProcess:
    """The finished process of a short program, with stdout and stderr as text.

    Args:
      arguments: what the program finds in sys.argv[1:].
      environment: added to that of `one_device`, in which gan_jax and tests can be imported.
      options: of subprocess.run, in place of those here.
    """
    usual = dict(cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300)
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**one_device(), "PYTHONPATH": str(ROOT), **(environment or {})},
        **{**usual, **options},
    )


def heavy_modules(code: str) -> str:
    """What a program has loaded of the modules that take long to import, as "loaded []"."""
    heavy = "sorted({'jax', 'numpy', 'flax', 'PIL'} & set(sys.modules))"
    done = python(f"import sys\n{code}\nprint('loaded', {heavy})")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def launch(
    *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess:
    """The finished process, with stdout and stderr as text.

    Without an `environment` of its own it is forked from a process that has imported the program.
    """
    if environment is None:
        process = Forked(*arguments)
        process.wait()
        return subprocess.CompletedProcess(process.args, process.returncode, *process.printed)
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env={**one_device(), **environment},
        capture_output=True,
        text=True,
        timeout=420,
    )


def launch_here(*arguments: str) -> subprocess.CompletedProcess:
    """`launch` inside this process, which saves the seconds that importing takes.

    For what needs no process of its own: no signal, no environment, no other devices. A config is
    told to use one of the session's eight devices.
    """
    argv = ["launch.py", *map(str, arguments)]
    named = any(a.startswith("--config=") for a in argv)
    if named and not any(a.startswith("--config.run.devices=") for a in argv):
        argv.append("--config.run.devices=1")
    out, err = io.StringIO(), io.StringIO()
    kept = signal.getsignal(signal.SIGTERM)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            door.main(door.parse(argv))
        except SystemExit as end:
            status = end.code
        finally:
            signal.signal(signal.SIGTERM, kept)
    return subprocess.CompletedProcess(argv, status, out.getvalue(), err.getvalue())


def launch_and_kill(workdir: Path, step: int, *arguments: str, number: int = signal.SIGKILL) -> int:
    """Starts a run and sends the signal once metrics.jsonl has reached `step`; the exit status."""
    process = Forked(*arguments)
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and process.poll() is None:
        if any(row["step"] >= step for row in rows(workdir)):
            process.send_signal(number)
            break
        time.sleep(0.01)
    status = process.wait()
    assert any(row["step"] >= step for row in rows(workdir)), process.printed
    return status


def rows(workdir: Path) -> list[dict]:
    """The complete rows of metrics.jsonl, without what depends on the clock."""
    path = Path(workdir) / "metrics.jsonl"
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:  # being written right now
            continue
        clock = {k for k in row if k == "wall_time" or k.startswith("time/")}
        found.append({k: v for k, v in row.items() if k not in clock})
    return found


def arrays(workdir: Path, kind: str = "checkpoints") -> dict[str, np.ndarray]:
    """Every array of the newest state by name."""
    from gan_jax.run import folder as folders

    which = "newest" if kind == "checkpoints" else "best"
    return saved_states.read_arrays(folders.state_path(Path(workdir), which))


def assert_same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    """Bit for bit."""
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].tobytes() == second[name].tobytes(), name


def error_line(done: subprocess.CompletedProcess) -> str:
    """The one line that a mistake ends in; no traceback, a non-zero status."""
    assert done.returncode not in (0, 75), done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]

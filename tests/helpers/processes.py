"""Several processes that compute together, as on the hosts of a cluster: here, over gloo."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.shell import ROOT, command, one_device, rows

PATIENCE = 240.0  # seconds that a whole group may take
DEVICES = 4  # of each process


@dataclass
class Ended:
    """How a process ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines that say what went wrong."""
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


class Group:
    """Processes that were started together; `wait` returns what they printed."""

    def __init__(self, processes: Sequence[subprocess.Popen], files: Sequence[Path]):
        self.processes, self._files = processes, files

    def send(self, number: int, rank: int) -> None:
        """Sends a signal to one of the processes."""
        self.processes[rank].send_signal(number)

    def until(self, condition: Callable[[], bool]) -> None:
        """Waits until the condition is true; fails if a process ends before, or after PATIENCE."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, self._printed()
            assert all(process.poll() is None for process in self.processes), self._printed()
            time.sleep(0.02)

    def until_step(self, workdir: Path, step: int) -> None:
        """Waits until metrics.jsonl of a run has reached a step."""
        self.until(lambda: any(row["step"] >= step for row in rows(workdir)))

    def wait(self) -> list[Ended]:
        """The ends of all processes, by rank; fails if they do not come within PATIENCE."""
        end = time.monotonic() + PATIENCE
        while any(process.poll() is None for process in self.processes):
            assert time.monotonic() < end, self._printed()
            time.sleep(0.02)
        texts = [file.read_text(errors="replace") for file in self._files]
        triples = zip(self.processes, texts[::2], texts[1::2], strict=True)
        return [Ended(process.returncode, out, err) for process, out, err in triples]

    def _printed(self) -> str:
        return "\n".join(f"{file}:\n{file.read_text(errors='replace')}" for file in self._files)


def free_port() -> int:
    """A port of this machine that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def started(folder: Path, commands: Sequence[Sequence[str]], **environment: str) -> Iterator[Group]:
    """Starts the commands as the processes of one cluster; none of them outlives the block.

    Args:
      folder: where files with their output are made.
      commands: that of each process, by rank.
      environment: added to that of every process.
    """
    port, processes, files = free_port(), [], []
    folder.mkdir(parents=True, exist_ok=True)
    usual = one_device()
    flags = f"{usual['XLA_FLAGS']} --xla_force_host_platform_device_count={DEVICES}"
    try:
        for rank, words in enumerate(commands):
            own = {
                "XLA_FLAGS": flags.strip(),
                "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                "JAX_NUM_PROCESSES": str(len(commands)),
                "JAX_PROCESS_ID": str(rank),
                "PYTHONPATH": str(ROOT),
            }
            files += [folder / f"{rank}.out", folder / f"{rank}.err"]
            with files[-2].open("w") as out, files[-1].open("w") as err:
                processes.append(
                    subprocess.Popen(
                        words,
                        cwd=ROOT,
                        env={**usual, **own, **environment},
                        stdin=subprocess.DEVNULL,
                        stdout=out,
                        stderr=err,
                        start_new_session=True,
                    )
                )
        yield Group(processes, files)
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def launched(folder: Path, *arguments: str, own: Sequence[Sequence[str]] = ((), ())):
    """`started` with launch.py, in two processes that have these arguments and each its own."""
    words = [command(*arguments, *more, "--distributed") for more in own]
    return started(folder, words)


def drivers(folder: Path, program: Path, *arguments: object):
    """`started` with a program of Python in two processes, which join the cluster by
    `tests.helpers.processes.join`."""
    return started(folder, [[sys.executable, str(program), *map(str, arguments)]] * 2)


def join() -> int:
    """Joins the cluster that `started` describes, as launch.py does; returns the rank."""
    import jax

    from gan_jax.modes import devices

    devices.open_devices(jax, "", True, "")
    return jax.process_index()

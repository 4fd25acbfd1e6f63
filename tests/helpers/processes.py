"""Several processes that compute together, as on the hosts of a cluster: here, over gloo."""

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from tests.helpers.forks import Forked, one_device_flags
from tests.helpers.shell import rows
from tests.soak.processes import DOOR

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

    def __init__(self, processes: Sequence[Forked]):
        self.processes = processes

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

    def wait(self, patience: float = PATIENCE) -> list[Ended]:
        """The ends of all processes, by rank; fails if they do not come within `patience`."""
        end = time.monotonic() + patience
        while any(process.poll() is None for process in self.processes):
            assert time.monotonic() < end, self._printed()
            time.sleep(0.02)
        return [Ended(process.returncode, *process.printed) for process in self.processes]

    def _printed(self) -> str:
        return "\n".join(text for process in self.processes for text in process.printed)


def free_port() -> int:
    """A port of this machine that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def started(
    arguments: Sequence[Sequence[object]],
    call: str = DOOR,
    environments: Sequence[Mapping[str, str]] = (),
    **environment: str,
) -> Iterator[Group]:
    """Starts the processes of one cluster; none of them outlives the block.

    Args:
      arguments: those of each process, by rank.
      call: "module:function", which reads sys.argv; by default launch.py.
      environments: what is added to that of each process, by rank.
      environment: added to that of every process.
    """
    port, processes = free_port(), []
    flags = f"{one_device_flags()} --xla_force_host_platform_device_count={DEVICES}"
    try:
        for rank, words in enumerate(arguments):
            member = {
                "XLA_FLAGS": flags.strip(),
                "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                "JAX_NUM_PROCESSES": str(len(arguments)),
                "JAX_PROCESS_ID": str(rank),
            }
            member |= {**environment, **(environments[rank] if environments else {})}
            processes.append(Forked(*words, call=call, environment=member))
        yield Group(processes)
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def launched(*arguments: str, own: Sequence[Sequence[str]] = ((), ())):
    """`started` with launch.py, in two processes that have these arguments and each its own."""
    return started([(*arguments, *more, "--distributed") for more in own])


def drivers(program: ModuleType, *arguments: object):
    """`started` with the function `main` of a module in two processes, which join the cluster by
    `tests.helpers.processes.join`."""
    return started([arguments] * 2, f"{program.__name__}:main")


def join() -> int:
    """Joins the cluster that `started` describes, as launch.py does; returns the rank."""
    import jax

    from gan_jax.modes import devices, parsing

    devices.prepare(parsing.parse(["launch.py", "--mode=report"]).general)
    return jax.process_index()


def run() -> None:
    """Runs the program of Python that is the first argument; its own arguments follow."""
    code = sys.argv.pop(1)
    exec(compile(code, "<a test>", "exec"), {"__name__": "__main__"})

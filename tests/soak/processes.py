"""Processes of the program, from the side of the harness: started, watched, ended."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.helpers.xla_flags import FAST_COMPILING
from tests.soak import rules
from tests.soak.fork_server import FIRST_WORDS, Command

ROOT = Path(__file__).parents[2]
DOOR = "gan_jax.modes.door:enter"
LONGEST = 240.0  # seconds after which a process hangs
# programs run once here, so that the compiler need not optimise; the cache keeps what it made
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "OPENBLAS_NUM_THREADS": "1",
    "XLA_FLAGS": " ".join(FAST_COMPILING),
    "PYTHONPATH": str(ROOT),
}


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
      status: its exit status, negative for the number of a signal.
      out: stdout as text; err: stderr.
      strikes: the operations that were struck, as (number, kind, errno, path below the folder).
      hung: whether it was ended because it took longer than it may.
    """

    status: int
    out: str
    err: str
    strikes: list[rules.Strike]
    hung: bool = False

    @property
    def said(self) -> str:
        """The last lines, for a finding."""
        lines = [*self.out.splitlines()[-3:], *self.err.splitlines()[-3:]]
        return f"status {self.status}: " + " | ".join(line.strip()[:200] for line in lines)

    def faults(self, *accepted: int) -> list[str]:
        """What is wrong with how it ended: a traceback, a hang, another status than those
        accepted, more than one line for a status that is an error."""
        found = []
        if self.hung:
            found.append(f"did not end; its stacks: {' '.join(self.err.split())[-1500:]}")
        elif self.status not in accepted:
            found.append(f"{self.said} instead of {accepted}")
        elif "Traceback" in self.out + self.err:
            found.append(f"a traceback: {self.said}")
        elif self.status in (1, 2, 74) and len(lines := self.err.splitlines()) != 1:
            first = " | ".join(line.strip()[:200] for line in lines[:4])
            found.append(f"{len(lines)} lines of error, which begin: {first}; {self.said}")
        return found


class Process:
    """A process that a `Server` has started."""

    def __init__(self, server: "Server", pid: int, output: Path):
        self.pid, self._server, self._output = pid, server, output

    def running(self) -> bool:
        """Whether it has not ended."""
        return self.pid not in self._server.ended

    def send(self, number: int) -> None:
        """Sends a signal to the process, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            if self.running():
                os.kill(self.pid, number)

    def out(self) -> str:
        """What it has printed so far."""
        return self._text("out")

    def err(self) -> str:
        """What it has printed on stderr so far."""
        return self._text("err")

    def _text(self, end: str) -> str:
        path = Path(f"{self._output}.{end}")
        return path.read_text(errors="replace") if path.exists() else ""

    def until(self, words: str, seconds: float = LONGEST) -> bool:
        """Waits until it has printed these words; False if it ends, or time is over, before."""
        return self._running_when(lambda: words in self.out(), seconds) is not None

    def until_struck(self, seconds: float = LONGEST) -> bool:
        """Waits until its rule has struck; False if it ends, or time is over, before."""
        path = Path(f"{self._output}.strikes")
        return bool(self._running_when(lambda: path.exists() and path.stat().st_size > 0, seconds))

    def _running_when(self, met: Callable[[], bool], seconds: float) -> bool | None:
        """Whether the process ran when `met()` became true; None if it ended, or time was over,
        before."""
        stop = time.monotonic() + seconds
        while time.monotonic() < stop:
            running = self.running()
            if met():
                return running
            if not running:
                return None
            time.sleep(0.02)
        return None

    def wait(self, seconds: float = LONGEST) -> Ended:
        """Waits for its end, and after so many seconds ends it, with the stacks of its threads on
        stderr."""
        status = self._server.status(self.pid, seconds)
        hung = status is None
        if hung:
            self.send(signal.SIGUSR2)
            time.sleep(1)
            self.send(signal.SIGKILL)
            status = self._server.status(self.pid, LONGEST)
        strikes = [line.split(" ", 3) for line in self._text("strikes").splitlines()]
        found = [(int(n), kind, int(error), path) for n, kind, error, path in strikes]
        status = status if status is not None else -signal.SIGKILL
        return Ended(status, self.out(), self.err(), found, hung)


class Server:
    """A fork server, and where its processes write what they print.

    Args:
      place: the folder for that.
      environment: that of the server; by default this process's with ENVIRONMENT, and with the
        library that lets operations fail.
    """

    def __init__(self, place: Path, environment: Mapping[str, str] | None = None):
        self.place, self.ended = Path(place), {}
        self.place.mkdir(parents=True, exist_ok=True)
        self._count, self._pids, self._news = 0, [], threading.Condition()
        if environment is None:
            environment = {**os.environ, **ENVIRONMENT}
            environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(_cache()))
            if library := rules.compiled():
                environment["LD_PRELOAD"] = str(library)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.fork_server"],
            cwd=ROOT, env={**environment}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        if self._process.stdout.readline() != json.dumps(FIRST_WORDS) + "\n":
            raise RuntimeError("the fork server does not start; its error is above")
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self._process.stdout:
            answer = json.loads(line)
            with self._news:
                if "status" in answer:
                    self.ended[answer["pid"]] = answer["status"]
                else:
                    self.ended.pop(answer["pid"], None)  # of a process that had this number before
                    self._pids.append(answer["pid"])
                self._news.notify_all()

    def start(
        self,
        *argv: str,
        rule: rules.Rule | None = None,
        call: str = DOOR,
        folder: Path = ROOT,
        environment: Mapping[str, str] | None = None,
    ) -> Process:
        """Starts a process; it is the program with these arguments unless `call` names another.

        `environment` is added to that of the server. What reads it when it is imported, such as
        jax its own variables, does not see it.
        """
        with self._news:
            self._count += 1
            output = self.place / f"process{self._count}"
            about = dataclasses.asdict(rule) if rule else {}
            own = dict(environment or {})
            command = Command(call, [*map(str, argv)], str(output), str(folder), own, about)
            self._process.stdin.write(json.dumps(dataclasses.asdict(command)) + "\n")
            self._process.stdin.flush()
            if not self._news.wait_for(lambda: self._pids, LONGEST):
                raise RuntimeError("the fork server does not answer")
            return Process(self, self._pids.pop(), output)

    def status(self, pid: int, seconds: float) -> int | None:
        """The exit status of a process; None if it has not ended after so many seconds."""
        with self._news:
            self._news.wait_for(lambda: pid in self.ended, seconds)
            return self.ended.get(pid)

    def close(self) -> None:
        """Ends the server and with it all of its processes; removes what they printed."""
        self._process.stdin.close()
        self._process.wait(30)
        shutil.rmtree(self.place, ignore_errors=True)


def _cache() -> Path:
    """Where compiled programs are kept from one soak to the next."""
    return Path(tempfile.gettempdir()) / f"gan_jax_soak_{os.getuid()}"

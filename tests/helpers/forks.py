"""Processes of the program that need not import it: the fork server of the soak starts them.

Importing takes seconds of a processor, which the tests of processes would spend dozens of times.
"""

import atexit
import functools
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.soak.processes import DOOR, Process, Server


@functools.cache
def server() -> Server:
    """That of this process; it is started by the first call and ends with it."""
    environment = {**os.environ, "XLA_FLAGS": one_device_flags(), "OPENBLAS_NUM_THREADS": "1"}
    made = Server(Path(tempfile.mkdtemp(prefix="gan_jax_forks_")), environment)
    atexit.register(made.close)
    return made


def one_device_flags() -> str:
    """XLA_FLAGS of this environment without the eight devices of the test session."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    return " ".join(flag for flag in flags if "device_count" not in flag)


class Forked:
    """A process, with the attributes of subprocess.Popen that tests use.

    Args:
      argv: the words after launch.py, or those of the function that `call` names.
      call: "module:function".
      environment: added to that of the session with one device.
    """

    def __init__(
        self, *argv: object, call: str = DOOR, environment: Mapping[str, str] | None = None
    ):
        self.args = ["launch.py", *map(str, argv)]
        self._process: Process = server().start(
            *self.args[1:], call=call, environment=environment or {}
        )
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for the number of a signal; None while it runs."""
        return server().ended.get(self.pid)

    poll = returncode.fget

    def send_signal(self, number: int) -> None:
        """Sends a signal, if it still runs."""
        self._process.send(number)

    def wait(self, seconds: float = 420) -> int:
        """Its exit status; it is ended if it has not ended after so many seconds."""
        return self._process.wait(seconds).status

    @property
    def printed(self) -> tuple[str, str]:
        """What it has printed so far, as (stdout, stderr)."""
        return self._process.out(), self._process.err()

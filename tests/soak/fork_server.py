"""Starts processes of the program in milliseconds: everything is imported once, then forked.

    python -m tests.soak.fork_server

Each line on stdin is a command, a JSON object with the attributes of `Command`; the server answers
on stdout with {"pid": …}, and when that process has ended with {"pid": …, "status": …}, which is
negative for the number of a signal. No device of jax is opened and no thread is started before a
fork, so a child does what a process of its own would do.
"""

import ctypes
import dataclasses
import faulthandler
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import sys
from pathlib import Path

from tests.soak import rules

FIRST_WORDS = "imported"  # the server's first line, before its answers
PR_SET_PDEATHSIG = 1


@dataclasses.dataclass(frozen=True)
class Command:
    """What a child does.

    Attributes:
      call: "module:function"; the function is called without arguments and reads sys.argv.
      argv: its words.
      output: the files that get stdout and stderr are this path with .out and .err; strikes are
        reported in .strikes.
      folder: the working directory.
      environment: what is set in it before the call.
      rule: attributes of `rules.Rule`; {}: nothing is struck.
    """

    call: str
    argv: list[str]
    output: str
    folder: str
    environment: dict = dataclasses.field(default_factory=dict)
    rule: dict = dataclasses.field(default_factory=dict)


def import_everything() -> None:
    """Imports all of gan_jax, and what it imports later when it is used."""
    import gan_jax

    for module in pkgutil.walk_packages(gan_jax.__path__, "gan_jax."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    from PIL import Image

    from gan_jax import config as configs
    from gan_jax.report import curves

    Image.init()
    # the fonts are found and measured
    row = {"step": 1, "kind": "train", "wall_time": 0.0, "loss/gen": 0.1, "rate/gen": 1e-4}
    curves.draw([row, {**row, "step": 1000}])
    for name in configs.SYSTEMS:
        configs.SYSTEMS[name]


def child(command: Command) -> None:
    """Becomes the program; does not return."""
    # in a group of its own, and gone if the server goes
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{command.output}.{name}", flags, 0o644), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    os.chdir(command.folder)
    os.environ.update(command.environment)
    sys.argv = ["launch.py", *command.argv]
    module, _, name = command.call.partition(":")
    function = getattr(importlib.import_module(module), name)
    if command.rule:
        listed = {k: tuple(v) if isinstance(v, list) else v for k, v in command.rule.items()}
        rules.arm(rules.Rule(**listed), Path(f"{command.output}.strikes"))
    function()
    sys.exit(0)


def serve() -> int:
    """Answers commands until stdin ends. Returns 1 in a child whose program has returned."""
    answers = os.dup(1)
    os.dup2(2, 1)

    def say(answer: dict | str) -> None:
        os.write(answers, json.dumps(answer).encode() + b"\n")

    import_everything()
    gc.freeze()
    tasks = Path("/proc/self/task")
    if tasks.exists() and len(os.listdir(tasks)) > 1:
        raise RuntimeError("an import has started a thread, which a child would lack")
    say(FIRST_WORDS)
    buffer, living = b"", set()
    while True:
        ready, _, _ = select.select([0], [], [], 0.01 if living else None)
        if ready:
            if not (data := os.read(0, 65536)):
                return 0
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                pid = os.fork()
                if not pid:
                    os.close(answers)
                    child(Command(**json.loads(line)))
                living.add(pid)
                say({"pid": pid})
        while living:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            living.discard(pid)
            say({"pid": pid, "status": os.waitstatus_to_exitcode(status)})


if __name__ == "__main__":
    sys.exit(serve())

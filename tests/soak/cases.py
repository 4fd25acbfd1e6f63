"""Cases of the soak, what came of them, and the order in which they are tried."""

import dataclasses
import itertools
import shutil
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from tests.soak import rules, runs
from tests.soak.processes import Ended, Process, Server
from tests.soak.programs import PROGRAMS, Program

COMPILED = "compiling the training step took"


class Result:
    """What a case has injected, and what was not survived, by rows of the table."""

    def __init__(self) -> None:
        self.injected: Counter[str] = Counter()
        self.findings: list[tuple[str, str]] = []

    def add(self, row: str, faults: list[str], injected: int = 1) -> None:
        """Counts faults that were injected; `faults` says what was wrong afterwards, if anything.

        Where several were injected at once, one of them counts as not survived.
        """
        self.injected[row] += injected
        if faults:
            shown = "; ".join(faults[:4]) + (f" and {len(faults) - 4} more" if faults[4:] else "")
            self.findings.append((row, shown))


@dataclasses.dataclass(frozen=True)
class Reference:
    """A run that nobody disturbed.

    Attributes:
      folder: where it lies, to be copied and not to be changed.
      content: what it holds, as `runs.content` says.
      seconds: how long its process took.
      operations: (kind, path) of all its operations on its files.
    """

    folder: Path
    content: dict[str, Any]
    seconds: float
    operations: list[tuple[str, str]]

    def count(self, pattern: str, kinds: tuple[str, ...]) -> int:
        """How many operations a rule with this pattern and these kinds fits."""
        return sum(kind in kinds and fnmatchcase(path, pattern) for kind, path in self.operations)


class References:
    """The undisturbed runs, made when they are first asked for; shared by all workers.

    Args:
      place: where they lie.
      timed: whether a run that had to compile is made again, so that it says how long others take.
    """

    def __init__(self, place: Path, timed: bool = True):
        self._timed = timed
        self._place, self._made, self._lock = place, {}, threading.Lock()
        self._numbers = itertools.count()
        self._locks: dict[Any, threading.Lock] = {}

    def get(self, server: Server, program: Program, **settings: Any) -> Reference:
        """The run of a program with these settings. Raises RuntimeError if it does not end well."""
        key = (program.name, *sorted(settings.items()))
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._made:
                self._made[key] = self._run(server, program, next(self._numbers), settings)
            return self._made[key]

    def _run(self, server: Server, program: Program, number: int, settings: dict) -> Reference:
        folder = self._place / f"reference{number}_{program.name}"
        for _ in range(2):
            shutil.rmtree(folder, ignore_errors=True)
            trace = rules.Rule(str(folder), "trace")
            began = time.monotonic()
            done = server.start(*program.command(folder, **settings), rule=trace).wait()
            if faults := done.faults(0):
                raise RuntimeError(f"{program.name} does not train without faults: {faults[0]}")
            if COMPILED not in done.out or not self._timed:
                break
        seconds = time.monotonic() - began
        operations = [(kind, path) for _, kind, _, path in done.strikes]
        return Reference(folder, runs.content(folder), seconds, operations)


class Bench:
    """Where a worker tries its cases: a fork server and a folder; what all workers share."""

    def __init__(self, server: Server, place: Path, references: References, systems: list[str]):
        self.server, self.place, self._references = server, Path(place), references
        self.programs = [program for name, program in PROGRAMS.items() if name in systems]
        self._numbers = itertools.count()

    def program(self, rng: np.random.Generator, *names: str) -> Program:
        """A program, one that is cheap more often than one that takes long; of `names`, if any are
        given and among those of this soak."""
        chosen = [p for p in self.programs if p.name in names] or self.programs
        weights = np.array([1 / program.cost for program in chosen])
        return chosen[int(rng.choice(len(chosen), p=weights / weights.sum()))]

    def reference(self, program: Program, **settings: Any) -> Reference:
        """The undisturbed run of a program with these settings."""
        return self._references.get(self.server, program, **settings)

    def folder(self) -> Path:
        """A path at which nothing is yet."""
        return self.place / f"run{next(self._numbers)}"

    def start(self, program: Program, folder: Path, rule=None, **settings: Any) -> Process:
        """The process that trains a program in a folder."""
        return self.server.start(*program.command(folder, **settings), rule=rule)

    def run(self, program: Program, folder: Path, rule=None, **settings: Any) -> Ended:
        """How the process that trains a program in a folder ends."""
        return self.start(program, folder, rule, **settings).wait()

    def continued(
        self, program: Program, folder: Path, beside: str = "", without: str = "", **settings
    ) -> list[str]:
        """Gives the command again, undisturbed; says what is wrong with how that ends, and where
        the folder then differs from that of the undisturbed run, as `runs.differences` does."""
        done = self.run(program, folder, **settings)
        if faults := done.faults(0):
            return ["the same command does not go on", *faults]
        wanted = self.reference(program, **settings).content
        return runs.differences(wanted, folder, beside, without)


Do = Callable[[Bench, np.random.Generator, Result], None]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of case.

    Attributes:
      name: as `--only` names it.
      share: the part of the time that goes to it, relative to those of the others.
      do: tries one case, chosen by the generator, and adds what came of it to the result.
    """

    name: str
    share: float
    do: Do


def try_case(bench: Bench, kind: Kind, seed: int, number: int) -> Result:
    """Case `number` of a kind; it is a function of the seed and the number.

    An error of the harness itself is a finding too.
    """
    rng = np.random.default_rng([seed, zlib.crc32(kind.name.encode()), number])
    result, place = Result(), bench.place
    bench.place = place / f"{kind.name}-{number}"
    bench.place.mkdir(parents=True)
    try:
        kind.do(bench, rng, result)
    except Exception as error:
        result.add(kind.name, [f"the harness failed: {type(error).__name__}: {error}"[:500]])
    if not result.findings:
        shutil.rmtree(bench.place, ignore_errors=True)
    bench.place = place
    return result

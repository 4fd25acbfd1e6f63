"""Injects faults into training processes, and tells which were survived.

    python -m tests.soak --seconds=1200 --seed=0 --systems=all
    python -m tests.soak --seed=0 --only=kill:17,long:0        these cases again

Ends with a table and the line "N of N survived"; the exit status is 1 if a fault was not. Case k of
a kind is a function of (seed, kind, k). Folders of cases that found something are kept.
"""

import argparse
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from itertools import chain
from pathlib import Path

from tests.soak import configs, damage, disk, kills, neighbours, others, signals
from tests.soak.cases import Bench, Kind, References, Result, try_case
from tests.soak.long_run import LONG
from tests.soak.processes import Server
from tests.soak.programs import PROGRAMS

MODULES = (kills, disk, damage, signals, neighbours, configs, others)
KINDS = {kind.name: kind for kind in chain.from_iterable(module.KINDS for module in MODULES)}

FIRST_GUESS = 20.0  # seconds of a case
BETWEEN_LINES = 60.0  # seconds between two lines of progress
LONGEST_SHOWN = 600  # characters of a finding
LONGEST_RUN = 150.0  # seconds of the time that are kept for the long run


class Soak:
    """All cases of one soak, tried by workers until the time is over."""

    def __init__(self, place: Path, seed: int, systems: list[str], kinds: list[Kind]):
        self.place, self.seed, self.systems, self.kinds = place, seed, systems, kinds
        self.injected: Counter[str] = Counter()
        self.findings: list[tuple[str, str, str]] = []  # row, case, what was seen
        self._spent, self._tried = Counter(), Counter()
        self._began = self._told = time.monotonic()
        self._references, self._lock = References(place, bool(kinds)), threading.Lock()

    def _next(self) -> tuple[Kind, int, float]:
        """The kind whose share of the time is furthest behind, the number of its next case, and the
        seconds that are counted for it until it has ended."""
        with self._lock:
            kind = min(self.kinds, key=lambda k: (self._spent[k.name] / k.share, -k.share))
            number = self._tried[kind.name]
            # counted before it ends, so that two workers do not choose the same kind
            guess = self._spent[kind.name] / number if number else FIRST_GUESS
            self._spent[kind.name] += guess
            self._tried[kind.name] += 1
            return kind, number, guess

    def _done(self, kind: Kind, number: int, result: Result, seconds: float) -> None:
        with self._lock:
            self._spent[kind.name] += seconds
            self.injected += result.injected
            self.findings += [(row, f"{kind.name}:{number}", text) for row, text in result.findings]
            now = time.monotonic()
            if now > self._told + BETWEEN_LINES:
                self._told = now
                print(f"after {now - self._began:.0f} s: {self.survived()}", flush=True)
        for row, text in result.findings:
            print(f"NOT SURVIVED {kind.name}:{number} ({row}): {text[:LONGEST_SHOWN]}", flush=True)

    def work(self, worker: int, until: float) -> None:
        """Tries cases until the moment `until` of the clock time.monotonic."""
        server = Server(self.place / f"server{worker}")
        bench = Bench(server, self.place / f"worker{worker}", self._references, self.systems)
        try:
            while time.monotonic() < until:
                kind, number, guess = self._next()
                began = time.monotonic()
                result = try_case(bench, kind, self.seed, number)
                self._done(kind, number, result, time.monotonic() - began - guess)
        finally:
            server.close()

    def these(self, cases: list[tuple[Kind, int]]) -> None:
        """Tries these cases and no others."""
        if not cases:
            return
        server = Server(self.place / "server")
        bench = Bench(server, self.place / "worker", self._references, self.systems)
        try:
            for kind, number in cases:
                self._done(kind, number, try_case(bench, kind, self.seed, number), 0)
        finally:
            server.close()

    def table(self) -> str:
        """A row for each class of fault, in Markdown, and the last line."""
        lines = ["| fault | injected | survived | what was seen otherwise |", "|---|---|---|---|"]
        for row, count in sorted(self.injected.items()):
            found = [(case, text) for name, case, text in self.findings if name == row]
            seen = f"{found[0][0]}: {found[0][1][:160]}" if found else ""
            lines.append(f"| {row} | {count} | {count - len(found)} | {seen} |")
        return "\n".join([*lines, "", self.survived()])

    def survived(self) -> str:
        """How many of the faults so far were survived."""
        total = self.injected.total()
        return f"{total - len(self.findings)} of {total} survived"


def parse(words: list[str] | None) -> argparse.Namespace:
    """The flags, with `systems` and `only` as lists of names that exist."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--systems", default="all", help=f"all, or some of {','.join(PROGRAMS)}")
    parser.add_argument("--only", default="", help="kinds of cases, or cases as kind:number")
    parser.add_argument("--workers", type=int, default=2)
    flags = parser.parse_args(words)
    flags.systems = [*PROGRAMS] if flags.systems == "all" else flags.systems.split(",")
    flags.only = flags.only.split(",") if flags.only else [*KINDS, LONG.name]
    kinds = {item.partition(":")[0] for item in flags.only}
    for name in {*flags.systems} - {*PROGRAMS} | kinds - {*KINDS, LONG.name}:
        accepted = ", ".join((*PROGRAMS, *KINDS, LONG.name))
        parser.error(f"{name}: there are {accepted}")
    return flags


def main(words: list[str] | None = None) -> int:
    """Runs a soak as the command line says; returns the exit status."""
    flags = parse(words)
    place = Path(tempfile.mkdtemp(prefix="gan_jax_soak_")).resolve()
    pairs = [item.partition(":")[::2] for item in flags.only]
    kinds = [KINDS[name] for name, number in pairs if name in KINDS and not number]
    soak = Soak(place, flags.seed, flags.systems, kinds)
    known = {**KINDS, LONG.name: LONG}
    soak.these([(known[name], int(number)) for name, number in pairs if number])
    if kinds:
        reserved = LONGEST_RUN if LONG.name in flags.only else 0
        until = time.monotonic() + max(flags.seconds - reserved, 0)
        numbers = range(flags.workers)
        workers = [threading.Thread(target=soak.work, args=(n, until)) for n in numbers]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    if LONG.name in flags.only:  # by its name alone
        soak.these([(LONG, 0)])  # with the machine for itself
    print(soak.table(), flush=True)
    if soak.findings:
        print(f"folders of what was not survived: {place}", flush=True)
    else:
        shutil.rmtree(place, ignore_errors=True)
    return 1 if soak.findings else 0


if __name__ == "__main__":
    sys.exit(main())

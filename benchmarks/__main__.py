"""Times of everything that gan_jax does, beside plain PyTorch code of the same networks and steps.

    make bench                             sets up an environment with PyTorch, then measures all
    make bench SYSTEM=pix2pix
    python -m benchmarks --system=pix2pix,diffusion_32 --parts=step,sample --seconds=20
    python -m benchmarks --small           tries all of it out with tiny networks

Contenders run in turn, PyTorch's in a process of their own, so that a busy machine favours none of
them; before, their losses must agree for the same weights and draws. docs/performance.md explains
the table. If other programs are running, PyTorch's threads wait for each other, up to tens of times
as long. It is fair then to restrict all contenders to one core: taskset -c 0 python -m benchmarks …
"""

import argparse
import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from benchmarks import apart, around, cases, commands, machine, step, table, timing
from benchmarks.cases import Case, torch_is_here
from benchmarks.details import (
    Detail,
    attention,
    convolutions,
    growing,
    inception,
    norm,
    onednn,
    passes,
    reading,
    theirs,
    warp,
)
from gan_jax.errors import UserError, near_miss
from gan_jax.modes import streams

Part = Callable[[step.Opened], dict[str, Any]]
PARTS: dict[str, Part] = {
    "step": step.measure,
    "sample": around.sample,
    "compile": commands.measure,
    "data": around.read,
    "checkpoint": around.checkpoint,
}
DETAILS_PART = "details"
MODULES = (convolutions, onednn, norm, attention, warp, inception, growing, passes, reading)
DETAILS: tuple[Detail, ...] = tuple(detail for module in MODULES for detail in module.DETAILS)
PEAK_SECONDS = 2.0


def parsed(words: list[str]) -> argparse.Namespace:
    """The command line. Raises UserError for a part that does not exist."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.split("\n")[0]
    )
    known = [*PARTS, DETAILS_PART]
    parser.add_argument("--system", default="all", help="systems, cases or details; all")
    parser.add_argument("--parts", default=",".join(known))
    parser.add_argument("--seconds", type=float, default=10.0, help="of each race")
    parser.add_argument("--small", action="store_true", help="tiny networks, to try it out")
    parser.add_argument("--json", default="", help="file for all figures; the tables lie beside it")
    parser.add_argument("--remark", default="", help="a sentence about this run, for the table")
    parser.add_argument("--list", action="store_true", help="only list what can be measured")
    options = parser.parse_args(words)
    options.parts = [part.strip() for part in options.parts.split(",") if part.strip()]
    for part in options.parts:
        if part not in known:
            raise UserError(
                f"--parts={part}: accepted are {', '.join(known)}{near_miss(part, known)}"
            )
    return options


def chosen(options: argparse.Namespace) -> tuple[list[Case], list[Detail]]:
    """The cases and the details that are asked for. Raises UserError for a wrong name."""
    found = cases.chosen(options.system, (*cases.CASES, *DETAILS))
    here = [c for c in found if isinstance(c, Case)]
    here = [c for c in here if machine.accelerated() or not c.needs_accelerator]
    return here, [d for d in found if isinstance(d, Detail)]


def measured(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """All parts of a case that are asked for.

    Raises UserError where PyTorch computes something else.
    """
    found: dict[str, Any] = {"title": case.title, "system": case.system, "config": case.config}
    with contextlib.closing(step.Opened(case, options.seconds, options.small)) as opened:
        for part in options.parts:
            if part in PARTS:
                told(f"{case.name}: {part}")
                found[part] = PARTS[part](opened)
    return found


def detailed(detail: Detail, options: argparse.Namespace) -> dict[str, Any]:
    """A row of the second table."""
    told(f"{detail.name}: {detail.title}")
    with contextlib.ExitStack() as stack:
        contenders = dict(detail.make(options.small))
        if detail.torch and torch_is_here() and not machine.accelerated():
            process = apart.Apart(theirs, detail.make, options.small)
            stack.enter_context(contextlib.closing(process))
            contenders |= process.contenders()[0]
        times = timing.race(contenders, options.seconds / 4)
    return {
        "title": detail.title,
        "images": 0 if options.small else detail.images,
        "times": {name: found.summary() for name, found in times.items()},
    }


def told(line: str) -> None:
    """Says on stderr what is being measured."""
    print(line, file=sys.stderr, flush=True)


def run(options: argparse.Namespace, keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Measures all that is asked for; `keep` is given the results after each case and detail."""
    here, details = chosen(options)
    results: dict[str, Any] = {
        "when": time.strftime("%Y-%m-%d %H:%M"),
        "machine": machine.describe(),
        "small": options.small,
        "seconds": options.seconds,
        "remark": options.remark,
        "peaks": machine.peaks(PEAK_SECONDS, 128 if options.small else 0),
        "cases": {},
        "details": {},
    }
    for case in here if {*options.parts} & {*PARTS} else []:
        results["cases"][case.name] = measured(case, options)
        keep(results)
        jax.clear_caches()
    for detail in details if DETAILS_PART in options.parts else []:
        results["details"][detail.name] = detailed(detail, options)
        keep(results)
        jax.clear_caches()
    return results


def main(words: list[str]) -> int:
    """The exit status."""
    # PyTorch and the processes that are started need memory on the same device
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        options = parsed(words)
        if options.list:
            for entry in (*cases.CASES, *DETAILS):
                print(f"{entry.name:24s} {entry.system:18s} {entry.title}")
            return 0

        def keep(results: dict[str, Any]) -> None:
            if options.json:
                path = Path(options.json)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(results, indent=1) + "\n")
                path.with_suffix(".md").write_text(table.markdown(results))

        results = run(options, keep)
    except UserError as error:
        told(f"error: {error}")
        return 1
    keep(results)
    print(table.markdown(results), end="")
    return 0


if __name__ == "__main__":
    streams.make_lasting()  # the list may be read by `head`
    logging.getLogger("jax").setLevel(logging.ERROR)
    sys.exit(main(sys.argv[1:]))

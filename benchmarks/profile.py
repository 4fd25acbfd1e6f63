"""What the device does while training steps follow each other, from a trace of the profiler.

    python -m benchmarks.profile --system=pix2pix_256,progan,diffusion_32 --out=runs/profile

Steps are called as the training loop calls them: none waits for the one before. On a GPU or TPU the
table says how busy the device was and how long it waited between programs. On a CPU the trace has
no device, and the table says what it contains. The traces themselves open in Perfetto.
"""

import argparse
import gzip
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from benchmarks import cases, machine, table
from benchmarks.ours import Ours
from gan_jax.errors import UserError

STEPS = 10
Event = Mapping[str, Any]


class Span(NamedTuple):
    """A time in microseconds."""

    start: float
    end: float


def traced(step: Ours, folder: Path) -> float:
    """Seconds of a step, over STEPS of them that are recorded into `folder`."""
    step.compile()
    for _ in range(2):
        metrics = step.step()
    jax.block_until_ready(metrics)
    with jax.profiler.trace(str(folder)):
        began = time.perf_counter()
        for number in range(STEPS):
            with jax.profiler.StepTraceAnnotation("train", step_num=number):
                metrics = step.step()
        jax.block_until_ready((step.carry, metrics))
        seconds = time.perf_counter() - began
    return seconds / STEPS


def events(folder: Path) -> list[Event]:
    """The events of the newest trace in a folder. Raises UserError if there is none."""
    found = sorted(folder.rglob("*.trace.json.gz"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError(f"{folder}: the profiler wrote no *.trace.json.gz")
    with gzip.open(found[-1], "rt") as file:
        return json.load(file)["traceEvents"]


def names(found: Iterable[Event], kind: str) -> dict[tuple[int, ...], str]:
    """Names of processes ("process_name", by pid) or threads ("thread_name", by pid and tid)."""
    keys = ("pid",) if kind == "process_name" else ("pid", "tid")
    return {
        tuple(event[key] for key in keys): event["args"]["name"]
        for event in found
        if event.get("ph") == "M" and event.get("name") == kind
    }


def device_spans(found: list[Event]) -> list[Span]:
    """When the devices' programs ran, sorted; [] for a trace without a device."""
    processes, threads = names(found, "process_name"), names(found, "thread_name")
    devices = {pid for (pid,), name in processes.items() if name.startswith("/device:")}
    # lines such as "Steps" repeat others; kernels are on those of the streams and operations
    lines = {
        key
        for key, name in threads.items()
        if key[0] in devices and (name.startswith("Stream") or name == "XLA Ops")
    }
    return sorted(
        Span(event["ts"], event["ts"] + event.get("dur", 0))
        for event in found
        if event.get("ph") == "X" and (event["pid"], event["tid"]) in lines
    )


def gaps(spans: list[Span]) -> list[float]:
    """Microseconds of each pause between spans, which are sorted and may overlap."""
    found, end = [], spans[0].end if spans else 0.0
    for span in spans[1:]:
        if span.start > end:
            found.append(span.start - end)
        end = max(end, span.end)
    return found


def read(found: list[Event]) -> dict[str, Any]:
    """What a trace says: of a device, its busy share and its pauses; otherwise what it contains."""
    spans = device_spans(found)
    if spans:
        pauses, whole = gaps(spans), max(s.end for s in spans) - spans[0].start
        return {
            "kernels": len(spans) / STEPS,
            "busy": 1 - sum(pauses) / whole if whole else 1.0,
            "waited_ms": sum(pauses) / 1e3 / STEPS,
            "longest_pause_ms": max(pauses, default=0.0) / 1e3,
        }
    processes, threads = names(found, "process_name"), names(found, "thread_name")
    counted = Counter(
        (processes.get((e["pid"],), "?"), threads.get((e["pid"], e["tid"]), "?").split("/")[0])
        for e in found
        if e.get("ph") == "X"
    )
    return {"events": {f"{p}, {t}": count for (p, t), count in counted.most_common(5)}}


def line(name: str, seconds: float, found: Mapping[str, Any]) -> list[str]:
    """A row of the table."""
    if "events" in found:
        content = "; ".join(
            f"{count} events of {place}" for place, count in found["events"].items()
        )
        return [name, table.number(1e3 * seconds), f"no device in the trace: {content or 'empty'}"]
    said = (
        f"{found['kernels']:.0f} kernels; busy {100 * found['busy']:.1f} %; waited "
        f"{found['waited_ms']:.2f} ms, at most {found['longest_pause_ms']:.2f} ms at a time"
    )
    return [name, table.number(1e3 * seconds), said]


def main(words: list[str]) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--system", default="pix2pix_256,progan,diffusion_32")
    parser.add_argument("--out", default="runs/profile", help="folder of the traces and the table")
    parser.add_argument("--small", action="store_true", help="tiny networks, to try it out")
    options = parser.parse_args(words)
    rows, results = [], {}
    try:
        for case in cases.chosen(options.system):
            if case.needs_accelerator and not machine.accelerated():
                continue
            experiment = case.experiment(options.small)
            folder = Path(options.out) / case.name
            seconds = traced(Ours(experiment), folder)
            results[case.name] = {"seconds": seconds, **read(events(folder))}
            rows.append(line(case.name, seconds, results[case.name]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    made = table.rows(["step of", "ms", "the device, for each step"], rows) + "\n"
    (Path(options.out) / "profile.json").write_text(json.dumps(results, indent=1) + "\n")
    (Path(options.out) / "profile.md").write_text(made)
    print(made, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

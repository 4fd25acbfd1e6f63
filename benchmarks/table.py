"""What was measured, as Markdown: one table of cases, and one of details."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.step import PLAIN, best

Results = Mapping[str, Any]  # as the JSON holds them, see benchmarks/__main__.py
NONE = "–"


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits, in plain notation; whole numbers as they are, and a
    dash for None."""
    if value is None:
        return NONE
    if isinstance(value, int) or value == 0:
        return f"{value:,.0f}"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:,.{max(decimals, 0)}f}"


def _of(case: Mapping[str, Any], *path: str) -> Any:
    """The value at a path of keys, None if any of them is missing."""
    found: Any = case
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _times(case: Mapping[str, Any], part: str, name: str = "gan_jax") -> Mapping[str, float] | None:
    return _of(case, part, "times", name)


def rate(case: Mapping[str, Any], part: str) -> float | None:
    """Images a second of a part, by the median."""
    times = _times(case, part)
    return None if times is None else case[part]["images"] / times["median"]


def share(case: Mapping[str, Any], peaks: Mapping[str, float]) -> float | None:
    """The share of the machine's measured peak in float32 that our step reaches."""
    times, work = _times(case, "step"), _of(case, "step", "operations")
    if times is None or not work or not peaks.get("float32"):
        return None
    return work / times["median"] / peaks["float32"]


def against_torch(case: Mapping[str, Any], part: str, name: str = "gan_jax") -> float | None:
    """The median time of one of ours as a multiple of that of PyTorch's fastest contender."""
    ours = _times(case, part, name)
    theirs = best(_of(case, part, "times") or {})
    return None if ours is None or theirs is None else ours["median"] / theirs[1]


def _scaled(factor: float, *path: str) -> Callable[[Mapping[str, Any]], str]:
    def cell(case: Mapping[str, Any]) -> str:
        value = _of(case, *path)
        return number(None if not value else factor * value)

    return cell


def columns(peaks: Mapping[str, float]) -> dict[str, Callable[[Mapping[str, Any]], str]]:
    """The columns of the table of cases: title, and the cell of a case."""

    def percent(case: Mapping[str, Any]) -> str:
        value = share(case, peaks)
        return NONE if value is None else f"{100 * value:.0f} %"

    def fastest_torch(case: Mapping[str, Any]) -> str:
        found = best(_of(case, "step", "times") or {})
        return NONE if found is None else f"{number(1e3 * found[1])} ({found[0]})"

    ours = ("step", "times", "gan_jax")
    return {
        "images": lambda case: number(_of(case, "step", "images")),
        "step, ms": _scaled(1e3, *ours, "median"),
        "fastest": _scaled(1e3, *ours, "fastest"),
        "spread": _scaled(1e3, *ours, "spread"),
        "images/s": lambda case: number(rate(case, "step")),
        "GFLOP": _scaled(1e-9, "step", "operations"),
        "of peak": percent,
        "best PyTorch, ms": fastest_torch,
        "of PyTorch's time": lambda case: number(against_torch(case, "step")),
        "without oneDNN": lambda case: number(against_torch(case, "step", PLAIN)),
        "step, MB": _scaled(1e-6, "step", "memory"),
        "process, MB": _scaled(1e-6, "compile", "process"),
        "compile, s": _scaled(1, "compile", "cold"),
        "compile again, s": _scaled(1, "compile", "cached"),
        "first step, s": _scaled(1, "compile", "first_step_cold"),
        "first step again, s": _scaled(1, "compile", "first_step_cached"),
        "data, images/s": lambda case: number(rate(case, "data")),
        "a save holds, ms": _scaled(1e3, "checkpoint", "held", "median"),
        "on disk, s": _scaled(1, "checkpoint", "written", "median"),
        "samples/s": lambda case: number(rate(case, "sample")),
        "samples, of PyTorch's time": lambda case: number(against_torch(case, "sample")),
    }


def markdown(results: Results) -> str:
    """The machine in words, the table of cases and the table of details, without those that hold
    nothing."""
    parts = [machine(results)]
    if results["cases"]:
        parts.append(_cases(results["cases"], results["peaks"]))
        parts += _all_contenders(results["cases"])
    if results["details"]:
        parts.append(_details(results["details"]))
    return "\n\n".join(parts) + "\n"


def machine(results: Results) -> str:
    """The machine, its peaks and what is missing, in a few lines."""
    words = results["machine"]
    libraries = ("jax", "jaxlib", "torch", "onednn")
    versions = ", ".join(f"{name} {words[name]}" for name in libraries if name in words)
    cores = f"{words['cores']} core{'' if words['cores'] == '1' else 's'}"
    lines = [f"{words['device']}, {cores}, {words['system']}; {versions}."]
    peaks = [f"{value / 1e9:,.0f} GFLOP/s in {name}" for name, value in results["peaks"].items()]
    if peaks:
        lines.append(f"A large product of matrices: {' and '.join(peaks)}.")
    if "allocator" in words:
        lines.append(f"The memory of all processes is from {words['allocator']}.")
    if results["small"]:
        lines.append("The networks are small ones, to try the benchmark out: --small.")
    if "torch" not in words:
        lines.append(
            "PyTorch is not installed, so gan_jax was timed alone: "
            "pip install -r benchmarks/requirements-bench.txt"
        )
    if results.get("remark"):
        lines.append(results["remark"])
    return "\n".join(lines)


def rows(head: list[str], cells: list[list[str]]) -> str:
    """A table with a row of titles."""
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cases(cases: Mapping[str, Any], peaks: Mapping[str, float]) -> str:
    """The table of cases, without columns that no case has anything for."""
    cells = {
        title: [cell(case) for case in cases.values()] for title, cell in columns(peaks).items()
    }
    shown = [title for title, column in cells.items() if {*column} != {NONE}]
    made = [
        [f"{name}: {case['title']}", *(cells[title][place] for title in shown)]
        for place, (name, case) in enumerate(cases.items())
    ]
    return rows(["case", *shown], made)


def _all_contenders(cases: Mapping[str, Any]) -> list[str]:
    """The table of every contender of every step, if there is more than ours."""
    made = []
    for name, case in cases.items():
        found = _of(case, "step", "times") or {}
        if len(found) > 1:
            made += [[name, *_cells(title, times, found)] for title, times in found.items()]
        for title, reason in (_of(case, "step", "left_out") or {}).items():
            made.append([name, title, NONE, NONE, NONE, f"left out: {reason}"])
    head = ["step of", "contender", "median, ms", "fastest", "spread", "of the first one's time"]
    return [rows(head, made)] if made else []


def _cells(
    title: str, times: Mapping[str, float], found: Mapping[str, Mapping[str, float]]
) -> list[str]:
    first = next(iter(found.values()))
    figures = [number(1e3 * times[key]) for key in ("median", "fastest", "spread")]
    return [title, *figures, number(times["median"] / first["median"])]


def _details(details: Mapping[str, Any]) -> str:
    """The table of details."""
    made = []
    for detail in details.values():
        for title, times in detail["times"].items():
            cells = _cells(title, times, detail["times"])
            images = detail["images"] / times["median"] if detail["images"] else None
            made.append([detail["title"], *cells, number(1e3 * times["cores"]), number(images)])
    head = ["detail", "contender", "median, ms", "fastest", "spread", "of the first one's time"]
    return rows([*head, "ms of processor time", "images/s"], made)

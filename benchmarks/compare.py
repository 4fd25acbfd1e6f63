"""Two results of `python -m benchmarks --json=…`: what has become slower or larger.

    python -m benchmarks.compare BEFORE.json AFTER.json

A time counts as slower if its median grew by more than both spreads together, and by more than
LEAST of it; what was measured only once, if it grew by ONCE of it. Operations and memory are exact:
LEAST is enough. The exit status is 1 if anything is slower or larger.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gan_jax.errors import UserError

LEAST, ONCE = 0.03, 0.25
OURS = "gan_jax"  # contenders of other names are there to be compared with
EXACT = ("operations", "memory")
SINGLE = ("cold", "cached", "first_step_cold", "first_step_cached", "process", "device")


class Figure(NamedTuple):
    """A figure of which less is better, and by how much it may differ from run to run."""

    value: float
    noise: float
    unit: str  # "s", "B" or "" of a count


class Change(NamedTuple):
    """A figure that both results hold."""

    name: str
    before: Figure
    after: Figure

    @property
    def least(self) -> float:
        """From which difference on the two differ."""
        spreads = self.before.noise + self.after.noise
        return max(spreads, LEAST * self.before.value)

    @property
    def worse(self) -> bool:
        """Whether the figure grew by more than its noise."""
        return self.after.value - self.before.value > self.least

    @property
    def better(self) -> bool:
        """Whether it fell by more than its noise."""
        return self.before.value - self.after.value > self.least

    def __str__(self) -> str:
        ratio = self.after.value / self.before.value if self.before.value else float("inf")
        figures = f"{_shown(self.before)} → {_shown(self.after)}"
        return f"{self.name}: {figures} ({ratio:.2f} times; noise {_shown_noise(self)})"


def _shown(figure: Figure) -> str:
    if figure.unit == "s":
        return f"{1e3 * figure.value:,.3g} ms" if figure.value < 1 else f"{figure.value:,.3g} s"
    if figure.unit == "B":
        return f"{figure.value / 1e6:,.4g} MB"
    return f"{figure.value:.4g}"


def _shown_noise(change: Change) -> str:
    return _shown(Figure(change.least, 0, change.before.unit))


def figures(results: Mapping[str, Any]) -> Iterator[tuple[str, Figure]]:
    """All figures of our own programs, by name."""
    for group in ("cases", "details"):
        for name, found in results[group].items():
            yield from _figures(name, found)


def _figures(name: str, found: Mapping[str, Any]) -> Iterator[tuple[str, Figure]]:
    for key, value in found.items():
        place = f"{name}, {key}"
        if key == "times":
            for title, times in value.items():
                if not title.startswith("PyTorch"):
                    yield f"{name}, {title}" if title != OURS else name, _time(times)
        elif isinstance(value, Mapping) and "median" in value:
            yield place, _time(value)
        elif isinstance(value, Mapping):
            yield from _figures(place, value)
        elif key in EXACT and value:
            yield place, Figure(value, 0.0, "B" if key == "memory" else "")
        elif key in SINGLE and value:
            unit = "B" if key in ("process", "device") else "s"
            yield place, Figure(value, ONCE / 2 * value, unit)


def _time(times: Mapping[str, float]) -> Figure:
    return Figure(times["median"], times["spread"], "s")


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Every figure that both results hold."""
    old, new = dict(figures(before)), dict(figures(after))
    return [Change(name, old[name], new[name]) for name in old if name in new]


def warnings(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Lines on why the two may not be comparable."""
    for key in sorted({*before["machine"], *after["machine"]}):
        here, there = (r["machine"].get(key, "none") for r in (before, after))
        if here != there:
            yield f"note: {key} differs: {here}, then {there}"
    if before["small"] != after["small"]:
        yield "note: only one of the two was measured with --small"
    for name in before["peaks"].keys() & after["peaks"].keys():
        ratio = after["peaks"][name] / before["peaks"][name]
        if abs(ratio - 1) > ONCE / 2:
            yield f"note: the peak of the machine in {name} was {ratio:.2f} times as high"


def read(path: str) -> dict[str, Any]:
    """A JSON of the benchmark. Raises UserError if it is not one."""
    try:
        found = json.loads(Path(path).read_text())
        return {key: found[key] for key in ("machine", "small", "peaks", "cases", "details")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: no result of python -m benchmarks --json ({error})") from None


def main(words: list[str]) -> int:
    """The exit status: 1 if anything became worse."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before")
    parser.add_argument("after")
    options = parser.parse_args(words)
    try:
        before, after = read(options.before), read(options.after)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for line in warnings(before, after):
        print(line)
    found = changes(before, after)
    for title, kept in (
        ("slower or larger", [c for c in found if c.worse]),
        ("faster or smaller", [c for c in found if c.better]),
    ):
        for change in kept:
            print(f"{title}: {change}")
    worse = sum(change.worse for change in found)
    print(f"{len(found)} figures compared, {worse} of them slower or larger than noise explains")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

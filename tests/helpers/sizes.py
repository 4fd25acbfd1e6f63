"""How long functions and files are. `python -m tests.helpers.sizes` lists the 25 longest."""

import ast
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "gan_jax"
FILES = [ROOT / "launch.py", *sorted(PACKAGE.rglob("*.py"))]
ALL_CODE = sorted(
    [ROOT / "launch.py"]
    + [
        p
        for name in ("gan_jax", "configs", "tests", "benchmarks")
        for p in (ROOT / name).rglob("*.py")
    ]
)


class Function(NamedTuple):
    """A function or method as it stands in its file."""

    lines: int  # from `def` to its last line
    parameters: int  # without self and cls; *args and **kwargs count as one each
    name: str
    place: str  # file:line


def functions(file: Path) -> list[Function]:
    """Every function of a file, nested ones too."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            a = node.args
            named = [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
            named += [x.arg for x in (a.vararg, a.kwarg) if x]
            count = len([n for n in named if n not in ("self", "cls")])
            place = f"{file.relative_to(ROOT)}:{node.lineno}"
            found.append(Function(node.end_lineno - node.lineno + 1, count, node.name, place))
    return found


def all_functions() -> list[Function]:
    """The functions of launch.py and gan_jax, the longest first."""
    return sorted((f for file in FILES for f in functions(file)), reverse=True)


def file_lengths() -> dict[str, int]:
    """Lines of each file of launch.py, gan_jax and tests, the longest first."""
    files = [*FILES, *sorted((ROOT / "tests").rglob("*.py"))]
    lengths = {str(f.relative_to(ROOT)): len(f.read_text().splitlines()) for f in files}
    return dict(sorted(lengths.items(), key=lambda item: -item[1]))


if __name__ == "__main__":
    for f in all_functions()[:25]:
        print(f"{f.lines:4} lines  {f.parameters} parameters  {f.name}  {f.place}")
    for name, lines in list(file_lengths().items())[:10]:
        print(f"{lines:4} lines  {name}")

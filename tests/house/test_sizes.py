"""The house stays readable: functions that fit on a screen, files that one reads in a sitting."""

from tests.helpers import sizes

LONGEST_FUNCTION = 60
LONGEST_MAKE = 30
MOST_PARAMETERS = 8
LONGEST_FILE = 400  # of tests as well
LONGEST_DOOR = 100  # launch.py
LONGEST_MAP = 150  # docs/architecture.md


def worst(found, limit: int) -> str:
    """Those beyond a limit, for the message of a failing test."""
    return f"over {limit}: " + "; ".join(f"{f.name} {f.place} ({f.lines} lines)" for f in found)


def test_functions_fit_on_a_screen():
    found = sizes.all_functions()
    print("\nlongest:", *(f"{f.lines} {f.name} {f.place}" for f in found[:5]), sep="\n  ")
    long = [f for f in found if f.lines > LONGEST_FUNCTION]
    assert not long, worst(long, LONGEST_FUNCTION)
    makes = [f for f in found if f.name == "make" and "/systems/" in f.place]
    assert len(makes) >= 7
    long = [f for f in makes if f.lines > LONGEST_MAKE]
    assert not long, worst(long, LONGEST_MAKE)


def test_functions_take_few_parameters():
    found = sorted(sizes.all_functions(), key=lambda f: -f.parameters)
    print(
        "\nmost parameters:", *(f"{f.parameters} {f.name} {f.place}" for f in found[:5]), sep="\n  "
    )
    many = [f for f in found if f.parameters > MOST_PARAMETERS]
    assert not many, "; ".join(f"{f.name} {f.place}: {f.parameters}" for f in many)


def test_files_are_read_in_a_sitting():
    lengths = sizes.file_lengths()
    print("\nlongest files:", *list(lengths.items())[:5], sep="\n  ")
    assert {n: k for n, k in lengths.items() if k > LONGEST_FILE} == {}
    assert lengths["launch.py"] <= LONGEST_DOOR
    plan = (sizes.ROOT / "docs/architecture.md").read_text().splitlines()
    assert len(plan) < LONGEST_MAP


def test_a_function_is_a_def():
    """Nothing silences ruff's rule against a lambda with a name."""
    silenced = "noqa: " + "E731"
    assert [str(f) for f in sizes.ALL_CODE if silenced in f.read_text()] == []


def test_the_measure_sees_what_it_measures(tmp_path, monkeypatch):
    monkeypatch.setattr(sizes, "ROOT", tmp_path)
    file = tmp_path / "x.py"
    file.write_text(
        "class A:\n    def f(self, a, *b, c=1, **d):\n        def inner():\n            pass\n"
        "        return a\n"
    )
    outer, inner = sorted(sizes.functions(file), reverse=True)
    assert (outer.lines, outer.parameters, outer.name, outer.place) == (4, 4, "f", "x.py:2")
    assert (inner.lines, inner.parameters) == (2, 0)

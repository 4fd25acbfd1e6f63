"""The tests themselves: the order of their files, and where they share what several need."""

import ast
from pathlib import Path
from types import SimpleNamespace

from tests import conftest
from tests.helpers.shell import ROOT

FILES = sorted((ROOT / "tests").rglob("*.py"))


def test_the_longest_files_exist():
    """A file that is renamed would lose its place at the front without a word."""
    assert [name for name in conftest.LONGEST if not (ROOT / "tests" / name).is_file()] == []
    assert len({*conftest.LONGEST}) == len(conftest.LONGEST)


def test_the_longest_files_come_first():
    """And not a file of the same name in another folder."""
    first, second = conftest.LONGEST[:2]
    others = ["core/test_loop.py", f"data/{Path(first).name}"]
    items = [SimpleNamespace(path=ROOT / "tests" / name) for name in (*others, second, first)]
    conftest.pytest_collection_modifyitems(items)
    found = [item.path.relative_to(ROOT / "tests").as_posix() for item in items]
    assert found == [first, second, *others]


def test_files_of_tests_import_none_of_each_other():
    """What several need lies in tests/helpers."""
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            assert not any(m.rpartition(".")[2].startswith("test_") for m in modules), file

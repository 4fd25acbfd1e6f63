"""Every command and every piece of Python in README and docs is right as it stands there."""

import ast
import builtins
import importlib
from pathlib import Path
from typing import Any

import pytest

from gan_jax import config as configs
from gan_jax.modes import help, parsing
from tests.helpers import doc_commands
from tests.helpers.doc_commands import PAGES, ROOT

each_page = pytest.mark.parametrize("page", PAGES, ids=doc_commands.name)


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch):
    """A folder with the configs of a checkout, and with those that pages tell to write."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    doc_commands.write_files(tmp_path)
    monkeypatch.chdir(tmp_path)


def understand(page: Path) -> None:
    """Parses every command of a page: mode, flags, config, variants, keys, types of values.

    Raises UserError for one that launch.py would not accept.
    """
    for words in doc_commands.commands(page):
        argv = ["launch.py", *words]
        if parsing.wants_help(argv):
            help.text(argv, "")
            continue
        config = parsing.parse(argv).general.config.value
        if config is not None:
            configs.prepare(config)


@each_page
def test_commands_are_understood(page):
    understand(page)


def test_wrong_commands_are_noticed(tmp_path):
    page = tmp_path / "page.md"
    for text, message in {
        "`python launch.py --config=quickstart --config.optim.gen.lrr=1`": "did you mean --config",
        "```bash\npython launch.py --mode=sample \\\n    --sede=1\n```": "did you mean --seeds",
        '```bash\nown="--config=quickstart:tny"\ngan_jax $own\n```': "variant 'tny'",
        "```bash\ngan_jax --config=quickstart --config.batch_size=64.5\n```": "batch_size",
    }.items():
        page.write_text(text + "\n")
        with pytest.raises(parsing.UserError, match=message):
            understand(page)


def test_commands_are_found():
    """In tables, in blocks, over several lines, with variables, and inside quotes."""

    def found(name: str) -> list[str]:
        return [" ".join(words) for words in doc_commands.commands(ROOT / "docs" / name)]

    assert "--config=progan_mnist" in found("which_config.md")
    assert "--mode=list" in found("how_to/install.md")
    assert any(
        "runs/cats --config=configs/diffusion_lsun.py:cat" in c for c in found("diffusion.md")
    )
    assert "--distributed --config=configs/dcgan_mnist.py --workdir=gs://my-bucket/runs/a" in found(
        "tpu_vm.md"
    )
    assert sum(len(doc_commands.commands(page)) for page in PAGES) > 100


@each_page
def test_python_uses_names_that_exist(page):
    """Each block compiles, and uses names that the page has defined and modules have."""
    known = set(dir(builtins))
    for block in doc_commands.blocks(page):
        if block.language == "python":
            tree = ast.parse(block.text)
            assert unknown(tree, known) == set()
            assert missing(tree) == []


def test_wrong_names_are_noticed():
    tree = ast.parse("import gan_jax\nmodel = gan_jax.lod('runs/a')\nprint(modle)\n")
    assert missing(tree) == ["gan_jax.lod"]
    assert unknown(tree, {"print"}) == {"modle"}


def unknown(tree: ast.Module, known: set[str]) -> set[str]:
    """Names that a block uses and nobody defines; those that it defines are added to `known`."""
    nodes = list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            known |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            known.add(node.name)
        elif isinstance(node, ast.arg):
            known.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            known.add(node.id)
    return {node.id for node in nodes if isinstance(node, ast.Name)} - known


def missing(tree: ast.Module) -> list[str]:
    """Attributes that a block takes from what it imports, and that are not there."""
    imported = {name: value for node in ast.walk(tree) for name, value in _imports(node)}
    return [
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in imported
        and not hasattr(imported[node.value.id], node.attr)
    ]


def _imports(node: ast.AST) -> list[tuple[str, Any]]:
    """What an import statement makes known, by name. Raises ImportError for what is not there."""
    if isinstance(node, ast.Import):
        return [(a.asname or a.name, importlib.import_module(a.name)) for a in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    module = importlib.import_module(node.module)
    found = []
    for alias in node.names:
        if not hasattr(module, alias.name):
            importlib.import_module(f"{node.module}.{alias.name}")
        found.append((alias.asname or alias.name, getattr(module, alias.name)))
    return found

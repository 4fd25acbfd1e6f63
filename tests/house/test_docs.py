"""What the documents name exists: files, configs, keys, flags; the plot of the rates is made."""

import ast
import re

import pytest
from absl.flags import FlagValues

from gan_jax import config as configs
from gan_jax.modes import MODES, parsing
from gan_jax.modes import flags as shared
from gan_jax.modes.actions import config_facts, list_configs
from tests.helpers import doc_commands
from tests.helpers.doc_commands import PAGES, ROOT
from tests.helpers.shell import python

LONGEST_README = 150  # lines; everything else is in docs
LARGEST = 300_000  # bytes of a file in docs
FILES = {"json", "log", "py"}  # config.json and config.log are files, not keys

each_page = pytest.mark.parametrize("page", PAGES, ids=doc_commands.name)


def links(text: str) -> list[str]:
    """Targets of links and pictures, without those to the web."""
    found = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def keys(text: str) -> set[str]:
    """Config keys that are mentioned, such as optim.gen.lr of --config.optim.gen.lr=1e-4."""
    found = re.findall(r"(?<![\w/.])config\.([a-z][a-z0-9_.]*)", text)
    return {key.removesuffix(".update").strip(".") for key in found} - FILES


def known_keys() -> set[str]:
    """Every key and section of every system."""
    known = set()

    def walk(section, prefix: str) -> None:
        for name, value in section.items():
            known.add(prefix + name)
            if hasattr(value, "items"):
                walk(value, f"{prefix}{name}.")

    for system in configs.SYSTEMS:
        walk(configs.defaults(system), "")
    return known


@each_page
def test_relative_links_resolve(page):
    missing = [
        target
        for target in links(page.read_text())
        if not (page.parent / target.partition("#")[0]).exists()
    ]
    assert missing == []


@each_page
def test_config_keys_exist(page):
    assert keys(page.read_text()) - known_keys() == set()


@each_page
def test_configs_and_variants_exist(page):
    text = page.read_text()
    for name, variant in re.findall(r"--config=(\w+)(?::([\w,]+))?(?![\w./:])", text):
        configs.load_file(name, variant)
    for name, variant in re.findall(r"configs/(\w+)\.py(?::([\w,]+))?", text):
        if page.name == "architecture.md" and name == "x":  # stands for any
            continue
        configs.load_file(str(ROOT / "configs" / f"{name}.py"), variant)


def test_the_page_of_configs_agrees_with_the_files():
    """A row for each config, with its system, size, length, variants and cost."""
    table = (ROOT / "docs" / "configs.md").read_text()
    rows = re.findall(r"^\| `configs/(\w+)\.py` \| (.*) \|$", table, re.M)
    assert sorted(name for name, _ in rows) == [*configs.shipped()]
    for name, row in rows:
        facts = config_facts.read(configs.shipped()[name])
        system, side, length, _, variants, cost = (cell.strip() for cell in row.split("|"))
        assert (system, side) == (f"`{facts.system}`", f"{facts.resolution} px"), name
        assert (length, cost) == (list_configs.length(facts.length), facts.cost), name
        for variant in {*facts.variants} - {"tiny"}:
            assert f"`{variant}`" in variants, (name, variant)


def test_the_command_line_names_flags_and_modes_that_exist():
    page = (ROOT / "docs" / "command_line.md").read_text()
    assert set(re.findall(r"(?<![\w-])--(\w+)", page)) <= known_flags() | {"help"}
    assert set(re.findall(r"--mode=(\w+)", page)) == set(MODES)


def known_flags() -> set[str]:
    """The general flags and those of all modes."""
    general = FlagValues()
    shared.general(general)
    found = [parsing.load(name).FLAGS for name in MODES]
    return {name for own in (general, *found) for name in own}


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < LONGEST_README


def test_readme_links_to_every_page():
    """Those of the site alone, which are made from the code, are left out."""
    named = {target.partition("#")[0] for target in links((ROOT / "README.md").read_text())}
    pages = {doc_commands.name(page) for page in PAGES}
    missing = {page for page in pages - named if not page.startswith("docs/reference/")}
    assert missing == {"README.md", "docs/index.md"}


def test_files_in_docs_are_small():
    large = [p.name for p in (ROOT / "docs").rglob("*") if p.stat().st_size > LARGEST]
    assert large == []


def test_the_script_in_rates_draws_its_picture(tmp_path):
    (script,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "rates.md").read_text(), re.S)
    (tmp_path / "docs").mkdir()
    done = python(script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "docs" / "rates.png").stat().st_size > 10_000


def test_the_checks_notice_what_is_wrong():
    assert links("[a](b.md#c) ![d](e.png) [f](https://g.org)") == ["b.md#c", "e.png"]
    found = keys(
        "`--config.optim.gen.lr=1` config.nope, config.json, runs/config.json config.seed."
    )
    assert found == {"optim.gen.lr", "nope", "seed"}
    assert "optim.gen.schedule" in known_keys()
    assert "nope" not in known_keys()


def test_docstrings_hold_no_quotes_of_a_split_string():
    """A re-wrap that takes a docstring for a message breaks it with a quote on either line."""
    folders = ("gan_jax", "configs", "benchmarks", "tests")
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                assert not re.search(r'\S "\n\s*"\S', text), (path.name, text)

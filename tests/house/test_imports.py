"""Who may import whom: the rules of the house, read from the imports themselves."""

import ast
from pathlib import Path

import pytest

from tests.helpers.shell import ROOT, python

PACKAGE = ROOT / "gan_jax"
FILES = sorted(PACKAGE.rglob("*.py"))

# what each room may import of the others; gan_jax/*.py (training, evaluating, api) may import all
# that stand below them, and config may import the systems
LOWEST = (
    "backend",
    "buckets",
    "caches",
    "errors",
    "files",
    "growing",
    "heaps",
    "log",
    "npz",
    "patience",
    "splitting",
    "zips",
    "__version__",
)  # which all rooms may import
BASE = {"core", "ops", "data", "report"}
ROOMS = {
    "modes": {
        "training",
        "evaluating",
        "config",
        "evaluation",
        "run",
        "systems",
        "metrics",
        "interop",
        "models",
        *BASE,
    },
    "evaluation": {"config", "run", "systems", "metrics", "interop", "models", *BASE},
    "run": {"config", "systems", "metrics", "interop", "models", *BASE},
    "systems": {"models", "ops", "core"},
    "models": {"ops"},
    "metrics": {"models", "ops"},
    "interop": {"models", "ops"},
    "core": set(),
    "buckets": set(),
    "ops": set(),
    "data": set(),
    "report": set(),
}
NOWHERE = {"torch", "torchvision", "tensorflow", "keras"}
# third parties that only these rooms may import; "" is gan_jax/*.py
ONLY = {
    "grain": {"data"},
    "tensorflow_datasets": {"data"},
    "pooch": {"data"},
    "fsspec": {"buckets"},
    "optax": {"core", "systems"},
    "orbax": {"core"},
    "tensorboardX": {"core"},
    "matplotlib": {"report"},
    "av": {"report"},
    "clu": {"modes", "run"},
    "ml_collections": {"", "modes", "evaluation", "run"},
}
ARRAYS = {"jax", "jaxlib", "flax", "optax", "orbax"}
FORBIDDEN = {"data": ARRAYS, "report": ARRAYS, "ops": {"flax", "optax", "orbax"}}


def room(file: Path) -> str:
    """The room a file is in, "" for those directly in gan_jax/."""
    parts = file.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


def imports(file: Path) -> set[str]:
    """Full names of all that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = file.relative_to(ROOT).parent.parts[
                : None if node.level < 2 else 1 - node.level
            ]
            start = [*package] if node.level else []
            start += node.module.split(".") if node.module else []
            # `from gan_jax import ops` imports a room, so the names count
            found |= {".".join([*start, alias.name]) for alias in node.names}
    return found


def breaches(file: Path) -> list[str]:
    """The rules that a file breaks, in words."""
    own, found = room(file), []
    for name in sorted(imports(file)):
        first, *rest = name.split(".")
        if first == "gan_jax":
            target = rest[0] if rest else ""
            inside = target in (own, *LOWEST)
            if own and not inside and target not in ROOMS[own]:
                found.append(f"{own} imports {name}")
            continue
        if first in NOWHERE or first in FORBIDDEN.get(own, ()):
            found.append(f"{own} imports {name}")
        if first in ONLY and own not in ONLY[first]:
            found.append(f"{own} imports {name}")
        linen = name.startswith("flax") and not name.startswith("flax.struct")
        if linen and own != "models":
            found.append(f"{own} imports {name}")
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_rooms_and_third_parties(file):
    assert room(file) in {"", *ROOMS}, "a room that the rules do not know"
    assert breaches(file) == []


def owner(module: str) -> str:
    """The system that a module of gan_jax.systems belongs to: "gan_config" is a file of "gan"."""
    names = {file.stem for file in (PACKAGE / "systems").glob("*.py")}
    parts = module.split("_")
    starts = ("_".join(parts[:n]) for n in range(1, len(parts) + 1))
    return next((start for start in starts if start in names), module)


def test_systems_never_import_each_other():
    """A system may be several files, whose names begin with its own."""
    assert (owner("gan_config"), owner("noisy_classifier")) == ("gan", "noisy_classifier")
    for file in (PACKAGE / "systems").glob("*.py"):
        found = (n.split(".") for n in imports(file) if n.startswith("gan_jax.systems"))
        others = {owner(name[2]) if len(name) > 2 else "all" for name in found}
        assert others <= {owner(file.stem)}, (file.name, others)


def test_only_modes_import_modes():
    """And the entry points: launch.py, which lies outside the package, and __main__.py."""
    for file in (file for file in FILES if file.name != "__main__.py"):
        others = {n for n in imports(file) if n.startswith("gan_jax.modes")}
        assert room(file) == "modes" or not others, (file.name, others)


def test_configs_and_errors_know_no_room():
    """A config is data: it needs the defaults and nothing of the inside."""
    for file in sorted((ROOT / "configs").glob("*.py")):
        own = {n for n in imports(file) if n.startswith("gan_jax")}
        assert all(n.split(".")[1] == "config" for n in own), (file.name, own)
    for name in ("errors.py", "log.py"):
        assert not any(n.startswith("gan_jax") for n in imports(PACKAGE / name))


def test_the_rules_notice_what_they_forbid(tmp_path, monkeypatch):
    """Each line below is one breach in a room."""
    cases = {
        "import jax": "data",
        "from jax import numpy": "report",
        "import flax.linen as nn": "core",
        "from flax import linen": "systems",
        "import optax": "ops",
        "from flax import struct": "ops",
        "import grain": "core",
        "def f():\n    import torch": "interop",
        "from gan_jax import core": "ops",
        "from gan_jax.systems import gan": "core",
        "from ..systems import gan": "core",
        "from ml_collections import ConfigDict": "systems",
        "import gan_jax.training": "systems",
    }
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path / "gan_jax")
    for number, (line, name) in enumerate(cases.items()):
        file = tmp_path / "gan_jax" / name / f"case{number}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(line)
        assert breaches(file), line
    allowed = tmp_path / "gan_jax" / "core" / "fine.py"
    allowed.write_text(
        "from flax import struct\nimport jax\nfrom gan_jax.errors import UserError\n"
    )
    assert breaches(allowed) == []


def test_import_gan_jax_is_light():
    """It loads none of the big libraries; those come with the first call."""
    big = "{'jax', 'numpy', 'flax', 'optax', 'orbax', 'grain', 'matplotlib'}"
    done = python(
        f"import sys, gan_jax; print(sorted({big} & set(sys.modules)))",
        environment={"JAX_PLATFORMS": "invalid"},
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_import_config_is_light():
    """A config file is read without any of them; a system comes with its defaults."""
    big = "{'jax', 'flax', 'optax', 'orbax', 'grain', 'matplotlib'}"
    done = python(f"import sys, gan_jax.config; print(sorted({big} & set(sys.modules)))")
    assert done.stdout.strip() == "[]", done.stderr


def test_no_module_touches_a_device_when_imported():
    """All modules import where there is no device at all."""
    names = [".".join(f.relative_to(ROOT).with_suffix("").parts) for f in FILES]
    names = [n.removesuffix(".__init__") for n in names]
    code = f"import importlib\nfor n in {names!r}: importlib.import_module(n)\nprint('all')"
    done = python(code, environment={"JAX_PLATFORMS": "invalid"})
    assert done.stdout.strip() == "all", done.stderr[-2000:]

"""The notebook runs from a clean kernel, and its install cell leaves what is there alone."""

import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from tests.helpers.shell import ROOT, one_device

NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"


class ThisInterpreter(AsyncKernelManager):
    """Starts kernels with the interpreter of this test, whatever kernels are registered."""

    @property
    def kernel_spec(self) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="test", language="python")


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def source(notebook, name: str) -> str:
    """The text of the cell with this id."""
    return next(cell.source for cell in notebook.cells if cell.id == name)


def pictures(cell) -> list[str]:
    return [
        o.data["image/png"] for o in cell.get("outputs", []) if "image/png" in o.get("data", {})
    ]


def test_runs_from_a_clean_kernel(notebook, tmp_path):
    environment = {
        **one_device(),
        "PYTHONPATH": str(ROOT),  # as if installed
        "GAN_JAX_VARIANT": "tiny",
        "GAN_JAX_WORKDIR": str(tmp_path / "run"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
    }
    client = NotebookClient(
        nbformat.from_dict(notebook),
        timeout=240,
        kernel_manager_class=ThisInterpreter,
        resources={"metadata": {"path": str(tmp_path)}},
    )
    done = client.execute(env=environment)  # raises when a cell does
    cells = {cell.id: cell for cell in done.cells}
    for name in ("look-grid", "look-curves", "sample"):
        assert len(pictures(cells[name])) == 1, name
    assert "step 6" in "".join(o.get("text", "") for o in cells["train"].outputs)
    assert not cells["install"].outputs
    assert (tmp_path / "run" / "summary.json").exists()
    assert not (tmp_path / "gan_jax_clone").exists()


def test_is_kept_without_outputs(notebook):
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    for cell in notebook.cells:
        assert not cell.get("outputs"), cell.id
        assert cell.get("execution_count") is None, cell.id


def test_install_does_nothing_where_gan_jax_is_there(notebook, monkeypatch, tmp_path):
    def forbidden(*command, **options):
        raise AssertionError(f"the install cell ran {command}")

    monkeypatch.setattr(subprocess, "run", forbidden)
    monkeypatch.setattr(subprocess, "Popen", forbidden)
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    exec(source(notebook, "install"), {})
    assert sys.path == path
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bounds", ["jax>=0.1,<100", "jax>=100"])
def test_install_keeps_a_jax_that_fits(notebook, monkeypatch, tmp_path, bounds):
    # a clone that is there already, with requirements that the installed jax does or does not meet
    (tmp_path / "launch.py").touch()
    (tmp_path / "requirements.txt").write_text(f"# packages\n{bounds}\nflax\n")
    commands = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: commands.append(command))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("GAN_JAX_CLONE", str(tmp_path))
    exec(source(notebook, "install"), {})
    (pip,) = commands
    constraints = Path(pip[pip.index("--constraint") + 1])
    pins = [f"{name}=={importlib.metadata.version(name)}" for name in ("jax", "jaxlib")]
    assert constraints.read_text().split() == (pins if "<100" in bounds else [])
    assert pip[:4] == [sys.executable, "-m", "pip", "install"]
    assert sys.path[0] == str(tmp_path)

"""Every notebook runs from a clean kernel, and its first cell finds gan_jax wherever it is."""

import ast
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from gan_jax import config_files
from tests.helpers.shell import ROOT, one_device

FOLDER = ROOT / "notebooks"
NAMES = sorted(file.stem for file in FOLDER.glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("name", NAMES)


class ThisInterpreter(AsyncKernelManager):
    """Starts kernels with the interpreter of this test, whatever kernels are registered."""

    @property
    def kernel_spec(self) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="test", language="python")


def read(name: str):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def install_cell(name: str = "quickstart") -> str:
    """The text of the first cell of code."""
    return next(cell.source for cell in read(name).cells if cell.cell_type == "code")


def execute(name: str, folder: Path, private: Path, **environment: str) -> dict:
    """The cells of a notebook by id, after it has run at a tiny scale in `folder`.

    An error in a cell is raised. `private` takes the files of Jupyter.
    """
    usual = {k: v for k, v in one_device().items() if k != "PYTHONPATH"}
    jupyter = {k: str(private / k) for k in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR")}
    client = NotebookClient(
        read(name),
        timeout=240,
        kernel_manager_class=ThisInterpreter,
        resources={"metadata": {"path": str(folder)}},
    )
    done = client.execute(env={**usual, **jupyter, "GAN_JAX_TINY": "1", **environment})
    return {cell.id: cell for cell in done.cells}


def pictures(cell) -> int:
    return sum("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


def check_shown(cells: dict) -> None:
    """Every cell whose id says so shows a picture."""
    shown = {name: pictures(cell) for name, cell in cells.items() if name.startswith("show-")}
    assert len(shown) >= 3
    assert min(shown.values()) >= 1, shown


def text(cell) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "quickstart"])
def test_runs_where_it_lies(name, tmp_path):
    """In its folder inside a checkout that is not installed; it writes nothing."""
    before = sorted(FOLDER.iterdir())
    cells = execute(name, FOLDER, tmp_path)
    check_shown(cells)
    assert text(cells["install"]) == f"gan_jax in {ROOT}\n"
    assert sorted(FOLDER.iterdir()) == before


def test_a_run_from_an_empty_folder(tmp_path):
    """Where gan_jax is installed, the folder does not matter."""
    folder = tmp_path / "empty"
    folder.mkdir()
    cells = execute("quickstart", folder, tmp_path, PYTHONPATH=str(ROOT))
    check_shown(cells)
    assert "step 6" in text(cells["train"])
    assert (folder / "runs" / "notebook" / "summary.json").exists()
    assert [file.name for file in folder.iterdir()] == ["runs"]


@each_notebook
def test_is_kept_without_outputs(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    for cell in notebook.cells:
        assert not cell.get("outputs"), cell.id
        assert cell.get("execution_count") is None, cell.id


@each_notebook
def test_begins_with_the_same_cell_and_names_configs_that_exist(name):
    assert install_cell(name) == install_cell()
    words = {
        node.value.partition(":")[0]
        for cell in read(name).cells
        if cell.cell_type == "code" and cell.id != "install"
        for node in ast.walk(ast.parse(cell.source.replace("%matplotlib", "# ")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert words & set(config_files.shipped())


# the first cell


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """An empty folder in which gan_jax cannot be imported, and a list of the commands that run."""
    folder, commands = tmp_path / "here", []
    folder.mkdir()

    def run(command, **options):
        commands.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.delenv("GAN_JAX_REPOSITORY", raising=False)
    monkeypatch.chdir(folder)
    return folder, commands


def checkout(folder: Path, requirements: str = "jax>=0.1\n") -> Path:
    """A checkout of gan_jax, as far as the first cell looks at it."""
    (folder / "gan_jax").mkdir(parents=True)
    (folder / "gan_jax" / "__init__.py").touch()
    (folder / "launch.py").touch()
    (folder / "requirements.txt").write_text(f"# packages\n{requirements}")
    return folder


def test_nothing_happens_where_gan_jax_is_there(elsewhere, monkeypatch):
    folder, commands = elsewhere
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    path = list(sys.path)
    exec(install_cell(), {})
    assert (sys.path, commands, list(folder.iterdir())) == (path, [], [])


@pytest.mark.parametrize("place", ["../..", "..", ".", "gan_jax", "gan_jax_checkout/gan_jax-main"])
def test_a_checkout_is_found(elsewhere, place, tmp_path, monkeypatch):
    """Above the notebook, beside it, or where the cell itself has put it."""
    folder, commands = elsewhere
    (folder / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(folder / "a" / "b")
    root = checkout((folder / "a" / "b" / place).resolve())
    # a folder called gan_jax looks like a package, with no file of its own
    namespace = importlib.machinery.ModuleSpec("gan_jax", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: namespace)
    exec(install_cell(), {})
    assert sys.path[0] == str(root)
    assert os.environ["PYTHONPATH"].split(os.pathsep)[0] == str(root)
    assert commands == []


def test_an_uploaded_zip_is_unpacked(elsewhere, tmp_path):
    folder, commands = elsewhere
    checkout(tmp_path / "packed" / "gan_jax-main")
    shutil.make_archive(str(folder / "gan_jax-main"), "zip", tmp_path / "packed")
    exec(install_cell(), {})
    assert sys.path[0] == str(folder / "gan_jax_checkout" / "gan_jax-main")
    assert commands == []


def test_a_repository_is_cloned(elsewhere, monkeypatch):
    folder, commands = elsewhere

    def clone(command, **options):
        commands.append(command)
        checkout(Path(command[-1]))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", clone)
    monkeypatch.setenv("GAN_JAX_REPOSITORY", "https://host/gan_jax")
    exec(install_cell(), {})
    root = folder / "gan_jax_checkout"
    assert commands == [["git", "clone", "--depth=1", "https://host/gan_jax", str(root)]]
    assert sys.path[0] == str(root)


def test_what_is_missing_is_said_in_a_sentence(elsewhere, monkeypatch):
    folder, _ = elsewhere
    cell = install_cell().replace(
        'REPOSITORY") or "', 'REPOSITORY") or "" and "'
    )  # whatever address stands there
    with pytest.raises(SystemExit, match=r"set REPOSITORY in this cell .*, or upload a zip"):
        exec(cell, {})
    failed = subprocess.CompletedProcess([], 128)
    monkeypatch.setattr(subprocess, "run", lambda *command, **options: failed)
    monkeypatch.setenv("GAN_JAX_REPOSITORY", "https://host/nothing")
    with pytest.raises(SystemExit, match="git could not clone REPOSITORY=https://host/nothing"):
        exec(cell, {})
    shutil.make_archive(str(folder / "gan_jax"), "zip", folder)
    with pytest.raises(SystemExit, match=r"gan_jax\.zip holds no checkout"):
        exec(cell, {})


@pytest.mark.parametrize("bounds", ["jax>=0.1,<100", "jax>=100"])
def test_missing_packages_are_installed_beside_a_jax_that_fits(elsewhere, monkeypatch, bounds):
    folder, commands = elsewhere
    checkout(folder, f"{bounds}\nno-such-package-as-this>=1  # why\n")
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    exec(install_cell(), {})
    pins = [f"{name}=={importlib.metadata.version(name)}" for name in ("jax", "jaxlib")]
    (pip,) = commands
    assert pip[:4] == [sys.executable, "-m", "pip", "install"]
    kept = [f"{folder}", *pins] if "<100" in bounds else [f"{folder}[cuda]"]
    assert pip[pip.index("--editable") + 1 :] == kept


# the address in it


@pytest.fixture
def addresses(monkeypatch):
    """The module notebooks/set_address.py."""
    monkeypatch.syspath_prepend(FOLDER)
    import set_address

    return set_address


def test_the_notebooks_clone_the_address_of_pyproject(addresses):
    line = f'REPOSITORY = os.environ.get("GAN_JAX_REPOSITORY") or "{addresses.address()}"'
    assert line in install_cell()  # if not: python notebooks/set_address.py


def test_an_address_is_written_into_every_notebook(addresses, tmp_path):
    for name in NAMES:
        shutil.copy(FOLDER / f"{name}.ipynb", tmp_path)
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text('[project]\nurls = { Repository = "https://host/some/gan_jax/" }\n')
    found = addresses.address(pyproject)
    changed = addresses.write(found, tmp_path)
    assert [file.stem for file in changed] == NAMES
    for file in changed:
        notebook = nbformat.read(file, as_version=4)
        nbformat.validate(notebook)
        assert 'or "https://host/some/gan_jax"' in notebook.cells[1].source
    assert addresses.write(found, tmp_path) == []
    (tmp_path / "other.ipynb").write_text("{}")
    with pytest.raises(ValueError, match=r"other\.ipynb: 0 lines set REPOSITORY"):
        addresses.write(found, tmp_path)

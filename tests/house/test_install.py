"""The package as pip installs it: with configs, and with the command gan_jax."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from gan_jax import config as configs
from gan_jax import config_files
from tests.helpers.shell import ROOT

PARTS = ("gan_jax", "configs", "pyproject.toml", "README.md", "LICENSE", "requirements.txt")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel, built from a copy, since setuptools writes into the folder that it builds from."""
    place = tmp_path_factory.mktemp("install")
    copy = place / "copy"
    copy.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            forgotten = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / part, copy / part, ignore=forgotten)
        else:
            shutil.copy(ROOT / part, copy)
    code = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(place)],
        cwd=copy, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stderr}\n(requirements-dev.txt names the setuptools)"
    (built,) = place.glob("*.whl")
    return built


def test_every_folder_is_installed():
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {
        file.parent for part in ("gan_jax", "configs") for file in (ROOT / part).rglob("*.py")
    }
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    inside = {f"gan_jax.{name}" if name.startswith("configs") else name for name in names}
    assert table["packages"] == sorted(inside)


def test_a_wheel_holds_everything(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (points,) = [name for name in names if name.endswith("entry_points.txt")]
        assert "gan_jax = gan_jax.modes.door:enter" in archive.read(points).decode()
    kinds = ("*.py", "*.npz", "*.md", "*.cc", "*.h", "*.css", "*.js")
    package = {
        str(file.relative_to(ROOT)) for kind in kinds for file in (ROOT / "gan_jax").rglob(kind)
    }
    files = {f"gan_jax/{file.relative_to(ROOT)}" for file in (ROOT / "configs").rglob("*.py")}
    assert package | files <= names
    assert {name.partition("/")[0] for name in names} == {"gan_jax", points.partition("/")[0]}


def test_the_installed_package_finds_its_configs(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    (tmp_path / "elsewhere").mkdir()

    def run(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "gan_jax", *words],
            cwd=tmp_path / "elsewhere",
            env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    listed = run("--mode=list", "--system=gan")
    assert listed.returncode == 0, listed.stderr
    assert "\ndcgan_mnist " in listed.stdout
    refused = run("--config=dcgan_mnst")
    assert refused.returncode == 2
    assert "did you mean dcgan_mnist?" in refused.stderr


def test_configs_inside_the_package_come_first(tmp_path, monkeypatch):
    """Beside an installed package somebody else's folder may be called configs."""
    package = tmp_path / "gan_jax"
    monkeypatch.setattr(config_files, "PACKAGE", package)
    for folder in (tmp_path / "configs", package / "configs"):
        (folder / "shared").mkdir(parents=True)
        (folder / "mine.py").touch()
        (folder / "shared" / "part.py").touch()
        assert configs.shipped() == {"mine": folder / "mine.py"}
        assert configs.find("mine") == folder / "mine.py"


def test_launch_py_is_the_same_door():
    for program in ([str(ROOT / "launch.py")], ["-m", "gan_jax"]):
        done = subprocess.run(
            [sys.executable, *program, "--mode=nothing"],
            cwd=ROOT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 2
        assert done.stderr.startswith("error: --mode=nothing: accepted are train, sample, ")

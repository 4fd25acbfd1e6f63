"""The commands and the Python of the tutorials really run, at tiny scale, in one folder.

Training at full scale is left out, and so is what needs a network or a large program: the configs
that only the last sections of a tutorial name are trained at tiny scale by tests/systems.
"""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_jax import config as configs
from tests.helpers import doc_commands
from tests.helpers.doc_commands import ROOT
from tests.helpers.shell import launch_here

DOCS = ROOT / "docs"
ELSEWHERE = {
    "kinds",
    "growing",
    "diffusion",
    "original",
    "gan",
    "progan",
    "small_diffusion",
    "colours",
    "caricatures",
}  # runs that tests/systems make in this size


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A reader's folder, with pictures, pairs of them, and the files that pages tell to write."""
    folder = tmp_path_factory.mktemp("reader")
    draw = np.random.default_rng(0)
    for name, count, size in (
        ("pictures/rose", 20, (20, 24)), ("pictures/tulip", 20, (24, 20)),
        ("pairs/train", 8, (16, 32)), ("pairs/val", 2, (16, 32)),
    ):  # fmt: skip
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = draw.integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    doc_commands.write_files(folder)
    return folder


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    """Everything happens in the reader's folder, on one of the session's eight devices.

    Configs that Python names are loaded at tiny scale.
    """
    monkeypatch.chdir(folder)
    monkeypatch.setitem(configs.RUN, "devices", 1)
    whole = configs.load_file
    monkeypatch.setattr(configs, "load_file", lambda path, names="": whole(path, f"{names},tiny"))


def small(words: list[str]) -> list[str]:
    """A command at tiny scale, on the pictures of the folder where it names pictures of its own."""
    found = []
    for word in words:
        flag, _, value = word.partition("=")
        if flag == "--config":
            word += "," * (":" in value) + ":" * (":" not in value) + "tiny"
        elif flag == "--config.run.steps" and value.isdecimal():
            word = f"{flag}=4"
        elif flag == "--seconds":
            found.append("--fps=1")
        found.append(word)
    if "--config" in found[0] and not any(word.startswith("--workdir") for word in words):
        found.append("--dry_run")  # tests/modes/test_run_folders.py trains without a folder
    own = "mine.py" in "".join(words) and "--dry_run" not in words
    if own or any(word.startswith("--config.data.path") for word in words):
        path = "--config.data.path=pictures"
        found += ["--config.data.source=folder", "--config.data.resize=crop", *[path] * own]
    return found


def run_page(name: str) -> list[str]:
    """Runs the commands of a page; returns what they print."""
    said = []
    for words in doc_commands.commands(DOCS / name):
        workdir = next((w.rpartition("/")[2] for w in words if w.startswith("--workdir")), "")
        if "--mode=prepare" in words or workdir in ELSEWHERE:
            continue
        done = launch_here(*small(words))
        assert done.returncode == 0, (words, done.stderr)
        said.append(done.stdout + done.stderr)
    return said


def run_python(name: str) -> dict:
    """Runs the Python of a page; returns the names that it defines."""
    known: dict = {"__name__": "page"}
    for block in doc_commands.blocks(DOCS / name):
        if block.language == "python" and not block.title:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(block.text, name, "exec"), known)
    return known


def test_the_first_run():
    said = run_page("tutorials/first_run.md")
    assert any("already finished at step 6" in text for text in said)
    assert (Path("runs/quickstart") / "report.html").exists()
    assert len(list(Path("threes").glob("*.png"))) == 10


def test_own_pictures():
    said = run_page("tutorials/own_pictures.md")
    assert "30 train + 10 validation images, 16x16 RGB, no labels" in said[1]
    assert Path("runs/mine/interpolation.webp").exists()


def test_pix2pix_on_pairs():
    run_page("tutorials/pix2pix_pairs.md")
    assert Path("translated/sheets/contact_sheet.png").exists()


def test_another_loss():
    names = run_python("tutorials/change_a_loss.md")
    assert names["exp"].evaluate().keys() == names["usual"].evaluate().keys()
    assert Path("chi_squared.png").exists()


def test_step_by_step_in_python():
    """With the runs that the tutorials have made."""
    names = run_python("python.md")
    assert names["video"].shape[:2] == (24, 16)
    assert names["again"].shape == names["digits"].shape

"""Of several processes that make the same files, the first one writes them."""

import ast

import numpy as np
import pytest

from gan_jax.core import cluster
from gan_jax.modes.actions import folder_task, output, video_file
from tests.helpers.shell import ROOT

IMAGE = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize("first", [True, False])
def test_only_the_first_writes(tmp_path, monkeypatch, first):
    monkeypatch.setattr(cluster, "is_first", lambda: first)
    made = []

    def frames():
        for number in range(3):
            made.append(number)
            yield IMAGE, 100

    output.save(tmp_path / "bytes", b"x")
    output.save_png(tmp_path / "image.png", IMAGE)
    output.save_arrays(tmp_path / "arrays.npz", IMAGE)
    output.save_sheet(tmp_path, "sheet.png", IMAGE)
    folder_task._write_scores(tmp_path, [{"psnr": 1.0}])
    assert video_file.save(tmp_path / "video.gif", frames(), 3) == 3
    assert made == [0, 1, 2]  # all take part in making them
    names = {path.name for path in tmp_path.iterdir()}
    every = {"bytes", "image.png", "arrays.npz", "sheets", "scores.json", "video.gif"}
    assert names == (every if first else set())


def test_modes_write_by_functions_that_ask_who_is_first():
    """Other files of modes either ask themselves, or belong to modes that one process does."""
    writers = {"write_json", "write_bytes", "save_sheet"}
    for file in sorted((ROOT / "gan_jax" / "modes").rglob("*.py")):
        tree = ast.parse(file.read_text())
        names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        imported = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "gan_jax.files"
            for alias in node.names
        }
        alone = file.name in ("report.py", "prepare.py", "likelihood.py")
        if imported & writers and not alone:
            assert "is_first" in names, file

"""The pictures of a run: neighbours of samples among the training images."""

import numpy as np
import pytest

from gan_jax.report import grids
from gan_jax.run import pictures
from gan_jax.run.experiment import Experiment
from tests.helpers import contract


@pytest.fixture(scope="module")
def experiment():
    config = contract.load("mlpgan_mnist")
    config.run.update(devices=1)
    return Experiment(config)


def sheet(experiment, samples, folder, monkeypatch):
    """(distances, arguments of the sheet that `samples` get as neighbours)."""
    found = {}

    def kept(*args):
        found["args"] = args
        return np.zeros((16, 16, 3), np.uint8)

    grid = pictures.SampleGrid(experiment)
    grid.sampler = lambda *_: {"raw": samples}
    monkeypatch.setattr(grids, "neighbour_sheet", kept)
    grid.save_neighbours(folder, None, experiment.last, rows=len(samples))
    return found["args"]


def test_all_training_images_are_searched_block_by_block(experiment, tmp_path, monkeypatch, lines):
    side = experiment.facts.resolution
    monkeypatch.setattr(pictures, "BLOCK_BYTES", 7 * side**2)  # seven at a time
    images = experiment.data.all("train")["image"]
    samples = images[[-1, 3, -10]]
    _, closest, distances, among = sheet(experiment, samples, tmp_path, monkeypatch)
    np.testing.assert_array_equal(closest[:, 0], samples)
    np.testing.assert_array_equal(distances[:, 0], 0)
    assert distances.shape == (3, 7)
    assert (np.diff(distances, axis=1) >= 0).all()
    away = np.sqrt(np.mean((closest - samples[:, None].astype(float)) ** 2, axis=(2, 3, 4)))
    np.testing.assert_allclose(distances, away, rtol=1e-5, atol=1e-4)
    assert among == ()
    assert not any("neighbours.png" in line for line in lines)


def test_a_sheet_of_a_part_of_the_training_images_says_so(experiment, tmp_path, monkeypatch, lines):
    side, total = experiment.facts.resolution, experiment.data.sizes["train"]
    monkeypatch.setattr(pictures, "MOST_BYTES", 10 * side**2)
    last = experiment.data.rows("train", np.array([9 * total // 10]))["image"]
    _, _, distances, among = sheet(experiment, last, tmp_path, monkeypatch)
    assert distances[0, 0] == 0  # the part is spread over the whole set
    assert among == (10, total)
    assert f"neighbours.png: searching 10 of the {total} training images" in lines


def test_the_title_of_a_sheet_of_a_part():
    images, written = np.zeros((2, 64, 64, 1), np.uint8), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grids, "_write", lambda canvas, text, *_: written.append(text))
        for among in ((), (1365, 30000)):
            grids.neighbour_sheet(
                images, np.zeros((2, 7, 64, 64, 1), np.uint8), np.ones((2, 7)), among
            )
    titles = [text for text in written if text.startswith("closest")]
    assert titles[0] == "closest training images and their distances"
    assert "1,365 of 30,000" in titles[1]

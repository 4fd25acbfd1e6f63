"""Real images that several pairs share are one image of the set that samples are compared with."""

import numpy as np
import pytest

from gan_jax.evaluation import networks, quality
from gan_jax.metrics.features import Network
from gan_jax.run.experiment import Experiment
from tests.helpers import contract

METRICS = ("pr", "dc", "kid")


@pytest.fixture
def projected(monkeypatch):
    """A random projection in Inception's place."""
    weights = np.random.default_rng(0).normal(size=(3072, 16)).astype(np.float32)

    def extract(images, taps):
        flat = np.asarray(images, np.float32).reshape(len(images), -1) @ weights / 7000
        return dict.fromkeys(taps, flat)

    found = {"inception": Network("random", "0", "none", {"features": 16}, extract)}
    monkeypatch.setattr(networks, "feature_networks", lambda *_, **__: found)


def measured(caricatures: int, monkeypatch) -> tuple[quality.Quality, dict[str, float]]:
    """What a model is given that draws the validation set's own caricatures, almost exactly."""
    config = contract.load("warpgan_drawn")
    config.run.devices = 1
    config.data.update(photos=8, caricatures=caricatures, validation_identities=6)
    config.quality.update(metrics=METRICS, few=True, samples=48)
    experiment = Experiment(config)
    rows = np.arange(experiment.facts.validation_size)
    targets = experiment.data.rows("validation", rows)["target"].astype(int)
    noise = np.random.default_rng(1).integers(-1, 2, targets.shape)
    drawn = np.clip(targets + noise, 0, 255).astype(np.uint8)
    monkeypatch.setattr(quality.Quality, "_drawn", lambda *_: [(drawn, {})])
    made = quality.Quality(experiment, None)
    return made, made(experiment.shapes()["state"], experiment.last)


@pytest.mark.parametrize("caricatures", [2, 8])
def test_photos_may_share_caricatures(caricatures, projected, monkeypatch):
    """Copies among the real images would be each other's nearest neighbours, at no distance."""
    made, values = measured(caricatures, monkeypatch)
    assert made.about["n_real"] == 6 * 8  # pairs
    assert made.about.get("distinct_real") == (12 if caricatures == 2 else None)
    assert values["precision"] == values["recall"] == values["coverage"] == 1
    assert values["density"] == pytest.approx(1, abs=0.75)


def test_a_run_that_counted_copies_is_told(tmp_path, projected, monkeypatch, caplog):
    made, _ = measured(2, monkeypatch)
    old = {key: value for key, value in made.about.items() if key != "distinct_real"}
    quality.remember(tmp_path, old)
    for told in (True, False):
        caplog.clear()
        quality.remember(tmp_path, made.about)
        assert ("images that several pairs share count once now" in caplog.text) == told

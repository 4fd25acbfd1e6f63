"""Nothing that is drawn or measured depends on how many images are looked at at a time, nor on how
many devices share them.
"""

from pathlib import Path

import numpy as np
import pytest

from gan_jax import settings
from gan_jax.quality import Quality
from gan_jax.setup import Setup

ROOT = Path(__file__).parent.parent


def setup_of(name: str, variant: str, devices: int = 1, **data) -> Setup:
    """A tiny config, with other data."""
    config = settings.load_file(str(ROOT / "configs" / f"{name}.py"), variant)
    config.data.update(data)
    config.run.devices = devices
    return Setup(config)


def drawn_classes(setup: Setup, count: int, chunk: int) -> np.ndarray:
    """The classes of the first `count` seeds, asked for `chunk` at a time."""
    parts = [
        setup.sample_batch(range(start, min(start + chunk, count)))["label"]
        for start in range(0, count, chunk)
    ]
    return np.concatenate(parts)


@pytest.mark.parametrize("chunk", [1, 3, 32, 1000])
def test_every_class_is_drawn_whatever_the_chunk(chunk):
    """Of 40 classes the last eight used to be left out, since every 32 images began anew."""
    setup = setup_of("dcgan_mnist", "labels,tiny", synthetic_classes=40)
    assert np.bincount(drawn_classes(setup, 80, chunk)).tolist() == [2] * 40
    ten = setup_of("dcgan_mnist", "labels,tiny", synthetic_classes=10)
    assert np.bincount(drawn_classes(ten, 2000, chunk)).tolist() == [200] * 10


def test_quality_draws_each_of_40_classes_as_often():
    config = settings.load_file(str(ROOT / "configs/dcgan_mnist.py"), "labels,tiny")
    config.data.update(resolution=16, synthetic_classes=40, synthetic_size=160)
    config.quality.update(metrics=("swd",), samples=80, few=True)
    config.run.devices = 1
    setup = Setup(config)
    measure = Quality(setup, None, print)
    measure._sampler = lambda state, batch, stage, names: {
        "ema": np.zeros((len(batch["seed"]), 1, 1, 1), np.uint8)
    }
    measure._weights = lambda *_: "ema"
    labels = [label for _, label in measure._fake_batches(None, setup.last, None, [])]
    assert np.bincount(np.concatenate(labels)).tolist() == [2] * 40

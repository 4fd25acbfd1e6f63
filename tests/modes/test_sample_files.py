"""What files of samples say about classes."""

from types import SimpleNamespace

import numpy as np
import pytest

from gan_jax.modes.actions import sample
from gan_jax.run.experiment import Experiment
from tests.helpers import contract


@pytest.mark.parametrize(("name", "labelled"), [("mlpgan_mnist", False), ("quickstart", True)])
def test_only_images_made_for_a_class_are_labelled(name, labelled, tmp_path):
    """Both train on digits, whose classes a model without classes does not draw."""
    config = contract.load(name)
    config.run.devices = 1
    experiment = Experiment(config)
    assert experiment.facts.num_classes > 1
    batch = experiment.sample_batch(range(4))
    images = np.zeros((4, 8, 8, 1), np.uint8)
    samples = sample.Samples(SimpleNamespace(experiment=experiment), images, batch, range(4), ())
    files = {f: write(samples, tmp_path) for f, write in sample.WRITERS.items()}
    (arrays,), (adm,) = (map(np.load, files[f]) for f in ("npz", "adm"))
    assert set(arrays) == {"images", "seeds"} | ({"labels"} if labelled else set())
    assert set(adm) == {"arr_0"} | ({"arr_1"} if labelled else set())
    assert ["class" in path.name for path in files["png"]] == [labelled] * 4
    if labelled:
        np.testing.assert_array_equal(arrays["labels"], adm["arr_1"])
        assert arrays["labels"].tolist() == experiment.seed_labels(np.arange(4)).tolist()

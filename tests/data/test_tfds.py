"""Data sets prepared by tfds: a small one is made here, offline and without TensorFlow."""

import sys

import pytest

from tests.helpers.data_sections import complaint, make
from tests.helpers.prepared_tfds import prepare


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A tfds data set of 20 + 5 images, prepared as array_record without TensorFlow."""
    root = tmp_path_factory.mktemp("tfds")
    prepare(root, 20, 5)
    return {"source": "tfds", "name": "tiny_pictures", "path": str(root), "resolution": 4}


def reds(batch):
    return set(batch["image"][:, 0, 0, 0].tolist())


def test_tfds(prepared):
    made = make(**prepared, validation_split="test")
    assert made.sizes == {"train": 20, "validation": 5}
    assert made.class_names == ("ant", "cat")
    everything = made.all("train")
    assert reds(everything) == set(range(20))
    assert (everything["label"] == everything["image"][:, 0, 0, 0] % 2).all()
    assert reds(made.all("validation")) == set(range(20, 25))


def test_tfds_splits(prepared):
    cut = make(**prepared)
    assert cut.sizes == {"train": 18, "validation": 2}
    assert reds(cut.all("train")) | reds(cut.all("validation")) == set(range(20))
    named = make(**prepared, train_split="train[:75%]", validation_split="train[75%:]")
    assert named.sizes == {"train": 15, "validation": 5}
    assert reds(named.all("train")) | reds(named.all("validation")) == set(range(20))


def test_tfds_without_reading_ahead_of_need(prepared):
    unread = {"channels": "rgb", "resize": "crop", "cache_mb": 0}
    made = make(**prepared, **unread)
    assert reds(made.all("train")) | reds(made.all("validation")) == set(range(20))
    assert "tensorflow" not in sys.modules


def test_tfds_mistakes(prepared):
    assert "overlaps" in complaint(**prepared, validation_split="train")
    overlapping = {"train_split": "train[:60%]", "validation_split": "train[50%:]"}
    assert "overlaps" in complaint(**prepared, **overlapping)
    assert "Unknown split 'dev'" in complaint(**prepared, validation_split="dev")
    message = complaint(**prepared | {"name": "no_such_set"})
    assert "data.name=no_such_set" in message
    assert "array_record" in message

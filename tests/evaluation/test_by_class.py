"""Images made for a class are compared with real ones of the same class, or not by class at all."""

import pytest

from gan_jax.errors import UserError
from gan_jax.evaluation import section, set_metrics
from gan_jax.run.experiment import Experiment
from tests.helpers.tiny_diffusion import tiny_config


@pytest.fixture(scope="module")
def made() -> Experiment:
    """A model without classes, on images of four."""
    config = tiny_config(quality=dict(metrics=("fid_by_class",)))
    config.run.devices = 1
    found = Experiment(config)
    assert not found.system.labelled
    assert found.data.num_classes == 4
    return found


def guided(made: Experiment, monkeypatch, **classes) -> Experiment:
    """The same as it is once a classifier guides it: to the classifier's classes."""
    monkeypatch.setattr(made, "system", made.system._replace(labelled=True))
    monkeypatch.setattr(made, "facts", made.facts._replace(**classes))
    return made


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (dict(num_classes=4, class_names=("0", "1", "2", "3")), ""),
        (dict(num_classes=4, class_names=("ant", "bee", "cat", "dog")), ""),
        (dict(num_classes=4, class_names=("3", "2", "1", "0")), "class 0 is '0' and '3'"),
        (dict(num_classes=2, class_names=("0", "1")), "this data has 4 classes, of 2 that are"),
    ],
)
def test_classes_of_a_guide_are_those_of_the_data(classes, words, made, monkeypatch):
    chosen = guided(made, monkeypatch, **classes)
    assert chosen.data.class_names == ("0", "1", "2", "3")
    assert words in set_metrics._other_classes(chosen)
    assert bool(set_metrics._other_classes(chosen)) == bool(words)
    if words:
        with pytest.raises(UserError, match="fid_by_class compares images of one class, and"):
            section.check(chosen)
    else:
        section.check(chosen)


def test_data_without_classes_have_none_to_compare(made, monkeypatch):
    monkeypatch.setattr(made.data, "num_classes", 0)
    assert set_metrics._other_classes(made) == "this data has no classes"

"""Sets of images and feature networks without weights, for comparisons."""

import pytest

from gan_jax.evaluation import networks
from tests.helpers.two_sets import OTHERS, PHOTOS, npz, stand_in, stand_in_of_known_widths


@pytest.fixture(autouse=True)
def no_weights_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def sets(monkeypatch, tmp_path):
    """The words of two sets, for networks that give mean colours."""
    monkeypatch.setattr(networks, "feature_networks", stand_in)
    return npz(tmp_path / "real.npz", PHOTOS), npz(tmp_path / "fake.npz", OTHERS)


@pytest.fixture
def unasked(sets, monkeypatch):
    """The words of two sets; asking a network for features fails the test."""
    monkeypatch.setattr(networks, "feature_networks", stand_in_of_known_widths)
    return sets

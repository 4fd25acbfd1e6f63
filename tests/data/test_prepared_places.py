"""Configs find what was prepared, without a path; and a message names the command that prepares."""

import re
from pathlib import Path

import numpy as np
import pytest

from gan_jax import config as configs
from gan_jax import data
from gan_jax.data.published import places
from gan_jax.data.published.sets import SETS
from gan_jax.modes import prepare as mode
from tests.helpers.one_line import assert_refused
from tests.helpers.shell import ROOT

READERS = {
    "cifar10": (
        *("dcgan_cifar10", "sngan_cifar10", "diffusion_cifar10"),
        *("progan_cifar10", "progan_cifar10_theano"),
    ),
    "fashion_mnist": ("dcgan_fashion", "diffusion_fashion"),
    "facades": ("pix2pix_facades", "segmenter_facades"),
    "celeba_hq": ("progan_celebahq",),
}
PAIRS = [(name, config) for name, found in READERS.items() for config in found]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A current folder without data, on a system without packages of data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(places, "OF_SYSTEM", {})


def npz(path: Path, count: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x_train=np.zeros((count, 32, 32, 3), np.uint8))


def load(config: str):
    return configs.load_file(str(ROOT / f"configs/{config}.py")).data


@pytest.mark.parametrize(("name", "config"), PAIRS)
def test_a_config_without_its_data_names_the_command(name, config):
    message = assert_refused(f"--mode=prepare --name={name}`", data.make, load(config))
    assert message.startswith("config.data.path=")


def test_a_config_finds_what_was_prepared():
    npz(Path("data/cifar10.npz"), 20)
    made = data.make(load("dcgan_cifar10"))
    assert made.sizes["train"] == 18
    assert "data/cifar10.npz" in made.description


def test_a_place_that_exists_as_it_is_written_comes_first():
    """As runs of earlier revisions have it: cifar10.npz in the current folder."""
    npz(Path("data/cifar10.npz"), 20)
    npz(Path("cifar10.npz"), 10)
    assert data.make(load("dcgan_cifar10")).sizes["train"] == 9


def test_other_paths_are_never_changed():
    npz(Path("data/mine.npz"), 20)
    section = load("dcgan_cifar10")
    for path in ("mine.npz", "sub/cifar10.npz", str(Path("cifar10.npz").absolute())):
        section.path = path
        message = assert_refused("no such file", data.make, section)
        assert "--mode=prepare" not in message


def test_a_package_of_the_system_is_found_too(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "OF_SYSTEM", {"fashion_mnist": str(tmp_path / "system")})
    assert places.find("fashion_mnist") == "fashion_mnist"
    (tmp_path / "system").mkdir()
    assert places.find("fashion_mnist") == str(tmp_path / "system")
    (tmp_path / "data" / "fashion_mnist").mkdir(parents=True)
    assert places.find("fashion_mnist") == "data/fashion_mnist"


def test_the_table_of_places_is_that_of_the_sets():
    weights = {"inception", "lpips"}
    assert {s.target: s.name for s in SETS.values() if s.name not in weights} == places.NAMES
    for name, published in SETS.items():
        assert published.name == name
        assert name in mode.FLAGS["name"].help
        for file in published.files:
            assert file.size > 0
            assert re.fullmatch(r"([0-9a-f]{64})?", file.sha256)
            for address in file.addresses:
                assert re.fullmatch(rf"https?://[\w./~-]+/{re.escape(file.name)}", address)
                assert file.sha256 or address.startswith("https:")
    without = {f.name for s in SETS.values() for f in s.files if not f.sha256}
    assert without == {"facades.tar.gz", "CelebAMask-HQ.zip"}

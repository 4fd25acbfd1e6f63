"""`laptop`: the variant of the configs for one's own pictures that two CPU cores can train."""

import numpy as np
import pytest
from PIL import Image

from gan_jax import config as configs
from gan_jax.run import feasibility
from gan_jax.run.experiment import Experiment
from tests.helpers import contract, people

LAPTOP = [program for program in contract.alone() if program.endswith(":laptop")]
LARGEST = 128  # pixels; more is slow to train on a CPU


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Colour pictures of several sizes in two folders, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0)
    for i in range(72):
        place = folder / f"kind_{i % 2}"
        place.mkdir(exist_ok=True)
        pixels = draw.integers(0, 256, (20 + i, 100 - i, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"{i}.png")
    (folder / "kind_0" / "broken.jpg").write_text("not a picture")
    return folder


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """A photo and a caricature of each of ten people, larger than what is trained."""
    folder = tmp_path_factory.mktemp("faces")
    for person in range(10):
        for kind, name in ((people.PHOTO, "photos"), (people.CARICATURE, "caricatures")):
            people.save(folder / name / f"person_{person}" / "1.png", person, kind, 0, side=256)
    return folder


def of_folder(name: str, variant: str, folder):
    """A config at its full size on pictures of a folder."""
    config = configs.load_file(name, variant)
    config.data.update(path=str(folder), on_error="skip")
    config.run.devices = 1
    return config


def test_the_five_configs_have_it():
    folders = {"gan_folder", "progan_folder", "diffusion_folder", "pix2pix_photos"}
    assert {program.partition(":")[0] for program in LAPTOP} == folders | {"warpgan_folder"}


@pytest.mark.parametrize("program", LAPTOP)
def test_pictures_of_any_size_fit_and_what_makes_a_step_cheaper_is_known(program, pictures, faces):
    name, _, variant = program.partition(":")
    folder = faces if name == "warpgan_folder" else pictures
    small = Experiment(of_folder(name, variant, folder))
    usual = configs.load_file(name, "")
    side = small.system.stages[-1].resolution
    assert side == small.config.data.resolution < usual.data.resolution or name == "gan_folder"
    assert side <= LARGEST
    assert small.config.model.get("dtype", "float32") == "float32"  # halves are slow on CPUs
    keys = feasibility.keys(small)
    assert any(key.startswith("config.model.") for key in keys)
    assert any(key.startswith("config.data.resolution (now ") for key in keys)


@pytest.mark.parametrize("program", LAPTOP)
def test_it_goes_with_every_other_variant(program):
    name = program.partition(":")[0]
    trained = set().union(*(contract.settings(contract.load(p)) for p in contract.PROGRAMS))
    for other in set(contract.accepted(contract.FOLDER / f"{name}.py")) - {"laptop"}:
        both, swapped = (
            configs.plain(configs.load_file(name, names))
            for names in (f"laptop,{other}", f"{other},laptop")
        )
        assert both == swapped
        assert both != configs.plain(configs.load_file(name, "laptop"))
        assert both["data"]["resolution"] <= LARGEST
        assert contract.settings(contract.load(f"{name}:laptop,{other}")) <= trained


def test_the_classes_of_folders_are_drawn_on_demand(pictures):
    experiment = Experiment(of_folder("gan_folder", "laptop,labels", pictures))
    assert experiment.system.labelled
    assert experiment.facts.num_classes == 2

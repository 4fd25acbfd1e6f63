"""Runs on people's own photos and caricatures, and what is said of their files."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from gan_jax import config as configs
from gan_jax import training
from gan_jax.errors import UserError
from gan_jax.run.experiment import Experiment
from tests.helpers.one_line import assert_refused
from tests.helpers.people import CARICATURE, PHOTO, make, save
from tests.helpers.shell import ROOT


def own_faces(folder: Path, side: int, people: int = 4) -> Path:
    for person in range(people):
        save(folder / f"photos/person_{person}/1.png", person, PHOTO, 0, side)
        save(folder / f"caricatures/person_{person}/1.png", person, CARICATURE, 0, side)
    return folder


def config(path, **options):
    """That of a user's own folder, with small networks."""
    made = configs.load_file(str(ROOT / "configs/warpgan_folder.py"))
    made.data.update(path=str(path), resolution=32, **options)
    made.model.update(width=4, blocks=1, control_width=8, disc_width=2, bottleneck=8)
    made.run.devices = 1
    return made


def test_a_run_knows_its_people(tmp_path):
    experiment = Experiment(config(own_faces(tmp_path, 32)))
    facts = experiment.facts
    assert (facts.num_classes, facts.train_size, facts.validation_size) == (3, 3, 1)
    assert (facts.channels, facts.input_channels, facts.resolution) == (3, 3, 32)
    assert "3 train identities (3 photos, 3 caricatures)" in experiment.data.description
    assert "photos to caricatures" in experiment.data.description


def test_a_run_on_what_is_not_there_or_not_aligned(tmp_path):
    folder = own_faces(tmp_path / "faces", 24)
    run = tmp_path / "run"
    said = assert_refused("is 24x24", training.train, config(folder), run)
    assert "config.data.resolution=32" in said
    assert "the mode align makes" in said
    (tmp_path / "empty").mkdir()
    for path, message in (
        (tmp_path / "absent", f"config.data.path={tmp_path}/absent: does not exist"),
        (tmp_path / "empty", "empty: holds no image"),
        ("", "config.data.path is empty"),
    ):
        assert_refused(message, training.train, config(path), run)
    shutil.rmtree(folder / "caricatures/person_2")
    assert_refused(r"person_2 \(no caricature\)", training.train, config(folder), run)
    few = config(own_faces(tmp_path / "few", 32, people=2))
    assert_refused("has 1 training identities", training.train, few, run)


def test_what_lies_beside_people_is_said(tmp_path):
    """Which folders are which split, what is passed over, and a person without any image."""
    for split, names in (("Train", ("ann", "bob")), ("Test", ("eve",))):
        for name in names:
            for kind in "PC":
                folder = tmp_path / split / name
                folder.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8), (9, 9, 9)).save(folder / f"{kind}1.png")
            (tmp_path / split / name / "notes.txt").touch()
    section = dict(source="folder", resolution=8)
    made = make(tmp_path, **section)
    assert made.identity_names == {"train": ("ann", "bob"), "validation": ("eve",)}
    assert "training images from Train/, validation images from Test/" in made.description
    assert f"passed over in {tmp_path / 'Train'}: .txt (2)" in made.description
    (tmp_path / "Train" / "dan").mkdir()
    (tmp_path / "Train" / "dan" / "P1.heic").touch()
    with pytest.raises(UserError, match=r"dan: would be a class and holds no image"):
        make(tmp_path, **section)


@pytest.mark.parametrize("pairs", ["identities", "none"])
def test_a_person_whose_images_are_of_no_known_format(tmp_path, pairs):
    """In the layout of photos and caricatures, for pairs and for classes."""
    for person in ("ann", "bob"):
        for kind in ("photos", "caricatures"):
            (tmp_path / kind / person).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / kind / person / "1.png")
    make(tmp_path, resolution=8, pairs=pairs)
    (tmp_path / "photos" / "eve").mkdir()
    (tmp_path / "photos" / "eve" / "1.heic").touch()
    with pytest.raises(UserError, match=r"photos/eve: would be a class and holds no image"):
        make(tmp_path, resolution=8, pairs=pairs)

"""Where things lie: ~ in every flag and key, and data that have moved since a run began."""

import os
from pathlib import Path

import numpy as np
import pytest
from absl.flags import FlagValues
from PIL import Image

import gan_jax
from gan_jax import config as configs
from gan_jax import training
from gan_jax.evaluation import comparison
from gan_jax.modes import MODES, parsing
from gan_jax.modes import flags as shared
from gan_jax.modes.actions import likelihood, sample
from gan_jax.modes.actions.model_choice import ModelChoice
from gan_jax.run import folder as folders
from gan_jax.run.model import load
from tests.helpers.one_line import assert_refused, refused_argument
from tests.helpers.shell import ROOT, TINY, error_line, launch

HOME = "/home/somebody"
MOVED = "name where the run's data are now$"


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.setenv("HOME", HOME)


# ---------------------------------------------------------------- ~


def test_every_flag_that_names_a_place_is_known():
    """A flag whose help speaks of a folder, file, run or page expands ~, or is named here."""
    words = ("folder", "file", ".zip", ".npz", ".pt", " run ", "weights of", "image")
    others = {
        *("config", "metrics", "weights", "classes", "layout", "count", "faces", "seeds"),
        *("first_seed", "deep_bits", "few", "kid_subset_size", "num_styles", "resize"),
        *("fit", "encoding", "labels"),
        "data",  # configs.places expands it: it may be a list
    }
    general = FlagValues()
    shared.general(general)
    expanding, plain = set(), set()  # over all modes
    for own in (general, *(parsing.load(mode).FLAGS for mode in MODES)):
        places = {n for n in own if isinstance(own[n].parser, shared.PlaceParser)}
        speaking = {n for n in own if any(w in own[n].help for w in words)} - others
        assert speaking <= places | {"state", "sampling", "time_warp"}
        expanding |= places
        plain |= {*own} - places
    named = {"real", "fake", "detector", "classifier", "feature_classifier", "style_from"}
    assert named <= expanding
    assert not expanding & plain  # a flag means the same in every mode


def test_home_in_flags(tmp_path, monkeypatch):
    """As a person sees it: the folder of a run and the config are found, npz:NAME too."""
    config = tmp_path / "mine.py"
    config.write_text(
        "from gan_jax import config as configs\n"
        f"get_config = lambda v: configs.load_file({str(ROOT / 'configs/dcgan_mnist.py')!r}, v)\n"
    )
    environment = {"HOME": str(tmp_path)}
    done = launch("--config=~/mine.py:tiny", "--dry_run", environment=environment)
    assert done.returncode == 0, done.stderr
    line = error_line(
        launch("--mode=metrics", "--real=~/a.npz:x", "--fake=~/b", environment=environment)
    )
    assert f"--real={tmp_path}/a.npz" in line


@pytest.mark.parametrize("key", [*(f"data.{k}" for k in configs.DATA_PATHS), "quality.lpips"])
def test_home_in_keys(key):
    section, name = key.split(".")
    config = configs.defaults("gan")
    config[section][name] = "~/there"
    configs.prepare(config)
    assert config[section][name] == f"{HOME}/there"


def test_home_in_every_key_that_holds_a_path():
    config = configs.defaults("warpgan")
    for name in configs.QUALITY_PATHS:
        config.quality[name] = "~/q"
    config.restore.gen = ("~/run", "conv*")
    configs.prepare(config)
    assert {config.quality[name] for name in configs.QUALITY_PATHS} == {f"{HOME}/q"}
    assert config.restore.gen == (f"{HOME}/run", "conv*")
    config.data.path = "a~b"  # only at the beginning
    configs.prepare(config)
    assert config.data.path == "a~b"


# ---------------------------------------------------------------- data that have moved


def faces(folder: Path, count: int = 24, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for i in range(count):
        wide = rng.integers(0, 256, (8, 16, 3)).astype(np.uint8)
        Image.fromarray(wide).save(folder / f"{i:03}.png")
    return folder


def config(path: Path, name: str = "dcgan_mnist", **data):
    made = configs.load_file(str(ROOT / f"configs/{name}.py"), "tiny")
    made.run.update(devices=1, steps="2", quality_every="0", eval_every="2", save_every="2")
    made.best.metric = "val/gen" if name == "dcgan_mnist" else "val/l1"
    made.data.update(source="folder", path=str(path), labels="none", **data)
    if name == "dcgan_mnist":
        made.data.update(resize="crop")
    return made


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """(folder of a run, where its data are now): they lay elsewhere while it was trained."""
    home = tmp_path_factory.mktemp("moved")
    data = faces(home / "before" / "faces")
    training.train(config(data), home / "run")
    data.rename(home / "now")
    return home / "run", home / "now"


def test_a_run_goes_on_where_its_data_are_now(tmp_path, lines):
    data = faces(tmp_path / "before")
    training.train(config(data), tmp_path / "run")
    data.rename(tmp_path / "now")
    longer = config(tmp_path / "now")
    longer.run.steps = "4"
    training.train(longer, tmp_path / "run")
    told = [line for line in lines if line.startswith("changed since this run began")]
    assert "config.data.path is" in told[0]
    assert str(tmp_path / "now") in told[0]
    assert "resuming from step 2" in lines
    stored = folders.read_config(tmp_path / "run")["config"]
    assert stored["data"]["path"] == str(tmp_path / "now")


def test_other_data_in_the_new_place_are_refused(moved, tmp_path):
    run, _ = moved
    more = config(faces(tmp_path / "more", 30))
    more.run.steps = "4"
    other_data = r"data has changed since the run began .*train_size was"
    refused_argument("workdir", other_data, training.train, more, run)
    other = config(tmp_path / "more")
    other.data.flip = True
    flipped = r"another config: .*config\.data\.flip is False there, True here"
    refused_argument("workdir", flipped, training.train, other, run)


def test_evaluate_says_how_to_name_the_data_and_finds_them(moved, tmp_path):
    run, now = moved
    message = refused_argument("data", MOVED, gan_jax.evaluate, run)
    assert "config.data.path=" in message
    assert "before/faces" in message
    scores = gan_jax.evaluate(run, data={"path": str(now)})
    assert np.isfinite(scores["val/gen"])
    other = {"path": str(faces(tmp_path / "more", 30))}
    changed = "data has changed since .*train_size was .*restore it, or name where it is now$"
    refused_argument("workdir", changed, gan_jax.evaluate, run, data=other)


def test_a_model_without_need_of_data_draws_when_they_are_gone(moved, tmp_path):
    run, now = moved
    assert sample.sample(run, tmp_path / "out", range(2))
    chosen = ModelChoice(run, data={"path": str(now)})
    unneeded = "^: this model draws images without"
    refused_argument("data", unneeded, sample.sample, chosen, tmp_path, range(2))


def test_a_model_that_translates_finds_its_validation_pairs(tmp_path):
    data = faces(tmp_path / "before", 12)
    made = config(data, "pix2pix_facades", pairs="side_by_side", validation_split="fraction")
    made.data.update(validation_path="", resize="squash")
    training.train(made, tmp_path / "run")
    data.rename(tmp_path / "now")
    run = tmp_path / "run"
    refused_argument("data", MOVED, sample.sample, run, tmp_path / "out", range(2))
    places = {"path": str(tmp_path / "now")}
    assert sample.sample(ModelChoice(run, data=places), tmp_path / "out", range(2))


def test_likelihood_says_how_to_name_the_data(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1)).astype(np.uint8)
    np.savez(tmp_path / "before.npz", images=images)
    made = configs.load_file(str(ROOT / "configs/diffusion_mnist.py"), "tiny")
    made.run.update(devices=1, steps="1", quality_every="0", eval_every="0", sample_every="0")
    made.best.metric = "val/loss"
    made.data.update(source="npz", path=str(tmp_path / "before.npz"))
    made.sampling.steps = "2"
    training.train(made, tmp_path / "run")
    (tmp_path / "before.npz").rename(tmp_path / "now.npz")
    run, out = tmp_path / "run", tmp_path / "out"
    refused_argument("data", MOVED, likelihood.run, run, out)
    found = likelihood.run(ModelChoice(run, data={"path": f"{tmp_path}/now.npz"}), out, count=2)
    assert np.isfinite(found["bits_per_dim"])


def test_what_data_may_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b").mkdir()
    (tmp_path / "path=odd").mkdir()
    here = str(tmp_path)
    assert configs.places("") == {}
    assert configs.places(here) == {"path": here}
    assert configs.places("path=odd") == {"path": "path=odd"}
    found = configs.places(f"path={here}, validation_path={here}/b")
    assert found == {"path": here, "validation_path": f"{here}/b"}
    monkeypatch.setenv("HOME", here)
    assert configs.places("path=~/b") == configs.places("~/b") == {"path": f"{here}/b"}
    accepted = f"^=folder={here}: .*accepted keys are path, path_b"
    refused_argument("data", accepted, configs.places, f"folder={here}")
    for text in ("/no/where", f"path={here},path_b=/no/where"):
        absent = "^: /no/where does not exist; name where the data are now$"
        refused_argument("data", absent, configs.places, text)


def test_data_of_the_package_cannot_move(tmp_path):
    made = configs.load_file(str(ROOT / "configs/dcgan_mnist.py"), "tiny")
    made.run.update(devices=1, steps="1", quality_every="0")
    made.best.metric = "val/gen"
    training.train(made, tmp_path / "run")
    places = {"path": str(tmp_path)}
    refused_argument(
        "data", "config.data.source='synthetic'", load, tmp_path / "run", "newest", places
    )


@pytest.mark.parametrize("mode", ["train", "translate", "metrics", "report"])
def test_modes_that_open_no_data_of_a_run(mode):
    words = ["launch.py", f"--mode={mode}", "--data=/tmp", "--workdir=runs/a"]
    message = assert_refused("^--data is a flag of --mode=sample, eval", parsing.parse, words)
    assert ("--config.data.path" in message) == (mode == "train")


def test_missing_sets_of_images_say_what_to_name(tmp_path):
    there = tmp_path / "there.npz"
    np.savez(there, images=np.zeros((4, 16, 16, 3), np.uint8))
    for gone in (tmp_path / "gone", tmp_path / "gone.npz", tmp_path / "gone.zip"):
        for words in ((str(gone), str(there)), (str(there), str(gone))):
            side = "real" if words[0] == str(gone) else "fake"
            absent = f"^={gone}: .*name where the images are now"
            refused_argument(side, absent, comparison.compare, *words, ["swd"])


def test_the_launcher_needs_no_home(monkeypatch):
    """A user that the system does not know keeps the ~."""
    assert os.path.expanduser("~nobody_of_this_name/x").startswith("~")
    assert (
        parsing.with_home(["launch.py", "--config=~/a.py:tiny"])[1] == f"--config={HOME}/a.py:tiny"
    )
    assert parsing.with_home(["launch.py", "--config", "~/a.py"])[2] == f"{HOME}/a.py"
    assert parsing.with_home(["launch.py", "--config.data.path=~/a"])[1] == "--config.data.path=~/a"
    assert TINY.startswith("--config=")


def test_data_on_the_command_line(moved):
    run, now = moved
    evaluate = ("--mode=evaluate", f"--workdir={run}")
    line = error_line(launch(*evaluate))
    assert "config.data.path=" in line
    assert line.startswith("error: --data: ")
    assert line.endswith("name where the run's data are now")
    done = launch(*evaluate, f"--data=path={now}")
    assert done.returncode == 0, done.stderr
    assert "val/gen" in done.stdout

"""Training without --workdir: a new folder in runs/, whose name tells what is trained in it."""

import json
import re

import pytest

from gan_jax.errors import UserError
from gan_jax.modes import door, parsing, run_folders
from tests.helpers.shell import launch_here

CONFIG = "--config=dcgan_mnist:tiny"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test runs in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(door.devices, "prepare", lambda general: None)


def label(*words: str) -> str:
    return parsing.parse(["launch.py", *words]).label


def train(monkeypatch, does, *words: str) -> int:
    """Runs the command with `does(folder)` in place of the training; returns the exit status."""
    command = parsing.parse(["launch.py", CONFIG, *words])
    monkeypatch.setattr(command.mode, "main", lambda config, workdir: does(workdir))
    return door.run(command)


def begin(folder) -> int:
    """What a run leaves in its folder."""
    run_folders.Path(folder, "config.json").write_text("{}")
    return 0


def runs() -> list[str]:
    return sorted(path.name for path in run_folders.RUNS.glob("*"))


def test_a_label_tells_config_variants_and_two_keys():
    assert label("--config=dcgan_mnist") == "dcgan_mnist"
    assert label("--config=dcgan_mnist:tiny,labels") == "dcgan_mnist-tiny-labels"
    keys = ("--config.optim.gen.lr=1e-4", "--config.seed", "7", "--config.run.keep=3")
    assert label("--config=dcgan_mnist:tiny", *keys) == "dcgan_mnist-tiny-gen.lr_1e-4-seed_7"
    places = ("--config.data.path=/tmp/my images/", "--config.run.steps=2 epochs")
    assert label(CONFIG, *places) == "dcgan_mnist-tiny-data.path_my-images-run.steps_2-epochs"
    assert label(CONFIG, "--config.augment=('color', 'cutout')").startswith("dcgan_mnist-tiny-aug")
    last = ("--config.seed=1", "--config.seed=2")
    assert label(CONFIG, *last) == "dcgan_mnist-tiny-seed_2"


def test_numbers_go_up_and_are_taken_once(monkeypatch):
    run_folders.RUNS.mkdir()
    (run_folders.RUNS / "00011-x").mkdir()
    (run_folders.RUNS / "99 problems").mkdir()
    assert run_folders.new("a").name == "00012-a"
    assert run_folders.new("a").name == "00013-a"
    # another process takes the number between looking and making
    made, mkdir = [], run_folders.Path.mkdir

    def late(path, *arguments, **options):
        if path.name == "00014-b" and not made:
            made.append(mkdir(path))
        return mkdir(path, *arguments, **options)

    monkeypatch.setattr(run_folders.Path, "mkdir", late)
    assert run_folders.new("b").name == "00015-b"


def test_the_first_line_names_the_folder_and_how_to_go_on(monkeypatch, capsys):
    given = []
    assert train(monkeypatch, lambda folder: given.append(folder) or begin(folder)) == 0
    assert given == ["runs/00000-dcgan_mnist-tiny"]
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("runs/00000-dcgan_mnist-tiny: a new run; ")
    assert "add --workdir=runs/00000-dcgan_mnist-tiny to the same command" in line
    train(monkeypatch, begin)
    assert runs() == ["00000-dcgan_mnist-tiny", "00001-dcgan_mnist-tiny"]


def test_a_run_that_stops_says_how_to_go_on(monkeypatch, capsys):
    assert train(monkeypatch, lambda folder: begin(folder) or 75) == 75
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("to go on with this run, add --workdir=runs/00000-dcgan_mnist-tiny ")


def test_a_mistake_leaves_no_folder(monkeypatch):
    def refuse(folder):
        run_folders.Path(folder, ".lock").touch()
        raise UserError("config.data.path: nothing there")

    with pytest.raises(UserError):
        train(monkeypatch, refuse)
    assert runs() == []


def test_a_named_folder_is_used_as_it_is(monkeypatch, capsys):
    given = []
    train(monkeypatch, lambda folder: given.append(folder) or 0, "--workdir=runs/mine")
    assert given == ["runs/mine"]
    assert runs() == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("words", [["--dry_run"], ["--mode=sample"]])
def test_other_commands_get_none(monkeypatch, words):
    given = []
    train(monkeypatch, lambda folder: given.append(folder) or 0, *words)
    assert given == [""]
    assert runs() == []


def test_no_folder_can_be_made(monkeypatch):
    run_folders.RUNS.write_text("a file")
    with pytest.raises(
        UserError, match=r"workdir is missing, and no folder can be made in .*/runs"
    ):
        train(monkeypatch, begin)


def test_training_in_such_a_folder():
    done = launch_here("--config=classifier_mnist:tiny", "--config.run.steps=1")
    assert done.returncode == 0, done.stderr
    (folder,) = run_folders.RUNS.iterdir()
    assert folder.name == "00000-classifier_mnist-tiny-run.steps_1-run.devices_1"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["workdir"] == str(folder)
    assert done.stdout.startswith(f"{folder}: a new run; ")
    assert re.search("^the first step was made [0-9]+ s after the start", done.stdout, re.M)

"""--mode=prepare as a person calls it."""

import numpy as np
import pytest

from gan_jax import data
from gan_jax.data.published import weights
from gan_jax.data.published.sets import SETS
from gan_jax.modes.actions import prepare
from tests.helpers import published_sets as tiny
from tests.helpers.data_sections import typed
from tests.helpers.shell import error_line, launch_here
from tests.helpers.source_files import class_folders

CIFAR = "cifar-10-binary.tar.gz"


@pytest.fixture(autouse=True)
def given(tmp_path, monkeypatch):
    """The archive of a tiny CIFAR-10, in the current folder; its address is out of reach."""
    monkeypatch.chdir(tmp_path)
    content = tiny.tar(tiny.cifar_members())
    (tmp_path / CIFAR).write_bytes(content)
    file = tiny.remote(CIFAR, content, f"http://127.0.0.1:1/{CIFAR}")
    monkeypatch.setitem(SETS, "cifar10", tiny.cifar10(file))


def test_one_command_makes_the_data_and_the_next_finds_them(tmp_path):
    done = launch_here("--mode=prepare", "--name=cifar10", f"--from={CIFAR}")
    assert done.returncode == 0, done.stderr
    assert "configs that read it find it there" in done.stdout
    with np.load(tmp_path / "data" / "cifar10.npz") as stored:
        assert len(stored["x_train"]) == 10
    again = launch_here("--mode=prepare", "--name=cifar10")
    assert again.returncode == 0
    assert again.stdout == "data/cifar10.npz: already there and whole, nothing to do\n"


def test_mistakes_end_in_one_line():
    for words, parts in (
        ([], ["--name is missing", "cifar10", "lpips"]),
        (["--name=cifar"], ["--name=cifar: accepted are cifar10, mnist"]),
        (["--name=cifar10"], [CIFAR, "no connection", "--from=FILE", "http://127.0.0.1:1/"]),
        (["--name=cifar10", "--from=none.tgz"], ["--from: none.tgz is not there", "SHA-256"]),
        (["--name=celeba_hq"], ["CelebAMask-HQ.zip", "--from=FILE"]),
        (["--name=cifar10", "--side=64"], ["--side: is about images of your own", "--input"]),
        (["--name=cifar10", "--labels=none"], ["--labels: is about images of your own"]),
        (["--name=cifar10", f"--out={CIFAR}/x", f"--from={CIFAR}"], ["--out: "]),
    ):
        line = error_line(launch_here("--mode=prepare", *words))
        for part in parts:
            assert part in line


def test_weights_are_read_once_so_that_the_metrics_find_them(tmp_path, monkeypatch):
    content, read = b"weights", []
    (tmp_path / "w.pth").write_bytes(content)
    monkeypatch.setitem(SETS, "inception", weights.inception(tiny.remote("net-1.pth", content)))
    monkeypatch.setitem(prepare.READERS, "inception", lambda path: read.append(path) or "genuine")
    done = launch_here("--mode=prepare", "--name=inception", "--from=w.pth", "--out=nets")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith("genuine")
    assert "--inception=nets/net-1.pth" in done.stdout
    assert [str(path) for path in read] == ["nets/net-1.pth"]


def test_images_of_ones_own_are_stored_by_one_command(tmp_path):
    class_folders(tmp_path / "photos")
    (tmp_path / "photos" / "cat" / "bad.png").write_bytes(b"no image")
    done = launch_here("--mode=prepare", "--input=photos", "--side=5", "--out=shards")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "shards: 10 resized, 1 unreadable; shards/report.jsonl says which",
        "train on it with --config.data.source=shards --config.data.path=shards",
    ]
    made = data.make(typed(source="shards", path="shards", resolution=5))
    assert made.class_names == ("ant", "cat")
    assert made.sizes == {"train": 9, "validation": 1}
    for words, message in (
        (["--input=photos"], "--out is missing: name a new folder"),
        (["--input=photos", "--name=mnist"], "--input: stores images"),
        (["--input=none", "--out=a.zip"], "--input=none: does not exist"),
        (["--input=photos", "--out=b", "--labels=json"], "--labels: photos/dataset.json is absent"),
        (["--input=tfds:none", "--out=b", "--labels=json"], "--labels=json needs"),
    ):
        assert message in error_line(launch_here("--mode=prepare", *words))

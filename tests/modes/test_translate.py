"""pix2pix as a person runs it: train, resume, sample, translate a folder, load a .pth file."""

import json
import shutil
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gan_jax
from gan_jax import config as configs
from gan_jax import training
from gan_jax.core import best_states
from gan_jax.data import image_set
from gan_jax.errors import UserError
from gan_jax.interop import pix2pix as interop
from gan_jax.interop.formats import torch_file
from gan_jax.modes.actions import folder_task
from gan_jax.modes.actions.model_choice import ModelChoice
from gan_jax.run import folder as folders
from gan_jax.run.experiment import Experiment
from gan_jax.run.model import load
from tests.helpers.one_line import assert_refused, refused_argument
from tests.helpers.shell import (
    ROOT,
    arrays,
    assert_same,
    error_line,
    launch,
    launch_and_kill,
    launch_here,
    rows,
)

TINY = "--config=configs/pix2pix_facades.py:tiny"


def scene(folder: Path, name: str, height: int, width: int, mode: str = "RGB") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(name)).integers(0, 256, (height, width, 3))
    Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(folder / name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished tiny run: two epochs of eight steps of eight pairs."""
    workdir = tmp_path_factory.mktemp("pix2pix") / "run"
    done = launch_here(
        TINY, f"--workdir={workdir}", "--config.run.steps=2 epochs", "--config.run.log_every=1",
        "--config.run.eval_every=1 epoch", "--config.run.save_every=1 epoch",
        "--config.run.keep_every=1 epoch",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return workdir, done.stdout


def test_what_a_run_says_and_keeps(trained):
    """Direction, rates, patches; every loss of every batch; averages and validation per epoch;
    both nets of the periodic and of the best state; the table of epochs."""
    workdir, said = trained
    assert "b_to_a" in said
    assert "learning rate 0.0001" in said
    assert "94x94" in said
    line = next(text for text in said.splitlines() if "step 1/16" in text)
    for word in ("epoch 0.12/2", "disc ", "l1 ", "gan ", "ETA"):
        assert word in line
    assert "epoch 2, averages: " in said
    found = rows(workdir)
    train = [row for row in found if row["kind"] == "train"]
    assert [row["step"] for row in train] == list(range(1, 17))
    names = ("disc", "disc_real", "disc_fake", "gan", "l1", "l1_weighted", "gen")
    for row in train:
        assert {f"loss/{name}" for name in names} <= row.keys()
    epochs = [row for row in found if row["kind"] == "epoch"]
    assert [row["step"] for row in epochs] == [8, 16]
    mean = np.mean([row["loss/gen"] for row in train[:8]])
    assert epochs[0]["loss/gen"] == pytest.approx(mean, rel=1e-5)
    scores = [row for row in found if row["kind"] == "eval"]
    assert [row["step"] for row in scores] == [8, 16]
    assert {"val/l1", "val/total", "val/psnr", "val/ssim"} <= scores[0].keys()
    assert {p.name for p in (workdir / "checkpoints").iterdir() if p.name.isdigit()} == {"8", "16"}
    summary = json.loads((workdir / "summary.json").read_text())
    values = [row["val/l1"] for row in scores]
    assert summary["best"]["value"] == pytest.approx(min(values))
    assert summary["best"]["step"] == scores[int(np.argmin(values))]["step"]
    for kind in ("checkpoints", "best"):
        saved = arrays(workdir, kind)
        assert any(name.startswith("state/nets/gen/params") for name in saved)
        assert any(name.startswith("state/nets/disc/opt/moments") for name in saved)
    picture = np.asarray(Image.open(workdir / "samples/000016_raw.png"))
    assert picture.shape[1] > picture.shape[0] / 8 * 3 / 2  # three columns, eight rows


def test_the_table_of_epochs(trained):
    """epochs.csv: the averages and validation losses by epoch, the lowest one named at the end."""
    workdir, _ = trained
    lines = (workdir / "epochs.csv").read_text().splitlines()
    head = lines[0].split(",")
    assert head[:2] == ["epoch", "step"]
    table = [dict(zip(head, line.split(","), strict=True)) for line in lines[1:]]
    assert [row["epoch"] for row in table] == ["1", "2"]
    scores = {row["step"]: row for row in rows(workdir) if row["kind"] == "eval"}
    for row in table:
        assert float(row["val/l1"]) == pytest.approx(scores[int(row["step"])]["val/l1"])
        assert float(row["loss/gen"]) > 0
    best = [row for row in table if row["best"] == "yes"]
    assert [float(row["val/l1"]) for row in best] == [min(float(r["val/l1"]) for r in table)]


def test_a_killed_run_ends_bit_for_bit_like_one_that_was_not(tmp_path):
    options = [
        "--config.run.steps=12", "--config.run.save_every=1", "--config.run.log_every=1",
        "--config.run.eval_every=4", "--config.loss.pool_size=4",
    ]  # fmt: skip
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert launch(TINY, f"--workdir={straight}", *options).returncode == 0
    launch_and_kill(killed, 5, TINY, f"--workdir={killed}", *options)
    done = launch(TINY, f"--workdir={killed}", *options)
    assert done.returncode == 0, done.stderr
    assert "resuming from step" in done.stdout
    assert_same(arrays(straight), arrays(killed))
    assert rows(straight) == rows(killed)


def test_best_state_of_losses_above_five_hundred(tmp_path):
    """No sentinel stands in for infinity: any first value is the best so far, NaN never."""
    config = configs.load_file(str(ROOT / "configs/pix2pix_facades.py"), "tiny")
    config.loss.l1_weight = 1e5
    config.best.metric = "val/total"
    config.run.devices = 1
    summary = training.train(config, tmp_path / "run")
    assert summary["best"]["value"] > 500
    assert folders.state_path(tmp_path / "run", "best").exists()
    rule = best_states.Best("val/total", True)
    assert not rule.better(float("nan"), None)


def test_sample_translates_validation_pairs(trained, tmp_path):
    workdir, _ = trained
    done = launch_here(
        "--mode=sample", f"--workdir={workdir}", f"--out={tmp_path}", "--seeds=0-4",
        "--format=grid,png,npz", "--state=best",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "samples.npz") as saved:
        assert saved["images"].shape == saved["input"].shape == saved["target"].shape
        images = saved["images"]
    model = load(workdir, "best")
    assert np.array_equal(model.experiment.sample_batch([16 + 3])["target"][0],
                          model.experiment.sample_batch([3])["target"][0])  # fmt: skip
    for seed in range(5):
        alone = np.asarray(Image.open(tmp_path / f"seed{seed:06d}.png"))
        assert np.abs(alone.astype(int) - images[seed]).max() <= 1


def test_translate_a_folder(trained, tmp_path):
    """Single and side-by-side images of any size and mode: a PNG each, one sheet, scores."""
    workdir, _ = trained
    scene(tmp_path / "in", "one.jpg", 20, 30)
    scene(tmp_path / "in" / "deep", "two.png", 16, 16, "RGBA")
    scene(tmp_path / "in", "three.png", 16, 16, "L")
    scene(tmp_path / "in", "pairs.png", 24, 48)
    out = tmp_path / "out"
    done = launch_here(
        "--mode=translate", f"--workdir={workdir}", f"--input={tmp_path / 'in'}", f"--out={out}"
    )
    assert done.returncode == 0, done.stderr
    names = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert names == [
        *("deep/two.png", "one.png", "pairs.png", "scores.json", "sheets/contact_sheet.png"),
        "three.png",
    ]
    assert "were read as inputs without a target: 1 of 4; if they are pairs" in done.stdout
    assert np.asarray(Image.open(out / "one.png")).shape == (16, 16, 3)
    # what metrics read of this folder are the four images
    made = image_set.open_set(str(out), "--fake")
    assert made.names == ("deep/two", "one", "pairs", "three")
    assert "contact sheets (1)" in made.remarks[0]
    scores = json.loads((out / "scores.json").read_text())
    assert scores["images"] == 1
    assert 0 < scores["l1"] < 2
    inside = "^out=.*name a folder outside"
    assert_refused(inside, folder_task.run, "translate", str(out), out / "again", workdir)
    # the left half of the pair is its target: the same input alone gives the same output
    pair = np.asarray(Image.open(tmp_path / "in/pairs.png"))
    Image.fromarray(pair[:, 24:]).save(tmp_path / "x.png")
    with zipfile.ZipFile(tmp_path / "half.zip", "w") as archive:
        archive.write(tmp_path / "x.png", "x.png")
    half = str(tmp_path / "half.zip")
    folder_task.run("translate", half, tmp_path / "again", workdir)
    folder_task.run("translate", half, tmp_path / "best", ModelChoice(workdir, "best"))
    assert (tmp_path / "best/x.png").exists()
    first, second = (
        np.asarray(Image.open(p)) for p in (out / "pairs.png", tmp_path / "again/x.png")
    )
    assert np.abs(first.astype(int) - second).max() <= 1


def test_a_pth_file_translates_at_once(trained, tmp_path):
    """A generator as PyTorch saved it: without a run, by config.restore; the other family not."""
    workdir, _ = trained
    model = load(workdir)
    net = model.state.nets["gen"]
    params = {k: {n: np.asarray(a) for n, a in v.items()} for k, v in net.params.items()}
    torch_file.write(tmp_path / "G.pth", interop.from_trees(params, {}))
    scene(tmp_path / "in", "one.png", 16, 16)
    done = launch_here(
        # not the tiny variant: the sizes of the file without the data it was trained on
        "--mode=translate", "--config=configs/pix2pix_facades.py", "--config.data.resolution=16",
        "--config.model.gen.width=4", "--config.model.disc.width=4",
        f"--input={tmp_path / 'in'}", f"--out={tmp_path / 'a'}",
        f"--config.restore.gen=('{tmp_path / 'G.pth'}', '*')",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder_task.run("translate", str(tmp_path / "in"), tmp_path / "b", workdir)
    first, second = (np.asarray(Image.open(tmp_path / x / "one.png")) for x in "ab")
    np.testing.assert_array_equal(first, second)
    wrong = launch_here(
        "--mode=translate", "--config=configs/pix2pix_facades.py:original,tiny",
        f"--input={tmp_path / 'in'}", f"--config.restore.gen=('{tmp_path / 'G.pth'}', '*')",
    )  # fmt: skip
    line = error_line(wrong)
    for word in ("config.restore.gen", "G.pth", "pytorch_gan generator", "decoder_1"):
        assert word in line


def test_wrong_input(trained, tmp_path):
    workdir, _ = trained
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("no image")
    scene(tmp_path / "bad", "a.png", 8, 8)
    (tmp_path / "bad/b.png").write_text("not an image")
    scene(tmp_path / "odd", "a.png", 8, 9)
    translate, odd = partial(folder_task.run, "translate"), str(tmp_path / "odd")
    out, options = tmp_path / "out", folder_task.Options
    for source, wanted, message in (
        ("", options(), "^source is missing"),
        (str(empty), options(), r"holds no image .*\.png"),
        ("/no/where", options(), "^source=/no/where: does not exist"),
        (str(tmp_path / "bad"), options(), r"^source: .*b\.png.*replace or remove"),
        (odd, options(layout="side_by_side"), r"a\.png.*9x8.*unequal"),
        (odd, options(first_seed=3 * 10**9), "^first_seed=3000000000"),
    ):
        assert_refused(message, translate, source, out, workdir, wanted)
    tall, averaged = options(layout="tall"), options(weights="ema")
    refused_argument("layout", "^=tall: .*side_by_side", translate, odd, out, workdir, tall)
    refused_argument("weights", "^=ema: .* has raw$", translate, odd, out, workdir, averaged)
    refused_argument("workdir", "^ is missing", translate, odd, out)
    config = configs.load_file(str(ROOT / "configs/pix2pix_facades.py"), "tiny")
    config.restore.disc = ("net.pth", "*")  # a generator is what it needs
    missing = r"^ is missing: .*config\.restore\.gen"
    refused_argument("workdir", missing, translate, odd, out, ModelChoice(config=config))
    other = configs.load_file(str(ROOT / "configs/dcgan_mnist.py"), "tiny")
    other.run.devices = 1
    lacking = "^this model cannot translate images; use a run of pix2pix or warpgan$"
    assert_refused(lacking, folder_task.find, Experiment(other).system, "translate")
    line = error_line(launch_here("--mode=translate", f"--workdir={workdir}"))
    assert line.startswith("error: --input is missing")


def test_runs_from_before_a_key_was_known_go_on(trained, tmp_path):
    """Keys and facts that came later have their defaults; other changes are still refused."""
    workdir, _ = trained
    stored = json.loads((workdir / "config.json").read_text())
    del stored["config"]["data"]["path_b"], stored["data"]["input_channels"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    shutil.copytree(workdir / "checkpoints", tmp_path / "checkpoints")
    config = configs.typed(json.loads((workdir / "config.json").read_text())["config"])
    assert folders.check(tmp_path, config)
    config.data.load_resolution = 20
    facts = Experiment(config).facts
    refused_argument("workdir", "input_channels was 0, is 3", folders.check_facts, tmp_path, facts)
    config.data.load_resolution = 20
    other = r"config\.data\.load_resolution is 18 there, 20 here"
    refused_argument("workdir", other, folders.check, tmp_path, config)


def test_a_run_whose_option_was_ignored_goes_on(trained, tmp_path, lines):
    """Earlier revisions ignored options that a network does not have; a new run is refused."""
    run = tmp_path / "run"
    shutil.copytree(trained[0], run, symlinks=True)
    stored = json.loads((run / "config.json").read_text())
    stored["config"]["model"]["gen"]["dropout_place"] = "torch7"
    stored["config"]["model"]["disc"]["layers"] = 2
    (run / "config.json").write_text(json.dumps(stored))
    config = configs.typed(stored["config"])
    training.train(config, run)
    assert any("already finished at step 16" in line for line in lines)
    assert json.loads((run / "config.json").read_text()) == stored
    assert gan_jax.load(run).step == 16
    with pytest.raises(UserError, match=r"disc\.layers: 'pytorch_gan' has no such"):
        training.train(config, tmp_path / "new")


@pytest.mark.parametrize("kind", ["folders", "inpaint"])
def test_other_pairs_train(kind, tmp_path):
    """Two steps from two folders, and from photos with a hole."""
    name = {"folders": "pix2pix_facades", "inpaint": "pix2pix_photos"}[kind]
    variant = {"folders": "tiny", "inpaint": "inpaint,tiny"}[kind]
    config = configs.load_file(str(ROOT / f"configs/{name}.py"), variant)
    for index in range(10):
        for side in "ab":
            scene(tmp_path / side, f"{index}.png", 20, 20)
    config.data.update(source="folder", path=str(tmp_path / "a"), pairs=kind, resize="jitter")
    if kind == "folders":
        config.data.path_b = str(tmp_path / "b")
    config.run.update(steps="1", devices=1)
    summary = training.train(config, tmp_path / "run")
    assert summary["reason"] == "finished"
    assert np.isfinite(summary["scores"]["val/l1"])

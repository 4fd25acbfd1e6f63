"""First weights from elsewhere (config.restore), and a run that moves to other devices."""

import json

import jax
import numpy as np
import pytest

import gan_jax
from gan_jax import config as configs
from gan_jax import log, training
from gan_jax.core import saved_states, shared_folder
from gan_jax.core.checkpoint import Checkpoints
from gan_jax.core.mesh import fetch
from gan_jax.errors import UserError
from gan_jax.interop import pytorch_gan
from gan_jax.interop.formats import npz_file, torch_file
from gan_jax.run import model as models
from gan_jax.run import weights
from gan_jax.run.experiment import Experiment
from tests.helpers.shell import ROOT, arrays


def config(conditioning: str = "none", **networks):
    """Two steps of the tiny DCGAN, without a classifier; `networks`: changes to gen and disc."""
    chosen = configs.load_file(str(ROOT / "configs/dcgan_mnist.py"), "tiny")
    chosen.run.update(devices=1, steps="2", quality_every="0", sample_every="0", eval_every="2")
    chosen.run.save_every = "1"
    chosen.best.metric = "val/disc"
    chosen.model.conditioning = conditioning
    for net, changes in networks.items():
        chosen.model[net].update(changes)
    return chosen


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run of two steps, and its generator's averaged weights by name."""
    folder = tmp_path_factory.mktemp("restore") / "source"
    training.train(config(), folder)
    saved, ema = arrays(folder, "best"), "state/nets/gen/opt/ema/"
    named = {k.removeprefix(ema): v for k, v in saved.items() if k.startswith(ema)}
    return folder, {k.replace("/0/", "/", 1): v for k, v in named.items()}


def first(chosen, net: str = "gen"):
    """(net at step 0 as initialised, the same with config.restore, what was said)."""
    experiment, said = Experiment(chosen), []
    carry = experiment.fresh()
    with log.sent_to(said.append):
        restored = weights.restore_weights(experiment, carry)
    for name in carry.state.nets:
        if name != net:
            assert restored.state.nets[name] is carry.state.nets[name]
    return fetch(carry.state.nets[net]), fetch(restored.state.nets[net]), said


def named(net) -> dict[str, np.ndarray]:
    return saved_states.named({"params": net.params, "stats": net.stats})


def test_matching_weights_of_a_run_replace_the_initial_ones(source):
    folder, theirs = source
    chosen = config()
    chosen.seed = 1
    chosen.restore.gen = (str(folder), "d*_[01]/*")
    before, after, said = first(chosen)
    old, new = named(before), named(after)
    matching = {"params/deconv_0/kernel", "params/deconv_0/bias"}
    matching |= {"params/deconv_1/kernel", "params/deconv_1/bias"}
    for name in new:
        expected = theirs[name] if name in matching else old[name]
        np.testing.assert_array_equal(new[name], expected, err_msg=name)
    assert matching < set(new)
    assert not np.array_equal(old["params/deconv_0/kernel"], theirs["params/deconv_0/kernel"])
    assert said[0].startswith(f"config.restore.gen: 4 arrays from {folder}: deconv_0/")
    assert "do not match 'd*_[01]/*', left as initialised" in said[-1]


def test_several_globs(source):
    chosen = config()
    chosen.seed = 1
    chosen.restore.gen = (str(source[0]), "dense/* | deconv_1/kernel")
    before, after, said = first(chosen)
    old, new = named(before), named(after)
    for name in new:
        matches = name.startswith("params/dense/") or name == "params/deconv_1/kernel"
        expected = source[1][name] if matches else old[name]
        np.testing.assert_array_equal(new[name], expected, err_msg=name)
    assert "do not match 'dense/* | deconv_1/kernel', left as initialised" in said[-1]


def test_averages_begin_at_restored_weights_and_statistics(source):
    folder, theirs = source
    chosen = config()
    chosen.seed = 1
    chosen.restore.gen = (str(folder), "*")
    _, after, said = first(chosen)
    ema = after.opt["ema"]
    assert len(said) == 1
    for tree in (named(after), named(after.replace(params=ema.params[0], stats=ema.stats[0]))):
        assert tree.keys() == theirs.keys()
        for name, value in theirs.items():
            np.testing.assert_array_equal(tree[name], value, err_msg=name)
    # a checkpoint itself works like its run
    chosen.restore.gen = (str(folder / "checkpoints" / "2"), "*")
    for name, value in named(first(chosen)[1]).items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def test_what_matches_but_is_not_there_is_left_and_named(source):
    """A run without classes lends its discriminator to one with projection."""
    chosen = config("projection")
    chosen.restore.disc = (str(source[0]), "*")
    before, after, said = first(chosen, "disc")
    np.testing.assert_array_equal(after.params["embed"]["kernel"], before.params["embed"]["kernel"])
    theirs = arrays(source[0], "best")["state/nets/disc/params/conv_0/kernel"]
    np.testing.assert_array_equal(after.params["conv_0"]["kernel"], theirs)
    assert "1 match but are not there, left as initialised: embed/kernel" in "\n".join(said)


def test_weights_from_a_npz_file(source, tmp_path):
    chosen = config()
    _, given, _ = first(chosen)
    params = jax.tree.map(lambda x: x + 1, given.params)
    npz_file.write_npz(tmp_path / "gen.npz", {"params": params, "stats": given.stats})
    chosen.restore.gen = (str(tmp_path / "gen.npz"), "dense/*")
    before, after, _ = first(chosen)
    for name, value in named(after).items():
        shift = 1 if name.startswith("params/dense/") else 0
        np.testing.assert_array_equal(value, named(before)[name] + np.float32(shift), err_msg=name)


def test_a_pytorch_gan_file_trains_on(tmp_path, lines):
    """The whole way: a .pth of PyTorch-GAN's generator, restored by train and only at the start."""
    chosen = config(
        gen={"name": "pytorch_gan_dense", "width": 2}, disc={"name": "dense", "width": 2}
    )
    _, given, _ = first(chosen)
    params = jax.tree.map(lambda x: x + np.float32(0.5), given.params)
    path = tmp_path / "gen.pth"
    torch_file.write(path, pytorch_gan.from_trees(params, given.stats))
    chosen.restore.gen = (str(path), "*")
    chosen.optim.gen.lr = 0.0
    training.train(chosen, tmp_path / "run")
    assert any(str(path) in line for line in lines)
    final = arrays(tmp_path / "run")
    kernel = params["model_2"]["kernel"]
    np.testing.assert_array_equal(final["state/nets/gen/params/model_2/kernel"], kernel)
    np.testing.assert_allclose(
        final["state/nets/gen/opt/ema/params/0/model_2/kernel"], kernel, rtol=1e-6
    )
    # a resumption reads the run's own state: the file may be gone
    path.unlink()
    chosen.run.steps = "4"
    lines.clear()
    assert training.train(chosen, tmp_path / "run")["step"] == 4
    assert "resuming from step 2" in lines
    assert not any(line.startswith("config.restore") for line in lines)


def test_mistakes(source, tmp_path):
    for value, message in (
        ((str(tmp_path / "none"), "*"), "no such run or file"),
        (
            (str(tmp_path), "*"),
            "accepted are runs, their states, checkpoints .*, and .pth, .pt, .npz and .pkl files",
        ),
        ((str(source[0]), "transformer/*"), "matches nothing in"),
        (
            (str(source[0]), "dense/*|transformer/*"),
            "'transformer/\\*' matches nothing in .* holds deconv_0/",
        ),
        ((str(source[0]), "dense/*|"), "'' matches nothing in"),
    ):
        chosen = config()
        chosen.restore.gen = value
        with pytest.raises(UserError, match=f"config.restore.gen.*{message}"):
            first(chosen)
    wider = config(gen={"width": 6})
    wider.restore.gen = (str(source[0]), "deconv_0/*")
    with pytest.raises(UserError, match=r"other shapes: deconv_0/\w+ is \("):
        first(wider)


def test_a_best_state_and_the_newest_one_are_brought_to_other_hosts_before_they_are_read(
    tmp_path, monkeypatch
):
    made = configs.load_file(ROOT / "configs" / "progan_mnist.py", "tiny")
    made.run.update(steps="3", quality_every="0", sample_every="0", eval_every="1")
    made.best.metric = "val/gen"
    experiment, brought = Experiment(made), []
    monkeypatch.setattr(shared_folder, "bring", lambda *paths: brought.extend(paths))
    monkeypatch.setattr(training, "read", lambda path, shapes: ({}, {"best_value": 1.0}))
    monkeypatch.setattr(training, "TrainCarry", lambda **tree: brought[-1])
    assert training._best_reader(experiment)(tmp_path / "7", None) == tmp_path / "7"
    states = Checkpoints(tmp_path / "checkpoints")
    states.save(3, {"w": np.zeros(2, np.float32)}, {})
    states.close()
    states.restore_newest({"w": jax.ShapeDtypeStruct((2,), np.float32)})
    assert brought == [tmp_path / "7", tmp_path / "checkpoints" / "3"]


def test_a_model_has_as_many_devices_of_one_process_as_of_another(monkeypatch):
    """Of eight devices of two processes, or four, the most that divide a batch."""
    chosen = config()
    found = {}
    for processes in (1, 2, 4):
        monkeypatch.setattr(jax, "process_count", lambda processes=processes: processes)
        for chosen.batch_size, chosen.run.devices in ((9, 0), (12, 0), (12, 3), (12, 1), (16, 0)):
            key = processes, chosen.batch_size, chosen.run.devices
            found[key] = models._devices(chosen, None)
    assert found == {
        (1, 9, 0): 3, (1, 12, 0): 6, (1, 12, 3): 3, (1, 12, 1): 1, (1, 16, 0): 8,
        (2, 9, 0): 2, (2, 12, 0): 6, (2, 12, 3): 2, (2, 12, 1): 2, (2, 16, 0): 8,
        (4, 9, 0): 4, (4, 12, 0): 4, (4, 12, 3): 4, (4, 12, 1): 4, (4, 16, 0): 8,
    }  # fmt: skip


def test_a_run_moves_to_other_devices(tmp_path, monkeypatch, lines):
    """One device, then eight from the same state: said, and the result is the same. Its model
    loads where fewer devices are, on as many of them as divide a batch."""
    chosen = config(gen={"name": "dense"}, disc={"name": "dense"})
    # Adam turns the rounding of a zero gradient into a full step unless eps is large
    for section in chosen.optim.values():
        section.eps = 1e-3
    for devices, steps in ((1, "2"), (8, "4")):
        chosen.run.update(devices=devices, steps=steps)
        training.train(chosen, tmp_path / "moved")
        stored = json.loads((tmp_path / "moved" / "config.json").read_text())
        assert stored["devices"]["count"] == devices
    assert "config.run.devices is 1 there, 8 here" in "\n".join(lines)
    assert "resuming from step 2" in lines
    chosen.run.devices = 1
    training.train(chosen, tmp_path / "straight")
    straight, moved = arrays(tmp_path / "straight"), arrays(tmp_path / "moved")
    for name, value in straight.items():
        if name.startswith("state/"):
            np.testing.assert_allclose(moved[name], value, rtol=1e-4, atol=1e-4, err_msg=name)

    images = gan_jax.load(tmp_path / "moved").sample(range(3))
    every = jax.devices()
    monkeypatch.setattr(jax, "devices", lambda *_: every[:3])
    moved = gan_jax.load(tmp_path / "moved")
    assert moved.experiment.mesh.size == 2  # batches of 8
    assert np.abs(moved.sample(range(3)).astype(int) - images).max() <= 1
    assert np.isfinite(moved.evaluate()["val/disc"])

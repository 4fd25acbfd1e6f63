"""guided-diffusion's files as runs and back: import, sample, evaluate, train on, export, guide."""

import json
import os
import pickle
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import gan_jax
from gan_jax import config as configs
from gan_jax import log, training
from gan_jax.core import ema, loss_scale
from gan_jax.core.mesh import fetch
from gan_jax.interop import guided_diffusion
from gan_jax.interop.formats import torch_file
from gan_jax.modes.actions.export_file import export_file
from gan_jax.modes.actions.import_file import import_file
from gan_jax.run import released as released_files
from gan_jax.run import sampler_settings
from gan_jax.run.imported import measured
from gan_jax.run.model import load
from tests.helpers.golden_rule import GOLDEN
from tests.helpers.hostile import Call
from tests.helpers.one_line import assert_refused, refused_argument
from tests.helpers.tiny_diffusion import tiny_config

FILES = GOLDEN / "guided_diffusion/trainstep/checkpoint_files"
MODEL = FILES / "model000005.pt"


def config_of_the_file() -> ConfigDict:
    """What the shapes of the golden checkpoint do not tell, on synthetic images."""
    config = tiny_config(
        model=dict(num_channels=32, channel_mult=(1,), num_heads=1, num_head_channels=0),
        discrete=dict(schedule="linear", variance="fixed_large"),
        sampling=dict(sampler="ddim", steps="3"),
    )
    config.model.norm_groups = 32
    config.data.channels = "rgb"
    config.batch_size = 8
    config.run.update(steps="2", devices=1, log_every="1", sample_every="0", save_every="2")
    return config


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imported") / "run"
    lines = []
    with log.sent_to(lines.append):
        import_file(MODEL, folder, config_of_the_file())
    assert "diffusion unet" in lines[-1]
    return folder


def test_an_imported_model_holds_the_files_weights_in_both_sets(imported):
    model = load(imported)
    tensors = torch_file.state_dict(MODEL)
    net = model.state.nets["unet"]
    for params in (net.params, ema.averaged(net)[0]):
        found = guided_diffusion.from_trees(fetch(params), {})
        assert list(found) == list(tensors)
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(found[name], tensor)
    assert model.step == 0
    for leaf in jax.tree.leaves(loss_scale.links(net.opt)["moments"]):
        np.testing.assert_array_equal(leaf, 0)


def test_it_samples_at_once_with_any_sampler(imported):
    model = load(imported)
    images = model.sample(range(2))
    assert images.shape == (2, 8, 8, 3)
    other = sampler_settings.adjusted(model, {"sampler": "dpm++", "steps": "2", "eta": None})
    assert other.config.sampling.sampler == "dpm++"
    assert model.config.sampling.sampler == "ddim"
    assert not np.array_equal(other.sample(range(2)), images)


def test_it_trains_on_from_the_files_weights_and_is_evaluated(imported, tmp_path, lines):
    run = tmp_path / "run"
    shutil.copytree(imported, run)
    scores = gan_jax.evaluate(run, config=config_of_the_file())
    assert np.isfinite(scores["val/loss"])
    summary = training.train(config_of_the_file(), run)
    assert any("resuming from step 0" in line for line in lines)
    assert summary["step"] == 2
    started = torch_file.state_dict(MODEL)
    params = load(run).state.nets["unet"].params
    found = guided_diffusion.from_trees(fetch(params), {})
    # warm-up: two steps of Adam at most two rates away
    away = max(np.abs(found[n] - started[n]).max() for n in started)
    assert 0 < away < 5e-3
    assert json.loads((run / "config.json").read_text())["data"]["train_size"] > 0


def test_it_fine_tunes_by_restore(tmp_path, lines):
    config = config_of_the_file()
    config.restore.unet = (str(FILES / "ema_0.9_000005.pt"), "*")
    config.run.steps = "1"
    config.optim.unet.lr = 0.0
    training.train(config, tmp_path / "run")
    assert any("arrays from" in line for line in lines)
    params = load(tmp_path / "run").state.nets["unet"].params
    found = guided_diffusion.from_trees(fetch(params), {})
    for name, tensor in torch_file.state_dict(FILES / "ema_0.9_000005.pt").items():
        np.testing.assert_array_equal(found[name], tensor)


def test_export_is_the_file_again_and_brings_its_config(imported, tmp_path):
    out = tmp_path / "model.pt"
    export_file(imported, out)
    before, after = torch_file.state_dict(MODEL), torch_file.state_dict(out)
    assert list(after) == list(before)
    for name in before:
        np.testing.assert_array_equal(after[name], before[name])
    again = import_file(out, tmp_path / "again")
    config = configs.typed(json.loads((again / "config.json").read_text())["config"])
    assert config.model.num_channels == 32
    assert config.discrete.variance == "fixed_large"


def test_released_files_are_known_by_name():
    for name, released in guided_diffusion.RELEASED.items():
        path = released_files.CONFIGS / f"{released.config}.py"
        config = configs.load_file(str(path), released.variant)
        kind = released_files.SYSTEMS.get(released.role, "diffusion")
        assert config.system == kind, name
        assert (config.data.pairs == "upscale") == name.endswith("upsampler.pt") or (
            kind == "noisy_classifier"
        )


def refused(path, folder, message, config=None):
    assert_refused(message, import_file, path, folder, config)
    assert not (folder / "config.json").exists()


def test_files_of_another_architecture_list_the_first_tensors_that_differ(tmp_path):
    config = config_of_the_file()
    config.model.num_channels = 64
    refused(
        MODEL, tmp_path / "run",
        r"^source=.* is of another architecture: "
        r"time_embed.0.weight: \(128, 32\) in the file, \(256, 64\) here.*and \d+ more", config,
    )  # fmt: skip


def test_what_the_name_does_not_tell_must_be_said(tmp_path):
    refused(MODEL, tmp_path / "run", r"^source=.*takes a config.*channels 32")


def test_files_of_another_kind(tmp_path):
    config = configs.load_file("configs/noisy_classifier_mnist.py", "tiny")
    refused(MODEL, tmp_path / "run", "^source=.* holds a diffusion unet, .* for a noisy", config)
    torch_file.write(tmp_path / "x.pt", {"conv.weight": np.zeros((3, 3), np.float32)})
    refused(tmp_path / "x.pt", tmp_path / "run", "^source=.*none of guided-diffusion's networks")
    refused(tmp_path / "none.pt", tmp_path / "run", "^source=.*there is no such file")
    refused("", tmp_path / "run", "^source is missing")


def test_a_hostile_file_is_refused_and_runs_nothing(tmp_path):
    path = tmp_path / "64x64_diffusion.pt"
    bomb = Call(os.mkdir, str(tmp_path / "ran"))
    path.write_bytes(pickle.dumps({"model": bomb}, protocol=2))
    assert_refused(r"mkdir|64x64_diffusion\.pt", import_file, path, tmp_path / "run")
    assert not (tmp_path / "ran").exists()


def test_a_folder_that_holds_a_run_is_left_alone(imported):
    before = (imported / "config.json").read_bytes()
    taken = "^workdir=.* holds a run already"
    assert_refused(taken, import_file, MODEL, imported, config_of_the_file())
    assert (imported / "config.json").read_bytes() == before


def test_systems_without_such_files_are_not_exported(tmp_path):
    config = configs.load_file("configs/classifier_mnist.py", "tiny")
    config.run.update(steps="1", devices=1)
    training.train(config, tmp_path / "run")
    other = "^config.system='classifier' has no form"
    assert_refused(other, export_file, tmp_path / "run", tmp_path / "x.pt")
    other, model = "^: config.system='classifier' has no samplers", load(tmp_path / "run")
    refused_argument("sampler", other, sampler_settings.adjusted, model, {"sampler": "ddim"})


def test_sampling_keys_are_checked_and_brought_to_their_types(imported):
    model = load(imported)
    changes = sampler_settings.parse("clip=dynamic, churn=40,percentile=0.9")
    assert_refused("churn=40.0: changes nothing", sampler_settings.adjusted, model, changes)
    changes |= {"sampler": "heun"}
    changed = sampler_settings.adjusted(model, changes).config.sampling
    assert (changed.clip, changed.churn, changed.percentile) == ("dynamic", 40.0, 0.9)
    refused_argument(
        "sampling", "^='clip': write keys of config.sampling", sampler_settings.parse, "clip"
    )
    for changes, message in (
        ({"speed": "3"}, "^config.sampling has no 'speed'; accepted are churn"),
        ({"churn": "much"}, "^config.sampling.churn='much': must be of type float"),
        ({"clip": "hard"}, "^config.sampling.clip='hard': accepted are static, dynamic, none"),
    ):
        assert_refused(message, sampler_settings.adjusted, model, changes)


def classifier_config() -> ConfigDict:
    config = configs.load_file("configs/noisy_classifier_mnist.py", "tiny")
    config.data.channels = "rgb"
    config.discrete.schedule = "linear"
    config.run.update(steps="1", eval_every="0", save_every="1", devices=1)
    return config


def _classes_go_with_a_file(folder: Path, model) -> None:
    """The names of an exported classifier's classes are those of its run, which guidance compares
    with the model's, and which an import keeps."""
    names = load(folder / "judge").experiment.facts.class_names
    assert len(names) == 4
    told = json.loads((folder / "judge.pt.json").read_text())
    shutil.copy(folder / "judge.pt", folder / "turned.pt")
    told["data"]["class_names"] = [*reversed(names)]
    (folder / "turned.pt.json").write_text(json.dumps(told))
    place = str(folder / "turned.pt")
    turned = f"has learnt other classes: class 0 is '{names[-1]}' and '{names[0]}' of the model"
    refused_argument("classifier", turned, sampler_settings.adjusted, model, {}, place)
    again = import_file(folder / "judge.pt", folder / "judge_again")
    assert load(again).experiment.facts.class_names == names
    refused = f"its data have other classes: class 0 is '{names[0]}' and '{names[-1]}' of the model"
    config = classifier_config()
    turned = load(import_file(folder / "turned.pt", folder / "turned"))
    refused_argument("config", refused, measured, turned, config)


def test_a_classifiers_run_or_file_guides_a_model(imported, tmp_path):
    config = config_of_the_file()
    config.model.class_cond = True
    config.run.steps = "1"
    config.optim.unet.ema = (0.9, 0.5)
    training.train(config, tmp_path / "model")
    training.train(classifier_config(), tmp_path / "judge")
    model = load(tmp_path / "model")
    export_file(tmp_path / "model", tmp_path / "second.pt", weights="ema_0.5")
    second, _ = ema.averaged(model.state.nets["unet"], 1)
    wanted, found = guided_diffusion.from_trees(fetch(second), {}), tmp_path / "second.pt"
    for name, tensor in torch_file.state_dict(found).items():
        np.testing.assert_array_equal(tensor, wanted[name])
    accepted = "=ema_0.7: this model has raw, ema, ema_0.5"
    refused_argument("weights", accepted, export_file, tmp_path / "model", found, weights="ema_0.7")
    plain = model.sample(range(2), (1,))
    guided = sampler_settings.adjusted(model, {}, str(tmp_path / "judge"), 50.0)
    by_run = guided.sample(range(2), (1,))
    assert not np.array_equal(by_run, plain)
    export_file(tmp_path / "judge", tmp_path / "judge.pt")
    by_file = sampler_settings.adjusted(model, {}, str(tmp_path / "judge.pt"), 50.0).sample(
        range(2), (1,)
    )
    np.testing.assert_array_equal(by_file, by_run)
    _classes_go_with_a_file(tmp_path, model)
    # a model without classes is guided to those of the classifier
    free = sampler_settings.adjusted(load(imported), {}, str(tmp_path / "judge"), 50.0)
    assert free.experiment.facts.num_classes == 4
    assert not np.array_equal(free.sample(range(2), (3,)), load(imported).sample(range(2)))
    for name, message, source, scale in (
        ("classifier_scale", "^=0: must be above 0", "judge", 0.0),
        ("classifier_scale", "^=2: .*a classifier must be named", "", 2.0),
        ("classifier", "no such run or file", "none", None),
        ("classifier", "name a noisy_classifier", "model", None),
    ):
        place = str(tmp_path / source) if source else ""
        refused_argument(name, message, sampler_settings.adjusted, model, {}, place, scale)
    shutil.copytree(tmp_path / "judge", tmp_path / "other")
    told = tmp_path / "other" / "config.json"
    text = told.read_text()
    assert text.count('"schedule": "linear"') == 1
    told.write_text(text.replace('"schedule": "linear"', '"schedule": "cosine"'))
    other, place = r"learnt another noise: its config\.discrete\.schedule", str(tmp_path / "other")
    refused_argument("classifier", other, sampler_settings.adjusted, model, {}, place)

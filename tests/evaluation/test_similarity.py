"""MS-SSIM of a run: which images it compares, and runs that measured it otherwise."""

import json

import numpy as np
import pytest

from gan_jax import config as configs
from gan_jax.evaluation import quality
from gan_jax.metrics.diversity import diversity
from gan_jax.run.experiment import Experiment


def diverse(conditioning, metrics):
    """A tiny run with these metrics, on images that are large enough for them."""
    config = configs.load_file("configs/dcgan_mnist.py", "tiny")
    config.quality.update(metrics=metrics)
    config.data.resolution = 16
    config.model.conditioning = conditioning
    config.run.devices = 1
    return Experiment(config)


def test_similarity_compares_images_of_one_class_or_of_any():
    """The real ones in random order, which is that of no other metric."""
    for name, about in {"none": None, "concat": "of one class"}.items():
        made = diverse(name, ("swd", "ms_ssim"))
        measure = quality.Quality(made, None)
        assert measure.about.get("ms_ssim_pairs") == about
        task = quality._task(made, None, made.last, None)
        assert task.rows.tolist() == sorted(task.rows)
        order = np.random.default_rng(2020).permutation(task.rows)
        images, state = made.data.rows(task.split, order), made.fresh().state
        labels = images["label"] if name == "concat" else np.zeros(len(order))
        of_class = [images["image"][labels == k] for k in np.unique(labels)]
        expected = np.mean([diversity(part) for part in of_class if len(part) > 1])
        found = measure(state, made.last)
        assert found["ms_ssim_real"] == pytest.approx(expected, abs=1e-6)
        assert (
            found["swd"] == quality.Quality(diverse(name, ("swd",)), None)(state, made.last)["swd"]
        )


def test_a_run_that_measured_another_similarity_goes_on_and_says_so(tmp_path, lines):
    about = quality.Quality(diverse("concat", ("ms_ssim",)), None).about
    old = {key: value for key, value in about.items() if key != "ms_ssim_pairs"}
    quality.write_json(tmp_path / "quality.json", old)
    lines.clear()
    quality.remember(tmp_path, about)  # the metric has been added
    assert lines == []
    quality.remember(tmp_path, old)  # and left out again
    assert lines == []
    stored = json.loads((tmp_path / "quality.json").read_text())
    assert stored == json.loads(json.dumps(about))
    quality.write_json(tmp_path / "quality.json", old)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "kind": "eval", "ms_ssim": 0.5}\n')
    for said in (1, 0):
        quality.remember(tmp_path, about)
        assert [("ms_ssim compares images of one class now" in line) for line in lines] == [
            True
        ] * said
        lines.clear()

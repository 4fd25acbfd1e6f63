"""Training step by step from Python, and what a model does with arrays."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax
from gan_jax.config import load_file
from gan_jax.core import saved_states
from gan_jax.core.mesh import fetch
from gan_jax.ops import losses
from tests.helpers import contract
from tests.helpers.one_line import assert_refused

DCGAN = str(contract.FOLDER / "dcgan_mnist.py:labels,tiny")


def arrays(state) -> dict[str, bytes]:
    """The bytes of every array of the networks of a state, by name."""
    return {k: np.asarray(v).tobytes() for k, v in saved_states.named(fetch(state.nets)).items()}


@pytest.fixture(scope="module")
def gan():
    """A class-conditional DCGAN after three steps."""
    exp = gan_jax.experiment(DCGAN)
    exp.metrics = list(exp.steps(3))
    return exp


@pytest.mark.parametrize("program", ["dcgan_mnist:labels", "progan_mnist"])
def test_steps_are_those_of_a_run(program, tmp_path):
    """All stages of it: the same states, bit for bit."""
    config = contract.load(program)
    config.run.update(sample_every="0", eval_every="0", quality_every="0", save_every="0")
    if "start_from_best" in config.best:
        config.best.start_from_best = False
    gan_jax.train(config, tmp_path / "run")
    exp = gan_jax.experiment(config)
    metrics = list(exp.steps())
    assert len(metrics) == exp.experiment.last.end == int(exp.state.step)
    assert arrays(exp.state) == arrays(gan_jax.load(tmp_path / "run").state)


def test_metrics_and_images(gan):
    assert all({"loss/gen", "loss/disc"} <= m.keys() for m in gan.metrics)
    assert all(isinstance(value, float) for m in gan.metrics for value in m.values())
    images = gan.sample(5)
    assert images.shape == (5, 8, 8, 1)
    np.testing.assert_array_equal(gan.sample(seeds=[3, 4]), images[3:])
    assert gan.show(4).size == gan.show([0, 1, 2, 3]).size
    assert "val/gen" in gan.evaluate()


def test_a_config_is_found_by_its_name_from_any_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = gan_jax.experiment("dcgan_mnist:labels,tiny").config
    assert found == gan_jax.experiment(DCGAN).config
    assert_refused(
        "config=dcgan_mnst: .*did you mean dcgan_mnist", gan_jax.experiment, "dcgan_mnst"
    )


def test_a_model_follows_the_training(gan):
    exp = gan_jax.experiment(DCGAN)
    before = exp.sample(4, weights="raw")
    assert exp.step().keys() == gan.metrics[0].keys()
    assert not np.array_equal(exp.sample(4, weights="raw"), before)
    assert exp.model.step == 1


def test_a_state_may_be_put_back():
    exp = gan_jax.experiment(DCGAN)
    exp.step()
    saved = jax.tree.map(np.array, exp.state)
    first = exp.step(), arrays(exp.state)
    exp.step()
    exp.state = saved
    assert (exp.step(), arrays(exp.state)) == first


@pytest.fixture(scope="module")
def growing():
    """(training, what it draws and its weights after each step from 0 on, its states as arrays)."""
    exp = gan_jax.experiment("progan_mnist:tiny")
    drawn, states = [], []
    for number in range(exp.experiment.last.end + 1):
        drawn.append(exp.sample(2, weights="raw"))
        states.append(jax.tree.map(np.array, exp.state))
        if number < exp.experiment.last.end:
            exp.step()
    return exp, drawn, states


def test_a_state_of_a_growing_network_is_drawn_at_its_own_stage(growing):
    exp, drawn, states = growing
    assert len({images.shape for images in drawn}) > 1
    for number in (*reversed(range(len(states))), len(states) - 1):
        exp.state = states[number]
        np.testing.assert_array_equal(exp.sample(2, weights="raw"), drawn[number])


def test_a_state_of_a_growing_network_goes_on_as_it_did(growing):
    """From the middle of a stage with its moments, from its beginning without them."""
    exp, _, states = growing
    for number in (7, 6, 5, 7, 2, 9, 0):
        exp.state = states[number]
        exp.step()
        assert arrays(exp.state) == arrays(states[number + 1]), number


def test_what_was_not_finite_in_a_skipped_step_is_nan():
    """As in the rows of a run, in which it is no zero either."""
    exp = gan_jax.experiment(DCGAN, model__dtype="float16")
    huge = {
        name: net.replace(opt=net.opt._replace(scale=np.float32(2.0**120)))
        for name, net in exp.state.nets.items()
    }
    exp.state = exp.state.replace(nets=huge)
    metrics = exp.step()
    assert metrics["skipped/gen"] == metrics["skipped/disc"] == 1
    assert np.isnan(metrics["grad_norm/gen"])
    assert np.isnan(metrics["grad_norm/disc"])


def test_a_batch_of_ones_own():
    exp, other = gan_jax.experiment(DCGAN), gan_jax.experiment(DCGAN)
    batch = next(iter(exp.experiment.data("train", exp.experiment.last, 0)))
    assert exp.step(batch) == other.step()
    assert exp.step(batch) != other.step()


def test_settings_by_name_and_a_copy_of_a_config():
    config = load_file(*DCGAN.split(":"))
    exp = gan_jax.experiment(config, optim__gen__lr=3e-3, batch_size=16)
    assert (exp.config.optim.gen.lr, exp.config.batch_size) == (3e-3, 16)
    assert config.batch_size == 8
    for wrong, message in {
        "optim__gen__rate": "config.optim.gen.rate: config.optim.gen has no 'rate'; accepted are",
        "optm__gen__lr": "config.optm.gen.lr: config has no section 'optm'",
        "batch_size__x": "config.batch_size.x: config has no section 'batch_size'",
    }.items():
        assert_refused(re.escape(message), gan_jax.experiment, config, **{wrong: 1})
    assert_refused("batch_size='eight'", gan_jax.experiment, config, batch_size="eight")


def test_another_loss_and_another_network(gan):
    """A function in place of the loss, and a smaller step of the generator's network."""
    plain = losses.adversarial("non_saturating", 1.0)
    twice = plain._replace(fool=lambda logit: 2 * plain.fool(logit))
    exp = gan_jax.experiment(DCGAN, changes={"adversarial": twice})
    first = exp.step()
    assert first["loss/gen"] == pytest.approx(2 * gan.metrics[0]["loss/gen"], rel=1e-6)
    whole = exp.experiment.system.init.__wrapped__.args[0].gen

    def flat(*args, **kwargs):
        image, stats = whole.apply(*args, **kwargs)
        return jnp.zeros_like(image), stats

    grey = gan_jax.experiment(DCGAN, changes={"gen": whole._replace(apply=flat)})
    assert np.ptp(grey.sample(3)) == 0
    refused = "changes='loss_function': accepted are .*adversarial"
    assert_refused(refused, gan_jax.experiment, DCGAN, changes={"loss_function": plain})


def test_latents_of_ones_own(gan):
    model = gan.model
    z = np.random.default_rng(0).standard_normal((3, model.latents))
    images = model.sample(z=z)
    assert images.shape == (3, 8, 8, 1)
    np.testing.assert_array_equal(model.sample(seeds=[7, 1, 2], classes=[0, 1, 2], z=z), images)
    for wrong in (z[0], z[:, :-1], z[:0]):
        assert_refused(r"z: has the shape .*takes \[N, 8\]", model.sample, z=wrong)
    assert_refused("z: 3 latents for 2 seeds", model.sample, 2, z=z)
    assert_refused("seeds: give whole numbers", model.sample, "0-3")
    assert_refused("seeds: give whole numbers", model.sample, [0.5])


def test_a_walk_through_the_latents(gan):
    walk = gan.model.interpolate(seeds=[4, 2], frames=6, smoothing=1.0, classes=[1])
    assert (walk.shape, walk.dtype) == ((6, 2, 8, 8, 1), np.uint8)
    np.testing.assert_array_equal(
        gan.model.interpolate(seeds=[2], frames=6, smoothing=1.0, classes=[1])[:, 0], walk[:, 1]
    )
    assert_refused("smoothing=3 with frames=6", gan.model.interpolate, 2, frames=6, smoothing=3)


def test_what_a_gan_cannot_do(gan):
    for call in (gan.model.translate, gan.model.encode):
        assert_refused(
            r"this model \(config.system='gan'\)", call, np.zeros((1, 8, 8, 1), np.uint8)
        )


def test_translation_of_arrays():
    exp = gan_jax.experiment(contract.FOLDER / "pix2pix_photos.py:tiny")
    pairs = exp.experiment.sample_batch(range(3))
    np.testing.assert_array_equal(exp.model.translate(pairs["input"]), exp.sample(3))
    assert exp.show(2).size[0] > exp.show(2).size[1]  # a row holds input, output and target
    wrong = r"images: float64 of shape .*takes uint8 \[N, 16, 16, 1\]"
    assert_refused(wrong, exp.model.translate, pairs["input"] / 255)


def test_encoded_images_are_decoded_again():
    """DDIM's noise of an image, and from it the image; and WarpGAN's style of a drawing."""
    exp = gan_jax.experiment(
        contract.FOLDER / "diffusion_mnist.py:tiny", sampling__sampler="ddim", sampling__steps="3"
    )
    images = exp.experiment.data.rows("validation", np.arange(4))["image"]
    codes = exp.model.encode(images)
    assert codes.shape == (4, exp.model.latents)
    assert exp.model.sample(z=codes).shape == images.shape
    inverted = exp.experiment.system.tasks["invert"].run
    batch = {"image": images, "seed": np.arange(4, dtype=np.int32)}
    np.testing.assert_array_equal(
        exp.model.sample(z=codes, weights="raw"), exp.model.images(inverted, batch, "raw", 4)
    )


def test_the_public_names_have_docstrings():
    assert set(dir(gan_jax)) == {
        "__version__", "defaults", "evaluate", "experiment", "load", "train",
    }  # fmt: skip
    for name in set(dir(gan_jax)) - {"__version__"}:
        assert len(getattr(gan_jax, name).__doc__) > 40, name

"""What may be chosen when a trained diffusion model draws."""

import pytest

from gan_jax import config as configs
from gan_jax.core.system import Facts, Net
from gan_jax.errors import UserError
from gan_jax.systems import diffusion
from tests.helpers.tiny_diffusion import FACTS, tiny_config

RAW = {"unet": Net({}, {}, {})}
AVERAGED = {"unet": Net({}, {}, {"ema": ()})}


def noisy_classifier(**changes):
    """The config of a classifier that fits the tiny model, but for `changes`."""
    config = configs.load_file("configs/noisy_classifier_mnist.py", "tiny")
    config.discrete.update({name: tiny_config().discrete[name] for name in config.discrete})
    config.update(changes)
    return config


def test_values_take_the_type_of_their_key():
    config = tiny_config()
    diffusion.resample(config, {"steps": 25, "eta": "0.5", "sampler": "ddim"}, RAW)
    assert (config.sampling.steps, config.sampling.eta) == ("25", 0.5)
    assert config.sampling.sampler == "ddim"
    for changes, message in (
        ({"eta": "much"}, "config.sampling.eta='much': must be of type float"),
        ({"speed": "9"}, "config.sampling has no 'speed'; accepted are churn, "),
    ):
        with pytest.raises(UserError, match=message):
            diffusion.resample(config, changes, RAW)


@pytest.mark.parametrize(("nets", "shown"), [(RAW, "raw"), (AVERAGED, "ema")])
def test_progress_is_of_weights_that_exist(nets, shown):
    config = tiny_config()
    diffusion.resample(config, {"progress": "ema"}, nets)
    assert config.sampling.progress == shown


def test_a_classifier_guides_and_its_scale_changes():
    config, theirs = tiny_config(), noisy_classifier()
    assert not diffusion.is_guided(config)
    diffusion.guide(config, theirs, "runs/classifier", 2)
    assert diffusion.is_guided(config)
    assert config.restore.classifier == ("runs/classifier", "*")
    assert config.classifier.num_channels == theirs.model.num_channels
    diffusion.rescale_guide(config, 3)
    assert config.classifier.scale == 3.0
    assert diffusion.build(config, FACTS).networks.guide is not None


@pytest.mark.parametrize(
    ("changes", "known", "message"),
    [
        (dict(system="classifier"), FACTS, "config.system='classifier': name a noisy_classifier"),
        (dict(noised=False), FACTS, "trained on clean images"),
        ({}, Facts(16, 3, 10, 64), "images of resolution 16, the model of 8"),
        ({}, Facts(8, 1, 10, 64), "images of channels 1, the model of 3"),
        (dict(discrete=dict(steps=50)), FACTS, "another noise: its config.discrete.steps is 50"),
    ],
)
def test_a_network_that_cannot_guide_is_refused(changes, known, message):
    with pytest.raises(UserError, match=f"^the guide .*{message}"):
        diffusion.check_guide("the guide", noisy_classifier(**changes), known, tiny_config(), FACTS)
    diffusion.check_guide("the guide", noisy_classifier(), FACTS, tiny_config(), FACTS)

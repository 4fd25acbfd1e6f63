"""What may be chosen when a trained diffusion model draws."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import config as configs
from gan_jax.core.system import Facts, Net
from gan_jax.errors import UserError
from gan_jax.ops.diffusion import sampling
from gan_jax.systems import diffusion, diffusion_config
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


SETTINGS = dict(
    eta="1", percentile="0.9", churn="1", churn_min="0.1", churn_max="2", churn_noise="1.1",
    spacing="sigma", sigma_min="0.1", sigma_max="5", rho="5",
)  # fmt: skip
CHURN = {name for name in SETTINGS if name.startswith("churn")}
SIGMAS = {"sigma_min", "sigma_max", "rho"}


@pytest.mark.parametrize(
    ("process", "chosen", "read"),
    [
        ("discrete", dict(sampler="ancestral"), set()),
        ("discrete", dict(sampler="ancestral", clip="dynamic"), {"percentile"}),
        ("discrete", dict(sampler="ddim"), {"eta"}),
        ("discrete", dict(sampler="dpm++"), {"spacing"}),
        ("discrete", dict(sampler="dpm++", spacing="sigma"), {"spacing", *SIGMAS}),
        ("discrete", dict(sampler="heun"), {"churn", *SIGMAS}),
        ("discrete", dict(sampler="heun", churn="1"), {*CHURN, *SIGMAS}),
        ("edm", dict(sampler="ddim"), {"eta", *SIGMAS}),
        ("edm", dict(sampler="dpm++"), SIGMAS),
        ("flow", dict(sampler="ddim"), {"eta"}),
        ("flow", dict(sampler="dpm++"), set()),
    ],
)
def test_keys_that_change_nothing_are_refused(process, chosen, read):
    accepted = set()
    for name, value in SETTINGS.items():
        config = tiny_config(diffusion=dict(process=process), sampling=dict(steps="5"))
        with contextlib.suppress(UserError):
            diffusion.resample(config, {name: value} | chosen, RAW)
            accepted.add(name)
    assert accepted == read
    config = tiny_config(sampling=dict(sampler="dpm++"))
    told = "config.sampling.eta=1.0: changes nothing with sampler=dpm.., it is for sampler=ddim"
    with pytest.raises(UserError, match=told):
        diffusion.resample(config, {"eta": "1"}, RAW)


def drawn(config) -> np.ndarray:
    """What the config's sampler draws with a network that is easy to compute."""
    process, how = diffusion_config.process(config), diffusion_config.settings(config)
    chain = diffusion_config.walked(config, process.chain, how)
    z = np.random.default_rng(0).normal(size=(9, 1, 4, 4, 1)).astype(np.float32)
    draw = sampling.make(how, process, chain)
    noise = jnp.asarray(z)
    network = jax.jit(lambda x, t: jnp.concatenate([1.3 * jnp.sin(2 * x), 0.1 * x], -1))
    return np.asarray(draw(network, noise[0], lambda k: noise[1 + k % 8], None))


@pytest.mark.parametrize(
    "chosen", [dict(sampler="ancestral"), dict(sampler="ddim"), dict(sampler="dpm++"),
               dict(sampler="heun"), dict(sampler="heun", churn=1.0, clip="dynamic")]
)  # fmt: skip
def test_only_keys_that_change_nothing_are_refused(chosen):
    """What a sampler draws with another value of a key is another image, or the key is refused."""
    shared = dict(discrete=dict(variance="learned_range", target="start_x"))
    usual = tiny_config(sampling=dict(steps="5", clip="none") | chosen, **shared)
    before, refused = drawn(usual), diffusion_config.settings(usual).unread("discrete")
    for name in SETTINGS.keys() - chosen.keys():
        changed = usual.copy_and_resolve_references()
        changed.sampling[name] = type(usual.sampling[name])(SETTINGS[name])
        assert (name in refused) == np.array_equal(drawn(changed), before), name


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

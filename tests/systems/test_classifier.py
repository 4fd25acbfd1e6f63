"""The classifier of identities: the trunk of WarpGAN's discriminator, and what begins with it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax
from gan_jax import config as configs
from gan_jax import training
from gan_jax.core import train_step
from gan_jax.core.mesh import fetch
from gan_jax.errors import UserError
from gan_jax.models import warpgan
from gan_jax.models.classifier import STANDARD, identity_classifier
from gan_jax.run.experiment import Experiment
from gan_jax.run.weights import restore_weights
from tests.helpers.shell import ROOT, rows

SIDE = 32


def config(name: str = "identity_drawn"):
    made = configs.load_file(str(ROOT / f"configs/{name}.py"), "tiny")
    made.run.devices = 1
    return made


@pytest.mark.parametrize("head", ["flat", "pooled"])
def test_the_trunk_is_the_discriminators(head):
    """Names, shapes and numbers: the discriminator's embedding with the classifier's weights."""
    model = warpgan.defaults() | dict(disc_width=2, bottleneck=8, disc_head=head)
    _, disc = warpgan.build(model, SIDE, 3)
    net = identity_classifier(SIDE, 5, 2, head, 8)
    images = jax.random.uniform(jax.random.key(0), (2, SIDE, SIDE, 3), minval=-1.0)
    ours, _ = net.init(jax.random.key(1), images)
    theirs, _ = disc.init(jax.random.key(2), images)
    shared = set(ours) & set(theirs)
    assert shared == {*(f"conv{n}" for n in range(1, 6)), "bottleneck"}
    assert set(ours) - shared == {"linear"}
    assert jax.tree.map(jnp.shape, {k: ours[k] for k in shared}) == jax.tree.map(
        jnp.shape, {k: theirs[k] for k in shared}
    )
    (_, embedding), _ = net.apply(ours, {}, images)
    merged = theirs | {k: ours[k] for k in shared}
    (_, _, expected), _ = disc.apply(merged, {}, images * STANDARD)
    np.testing.assert_allclose(embedding, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1.0, rtol=1e-5)


def test_a_few_steps_tell_people_apart():
    made = config()
    made.optim.classifier.lr = 1e-2
    made.optim.classifier.schedule.name = "constant"
    experiment = Experiment(made)
    stage = experiment.system.stages[0]
    carry = experiment.fresh()
    step = train_step.train_function(experiment.system, experiment.mesh)
    batch = experiment.mesh.put(next(iter(experiment.data("train", stage, 0))))
    losses = []
    for _ in range(12):
        carry, metrics = step(carry, batch, experiment.key, stage)
        losses.append(float(fetch(metrics)["loss/classifier"]))
    assert losses[-1] < 0.5 * losses[0]


def test_both_configs_hold_the_trunk_of_their_discriminator():
    for classifier, generator in (
        ("identity_drawn", "warpgan_drawn"),
        ("identity_faces", "warpgan_webcaricature"),
    ):
        ours, theirs = (
            configs.load_file(str(ROOT / f"configs/{name}.py")) for name in (classifier, generator)
        )
        assert ours.data.resolution == theirs.data.resolution
        for key in ("disc_width", "disc_head", "bottleneck"):
            assert ours.model[key] == theirs.model[key], (classifier, key)


@pytest.fixture(scope="module")
def ids(tmp_path_factory):
    """The folder of a classifier's run."""
    made, folder = config(), tmp_path_factory.mktemp("runs") / "ids"
    made.run.update(steps="1", eval_every="0", sample_every="0")
    training.train(made, folder)
    return folder


def test_a_discriminator_begins_with_the_classifiers_trunk(ids, lines):
    """config.restore.disc: exactly what matches changes, and it is said what did."""
    made = config("warpgan_drawn")
    made.restore.disc = (str(ids), "conv*|bottleneck*")
    model = restored(made)
    text = "\n".join(lines)
    assert "config.restore.disc: 12 arrays from" in text
    assert "4 do not match 'conv*|bottleneck*'" in text
    weights = gan_jax.load(ids).state.nets["classifier"].params
    fresh = restored(config("warpgan_drawn"))
    for name, layer in model.items():
        for leaf, value in layer.items():
            expected = weights[name][leaf] if name in weights else fresh[name][leaf]
            np.testing.assert_array_equal(value, expected, err_msg=f"{name}/{leaf}")
    made.restore.disc = (str(ids), "conv*|dense*")
    with pytest.raises(UserError, match=r"'dense\*' matches nothing") as caught:
        restored(made)
    assert "\n" not in str(caught.value)


def test_a_run_measures_identities_and_exaggeration_as_it_trains(ids, tmp_path):
    made = config("warpgan_drawn")
    made.restore.disc = (str(ids), "conv*|bottleneck*")
    made.quality.recogniser = str(ids)
    made.run.update(steps="2", quality_every="1", eval_every="0", sample_every="0")
    training.train(made, tmp_path / "w")
    first, last = (row for row in rows(tmp_path / "w") if "rank1" in row)
    assert [first["step"], last["step"]] == [1, 2]
    whom = [name for name in first if name.startswith("rank1") or name == "identity_cosine"]
    assert set(whom) == {
        "rank1", "rank1_generated", "rank1_photo", "rank1_caricature", "identity_cosine",
    }  # fmt: skip
    warp = {f"exaggeration/{name}" for name in ("correlation", "correlation_centred", "slope")}
    assert warp < set(first)
    for name in {*whom, *warp}:
        assert -1 <= last[name] <= 1, name
    for name in ("rank1_photo", "rank1_caricature"):  # of the data: no step changes them
        assert first[name] == last[name]
    assert first["exaggeration/slope"] != last["exaggeration/slope"]


def test_a_recogniser_that_knows_the_people_it_judges_is_refused(tmp_path):
    seen = config()
    seen.data.update(source="drawn_faces", identities=18, photos=1, caricatures=1)
    seen.run.update(steps="1", eval_every="0", sample_every="0")
    training.train(seen, tmp_path / "ids")
    made = config("warpgan_drawn")  # trained on 0 to 15, judged on 16 to 19
    made.quality.recogniser = str(tmp_path / "ids")
    made.run.quality_every = "1"
    with pytest.raises(UserError, match="2 of the 4 people of validation") as caught:
        training.train(made, tmp_path / "w")
    assert "0016, 0017; train the recogniser with config.data.identities=16" in str(caught.value)


def restored(made) -> dict:
    """Parameters of the discriminator as training would begin with them."""
    experiment = Experiment(made)
    carry = experiment.fresh()
    carry = restore_weights(experiment, carry)
    return fetch(carry.state).nets["disc"].params


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("model", dict(name="resnet"), "config.model.name='resnet'"),
        ("model", dict(disc_head="round"), "config.model.disc_head='round'"),
        ("model", dict(bottleneck=0), "config.model.bottleneck=0"),
        ("model", dict(keep_prob=0.0), "config.model.keep_prob=0.0"),
        ("data", dict(resolution=16), "config.data.resolution=16"),
    ],
)
def test_what_is_not_accepted_is_named(section, values, message):
    made = config()
    made[section].update(values)
    with pytest.raises(UserError, match=message) as caught:
        Experiment(made)
    assert "\n" not in str(caught.value)

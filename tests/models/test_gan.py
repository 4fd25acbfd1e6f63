"""The networks of the gan system: golden forwards, options, sizes, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.models import gan
from gan_jax.models.classifier import classifier
from tests.helpers import golden_rule

LABEL = jnp.array([0, 2, 1, 1])


def count(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def tree_of(state_dict):
    """(params, stats) from PyTorch's names and shapes."""
    params, means = {}, {}
    for name, tensor in state_dict.items():
        module, leaf = name.rsplit(".", 1)
        module = module.replace(".", "_")
        if leaf.startswith("running_"):
            means.setdefault(module, {})[leaf.removeprefix("running_")] = tensor
        elif leaf == "bias":
            params.setdefault(module, {})["bias"] = tensor
        elif leaf == "weight":
            leaf = "scale" if tensor.ndim == 1 else "kernel"
            axes = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}[tensor.ndim]
            params.setdefault(module, {})[leaf] = tensor.transpose(axes)
    return params, {"batch_stats": means} if means else {}


def nhwc(x):
    return x.transpose(0, 2, 3, 1)


@pytest.mark.parametrize(("case", "name"), [("gan", "dense"), ("dcgan", "dcgan")])
def test_pytorch_gan_forward(case, name):
    meta, arrays = golden_rule.load(f"gan/{case}_forward")
    size = meta["options"]["img_size"]
    dropout = {"dropout": 0.0} if name == "dcgan" else {}
    nets = {
        "G": (gan.generator(f"pytorch_gan_{name}", resolution=size), arrays["in/z"]),
        "D": (
            gan.discriminator(f"pytorch_gan_{name}", resolution=size, **dropout),
            nhwc(arrays["in/x"]),
        ),
    }
    for letter, (net, x) in nets.items():
        params, stats = tree_of(golden_rule.weights(meta, f"state_dict_{letter}"))
        expected_tree = jax.eval_shape(net.init, jax.random.key(0), x, None)
        assert jax.tree.map(jnp.shape, (params, stats)) == jax.tree.map(jnp.shape, expected_tree)
        for mode in ("eval", "train"):
            run = jax.jit(lambda p, s, x, n=net, m=mode: n.apply(p, s, x, None, train=m == "train"))
            with jax.default_matmul_precision("highest"):
                y, after = run(params, stats, x)
            y = jax.nn.sigmoid(y[0])[:, None] if letter == "D" else y.transpose(0, 3, 1, 2)
            np.testing.assert_allclose(y, arrays[f"out/{letter}_{mode}"], rtol=1e-4, atol=5e-5)
        key = f"out/{letter}/running_stat_norm_after_train_forward"
        if key not in arrays:
            assert after == {}
            continue
        for path, norm in zip(arrays[f"{key}_names"], arrays[key], strict=True):
            module, leaf = str(path).rsplit(".", 1)
            kept = after["batch_stats"][module.replace(".", "_")][leaf.removeprefix("running_")]
            np.testing.assert_allclose(np.linalg.norm(kept), norm, rtol=2e-5, atol=5e-6)


def test_parameter_counts():
    z, x, key = jnp.zeros((2, 100)), jnp.zeros((2, 28, 28, 1)), jax.random.key(0)

    def params(network, inputs):
        return jax.eval_shape(network.init, key, inputs, None)[0]

    dense = params(gan.generator("dense"), z)
    assert [count(dense[name]) for name in ("hidden", "output")] == [12_928, 101_136]
    assert params(gan.discriminator("guide_conv"), x)["linear"]["kernel"].shape == (6272, 1)
    pool = params(gan.discriminator("guide_conv_pool"), x)
    assert pool["hidden"]["kernel"].shape == (3136, 128)
    assert pool["linear"]["kernel"].shape == (128, 1)
    deconv = params(gan.generator("deconv"), z)
    assert deconv["dense"]["kernel"].shape == (100, 7 * 7 * 128)
    # StudioGAN, 32 px: 512 channels at 4x4; 256 throughout, 128 in the discriminator
    deep = params(gan.generator("deep_conv"), z)
    assert deep["dense"]["kernel"].shape == (100, 16 * 512)
    assert deep["conv"]["kernel"].shape == (3, 3, 64, 3)
    assert count(params(gan.generator("resnet", z_dim=128), jnp.zeros((2, 128)))) == 4_276_739
    assert count(params(gan.discriminator("resnet"), jnp.zeros((2, 32, 32, 3)))) == 1_053_825


def tiny(kind: str, name: str, **options):
    """(network, inputs) of a small instance, three classes."""
    size = 9 if name == "guide_conv" else 8
    options = {"resolution": size, "channels": 2, "num_classes": 3, "width": 4} | options
    random = np.random.default_rng(5)
    if kind == "generator":
        return gan.generator(name, z_dim=6, **options), random.standard_normal((4, 6), np.float32)
    images = random.uniform(-1, 1, (4, size, size, 2)).astype(np.float32)
    return gan.discriminator(name, **options), images


def filled(network, *inputs):
    """(params, stats) of the network, random numbers in place of initial values."""
    shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    random = np.random.default_rng(3)
    return jax.tree.map(lambda s: jnp.asarray(random.uniform(0.1, 0.9, s.shape), s.dtype), shapes)


@pytest.mark.parametrize("name", list(gan.GENERATORS))
def test_generators(name):
    conditioning = gan.GENERATORS[name].conditionings[-1]
    network, z = tiny("generator", name, conditioning=conditioning)
    params, stats = filled(network, z, LABEL)
    apply = jax.jit(lambda label: network.apply(params, stats, z, label, train=True))
    images, new = apply(LABEL)
    assert images.shape == (4, 8, 8, 2)
    assert images.dtype == jnp.float32
    assert float(jnp.max(jnp.abs(images))) <= 1
    assert jax.tree.structure(stats) == jax.tree.structure(new)
    assert jnp.any(apply((LABEL + 1) % 3)[0] != images)
    beside = filled(tiny("generator", name, conditioning="concat")[0], z, LABEL)[0]
    assert {6 + 3} < {a.shape[0] for a in jax.tree.leaves(beside)}


def test_generator_outputs():
    x = {}
    for output in ("tanh", "sigmoid"):
        network, z = tiny("generator", "dense", output=output)
        params, stats = filled(network, z, None)
        x[output] = network.apply(params, stats, z, None)[0]
    np.testing.assert_allclose(x["tanh"], jnp.tanh(2 * jnp.arctanh(x["sigmoid"])), atol=1e-4)


@pytest.mark.parametrize("name", list(gan.DISCRIMINATORS))
def test_discriminators(name):
    network, x = tiny("discriminator", name, conditioning="projection", dropout=0.0)
    params, stats = filled(network, x, LABEL)
    apply = jax.jit(lambda label: network.apply(params, stats, x, label, train=True))
    (logit, features), new = apply(LABEL)
    assert logit.shape == (4,)
    linear = {"pytorch_gan_dense": "model_4", "pytorch_gan_dcgan": "adv_layer_0"}
    last = params[linear.get(name, "linear")]
    for label in (LABEL, (LABEL + 1) % 3):
        logit = apply(label)[0][0]
        embedded = params["embed"]["kernel"][label]
        expected = (
            (features @ last["kernel"])[:, 0] + last["bias"] + np.sum(embedded * features, -1)
        )
        np.testing.assert_allclose(logit, expected, rtol=1e-4)
    assert jax.tree.structure(stats) == jax.tree.structure(new)


def test_discriminators_take_the_label_beside_the_image():
    for name in gan.DISCRIMINATORS:
        network, x = tiny("discriminator", name)
        without = jax.eval_shape(network.init, jax.random.key(0), x, LABEL)[0]
        network, x = tiny("discriminator", name, conditioning="concat")
        beside = jax.eval_shape(network.init, jax.random.key(0), x, LABEL)[0]
        assert count(beside) > count(without)
    network, x = tiny("discriminator", "dense", conditioning="concat")
    params, stats = filled(network, x, LABEL)
    x = np.abs(x)  # with positive weights no activation is cut
    features = [network.apply(params, stats, x, label)[0][1] for label in (LABEL, LABEL * 0)]
    rows = params["hidden"]["kernel"][8 * 8 * 2 :]
    np.testing.assert_allclose(features[0] - features[1], rows[LABEL] - rows[0], atol=1e-4)
    network, x = tiny("discriminator", "guide_conv", conditioning="concat")
    params, stats = filled(network, x, LABEL)
    logit = [network.apply(params, stats, x, label)[0][0] for label in (LABEL, LABEL * 0)]
    np.testing.assert_array_equal(logit[0] != logit[1], LABEL != 0)


@pytest.mark.parametrize("name", ["dense", "conv"])
def test_dropout_and_statistics_of_training(name):
    network, x = tiny("discriminator", name, dropout=0.5, spectral_norm=True, batch_norm=True)
    params, stats = filled(network, x, LABEL)
    train = jax.jit(lambda key: network.apply(params, stats, x, LABEL, train=True, key=key))
    (logit, _), new = train(jax.random.key(1))
    # batch statistics and the vectors of the power iteration; one of length 1 may stay at 1
    changed = jax.tree.map(lambda a, b: a.size == 1 or bool(jnp.any(a != b)), stats, new)
    assert all(jax.tree.leaves(changed))
    assert jnp.any(train(jax.random.key(2))[0][0] != logit)  # dropout


@pytest.mark.parametrize("name", ["dense", "conv", "resnet"])
def test_minibatch_remedies_add_features(name):
    def features(**remedies):
        network, x = tiny("discriminator", name, batch_norm=False, **remedies)

        def run():
            params, stats = network.init(jax.random.key(0), x, LABEL)
            assert stats == {}
            return network.apply(params, stats, x, LABEL)[0][1]

        return jax.eval_shape(run).shape[1]

    assert features(minibatch_discrimination=5) == features() + 5
    # one more channel: 2x2 pixels of it in `conv`, summed in `resnet`, one feature in `dense`
    assert features(minibatch_stddev=2) == features() + {"conv": 4}.get(name, 1)


def test_networks_are_built_at_any_size():
    z = jnp.zeros((2, 6))
    key = jax.random.key(0)
    for name in ("deconv", "pytorch_gan_dcgan", "deep_conv", "resnet"):
        for size in (28, 32, 36, 64):
            network = gan.generator(name, z_dim=6, resolution=size, width=2, channels=3)

            def images(network=network):
                params, stats = network.init(key, z, None)
                return network.apply(params, stats, z, None)[0]

            assert jax.eval_shape(images).shape == (2, size, size, 3)
    for name in gan.DISCRIMINATORS:
        for size in (28, 32, 36, 64):
            network = gan.discriminator(name, resolution=size, width=2, channels=3)
            x = jnp.zeros((2, size, size, 3))
            assert jax.eval_shape(network.init, key, x, None)


def test_section_defaults_build_every_network():
    for gen_name in gan.GENERATORS:
        model = {"z_dim": 100, "conditioning": "none"}
        model["gen"] = gan.generator_defaults() | {"name": gen_name}
        for disc_name in gan.DISCRIMINATORS:
            model["disc"] = gan.discriminator_defaults() | {"name": disc_name}
            gan.build(model, 32, 3, 0)
    model["disc"] |= {"name": "conv", "batch_norm": "off"}
    disc = gan.build(model, 32, 3, 0)[1]
    assert jax.eval_shape(disc.init, jax.random.key(0), jnp.zeros((2, 32, 32, 3)), None)[1] == {}


MISTAKES = {
    "gen.name='dcgan': accepted are dense, deconv": ("generator", "dcgan", {}),
    "disc.name='dcgan': accepted are dense, guide_conv": ("discriminator", "dcgan", {}),
    "gen.depth: 'deconv' has no such option; it has z_dim": ("generator", "deconv", {"depth": 3}),
    "gen.weight_init: 'deconv' has no": ("generator", "deconv", {"weight_init": "he"}),
    "disc.batch_norm: 'guide_conv_pool'": (
        "discriminator",
        "guide_conv_pool",
        {"batch_norm": True},
    ),
    "gen.init='gauss'.*accepts default": ("generator", "deconv", {"init": "gauss"}),
    "gen.output='relu'.*accepts tanh, sigmoid": ("generator", "deconv", {"output": "relu"}),
    "model.conditioning='film'": ("discriminator", "conv", {"conditioning": "film"}),
    "'dense' accepts none, concat": ("generator", "dense", {"conditioning": "projection"}),
    "needs classes": ("generator", "deconv", {"conditioning": "concat"}),
    "multiples of 4 pixels.*data has 30": ("generator", "deconv", {"resolution": 30}),
    "disc.dropout=1.5": ("discriminator", "conv", {"dropout": 1.5}),
    "disc.width=0": ("discriminator", "conv", {"width": 0}),
}


@pytest.mark.parametrize("message", list(MISTAKES))
def test_mistakes_are_named(message):
    kind, name, options = MISTAKES[message]
    with pytest.raises(UserError, match=message):
        getattr(gan, kind)(name, **options)


def test_wrong_shapes_are_refused():
    network, x = tiny("discriminator", "conv")
    with pytest.raises(ValueError, match=r"images are \(7, 8, 2\), the discriminator takes"):
        network.init(jax.random.key(0), x[:, 1:], LABEL)
    network, z = tiny("generator", "dense")
    with pytest.raises(ValueError, match="z has 5 dimensions, the generator takes 6"):
        network.init(jax.random.key(0), z[:, 1:], LABEL)


def test_evaluation_looks_at_one_image_at_a_time():
    network, z = tiny("generator", "pytorch_gan_dense")
    params, stats = filled(network, z, LABEL)
    images, new = network.apply(params, stats, z, LABEL)
    assert new is stats
    alone = network.apply(params, stats, z[:1], LABEL[:1])[0]
    np.testing.assert_allclose(alone[0], images[0], atol=1e-6)


def test_classifier():
    network = classifier(8, 2, 3, width=4)
    x = np.random.default_rng(5).uniform(-1, 1, (4, 8, 8, 2)).astype(np.float32)
    params, stats = filled(network, x)
    apply = jax.jit(lambda key: network.apply(params, stats, x, train=True, key=key))
    (logits, features), new = apply(jax.random.key(1))
    assert logits.shape == (4, 3)
    assert features.shape == (4, 64)
    assert jax.tree.structure(stats) == jax.tree.structure(new)
    with pytest.raises(UserError, match="4 pixels and more"):
        classifier(3, 1, 10)


def test_float64():
    """Weights and inputs in doubles give outputs and statistics in doubles."""
    options = dict(width=4, num_classes=2, conditioning="projection", spectral_norm=True)
    gen = gan.generator("deconv", resolution=8, z_dim=6, **options)
    disc = gan.discriminator(
        "conv", resolution=8, minibatch_stddev=2, minibatch_discrimination=3, **options
    )

    def doubled(tree):
        return jax.tree.map(lambda x: x.astype("float64"), tree)

    def everything(key):
        z, label = jnp.ones((4, 6)), jnp.array([0, 1, 0, 1])
        params, stats = doubled(gen.init(key, z, label))
        x, gen_stats = gen.apply(params, stats, z, label, train=True)
        params, stats = doubled(disc.init(key, x, label))
        return x, gen_stats, disc.apply(params, stats, x, label, train=True)

    with jax.enable_x64(True):
        found = jax.eval_shape(everything, jax.random.key(0))
    assert {x.dtype.name for x in jax.tree.leaves(found)} == {"float64"}

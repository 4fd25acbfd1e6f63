"""The networks of pix2pix: sizes, receptive fields, dropout, how weights start."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.models import pix2pix as networks

SIZE = 16


def model(family: str = "pytorch_gan", gen: dict | None = None, disc: dict | None = None) -> dict:
    made = networks.defaults()
    made["gen"].update(name=family, **(gen or {}))
    made["disc"].update(name=family, **(disc or {}))
    return made


def small(family: str) -> dict:
    """Options of a discriminator for images of SIZE; pytorch_gan's fits without any."""
    return {"layers": 2} if family == "original" else {}


def shapes(section: dict, side: int):
    """Parameters and statistics of both networks as shapes, and those of their outputs."""
    gen, disc = networks.build(section, side, 3)
    x = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    key = jax.random.key(0)
    found = {}
    for name, net, inputs in (("gen", gen, (x,)), ("disc", disc, (x, x))):
        params, stats = jax.eval_shape(net.init, key, *inputs)
        drop = (False,) if name == "gen" else ()
        out, _ = jax.eval_shape(
            lambda p, s, i, net=net, drop=drop: net.apply(p, s, *i, *drop, train=True),
            params, stats, inputs,
        )  # fmt: skip
        found[name] = params, stats, out.shape
    return found


def count(params) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def test_parameters_of_both_families():
    for family, gen, disc in (
        ("pytorch_gan", 54_404_099, 2_767_808),
        ("original", 54_413_955, 2_768_705),
    ):
        found = shapes(model(family), 256)
        assert count(found["gen"][0]) == gen
        assert count(found["disc"][0]) == disc
    assert count(shapes(model("original"), 128)["gen"][0]) == 41_828_995


def test_receptive_fields_and_maps_of_logits():
    """94 and 70 pixels; n layers: 1, 16, 34, 70, 142, 286, 574; maps 16x16 and 30x30 at 256 px."""

    def field(**options):
        module = networks.discriminator(model(**options)["disc"], 1024)
        return networks.receptive_field(module.strides())

    assert field() == 94
    assert [field(family="original", disc={"layers": n}) for n in range(7)] == [
        *(1, 16, 34, 70, 142, 286, 574)
    ]
    assert shapes(model(), 256)["disc"][2] == (1, 16, 16, 1)
    assert shapes(model("original"), 256)["disc"][2] == (1, 30, 30, 1)
    for family in networks.DISCRIMINATORS:
        for layers in (0, 1, 3, 5) if family == "original" else (3,):
            section = model(family, disc={"layers": layers, "width": 2}, gen={"width": 2})
            module = networks.discriminator(section["disc"], 256)
            side = module.map_size(256)
            assert shapes(section, 256)["disc"][2] == (1, side, side, 1)


def test_a_receptive_field_is_what_moves_a_logit():
    """The gradient of one logit reaches exactly that many pixels."""
    for family, layers, field in (("original", 2, 34), ("pytorch_gan", 3, 94)):
        side = 2 * field // 16 * 16 + 32
        # without norms, which would let every pixel reach every logit
        section = model(family, disc={"width": 1, "layers": layers, "norm": "none"})
        _, disc = networks.build(section, side, 1)
        x = jnp.ones((1, side, side, 1))
        params, _ = disc.init(jax.random.key(0), x, x)
        params = jax.tree.map(lambda p: jnp.ones_like(p) * 0.1, params)

        def logit(image, disc=disc, params=params):
            logits, _ = disc.apply(params, {}, jnp.zeros_like(image), image)
            middle = logits.shape[1] // 2
            return logits[0, middle, middle, 0]

        rows = np.flatnonzero(np.abs(jax.grad(logit)(x)[0, :, :, 0]).sum(axis=1))
        assert rows[-1] - rows[0] + 1 == field, (family, layers)


@pytest.mark.parametrize("family", networks.GENERATORS)
@pytest.mark.parametrize("side", [64, 96, 128, 256, 512])
def test_depth_follows_the_size_and_every_size_trains(family, side):
    """Down to 1x1, or to an odd size; no norm at a 1x1 map, whatever the norm."""
    expected = {64: 6, 96: 5, 128: 7, 256: 8, 512: 9}[side]
    for norm in ("batch", "instance"):
        section = model(family, gen={"width": 1, "norm": norm}, disc={"width": 1, "norm": norm})
        params, _, out = shapes(section, side)["gen"]
        downs = [n for n in params if n.startswith(("down", "encoder")) and "norm" not in n]
        assert len(downs) == expected
        assert out == (1, side, side, 3)


@pytest.mark.parametrize("family", networks.GENERATORS)
def test_nothing_is_normalised_away_at_the_bottleneck(family):
    """At 16 px a 1x1 map is in the middle: with instance norm there it would be 0 for any image."""
    options = {"norm": "instance", "skips": False, "width": 2, "init_gain": 0.5}
    gen, _ = networks.build(model(family, gen=options, disc=small(family)), SIZE, 3)
    x = jax.random.normal(jax.random.key(1), (2, SIZE, SIZE, 3))
    params, stats = jax.jit(gen.init)(jax.random.key(0), x)
    out = np.asarray(jax.jit(gen.apply)(params, stats, x)[0])
    assert np.abs(out[0] - out[1]).max() > 1e-3


def dropped(family: str, side: int, place: str = "junyanz") -> list[int]:
    """Sides of the maps that dropout acts on, in order."""
    seen = []

    class Spy(networks.GENERATORS[family]):
        def drop(self, x, active):
            assert active
            seen.append(x.shape[1])
            return x

    own = {"dropout_place": place} if family == "original" else {}
    kind = Spy(width=1, depth=networks.depth(0, side), **own)
    x = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    jax.eval_shape(lambda x: kind.init_with_output(jax.random.key(0), x, True), x)
    return seen


def test_where_dropout_acts():
    assert dropped("original", 256) == [4, 8, 16]
    assert dropped("original", 128) == [4, 8]
    assert dropped("original", 256, "torch7") == [2, 4, 8]
    assert dropped("pytorch_gan", 256) == [16, 8, 4, 2, 1, 2, 4, 8, 16]


def test_dropout_drops_elements_by_half():
    """Elements, not channels, and what stays is doubled."""

    class Alone(networks.Generator):
        @nn.compact
        def __call__(self, x):
            return self.drop(x, True)

    x = jnp.ones((1, 64, 64, 4))
    out = np.asarray(Alone().apply({}, x, rngs={"dropout": jax.random.key(0)}))
    assert set(np.unique(out)) == {0.0, 2.0}
    assert 0.48 < (out > 0).mean() < 0.52
    assert (np.abs((out > 0).mean(axis=(0, 1, 2)) - 0.5) < 0.05).all()


def test_inits():
    """Deviation 0.02, norms' scales around 1, biases by family."""
    x = jnp.zeros((1, SIZE, SIZE, 3))

    def weights(family, norm):
        gen, _ = networks.build(
            model(family, gen={"width": 16, "norm": norm}, disc=small(family)), SIZE, 3
        )
        return jax.jit(lambda key: gen.init(key, x)[0])(jax.random.key(0))

    found = weights("original", "batch")

    def std(leaf):
        return float(jnp.std(leaf))

    assert std(found["encoder_4"]["kernel"]) == pytest.approx(0.02, rel=0.02)
    assert float(jnp.mean(found["encoder_3_norm"]["scale"])) == pytest.approx(1, abs=0.02)
    assert std(found["encoder_3_norm"]["scale"]) == pytest.approx(0.02, rel=0.3)
    assert (found["decoder_1"]["bias"] == 0).all()
    assert set(found["encoder_4"]) == {"kernel"}
    found = weights("pytorch_gan", "instance")
    assert set(found["down4"]) == set(found["up1"]) == {"kernel"}
    bias = found["final"]["bias"]
    assert (np.abs(bias) <= (16 * 32) ** -0.5).all()
    assert (bias != 0).all()


def test_deviations_by_name():
    """[4, 4, 64, 128]: 16 · 64 inputs and 16 · 128 outputs. PyTorch reads a transposed layer's
    fan-in off its second axis, the outputs."""
    key, shape = jax.random.key(0), (4, 4, 64, 128)

    def start(name, gain, transposed=False):
        net = networks.OriginalGenerator(init_name=name, init_gain=gain)
        return np.asarray(net.weights(1, transposed)["kernel_init"](key, shape))

    expected = {
        ("normal", 0.5, False): 0.5,
        ("kaiming", 0.02, False): (2 / (16 * 64)) ** 0.5,
        ("kaiming", 0.02, True): (2 / (16 * 128)) ** 0.5,
        ("xavier", 0.5, False): 0.5 * (2 / (16 * 192)) ** 0.5,
        ("xavier", 0.5, True): 0.5 * (2 / (16 * 192)) ** 0.5,
    }
    for options, deviation in expected.items():
        assert start(*options).std() == pytest.approx(deviation, rel=0.02), options
    columns = start("orthogonal", 0.5).reshape(-1, 128)
    np.testing.assert_allclose(columns.T @ columns, 0.25 * np.eye(128), atol=1e-5)
    rows = start("orthogonal", 0.5, True).transpose(2, 0, 1, 3).reshape(64, -1)
    np.testing.assert_allclose(rows @ rows.T, 0.25 * np.eye(64), atol=1e-5)


@pytest.mark.parametrize(
    ("part", "options", "words"),
    [
        ("gen", {"dropout_place": "torch7"}, "gen.dropout_place: 'pytorch_gan' has no such option"),
        ("gen", {"dropout_place": "anywhere"}, "gen.dropout_place: 'pytorch_gan' has no such"),
        (
            "disc",
            {"layers": 2},
            "disc.layers: 'pytorch_gan' has no such option; it has width",
        ),
        ("disc", {"layers": 9}, "disc.layers: 'pytorch_gan' has no such option"),
    ],
)
def test_options_that_a_network_does_not_have_are_refused(part, options, words):
    """As the system `gan` does; a value equal to the default asks for nothing."""
    section = model(**{part: options})
    with pytest.raises(UserError, match="config.model." + words):
        networks.build(section, 64, 3)
    ((key, usual),) = networks.unused(section).items()
    assert key == f"{part}.{next(iter(options))}"
    section[part][key.split(".")[1]] = usual
    networks.build(section, 64, 3)
    assert networks.unused(section) == {}
    assert networks.unused(model("original", **{part: options})) == {}

"""The U-Net, its super-resolution form and its classifier against the original's numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from gan_jax.errors import UserError
from gan_jax.interop import guided_diffusion
from gan_jax.models import unet
from gan_jax.ops import resize
from tests.helpers.golden_rule import GOLDEN, load, weights

UNETS = sorted(p.stem for p in (GOLDEN / "guided_diffusion/unet").glob("unet_*.npz"))
POOLS = ("attention", "adaptive", "spatial", "spatial_v2")
OURS = {
    "num_channels": "num_channels",
    "num_res_blocks": "num_res_blocks",
    "num_heads": "num_heads",
    "num_heads_upsample": "num_heads_upsample",
    "num_head_channels": "num_head_channels",
    "dropout": "dropout",
    "class_cond": "class_cond",
    "use_scale_shift_norm": "scale_shift_norm",
    "resblock_updown": "resblock_updown",
}


def section(options: dict, **more) -> ConfigDict:
    """config.model of the command line's flags in a golden file."""
    model = ConfigDict(unet.defaults())
    model.update({ours: options[name] for name, ours in OURS.items() if name in options})
    for name in ("num_heads_upsample", "num_head_channels"):
        model[name] = max(model[name], 0)
    mult = options.get("channel_mult", "")
    model.channel_mult = tuple(int(m) for m in mult.split(",") if m)
    model.attention_order = "new" if options.get("use_new_attention_order") else "legacy"
    size = options.get("image_size") or options["large_size"]
    levels = len(model.channel_mult or unet.MULTIPLIERS[size])
    wanted = [int(r) for r in options["attention_resolutions"].split(",")]
    # the original ignores a resolution that no level has; here that is an error
    model.attention_resolutions = tuple(
        r for r in wanted if r in [size >> i for i in range(levels)]
    )
    model.update(more)
    return model


def nhwc(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, -3, -1)


def trees(meta: dict):
    params, stats = guided_diffusion.to_trees(weights(meta, "state_dict"))
    assert stats == {}
    return params


def norms(grads) -> dict[str, float]:
    return {
        name: float(np.linalg.norm(np.asarray(leaf, np.float64)))
        for name, leaf in guided_diffusion.from_trees(jax.device_get(grads), {}).items()
    }


def check_norms(grads, golden, meta) -> None:
    found = norms(grads)
    assert set(found) == set(golden["out/grad_norm_names"])
    skipped = set(meta.get("negligible_gradient_tensors", ()))
    atol = 1e-5 * float(golden["out/grad_norm_global"])
    for name, value in zip(golden["out/grad_norm_names"], golden["out/grad_norm"], strict=True):
        if name not in skipped:
            np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=atol, err_msg=name)


def check_unet(name: str, net, low_resolution: bool = False) -> None:
    meta, golden = load(f"guided_diffusion/unet/{name}")
    params = trees(meta)
    x, c = nhwc(golden["in/x"]), nhwc(golden["in/c"])
    label = golden.get("in/y")
    low = nhwc(golden["in/low_res"]) if low_resolution else None

    def loss(params, x):
        y, _ = net.apply(params, {}, x, jnp.asarray(golden["in/t"]), label, low)
        return jnp.mean(jnp.square(y * c)), y

    both = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    (value, y), (grads, grad_x) = both(params, x)
    np.testing.assert_allclose(y, nhwc(golden["out/y"]), rtol=1e-4, atol=5e-5)
    np.testing.assert_allclose(value, golden["out/loss"], rtol=1e-4, atol=1e-5)
    expected = nhwc(golden["out/grad_x"])
    np.testing.assert_allclose(grad_x, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    check_norms(grads, golden, meta)


@pytest.mark.parametrize("name", UNETS)
def test_unet_is_the_originals(name):
    meta, golden = load(f"guided_diffusion/unet/{name}")
    options = meta["options"]
    outputs = golden["out/y"].shape[1]
    classes = 1000 if options.get("class_cond") else 0
    check_unet(name, unet.unet(section(options), options["image_size"], 3, outputs, classes))


def test_super_resolution_is_the_originals():
    meta, _ = load("guided_diffusion/unet/superres_cond")
    options = meta["options"]
    net = unet.unet(section(options, channel_mult=(1, 2, 3, 4)), 64, 3, 6, 1000, upsampler=True)
    check_unet("superres_cond", net, low_resolution=True)


def test_small_images_are_means_and_are_enlarged_as_the_originals():
    _, golden = load("guided_diffusion/unet/superres_cond")
    mean = resize.area(nhwc(golden["in/large"]), 8, 8)
    np.testing.assert_allclose(mean, nhwc(golden["out/area"]), rtol=1e-6, atol=1e-6)
    enlarged = resize.bilinear(nhwc(golden["in/low_res"]), 32, 32)
    np.testing.assert_allclose(enlarged, nhwc(golden["out/upsampled"]), rtol=1e-6, atol=1e-6)


def classifier(name: str, size: int, classes: int, **options):
    """(golden numbers, their description, network, parameters) of a classifier of the original."""
    meta, golden = load(f"guided_diffusion/classifier/classifier_{name}")
    model = ConfigDict(unet.classifier_defaults())
    model.update(num_res_blocks=1, **options)
    return golden, meta, unet.noisy_classifier(model, size, classes), trees(meta)


def test_classifier_of_the_usual_options_is_the_originals():
    options = dict(num_channels=64, attention_resolutions=(32, 8))
    golden, _, net, params = classifier("factory64", 64, 1000, **options)
    x, t = nhwc(golden["in/x"]), jnp.asarray(golden["in/t"])
    logits, _ = jax.jit(lambda p, x: net.apply(p, {}, x, t))(params, x)
    np.testing.assert_allclose(logits, golden["out/logits"], rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("pool", POOLS)
def test_classifier_is_the_originals(pool):
    """Logits, and gradients of their likelihood by images and parameters."""
    options = dict(num_channels=32, channel_mult=(1, 2), pool=pool, num_head_channels=32)
    golden, meta, net, params = classifier(pool, 16, 10, attention_resolutions=(8,), **options)
    x, t = nhwc(golden["in/x"]), jnp.asarray(golden["in/t"])
    rows = jnp.arange(len(golden["in/y"]))

    def likelihood(params, x):
        logits, _ = net.apply(params, {}, x, t)
        chosen = jax.nn.log_softmax(logits)[rows, golden["in/y"]]
        return jnp.sum(chosen), logits

    (grads, grad_x), logits = jax.jit(jax.grad(likelihood, (0, 1), has_aux=True))(params, x)
    np.testing.assert_allclose(logits, golden["out/logits"], rtol=1e-4, atol=5e-5)
    expected = nhwc(golden["out/grad_x"])
    np.testing.assert_allclose(grad_x, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    entropy = -jnp.mean(jax.nn.log_softmax(logits)[rows, golden["in/y"]])
    np.testing.assert_allclose(entropy, golden["out/ce"], rtol=1e-4, atol=1e-5)
    # the mean cross entropy's gradient is that of the sum over -B
    check_norms(jax.tree.map(lambda g: -g / len(rows), grads), golden, meta)


COMMON = dict(attention_resolutions=(32, 16, 8), resblock_updown=True, class_cond=True)
COUNTS = {
    "defaults": (64, 3, dict(), 92_025_731),
    "imagenet64": (
        64, 6,
        dict(COMMON, num_channels=192, num_head_channels=64, num_res_blocks=3),
        295_904_454,
    ),
    "imagenet128": (128, 6, dict(COMMON, num_channels=256), 421_529_606),
    "imagenet256": (256, 6, dict(COMMON, num_channels=256, num_head_channels=64), 553_838_086),
    "unconditional": (
        256, 6, dict(COMMON, num_channels=256, num_head_channels=64, class_cond=False), 552_814_086
    ),
    "imagenet512": (512, 6, dict(COMMON, num_channels=256, num_head_channels=64), 558_997_638),
    "64_256": (256, 6, dict(COMMON, num_channels=192), 311_795_910),
    "128_512": (
        512, 6,
        dict(COMMON, num_channels=192, num_head_channels=64, attention_resolutions=(32, 16)),
        308_835_270,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_of_the_published_models(name):
    size, outputs, options, expected = COUNTS[name]
    model = ConfigDict(unet.defaults())
    model.update(options)
    upsampler = "_" in name
    net = unet.unet(model, size, 3, outputs, 1000, upsampler)
    inputs = [np.zeros((1, size, size, 3), np.float32), np.zeros(1, np.float32)]
    inputs += [np.zeros(1, np.int32)]
    inputs += [np.zeros((1, size // 4, size // 4, 3), np.float32)] if upsampler else []
    params, _ = jax.eval_shape(net.init, jax.random.key(0), *inputs)
    assert unet.count(params) == expected


@pytest.mark.parametrize(
    ("size", "options", "expected"),
    [
        (64, dict(num_res_blocks=4), 65_438_568),
        (128, {}, 42_568_040),
        (256, {}, 54_096_360),
        (512, {}, 54_448_360),
        (64, dict(pool="adaptive"), 40_465_768),
        (64, dict(pool="spatial"), 50_129_256),
        (64, dict(pool="spatial_v2"), 50_133_352),
    ],
)
def test_parameter_counts_of_the_classifiers(size, options, expected):
    model = ConfigDict(unet.classifier_defaults())
    model.update(options)
    net = unet.noisy_classifier(model, size, 1000)
    x = np.zeros((1, size, size, 3), np.float32)
    params, _ = jax.eval_shape(net.init, jax.random.key(0), x, np.zeros(1, np.float32))
    assert unet.count(params) == expected


TINY = dict(
    num_channels=8, num_res_blocks=1, channel_mult=(1, 2), attention_resolutions=(4,),
    num_heads=2, norm_groups=4,
)  # fmt: skip
X = np.random.RandomState(0).randn(2, 8, 8, 3).astype(np.float32)
TIME = np.array([3.0, 500.0], np.float32)


def tiny(**options):
    model = ConfigDict(unet.defaults())
    model.update(TINY)
    model.update(options)
    return unet.unet(model, 8, 3, 6, 10)


def filled(net, *inputs):
    """Parameters without the zeros of the start, which would hide everything."""
    shapes, _ = jax.eval_shape(net.init, jax.random.key(0), *inputs)
    random = np.random.RandomState(1)
    return jax.tree.map(lambda s: jnp.asarray(0.2 * random.randn(*s.shape), jnp.float32), shapes)


def run(net, params, *inputs, **how):
    return jax.jit(lambda p: net.apply(p, {}, *inputs, **how)[0])(params)


def test_weights_start_as_pytorchs_and_the_output_at_zero():
    net = tiny(class_cond=True)
    label = np.array([4, 7], np.int32)
    params, _ = jax.jit(net.init)(jax.random.key(0), X, TIME, label)
    y = run(net, params, X, TIME, label)
    assert y.shape == (2, 8, 8, 6)
    np.testing.assert_array_equal(y, 0)
    np.testing.assert_array_equal(params["middle_block_1"]["proj_out"]["kernel"], 0)
    np.testing.assert_array_equal(params["middle_block_0"]["out_layers_3"]["bias"], 0)
    for name, fan_in in (("time_embed_2", 32), ("input_blocks_0_0", 27)):
        layer, bound = params[name], fan_in**-0.5
        for leaf in layer.values():
            assert 0.5 * bound < float(jnp.abs(leaf).max()) <= bound
    table = params["label_emb"]["embedding"]
    assert table.shape == (10, 32)
    assert 0.8 < float(table.std()) < 1.2


def test_recomputing_blocks_changes_no_number():
    found = {}
    for remat in unet.REMATS:
        net = tiny(remat=remat)
        params = filled(net, X, TIME)

        def loss(p, net=net):
            return jnp.mean(net.apply(p, {}, X, TIME)[0] ** 2)

        found[remat] = jax.jit(jax.grad(loss))(params)
    for remat in unet.REMATS[1:]:
        for a, b in zip(jax.tree.leaves(found["none"]), jax.tree.leaves(found[remat]), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_near_and_gives_the_inputs_type_back(dtype):
    params = filled(tiny(), X, TIME)
    exact, half = run(tiny(), params, X, TIME), run(tiny(dtype=dtype), params, X, TIME)
    assert half.dtype == jnp.float32
    error = float(jnp.sqrt(jnp.mean((half - exact) ** 2) / jnp.mean(exact**2)))
    assert 1e-5 < error < (0.05 if dtype == "bfloat16" else 0.01)


def test_dropout_acts_in_training_only_and_on_single_features():
    net = tiny(dropout=0.5)
    params = filled(net, X, TIME)
    still = run(net, params, X, TIME)
    np.testing.assert_allclose(still, run(tiny(), params, X, TIME), rtol=1e-6)
    drop = jax.jit(lambda p, key: net.apply(p, {}, X, TIME, train=True, key=key)[0])
    first, second = drop(params, jax.random.key(2)), drop(params, jax.random.key(3))
    assert not np.allclose(first, second)
    assert not np.allclose(first, still)


def test_no_class_adds_nothing_to_the_embedding():
    net = tiny(class_cond=True)
    label = np.array([4, 7], np.int32)
    params = filled(net, X, TIME, label)
    without = {k: v for k, v in params.items() if k != "label_emb"}
    plain = run(tiny(), without, X, TIME)
    of = jax.jit(lambda p, label: net.apply(p, {}, X, TIME, label)[0])
    none = of(params, np.full(2, unet.NO_CLASS, np.int32))
    np.testing.assert_allclose(none, plain, rtol=1e-5, atol=1e-5)
    assert not np.allclose(of(params, label), plain, atol=1e-3)


def test_doubles_stay_doubles():
    with jax.enable_x64(True):
        net = tiny()
        params = jax.tree.map(lambda a: a.astype(jnp.float64), filled(net, X, TIME))
        inputs = jnp.asarray(X, jnp.float64), jnp.asarray(TIME, jnp.float64)
        y = jax.eval_shape(lambda p: net.apply(p, {}, *inputs)[0], params)
        assert y.dtype == jnp.float64


REFUSED = {
    "attention_resolutions=(5,)": (dict(attention_resolutions=(5,)), "no level is 5 px.* 8, 4"),
    "norm_groups": (dict(norm_groups=3), r"level 0 has 8 x 1 = 8 channels.*norm_groups=3"),
    "num_heads": (dict(num_heads=3), "num_heads=3: must divide the 16 channels of level 1"),
    "num_head_channels": (dict(num_head_channels=5), "num_head_channels=5: must divide the 16"),
    "num_heads_upsample": (dict(num_heads_upsample=5), "num_heads_upsample=5"),
    "channel_mult": (dict(channel_mult=(1, 1, 1, 1, 1)), "resolution=8 does not divide by 16"),
    "order": (dict(attention_order="old"), "attention_order='old': accepted are legacy, new"),
    "remat": (dict(remat="all"), "remat='all'"),
    "dtype": (dict(dtype="int8"), "dtype='int8'"),
    "dropout": (dict(dropout=1.0), "dropout=1.0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_options_that_do_not_go_together(name):
    options, message = REFUSED[name]
    with pytest.raises(UserError, match=message):
        tiny(**options)


def test_classes_that_the_data_does_not_have():
    model = ConfigDict(unet.defaults())
    model.update(TINY | dict(class_cond=True))
    with pytest.raises(UserError, match="class_cond=True: this data has no classes"):
        unet.unet(model, 8, 3, 3, 0)


@pytest.mark.parametrize(
    ("side", "widths", "attention"),
    [
        (28, (1, 2, 2), {3, 5}),  # 14 and 7 px go by 16 and 8
        (12, (1, 2, 2), {1, 3}),  # 12 and 6 px
        (32, (1, 2, 2, 2), {3, 5}),
    ],
)
def test_multipliers_and_attention_have_defaults_for_every_size(side, widths, attention):
    model = ConfigDict(unet.defaults())
    model.num_res_blocks = 1
    net, x = unet.unet(model, side, 1, 1, 0), np.zeros((1, side, side, 1), np.float32)
    params, _ = jax.eval_shape(net.init, jax.random.key(0), x, TIME[:1])
    blocks = [f"input_blocks_{2 * level + 1}" for level in range(len(widths))]
    channels = [params[f"{block}_0"]["out_layers_3"]["kernel"].shape[-1] for block in blocks]
    assert channels == [128 * width for width in widths]
    assert f"input_blocks_{2 * len(widths)}_0" not in params
    assert {
        int(name.split("_")[2])
        for name in params
        if name.endswith("_1") and name.startswith("input_blocks")
    } == attention


def test_fractional_multipliers_and_sizes_of_no_power_of_two():
    model = ConfigDict(unet.defaults())
    model.update(TINY | dict(num_channels=16, channel_mult=(0.5, 1, 1.5), norm_groups=8))
    model.attention_resolutions = (3,)
    net = unet.unet(model, 12, 1, 1, 0)
    x = np.zeros((1, 12, 12, 1), np.float32)
    params, _ = jax.eval_shape(net.init, jax.random.key(0), x, TIME[:1])
    assert params["input_blocks_0_0"]["kernel"].shape == (3, 3, 1, 8)
    assert params["middle_block_0"]["in_layers_0"]["scale"].shape == (24,)
    y = jax.eval_shape(lambda p: net.apply(p, {}, x, TIME[:1])[0], params)
    assert y.shape == x.shape

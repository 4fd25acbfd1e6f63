"""The polyharmonic spline warp: the original's numbers, and what must hold besides."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.ops import warping
from tests.helpers.golden_rule import load
from tests.helpers.warps import (
    DTYPES,
    SIDE,
    B,
    N,
    drawn,
    largest,
    run,
    spline,
    statistics,
    warper,
)

WARPS = ("warp_32", "warp_32_boundary", "warp_32_order1", "warp_32_outside", "warp_64x48")
SPLINES = ("o2_r1e-6", "o2_r0", "o2_r0.1", "o1_r0", "o3_r0", "o4_r0.01")


# the original's numbers


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", WARPS)
def test_warps_give_the_originals_numbers(name, dtype):
    meta, golden = load(f"warpgan/{name}")
    options = meta["options"]
    told = {row["scale"]: row for row in json.loads(meta["notes"][0].split(": ", 1)[1])}
    function = warper(options["interpolation_order"], options["num_boundary_points"])
    names = ("image", "points", "displacements", "scales", "cotangent")
    given = {key: golden[f"in/{key}"].astype(dtype) for key in names}
    given["regularization"] = np.asarray(options["regularization_weight"], dtype)
    for scale in options["scales"]:
        (_, (warped, flow)), slopes = run(function, given, scales=np.asarray(scale, dtype))

        def expected(key):
            return golden[f"out/{key}_s{scale:g}"]  # noqa: B023

        assert {x.dtype for x in (warped, flow, *slopes)} == {np.dtype(dtype)}
        near = {"image": 1e-5, "flow": 1e-5}
        if dtype == "float32":
            near = {key: max(2e-3, 4 * told[scale][key]) for key in near}
        for key, found in (("image", warped), ("flow", flow)):
            np.testing.assert_allclose(
                found, expected(key), rtol=0, atol=near[key], err_msg=f"{key} {scale}"
            )
        near = 1e-6 if dtype == "float64" else 2e-2
        for key, found in zip(("points", "displacements"), slopes[1:], strict=True):
            known = expected(f"grad_{key}")
            np.testing.assert_allclose(
                found, known, rtol=0, atol=near * largest(known), err_msg=f"{key} {scale}"
            )
        known = expected("grad_image_l2")
        np.testing.assert_allclose(
            statistics(slopes[0]), known, rtol=near, atol=near * largest(known[:4])
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SPLINES)
def test_splines_give_the_originals_numbers(name, dtype):
    meta, golden = load("warpgan/interpolate_spline")
    _, order, regularization = next(s for s in meta["options"]["specs"] if s[0] == name)
    given = {
        key: golden[f"in/{name}_{key}"].astype(dtype)
        for key in ("train_points", "train_values", "query")
    }
    given["regularization"] = np.asarray(regularization, dtype)
    values, w, v, again = run(spline(order), given)
    near = 1e-6 if dtype == "float64" else 1e-3
    for key, found in (("values", values), ("w", w), ("v", v), ("values", again)):
        known = golden[f"out/{name}_{key}"]
        assert found.dtype == dtype
        np.testing.assert_allclose(found, known, rtol=0, atol=near * largest(known), err_msg=key)


@pytest.mark.parametrize("dtype", DTYPES)
def test_samples_give_the_originals_numbers(dtype):
    _, golden = load("warpgan/dense_image_warp")
    image = golden["in/image"].astype(dtype)

    @jax.jit
    def both(image, flow):
        def square(flow):
            return jnp.sum(jnp.square(warping.dense_image_warp(image, flow)))

        return warping.dense_image_warp(image, flow), jax.grad(square)(flow)

    for kind in ("small", "large", "integer", "zero", "constant"):
        flow = golden[f"in/flow_{kind}"].astype(dtype)
        warped, slope = run(both, dict(image=image, flow=flow))
        near = 1e-4 if kind == "large" else 1e-5
        np.testing.assert_allclose(warped, golden[f"out/image_{kind}"], rtol=0, atol=near)
        known, found = golden[f"out/grad_flow_stats_{kind}"], statistics(slope)
        np.testing.assert_allclose(found[-1], known[-1], rtol=1e-3, err_msg=kind)
        near = 1e-3 * largest(known[2:4])
        np.testing.assert_allclose(found[:4], known[:4], rtol=0, atol=near, err_msg=kind)


# the warp


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_image_without_displacements_stays_as_it_is(dtype):
    given = drawn(dtype=dtype)
    for regularization in (0, 1e-6):
        changes = dict(scale=np.zeros((), dtype), regularization=np.asarray(regularization, dtype))
        (_, (warped, flow)), _ = run(warper(), given, **changes)
        np.testing.assert_array_equal(warped, given["image"])
        np.testing.assert_array_equal(flow, 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_destinations_show_what_the_sources_showed(dtype):
    """Whole pixels apart and without regularization: the very pixels."""
    given = drawn(3, dtype)
    places = np.random.default_rng(3).permutation(64)[:N]
    given["points"] = (2 + 4 * np.stack(np.divmod(places, 8), -1))[None].repeat(B, 0).astype(dtype)
    given["moves"] = np.round(np.clip(given["moves"] / 2, -1, 1))
    (_, (warped, flow)), _ = run(warper(), given)
    source, goal = (x.astype(int) for x in (given["points"], given["points"] + given["moves"]))
    batch = np.arange(B)[:, None]
    near = 1e-9 if dtype == "float64" else 2e-4
    shown = warped[batch, goal[..., 0], goal[..., 1]]
    expected = given["image"][batch, source[..., 0], source[..., 1]]
    np.testing.assert_allclose(flow[batch, goal[..., 0], goal[..., 1]], given["moves"], atol=near)
    np.testing.assert_allclose(shown, expected, rtol=0, atol=near)


def test_points_that_move_alike_shift_the_image():
    given = drawn(dtype="float32")
    given["moves"] = np.broadcast_to(np.float32([3, -5]), given["moves"].shape)
    (_, (warped, flow)), _ = run(warper(), given)
    np.testing.assert_allclose(flow, given["moves"][:, :1, None] + 0 * flow, rtol=0, atol=1e-4)
    np.testing.assert_allclose(warped[:, 4:, :-6], given["image"][:, 1:-3, 5:-1], atol=3e-4)


def test_boundary_points_hold_the_edges():
    random = np.random.default_rng(0)
    source = random.uniform(2, 7, (1, 4, 2)).astype(np.float32)
    moves = random.normal(size=(1, 4, 2)).astype(np.float32)

    @jax.jit
    def flows(source, goal):
        return [warping.sparse_flow(source, goal, 9, 13, 2, 0.0, count) for count in (1, 2)]

    corners, middles = jax.device_get(flows(source, source + moves))
    np.testing.assert_allclose(corners[:, ::8, ::12], 0, atol=1e-4)
    assert largest(corners[:, ::4, ::6][:, ::2, 1]) > 1e-2
    still = middles[:, ::4, ::6].copy()
    still[:, 1, 1] = 0  # the middle of the image is free
    np.testing.assert_allclose(still, 0, atol=1e-4)


def test_gradients_of_the_warp_are_finite_differences():
    given = drawn(2) | dict(regularization=np.asarray(1e-3))
    _, slopes = run(warper(), given)
    random = np.random.default_rng(1)
    for key, slope in zip(("image", "points", "moves"), slopes, strict=True):
        way = random.normal(size=slope.shape)
        # small, since the derivative jumps where a place of the image crosses a pixel's edge
        step = 1e-7 if key != "image" else 1.0
        ends = [run(warper(), given, **{key: given[key] + s * way})[0][0] for s in (step, -step)]
        expected = (ends[0] - ends[1]) / (2 * step)
        near = 1e-5 * np.linalg.norm(slope)
        np.testing.assert_allclose(np.sum(slope * way), expected, rtol=0, atol=near, err_msg=key)


DEGENERATE = {
    "two in one place": lambda p: np.concatenate([p[:, :1], p[:, :1], p[:, 2:]], 1),
    "two next to each other": lambda p: np.concatenate([p[:, :1], p[:, :1] + 1e-5, p[:, 2:]], 1),
    "all in one place": lambda p: np.repeat(p[:, :1], N, 1),
    "on a line": lambda p: p[..., :1] * [1, 0.5] + [1, 3],
    "on a row": lambda p: p * [0, 1] + [5, 0],
    "far outside": lambda p: 1000 * (p - SIDE / 2),
    "far away together": lambda p: p + 1e5,
    "one far away": lambda p: np.concatenate([p[:, :1] + 1e6, p[:, 1:]], 1),
}


@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("alike", [True, False], ids=["alike", "apart"])
def test_values_and_gradients_are_finite_wherever_the_points_lie(case, alike):
    given = drawn(5, "float32") | dict(regularization=np.float32(1e-6))
    given["points"] = DEGENERATE[case](given["points"]).astype("float32")
    if alike:  # destinations are degenerate as well
        given["moves"] = np.broadcast_to(given["moves"][:, :1], given["moves"].shape)
    for regularization in (0, 1e-6):
        (_, (warped, flow)), slopes = run(
            warper(), given, regularization=np.float32(regularization)
        )
        for x in (warped, flow, *slopes):
            assert np.isfinite(x).all()
        assert largest(warped) <= largest(given["image"])


@pytest.mark.parametrize("reach", [100, 1000])
def test_points_far_outside_in_single_precision(reach):
    """The flow inside is that of doubles."""
    given = drawn(4)
    given["points"] = reach * (given["points"] / SIDE - 0.5) + SIDE / 2
    given = {name: np.float32(value) for name, value in given.items()}
    (_, (_, flow)), _ = run(warper(), given)
    doubles = {name: value.astype("float64") for name, value in given.items()}
    (_, (_, known)), _ = run(warper(), doubles)
    np.testing.assert_allclose(flow, known, rtol=0, atol=2e-3)


def test_images_that_are_not_square():
    """Turned about the diagonal with everything else: the same turned image."""
    random = np.random.default_rng(0)
    image = random.uniform(-1, 1, (1, 12, 20, 2)).astype(np.float32)
    source = (random.uniform(0, 1, (1, 6, 2)) * [11, 19]).astype(np.float32)
    goal = source + random.normal(size=source.shape).astype(np.float32)

    @jax.jit
    def both(image, source, goal):
        turned = warping.warp(image.swapaxes(1, 2), source[..., ::-1], goal[..., ::-1])
        return warping.warp(image, source, goal), turned

    (warped, flow), (turned, other) = jax.device_get(both(image, source, goal))
    assert flow.shape == (1, 12, 20, 2)
    np.testing.assert_allclose(turned.swapaxes(1, 2), warped, atol=1e-3)
    np.testing.assert_allclose(other.swapaxes(1, 2)[..., ::-1], flow, atol=1e-3)


def test_a_batch_is_warped_image_by_image():
    given = drawn(6) | dict(regularization=np.asarray(1e-6))
    (_, both), slopes_of_both = run(warper(), given)
    for i in range(B):
        one = {key: x[i : i + 1] if x.ndim else x for key, x in given.items()}
        (_, single), slopes = run(warper(), one)
        for found, known in zip((*single, *slopes), (*both, *slopes_of_both), strict=True):
            near = 1e-9 * largest(known)
            np.testing.assert_allclose(found[0], known[i], rtol=0, atol=near)


def test_one_program_serves_all_values():
    traces = []

    @jax.jit
    def flow(source, goal, regularization):
        traces.append(1)
        return warping.sparse_flow(source, goal, 4, 5, regularization=regularization)

    for seed in range(3):
        given = drawn(seed, "float32")
        flow(given["points"][:, :4], given["points"][:, 1:5], np.float32(seed))
    assert len(traces) == 1


# types and sampling


def test_types_of_images_and_points():
    points = jax.ShapeDtypeStruct((1, 4, 2), jnp.float32)
    types = {
        ("uint8", "float32"): ("float32", "float32"),
        ("int32", "float32"): ("float32", "float32"),
        ("bfloat16", "float32"): ("bfloat16", "float32"),
        ("float16", "bfloat16"): ("float16", "float32"),
        ("float32", "float64"): ("float32", "float64"),
        ("float64", "float32"): ("float64", "float32"),
    }
    with jax.enable_x64(True):
        for (image, place), expected in types.items():
            image = jax.ShapeDtypeStruct((1, 8, 6, 3), image)
            points = jax.ShapeDtypeStruct((1, 4, 2), place)
            made = jax.eval_shape(warping.warp, image, points, points)
            assert tuple(x.dtype.name for x in made) == expected
            assert [x.shape for x in made] == [(1, 8, 6, 3), (1, 8, 6, 2)]


def test_images_of_few_bits_are_sampled_in_single_precision():
    random = np.random.default_rng(0)
    at = random.uniform(-1, 9, (2, 3, 4, 2)).astype(np.float32)
    levels = random.integers(0, 256, (2, 8, 6, 3)).astype(np.uint8)
    sample = jax.jit(warping.sample_bilinear)
    known = np.asarray(sample(levels.astype(np.float32), at))
    assert known.std() > 10
    np.testing.assert_array_equal(sample(levels, at), known)
    few = sample(jnp.asarray(levels, jnp.bfloat16), at)  # 256 levels are exact in it
    np.testing.assert_array_equal(few, known.astype(jnp.bfloat16))


def test_outside_the_border_and_at_no_place_at_all():
    image = np.random.default_rng(0).uniform(size=(1, 4, 5, 2)).astype(np.float32)
    at = np.float32(
        [[-1, 2], [-np.inf, 2], [3.5, 4], [1e30, 1e30], [1, np.inf], [-1e9, -1e9], [2.5, 1.25]]
    )
    expected = [image[0, y, x] for y, x in ((0, 2), (0, 2), (3, 4), (3, 4), (1, 4), (0, 0))]
    expected.append(image[0, 2:4, 1:3].transpose(2, 0, 1) @ [0.75, 0.25] @ [0.5, 0.5])
    sample = jax.jit(warping.sample_bilinear)
    found = sample(image, at[None, None])
    np.testing.assert_allclose(found[0, 0], expected, rtol=1e-6)
    at[3] = np.nan  # the others do not mind
    found = np.asarray(sample(image, at[None, None]))[0, 0]
    np.testing.assert_allclose(np.delete(found, 3, 0), np.delete(expected, 3, 0), rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 5, 2), (1, 5, 1, 2), (1, 1, 1, 2)])
def test_images_of_one_row_or_column(shape):
    image = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
    found = jax.jit(warping.dense_image_warp)(image, np.zeros((*shape[:3], 2), np.float32))
    np.testing.assert_array_equal(found, image)
    away = jax.jit(warping.dense_image_warp)(image, np.full((*shape[:3], 2), 9, np.float32))
    np.testing.assert_array_equal(away, np.broadcast_to(image[:, :1, :1], shape))

"""The polyharmonic spline of the warp: its formula, and what must hold besides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.ops import warping
from tests.helpers.warps import DTYPES, B, N, drawn_spline, largest, run, spline, spline_slopes


def plain_spline(points, values, query, order, regularization) -> np.ndarray:
    """The formula of the module's head for one set of points, in the units of the points."""

    def phi(a, b):
        square = np.maximum(np.sum(np.square(a[:, None] - b), axis=2), 1e-10)
        return square ** (order / 2) * (1 if order % 2 else 0.5 * np.log(square))

    n, affine = len(points), np.pad(points, ((0, 0), (0, 1)), constant_values=1)
    system = np.zeros((n + 3, n + 3))
    system[:n, :n] = phi(points, points) + regularization * np.eye(n)
    system[:n, n:], system[n:, :n] = affine, affine.T
    found = np.linalg.solve(system, np.pad(values, ((0, 3), (0, 0))))
    affine = np.pad(query, ((0, 0), (0, 1)), constant_values=1)
    return phi(query, points) @ found[:n] + affine @ found[n:]


@pytest.mark.parametrize("regularization", [0.0, 0.3])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_splines_follow_the_formula_in_pixels(order, regularization):
    """With points that fill 200 pixels, where even orders have a part that is scaled apart."""
    given = drawn_spline(side=200.0)
    given["regularization"] = np.asarray(regularization * 100.0**order)
    found, _, _, again = run(spline(order), given)
    for i in range(B):
        points, values, query = (given[key][i] for key in ("points", "values", "query"))
        known = plain_spline(points, values, query, order, given["regularization"])
        for ours in (found[i], again[i]):
            np.testing.assert_allclose(ours, known, rtol=0, atol=1e-7 * largest(known))


@pytest.mark.parametrize("dtype", DTYPES)
def test_splines_pass_through_their_values(dtype):
    given = drawn_spline(dtype=dtype)
    singles = {1: 2e-4, 2: 2e-4, 3: 5e-3}  # the higher the order, the fewer digits are left
    for order, near in singles.items():
        near = near if dtype == "float32" else 1e-9
        found = run(spline(order), given)[0]
        np.testing.assert_allclose(found[:, :N], given["values"], rtol=0, atol=near)
        aside = run(spline(order), given, regularization=np.asarray(10.0**order, dtype))[0]
        assert largest(aside[:, :N] - given["values"]) > 0.1


def test_splines_of_affine_values_are_affine():
    given = drawn_spline(dtype="float32")
    slope, constant = np.array([[0.5, -0.3], [1.0, 2.0]]), np.array([7.0, -40.0])
    given["values"] = (given["points"] @ slope + constant).astype("float32")
    for order in (1, 2, 3):
        found, w, v, _ = run(spline(order), given)
        np.testing.assert_allclose(found, given["query"] @ slope + constant, atol=1e-3)
        np.testing.assert_allclose(v, [[*slope, constant]] * B, atol=1e-3)
        assert largest(w) < 1e-4


@pytest.mark.parametrize(("dtype", "near"), [("float64", 1e-9), ("float32", 1e-3)])
def test_splines_follow_shifted_and_scaled_coordinates(dtype, near):
    given = drawn_spline(dtype=dtype)
    shifts = ((1, [100.0, -57.3]), (8, [0, 0]), (0.013, [0.4, 0.1]))
    for order, changes in ((1, shifts[:1]), (2, shifts), (3, shifts)):  # φ(0) is 1e-5 at order 1
        known = run(spline(order), given)[0]
        for factor, shift in changes:
            moved = {
                key: (factor * given[key] + shift).astype(dtype) for key in ("points", "query")
            }
            found = run(spline(order), given, **moved)[0]
            np.testing.assert_allclose(found, known, rtol=0, atol=near * largest(known))


@pytest.mark.parametrize("regularization", [0.0, 0.5])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_gradients_of_splines_are_finite_differences(order, regularization):
    given = drawn_spline(7) | dict(regularization=np.asarray(regularization))
    given["query"] = given["query"] + 0.5  # φ of order 1 has no derivative at a point
    random, step = np.random.default_rng(1), 1e-5
    cotangent = random.normal(size=given["query"].shape)
    slopes = run(spline_slopes(order), given, cotangent=cotangent)
    for key, slope in zip(("points", "values", "query"), slopes, strict=True):
        way = random.normal(size=slope.shape)
        ends = (run(spline(order), given, **{key: given[key] + s * way})[0] for s in (step, -step))
        more, less = (np.sum(cotangent * found) for found in ends)
        near = 1e-5 * np.linalg.norm(slope)
        np.testing.assert_allclose(
            np.sum(slope * way), (more - less) / (2 * step), rtol=0, atol=near, err_msg=key
        )


@pytest.mark.parametrize("dtype", DTYPES)
def test_coincident_points_share_their_mean(dtype):
    given = drawn_spline(dtype=dtype)
    given["points"][:, 1] = given["points"][:, 0]
    given["query"][:, :N] = given["points"]
    # in doubles as well: weights that cannot be told apart are large, and cancel but for roundings
    for order, near in {1: 2e-4, 2: 2e-4, 3: 2e-2}.items():
        found, *others = run(spline(order), given)
        assert all(np.isfinite(x).all() for x in others)
        expected = given["values"].copy()
        expected[:, :2] = expected[:, :2].mean(1, keepdims=True)
        np.testing.assert_allclose(found[:, :N], expected, rtol=0, atol=near)


@pytest.mark.parametrize("order", [0, -1])
def test_orders_below_one_are_refused(order):
    x = jnp.zeros((1, 3, 2))
    for call in (
        lambda: warping.interpolate_spline(x, x, x, order),
        lambda: warping.fit_spline(x, x, order),
        lambda: warping.sparse_flow(x, x, 8, 8, order),
        lambda: warping.warp(jnp.zeros((1, 8, 8, 3)), x, x, order),
    ):
        with pytest.raises(ValueError, match=f"order {order} of a spline; it is 1 or more"):
            jax.eval_shape(call)

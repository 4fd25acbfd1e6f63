"""Programs and numbers of the spline and of the warp that it makes, which their tests share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.ops import warping

DTYPES = ("float64", "float32")
B, N, SIDE = 2, 16, 32  # of most tests: as in warp_32, so that they share its programs


@functools.cache
def warper(order: int = 2, boundary_points: int = 0):
    """(Σ cotangent · warped image, (image, flow)) and its gradients by image, points and moves."""

    def weighed(image, points, moves, scale, cotangent, regularization):
        image, flow = warping.warp(
            image, points, points + scale * moves, order, regularization, boundary_points
        )
        return jnp.sum(cotangent * image), (image, flow)

    return jax.jit(jax.value_and_grad(weighed, argnums=(0, 1, 2), has_aux=True))


@functools.cache
def spline(order: int):
    """Values of the spline at the queries, its weights, and values by way of these."""

    def values_and_weights(points, values, query, regularization):
        w, v = warping.fit_spline(points, values, order, regularization)
        again = warping.evaluate_spline(query, points, w, v, order)
        found = warping.interpolate_spline(points, values, query, order, regularization)
        return found, w, v, again

    return jax.jit(values_and_weights)


@functools.cache
def spline_slopes(order: int):
    """Gradients of Σ cotangent · values of the spline by points, given values and queries."""

    def weighed(points, values, query, regularization, cotangent):
        found = warping.interpolate_spline(points, values, query, order, regularization)
        return jnp.sum(cotangent * found)

    return jax.jit(jax.grad(weighed, argnums=(0, 1, 2)))


def drawn(seed: int = 0, dtype="float64") -> dict[str, np.ndarray]:
    """An image, points in it and moves, for `warper`."""
    random = np.random.default_rng(seed)
    made = dict(
        image=random.uniform(-1, 1, (B, SIDE, SIDE, 3)),
        points=random.uniform(2, SIDE - 3, (B, N, 2)),
        moves=random.normal(0, 2, (B, N, 2)),
        scale=np.ones(()),
        cotangent=random.normal(size=(B, SIDE, SIDE, 3)),
        regularization=np.zeros(()),
    )
    return {name: value.astype(dtype) for name, value in made.items()}


def drawn_spline(seed: int = 0, side: float = SIDE, dtype="float64") -> dict[str, np.ndarray]:
    """Points with values, and queries of which the first are the points, for `spline`."""
    random = np.random.default_rng(seed)
    points = random.uniform(0, side, (B, N, 2))
    queries = random.uniform(-0.2 * side, 1.2 * side, (B, 40 - N, 2))
    made = dict(
        points=points,
        values=random.normal(size=(B, N, 2)),
        query=np.concatenate([points, queries], 1),
        regularization=np.zeros(()),
    )
    return {name: value.astype(dtype) for name, value in made.items()}


def run(function, given: dict, **changes):
    """`function` of the arrays, by their order and in their types; arrays of NumPy."""
    arrays = (given | changes).values()
    with jax.enable_x64(any(x.dtype == np.float64 for x in arrays)):
        return jax.device_get(function(*arrays))


def statistics(x) -> list[float]:
    """Mean, deviation, lowest, highest, norm: what the golden files keep of large gradients."""
    return [x.mean(), x.std(), x.min(), x.max(), np.linalg.norm(x)]


def largest(x) -> float:
    """The largest absolute value."""
    return float(np.abs(x).max())

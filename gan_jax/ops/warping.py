"""Warping images by control points: a polyharmonic spline of the flow, then bilinear sampling.

Points, displacements and flows are (y, x) in pixels, images are [B, H, W, C]. The arithmetic is
that of TensorFlow's sparse_image_warp, which WarpGAN (Shi et al. 2019) uses, in other coordinates.

A spline of order k is f(q) = Σ_j w_j φ(|q - p_j|²) + v·(q, 1). Its weights solve
(Φ + λ) w + (p, 1) v = values with Σ_j w_j = 0 and Σ_j w_j p_j = 0, where
φ(r²) = r^k for odd k and r^k log r for even k; order 2 is the thin-plate spline. In pixels the
entries of that system differ by many orders of magnitude, so it is solved in coordinates where the
points' bounding box has a diagonal of 1 to 2. With lengths s times shorter φ becomes φ / s^k, so w
becomes w · s^k and λ becomes λ / s^k. For even k a term r^k log s is left over. At k = 2 it adds
log s · Σ_j w_j |p_j|² to every row, by the two conditions on w: the constant of v takes it up, and
neither f nor λ's share in it changes. For k > 2 it is kept.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

NEAREST = 1e-10  # smallest squared distance that φ is taken at, in the units of the points
# Points whose bounding box is this much smaller than the queries' reach count as one place: in
# coordinates of the box's size φ would have no digits left at the queries.
SMALLEST_BOX = 1e-3
AFFINE = 0.25  # weight of (p, 1) in the system, so that it does not outweigh the few digits of Φ
# Eigenvalues of the system below this many roundings of the largest one carry no information.
ROUNDINGS = 8
UNROLLED = 4  # points per pass over all queries; more would take longer to compile


class Frame(NamedTuple):
    """Coordinates of the solve: (p - centre) / size."""

    centre: Array  # [B, 1, 2]
    size: Array  # [B, 1, 1]


def interpolate_spline(
    points: Array, values: Array, query: Array, order: int = 2, regularization: float = 0.0
) -> Array:
    """The spline through `values` at `points`, at `query`.

    Args:
      points: [B, N, 2]. They may lie outside an image, and they may coincide: weights and gradients
        stay finite, and coincident points with different values get the mean of the values.
      values: [B, N, C].
      query: [B, M, 2].
      order: k ≥ 1.
      regularization: λ ≥ 0, added to the diagonal; above 0 the spline only approximates the values.

    Returns:
      [B, M, C], float32 or wider.
    """
    points, values, query = _wide(points, values, query)
    frame = _frame(points, query)
    at = _planes((query - frame.centre) / frame.size)
    w, v = _fit(points, values, frame, order, regularization)
    found = _evaluate(at, (points - frame.centre) / frame.size, w, v, order, frame.size)
    return jnp.stack(found, axis=-1)


def fit_spline(
    points: Array, values: Array, order: int = 2, regularization: float = 0.0
) -> tuple[Array, Array]:
    """Weights of the same spline in the units of `points`: (w [B, N, C], v [B, 3, C]).

    The rows of v belong to y, x and 1. `interpolate_spline` is more exact than these weights with
    `evaluate_spline`.
    """
    points, values = _wide(points, values)
    frame = _frame(points, points)
    w, v = _fit(points, values, frame, order, regularization)
    slope = v[:, :2] / frame.size
    constant = v[:, 2:] - jnp.sum(slope * frame.centre.mT, axis=1, keepdims=True)
    if order == 2:
        square = jnp.sum(jnp.square((points - frame.centre) / frame.size), axis=2, keepdims=True)
        constant -= jnp.log(frame.size) * jnp.sum(square * w, axis=1, keepdims=True)
    return w / frame.size**order, jnp.concatenate([slope, constant], axis=1)


def evaluate_spline(query: Array, points: Array, w: Array, v: Array, order: int = 2) -> Array:
    """The spline of `fit_spline` at `query` [B, M, 2]: [B, M, C]."""
    query, points, w, v = _wide(query, points, w, v)
    return jnp.stack(_evaluate(_planes(query), points, w, v, order), axis=-1)


def sparse_flow(
    source: Array,
    destination: Array,
    height: int,
    width: int,
    order: int = 2,
    regularization: float = 1e-6,
    boundary_points: int = 0,
) -> Array:
    """The flow that takes each source point to its destination, smooth in between.

    Args:
      source: [B, N, 2] in pixels.
      destination: [B, N, 2], the points at which the spline has the values destination - source.
      height, width: of the flow.
      order, regularization: of the spline.
      boundary_points: how many points of each edge are held in place, evenly spaced and corners
        included: 1 holds the four corners, 2 the middle of each edge as well.

    Returns:
      [B, height, width, 2], float32 or wider.
    """
    source, destination = _wide(source, destination)
    if boundary_points:
        still = jnp.asarray(_boundary(height, width, boundary_points), source.dtype)
        still = jnp.broadcast_to(still, (len(source), *still.shape))
        source, destination = (jnp.concatenate([p, still], 1) for p in (source, destination))
    rows, columns = (jnp.arange(n, dtype=source.dtype) for n in (height, width))
    corners = jnp.asarray(_boundary(height, width, 1), source.dtype)
    frame = _frame(destination, corners)
    cy, cx = frame.centre[..., :1], frame.centre[..., 1:]
    at = (rows[:, None] - cy) / frame.size, (columns - cx) / frame.size  # [B, H, 1], [B, 1, W]
    w, v = _fit(destination, destination - source, frame, order, regularization)
    points = (destination - frame.centre) / frame.size
    return jnp.stack(_evaluate(at, points, w, v, order, frame.size), axis=-1)


def warp(
    image: Array,
    source: Array,
    destination: Array,
    order: int = 2,
    regularization: float = 1e-6,
    boundary_points: int = 0,
) -> tuple[Array, Array]:
    """Moves what an image shows at the source points to their destinations.

    Args:
      image: [B, H, W, C] of any size and range.
      source, destination: [B, N, 2] in pixels; where they are equal the image stays as it is.
      order, regularization, boundary_points: see `sparse_flow`.

    Returns:
      (warped [B, H, W, C] as `sample_bilinear` gives it, flow [B, H, W, 2] in pixels).
    """
    flow = sparse_flow(
        source, destination, *image.shape[1:3], order, regularization, boundary_points
    )
    return dense_image_warp(image, flow), flow


def dense_image_warp(image: Array, flow: Array) -> Array:
    """out[q] = image[q - flow[q]], see `sample_bilinear`: image [B, H, W, C], flow [B, H, W, 2]."""
    (flow,) = _wide(flow)
    here = jnp.stack(jnp.indices(flow.shape[1:3], sparse=False), axis=-1).astype(flow.dtype)
    return sample_bilinear(image, here - flow)


def sample_bilinear(image: Array, at: Array) -> Array:
    """Bilinear samples of an image; outside of it, those at the nearest place of its border.

    The derivative by `at` is that inside the cell in which a place lies. At whole numbers it is 0,
    except in the last row and column, as in the original.

    Args:
      image: [B, H, W, C]; integers become float32.
      at: [B, H', W', 2] in pixels.

    Returns:
      [B, H', W', C] in the image's type. Sampled in float32 or wider.
    """
    if not jnp.issubdtype(image.dtype, jnp.floating):
        image = image.astype(jnp.float32)
    dtype = image.dtype
    image, at = _wide(image, at)
    for axis in (1, 2):
        if image.shape[axis] == 1:
            image = jnp.repeat(image, 2, axis)
    b, h, w, c = image.shape
    last = jnp.array([h - 2, w - 2], at.dtype)
    first = lax.stop_gradient(jnp.clip(jnp.floor(at), 0, last))
    share = at - first
    share = jnp.where(share <= 0, 0, jnp.where(share > 1, 1, share))
    fy, fx = share[..., :1], share[..., 1:]
    # Every pixel is put beside its three neighbours to the right and below, so that a sample reads
    # one row, and the gradient by the image adds rows: four times as fast as corner by corner. The
    # images stay apart, so that on several devices each device samples its own.
    flat = jnp.pad(image.reshape(b, -1, c), ((0, 0), (0, w + 1), (0, 0)))
    cells = jnp.concatenate([flat[:, n : n + h * w] for n in (0, 1, w, w + 1)], axis=2)
    y, x = first[..., 0].astype(jnp.int32), first[..., 1].astype(jnp.int32)
    index = (y * w + x).reshape(b, -1, 1)
    # "clip", because a coordinate that is NaN must not read outside of memory
    read = jnp.take_along_axis(cells, index, axis=1, mode="clip").reshape(*y.shape, -1)
    corners = jnp.split(read, 4, axis=-1)
    above = (1 - fx) * corners[0] + fx * corners[1]
    below = (1 - fx) * corners[2] + fx * corners[3]
    return ((1 - fy) * above + fy * below).astype(dtype)


def _wide(*arrays: Array) -> tuple[Array, ...]:
    """All in one type, float32 or wider."""
    dtype = jnp.result_type(jnp.float32, *arrays)
    return tuple(jnp.asarray(a, dtype) for a in arrays)


def _planes(places: Array) -> tuple[Array, Array]:
    return places[..., 0], places[..., 1]


def _boundary(height: int, width: int, count: int) -> np.ndarray:
    """Points on the edges of an image, [4 * count, 2]."""
    y, x = (np.linspace(0, n - 1, count + 1) for n in (height, width))
    y, x = np.meshgrid(y, x, indexing="ij")
    edge = np.ones_like(y, bool)
    edge[1:-1, 1:-1] = False
    return np.stack([y[edge], x[edge]], axis=-1)


def _frame(points: Array, query: Array) -> Frame:
    """The frame to solve in. The spline does not depend on it, so it has no derivative."""
    points, query = lax.stop_gradient((points, query))
    low, high = (f(points, axis=1, keepdims=True) for f in (jnp.min, jnp.max))
    centre = (low + high) / 2

    def length(x):
        return jnp.sqrt(jnp.sum(jnp.square(x), axis=2, keepdims=True))

    box = length(high - low)
    reach = jnp.max(length(query - centre), axis=1, keepdims=True)
    size = jnp.where(box > SMALLEST_BOX * reach, box, jnp.where(reach > 0, reach, 1))
    # a size and centre of few bits keep coordinates exact, which is needed since the weights of
    # close points cancel to the last digit
    size = jnp.ldexp(jnp.ones_like(size), jnp.frexp(size)[1] - 1)
    centre = jnp.round(centre / size * 64) * (size / 64)
    return Frame(centre, size)


def _fit(
    points: Array, values: Array, frame: Frame, order: int, regularization: float
) -> tuple[Array, Array]:
    """(w [B, N, C], v [B, 3, C]) in the frame's coordinates."""
    if order < 1:
        raise ValueError(f"order {order} of a spline; it is 1 or more")
    u = (points - frame.centre) / frame.size
    b, n, _ = u.shape
    square = jnp.sum(jnp.square(u[:, :, None] - u[:, None]), axis=3)
    phi = _radial(square, order, frame.size)
    phi += regularization / frame.size**order * jnp.eye(n, dtype=u.dtype)
    affine = AFFINE * jnp.concatenate([u, jnp.ones((b, n, 1), u.dtype)], axis=2)
    top = jnp.concatenate([phi, affine], axis=2)
    bottom = jnp.concatenate([affine.mT, jnp.zeros((b, 3, 3), u.dtype)], axis=2)
    right = jnp.concatenate([values, jnp.zeros((b, 3, values.shape[2]), u.dtype)], axis=1)
    found = _solve(jnp.concatenate([top, bottom], axis=1), right)
    return found[:, :n], AFFINE * found[:, n:]


def _radial(square: Array, order: int, size: Array | float = 1.0) -> Array:
    """φ of squared distances in units of `size`, over size^order; at order 2 without r² log size.

    Its derivative by the square is finite at 0.
    """
    near = jnp.maximum(square, NEAREST / size**2)
    if order == 1:
        return jnp.sqrt(near)
    if order == 2:
        return 0.5 * square * jnp.log(near)
    if order % 2:
        return near ** (order / 2)
    return 0.5 * near ** (order // 2) * (jnp.log(near) + 2 * jnp.log(size))


def _evaluate(
    at: tuple[Array, Array],
    points: Array,
    w: Array,
    v: Array,
    order: int,
    size: Array | float = 1.0,
) -> list[Array]:
    """The spline at all queries, as one array [B, ...] for each channel of w.

    It passes over all queries for a few points at a time, and the gradient repeats these passes: a
    matrix of φ for every query and point would be many times the size of the image.
    """
    y, x = at

    def plane(a):  # [B] → [B, 1, ...]
        return a.reshape(a.shape + (1,) * (y.ndim - 1))

    size = plane(size[:, 0, 0]) if isinstance(size, Array) else size
    channels = range(w.shape[2])
    total = [plane(v[:, 0, c]) * y + plane(v[:, 1, c]) * x + plane(v[:, 2, c]) for c in channels]

    @partial(jax.checkpoint, prevent_cse=False)
    def add(total, point):
        p, weight = point  # [B, 2], [B, C]
        square = jnp.square(y - plane(p[:, 0])) + jnp.square(x - plane(p[:, 1]))
        phi = _radial(square, order, size)
        return [total[c] + phi * plane(weight[:, c]) for c in channels], None

    passed = points.swapaxes(0, 1), w.swapaxes(0, 1)
    return lax.scan(add, total, passed, unroll=min(UNROLLED, points.shape[1]))[0]


@jax.custom_vjp
def _solve(matrix: Array, right: Array) -> Array:
    """matrix⁻¹ right for symmetric matrices: [B, N, N], [B, N, C] → [B, N, C].

    Where a matrix is singular to its type's precision, the solution has next to no part along the
    directions that it does not determine, instead of a huge one. With eigenvalues e the inverse is
    e³ / (e⁴ + t⁴), t a few roundings of the largest: 1/e, except for eigenvalues near t or smaller.
    """
    return _solve_forward(matrix, right)[0]


def _solve_forward(matrix, right):
    values, vectors = jnp.linalg.eigh(matrix)
    largest = jnp.max(jnp.abs(values), axis=-1, keepdims=True)
    e = values / largest
    gain = e**3 / (e**4 + (ROUNDINGS * jnp.finfo(e.dtype).eps) ** 4) / largest
    system = matrix, vectors, gain
    solution = _solve_once_more(*system, right)
    return solution, (system, solution)


def _solve_backward(kept, pull):
    system, solution = kept
    right = _solve_once_more(*system, pull)
    return -_product(right, solution.mT), right


_solve.defvjp(_solve_forward, _solve_backward)


def _solve_once_more(matrix: Array, vectors: Array, gain: Array, right: Array) -> Array:
    """A solution with one step of refinement, without which its error would be ten times that of an
    LU solve."""

    def inverse(x):
        return _product(vectors, gain[..., None] * _product(vectors.mT, x))

    found = inverse(right)
    return found + inverse(right - _product(matrix, found))


_product = partial(jnp.matmul, precision="highest")

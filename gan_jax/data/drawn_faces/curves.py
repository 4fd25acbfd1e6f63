"""Smooth curves through points, and strokes along them: arrays [n, 2] of (y, x), any unit."""

from functools import lru_cache

import numpy as np


def mirrored(right: list[tuple[float, float]], closed: bool = False, middle: bool = False):
    """The right half of a symmetric curve with its mirror image: [n, 2].

    closed: from one point on the axis to another, and back at the left.
    middle: the first point is on the axis; the curve runs from left to right through it.
    neither: the left half as given, then the right half backwards.
    """
    half = np.array(right, np.float64)
    left = half * (1, -1)
    if closed:
        return np.concatenate([half, left[-2:0:-1]])
    return (
        np.concatenate([left[: 0 if middle else None : -1], half]) if middle else both(left, half)
    )


def both(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Left half, then the right half backwards: an open curve over the top or under the bottom."""
    return np.concatenate([left, right[::-1]])


def outward(x: np.ndarray) -> np.ndarray:
    """An odd, smooth step: 0 around the axis, about ±1 at the outline of a face and beyond."""
    s = np.abs(x / 0.19)
    return np.sign(x) * s**3 / (1 + s**3) * 1.45


@lru_cache(maxsize=256)
def _weights(count: int, steps: int, closed: bool) -> np.ndarray:
    """Catmull-Rom: curve samples = weights [samples, count] times points [count, 2]."""
    pieces = count if closed else count - 1
    t = np.arange(pieces * steps + (not closed)) / steps
    k = np.minimum(t.astype(int), pieces - 1)
    f = t - k
    basis = [-f + 2 * f**2 - f**3, 2 - 5 * f**2 + 3 * f**3, f + 4 * f**2 - 3 * f**3, f**3 - f**2]
    found = np.zeros((len(t), count))
    for j, b in enumerate(basis):
        at = k + j - 1
        at = at % count if closed else np.clip(at, 0, count - 1)
        np.add.at(found, (np.arange(len(t)), at), b / 2)
    return found


def smooth(points: np.ndarray, steps: int = 6, closed: bool = False) -> np.ndarray:
    """A Catmull-Rom curve through points [n, 2], `steps` samples for each piece."""
    weights = _weights(len(points), steps, closed)
    return np.einsum("sn,nd->sd", weights, points)


def resampled(curve: np.ndarray, count: int) -> np.ndarray:
    """`count` points at equal distances along a polyline [n, 2]."""
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(curve, axis=0).T))])
    at = np.linspace(0, along[-1], count)
    return np.stack([np.interp(at, along, curve[:, axis]) for axis in (0, 1)], axis=1)


_QUARTER = np.array([1.0, -1.0])  # with the axes swapped: a quarter of a turn


@lru_cache(maxsize=256)
def _swell(count: int) -> np.ndarray:
    """How thick a brush stroke is along its way: [count, 1], 0 at the ends and 1 in the middle."""
    return np.sin(np.pi * np.linspace(0, 1, count))[:, None] ** 0.6


def stroke(curve: np.ndarray, width: float, taper: float = 0.7) -> np.ndarray:
    """The outline of a brush stroke along a polyline; taper 1 comes to a point at both ends."""
    tangent = np.empty_like(curve)
    tangent[1:-1] = curve[2:] - curve[:-2]
    tangent[0], tangent[-1] = curve[1] - curve[0], curve[-1] - curve[-2]
    length = np.sqrt(tangent[:, :1] ** 2 + tangent[:, 1:] ** 2) + 1e-9
    swell = 1 - taper + taper * _swell(len(curve))
    half = tangent[:, ::-1] * _QUARTER * (width / 2 * swell / length)
    return np.concatenate([curve + half, (curve - half)[::-1]])

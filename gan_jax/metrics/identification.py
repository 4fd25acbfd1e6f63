"""Whether a caricature still shows its person, and whether it exaggerates that person's features.

Embeddings are rows from any recogniser; the similarity of two faces is the cosine of the angle
between their embeddings. Points, displacements and flows are (y, x) in pixels.
"""

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.ops import warping

ITERATIONS = 20
STILL = 1e-3  # pixels, root mean square: movements below this may be rounding


def rank1(
    probes: np.ndarray,
    labels: np.ndarray,
    gallery: np.ndarray,
    gallery_labels: np.ndarray,
    own: np.ndarray | None = None,
) -> float:
    """Rank-1 identification: the share of probes whose nearest gallery face has their identity.

    Args:
      probes: embeddings [N, E]. labels: their identities, [N].
      gallery: embeddings [M, E]. gallery_labels: [M].
      own: int [N], for each probe the row of the gallery that it was made from, which is left out
        for this probe; -1, or no `own` at all, for none.

    Probes whose identity has no other face in the gallery do not count.

    Raises:
      ValueError: shapes that do not fit together, or no probe that counts.
    """
    probes, gallery = _directions(probes, "probes"), _directions(gallery, "gallery")
    labels, gallery_labels = np.asarray(labels), np.asarray(gallery_labels)
    own = np.full(len(probes), -1) if own is None else np.asarray(own)
    if probes.shape[1] != gallery.shape[1]:
        raise ValueError(f"embeddings of {probes.shape[1]} and {gallery.shape[1]} numbers")
    counts = {"labels": len(probes), "own": len(probes), "gallery_labels": len(gallery)}
    for (name, count), values in zip(counts.items(), (labels, own, gallery_labels), strict=True):
        if values.shape != (count,):
            raise ValueError(f"{name} is [{count}], one for each, found {list(values.shape)}")
    left_out = np.arange(len(gallery)) == own[:, None]  # [N, M]
    same = labels[:, None] == gallery_labels
    there = np.any(same & ~left_out, axis=1)  # [N]
    if not there.any():
        raise ValueError("no identity has a second image, so nobody can be found")
    alike = np.where(left_out, -np.inf, probes @ gallery.T)
    nearest = gallery_labels[np.argmax(alike, axis=1)]
    return float(np.mean((nearest == labels)[there]))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The mean over rows of the cosine between embeddings [N, E] and [N, E], in [-1, 1].

    Raises:
      ValueError: shapes that differ.
    """
    a, b = _directions(a, "a"), _directions(b, "b")
    if a.shape != b.shape:
        raise ValueError(f"embeddings {list(a.shape)} and {list(b.shape)} are no pairs")
    return float(np.mean(np.sum(a * b, axis=1)))


def _directions(rows: np.ndarray, name: str) -> np.ndarray:
    """Rows scaled to length 1 in float64; rows of zeros stay zero."""
    rows = np.asarray(rows, np.float64)
    if rows.ndim != 2 or not len(rows):
        raise ValueError(f"{name} are embeddings [N, E], found {list(rows.shape)}")
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)


def movement(flow: jax.Array, points: jax.Array) -> jax.Array:
    """How far the warp of an image moves its points.

    A warp out[q] = image[q - flow(q)] moves a point p by the d with d = flow(p + d). It is found by
    fixed-point iteration from 0, which converges where the warp does not fold.

    Args:
      flow: [B, H, W, 2] in pixels. points: [B, L, 2].

    Returns: d [B, L, 2] in pixels.
    """

    def again(_, d):
        return warping.sample_bilinear(flow, (points + d)[:, :, None])[:, :, 0]

    return jax.lax.fori_loop(0, ITERATIONS, again, jnp.zeros_like(points))


def exaggeration(moved: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """How a model's movements of landmarks compare with those of true caricatures.

    Args:
      moved, truth: [N, L, 2] displacements in pixels of L landmarks of N photos.

    Returns:
      correlation: Pearson's, over all photos, landmarks and both coordinates, in [-1, 1].
      correlation_centred: the same after each landmark's mean over the photos is subtracted from
        both, so that only what differs between photos counts. The same warp for everybody scores 0.
      slope: Σ moved·truth / Σ truth²: 1 if everything moves as far as it should, 0 if nothing
        moves, or nothing in the right direction.
      magnitude: the ratio of root mean squares, whatever the directions.

    A correlation with landmarks that do not move (or, centred, do not vary) is 0.

    Raises:
      ValueError: shapes that differ or are not [N, L, 2], or true landmarks that do not move.
    """
    moved, truth = np.asarray(moved, np.float64), np.asarray(truth, np.float64)
    if moved.shape != truth.shape or truth.ndim != 3 or truth.shape[2] != 2 or not truth.size:
        raise ValueError(
            f"displacements are [N, L, 2], found {list(moved.shape)} and {list(truth.shape)}"
        )
    if _size(truth) < STILL:
        raise ValueError("the true landmarks do not move: there is no exaggeration to find")
    return {
        "correlation": _correlation(moved, truth),
        "correlation_centred": _correlation(moved - moved.mean(axis=0), truth - truth.mean(axis=0)),
        "slope": float(np.sum(moved * truth) / np.sum(truth**2)),
        "magnitude": _size(moved) / _size(truth),
    }


def _size(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x**2)))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    if min(_size(a), _size(b)) < STILL:
        return 0.0
    return float(np.mean(a * b) / (_size(a) * _size(b)))

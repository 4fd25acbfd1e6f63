"""Rank-1 identification and the correlation with a true exaggeration, in closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.metrics import identification
from gan_jax.ops import warping

EYE = np.eye(4)


def test_rank1_counts_nearest_neighbours_by_angle():
    gallery, people = EYE * [[1.0], [5.0], [0.1], [2.0]], [0, 1, 2, 3]
    probes = EYE + 0.3 * EYE[[1, 2, 3, 0]]  # nearest to their own direction
    assert identification.rank1(probes, people, gallery, people) == 1.0
    assert identification.rank1(7 * probes, people, gallery, people) == 1.0  # lengths do not count
    assert identification.rank1(probes, [1, 2, 3, 0], gallery, people) == 0.0
    assert identification.rank1(probes, [0, 1, 3, 2], gallery, people) == 0.5


def test_rank1_leaves_out_what_a_probe_was_made_from():
    gallery, people = np.concatenate([EYE[:2], EYE[:2] + 0.1]), [0, 1, 0, 1]
    probes = gallery[:2]
    assert identification.rank1(probes, [0, 1], gallery, people, own=[0, 1]) == 1.0
    # without its second image nobody of person 1 is left: that probe does not count
    short = identification.rank1(probes, [0, 1], gallery[:3], people[:3], own=[0, 1])
    assert short == 1.0
    # the nearest that is left is somebody else
    crossed = np.array([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.1, 0.9]])
    assert identification.rank1(crossed[:2], [0, 1], crossed, [0, 1, 1, 0], own=[0, 1]) == 0.0


def test_rank1_at_chance():
    rng = np.random.default_rng(0)
    found = identification.rank1(
        rng.standard_normal((2000, 8)), rng.integers(0, 10, 2000),
        rng.standard_normal((200, 8)), rng.integers(0, 10, 200),
    )  # fmt: skip
    assert 0.07 < found < 0.13


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(probes=np.zeros((2, 3))), "embeddings of 3 and 4 numbers"),
        (dict(labels=[0]), r"labels is \[2\]"),
        (dict(gallery_labels=[0, 1]), r"gallery_labels is \[4\]"),
        (dict(gallery=np.zeros((0, 4))), "gallery are embeddings"),
        (dict(labels=[8, 9]), "nobody can be found"),
    ],
)
def test_rank1_says_what_does_not_fit(change, message):
    given = dict(probes=EYE[:2], labels=[0, 1], gallery=EYE, gallery_labels=[0, 1, 2, 3])
    with pytest.raises(ValueError, match=message):
        identification.rank1(**{**given, **change})


def test_cosine_is_a_mean_over_pairs():
    a = np.array([[2.0, 0.0], [0.0, 1.0]])
    assert identification.cosine(a, a) == pytest.approx(1.0)
    assert identification.cosine(a, -3 * a) == pytest.approx(-1.0)
    assert identification.cosine(a, np.array([[5.0, 0.0], [1.0, 0.0]])) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="no pairs"):
        identification.cosine(a, a[:1])


def moves(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((6, 9, 2)) + 0.5


@pytest.mark.parametrize(("factor", "sign"), [(1.0, 1), (0.25, 1), (3.0, 1), (-2.0, -1)])
def test_exaggeration_of_a_multiple_of_the_truth(factor, sign):
    found = identification.exaggeration(factor * moves(), moves())
    assert found["correlation"] == pytest.approx(sign)
    assert found["correlation_centred"] == pytest.approx(sign)
    assert found["slope"] == pytest.approx(factor)
    assert found["magnitude"] == pytest.approx(abs(factor))


def test_one_warp_for_everybody_is_no_exaggeration_of_anybody():
    mean = np.broadcast_to(moves().mean(axis=0), (6, 9, 2))
    found = identification.exaggeration(mean, moves())
    assert found["correlation"] > 0.2
    assert found["correlation_centred"] == 0.0


def test_exaggeration_by_chance_and_of_nothing():
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 400, 9, 2))
    assert abs(identification.exaggeration(a, b)["correlation"]) < 0.05
    still = identification.exaggeration(np.zeros_like(b), b)
    assert still == dict(correlation=0.0, correlation_centred=0.0, slope=0.0, magnitude=0.0)
    with pytest.raises(ValueError, match="no exaggeration to find"):
        identification.exaggeration(b, np.zeros_like(b))
    with pytest.raises(ValueError, match=r"are \[N, L, 2\]"):
        identification.exaggeration(a[0], b[0])


def test_movement_is_where_a_warp_takes_its_points():
    """At the control points of a spline that passes through them it is the displacement."""
    rng = np.random.default_rng(2)
    points = jnp.asarray(np.stack(np.meshgrid([12, 30, 48], [15, 46]), -1).reshape(1, 6, 2) + 0.5)
    displacements = jnp.asarray(rng.uniform(-3, 3, (2, 6, 2)), jnp.float32)
    points = jnp.broadcast_to(points, displacements.shape)
    flow = warping.sparse_flow(points, points + displacements, 64, 64, regularization=0.0)
    found = identification.movement(flow, points)
    np.testing.assert_allclose(found, displacements, atol=0.1)  # the flow is read between pixels
    shift = jnp.broadcast_to(jnp.array([1.5, -2.0]), (1, 64, 64, 2))
    found = identification.movement(shift, points[:1])
    np.testing.assert_allclose(found, np.broadcast_to([1.5, -2.0], (1, 6, 2)), atol=1e-5)

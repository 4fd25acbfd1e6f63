"""Drawn faces: functions of their numbers, whose landmarks and exaggeration are known."""

import numpy as np
import pytest

from gan_jax import data
from gan_jax.data import drawn_faces, face_shapes
from gan_jax.data.drawn_faces import CARICATURE, PHOTO, DrawnFaces
from gan_jax.errors import UserError

SIDE = 32


class Stage:
    batch_size, start = 2, 0


class Config:
    def __init__(self, **options):
        usual = dict(resolution=SIDE, source="drawn_faces", channels="rgb")
        usual |= dict(identities=4, validation_identities=3, photos=3, caricatures=2)
        self.__dict__ |= {**data.defaults(), **usual, **options}


def faces(**options) -> DrawnFaces:
    usual = dict(first=0, identities=3, photos=2, caricatures=2, size=SIDE)
    return DrawnFaces(**{**usual, **options})


def test_a_picture_is_a_function_of_its_numbers():
    some, again = faces(), faces(first=1, identities=1)
    assert len(some) == 12
    first = some.image(0)
    assert first.shape == (SIDE, SIDE, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, faces().image(0))
    # the second person of one source is the first of another that begins there
    np.testing.assert_array_equal(some.image(4), again.image(0))
    pictures = [some.image(i) for i in range(12)]
    for i in range(12):
        assert all(np.any(pictures[i] != pictures[j]) for j in range(i))


def test_names_labels_and_kinds():
    some = faces(first=7)
    assert [some.name(i) for i in range(5)] == [
        "0007/P0001.png", "0007/P0002.png", "0007/C0001.png", "0007/C0002.png", "0008/P0001.png",
    ]  # fmt: skip
    assert [some.label(i) for i in (0, 3, 4, 11)] == [0, 0, 1, 2]
    assert [some.photos(i) for i in range(4)] == [True, True, False, False]
    assert faces(channels=1).image(0).shape == (SIDE, SIDE, 1)


def test_landmarks_lie_in_the_face_and_grow_with_the_picture():
    small, large = faces(), faces(size=2 * SIDE)
    for i in range(len(small)):
        at = small.landmarks(i)
        assert at.shape == (len(face_shapes.ROWS), 2)
        assert (at > 0).all()
        assert (at < SIDE).all()
        # a pixel's centre is half a pixel from its edge
        np.testing.assert_allclose(large.landmarks(i) + 0.5, 2 * (at + 0.5), atol=1e-9)
    left, right, nose, mouth_left, mouth_right = small.landmarks(0)[list(face_shapes.FIVE)]
    assert left[1] < nose[1] < right[1]
    assert max(left[0], right[0]) < nose[0] < min(mouth_left[0], mouth_right[0])


def test_a_caricature_multiplies_what_is_unlike_the_mean_face():
    """Landmarks of a caricature: the mean face's, and the identity's deviation times its factor."""
    held = drawn_faces.pose(5, PHOTO, 1)
    own = drawn_faces.traits(5)
    factor = drawn_faces.strength(5, 1.0)
    assert 1 < factor <= 2
    some = faces(first=5, identities=1)
    mean, once, more = (
        face_shapes.to_pixels(face_shapes.points(own * f, held)[face_shapes.ROWS], SIDE)
        for f in (0.0, 1.0, factor)
    )
    np.testing.assert_allclose(some.landmarks(0), once)
    np.testing.assert_allclose(some.truth(0), more - once)
    # in the direction of what was there already
    away, moved = once - mean, more - once
    assert np.sum(away * moved) > 0.5 * np.sqrt(np.sum(away**2) * np.sum(moved**2))
    assert np.sqrt(np.mean(moved**2)) > 0.3  # pixels of 32
    still = faces(first=5, identities=1, exaggeration=0.0)
    np.testing.assert_allclose(still.truth(0), 0.0)


def test_traits_differ_between_people_and_keep_features_in_order():
    many = np.stack([drawn_faces.traits(i) for i in range(200)])
    assert np.abs(many).max() <= 1
    assert np.abs(many.mean(axis=0)).max() < 0.15
    assert many.std(axis=0).min() > 0.1
    for row in many[:50]:
        assert face_shapes.most(row) >= 2 - 1e-9


def test_photos_of_somebody_differ_in_light_and_pose_and_caricatures_are_flat():
    scenes = [drawn_faces.scene(3, PHOTO, n) for n in range(1, 5)]
    poses = [drawn_faces.pose(3, PHOTO, n) for n in range(1, 5)]
    assert len({s.light for s in scenes}) == len({p.roll for p in poses}) == 4

    def flat(kind: str, number: int) -> float:
        """The share of 4x4 blocks of the face that have next to one grey level."""
        picture = drawn_faces.picture(11, kind, number, 128, 1.0).astype(float)
        face = picture[32:96, 40:88].mean(-1)
        blocks = face.reshape(16, 4, 12, 4).swapaxes(1, 2).reshape(-1, 16)
        return float(np.mean(blocks.std(axis=1) < 2.5))

    photos, drawings = ([flat(kind, n) for n in range(1, 5)] for kind in (PHOTO, CARICATURE))
    assert min(drawings) > 0.3
    assert max(photos) < 0.2


def test_training_and_validation_know_different_people():
    made = data.make(Config(pairs="identities", labels="auto"))
    assert made.sizes == {"train": 4, "validation": 9}
    assert made.num_classes == 4
    assert not set(made.identity_names["train"]) & set(made.identity_names["validation"])
    batch = next(iter(made("train", Stage, 0)))
    assert batch["input"].shape == batch["target"].shape == (2, SIDE, SIDE, 3)


def test_a_classifier_sees_the_same_people_in_other_pictures():
    made = data.make(Config(labels="auto"))
    assert made.num_classes == 4
    assert made.sizes == {"train": 20, "validation": 8}
    train, held_out = (
        {x.tobytes() for batch in [next(iter(made(split, Stage, 0)))] for x in batch["image"]}
        for split in ("train", "validation")
    )
    assert not train & held_out


@pytest.mark.parametrize("name", ["identities", "photos", "caricatures"])
def test_counts_below_one_are_refused(name):
    with pytest.raises(UserError, match=f"config.data.{name}"):
        data.make(Config(**{name: 0}))

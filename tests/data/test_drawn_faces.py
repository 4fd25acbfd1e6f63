"""Drawn faces: functions of their numbers, whose landmarks and exaggeration are known."""

import zlib

import numpy as np
import pytest

from gan_jax import data
from gan_jax.data import alignment
from gan_jax.data.drawn_faces import geometry, source
from gan_jax.data.drawn_faces.source import CARICATURE, FIVE, PHOTO, DrawnFaces
from tests.helpers.data_sections import Section, Stage
from tests.helpers.one_line import assert_refused
from tests.helpers.shell import python

SIDE = 32


def section(**options) -> Section:
    usual = dict(resolution=SIDE, source="drawn_faces", channels="rgb")
    usual |= dict(identities=4, validation_identities=3, photos=3, caricatures=2)
    return Section(**{**usual, **options})


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


def test_pictures_are_the_same_in_every_process():
    code = "import zlib; from gan_jax.data.drawn_faces.source import picture; "
    code += "print(zlib.crc32(b''.join(picture(3, k, 2, 32, 1.5).tobytes() for k in 'PC')))"
    found = python(code, environment={"PYTHONHASHSEED": "7"}, check=True)
    here = b"".join(source.picture(3, kind, 2, SIDE, 1.5).tobytes() for kind in "PC")
    assert int(found.stdout) == zlib.crc32(here)


def test_names_labels_and_kinds():
    some = faces(first=7)
    assert [some.name(i) for i in range(5)] == [
        "0007/P0001.png", "0007/P0002.png", "0007/C0001.png", "0007/C0002.png", "0008/P0001.png",
    ]  # fmt: skip
    assert [some.label(i) for i in (0, 3, 4, 11)] == [0, 0, 1, 2]
    assert [some.photos(i) for i in range(4)] == [True, True, False, False]
    grey = faces(channels=1).image(0)
    assert grey.shape == (SIDE, SIDE, 1)
    luma = faces().image(0) @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey[..., 0] - luma).max() < 1


def test_pictures_of_every_look_fill_their_range():
    styles = set()
    for identity in range(40):
        styles.add(source.look(identity).style)
        for kind in (PHOTO, CARICATURE):
            picture = source.picture(identity, kind, 1, 16, 2.0)
            assert picture.dtype == np.uint8
            assert picture.std() > 20
    assert len(styles) == 11


def test_landmarks_lie_in_the_face_and_grow_with_the_picture():
    small, large = faces(), faces(size=2 * SIDE)
    for i in range(len(small)):
        at = small.landmarks(i)
        assert at.shape == (len(geometry.ROWS), 2)
        assert (at > 0).all()
        assert (at < SIDE).all()
        # a pixel's centre is half a pixel from its edge
        np.testing.assert_allclose(large.landmarks(i) + 0.5, 2 * (at + 0.5), atol=1e-9)
    left, right, nose, mouth_left, mouth_right = small.landmarks(0)[list(geometry.FIVE)]
    assert left[1] < nose[1] < right[1]
    assert max(left[0], right[0]) < nose[0] < min(mouth_left[0], mouth_right[0])


def test_landmarks_lie_in_the_image_however_strong_the_caricature():
    """Pixels are whole around their centres: an image of 64 reaches from -0.5 to 63.5."""
    for identity in range(150):
        for exaggeration in (1.0, 9.0):
            some = faces(first=identity, identities=1, size=64, exaggeration=exaggeration)
            at = np.stack([some.landmarks(i) for i in range(4)])
            assert at.min() > -0.5
            assert at.max() < 63.5


def test_the_mean_face_is_aligned_as_faces_are():
    mean = geometry.points(np.zeros(len(geometry.TRAITS)), geometry.Pose())
    five = mean[geometry.ROWS][list(FIVE)]
    np.testing.assert_allclose(five, 0.7 * alignment.TEMPLATE[:, ::-1], atol=2e-3)


@pytest.mark.parametrize("kind", [PHOTO, CARICATURE])
def test_eyes_are_where_their_landmarks_are(kind):
    for identity in range(10):
        some = faces(first=identity, identities=1, photos=1, caricatures=1, size=64)
        picture = some.image(kind == CARICATURE).mean(axis=-1)
        for y, x in np.round(some.landmarks(kind == CARICATURE)[list(FIVE[:2])]).astype(int):
            around = picture[y - 6 : y + 7, x - 6 : x + 7]
            assert picture[y - 1 : y + 2, x - 1 : x + 2].min() < around.mean() - 10


def test_a_larger_picture_is_the_same_picture():
    for kind in (PHOTO, CARICATURE):
        small = source.picture(2, kind, 1, 64, 1.5).astype(float)
        large = source.picture(2, kind, 1, 128, 1.5).astype(float)
        means = large.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
        assert np.abs(small - means).mean() < 6


@pytest.mark.parametrize("exaggeration", [0.0, 0.5, 1.0])
def test_a_caricature_multiplies_what_is_unlike_the_mean_face(exaggeration):
    """Its landmarks: the mean face's, and the identity's deviation times its factor."""
    some = faces(first=5, identities=1, exaggeration=exaggeration)
    factor = source.strength(5, exaggeration)
    assert factor == pytest.approx(1 + exaggeration)

    def at(held: geometry.Pose, times: float) -> np.ndarray:
        own = source.traits(5) * times
        return geometry.to_pixels(geometry.points(own, held)[geometry.ROWS], SIDE)

    for i, (kind, number) in enumerate([(PHOTO, 1), (PHOTO, 2), (CARICATURE, 1), (CARICATURE, 2)]):
        held = source.pose(5, kind, number)
        mean, own = at(held, 0.0), at(held, 1.0)
        exaggerated = mean + factor * (own - mean)
        if kind == PHOTO:
            np.testing.assert_allclose(some.landmarks(i), own)
            np.testing.assert_allclose(some.truth(i), exaggerated - own, atol=1e-9)
        else:
            np.testing.assert_allclose(some.landmarks(i), exaggerated)
            assert not some.truth(i).any()
    moved = np.sqrt(np.mean(some.truth(0) ** 2))
    assert moved > 0.3 * exaggeration if exaggeration else moved == 0  # pixels of 32


def place(end, parts: dict[str, np.ndarray]) -> float:
    """One end of a distance that face_shapes.ORDER keeps."""
    return end if isinstance(end, float) else float(parts[end[0]][end[1:]])


def test_a_caricature_is_no_stronger_than_a_face_can_be():
    """However much is asked for: by then a feature is next to another."""
    for identity in range(100):
        most = geometry.most(source.traits(identity))
        assert source.strength(identity, 1.0) == pytest.approx(2.0)
        assert source.strength(identity, 99.0) == pytest.approx(most)
        moved = np.einsum("t,tpa->pa", source.traits(identity) * most, geometry.OF_TRAITS)
        parts = geometry.parts(geometry.ALL + moved)
        room = [
            place(high, parts) - place(low, parts) - least for high, low, least in geometry.ORDER
        ]
        assert min(room) == pytest.approx(0.0, abs=1e-9)


def test_traits_differ_between_people_and_keep_features_in_order():
    many = np.stack([source.traits(i) for i in range(200)])
    assert np.abs(many).max() <= 1
    assert np.abs(many.mean(axis=0)).max() < 0.15
    assert many.std(axis=0).min() > 0.1
    for row in many[:50]:
        assert geometry.most(row) >= 2 - 1e-9


def test_photos_of_somebody_differ_in_light_and_pose():
    scenes = [source.scene(3, PHOTO, n) for n in range(1, 5)]
    poses = [source.pose(3, PHOTO, n) for n in range(1, 5)]
    assert len({s.light for s in scenes}) == len({s.ground for s in scenes}) == 4
    assert len({p.roll for p in poses}) == len({p.smile for p in poses}) == 4
    some = faces(first=3, identities=1, photos=4)
    pictures = [some.image(i).astype(float) for i in range(4)]
    five = [some.landmarks(i)[list(FIVE)] for i in range(4)]
    for i in range(4):
        for j in range(i):
            assert np.abs(pictures[i] - pictures[j]).mean() > 8
            assert np.abs(five[i] - five[j]).max() > 0.3


def test_cheeks_are_brighter_where_the_light_comes_from():
    right = 0
    for identity in range(20):
        shape = source.pose(identity, PHOTO, 1)
        curves = geometry.parts(geometry.points(source.traits(identity), shape))
        picture = source.picture(identity, PHOTO, 1, 64, 1.0).mean(axis=-1)
        places = (geometry.to_pixels(curves[f"cheek_{s}"][0], 64).astype(int) for s in "lr")
        a, b = (picture[y - 2 : y + 3, x - 2 : x + 3].mean() for y, x in places)
        right += (b > a) == (source.scene(identity, PHOTO, 1).light[1] > 0)
    assert right >= 18


def test_caricatures_are_flat():
    """More of the face has next to one grey level, and there are fewer colours."""

    def measured(identity: int, kind: str) -> tuple[float, float]:
        """The share of 4x4 blocks of the face with next to one grey level; its colours, coarse."""
        shares, colours = [], []
        for number in range(1, 4):
            picture = source.picture(identity, kind, number, 128, 1.0)[40:96, 44:84]
            grey = picture.mean(axis=-1).reshape(14, 4, 10, 4).swapaxes(1, 2).reshape(-1, 16)
            shares.append(np.mean(grey.std(axis=1) < 2.5))
            colours.append(len(np.unique(picture.reshape(-1, 3) // 16, axis=0)))
        return float(np.mean(shares)), float(np.mean(colours))

    for identity in (0, 3, 5, 8, 11):
        (photo, many), (drawing, few) = (measured(identity, k) for k in (PHOTO, CARICATURE))
        assert drawing > 2 * photo
        assert few < many


def test_training_and_validation_know_different_people():
    made = data.make(section(pairs="identities", labels="auto"))
    assert made.sizes == {"train": 4, "validation": 9}
    assert made.num_classes == 4
    assert made.identity_names == {
        "train": ("0000", "0001", "0002", "0003"),
        "validation": ("0004", "0005", "0006"),
    }
    batch = next(iter(made("train", Stage(), 0)))
    assert batch["input"].shape == batch["target"].shape == (2, SIDE, SIDE, 3)
    of = [DrawnFaces(label, 1, 3, 2, SIDE) for label in batch["label"]]
    for key, numbers in (("input", range(3)), ("target", range(3, 5))):
        for image, person in zip(batch[key], of, strict=True):
            assert any(np.array_equal(image, person.image(i)) for i in numbers)
    alone = data.make(section(pairs="identities", identities=2, validation_identities=0))
    assert alone.sizes == {"train": 2, "validation": 0}
    assert list(alone("validation", Stage(), 0)) == []


def test_landmarks_of_rows_are_those_of_what_is_delivered():
    made = data.make(section(pairs="identities", pad=2, pad_value=9))
    rows = np.array([7, 0])  # the second photo, or later, of one; the first of the first person
    truth, images = made.truth("validation", rows), made.rows("validation", rows)
    inner = DrawnFaces(4, 3, 3, 2, SIDE - 4)
    assert (images["input"][:, :2] == 9).all()
    for k in range(2):
        photo = next(
            i for i in range(15) if np.array_equal(inner.image(i), images["input"][k, 2:-2, 2:-2])
        )
        np.testing.assert_allclose(truth["landmarks"][k], inner.landmarks(photo) + 2, rtol=1e-6)
        np.testing.assert_allclose(truth["displacement"][k], inner.truth(photo), atol=1e-5)
    assert truth["landmarks"].dtype == truth["displacement"].dtype == np.float32
    assert made.truth("validation", rows[:0])["landmarks"].shape[0] == 0


def test_a_classifier_sees_the_same_people_in_other_pictures():
    made = data.make(section(labels="auto"))
    assert made.num_classes == 4
    assert made.sizes == {"train": 20, "validation": 8}
    train, held_out = (
        {x.tobytes() for batch in [next(iter(made(split, Stage(), 0)))] for x in batch["image"]}
        for split in ("train", "validation")
    )
    assert not train & held_out


@pytest.mark.parametrize(
    ("name", "value"),
    [("identities", 0), ("photos", 0), ("caricatures", 0), ("exaggeration", -0.5)],
)
def test_values_that_are_too_low_are_refused(name, value):
    said = assert_refused(f"config.data.{name}={value}", data.make, section(**{name: value}))
    assert "must be at least" in said

"""Faces: the choice among several, and a folder of photographs aligned."""

import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_jax.data import alignment
from gan_jax.modes.actions import align
from gan_jax.run.faces import Face, Faces, chosen
from tests.helpers.one_line import assert_refused, refused_argument


def seen(*faces):
    """A detector that finds faces (x, y, side) in every image."""

    def detect(image):
        assert image.shape[2] == 3
        boxes = np.array([(x, y, x + s, y + s) for x, y, s in faces], float).reshape(-1, 4)
        middle = (alignment.TEMPLATE + 0.5)[None]
        sides = (boxes[:, 2:] - boxes[:, :2])[:, None]
        return boxes, boxes[:, None, :2] + middle * sides

    return detect


IMAGE = np.random.default_rng(5).integers(0, 256, (60, 100, 3)).astype(np.uint8)
THREE = ((2, 3, 20), (60, 5, 40), (45, 25, 12))  # the last is the most central


@pytest.mark.parametrize(
    ("choose", "order"), [("largest", [1]), ("central", [2]), ("all", [1, 0, 2])]
)
def test_several_faces(choose, order):
    faces = Faces(detector=seen(*THREE), faces=choose, size=16)
    points = seen(*THREE)(IMAGE)[1]
    found = faces.landmarks(IMAGE, "a.jpg")
    assert [p.tolist() for p in found] == [points[i].tolist() for i in order]
    crops = faces.crops(IMAGE, "a.jpg")
    assert [c.shape for c in crops] == [(16, 16, 3)] * len(order)
    expected = alignment.align(IMAGE, points[order[0]], 16, 0.7)
    assert np.array_equal(crops[0], expected)


def test_equal_faces_in_the_order_they_come():
    faces = [Face(np.array([x, 0.0, x + 9, 9]), np.full((5, 2), x)) for x in (40.0, 0.0)]
    assert chosen(faces, "largest", 50, 50)[0] is faces[0]
    assert [f.points[0, 0] for f in chosen(faces, "all", 50, 50)] == [40, 0]


def test_no_face():
    for choose in ("largest", "central", "all"):
        faces = Faces(detector=seen(), faces=choose)
        message = assert_refused("people/a.jpg: no face", faces.crops, IMAGE, "people/a.jpg")
        assert "a file of landmarks" in message


def test_grey_photos_of_twelve_bits(tmp_path, lines):
    (tmp_path / "photos").mkdir()
    deep = np.asarray(Image.fromarray(IMAGE).convert("L")).astype(np.uint16) << 4
    Image.fromarray(deep).save(tmp_path / "photos" / "a.png")
    (tmp_path / "lines.txt").write_text(line("a.png", 30, 10, 40))
    shown = {}
    for bits in (16, 12):
        lines.clear()
        out = tmp_path / str(bits)
        known = {"landmarks": str(tmp_path / "lines.txt"), "size": 24}
        [file] = align.run(str(tmp_path / "photos"), out, **known, deep_bits=bits)
        with Image.open(file) as image:
            shown[bits] = np.asarray(image)
        assert any("deep_bits=12 gives" in text for text in lines) == (bits == 16)
    assert shown[16].max() < 16 < shown[12].max()
    points = alignment.read_landmarks(str(tmp_path / "lines.txt"))["a.png"][0]
    grey = np.repeat((deep >> 4).astype(np.uint8)[:, :, None], 3, axis=2)
    assert np.array_equal(shown[12], alignment.align(grey, points, 24))
    # also before none is found, as in photos that are too dark for that
    lines.clear()
    refused_argument(
        "source", "none of 1 images", align.run, str(tmp_path / "photos"), tmp_path / "none",
        detector=lambda image: [],
    )  # fmt: skip
    assert any("deep_bits=12 gives" in text for text in lines)
    refused_argument("deep_bits", "^=17", align.run, "a", "b", "c", deep_bits=17)


def test_settings_that_are_refused():
    detect = seen(*THREE)
    refused_argument("landmarks", "^ and detector: both are missing", Faces)
    refused_argument("landmarks", "^ and detector: both are given", Faces, "a.txt", detect)
    refused_argument("faces", "^=first: accepted", Faces, detector=detect, faces="first")
    refused_argument("size", "^=0: accepted", Faces, detector=detect, size=0)
    for scale in (0.0, float("nan")):
        refused_argument(
            "face_scale", f"^={scale}: accepted", Faces, detector=detect, face_scale=scale
        )


def line(name: str, x: float, y: float, side: float) -> str:
    points = (alignment.TEMPLATE + 0.5) * side + (x, y)
    return f"{name} {' '.join(f'{v:.2f}' for v in points.ravel())}\n"


@pytest.fixture
def people(tmp_path) -> Path:
    """Photographs of two identities, one broken, one that no line knows, and one grey."""
    folder = tmp_path / "people"
    for name in ("Ann Lee/P01.jpg", "Ann Lee/C01.png", "Bo/P 1.png", "Bo/C9.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGE).save(folder / name)
    Image.fromarray(IMAGE[..., 0]).save(folder / "Bo" / "P2.gif")
    (folder / "Bo" / "P3.png").write_bytes(b"\x89PNG\r\n\x1a\nnot whole")
    (tmp_path / "lines.txt").write_text(
        line("Ann_Lee/P01.jpg", 10, 5, 30)
        + line("Ann Lee/C01.png", 20, 5, 30)
        + line("Bo/P 1.png", 5, 5, 30)
        + line("Bo/P 1.png", 50, 5, 40)
        + line("Bo/P2.gif", 30, 10, 40)
        + line("Bo/P3.png", 30, 10, 40)
        + line("Cy/P1.png", 30, 10, 40)
    )
    return folder


def made(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_folder_by_landmarks(people, tmp_path, lines):
    """Names, formats and sub-folders; what is left out is named and counted."""
    out, landmarks = tmp_path / "out", str(tmp_path / "lines.txt")
    files = align.run(str(people), out, landmarks=landmarks, size=24)
    crops = ["Ann_Lee/C01.png", "Ann_Lee/P01.jpg", "Bo/P 1.png", "Bo/P2.png"]
    assert sorted(f.relative_to(out).as_posix() for f in files) == crops
    assert made(out) == [*crops, "not_aligned.txt"]
    for name, kind in zip(crops, ("PNG", "JPEG", "PNG", "PNG"), strict=True):
        with Image.open(out / name) as image:
            assert (image.size, image.mode, image.format) == ((24, 24), "RGB", kind)
    points = alignment.read_landmarks(landmarks)["Bo/P 1.png"][1]  # the larger
    with Image.open(out / "Bo" / "P 1.png") as image:
        assert np.array_equal(image, alignment.align(IMAGE, points, 24))
    (text,) = lines
    assert "4 of 6 images aligned" in text
    assert "1 lines of" in text
    assert "2 left out" in text
    left_out = (out / "not_aligned.txt").read_text().splitlines()
    assert [row.split("\t")[0] for row in left_out] == ["Bo/C9.jpg", "Bo/P3.png"]
    assert "no line" in left_out[0]

    # a second run replaces what it makes and forgets the list of the first
    (people / "Bo" / "C9.jpg").unlink()
    (people / "Bo" / "P3.png").unlink()
    align.run(str(people), out, landmarks=landmarks, size=12, faces="all")
    both = ["Bo/P 1.png", "Bo/P 1_1.png", "Bo/P 1_2.png"]
    assert made(out) == ["Ann_Lee/C01.png", "Ann_Lee/P01.jpg", *both, "Bo/P2.png"]
    assert "4 of 4 images aligned, 5 crops of 12x12" in lines[-1]
    with Image.open(out / "Ann_Lee" / "P01.jpg") as image:
        assert image.size == (12, 12)


def test_how_much_of_a_crop_lies_outside_is_what_is_black():
    white = np.full((50, 70, 3), 255, np.uint8)
    for x, y, side, scale in ((20, 10, 30, 0.7), (-10, 20, 40, 0.7), (40, 5, 40, 1.0)):
        points = (alignment.TEMPLATE + 0.5) * side + (x, y)
        crop = alignment.align(white, points, 64, scale)
        found = alignment.outside(points, 50, 70, scale)
        assert abs(found - np.mean(crop[..., 0] < 128)) < 0.01
    assert alignment.outside((alignment.TEMPLATE + 0.5) * 10 + 20, 50, 70, 0.7) == 0.0


def test_much_black_around_faces_is_said_with_what_to_set(tmp_path, lines):
    """Images that end close to the faces."""
    folder, landmarks = tmp_path / "people", tmp_path / "lines.txt"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((40, 40, 3), 200, np.uint8)).save(folder / name)

    def run(**options):
        lines.clear()
        align.run(str(folder), tmp_path / "out", landmarks=str(landmarks), size=64, **options)
        crops = [np.asarray(Image.open(tmp_path / "out" / name)) for name in ("a.png", "b.png")]
        return 100 * np.mean(np.stack(crops) < 100)

    landmarks.write_text(line("a.png", 2, 2, 36) + line("b.png", 10, 10, 18))
    black = run()
    assert "2 of 2 images aligned" in lines[0]
    (note,) = lines[1:]
    share, crops, many, scale, rest = re.fullmatch(
        r"note: ([\d.]+)% of the pixels of (\d+) crops lie outside their images and are black, in "
        r"(\d+) of the crops more than 10%; face_scale=([\d.]+) cuts closer to the face and "
        r"leaves ([\d.]+)%",
        note,
    ).groups()
    assert abs(float(share) - black) < 2
    assert (crops, many) == ("2", "1")
    black = run(face_scale=float(scale))
    assert abs(float(rest) - black) < 2
    assert black < 10
    assert lines[1:] == [f"train with --config.data.face_scale={scale}, so that the run knows it"]
    landmarks.write_text(line("a.png", -15, 2, 36) + line("b.png", 30, 10, 30))
    run()
    assert "; face_scale=1 cuts closer" in lines[1]
    assert lines[1].endswith("; images that show more around the faces have less of it")


def test_a_zip_by_a_detector(people, tmp_path):
    """An image that the detector finds nothing in is left out; one broken image is named."""
    archive = tmp_path / "people.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(people.rglob("*.*")):
            file.write(path, path.relative_to(people))
    calls = []

    def detect(image):
        calls.append(image)
        return seen(*THREE[: len(calls) - 1])(image)

    out = tmp_path / "out"
    files = align.run(str(archive), out, detector=detect, size=8, faces="all")
    assert len(calls) == 5
    assert len(files) == 1 + 2 + 3 + 3
    rows = (out / "not_aligned.txt").read_text().splitlines()
    assert [row.split("\t")[0] for row in rows] == ["Ann Lee/C01.png", "Bo/P3.png"]
    assert "no face" in rows[0]


def test_names_that_meet(tmp_path):
    """Two images with one output are refused; so is a face's number that is another's name."""
    for name in ("A B/x.png", "A_B/x.png", "a/x.png", "a/x_1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(IMAGE).save(tmp_path / name)
    detect, out = seen(*THREE[:2]), tmp_path.parent / f"{tmp_path.name}_out"
    message = assert_refused("both be written as A_B/x.png", align.run, str(tmp_path), out, "",
                             detect)  # fmt: skip
    assert "A B/x.png" in message
    files = align.run(str(tmp_path / "a"), out, detector=detect, size=8, faces="all")
    assert [f.name for f in files] == ["x_2.png", "x_1_1.png", "x_1_2.png"]
    assert "name of another image" in (out / "not_aligned.txt").read_text()


def test_runs_that_are_refused(people, tmp_path):
    lines, out = str(tmp_path / "lines.txt"), tmp_path / "out"
    assert_refused("^source is missing", align.run, "", out, lines)
    assert_refused("^out is missing", align.run, str(people), "", lines)
    assert_refused("^source=.*does not exist", align.run, str(tmp_path / "absent"), out, lines)
    for inside in (people, people / "crops", people / "Bo" / ".." / "x"):
        assert_refused("^out=.*whose images are read", align.run, str(people), inside, lines)
    missing = "^ and detector: both are missing"
    refused_argument("landmarks", missing, align.run, str(people), out)
    other = tmp_path / "other.txt"
    other.write_text(line("P01.jpg", 1, 1, 30))
    unknown = "^landmarks=.* has no line for any of 6"
    message = assert_refused(unknown, align.run, str(people), out, str(other))
    assert "Ann Lee/C01.png" in message
    assert "P01.jpg" in message
    none = "^source=.*: none of 6 images"
    assert_refused(none, align.run, str(people), out, detector=seen())
    taken = tmp_path / "taken"
    taken.write_text("a file")
    refused_argument("out", "cannot be written", align.run, str(people), taken, lines)


def test_an_output_around_the_input(tmp_path):
    """The output's folder may hold the input's, unless a crop would land in it."""
    inner = tmp_path / "a"
    for name in ("x.png", "a/y.png"):
        (inner / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGE).save(inner / name)
    assert_refused("^out=.* writes into", align.run, str(inner), tmp_path, "", seen(*THREE))


def test_a_failed_image_keeps_its_old_crop(people, tmp_path):
    out = tmp_path / "out"
    (out / "Bo").mkdir(parents=True)
    (out / "Bo" / "P3.png").write_bytes(b"old")
    align.run(str(people), out, landmarks=str(tmp_path / "lines.txt"), size=8)
    assert (out / "Bo" / "P3.png").read_bytes() == b"old"

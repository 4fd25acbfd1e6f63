"""Landmarks, the fit of a similarity and the crop, against the original's numbers."""

import json
from pathlib import Path

import numpy as np
import pytest

from gan_jax.data import alignment
from tests.helpers.one_line import assert_refused

GOLDEN = Path(__file__).parents[1] / "golden" / "warpgan" / "preprocess_align.npz"
LINE = " ".join(str(i) for i in range(10))


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as stored:
        return {name: stored[name] for name in stored.files}


def test_template(golden):
    assert np.array_equal(golden["in/template"], alignment.TEMPLATE)


@pytest.mark.parametrize(("scale", "tag"), [(0.7, "0.7"), (1.0, "1")])
def test_matrices_and_crops(golden, scale, tag):
    """Mirrored faces too, where a closer match was not asked for."""
    assert len(json.loads(str(golden["meta"]))["options"]["kinds"]) == 6
    for i in range(6):
        points = golden["in/landmarks"][i].reshape(5, 2)
        matrix = alignment.similarity(points, 64, scale)
        np.testing.assert_allclose(matrix, golden[f"out/matrix_s{tag}"][i], rtol=1e-5, atol=1e-3)
        crop = alignment.align(golden["in/image"], points, 64, scale)
        off = np.abs(crop.astype(int) - golden[f"out/aligned_s{tag}"][i])
        assert off.mean() < 1
        assert off.max() < 12


@pytest.mark.parametrize("reflected", [False, True])
def test_similarity_finds_the_one_that_made_the_points(reflected):
    """The crop's points, moved by a known similarity, come back to where they were."""
    target = alignment.TEMPLATE * (256 * 0.7) + 128
    turn = 1.7 * np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    flip = np.diag([-1.0 if reflected else 1.0, 1.0])
    points = target @ (turn @ flip).T + (30, -12)
    matrix = alignment.similarity(points)
    np.testing.assert_allclose(points @ matrix[:, :2].T + matrix[:, 2], target, atol=1e-9)
    assert np.sign(np.linalg.det(matrix[:, :2])) == (-1 if reflected else 1)


def test_no_similarity_can_do_better():
    """The sum of squares in the image is smaller than that of any neighbour of the fit."""
    rng = np.random.default_rng(0)
    target = alignment.TEMPLATE * (64 * 0.7) + 32
    points = target * 2 + rng.normal(0, 3, (5, 2))
    matrix = alignment.similarity(points, 64)
    inverse = np.linalg.inv(matrix[:, :2])
    shift = -inverse @ matrix[:, 2]

    def error(a: float, b: float, x: float, y: float) -> float:
        return float(np.sum((target @ [[a, b], [-b, a]] + (x, y) - points) ** 2))

    fit = np.array([inverse[0, 0], inverse[1, 0], *shift])
    least = error(*fit)
    for step in np.vstack([np.eye(4), -np.eye(4)]) * 1e-3:
        assert error(*(fit + step)) > least
    with pytest.raises(ValueError, match="one spot"):
        alignment.similarity(np.ones((5, 2)))


def test_crop_of_whole_pixels_and_the_border():
    image = np.random.default_rng(1).integers(1, 256, (9, 7, 3)).astype(np.uint8)
    shifted = alignment.crop(image, np.array([[1.0, 0, 2], [0, 1.0, 1]]), 12)
    expected = np.zeros((12, 12, 3), np.uint8)
    expected[1:10, 2:9] = image
    assert np.array_equal(shifted, expected)
    half = alignment.crop(image, np.array([[1.0, 0, 0.5], [0, 1.0, 0]]), 7)
    mean = (image[:7, :6].astype(float) + image[:7, 1:]) / 2
    assert np.abs(half[:, 1:].astype(float) - mean).max() <= 0.5
    assert np.abs(half[:, 0] - image[:7, 0] / 2).max() <= 0.5  # half of it lies outside: zero
    assert not alignment.crop(image, np.array([[1.0, 0, 1e9], [0, 1.0, 0]]), 5).any()


def test_crop_of_a_fine_image_sees_every_pixel():
    """A third as large: the means over blocks of 3x3, where two neighbours would see four."""
    image = np.random.default_rng(2).integers(0, 256, (31, 27, 1)).astype(np.uint8)
    # the middle of pixel 0 of the crop is that of the first block
    matrix = np.array([[1, 0, -1.0], [0, 1, -1.0]]) / 3
    blocks = image[:27, :27].reshape(9, 3, 9, 3).mean((1, 3))
    crop = alignment.crop(image, matrix, 9)[..., 0]
    assert np.abs(crop - blocks).max() <= 0.5 + 1e-4


def test_landmark_files(tmp_path):
    """Any of the separators, paths with spaces, several faces, Windows' line ends and mark."""
    path = tmp_path / "landmarks.txt"
    other = " ".join(str(i * 2.5) for i in range(10))
    commas = LINE.replace(" ", ", ")
    tabs = LINE.replace(" ", "\t")
    path.write_text(
        f"\ufeffAdam Sandler/P 1.jpg {LINE}\r\n\r\nb\\C1.jpg\t{tabs}\n"
        f'./c.png,{commas}\n\nc.png {other}\nc.png {LINE}\n"d e.png", {LINE}\n7 {LINE}\n',
        "utf-8",
    )
    found = alignment.read_landmarks(path)
    names = ["Adam_Sandler/P 1.jpg", "b/C1.jpg", "c.png", "d e.png", "7"]
    assert [*found] == names
    assert [len(found[name]) for name in names] == [1, 1, 2, 1, 1]
    assert np.array_equal(found["b/C1.jpg"][0], np.arange(10).reshape(5, 2))
    assert np.array_equal(found["c.png"][1], 2.5 * np.arange(10).reshape(5, 2))


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("a.jpg 1 2 3", "4 entries found, 11 expected"),
        (LINE, "10 entries found"),
        (f"a.jpg {LINE} 4", "more than 10 numbers"),
        (f"a b.jpg {LINE.replace('3', 'x')}", "'x' is not a number"),
        (f"a.jpg {LINE.replace('3', 'nan')}", "'nan' is not a number"),
        ("a.jpg" + " 5" * 10, "one spot"),
    ],
)
def test_bad_lines_are_named(tmp_path, line, what):
    path = tmp_path / "landmarks.txt"
    path.write_text(f"good.jpg {LINE}\n\n{line}\n")
    message = assert_refused(what, alignment.read_landmarks, path)
    assert f"{path}, line 3" in message
    assert "path x1 y1" in message


def test_files_that_are_none(tmp_path):
    assert_refused("cannot be read: No such file", alignment.read_landmarks, tmp_path / "absent")
    (tmp_path / "empty").write_text("\n \n")
    assert_refused("holds no line", alignment.read_landmarks, tmp_path / "empty")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x80")
    assert_refused("is not a text file", alignment.read_landmarks, tmp_path / "binary")

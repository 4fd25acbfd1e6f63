"""Faces: MTCNN's parts against plain arithmetic, the choice of a face, a folder aligned."""

import re
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from gan_jax.data import alignment
from gan_jax.errors import UserError
from gan_jax.interop import mtcnn as interop
from gan_jax.interop.formats import npz_file, torch_file
from gan_jax.models import mtcnn
from gan_jax.modes.actions import align
from gan_jax.run.faces import Face, Faces, chosen
from tests.helpers.one_line import assert_refused

SHAPES = {
    "pnet": {"conv1": (10, 3, 3, 3), "conv2": (16, 10, 3, 3), "conv3": (32, 16, 3, 3),
             "conv4_1": (2, 32, 1, 1), "conv4_2": (4, 32, 1, 1)},
    "rnet": {"conv1": (28, 3, 3, 3), "conv2": (48, 28, 3, 3), "conv3": (64, 48, 2, 2),
             "dense4": (128, 576), "dense5_1": (2, 128), "dense5_2": (4, 128)},
    "onet": {"conv1": (32, 3, 3, 3), "conv2": (64, 32, 3, 3), "conv3": (64, 64, 3, 3),
             "conv4": (128, 64, 2, 2), "dense5": (256, 1152), "dense6_1": (2, 256),
             "dense6_2": (4, 256), "dense6_3": (10, 256)},
}  # fmt: skip


def state_dict(name: str) -> dict[str, np.ndarray]:
    """Random tensors in PyTorch's names and layouts."""
    rng, found = np.random.default_rng(len(name)), {}
    for layer, shape in SHAPES[name].items():
        fan_in = np.prod(shape[1:])
        found[f"{layer}.weight"] = rng.normal(0, fan_in**-0.5, shape).astype(np.float32)
        found[f"{layer}.bias"] = rng.normal(0, 0.1, shape[0]).astype(np.float32)
        if "_" not in layer:
            slope = rng.uniform(0, 0.5, shape[0]).astype(np.float32)
            found[f"prelu{layer[-1]}.weight"] = slope
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder as facenet-pytorch has one."""
    path = tmp_path_factory.mktemp("weights")
    for name in SHAPES:
        torch_file.write(path / f"{name}.pt", state_dict(name))
    return path


def conv(x, tensors, index):
    """A valid convolution [C, H, W] and its parametric ReLU, in PyTorch's layouts."""
    kernel = tensors[f"conv{index}.weight"]
    windows = sliding_window_view(x, kernel.shape[2:], (1, 2))
    y = np.einsum("chwij,ocij->ohw", windows, kernel, optimize=True)
    y = y + tensors[f"conv{index}.bias"][:, None, None]
    slope = tensors.get(f"prelu{index}.weight", np.ones(len(y)))
    return np.where(y > 0, y, slope[:, None, None] * y)


def pool(x, side):
    """Maxima, stride 2; the last window may be cut off by the end."""
    rows, columns = (-(-(n - side) // 2) + 1 for n in x.shape[1:])
    return np.stack(
        [
            np.stack([x[:, 2 * r : 2 * r + side, 2 * c : 2 * c + side].max((1, 2))
                      for c in range(columns)], -1)
            for r in range(rows)
        ],
        -2,
    )  # fmt: skip


def dense(x, tensors, layer):
    return tensors[f"{layer}.weight"] @ x + tensors[f"{layer}.bias"]


def hidden(x, tensors, index):
    """The dense layer behind a map [C, H, W], which PyTorch's reads by column, row, channel."""
    y = dense(x.transpose(2, 1, 0).reshape(-1), tensors, f"dense{index}")
    return np.where(y > 0, y, tensors[f"prelu{index}.weight"] * y)


def share(logits):
    return 1 / (1 + np.exp(logits[0] - logits[1]))


def test_pnet_and_the_padding_it_does_not_see(folder):
    """Odd and even sides inside a larger canvas of noise: as the image alone."""
    tensors, params = state_dict("pnet"), interop.read(folder)["pnet"]
    for height, width in ((15, 24), (18, 13)):
        x = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)
        h = x[0, :height, :width].transpose(2, 0, 1)
        h = pool(conv(h, tensors, 1), 2)
        h = conv(conv(h, tensors, 2), tensors, 3)
        scores, offsets = mtcnn._compiled("pnet")(params, x, np.array([height, width], np.int32))
        rows, columns = h.shape[1:]
        assert (rows, columns) == ((height - 1) // 2 - 4, (width - 1) // 2 - 4)
        expected = share(conv(h, tensors, "4_1"))
        np.testing.assert_allclose(scores[0, :rows, :columns], expected, atol=1e-5)
        expected = conv(h, tensors, "4_2").transpose(1, 2, 0)
        np.testing.assert_allclose(offsets[0, :rows, :columns], expected, atol=1e-5)


def test_rnet_and_onet(folder):
    """Pools that end beyond the map, and the order in which the dense layers read it."""
    params = interop.read(folder)
    x = np.random.default_rng(1).normal(size=(mtcnn.BATCH, 24, 24, 3)).astype(np.float32)
    scores, offsets = mtcnn._compiled("rnet")(params["rnet"], x)
    t = state_dict("rnet")
    h = pool(conv(x[3].transpose(2, 0, 1), t, 1), 3)
    h = hidden(conv(pool(conv(h, t, 2), 3), t, 3), t, 4)
    np.testing.assert_allclose(scores[3], share(dense(h, t, "dense5_1")), atol=1e-5)
    np.testing.assert_allclose(offsets[3], dense(h, t, "dense5_2"), atol=1e-5)

    x = np.random.default_rng(2).normal(size=(mtcnn.BATCH, 48, 48, 3)).astype(np.float32)
    scores, offsets, points = mtcnn._compiled("onet")(params["onet"], x)
    t = state_dict("onet")
    h = pool(conv(x[5].transpose(2, 0, 1), t, 1), 3)
    h = pool(conv(pool(conv(h, t, 2), 3), t, 3), 2)
    h = hidden(conv(h, t, 4), t, 5)
    np.testing.assert_allclose(scores[5], share(dense(h, t, "dense6_1")), atol=1e-5)
    np.testing.assert_allclose(offsets[5], dense(h, t, "dense6_2"), atol=1e-5)
    np.testing.assert_allclose(points[5], dense(h, t, "dense6_3"), atol=1e-5)


def test_npz_is_the_same(folder, tmp_path):
    params = interop.read(folder)
    npz_file.write_npz(tmp_path / "mtcnn.npz", params)
    with np.load(tmp_path / "mtcnn.npz") as stored:
        assert stored["pnet/conv1/kernel"].shape == (3, 3, 3, 10)
        assert stored["rnet/dense4/kernel"].shape == (576, 128)
    again = interop.read(tmp_path / "mtcnn.npz")
    assert jax.tree.all(jax.tree.map(np.array_equal, params, again))


def test_weights_that_do_not_fit(folder, tmp_path):
    assert_refused("does not exist", interop.read, tmp_path / "absent")
    assert_refused("has no pnet.pt, rnet.pt, onet.pt", interop.read, tmp_path)
    (tmp_path / "det1.npy").write_bytes(b"x")
    assert_refused("another kind", interop.read, tmp_path / "det1.npy")
    for name in SHAPES:
        torch_file.write(tmp_path / f"{name}.pt", state_dict("rnet" if name == "onet" else name))
    assert_refused(r"conv1.bias is \[28\] in .*onet.pt, expected \[32\]", interop.read, tmp_path)
    torch_file.write(tmp_path / "onet.pt", {**state_dict("onet"), "more": np.ones(2, np.float32)})
    assert_refused("tensor more .* none of onet's", interop.read, tmp_path)
    params = interop.read(folder)
    del params["rnet"]["prelu4"]
    npz_file.write_npz(tmp_path / "cut.npz", params)
    assert_refused("rnet/prelu4/slope is absent", interop.read, tmp_path / "cut.npz")
    npz_file.write_npz(tmp_path / "other.npz", {"gen": np.ones(2)})
    assert_refused("holds gen", interop.read, tmp_path / "other.npz")


def test_sizes_of_the_pyramid():
    """From 20 px faces on, by 0.85, down to one window; large images begin at LARGEST."""
    found = mtcnn.scales(100, 300)
    np.testing.assert_allclose(found, 0.6 * 0.85 ** np.arange(len(found)))
    assert 100 * found[-1] >= 12 > 100 * found[-1] * 0.85
    assert mtcnn.scales(19, 400) == []
    assert mtcnn.level_size(100, 300, 0.6) == (61, 181)
    for width in (3413, 3414, 4000, 7919):
        first = mtcnn.scales(1000, width)[0]
        assert mtcnn.level_size(1000, width, first)[1] <= mtcnn.LARGEST
    assert [mtcnn.canvas_side(n) for n in (12, 32, 33, 64, 2048)] == [32, 32, 64, 64, 2048]


def test_resizing_by_areas():
    """Whole factors are block means, others the means over all touched pixels; zero outside."""
    image = np.random.default_rng(3).integers(0, 256, (12, 10, 3)).astype(np.uint8)
    sums = mtcnn.integral(image)
    halves = image.reshape(6, 2, 5, 2, 3).mean((1, 3))
    np.testing.assert_allclose(mtcnn.resized(sums, (0, 0, 12, 10), 6, 5), halves, rtol=1e-6)
    fifths = mtcnn.resized(sums, (0, 0, 12, 10), 5, 1)
    np.testing.assert_allclose(fifths[1, 0], image[2:5].mean((0, 1)), rtol=1e-6)
    np.testing.assert_allclose(fifths[4, 0], image[9:12].mean((0, 1)), rtol=1e-6)
    outside = mtcnn.resized(sums, (-2, 8, 2, 12), 2, 2)
    assert not outside[0].any()
    assert not outside[1, 1].any()
    np.testing.assert_allclose(outside[1, 0], image[:2, 8:].mean((0, 1)), rtol=1e-6)
    # sums that have wrapped around 2^32
    wrapped = sums + np.uint32(2**32 - 1000)
    assert np.array_equal(mtcnn.resized(wrapped, (3, 2, 9, 7), 3, 3),
                          mtcnn.resized(sums, (3, 2, 9, 7), 3, 3))  # fmt: skip


def test_boxes_that_overlap():
    """100x100 pixels; shifts by 20 and 60 columns share 2/3 and 1/4 of their union."""
    boxes = np.array([[0.0, 0, 99, 99], [20, 0, 119, 99], [60, 0, 159, 99]])
    scores = np.array([0.7, 0.9, 0.8])
    assert mtcnn.suppress(boxes, scores, 0.67).tolist() == [1, 2, 0]
    assert mtcnn.suppress(boxes, scores, 0.66).tolist() == [1, 2]
    assert mtcnn.suppress(boxes, scores, 0.4).tolist() == [1]  # 60 of 140 columns: 0.43
    inner = np.array([[0.0, 0, 99, 99], [10, 10, 59, 59]])
    assert mtcnn.suppress(inner, scores[:2], 0.7).tolist() == [1, 0]  # a quarter of the union
    assert mtcnn.suppress(inner, scores[:2], 0.7, of_smaller=True).tolist() == [1]
    assert len(mtcnn.suppress(np.zeros((0, 4)), np.zeros(0), 0.7)) == 0


def test_boxes_that_move():
    boxes = np.array([[10.0, 20, 29, 59]])  # 20 wide, 40 high
    offsets = np.array([[0.1, -0.1, 0.5, 0.25]])
    np.testing.assert_allclose(mtcnn.moved(boxes, offsets), [[12, 16, 39, 69]])
    np.testing.assert_allclose(mtcnn.squared(boxes), [[0, 20, 39, 59]])


def test_detector_on_an_image_without_a_face(folder):
    """Nothing, as empty arrays, where the last network agrees to none; images of any size."""
    params = interop.read(folder)
    params["onet"]["dense6_1"]["bias"] = np.array([50, -50], np.float32)
    detector = mtcnn.Detector(params)
    image = np.random.default_rng(4).integers(0, 256, (30, 41, 3)).astype(np.uint8)
    for part in (image, image[:5, :7]):
        boxes, points = detector(part)
        assert (boxes.shape, points.shape) == ((0, 4), (0, 5, 2))
    params["onet"]["dense6_1"]["bias"] = np.array([-50, 50], np.float32)
    params["rnet"]["dense5_1"]["bias"] = np.array([-50, 50], np.float32)
    params["pnet"]["conv4_1"]["bias"] = np.array([-50, 50], np.float32)
    boxes, points = mtcnn.Detector(params)(image)
    assert len(boxes) == len(points) > 0
    assert points.shape[1:] == (5, 2)


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


def test_settings_that_are_refused():
    detect = seen(*THREE)
    assert_refused("both are missing", Faces)
    assert_refused("both are given", lambda: Faces("a.txt", detect))
    assert_refused("faces=first", lambda: Faces(detector=detect, faces="first"))
    assert_refused("size=0", lambda: Faces(detector=detect, size=0))
    assert_refused("face_scale=0", lambda: Faces(detector=detect, face_scale=0.0))
    assert_refused("face_scale=nan", lambda: Faces(detector=detect, face_scale=float("nan")))


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
    assert_refused("source is missing", align.run, "", out, lines)
    assert_refused("out is missing", align.run, str(people), "", lines)
    assert_refused("does not exist", align.run, str(tmp_path / "absent"), out, lines)
    for inside in (people, people / "crops", people / "Bo" / ".." / "x"):
        assert_refused("whose images are read", align.run, str(people), inside, lines)
    assert_refused("both are missing", align.run, str(people), out)
    other = tmp_path / "other.txt"
    other.write_text(line("P01.jpg", 1, 1, 30))
    message = assert_refused("no line for any of 6", align.run, str(people), out, str(other))
    assert "Ann Lee/C01.png" in message
    assert "P01.jpg" in message
    with pytest.raises(UserError, match="none of 6 images"):
        align.run(str(people), out, detector=seen())
    taken = tmp_path / "taken"
    taken.write_text("a file")
    assert_refused("cannot be written", align.run, str(people), taken, lines)


def test_an_output_around_the_input(tmp_path):
    """The output's folder may hold the input's, unless a crop would land in it."""
    inner = tmp_path / "a"
    for name in ("x.png", "a/y.png"):
        (inner / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGE).save(inner / name)
    assert_refused("writes into", align.run, str(inner), tmp_path, "", seen(*THREE))


def test_a_failed_image_keeps_its_old_crop(people, tmp_path):
    out = tmp_path / "out"
    (out / "Bo").mkdir(parents=True)
    (out / "Bo" / "P3.png").write_bytes(b"old")
    align.run(str(people), out, landmarks=str(tmp_path / "lines.txt"), size=8)
    assert (out / "Bo" / "P3.png").read_bytes() == b"old"

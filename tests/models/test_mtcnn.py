"""MTCNN's networks and what lies around them, against plain arithmetic."""

from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from gan_jax.interop import mtcnn as interop
from gan_jax.models import mtcnn
from tests.helpers.mtcnn_files import state_dict, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("weights"))


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

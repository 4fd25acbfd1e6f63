"""The FCN score: against its definition pixel by pixel, and where it can be told beforehand."""

import numpy as np
import pytest

from gan_jax.metrics.segmentation import confusion, scores


def by_definition(truth, predicted, classes) -> dict[str, float]:
    """The three values from sets of pixels, class by class, without a matrix."""
    pairs = list(zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True))
    accuracies, ious = [], []
    for k in range(classes):
        true = {i for i, (t, _) in enumerate(pairs) if t == k}
        called = {i for i, (_, p) in enumerate(pairs) if p == k}
        if true:
            accuracies.append(len(true & called) / len(true))
        if true | called:
            ious.append(len(true & called) / len(true | called))
    return {
        "pixel_accuracy": sum(t == p for t, p in pairs) / len(pairs),
        "class_accuracy": sum(accuracies) / len(accuracies),
        "class_iou": sum(ious) / len(ious),
    }


@pytest.mark.parametrize(("classes", "used", "seed"), [(2, 2, 0), (5, 5, 1), (12, 7, 2), (4, 1, 3)])
def test_against_the_definition(classes, used, seed):
    """Also where only some of the classes occur."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, used, (3, 8, 9)).astype(np.int32)
    predicted = np.where(
        random.random(truth.shape) < 0.6, truth, random.integers(0, classes, truth.shape)
    )
    matrix = confusion(truth, predicted, classes)
    assert matrix.dtype == np.int64
    assert matrix.sum() == truth.size
    for t, p in np.ndindex(classes, classes):
        assert matrix[t, p] == np.sum((truth == t) & (predicted == p))
    found, expected = scores(matrix), by_definition(truth, predicted, classes)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-12), name


def test_batches_add_up():
    random = np.random.default_rng(0)
    truth, predicted = random.integers(0, 6, (2, 10, 4, 4)).astype(np.uint8)
    parts = [confusion(truth[i : i + 3], predicted[i : i + 3], 6) for i in range(0, 10, 3)]
    np.testing.assert_array_equal(sum(parts), confusion(truth, predicted, 6))


def test_perfect_and_wholly_wrong():
    truth = np.arange(12).reshape(3, 4) % 3
    perfect = scores(confusion(truth, truth, 3))
    assert perfect == {"pixel_accuracy": 1.0, "class_accuracy": 1.0, "class_iou": 1.0}
    wrong = scores(confusion(truth, (truth + 1) % 3, 3))
    assert wrong == {"pixel_accuracy": 0.0, "class_accuracy": 0.0, "class_iou": 0.0}


def test_by_hand():
    """3 of 4 pixels of class 0 right, one called 1; both of class 1 right."""
    found = scores(np.array([[3, 1], [0, 2]]))
    assert found["pixel_accuracy"] == pytest.approx(5 / 6)
    assert found["class_accuracy"] == pytest.approx((3 / 4 + 1) / 2)
    assert found["class_iou"] == pytest.approx((3 / 4 + 2 / 3) / 2)


def test_one_answer_for_everything():
    """Class c of share s is named everywhere: accuracy s, class accuracy 1/K, IoU s/K."""
    shares = np.array([50, 30, 15, 5])
    matrix = np.zeros((4, 4), int)
    matrix[:, 1] = shares
    found = scores(matrix)
    assert found["pixel_accuracy"] == pytest.approx(0.3)
    assert found["class_accuracy"] == pytest.approx(1 / 4)
    assert found["class_iou"] == pytest.approx(0.3 / 4)


def test_classes_that_do_not_occur():
    """Class 2 is called but never true: no accuracy, IoU 0. Class 3 is neither: left out."""
    found = scores(np.array([[4, 0, 0, 0], [0, 3, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]))
    assert found["pixel_accuracy"] == pytest.approx(7 / 8)
    assert found["class_accuracy"] == pytest.approx((1 + 3 / 4) / 2)
    assert found["class_iou"] == pytest.approx((1 + 3 / 4 + 0) / 3)


def test_what_is_refused():
    ones = np.ones((2, 2), int)
    with pytest.raises(ValueError, match="differ"):
        confusion(ones, np.ones((2, 3), int), 2)
    for wrong in (ones + 1, ones - 2):
        with pytest.raises(ValueError, match=r"predicted lies in .* 0\.\.1"):
            confusion(ones, wrong, 2)
        with pytest.raises(ValueError, match=r"truth lies in .* 0\.\.1"):
            confusion(wrong, ones, 2)
    with pytest.raises(ValueError, match="whole numbers"):
        confusion(ones, ones.astype(float), 2)
    for wrong in (np.zeros((2, 3)), np.zeros(4)):
        with pytest.raises(ValueError, match=r"\[K, K\]"):
            scores(wrong)
    for wrong in (np.zeros((2, 2)), np.array([[5, -1], [0, 1]])):
        with pytest.raises(ValueError, match="counts pixels"):
            scores(wrong)

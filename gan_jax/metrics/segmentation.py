"""How well label maps agree: the three values of the FCN score.

A segmenter that was trained on real photos labels generated ones; the better its label maps agree
with those from which the photos were generated, the more the photos look like what they should show
(pix2pix, Isola et al. 2017, section 4; the values are those of FCN, Long et al. 2015, section 5).
"""

import numpy as np


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """How often each class was predicted for each true class: int64 [K, K], rows the true classes.

    The matrices of several batches add up to that of all of them.

    Args:
      truth, predicted: whole numbers in 0..K-1, of the same shape, which may be any.
      classes: K.

    Raises:
      ValueError: shapes that differ, or values that are not classes.
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape:
        raise ValueError(f"truth {list(truth.shape)} and predicted {list(predicted.shape)} differ")
    for name, values in (("truth", truth), ("predicted", predicted)):
        if not np.issubdtype(values.dtype, np.integer):
            raise ValueError(f"{name} holds whole numbers, found {values.dtype}")
        if values.size and not 0 <= int(values.min()) <= int(values.max()) < classes:
            raise ValueError(
                f"{name} lies in {values.min()}..{values.max()}; classes are 0..{classes - 1}"
            )
    cells = truth.astype(np.int64).ravel() * classes + predicted.astype(np.int64).ravel()
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def scores(matrix: np.ndarray) -> dict[str, float]:
    """The FCN score of a `confusion` matrix n, where n_ij pixels of class i are predicted as j.

    All values are in [0, 1]. With t_i = Σ_j n_ij the pixels of class i, and p_i = Σ_j n_ji those
    that are predicted as i (Long et al. 2015, section 5):

      pixel_accuracy  Σ_i n_ii / Σ_i t_i
      class_accuracy  the mean over classes of n_ii / t_i
      class_iou       the mean over classes of n_ii / (t_i + p_i - n_ii)

    A class that never occurs in the truth has no accuracy and is left out of that mean. Its IoU is
    0 if it is predicted for any pixel; a class that is neither there nor predicted has no IoU.

    Raises:
      ValueError: not a square matrix, negative counts, or no pixel at all.
    """
    n = np.asarray(matrix, np.float64)
    if n.ndim != 2 or n.shape[0] != n.shape[1]:
        raise ValueError(f"a confusion matrix is [K, K], found {list(n.shape)}")
    if not n.sum() > 0 or n.min() < 0:
        raise ValueError("a confusion matrix counts pixels: none below 0 and not all 0")
    right, true, called = np.diag(n), n.sum(axis=1), n.sum(axis=0)
    union = true + called - right
    there, either = true > 0, union > 0
    return {
        "pixel_accuracy": float(right.sum() / true.sum()),
        "class_accuracy": float(np.mean(right[there] / true[there])),
        "class_iou": float(np.mean(right[either] / union[either])),
    }

"""MTCNN: three small networks that find faces and five points in each, coarse to fine.

Zhang et al. 2016, https://arxiv.org/abs/1604.02878. P-Net classifies every 12x12 window of an image
in many sizes; R-Net and O-Net classify the windows that are left at 24x24 and 48x48 and move their
boxes; O-Net also places the points. Boxes are (x1, y1, x2, y2) in pixels, both ends inside the box,
(0, 0) the first pixel. gan_jax.interop.mtcnn reads trained weights.

P-Net's images are padded to sides that are powers of two, so a folder of photographs compiles some
ten programs; no output that is used sees the padding. R-Net and O-Net run on batches of BATCH.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.nn import initializers

from gan_jax.models import layers
from gan_jax.models.network import Network, functional

PyTree = Any

SMALLEST_FACE = 20  # px, the side of the smallest face that is looked for
FACTOR = 0.85  # between two sizes of the pyramid
THRESHOLDS = (0.6, 0.7, 0.9)  # least probability of a face according to P-Net, R-Net and O-Net
LARGEST = 2048  # px: the longer side of the largest image in the pyramid
WINDOW, STRIDE = 12, 2  # of P-Net
BATCH = 64
SMALLEST_CANVAS = 32
_HIDDEN = -1e9  # below every activation


class _Prelu(nn.Module):
    """max(x, 0) + slope * min(x, 0), with a slope [C] for each channel."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        slope = self.param("slope", initializers.constant(0.25), x.shape[-1:])
        return jnp.maximum(x, 0) + slope * jnp.minimum(x, 0)


class _Layers(nn.Module):
    """Convolutions and dense layers under the names that are usual for these networks."""

    def conv(self, x: Array, index: int, features: int, kernel_size: int = 3) -> Array:
        x = layers.Conv(features, kernel_size, name=f"conv{index}")(x)
        return _Prelu(name=f"prelu{index}")(x)

    def dense(self, x: Array, index: int, features: int) -> Array:
        x = layers.Dense(features, name=f"dense{index}")(x.reshape(x.shape[0], -1))
        return _Prelu(name=f"prelu{index}")(x)


class PNet(_Layers):
    """x [1, H, W, 3] in about [-1, 1] → probabilities [1, h, w] and box offsets [1, h, w, 4].

    H and W are even. valid: int32 [2], height and width before padding. Only the first
    ceil((height - 2) / 2) - 4 rows of cells count, and likewise for columns and the width.
    """

    @nn.compact
    def __call__(self, x: Array, valid: Array, train: bool = False) -> tuple[Array, Array]:
        h = self.conv(x, 1, 10)
        rows, columns = jnp.arange(h.shape[1]), jnp.arange(h.shape[2])
        inside = (rows < valid[0] - 2)[:, None] & (columns < valid[1] - 2)
        # the last window of the pool may reach beyond the image and must not see the padding
        h = jnp.where(inside[None, :, :, None], h, _HIDDEN)
        h = layers.max_pool(h)
        h = self.conv(self.conv(h, 2, 16), 3, 32)
        probabilities = jax.nn.softmax(layers.Conv(2, 1, name="conv4_1")(h))[..., 1]
        return probabilities, layers.Conv(4, 1, name="conv4_2")(h)


class RNet(_Layers):
    """x [N, 24, 24, 3] → probabilities [N] and box offsets [N, 4]."""

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> tuple[Array, Array]:
        h = _pool(self.conv(x, 1, 28), 1)
        h = _pool(self.conv(h, 2, 48), 0)
        h = self.dense(self.conv(h, 3, 64, 2), 4, 128)
        probabilities = jax.nn.softmax(layers.Dense(2, name="dense5_1")(h))[..., 1]
        return probabilities, layers.Dense(4, name="dense5_2")(h)


class ONet(_Layers):
    """x [N, 48, 48, 3] → probabilities [N], box offsets [N, 4], points [N, 10]: five x, five y."""

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> tuple[Array, Array, Array]:
        h = _pool(self.conv(x, 1, 32), 1)
        h = _pool(self.conv(h, 2, 64), 1)
        h = layers.max_pool(self.conv(h, 3, 64))
        h = self.dense(self.conv(h, 4, 128, 2), 5, 256)
        probabilities = jax.nn.softmax(layers.Dense(2, name="dense6_1")(h))[..., 1]
        offsets = layers.Dense(4, name="dense6_2")(h)
        return probabilities, offsets, layers.Dense(10, name="dense6_3")(h)


def _pool(x: Array, beyond: int) -> Array:
    """Maxima over 3x3 windows, stride 2; the last one may reach `beyond` the map."""
    return nn.max_pool(x, (3, 3), (2, 2), ((0, beyond), (0, beyond)))


def networks() -> dict[str, Network]:
    """The three networks by name: apply(params, {}, images [, valid]), see their classes."""
    return {"pnet": functional(PNet()), "rnet": functional(RNet()), "onet": functional(ONet())}


@functools.cache
def shapes() -> dict[str, PyTree]:
    """The parameters' trees of the three, as shapes and dtypes."""
    key, side = jax.random.key(0), {"pnet": 12, "rnet": 24, "onet": 48}
    found = {}
    for name, network in networks().items():
        image = jax.ShapeDtypeStruct((1, side[name], side[name], 3), jnp.float32)
        inputs = [image, jax.ShapeDtypeStruct((2,), jnp.int32)][: 1 + (name == "pnet")]
        found[name] = jax.eval_shape(network.init, key, *inputs)[0]
    return found


class Detector:
    """Finds the faces of an image with the weights of the three networks."""

    def __init__(self, params: dict[str, PyTree]) -> None:
        self._params = jax.device_put(params)
        self._apply = {name: _compiled(name) for name in networks()}

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes [N, 4] and points (x, y) [N, 5, 2] of the faces in an image uint8 [H, W, 3].

        In images of more than 3413 px a side the smallest face that is found grows with the image,
        because the pyramid ends at LARGEST.
        """
        sums = integral(image)
        boxes = self._proposed(sums)
        scores, offsets = self._outputs("rnet", sums, boxes)
        keep = np.flatnonzero(scores > THRESHOLDS[1])
        keep = keep[suppress(boxes[keep], scores[keep], 0.7)]
        boxes = squared(moved(boxes[keep], offsets[keep]))
        scores, offsets, places = self._outputs("onet", sums, boxes)
        keep = np.flatnonzero(scores > THRESHOLDS[2])
        boxes, scores, places = boxes[keep], scores[keep], places[keep].reshape(-1, 2, 5)
        sides = (boxes[:, 2:] - boxes[:, :2] + 1)[:, None]
        points = boxes[:, None, :2] + places.transpose(0, 2, 1) * sides - 1
        boxes = moved(boxes, offsets[keep])
        keep = suppress(boxes, scores, 0.7, of_smaller=True)
        return boxes[keep], points[keep]

    def _proposed(self, sums: np.ndarray) -> np.ndarray:
        """P-Net's boxes [N, 4], square, over all sizes of the image."""
        height, width = sums.shape[0] - 1, sums.shape[1] - 1
        found = [np.zeros((0, 9))]
        for scale in scales(height, width):
            level = resized(sums, (0, 0, height, width), *level_size(height, width, scale))
            rows = self._windows(level, scale)
            found.append(rows[suppress(rows[:, :4], rows[:, 4], 0.5)])
        rows = np.concatenate(found)
        rows = rows[suppress(rows[:, :4], rows[:, 4], 0.7)]
        sides = np.tile(rows[:, 2:4] - rows[:, :2], 2)  # without the 1 that `moved` adds
        return squared(rows[:, :4] + rows[:, 5:] * sides)

    def _windows(self, level: np.ndarray, scale: float) -> np.ndarray:
        """The windows of one size that may be faces, [N, 9]: box, score and offsets."""
        height, width = level.shape[:2]
        canvas = np.zeros((1, canvas_side(height), canvas_side(width), 3), np.float32)
        canvas[0, :height, :width] = normalised(level)
        valid = np.array([height, width], np.int32)
        scores, offsets = self._apply["pnet"](self._params["pnet"], canvas, valid)
        rows, columns = ((side - 1) // 2 - 4 for side in (height, width))
        scores = np.asarray(scores, float)[0, :rows, :columns]
        offsets = np.asarray(offsets, float)[0, :rows, :columns]
        row, column = np.nonzero(scores >= THRESHOLDS[0])
        first = STRIDE * np.stack([column, row], 1) + 1
        corners = [np.floor(first / scale), np.floor((first + WINDOW - 1) / scale)]
        return np.hstack([*corners, scores[row, column, None], offsets[row, column]])

    def _outputs(self, name: str, sums: np.ndarray, boxes: np.ndarray) -> list[np.ndarray]:
        """The outputs of R-Net or O-Net for every box [N, 4], each [N, ...]."""
        side = {"rnet": 24, "onet": 48}[name]
        outputs = []
        for first in range(0, max(len(boxes), 1), BATCH):
            part = np.trunc(boxes[first : first + BATCH]).astype(int)
            batch = np.zeros((BATCH, side, side, 3), np.float32)
            for i, (x1, y1, x2, y2) in enumerate(part):
                batch[i] = normalised(resized(sums, (y1 - 1, x1 - 1, y2, x2), side, side))
            found = self._apply[name](self._params[name], batch)
            outputs.append([np.asarray(x, float)[: len(part)] for x in found])
        return [np.concatenate(x) for x in zip(*outputs, strict=True)]


@functools.cache
def _compiled(name: str) -> Any:
    network = networks()[name]

    def apply(params: PyTree, *inputs: Array) -> Any:
        # accelerators round products to 8 or 11 bits by default, which thresholds would amplify
        with jax.default_matmul_precision("highest"):
            return network.apply(params, {}, *inputs)[0]

    return jax.jit(apply)


def scales(height: int, width: int) -> list[float]:
    """The sizes of the pyramid, each a factor of the image's; [] for an image without a window."""
    # `level_size` adds a pixel
    scale, found = min(WINDOW / SMALLEST_FACE, (LARGEST - 1) / max(height, width)), []
    while min(height, width) * scale >= WINDOW:
        found.append(scale)
        scale *= FACTOR
    return found


def level_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Height and width of the image at this scale."""
    return int(height * scale + 1), int(width * scale + 1)


def canvas_side(side: int) -> int:
    """The power of two to which a side is padded."""
    return max(SMALLEST_CANVAS, 1 << (side - 1).bit_length())


def normalised(pixels: np.ndarray) -> np.ndarray:
    """[0, 255] → about [-1, 1]."""
    return (pixels - 127.5) / 128


def integral(image: np.ndarray) -> np.ndarray:
    """Sums over all pixels above and left, uint32 [H + 1, W + 1, 3].

    They may wrap around 2^32, but differences over at most 2^24 pixels are right nevertheless.
    """
    sums = np.zeros((image.shape[0] + 1, image.shape[1] + 1, image.shape[2]), np.uint32)
    np.cumsum(image, axis=0, dtype=np.uint32, out=sums[1:, 1:])
    np.cumsum(sums[1:, 1:], axis=1, dtype=np.uint32, out=sums[1:, 1:])
    return sums


def resized(
    sums: np.ndarray, area: tuple[int, int, int, int], height: int, width: int
) -> np.ndarray:
    """The area (y1, x1, y2, x2), ends outside, as float32 [height, width, 3] in [0, 255].

    Each pixel is the mean over the whole pixels that it touches; outside the image all is zero.
    """
    y1, x1, y2, x2 = area
    above, below = _spans(y2 - y1, height)
    left, right = _spans(x2 - x1, width)
    rows, columns = sums.shape[0] - 1, sums.shape[1] - 1
    top, bottom = (np.clip(y1 + y, 0, rows)[:, None] for y in (above, below))
    start, end = (np.clip(x1 + x, 0, columns) for x in (left, right))
    total = sums[bottom, end] - sums[top, end] - sums[bottom, start] + sums[top, start]
    pixels = (below - above)[:, None] * (right - left)
    return (total / pixels[..., None]).astype(np.float32)


def _spans(length: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """First pixel and first pixel after it of each of the parts of a line; they may overlap."""
    index = np.arange(parts)
    length = max(length, 1)
    return index * length // parts, -(-(index + 1) * length // parts)


def suppress(
    boxes: np.ndarray, scores: np.ndarray, most: float, of_smaller: bool = False
) -> np.ndarray:
    """Non-maximum suppression: indices of the boxes [N, 4] that remain, the best first.

    No remaining box overlaps a better one by more than `most`, measured as intersection over union,
    or with `of_smaller` over the smaller of the two boxes.
    """
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2] + 1, 0)
    areas = sides[:, 0] * sides[:, 1]
    left, kept = np.argsort(-scores, kind="stable"), []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[left, :2])
        high = np.minimum(boxes[best, 2:], boxes[left, 2:])
        common = np.prod(np.maximum(high - low + 1, 0), axis=1)
        both = areas[best] + areas[left] - common
        whole = np.minimum(areas[best], areas[left]) if of_smaller else both
        left = left[common <= most * whole]
    return np.array(kept, int)


def moved(boxes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Boxes [N, 4] with each coordinate moved by its offset [N, 4] times the width or height."""
    return boxes + offsets * np.tile(boxes[:, 2:] - boxes[:, :2] + 1, 2)


def squared(boxes: np.ndarray) -> np.ndarray:
    """Squares [N, 4] around the same centres, with the longer side of each box as their side."""
    sides = boxes[:, 2:] - boxes[:, :2]
    middle, half = boxes[:, :2] + sides / 2, sides.max(axis=1, keepdims=True) / 2
    return np.hstack([middle - half, middle + half])

"""Faces in images: found in a file of landmarks or by a detector, chosen, aligned and cut out."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from gan_jax.data import alignment
from gan_jax.errors import ArgumentError, UserError
from gan_jax.interop import mtcnn as weights
from gan_jax.models import mtcnn

CHOICES = ("largest", "central", "all")
SIZES = (8, 4096)  # px of a crop

# uint8 [H, W, 3] → boxes (x1, y1, x2, y2) [N, 4] and points (x, y) [N, 5, 2], in pixels
Detect = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class NoFaceError(UserError):
    """An image without a face, or without a line in the file of landmarks."""


class Face(NamedTuple):
    """A face in an image, in pixels: its box (x1, y1, x2, y2) [4], and its points (x, y) [5, 2] in
    the order of gan_jax.data.alignment."""

    box: np.ndarray
    points: np.ndarray


class Faces:
    """Finds, chooses and aligns the faces of images."""

    def __init__(
        self,
        landmarks: str = "",
        detector: str | Detect = "",
        faces: str = "largest",
        size: int = 256,
        face_scale: float = alignment.SCALE,
    ) -> None:
        """
        Args:
            landmarks: a file of `path x1 y1 … x5 y5` lines, see gan_jax.data.alignment.
            detector: MTCNN's weights, see gan_jax.interop.mtcnn; or a function of your own.
            faces: which of several faces: `largest`, `central` (nearest to the image's middle) or
                `all`.
            size: the side of a crop in pixels, 8 to 4096.
            face_scale: how much of the crop the face fills: 0.7 leaves hair and chin, 1 is tight.

        Raises UserError for an unknown or missing argument and for a file that cannot be used.
        """
        if bool(landmarks) == bool(detector):
            what = "both are given" if landmarks else "both are missing"
            raise ArgumentError(
                "landmarks",
                f" and detector: {what}; name one: a file of `path x1 y1 … x5 y5` lines, or the "
                "weights of MTCNN (a folder with pnet.pt, rnet.pt, onet.pt, or an .npz)",
            )
        if faces not in CHOICES:
            raise ArgumentError("faces", f"={faces}: accepted are {', '.join(CHOICES)}")
        if not SIZES[0] <= size <= SIZES[1]:
            raise ArgumentError("size", f"={size}: accepted are {SIZES[0]} to {SIZES[1]} pixels")
        if not 0 < face_scale <= alignment.LARGEST_SCALE:
            accepted = f"numbers above 0, to {alignment.LARGEST_SCALE:g}"
            raise ArgumentError("face_scale", f"={face_scale}: accepted are {accepted}")
        self.choose, self.size, self.scale = faces, size, face_scale
        self.file = landmarks
        self.known = alignment.read_landmarks(landmarks) if landmarks else {}
        self._detect: Detect | None = None
        if detector:
            self._detect = detector if callable(detector) else _detector(detector)

    def knows(self, name: str) -> bool:
        """Whether faces of this image can be found: there is a detector, or the file has a line for
        the image."""
        return self._detect is not None or alignment.key(name) in self.known

    def landmarks(self, image: np.ndarray, name: str) -> list[np.ndarray]:
        """The points (x, y) [5, 2] of the chosen faces of an image uint8 [H, W, 3].

        Args:
            image: its pixels.
            name: its path in the file of landmarks and in errors.

        Returns at least one array. With `all` the largest face comes first.

        Raises:
            NoFaceError: the image has no face, or no line in the file. It is a UserError.
        """
        faces = self._found(image) if self._detect else self._listed(name)
        if not faces:
            raise NoFaceError(
                f"{name}: no face found; give an image that shows one upright and at least "
                f"{mtcnn.SMALLEST_FACE} pixels high, or name its five points in a file of landmarks"
            )
        return [face.points for face in chosen(faces, self.choose, *image.shape[:2])]

    def crops(self, image: np.ndarray, name: str) -> list[np.ndarray]:
        """The chosen faces of an image uint8 [H, W, 3], each uint8 [size, size, 3], in the order of
        `landmarks`. Raises NoFaceError."""
        return [self.crop(image, points) for points in self.landmarks(image, name)]

    def crop(self, image: np.ndarray, points: np.ndarray) -> np.ndarray:
        """The face with these points [5, 2] of an image uint8 [H, W, 3]: uint8 [size, size, 3]."""
        return alignment.align(image, points, self.size, self.scale)

    def _found(self, image: np.ndarray) -> list[Face]:
        return [Face(box, points) for box, points in zip(*self._detect(image), strict=True)]

    def _listed(self, name: str) -> list[Face]:
        listed = self.known.get(alignment.key(name))
        if listed is None:
            raise NoFaceError(
                f"{name}: {self.file} has no line of this path; add "
                f"`{alignment.key(name)} x1 y1 … x5 y5`, or name a detector"
            )
        return [Face(np.concatenate([p.min(axis=0), p.max(axis=0)]), p) for p in listed]


def _detector(path: str) -> mtcnn.Detector:
    try:
        return mtcnn.Detector(weights.read(path))
    except UserError as error:
        raise ArgumentError("detector", f": {error}") from None


def chosen(faces: Sequence[Face], choose: str, height: int, width: int) -> list[Face]:
    """The largest of `faces`, the most central one, or all from large to small.

    `choose` is one of CHOICES; `height` and `width` are those of the image, in pixels.
    """
    boxes = np.array([face.box for face in faces], float)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    order = np.argsort(-np.prod(sides, axis=1), kind="stable")
    if choose == "all":
        return [faces[i] for i in order]
    if choose == "central":
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2
        away = np.linalg.norm(middles - ((width - 1) / 2, (height - 1) / 2), axis=1)
        return [faces[min(order, key=lambda i: away[i])]]
    return [faces[order[0]]]

"""Sliced Wasserstein distance between two sets of images, one value per Laplacian level.

This is the metric of ProGAN (Karras et al. 2018, section 5): each level of the pyramid is described
by random patches, standardised per channel; two clouds of patches are projected onto random
directions (Rabin et al. 2011), where sorting gives the optimal transport. Low values on the finest
level mean similar textures, on the coarsest similar layouts.

Stream the real images into one `Patches` and every set of fakes into another, then call
`distances`. Two `Patches` of the same real images under two generators give the noise floor.
"""

import tempfile
from dataclasses import dataclass
from typing import BinaryIO

import jax
import numpy as np

from gan_jax.ops.frechet import Moments
from gan_jax.ops.pyramid import laplacian

COARSEST = 16
"""Side of the coarsest level in pixels."""

_levels = jax.jit(laplacian, static_argnums=1)
_ROWS = 8192  # descriptors that are standardised and projected at once
# a standard deviation below this, in grey levels, is rounding error of images without contrast
_FLAT = 1e-4


@dataclass(frozen=True, eq=False)
class Descriptors:
    """Patches of one level; `descriptors[start:stop]` standardises these rows, [n, C·size·size].

    The stored patches are never changed, so a set can be compared any number of times.
    """

    patches: np.ndarray
    """[N, C, column, row] float32, in grey levels; read-only."""
    mean: np.ndarray
    """[C], over all patches and their pixels."""
    std: np.ndarray
    """[C], likewise, divided by n."""

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, rows: slice) -> np.ndarray:
        part = self.patches[rows]
        standardised = (part - self.mean[:, None, None]) / self.std[:, None, None]
        return standardised.reshape(len(part), -1)


class Patches:
    """Random patches of images that arrive in batches: [N·patches_per_image, C·size²] per level.

    Patches are taken image by image, from all levels of an image before the next one, so that the
    result depends on `rng` and the order of the images, but not on the batches.

    A level needs 4·C·size² bytes per patch: 1.2 GB for 16,384 RGB images with the defaults.

    Args:
      rng: for the centres, uniform over all places where the patch is inside the image. Each set
        needs its own generator.
      patches_per_image: number per level.
      size: side of a patch in pixels, odd, below 16.
      in_memory: bytes that a level may use in memory; a larger one is moved to a nameless file in
        the system's folder for temporary files, which disappears with this object.

    Raises:
      ValueError: an even size, or one outside 1..15; fewer than one patch.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        patches_per_image: int = 128,
        size: int = 7,
        in_memory: int = 256 * 2**20,
    ) -> None:
        if size % 2 == 0 or not 0 < size < COARSEST:
            raise ValueError(f"patches have an odd side from 1 to {COARSEST - 1}, found {size}")
        if patches_per_image < 1:
            raise ValueError(f"an image gives one patch or more, found {patches_per_image}")
        self.resolutions: list[int] = []
        """Sides of the levels from fine to coarse; empty before the first image."""
        self._rng, self._per_image, self._size = rng, patches_per_image, size
        self._in_memory = in_memory
        self._shape: tuple[int, ...] | None = None  # of an image
        self._rows: list[_Rows] = []
        self._moments: list[Moments] = []

    def add(self, images: np.ndarray, centres: np.ndarray | None = None) -> None:
        """Takes patches of images uint8 [B, side, side, C], side a power of two from 16 up.

        Args:
          images: of one shape over all calls.
          centres: int [B, level, patches_per_image, (row, column)], the centres to use instead of
            random ones; size//2 or more away from every border.

        Raises:
          ValueError: other images, or centres of another shape or too close to a border.
        """
        images = np.asarray(images)
        self._start(images)
        if centres is not None:
            centres = np.asarray(centres)
            self._check(centres, len(images))
        # so many that images of a level and their patches are small beside the stored descriptors
        at_once = max(1, min(256, 2**24 // images[0].size)) if len(images) else 1
        for start in range(0, len(images), at_once):
            part = slice(start, start + at_once)
            places = self._draw(len(images[part])) if centres is None else centres[part]
            pyramid = _levels(images[part], len(self.resolutions))
            for index, level in enumerate(pyramid):
                patches = take_patches(np.asarray(level), places[:, index], self._size)
                self._rows[index].append(patches)
                pixels = np.moveaxis(patches, 1, -1).reshape(-1, patches.shape[1])
                self._moments[index].add(pixels)

    def descriptors(self, resolution: int) -> Descriptors:
        """The descriptors of the level with this side, over all images so far.

        Raises:
          ValueError: no such level; before the first image there is none.
        """
        if resolution not in self.resolutions:
            raise ValueError(f"no level of {resolution} pixels among {self.resolutions}")
        index = self.resolutions.index(resolution)
        moments = self._moments[index]
        std = np.sqrt(np.diag(moments.cov) * (moments.count - 1) / moments.count)
        std = np.where(std > _FLAT, std, 1)
        mean, std = moments.mean.astype(np.float32), std.astype(np.float32)
        return Descriptors(self._rows[index].array(), mean, std)

    def _start(self, images: np.ndarray) -> None:
        """Checks a batch; the first one decides the levels."""
        side = images.shape[1] if images.ndim == 4 else 0
        square = images.ndim == 4 and images.shape[2] == side
        if not square or side < COARSEST or side & (side - 1) or images.dtype != np.uint8:
            raise ValueError(
                f"a sliced Wasserstein distance takes uint8 images [B, side, side, C] with a side "
                f"of {COARSEST}, {2 * COARSEST}, {4 * COARSEST}, … pixels, "
                f"found {images.dtype} {list(images.shape)}"
            )
        if self._shape is None:
            self._shape = images.shape[1:]
            while side >= COARSEST:
                self.resolutions.append(side)
                self._rows.append(_Rows(self._in_memory))
                self._moments.append(Moments())
                side //= 2
        if images.shape[1:] != self._shape:
            found, before = list(images.shape[1:]), list(self._shape)
            raise ValueError(f"images of shape {found} after images of shape {before}")

    def _draw(self, count: int) -> np.ndarray:
        """Centres of `count` images: [count, level, patches_per_image, (row, column)]."""
        reach = self._size // 2
        ends = np.array(self.resolutions)[:, None, None] - reach
        shape = (count, len(self.resolutions), self._per_image, 2)
        return self._rng.integers(reach, ends, shape)

    def _check(self, centres: np.ndarray, count: int) -> None:
        shape = (count, len(self.resolutions), self._per_image, 2)
        if centres.shape != shape:
            raise ValueError(f"centres have shape {list(shape)}, found {list(centres.shape)}")
        reach = self._size // 2
        ends = np.array(self.resolutions)[:, None, None] - reach
        if (centres < reach).any() or (centres >= ends).any():
            raise ValueError(f"a centre is closer than {reach} pixels to a border")


def take_patches(images: np.ndarray, centres: np.ndarray, size: int) -> np.ndarray:
    """Square patches around given pixels, image by image.

    Args:
      images: [B, H, W, C].
      centres: int [B, N, (row, column)], size//2 or more away from every border.
      size: odd.

    Returns:
      [B·N, C, column, row]. Columns come before rows as in the original, which only matters if
      directions are given from outside.
    """
    windows = np.lib.stride_tricks.sliding_window_view(images, (size, size), axis=(2, 1))
    rows, columns = np.moveaxis(centres, -1, 0) - size // 2
    patches = windows[np.arange(len(images))[:, None], rows, columns]
    return patches.reshape(-1, *patches.shape[2:])


def distances(
    real: Patches,
    fake: Patches,
    rng: np.random.Generator | np.random.RandomState,
    repeats: int = 4,
    directions: int = 128,
) -> dict[int | str, float]:
    """Distance per level and their average, × 10³ as in the papers' tables; 0 for equal sets.

    Args:
      real, fake: both with the same number of images of the same shape, and of patches.
      rng: for the directions, level by level from fine to coarse; calls are comparable if their
        generators have the same seed.
      repeats, directions: repeats · directions directions per level.

    Returns:
      The resolution of a level → its distance, and "average".

    Raises:
      ValueError: sets that differ in levels, channels, patch size or number of patches; no images.
    """
    if real.resolutions != fake.resolutions or not real.resolutions:
        raise ValueError(f"two sets with levels {real.resolutions} and {fake.resolutions}")
    values: dict[int | str, float] = {}
    for resolution in real.resolutions:
        a, b = real.descriptors(resolution), fake.descriptors(resolution)
        if a.patches.shape != b.patches.shape:
            raise ValueError(
                f"two sets with as many patches of one shape can be compared, found "
                f"{list(a.patches.shape)} and {list(b.patches.shape)} [N, C, size, size]"
            )
        width = int(np.prod(a.patches.shape[1:]))
        # in blocks, so that a seed gives the same directions as in the original
        drawn = [rng.standard_normal((width, directions)) for _ in range(repeats)]
        values[resolution] = 1e3 * sliced_wasserstein(a, b, np.concatenate(drawn, axis=1))
    values["average"] = float(np.mean(list(values.values())))
    return values


def sliced_wasserstein(
    a: np.ndarray | Descriptors,
    b: np.ndarray | Descriptors,
    directions: np.ndarray,
    memory: int = 512 * 2**20,
) -> float:
    """Mean over directions of the Wasserstein-1 distance of the projections (Rabin et al. 2011).

    Args:
      a, b: float32 [N, D] each.
      directions: [D, K], of any length.
      memory: bytes for projections; as many directions are used at once as fit, at least one.

    Raises:
      ValueError: different numbers of rows.
    """
    if len(a) != len(b):
        raise ValueError(f"projections of {len(a)} and {len(b)} points cannot be paired")
    unit = (directions / np.linalg.norm(directions, axis=0)).astype(np.float32)
    count, total = unit.shape[1], 0.0
    at_once = max(1, memory // (2 * 4 * len(a)))
    for start in range(0, count, at_once):
        part = unit[:, start : start + at_once]
        difference = _sorted_projections(a, part)
        difference -= _sorted_projections(b, part)
        total += float(np.abs(difference, out=difference).sum(dtype=np.float64))
    return total / (count * len(a))


def _sorted_projections(points: np.ndarray | Descriptors, directions: np.ndarray) -> np.ndarray:
    """[K, N] float32: each direction's projections in rising order."""
    projected = np.empty((directions.shape[1], len(points)), np.float32)
    for start in range(0, len(points), _ROWS):
        rows = slice(start, start + _ROWS)
        projected[:, rows] = directions.T @ points[rows].T
    projected.sort(axis=1)
    return projected


class _Rows:
    """A growing array of float32 rows; beyond a limit of bytes it is stored in a nameless file.

    The system frees the file's space when the last array over it is gone, however the run ends.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._shape: tuple[int, ...] = ()  # of all rows
        self._parts: list[np.ndarray] = []
        self._file: BinaryIO | None = None

    def append(self, rows: np.ndarray) -> None:
        rows = np.ascontiguousarray(rows, np.float32)
        self._shape = (self._shape[0] + len(rows) if self._shape else len(rows), *rows.shape[1:])
        self._parts.append(rows)
        if self._file is None and 4 * np.prod(self._shape) > self._limit:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the rows do
        if self._file is not None:
            for part in self._parts:
                self._file.write(part)
            self._parts.clear()

    def array(self) -> np.ndarray:
        """All rows so far, read-only."""
        if self._file is not None:
            self._file.flush()
            return np.memmap(self._file, np.float32, "r", shape=self._shape)
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        view = self._parts[0].view()
        view.flags.writeable = False
        return view

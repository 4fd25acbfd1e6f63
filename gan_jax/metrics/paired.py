"""How close images are to their targets: means over pairs. No image is stored."""

from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np

from gan_jax.ops import images

Lpips = Callable[[np.ndarray, np.ndarray], np.ndarray]
MOST_DB = 100.0
"""The largest PSNR; that of equal images would be infinite."""

_psnr = jax.jit(lambda x, y: images.psnr(x, y, 255.0))
_ssim = jax.jit(lambda x, y: images.ssim(x, y, 255.0))


class Pairs:
    """Means over pairs of images that arrive in batches.

    Args:
      names: names in PAIRED.
      lpips: images in [-1, 1] [n, H, W, 3] twice → [n]; for "lpips".
    """

    def __init__(self, names: Sequence[str], lpips: Lpips | None = None) -> None:
        self._totals, self._count, self._lpips = dict.fromkeys(names, 0.0), 0, lpips

    def add(self, made: np.ndarray, wanted: np.ndarray) -> None:
        """Takes uint8 images [n, H, W, C] and their targets.

        Raises:
          ValueError: images whose shape differs from that of their targets, or is too small.
        """
        if np.shape(made) != np.shape(wanted):
            raise ValueError(
                f"pairs have one shape, found {list(np.shape(made))} and {list(np.shape(wanted))}"
            )
        for name in self._totals:
            values = PAIRED[name](made, wanted, self._lpips)
            self._totals[name] += float(np.sum(values, dtype=np.float64))
        self._count += len(made)

    def means(self) -> dict[str, float]:
        """`l1` in units of [-1, 1] (grey levels divided by 127.5); `psnr` in dB, equal images
        counting as 100; `ssim` in [-1, 1]; `lpips` from 0 up.

        Raises:
          ValueError: no pairs.
        """
        if not self._count:
            raise ValueError("no pairs of images")
        return {name: total / self._count for name, total in self._totals.items()}


def paired(
    names: Sequence[str],
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    lpips: Lpips | None = None,
) -> dict[str, float]:
    """The means of `Pairs` over batches of (made, wanted)."""
    pairs = Pairs(names, lpips)
    for made, wanted in batches:
        pairs.add(made, wanted)
    return pairs.means()


def _l1(made: np.ndarray, wanted: np.ndarray, lpips: Lpips | None) -> np.ndarray:
    difference = np.abs(made.astype(np.float32) - wanted)
    return difference.reshape(len(made), -1).mean(axis=1) / 127.5


def _limited_psnr(made: np.ndarray, wanted: np.ndarray, lpips: Lpips | None) -> np.ndarray:
    return np.minimum(np.asarray(_psnr(made, wanted)), MOST_DB)


def _of_ssim(made: np.ndarray, wanted: np.ndarray, lpips: Lpips | None) -> np.ndarray:
    return np.asarray(_ssim(made, wanted))


def _of_lpips(made: np.ndarray, wanted: np.ndarray, lpips: Lpips | None) -> np.ndarray:
    x, y = (np.asarray(image, np.float32) / 127.5 - 1 for image in (made, wanted))
    if x.shape[3] == 1:
        x, y = (np.repeat(image, 3, axis=3) for image in (x, y))
    return np.asarray(lpips(x, y))


PAIRED = {"l1": _l1, "psnr": _limited_psnr, "ssim": _of_ssim, "lpips": _of_lpips}
"""Metrics of pairs, by name: uint8 images [n, H, W, C] twice, and LPIPS → values [n]."""

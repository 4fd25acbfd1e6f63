"""How alike a generator's images are to one another, which shows mode collapse without labels."""

import jax
import numpy as np

from gan_jax.ops.ms_ssim import SMALLEST_SIDE, ms_ssim

_score = jax.jit(ms_ssim, static_argnums=2)


def diversity(images: np.ndarray) -> float:
    """Mean MS-SSIM over the pairs (0, 1), (2, 3), … of a set, in [0, 1]; high means little variety.

    AC-GAN (Odena, Olah & Shlens 2017) and ProGAN (Karras et al. 2018) report it over 10,000 pairs,
    AC-GAN over pairs of one class. It is only comparable between sets of the same resolution, and
    only useful beside the value of real images: it measures variety, not quality.

    Args:
      images: uint8 [N, H, W, C], N ≥ 2, sides of 16 or more, independent samples. An odd last image
        is left out. Compiled once for each H, W, C.

    Raises:
      ValueError: other images, or fewer than two.
    """
    return float(similarities(images).mean())


def similarities(images: np.ndarray) -> np.ndarray:
    """MS-SSIM of each of the pairs (0, 1), (2, 3), …: float64 [N // 2].

    Arguments and errors as of `diversity`.
    """
    images = np.asarray(images)
    wrong = images.ndim != 4 or images.dtype != np.uint8
    if wrong or len(images) < 2 or min(images.shape[1:3]) < SMALLEST_SIDE:
        raise ValueError(
            f"MS-SSIM pairs take two or more uint8 images [N, H, W, C] with sides of "
            f"{SMALLEST_SIDE} pixels or more, found {images.dtype} {list(images.shape)}"
        )
    pairs = len(images) // 2
    # about the same memory for any resolution: 64 small pairs or a single large one
    batch = max(1, min(64, 2**22 // images[0].size))
    found = np.empty(pairs, np.float64)
    for start in range(0, pairs, batch):
        # the last batch repeats its last pair and leaves these values out
        places = 2 * np.minimum(np.arange(start, start + batch), pairs - 1)
        values = np.asarray(_score(images[places], images[places + 1], 255.0))
        found[start : start + batch] = values[: pairs - start]
    return found

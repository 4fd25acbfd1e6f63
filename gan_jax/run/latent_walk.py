"""Latents that move smoothly and come back to where they began.

They follow generate_interpolation_video in ProGAN's util_scripts.py (Karras et al. 2018).
"""

from collections.abc import Sequence

import numpy as np


def latents(seeds: Sequence[int], frames: int, length: int, sigma: float) -> np.ndarray:
    """The latents of every frame: float32 [frames, cells, length].

    Standard normals, smoothed over time by a Gaussian of `sigma` frames with the end joined to the
    beginning, and scaled to an RMS of 1. The original has one random stream and one RMS for all
    cells; here each cell has its own, so that it is a function of its seed.
    """
    cells = [_trajectory(int(seed), frames, length, sigma) for seed in seeds]
    return np.stack(cells, axis=1)


def _trajectory(seed: int, frames: int, length: int, sigma: float) -> np.ndarray:
    """Latents of one cell: float32 [frames, length]."""
    z = np.random.default_rng([seed]).standard_normal((frames, length))
    # a product of spectra is a circular convolution; a Gaussian's spectrum is a Gaussian
    gain = np.exp(-2 * (np.pi * sigma * np.fft.rfftfreq(frames)) ** 2)  # [frames // 2 + 1]
    z = np.fft.irfft(np.fft.rfft(z, axis=0) * gain[:, None], frames, axis=0)
    return (z / np.sqrt(np.mean(z**2))).astype(np.float32)

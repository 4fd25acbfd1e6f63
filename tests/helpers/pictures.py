"""Pictures that are cheap to make."""

import numpy as np


def noise(count, side=16, seed=0, channels=3):
    """uint8 [count, side, side, channels], the same for the same seed."""
    shape = (count, side, side, channels)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)

"""Weights of MTCNN as facenet-pytorch stores them, with random numbers."""

from pathlib import Path

import numpy as np

from gan_jax.interop.formats import torch_file

SHAPES = {
    "pnet": {"conv1": (10, 3, 3, 3), "conv2": (16, 10, 3, 3), "conv3": (32, 16, 3, 3),
             "conv4_1": (2, 32, 1, 1), "conv4_2": (4, 32, 1, 1)},
    "rnet": {"conv1": (28, 3, 3, 3), "conv2": (48, 28, 3, 3), "conv3": (64, 48, 2, 2),
             "dense4": (128, 576), "dense5_1": (2, 128), "dense5_2": (4, 128)},
    "onet": {"conv1": (32, 3, 3, 3), "conv2": (64, 32, 3, 3), "conv3": (64, 64, 3, 3),
             "conv4": (128, 64, 2, 2), "dense5": (256, 1152), "dense6_1": (2, 256),
             "dense6_2": (4, 256), "dense6_3": (10, 256)},
}  # fmt: skip


def state_dict(name: str) -> dict[str, np.ndarray]:
    """Random tensors in PyTorch's names and layouts."""
    rng, found = np.random.default_rng(len(name)), {}
    for layer, shape in SHAPES[name].items():
        fan_in = np.prod(shape[1:])
        found[f"{layer}.weight"] = rng.normal(0, fan_in**-0.5, shape).astype(np.float32)
        found[f"{layer}.bias"] = rng.normal(0, 0.1, shape[0]).astype(np.float32)
        if "_" not in layer:
            slope = rng.uniform(0, 0.5, shape[0]).astype(np.float32)
            found[f"prelu{layer[-1]}.weight"] = slope
    return found


def write(folder: Path) -> Path:
    """Fills the folder with a file for each of the three networks."""
    for name in SHAPES:
        torch_file.write(folder / f"{name}.pt", state_dict(name))
    return folder

"""Videos as Pillow reads them, and a tiny run to make them of."""

from pathlib import Path

import numpy as np
from PIL import Image

from gan_jax import config as configs
from gan_jax import training
from tests.helpers.shell import ROOT


def frames_of(path) -> list[tuple[np.ndarray, int]]:
    """Frames uint8 [H, W, 3] of a video, each with its milliseconds, by Pillow."""
    found = []
    with Image.open(path) as picture:
        for index in range(picture.n_frames):
            picture.seek(index)
            pixels = np.asarray(picture.convert("RGB"))
            found.append((pixels, int(picture.info["duration"])))
        assert picture.info["loop"] == 0
    return found


def train_briefly(folder: Path) -> Path:
    """Six steps of a tiny class-conditional DCGAN; returns the folder."""
    chosen = configs.load_file(str(ROOT / "configs/dcgan_mnist.py"), "tiny")
    chosen.run.devices = 1
    chosen.data.resolution = 8
    chosen.run.quality_every, chosen.best.metric = "0", "val/gen"
    chosen.model.conditioning = "concat"
    training.train(chosen, folder)
    return folder

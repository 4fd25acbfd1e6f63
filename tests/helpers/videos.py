"""Videos as Pillow reads them, and a tiny run to make them of."""

import itertools
from pathlib import Path

import av
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


def films_of(path) -> list[tuple[np.ndarray, int]]:
    """Frames uint8 [H, W, 3] of an .mp4, each with its milliseconds, by PyAV."""
    with av.open(str(path)) as container:
        (stream,) = container.streams
        context = stream.codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        frames = list(container.decode(stream))
        pixels = [frame.to_ndarray(format="rgb24") for frame in frames]
        begins = [round(1000 * frame.pts * frame.time_base) for frame in frames]
        end = round(1000 * stream.duration * stream.time_base)
    times = [b - a for a, b in itertools.pairwise([*begins, end])]
    return list(zip(pixels, times, strict=True))


def train_briefly(folder: Path) -> Path:
    """Six steps of a tiny class-conditional DCGAN; returns the folder."""
    chosen = configs.load_file(str(ROOT / "configs/dcgan_mnist.py"), "tiny")
    chosen.run.devices = 1
    chosen.data.resolution = 8
    chosen.run.quality_every, chosen.best.metric = "0", "val/gen"
    chosen.model.conditioning = "concat"
    training.train(chosen, folder)
    return folder

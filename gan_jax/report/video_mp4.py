"""Videos as .mp4 files, in H.264, by PyAV: pip install 'gan_jax[video]'."""

import importlib.util
import os
from collections.abc import Iterable
from fractions import Fraction

import numpy as np

from gan_jax import files
from gan_jax.report import video

LARGEST = 8192  # pixels a side: what players take at most
MILLISECOND = Fraction(1, 1000)
BT709 = 1  # the number of the colour space of HD television in H.264


def available() -> bool:
    """Whether PyAV is installed."""
    return importlib.util.find_spec("av") is not None


def save(
    path: str | os.PathLike[str], frames: Iterable[tuple[np.ndarray, int]], quality: int = 18
) -> int:
    """Writes frames as a video that any player shows; the file is written whole or not at all.

    An odd height or width gets one more row or column like the last, because H.264 stores colours
    for blocks of 2 x 2 pixels.

    Args:
      path: the .mp4 file.
      frames: as in `video.save`, with sides up to 8192 pixels.
      quality: the constant rate factor of x264, 0 to 51; lower is better, and larger.

    Returns the number of frames. Raises ValueError and OSError as `video.save` does.
    """
    import av

    count = began = 0
    durations: dict[int, int] = {}  # of each frame, by the time at which it begins
    # the header in front: a browser then shows the video while it comes
    options = {"movflags": "faststart"}
    with (
        files.replacing(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options=options) as container,
    ):
        stream = None
        for frame, milliseconds in video.checked(frames, "mp4", LARGEST):
            stream = stream or _stream(container, frame, quality)
            picture = av.VideoFrame.from_ndarray(_even(frame), format="rgb24")
            picture = picture.reformat(format="yuv420p", dst_colorspace="itu709")
            picture.pts, picture.time_base = began, MILLISECOND
            durations[began] = milliseconds
            began += milliseconds
            count += 1
            _write(container, stream.encode(picture), durations)
        _write(container, stream.encode(None), durations)
    return count


def _stream(container, frame: np.ndarray, quality: int):
    """The video stream of a container, for frames like this one [H, W, 3]."""
    # no frame refers to a later one, so that each packet can be given its own duration
    options = {"crf": str(quality), "preset": "medium", "bf": "0"}
    stream = container.add_stream("libx264", options=options)
    stream.height, stream.width = _even(frame).shape[:2]
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.time_base = MILLISECOND
    context.colorspace = context.color_primaries = context.color_trc = BT709
    return stream


def _write(container, packets: Iterable, durations: dict[int, int]) -> None:
    for packet in packets:
        packet.duration = durations.pop(packet.pts)
        container.mux(packet)


def _even(frame: np.ndarray) -> np.ndarray:
    """A frame [H, W, 3] with an even height and width."""
    height, width, _ = frame.shape
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")

"""The file of a video: frames with their durations, whole or not there."""

import struct

import numpy as np
import pytest
from PIL import Image

from gan_jax.report import video as files
from tests.helpers.videos import frames_of


def noise(count: int, height: int, width: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    smooth = rng.integers(0, 256, (count, 3, 4, 3)).astype(np.uint8)
    size = (width, height)
    return [np.asarray(Image.fromarray(s).resize(size, Image.Resampling.BICUBIC)) for s in smooth]


@pytest.mark.parametrize(("count", "height", "width"), [(1, 64, 48), (3, 33, 51), (2, 1, 1)])
def test_file_holds_frames_and_durations(tmp_path, count, height, width):
    """Of any size; equal frames stay two, as a player counts them."""
    frames = [*noise(count, height, width)]
    times = [40, 1, 100_000][:count]
    path = tmp_path / "a.webp"
    assert files.save(path, zip([*frames, frames[-1]], [*times, 7], strict=True)) == count + 1
    found = frames_of(path)
    assert [milliseconds for _, milliseconds in found] == [*times, 7]
    for (frame, _), given in zip(found, [*frames, frames[-1]], strict=True):
        assert frame.shape == given.shape
        assert np.abs(frame.astype(int) - given).mean() < 6
    data = path.read_bytes()
    assert struct.unpack("<I", data[4:8])[0] == len(data) - 8
    assert len(data) % 2 == 0


def test_file_takes_frames_one_by_one(tmp_path):
    """No frame is asked for before the one ahead of it has been written."""
    alive: list[int] = []

    class Frame(np.ndarray):
        def __del__(self):
            alive.pop()

    def frames():
        for _ in range(20):
            alive.append(1)
            assert len(alive) <= 2
            yield np.zeros((8, 8, 3), np.uint8).view(Frame), 20

    assert files.save(tmp_path / "a.webp", frames()) == 20


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.webp"
    path.write_text("old")

    def broken():
        yield np.zeros((8, 8, 3), np.uint8), 20
        raise RuntimeError("power")

    with pytest.raises(RuntimeError, match="power"):
        files.save(path, broken())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "no frames"),
        ([(np.zeros((8, 8), np.uint8), 20)], "uint8"),
        ([(np.zeros((8, 8, 3)), 20)], "uint8"),
        ([(np.zeros((8, 8, 3), np.uint8), 20), (np.zeros((8, 9, 3), np.uint8), 20)], "one size"),
        ([(np.zeros((1, 16384, 3), np.uint8), 20)], "at most 16383"),
        ([(np.zeros((8, 8, 3), np.uint8), 0)], "0 ms"),
        ([(np.zeros((8, 8, 3), np.uint8), 2**24)], "ms"),
    ],
)
def test_what_the_file_does_not_take(tmp_path, frames, message):
    with pytest.raises(ValueError, match=message):
        files.save(tmp_path / "a.webp", frames)
    assert not list(tmp_path.iterdir())


def test_a_caption_fits_below_pictures_of_any_width():
    for width in (8, 300, 4000):
        picture = np.full((20, width, 3), 128, np.uint8)
        made = files.captioned(picture, "step 5", "step 1,000,000", 0.5)
        full = max(width, files.NARROWEST)
        assert made.shape[1] == full
        left = (full - width) // 2
        np.testing.assert_array_equal(made[:20, left : left + width], picture)
        line = made[20:]
        assert line[0].max() == 0
        assert line[:, : full // 3].max() == 255

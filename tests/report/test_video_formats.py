"""Videos as .gif and .mp4: the colours, the times, and whole files or none."""

import numpy as np
import pytest
from PIL import Image

from gan_jax.report import video_gif, video_mp4
from tests.helpers.videos import films_of, frames_of

SAVES = {"gif": video_gif.save, "mp4": video_mp4.save}


def plain(*colours, size=(33, 51)) -> list[np.ndarray]:
    return [np.full((*size, 3), colour, np.uint8) for colour in colours]


def smooth(height: int = 60, width: int = 80) -> np.ndarray:
    """Far more than 256 colours, without edges."""
    small = np.random.default_rng(0).integers(0, 256, (3, 4, 3)).astype(np.uint8)
    size = (width, height)
    return np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))


def test_a_gif_holds_frames_and_times(tmp_path):
    frames = [*plain((250, 20, 30), (10, 200, 60)), smooth(33, 51)]
    count = video_gif.save(tmp_path / "a.gif", zip(frames, [33, 34, 33], strict=True))
    found = frames_of(tmp_path / "a.gif")
    assert count == len(found) == 3
    # 33, 67 and 100 ms are over: 3, 7 and 10 hundredths of a second
    assert [milliseconds for _, milliseconds in found] == [30, 40, 30]
    for (frame, _), wanted in zip(found[:2], frames, strict=False):
        np.testing.assert_array_equal(frame, wanted)
    assert np.abs(found[2][0].astype(int) - frames[2]).mean() < 8


def test_few_colours_and_greys_stay_exact(tmp_path):
    greys = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    few = greys // 32 * (1, 2, 3) % 256
    frames = [greys, few.astype(np.uint8), greys[::-1].copy()]
    video_gif.save(tmp_path / "a.gif", ((frame, 100) for frame in frames))
    for (found, _), wanted in zip(frames_of(tmp_path / "a.gif"), frames, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_gif_shows_a_frame_for_as_long_as_it_should(tmp_path):
    """Longer than its format can say: in parts. Shorter than browsers show: two hundredths."""
    frames = plain((0, 0, 0), (255, 0, 0), (0, 0, 255), size=(4, 4))
    video_gif.save(tmp_path / "a.gif", zip(frames, [700_000, 1, 100], strict=True))
    found = frames_of(tmp_path / "a.gif")
    shown = {}
    for frame, milliseconds in found:
        colour = tuple(frame[0, 0].tolist())
        shown[colour] = shown.get(colour, 0) + milliseconds
    assert shown == {(0, 0, 0): 700_000, (255, 0, 0): 20, (0, 0, 255): 80}


@pytest.mark.parametrize("size", [(32, 48), (33, 51)])
def test_an_mp4_holds_frames_and_times(tmp_path, size):
    """In H.264, with an even height and width; colours as they were given."""
    frames = plain((250, 20, 30), (10, 200, 60), (30, 40, 250), (128, 128, 128), size=size)
    times = [33, 34, 1, 900]
    assert video_mp4.save(tmp_path / "a.mp4", zip(frames, times, strict=True)) == 4
    found = films_of(tmp_path / "a.mp4")
    assert [milliseconds for _, milliseconds in found] == times
    for (frame, _), wanted in zip(found, frames, strict=True):
        assert frame.shape[:2] == (size[0] + size[0] % 2, size[1] + size[1] % 2)
        assert np.abs(frame.astype(int) - wanted[0, 0]).max() <= 6
    assert list(tmp_path.iterdir()) == [tmp_path / "a.mp4"]


@pytest.mark.parametrize("kind", SAVES)
def test_a_failure_leaves_the_old_file(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    path.write_text("old")

    def broken():
        yield np.zeros((8, 8, 3), np.uint8), 20
        raise RuntimeError("power")

    with pytest.raises(RuntimeError, match="power"):
        SAVES[kind](path, broken())
    for frames in ([], [(np.zeros((8, 8), np.uint8), 20)]):
        with pytest.raises(ValueError, match="frames"):
            SAVES[kind](path, frames)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]

"""The video of a run's training, from sample grids; of a real run see test_interpolate.py."""

import json
from functools import partial

import numpy as np
import pytest

from gan_jax.modes.actions import timelapse
from gan_jax.report import grids
from tests.helpers.one_line import assert_refused, refused_argument
from tests.helpers.videos import films_of, frames_of


def grids_at(folder, steps, weights="ema", size=(300, 200)):
    """A run's folder with one plain grid per step, each darker than the one before."""
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"config": {}}))
    for index, step in enumerate(steps):
        shade = 240 - 40 * index
        picture = np.full((*size[::-1], 3), shade, np.uint8)
        grids.save_png(folder / "samples" / f"{step:06d}_{weights}.png", picture)
    return folder


def shades(found) -> list[int]:
    """Which grid each frame shows, by the grey at its centre."""
    return [round((240 - int(frame[90, frame.shape[1] // 2, 0])) / 40) for frame, _ in found]


def test_grids_of_a_second_average_are_found(tmp_path):
    run = grids_at(tmp_path / "run", [1, 2], "ema")
    grids_at(run, [2, 4], "ema_0.99")
    found = timelapse._pictures(run, "ema_0.99")
    names = {step: path.name for step, path in found.items()}
    assert names == {2: "000002_ema_0.99.png", 4: "000004_ema_0.99.png"}
    assert sorted(timelapse._pictures(run, "")) == [1, 2]
    accepted = "this run's grids are of ema, ema_0.99"
    refused_argument("weights", accepted, timelapse._pictures, run, "raw")


@pytest.mark.parametrize("warp", [0.5, 1.0, 1.5, 4.0])
def test_schedule_is_in_order_and_as_long_as_asked(warp):
    steps = [0, 10, 20, 30, 50, 100]
    found = timelapse._schedule(steps, 101, 10.0, warp)
    shown = [step for step, _ in found]
    assert shown == sorted(set(shown))
    assert (shown[0], shown[-1]) == (0, 100)
    assert sum(milliseconds for _, milliseconds in found) == 10_000 + timelapse.HOLD
    # a step is reached at the share (step / last) ** (1 / warp) of the time
    at = 0
    for step, milliseconds in found:
        reached = 10_000 * (step / 100) ** (1 / warp)
        assert abs(at - reached) <= 101, step  # a frame takes 99 ms
        at += milliseconds


def test_a_higher_warp_gives_the_beginning_more_time():
    times = [dict(timelapse._schedule([0, 50, 100], 300, 10.0, w))[0] for w in (0.5, 1.0, 1.5, 3.0)]
    assert times == sorted(set(times))


def test_few_frames_leave_grids_out_and_none_comes_before_its_step():
    assert timelapse._schedule([1, 2, 3, 4, 5, 6, 7, 8, 9], 3, 0.3, 1.0) == [
        (1, 100), (4, 100), (9, 100 + timelapse.HOLD),
    ]  # fmt: skip
    # nothing is older than the first, and a single grid is a video as well
    assert [s for s, _ in timelapse._schedule([80, 100], 11, 1.0, 1.0)] == [80, 100]
    assert timelapse._schedule([5], 4, 1.0, 1.5) == [(5, 1000 + timelapse.HOLD)]
    assert timelapse._schedule([0], 4, 1.0, 1.5) == [(0, 1000 + timelapse.HOLD)]


def test_timelapse(tmp_path, lines):
    folder = grids_at(tmp_path / "run", [0, 10, 20, 999_990, 2_000_000])
    path = timelapse.timelapse(folder, tmp_path / "out", 2.0, 10, 1.0)
    assert path == tmp_path / "out" / "timelapse.webp"
    assert lines == [f"4 of 5 grids, steps 0 to 2000000: {path}"]
    found = frames_of(path)
    # by the second frame of 20, at step 105,263, the second grid is outdated
    assert shades(found) == [0, 2, 3, 4]
    assert sum(milliseconds for _, milliseconds in found) == 3000
    assert found[0][1] == 100
    assert found[-1][1] == 1100
    assert all(frame.shape == found[0][0].shape for frame, _ in found)
    assert found[0][0].shape[0] > 200  # the caption has its own room
    line = [frame[204:] for frame, _ in found]
    filled = [(part[part.shape[0] // 2, 150:] > 200).sum() for part in line]
    assert filled == sorted(filled)  # the bar grows
    assert len(set(filled)) == 3  # steps 0 and 20 are the same to it


def test_a_timelapse_as_mp4_holds_the_last_picture(tmp_path):
    """Each grid as long as its steps take, at an even width and height."""
    folder = grids_at(tmp_path / "run", [0, 10, 20], size=(301, 201))
    path = timelapse.timelapse(folder, tmp_path / "a.mp4", 2.0, 10, 1.0)
    found = films_of(path)
    assert shades(found) == [0, 1, 2]
    assert [milliseconds for _, milliseconds in found] == [1000, 900, 100 + timelapse.HOLD]
    assert {side % 2 for side in found[0][0].shape[:2]} == {0}
    assert found[0][0].shape[1] == 302


def test_timelapse_of_a_run_without_averages_and_of_grids_that_grew(tmp_path):
    folder = grids_at(tmp_path, [1], "raw", size=(30, 20))
    picture = np.zeros((200, 300, 3), np.uint8)
    picture[:100] = 255
    grids.save_png(folder / "samples" / "000009_raw.png", picture)
    small, large = (f for f, _ in frames_of(timelapse.timelapse(folder, tmp_path)))
    assert small.shape == large.shape
    assert abs(int(small[199, 299, 0]) - 240) < 4  # enlarged to fill the later one's place
    assert large[50, 150].min() > 250
    assert large[150, 150].max() < 5


@pytest.mark.parametrize(
    ("options", "argument", "message"),
    [
        ({"seconds": -1.0}, "seconds", "^=-1: accepted"),
        ({"fps": 0}, "fps", "^=0: accepted"),
        ({"time_warp": 0.0}, "time_warp", "^=0: must be above 0"),
        ({"time_warp": float("nan")}, "time_warp", "^=nan: must be above 0"),
        ({"weights": "best"}, "weights", "^=best: this run's grids are of ema"),
        ({"out": "a.avi"}, "out", r"^=.*a\.avi: accepted are files in \.webp, \.gif, \.mp4"),
        ({"out": "run/config.json/a"}, "out", "^: .* cannot be written"),
        ({"workdir": "nowhere"}, "", "^/.*nowhere: no config.json"),
        ({"workdir": "empty"}, "", "^/.*empty: no sample grids in samples/ yet"),
        ({"workdir": "damaged"}, "", r"^/.*000002_ema\.png cannot be read"),
    ],
)
def test_what_a_timelapse_refuses(tmp_path, options, argument, message):
    grids_at(tmp_path / "run", [1, 2])
    grids_at(tmp_path / "empty", [])
    grids_at(tmp_path / "damaged", [1, 2])
    (tmp_path / "damaged" / "samples" / "000002_ema.png").write_bytes(b"\x89PNG\r\n")
    given = {"workdir": "run", "out": "out/a.webp", **options}
    workdir, out = tmp_path / given.pop("workdir"), tmp_path / given.pop("out")
    refuse = partial(refused_argument, argument) if argument else assert_refused
    refuse(message, timelapse.timelapse, workdir, out, **given)
    assert not list(tmp_path.rglob("*.webp"))
    assert not (tmp_path / "out").exists()

"""Videos of a run: the walk through its latents, its training in fast motion, and the file."""

import itertools
import json
import struct

import numpy as np
import pytest
from PIL import Image

import gan_jax
from gan_jax import config as configs
from gan_jax import training
from gan_jax.modes import interpolate
from gan_jax.report import grids
from gan_jax.report import video as files
from tests.helpers.one_line import assert_refused
from tests.helpers.shell import ROOT
from tests.helpers.tiny_gan import make

FRAMES, LENGTH, SIGMA = 60, 5, 4.0


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


def quiet(text: str) -> None:
    pass


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of six steps of a tiny class-conditional DCGAN."""
    folder = tmp_path_factory.mktemp("video") / "run"
    chosen = configs.load_file(str(ROOT / "configs/dcgan_mnist.py"), "tiny")
    chosen.run.devices = 1
    chosen.data.resolution = 8
    chosen.run.quality_every, chosen.best.metric = "0", "val/gen"
    chosen.model.conditioning = "concat"
    training.train(chosen, folder, quiet)
    return folder


# latents


def test_latents_loop_and_move_smoothly():
    z = interpolate.latents([3, 8], FRAMES, LENGTH, SIGMA)
    assert (z.shape, z.dtype) == ((FRAMES, 2, LENGTH), np.float32)
    for cell in range(2):
        # from the last frame the way leads on to the first
        path = np.concatenate([z[:, cell], z[:2, cell]])
        moved = np.linalg.norm(np.diff(path, axis=0), axis=-1)  # [FRAMES + 1]
        assert moved[FRAMES - 1] <= moved[: FRAMES - 1].max()
        # neighbours are near: a random pair is at a distance of about sqrt(2 · LENGTH)
        assert moved.max() < 0.25 * np.sqrt(2 * LENGTH)
        assert np.ptp(z[:, cell], axis=0).min() > 1  # and yet they get around
        turned = np.linalg.norm(np.diff(path, n=2, axis=0), axis=-1)
        assert turned.max() < moved.max()


def test_latents_are_a_circular_convolution_with_a_gaussian():
    noise = np.random.default_rng([7]).standard_normal((FRAMES, LENGTH))
    apart = np.arange(-10 * FRAMES, 10 * FRAMES)
    weights = np.exp(-0.5 * (apart / SIGMA) ** 2)
    wrapped = weights.reshape(-1, FRAMES).sum(0) / weights.sum()
    expected = np.stack(
        [sum(wrapped[d] * noise[(t - d) % FRAMES] for d in range(FRAMES)) for t in range(FRAMES)]
    )
    expected /= np.sqrt(np.mean(expected**2))
    np.testing.assert_allclose(
        interpolate.latents([7], FRAMES, LENGTH, SIGMA)[:, 0], expected, rtol=1e-4, atol=1e-5
    )


def test_a_cell_is_a_function_of_its_seed_and_has_unit_rms():
    together = interpolate.latents([5, 9, 0], FRAMES, LENGTH, SIGMA)
    np.testing.assert_allclose(np.sqrt(np.mean(together**2, axis=(0, 2))), 1, rtol=1e-5)
    for cell, seed in enumerate([5, 9, 0]):
        alone = interpolate.latents([seed], FRAMES, LENGTH, SIGMA)[:, 0]
        assert alone.tobytes() == together[:, cell].tobytes()
    assert np.abs(together[:, 0] - together[:, 1]).max() > 0.5
    np.testing.assert_array_equal(  # an odd number of frames comes back as many
        interpolate.latents([1], 7, 2, 0.0).shape, (7, 1, 2)
    )


# interpolation


def test_interpolation(run, tmp_path):
    """Frames and their length, and in a frame what the model draws from those latents."""
    said: list[str] = []
    options = dict(seeds=[4, 2, 6], classes=[1, 3], seconds=1.0, fps=12, smoothing=0.2)
    path = interpolate.interpolate(run, tmp_path / "new", **options, say=said.append)
    assert path == tmp_path / "new" / "interpolation.webp"
    assert list(path.parent.iterdir()) == [path]
    assert said == [f"3 latents by step 6, 12 frames in 1 s: {path}"]
    found = frames_of(path)
    assert len(found) == 12
    assert sum(milliseconds for _, milliseconds in found) == 1000
    assert {milliseconds for _, milliseconds in found} == {83, 84}

    model = gan_jax.load(run)
    z = interpolate.latents([4, 2, 6], 12, model.config.model.z_dim, 0.2 * 12)
    for frame in (0, 7):
        batch = {**model.experiment.sample_batch([4, 2, 6], [1, 3]), "z": z[frame]}
        assert batch["label"].tolist() == [1, 3, 1]
        drawn = model.images(model.experiment.system.sample_step, batch, "ema", 3)
        expected = grids.grid(drawn, columns=2, scale=16)
        assert expected.shape[1] >= 256  # 8 px would be nothing to look at
        assert found[frame][0].shape == expected.shape
        assert np.abs(found[frame][0].astype(int) - expected).mean() < 6
    pixels = [frame.astype(int) for frame, _ in found]
    moved = [np.abs(a - b).mean() for a, b in itertools.pairwise([*pixels, pixels[0]])]
    assert moved[-1] < 2 * max(moved[:-1])


def test_interpolation_draws_in_chunks_and_takes_other_weights(run, tmp_path, monkeypatch):
    """However many images are drawn at a time; one cell needs no margin."""
    options = dict(seeds=[1], seconds=7.0, fps=10, weights="raw", say=quiet)
    path = interpolate.interpolate(run, tmp_path / "a.webp", **options)
    assert path == tmp_path / "a.webp"
    whole = path.read_bytes()
    assert frames_of(path)[0][0].shape == (256, 256, 3)
    monkeypatch.setattr(interpolate, "PIXELS", 1)  # 64 images: the 70 frames come in two parts
    assert interpolate.interpolate(run, path, **options).read_bytes() == whole
    options["weights"] = ""
    assert interpolate.interpolate(run, path, **options).read_bytes() != whole


def test_columns_are_those_asked_for(run, tmp_path):
    path = interpolate.interpolate(
        run, tmp_path, seeds=range(4), seconds=0.5, fps=8, smoothing=0.1, columns=4, say=quiet
    )
    height, width, _ = frames_of(path)[0][0].shape
    assert (height, width) == (8 * 8 + 2 * 2, 4 * 8 * 8 + 5 * 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": 0.0}, "--seconds=0: accepted"),
        ({"seconds": float("nan")}, "--seconds=nan: accepted"),
        ({"seconds": 1e9}, "--seconds=1e[+]09: accepted"),
        ({"fps": -1}, "--fps=-1: accepted"),
        ({"fps": 200}, "--fps=200: accepted"),
        ({"seconds": 0.03, "smoothing": 0.0}, "less than two frames"),
        ({"smoothing": -1.0}, "--smoothing=-1: accepted"),
        ({"seconds": 2.0, "smoothing": 1.0}, "to a third of --seconds=2;"),
        ({"columns": -1}, "--columns=-1"),
        ({"seeds": []}, "seeds: "),
        ({"classes": [4]}, "accepted are 0 to 3"),
        ({"weights": "best"}, "weights=best: this model has ema, raw"),
        ({"which": "5"}, "no state '5'"),
        ({"seconds": 3600.0, "fps": 90, "seeds": range(500)}, "do not fit in memory"),
        ({"out": "a.gif"}, r"--out=.*a\.gif: videos are written as \.webp"),
        ({"out": "config.json/a.webp"}, "--out: .* cannot be written"),
    ],
)
def test_what_an_interpolation_refuses(run, tmp_path, options, message):
    """One line, and no file left behind."""
    (tmp_path / "config.json").touch()
    given = {"seeds": [0], "say": quiet, "out": "a.webp", **options}
    out = tmp_path / given.pop("out")
    assert_refused(message, lambda: interpolate.interpolate(run, out, **given))
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


def test_frames_too_large_for_the_format_are_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LARGEST", 200)
    call = lambda: interpolate.interpolate(run, tmp_path, seeds=[0], say=quiet)  # noqa: E731
    assert_refused("frames of 256 x 256 pixels: webp takes at most 200 a side", call)
    assert not list(tmp_path.iterdir())


def test_a_system_without_latents_is_refused(run, tmp_path, monkeypatch):
    assert make({}).system.latents == 3
    model = gan_jax.load(run)
    model.experiment.system = model.experiment.system._replace(latents=0)
    monkeypatch.setattr(interpolate, "opened", lambda *_: model)
    assert_refused(
        "no latents to move through", lambda: interpolate.interpolate(run, tmp_path / "a")
    )
    assert not (tmp_path / "a").exists()


# time-lapse


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


@pytest.mark.parametrize("warp", [0.5, 1.0, 1.5, 4.0])
def test_schedule_is_in_order_and_as_long_as_asked(warp):
    steps = [0, 10, 20, 30, 50, 100]
    found = interpolate._schedule(steps, 101, 10.0, warp)
    shown = [step for step, _ in found]
    assert shown == sorted(set(shown))
    assert (shown[0], shown[-1]) == (0, 100)
    assert sum(milliseconds for _, milliseconds in found) == 10_000 + interpolate.HOLD
    # a step is reached at the share (step / last) ** (1 / warp) of the time
    at = 0
    for step, milliseconds in found:
        reached = 10_000 * (step / 100) ** (1 / warp)
        assert abs(at - reached) <= 101, step  # a frame takes 99 ms
        at += milliseconds


def test_a_higher_warp_gives_the_beginning_more_time():
    times = [
        dict(interpolate._schedule([0, 50, 100], 300, 10.0, w))[0] for w in (0.5, 1.0, 1.5, 3.0)
    ]
    assert times == sorted(set(times))


def test_few_frames_leave_grids_out_and_none_comes_before_its_step():
    assert interpolate._schedule([1, 2, 3, 4, 5, 6, 7, 8, 9], 3, 0.3, 1.0) == [
        (1, 100), (4, 100), (9, 100 + interpolate.HOLD),
    ]  # fmt: skip
    # nothing is older than the first, and a single grid is a video as well
    assert [s for s, _ in interpolate._schedule([80, 100], 11, 1.0, 1.0)] == [80, 100]
    assert interpolate._schedule([5], 4, 1.0, 1.5) == [(5, 1000 + interpolate.HOLD)]
    assert interpolate._schedule([0], 4, 1.0, 1.5) == [(0, 1000 + interpolate.HOLD)]


def test_timelapse(tmp_path):
    folder = grids_at(tmp_path / "run", [0, 10, 20, 999_990, 2_000_000])
    said: list[str] = []
    path = interpolate.timelapse(folder, tmp_path / "out", 2.0, 10, 1.0, say=said.append)
    assert path == tmp_path / "out" / "timelapse.webp"
    assert said == [f"4 of 5 grids, steps 0 to 2000000: {path}"]
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


def test_timelapse_of_a_run(run, tmp_path):
    path = interpolate.timelapse(run, tmp_path / "a.webp", 1.0, 10, say=quiet)
    found = frames_of(path)
    assert [milliseconds for _, milliseconds in found] == [900, 1100]
    for (frame, _), step in zip(found, (3, 6), strict=True):
        written = np.asarray(Image.open(run / "samples" / f"{step:06d}_ema.png").convert("RGB"))
        shown = frame[: written.shape[0], : written.shape[1]]
        assert np.abs(shown.astype(int) - written).mean() < 6
    raw = interpolate.timelapse(run, tmp_path / "raw.webp", 1.0, 10, weights="raw", say=quiet)
    assert raw.read_bytes() != path.read_bytes()


def test_timelapse_of_a_run_without_averages_and_of_grids_that_grew(tmp_path):
    folder = grids_at(tmp_path, [1], "raw", size=(30, 20))
    picture = np.zeros((200, 300, 3), np.uint8)
    picture[:100] = 255
    grids.save_png(folder / "samples" / "000009_raw.png", picture)
    small, large = (f for f, _ in frames_of(interpolate.timelapse(folder, tmp_path, say=quiet)))
    assert small.shape == large.shape
    assert abs(int(small[199, 299, 0]) - 240) < 4  # enlarged to fill the later one's place
    assert large[50, 150].min() > 250
    assert large[150, 150].max() < 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": -1.0}, "--seconds=-1: accepted"),
        ({"fps": 0}, "--fps=0: accepted"),
        ({"warp": 0.0}, "--warp=0: must be above 0"),
        ({"warp": float("nan")}, "--warp=nan: must be above 0"),
        ({"weights": "best"}, "--weights=best: this run's grids are of ema"),
        ({"out": "a.mp4"}, r"a\.mp4: videos are written as \.webp"),
        ({"out": "run/config.json/a"}, "--out: .* cannot be written"),
        ({"workdir": "nowhere"}, "nowhere: no config.json"),
        ({"workdir": "empty"}, r"empty: no sample grids in samples/ yet"),
        ({"workdir": "damaged"}, r"000002_ema\.png cannot be read"),
    ],
)
def test_what_a_timelapse_refuses(tmp_path, options, message):
    grids_at(tmp_path / "run", [1, 2])
    grids_at(tmp_path / "empty", [])
    grids_at(tmp_path / "damaged", [1, 2])
    (tmp_path / "damaged" / "samples" / "000002_ema.png").write_bytes(b"\x89PNG\r\n")
    given = {"say": quiet, "workdir": "run", "out": "out/a.webp", **options}
    workdir, out = tmp_path / given.pop("workdir"), tmp_path / given.pop("out")
    assert_refused(message, lambda: interpolate.timelapse(workdir, out, **given))
    assert not list(tmp_path.rglob("*.webp"))
    assert not (tmp_path / "out").exists()


# the file


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

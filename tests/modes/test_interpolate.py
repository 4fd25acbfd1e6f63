"""The videos of a trained model: a walk through its latents, and its training."""

import itertools
from functools import partial

import numpy as np
import pytest
from PIL import Image

import gan_jax
from gan_jax.modes.actions import interpolate, model_choice, timelapse, video_file
from gan_jax.modes.actions.interpolate import Motion
from gan_jax.modes.actions.model_choice import ModelChoice
from gan_jax.report import grids
from gan_jax.run import latent_walk
from gan_jax.run import model as trained
from tests.helpers.one_line import assert_refused, refused_argument
from tests.helpers.tiny_gan import make
from tests.helpers.videos import films_of, frames_of, train_briefly

FRAMES, LENGTH, SIGMA = 60, 5, 4.0


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a short run."""
    return train_briefly(tmp_path_factory.mktemp("video") / "run")


# latents


def test_latents_loop_and_move_smoothly():
    z = latent_walk.latents([3, 8], FRAMES, LENGTH, SIGMA)
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
        latent_walk.latents([7], FRAMES, LENGTH, SIGMA)[:, 0], expected, rtol=1e-4, atol=1e-5
    )


def test_a_cell_is_a_function_of_its_seed_and_has_unit_rms():
    together = latent_walk.latents([5, 9, 0], FRAMES, LENGTH, SIGMA)
    np.testing.assert_allclose(np.sqrt(np.mean(together**2, axis=(0, 2))), 1, rtol=1e-5)
    for cell, seed in enumerate([5, 9, 0]):
        alone = latent_walk.latents([seed], FRAMES, LENGTH, SIGMA)[:, 0]
        assert alone.tobytes() == together[:, cell].tobytes()
    assert np.abs(together[:, 0] - together[:, 1]).max() > 0.5
    np.testing.assert_array_equal(  # an odd number of frames comes back as many
        latent_walk.latents([1], 7, 2, 0.0).shape, (7, 1, 2)
    )


# interpolation


def test_interpolation(run, tmp_path, lines):
    """Frames and their length, and in a frame what the model draws from those latents."""
    options = dict(seeds=[4, 2, 6], classes=[1, 3], motion=Motion(1.0, 12, 0.2))
    path = interpolate.interpolate(run, tmp_path / "new", **options)
    assert path == tmp_path / "new" / "interpolation.webp"
    assert list(path.parent.iterdir()) == [path]
    assert lines == [f"3 latents by step 6, 12 frames in 1 s: {path}"]
    found = frames_of(path)
    assert len(found) == 12
    assert sum(milliseconds for _, milliseconds in found) == 1000
    assert {milliseconds for _, milliseconds in found} == {83, 84}

    model = gan_jax.load(run)
    z = latent_walk.latents([4, 2, 6], 12, model.config.model.z_dim, 0.2 * 12)
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
    options = dict(seeds=[1], motion=Motion(7.0, 10), weights="raw")
    path = interpolate.interpolate(run, tmp_path / "a.webp", **options)
    assert path == tmp_path / "a.webp"
    whole = path.read_bytes()
    assert frames_of(path)[0][0].shape == (256, 256, 3)
    monkeypatch.setattr(trained, "BYTES", 1)  # 64 images: the 70 frames come in two parts
    assert interpolate.interpolate(run, path, **options).read_bytes() == whole
    options["weights"] = ""
    assert interpolate.interpolate(run, path, **options).read_bytes() != whole


def test_a_short_video_is_smoothed_less():
    """Without `smoothing` every length is accepted; 1 second is the most."""
    assert [Motion(seconds, 30).sigma for seconds in (2, 6, 10, 60)] == [10, 30, 30, 30]
    assert Motion(2.0, 30).frames() == 60
    assert Motion(2.0, 30, 0.5).sigma == 15


@pytest.mark.parametrize("kind", ["gif", "mp4"])
def test_other_formats_hold_the_same_frames(run, tmp_path, kind):
    options = dict(seeds=[4, 2], motion=Motion(0.5, 12))
    expected = frames_of(interpolate.interpolate(run, tmp_path, **options))
    path = interpolate.interpolate(run, tmp_path / f"a.{kind}", **options)
    assert path.read_bytes()[:3] == {"gif": b"GIF", "mp4": b"\0\0\0"}[kind]
    found = films_of(path) if kind == "mp4" else frames_of(path)
    assert len(found) == len(expected) == 6
    assert sum(milliseconds for _, milliseconds in found) == 500
    for (frame, _), (wanted, _) in zip(found, expected, strict=True):
        height, width, _ = wanted.shape
        assert np.abs(frame[:height, :width].astype(int) - wanted).mean() < 8


def test_mp4_without_its_package_says_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setattr(video_file.video_mp4, "available", lambda: False)
    assert_refused(
        r"^out=.*a\.mp4: \.mp4 files need the package av \(pip install 'gan_jax\[video\]'",
        lambda: interpolate.interpolate(run, tmp_path / "a.mp4"),
    )


def test_columns_are_those_asked_for(run, tmp_path):
    path = interpolate.interpolate(
        run, tmp_path, seeds=range(4), motion=Motion(0.5, 8, 0.1), columns=4
    )
    height, width, _ = frames_of(path)[0][0].shape
    assert (height, width) == (8 * 8 + 2 * 2, 4 * 8 * 8 + 5 * 2)


def test_timelapse_of_a_run(run, tmp_path):
    """The other video: the grids that the run has written while it trained."""
    path = timelapse.timelapse(run, tmp_path / "a.webp", 1.0, 10)
    found = frames_of(path)
    assert [milliseconds for _, milliseconds in found] == [900, 1100]
    for (frame, _), step in zip(found, (3, 6), strict=True):
        written = np.asarray(Image.open(run / "samples" / f"{step:06d}_ema.png").convert("RGB"))
        shown = frame[: written.shape[0], : written.shape[1]]
        assert np.abs(shown.astype(int) - written).mean() < 6
    raw = timelapse.timelapse(run, tmp_path / "raw.webp", 1.0, 10, weights="raw")
    assert raw.read_bytes() != path.read_bytes()


@pytest.mark.parametrize(
    ("options", "argument", "message"),
    [
        ({"seconds": 0.0}, "seconds", "^=0: accepted"),
        ({"seconds": float("nan")}, "seconds", "^=nan: accepted"),
        ({"seconds": 1e9}, "seconds", "^=1e[+]09: accepted"),
        ({"fps": -1}, "fps", "^=-1: accepted"),
        ({"fps": 200}, "fps", "^=200: accepted"),
        ({"seconds": 0.03, "smoothing": 0.0}, "seconds", "^=0.03 .*less than two frames"),
        ({"smoothing": -1.0}, "smoothing", "^=-1: accepted"),
        ({"seconds": 2.0, "smoothing": 1.0}, "smoothing", "^=1: .*to a third of the video's 2;"),
        ({"columns": -1}, "columns", "^=-1"),
        ({"seeds": []}, "seeds", "^: give whole numbers"),
        ({"classes": [4]}, "classes", "^: no class 4; accepted are 0 to 3"),
        ({"weights": "best"}, "weights", "^=best: this model has ema, raw"),
        ({"state": "5"}, "", ": no state '5'; there are newest, best"),
        ({"seconds": 3600.0, "fps": 90, "seeds": range(500)}, "seconds", "^=.*fit in memory"),
        ({"out": "a.mov"}, "out", r"^=.*a\.mov: accepted are files in \.webp, \.gif, \.mp4"),
        ({"out": "a.gif", "fps": 60}, "fps", r"^=60: \.gif files show at most 50 frames"),
        ({"out": "config.json/a.webp"}, "out", "^: .* cannot be written"),
    ],
)
def test_what_an_interpolation_refuses(run, tmp_path, options, argument, message):
    """One line, and no file left behind."""
    (tmp_path / "config.json").touch()
    given = {"seeds": [0], "out": "a.webp", **options}
    out = tmp_path / given.pop("out")
    chosen = ModelChoice(run, given.pop("state", "newest"))
    motion = Motion(**{k: given.pop(k) for k in ("seconds", "fps", "smoothing") if k in given})
    refuse = partial(refused_argument, argument) if argument else assert_refused
    refuse(message, interpolate.interpolate, chosen, out, motion=motion, **given)
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


def test_frames_too_large_for_the_format_are_refused(run, tmp_path, monkeypatch):
    small = video_file.FORMATS[".webp"]._replace(largest=200)
    monkeypatch.setitem(video_file.FORMATS, ".webp", small)
    assert_refused(
        r"frames of 256 x 256 pixels: \.webp takes at most 200 a side",
        lambda: interpolate.interpolate(run, tmp_path, seeds=[0]),
    )
    assert not list(tmp_path.iterdir())


def test_a_system_without_latents_is_refused(run, tmp_path, monkeypatch):
    assert make({}).system.latents == 3
    model = gan_jax.load(run)
    model.experiment.system = model.experiment.system._replace(latents=0)
    monkeypatch.setattr(model_choice, "opened", lambda *_: model)
    lacking = "^this model has no latents to move through"
    assert_refused(lacking, interpolate.interpolate, run, tmp_path / "a")
    assert not (tmp_path / "a").exists()

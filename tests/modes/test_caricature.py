"""`--mode=caricature` and the warp by itself: what they write, and what they refuse."""

import copy
import json

import numpy as np
import pytest
from PIL import Image

from gan_jax import config as configs
from gan_jax.core.mesh import fetch
from gan_jax.data import alignment, preprocess
from gan_jax.data.inputs import Inputs
from gan_jax.errors import UserError
from gan_jax.modes.actions import caricature
from gan_jax.modes.actions.caricature import Alignment, Styles
from gan_jax.ops import warping
from gan_jax.report.warp_overlay import overlay
from gan_jax.run import caricaturist
from gan_jax.run.experiment import Experiment
from gan_jax.run.model import Model
from tests.helpers.shell import ROOT
from tests.helpers.trees import stirred

SIDE = 32


def untrained(name: str) -> Model:
    """The model of a tiny config with weights as they begin, and noise on them."""
    config = configs.load_file(str(ROOT / f"configs/{name}.py"), "tiny")
    config.run.devices = 1
    for section in config.optim.values():
        section.ema = ()  # noise goes on the weights, and averages would be drawn with
    experiment = Experiment(config)
    state = fetch(experiment.fresh()).state
    rng = np.random.default_rng(0)
    nets = {k: net.replace(params=stirred(net.params, rng)) for k, net in state.nets.items()}
    return Model(experiment, state.replace(nets=nets), 2, experiment.system.stages[0])


@pytest.fixture(scope="module")
def run():
    """A run's folder, as far as the mode reads it: its model."""
    model = untrained("warpgan_drawn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(caricature, "load", lambda workdir, state: model)
        yield "run"


@pytest.fixture(scope="module")
def painter(run):
    return caricaturist.Painter(caricature.load(run, "newest"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of two photos of noise, smooth enough to be told apart from its neighbours."""
    folder = tmp_path_factory.mktemp("photos")
    for seed, name in enumerate(("ann", "bob")):
        photo(seed, SIDE).save(folder / f"{name}.png")
    return folder


def photo(seed: int, height: int, width: int = 0) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width or height, height), Image.Resampling.BICUBIC)


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_files_of_a_folder(run, photos, tmp_path, lines):
    files = caricature.run(run, str(photos), tmp_path, Styles(2, (0.0, 1.0), style_seed=3))
    assert all(path.is_file() for path in files)
    assert {path.name for path in tmp_path.iterdir()} == {"ann", "bob", "sheets"}
    names = {path.name for path in (tmp_path / "ann").iterdir()}
    styles = {f"style{i}_{end}.png" for i in (1, 2) for end in ("scale0", "scale1", "texture")}
    assert names == styles | {"warped_scale0.png", "warped_scale1.png", "warp.json"}
    sheets = {path.name for path in (tmp_path / "sheets" / "ann").iterdir()}
    assert sheets == {"overlay.png", "sweep.png", "styles.png"}
    assert lines[-1].startswith("2 photos by step 2")
    folder = tmp_path / "ann"
    # without displacement the texture and the photo stay as they are
    for still, moved in (("style1_scale0", "style1_texture"), ("warped_scale0", None)):
        other = folder / f"{moved}.png" if moved else photos / "ann.png"
        gap = pixels(folder / f"{still}.png").astype(int) - pixels(other)
        assert np.abs(gap).max() <= 1
    told = json.loads((folder / "warp.json").read_text())
    assert told["size"] == [SIDE, SIDE]
    assert np.shape(told["points"]) == np.shape(told["displacements"]) == (16, 2)
    # with which the same warp is made of any picture
    moves = {k: np.array(told[k]) for k in ("points", "displacements")}
    again = caricaturist.warp(
        pixels(photos / "ann.png"), **moves, regularization=told["regularization"]
    )
    assert np.abs(again.astype(int) - pixels(folder / "warped_scale1.png")).max() <= 1


def test_one_image_with_the_style_of_another(run, photos, painter, tmp_path):
    reference = photos / "bob.png"
    caricature.run(run, str(photos / "ann.png"), tmp_path, Styles(0, style_from=str(reference)))
    style = painter.style_of(pixels(reference))
    made = painter.draw(pixels(photos / "ann.png"), style[None], (1.0,))
    found = pixels(tmp_path / "ann/reference_scale1.png")
    np.testing.assert_array_equal(found, made["image"][0, 0])
    assert not (tmp_path / "sheets/ann/styles.png").exists()  # there is but one style


def test_a_seed_is_a_style_whatever_comes_beside_it(painter):
    several = painter.random_styles(range(5, 9))
    np.testing.assert_array_equal(painter.random_styles([7])[0], several[2])
    assert np.abs(several[0] - several[1]).max() > 0.1


def test_scales_multiply_displacements(painter, photos):
    image = pixels(photos / "ann.png")
    made = painter.draw(image, painter.random_styles([0]), (0.0, 1.0, 2.0, -1.0))
    assert made["image"].shape == (1, 4, SIDE, SIDE, 3)
    # the texture knows nothing of the scale
    assert (made["texture"] == made["texture"][:, :1]).all()
    assert (made["image"][:, 1] != made["image"][:, 2]).any()
    flow = made["flow"]
    assert np.abs(flow[0]).max() < 1e-4
    assert np.abs(flow[1]).max() > 0
    for scale, moved in zip((1.0, 2.0, -1.0), flow[1:], strict=True):
        goal = made["points"] + scale * made["displacements"]
        expected = warping.sparse_flow(
            made["points"][None], goal[None], SIDE, SIDE,
            regularization=painter.model.config.loss.regularization,
        )[0]  # fmt: skip
        np.testing.assert_allclose(moved, expected, atol=1e-3)


def test_free_size_takes_what_divides_by_four(run, painter, tmp_path):
    free = Alignment(free_size=True)
    photo(1, 50, 41).save(tmp_path / "wide.png")
    caricature.run(run, str(tmp_path / "wide.png"), tmp_path / "out", Styles(1), free)
    assert pixels(tmp_path / "out/wide/style1_scale1.png").shape == (48, 40, 3)
    photo(1, 12).save(tmp_path / "small.png")
    with pytest.raises(UserError, match="at least 16"):
        caricature.run(run, str(tmp_path / "small.png"), tmp_path / "o", Styles(1), free)


def test_photos_are_aligned_by_their_landmarks(run, tmp_path):
    photo(2, 90, 120).save(tmp_path / "street.png")
    points = "45 40 75 40 60 52 48 66 72 66"
    (tmp_path / "points.txt").write_text(f"street.png {points}\n")
    caricature.run(
        run, str(tmp_path / "street.png"), tmp_path / "out", Styles(1),
        Alignment(str(tmp_path / "points.txt")),
    )  # fmt: skip
    assert pixels(tmp_path / "out/street/style1_scale1.png").shape == (SIDE, SIDE, 3)
    (tmp_path / "points.txt").write_text(f"other.png {points}\n\nstreet.png 45 40 75 here\n")
    with pytest.raises(UserError, match=r"points\.txt.*3"):
        caricature.run(
            run, str(tmp_path / "street.png"), tmp_path / "out", Styles(1),
            Alignment(str(tmp_path / "points.txt")),
        )  # fmt: skip


@pytest.mark.parametrize("scale", [0.7, 0.95])
def test_faces_are_as_large_as_those_the_run_was_trained_on(run, tmp_path, monkeypatch, scale):
    """config.data.face_scale, which a run of an earlier revision lacks."""
    model = caricature.load(run, "newest")
    stored = configs.plain(model.config)
    stored["data"]["face_scale"] = scale
    if scale == 0.7:
        del stored["data"]["face_scale"]
    experiment = copy.copy(model.experiment)
    experiment.config = configs.typed(stored)
    other = Model(experiment, model.state, model.step, model.stage)
    monkeypatch.setattr(caricature, "load", lambda workdir, state: other)
    street = photo(2, 90, 120)
    street.save(tmp_path / "street.png")
    points = np.array([(45, 40), (75, 40), (60, 52), (48, 66), (72, 66)])
    (tmp_path / "points.txt").write_text(f"street.png {' '.join(map(str, points.ravel()))}\n")
    caricature.run(
        run, str(tmp_path / "street.png"), tmp_path / "out", Styles(1, (0.0,)),
        Alignment(str(tmp_path / "points.txt")),
    )  # fmt: skip
    wanted = alignment.align(np.asarray(street), points, SIDE, scale)
    found = pixels(tmp_path / "out/street/warped_scale0.png")
    assert np.abs(found.astype(int) - wanted).max() <= 1


def with_data(model: Model, **values) -> Model:
    """The model with other values in its section `config.data`."""
    stored = configs.plain(model.config)
    stored["data"].update(values)
    experiment = copy.copy(model.experiment)
    experiment.config = configs.typed(stored)
    return Model(experiment, model.state, model.step, model.stage)


def test_photos_are_prepared_as_those_of_validation(run, photos, tmp_path):
    """In every way of reading them, and as translating prepares them."""
    steps = "center_crop 24; resize 32"
    model = with_data(caricature.load(run, "newest"), preprocess_validation=steps)
    inputs = Inputs(str(photos), model.config.data, 3, 3, "single", "source")
    expected = {name: inputs.read(i)[0] for i, name in enumerate(inputs.names)}
    plain = pixels(photos / "ann.png")
    assert np.abs(expected["ann"].astype(int) - plain).mean() > 5
    reader = caricature.Photos(model, Alignment())
    for found in (reader.read(str(photos), "source"), reader.read_aligned(str(photos), "source")):
        for name, image in found:
            np.testing.assert_array_equal(image, expected[name])
    photo(2, 90, 120).save(tmp_path / "street.png")
    points = tmp_path / "points.txt"
    points.write_text("street.png 45 40 75 40 60 52 48 66 72 66\n")
    cut = [
        dict(caricature.Photos(m, Alignment(str(points))).read(str(tmp_path / "street.png"), "x"))
        for m in (caricature.load(run, "newest"), model)
    ]
    by_hand = preprocess.run(preprocess.parse(steps), cut[0]["street"][None], None)[0]
    np.testing.assert_array_equal(cut[1]["street"], by_hand)
    with pytest.raises(UserError, match=r"^free_size: this run's .* is for one size"):
        caricature.Photos(model, Alignment(free_size=True))


def test_a_grey_photo_has_the_depth_of_the_runs_images(run, tmp_path):
    """Alone and in a folder."""
    other = with_data(caricature.load(run, "newest"), deep_bits=12)
    (tmp_path / "in").mkdir()
    ramp = np.linspace(0, 4095, SIDE * SIDE).astype(np.uint16).reshape(SIDE, SIDE)
    Image.fromarray(ramp).save(tmp_path / "in" / "deep.png")
    photos = caricature.Photos(other, Alignment())
    for source in (tmp_path / "in" / "deep.png", tmp_path / "in"):
        [(name, image)] = photos.read(str(source), "source")
        assert name == "deep"
        assert np.array_equal(image[..., 0], ramp >> 4)


WRONG = {
    "unaligned": (dict(source="big.png"), "big.png is 40x60 and not an aligned face of 32x32"),
    "no image": (dict(source="none.png"), "none.png"),
    "not an image": (dict(source="text.png"), "text.png"),
    "no input": (dict(source=""), "source is missing"),
    "no styles": (dict(num_styles=0), "num_styles=0: must be"),
    "a negative number of styles": (dict(num_styles=-1), "num_styles=-1"),
    "not a number": (dict(scale=(1.0, float("nan"))), "scale: give"),
    "seed": (dict(style_seed=-1), "style_seed=-1"),
    "style": (dict(style_from="none.png"), "none.png"),
}


@pytest.mark.parametrize("name", WRONG)
def test_one_line_for_what_cannot_be_done(run, name, tmp_path):
    photo(1, 60, 40).save(tmp_path / "big.png")
    photo(1, SIDE).save(tmp_path / "good.png")
    (tmp_path / "text.png").write_text("no picture")
    values, expected = WRONG[name]
    given = dict(source="good.png", out=tmp_path / "out") | values
    for key in ("source", "style_from"):
        if given.get(key):
            given[key] = str(tmp_path / given[key])
    source, out = given.pop("source"), given.pop("out")
    with pytest.raises(UserError) as caught:
        caricature.run(run, source, out, Styles(**given))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_system_is_refused():
    model = untrained("classifier_mnist")
    with pytest.raises(UserError, match="needs a model of warpgan"):
        caricaturist.Painter(model)


# the warp by itself


def test_warp_moves_what_lies_at_the_points():
    image = np.zeros((40, 50, 3), np.uint8)
    image[18:23, 23:28] = 255
    points = np.array([[20, 25], [0, 0], [0, 49], [39, 0], [39, 49]], float)
    moves = np.array([[6, -8], [0, 0], [0, 0], [0, 0], [0, 0]], float)
    moved = caricaturist.warp(image, points, moves)
    assert moved.shape == image.shape
    assert moved.dtype == np.uint8
    assert moved[26, 17].min() == 255
    assert moved[20, 29].max() == 0
    np.testing.assert_array_equal(caricaturist.warp(image, points, moves, scale=0.0), image)
    back = caricaturist.warp(image, points, moves, scale=-1.0)
    assert back[14, 33].min() == 255


def test_warp_says_what_does_not_fit():
    image, points = np.zeros((8, 8, 3), np.uint8), np.zeros((4, 2))
    with pytest.raises(ValueError, match=r"\[P, 2\]"):
        caricaturist.warp(image, points, np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"\[H, W, C\]"):
        caricaturist.warp(image[..., 0], points, points)


def test_overlay_draws_points_and_arrows_on_a_margin():
    image = np.full((32, 32, 3), 100, np.uint8)
    points, moves = np.array([[16.0, 16.0], [-4.0, 4.0]]), np.array([[0.0, 8.0], [0.0, 0.0]])
    made = overlay(image, points, moves)
    assert made.shape == (48 * 16, 48 * 16, 3)

    def at(y: float, x: float) -> tuple:
        return tuple(made[int((y + 8.5) * 16), int((x + 8.5) * 16)])

    assert at(16, 16) == (255, 215, 0)
    assert at(-4, 4) == (255, 215, 0)
    assert at(16, 20) == (220, 30, 60)
    assert at(24, 24) == (100, 100, 100)

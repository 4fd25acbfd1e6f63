"""The named operations of WarpGAN's preprocessing against the original's numbers."""

from pathlib import Path

import numpy as np
import pytest

from gan_jax.data import preprocess
from gan_jax.systems.warpgan import standardised
from tests.helpers.one_line import assert_refused

GOLDEN = Path(__file__).parents[1] / "golden/warpgan/preprocess_ops.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


class Given:
    """Draws the numbers that the original was given."""

    def __init__(self, *numbers: np.ndarray):
        self.numbers = list(numbers)

    def random(self, size: int) -> np.ndarray:
        assert len(self.numbers[0]) == size
        return self.numbers.pop(0)

    def integers(self, end: int, size: int) -> np.ndarray:
        assert (self.numbers[0] < end).all()
        return self.random(size)


EXACT = {
    "random_crop": lambda g, x, s: preprocess.random_crop(
        x, s, g["in/random_crop_y"], g["in/random_crop_x"]
    ),
    "random_flip": lambda g, x, s: preprocess.random_flip(x, g["in/random_flip_u"]),
    "center_crop": lambda g, x, s: preprocess.center_crop(x, s),
    "flip": lambda g, x, s: preprocess.flip(x),
}


@pytest.mark.parametrize("name", EXACT)
def test_operations_that_move_pixels_are_the_originals(golden, name):
    wanted, size = golden[f"out/{name}"], tuple(golden["in/crop_size"])
    found = EXACT[name](golden, golden["in/images"], size)
    np.testing.assert_array_equal(found[: len(wanted)], wanted)
    assert found.dtype == wanted.dtype


def test_padding_has_room_on_every_side(golden):
    """The original takes the width of the right side from the bottom: equal widths hide it."""
    wanted, images = golden["out/padding_2"], golden["in/images"]
    np.testing.assert_array_equal(preprocess.padding(images[:2], (3, 3, 3, 3)), wanted)
    padded = preprocess.padding(images, (1, 2, 3, 4))
    height, width = images.shape[1:3]
    assert padded.shape == (4, height + 3, width + 7, 3)
    np.testing.assert_array_equal(padded[:, 1:-2, 3:-4], images)
    assert padded[:, :, -4:].max() == 0


@pytest.mark.parametrize("name", ["resize_up", "resize_down", "random_downsample"])
def test_resized_within_one_grey_level(golden, name):
    images, wanted = golden["in/images"], golden[f"out/{name}"]
    if name == "random_downsample":
        found = preprocess.random_downsample(images, 0.4 + 0.6 * golden["in/random_downsample_u"])
    else:
        found = preprocess.resize(images[: len(wanted)], wanted.shape[1:3])
    assert np.abs(found.astype(int) - wanted).max() <= 1


def test_whole_pipelines(golden):
    """The original's end with standardize mean_scale, which is the model's own business here."""
    images, (height, width) = golden["in/images"], golden["in/crop_size"]
    found = preprocess.run(preprocess.parse(f"center_crop {height} {width}"), images, draw())
    wanted = golden["out/pipeline_test"]
    np.testing.assert_allclose(standardised(found), wanted, rtol=0, atol=1e-6)
    given = Given(golden["in/random_flip_u"])
    found = preprocess.run(preprocess.parse("random_flip"), images, given)
    wanted = golden["out/pipeline_train"]
    np.testing.assert_allclose(standardised(found), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "numbers", "most"),
    [
        ("random_crop 33 23", ("random_crop_y", "random_crop_x"), 0),
        ("random_flip", ("random_flip_u",), 0),
        ("random_downsample 0.4", ("random_downsample_u",), 1),
    ],
)
def test_names_of_what_is_random_are_the_originals(golden, text, numbers, most):
    given = Given(*(golden[f"in/{name}"] for name in numbers))
    found = preprocess.run(preprocess.parse(text), golden["in/images"], given)
    wanted = golden[f"out/{text.split()[0]}"]
    assert found.dtype == wanted.dtype
    assert np.abs(found.astype(int) - wanted).max() <= most


EXAMPLES = {
    "resize": ("resize 20 19", (4, 20, 19)),
    "padding": ("padding 1 2", (4, 42, 37)),
    "random_crop": ("random_crop 30", (4, 30, 30)),
    "center_crop": ("center_crop 30 20", (4, 30, 20)),
    "random_flip": ("random_flip", (4, 40, 33)),
    "random_shift": ("random_shift 0.2", (4, 40, 33)),
    "random_downsample": ("random_downsample 0.4", (4, 40, 33)),
}


def test_every_name_of_the_registry_is_run_by_name_and_taken_by_a_run(golden):
    assert set(EXAMPLES) == set(preprocess.REGISTRY)
    images = golden["in/images"]
    for name, (text, shape) in EXAMPLES.items():
        pipeline = preprocess.parse(text)
        found = preprocess.run(pipeline, images, draw(1))
        assert found.shape == (*shape, 3), name
        np.testing.assert_array_equal(found, preprocess.run(pipeline, images, draw(1)))
        assert found.dtype == np.uint8
        assert preprocess.delivered(f"{text}; resize 40", "key", 40, training=True), name
        if preprocess.REGISTRY[name].random:
            other = preprocess.run(pipeline, images, draw(2))
            assert np.any(found != other), name


def test_a_shift_is_black_where_the_image_was():
    images = np.full((2, 5, 6, 1), 9, np.uint8)
    shifted = preprocess.random_shift(images, np.array([1, -2]), np.array([-3, 0]))
    assert (shifted[0, 1:, :3] == 9).all()
    assert shifted[0, 0].max() == shifted[0, :, 3:].max() == 0
    assert (shifted[1, :3] == 9).all()
    assert shifted[1, 3:].max() == 0


def places(text: str, side: int, count: int = 400) -> set[tuple[int, int]]:
    """Where a pipeline takes the middle pixel of an image, over many of them; (): out of it."""
    images = np.zeros((count, side, side, 1), np.uint8)
    images[:, side // 2, side // 2] = 1
    found = preprocess.run(preprocess.parse(text), images, draw())
    return {tuple(np.argwhere(image[..., 0])[0].tolist()) for image in found if image.any()}


def test_shifts_go_both_ways_as_far_as_they_say():
    wanted = {(y, x) for y in range(2, 7) for x in range(2, 7)}
    assert places("random_shift 2", 9) == wanted
    assert places("random_shift 0.25", 9) == wanted  # a quarter of 9, cut off
    assert places("random_shift 0", 9) == {(4, 4)}
    far = preprocess.random_shift(np.ones((1, 9, 9, 1), np.uint8), np.array([20]), np.array([-20]))
    assert not far.any()


def test_random_crops_reach_every_place():
    assert places("random_crop 7", 9) == {(y, x) for y in (2, 3, 4) for x in (2, 3, 4)}


def test_half_of_many_images_are_flipped():
    images = np.zeros((1000, 1, 2, 1), np.uint8)
    images[:, :, 1] = 1
    found = preprocess.run(preprocess.parse("random_flip"), images, draw())
    assert 430 < np.count_nonzero(found[:, 0, 0, 0]) < 570


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blur 3", "'blur' is unknown; accepted: resize, padding"),
        ("resize", "resize takes a side"),
        ("resize 0", "resize takes a side"),
        ("center_crop 3 4 5", "center_crop takes a side"),
        ("padding -1", "padding takes pixels"),
        ("random_flip 0.5", "random_flip takes nothing"),
        ("random_shift 1.5", "random_shift takes whole pixels"),
        ("random_shift -1", "random_shift takes whole pixels"),
        ("random_shift nan", "random_shift takes whole pixels"),
        ("padding 1 2 3", "padding takes pixels"),
        ("random_crop 8.5", "random_crop takes a side"),
        ("random_downsample 0", "random_downsample takes the least ratio"),
        ("random_downsample 1.1", "random_downsample takes the least ratio"),
    ],
)
def test_a_text_that_is_no_pipeline_is_refused(text, message):
    key = "config.data.preprocess_train"
    assert assert_refused(message, preprocess.parse, text, key).startswith(f"{key}: ")


def test_every_name_is_listed_where_one_is_unknown():
    said = assert_refused("'crop' is unknown", preprocess.parse, "random_flip; crop 3")
    assert said.endswith(", ".join(preprocess.REGISTRY))


def test_images_that_an_operation_cannot_take_are_refused():
    images = np.zeros((3, 8, 9, 1), np.uint8)
    for text, message in (
        ("random_crop 9", "random_crop 9 9: larger than the images, which are 8 x 9"),
        ("center_crop 8 10", "larger than the images"),
    ):
        assert_refused(message, preprocess.run, preprocess.parse(text), images, draw())


@pytest.mark.parametrize(
    ("text", "training", "message"),
    [
        ("random_flip", False, "is random"),
        ("padding 1", False, "makes images of 18 x 18"),
        ("center_crop 8", True, "let it end with that size"),
        ("center_crop 40", True, "larger than the images"),
    ],
)
def test_what_a_run_cannot_take_is_refused(text, training, message):
    key = "config.data.preprocess_train"
    assert key in assert_refused(message, preprocess.delivered, text, key, 16, training)


def test_a_run_takes_what_ends_with_its_size():
    pipeline = preprocess.delivered("random_crop 12; resize 16; random_flip", "key", 16, True)
    assert [operation.name for operation in pipeline] == ["random_crop", "resize", "random_flip"]
    assert preprocess.delivered("", "key", 16, False) == ()

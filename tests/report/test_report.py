"""Grids, curves and plots as pictures: geometry, damaged input."""

import io
import json
import math
import os

import numpy as np
import pytest
from PIL import Image

from gan_jax import files
from gan_jax.report import curves, grids, rates_plot, series
from tests.helpers import run_folders


def images(count: int, height: int = 4, width: int = 6, channels: int = 3) -> np.ndarray:
    random = np.random.default_rng(count)
    return random.integers(0, 256, (count, height, width, channels), np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("count", "columns", "padding", "scale"),
    [(1, 0, 2, 1), (5, 0, 0, 3), (7, 3, 2, 2), (16, 0, 1, 1), (4, 9, 2, 2), (10, 1, 3, 1)],
)
def test_every_image_stands_where_it_belongs(channels, count, columns, padding, scale):
    stack = images(count, channels=channels)
    picture = grids.grid(stack, columns, padding, background=200, scale=scale)
    across = min(columns, count) or math.ceil(math.sqrt(count))
    down = math.ceil(count / across)
    height, width = 4 * scale, 6 * scale
    assert picture.dtype == np.uint8
    assert picture.shape == (
        down * (height + padding) + padding,
        across * (width + padding) + padding,
        3,
    )
    rest = np.ones(picture.shape[:2], bool)
    for index, image in enumerate(stack):
        y = padding + index // across * (height + padding)
        x = padding + index % across * (width + padding)
        cell = picture[y : y + height, x : x + width]
        rest[y : y + height, x : x + width] = False
        np.testing.assert_array_equal(
            cell, np.broadcast_to(np.kron(image, np.ones((scale, scale, 1))), cell.shape)
        )
    assert (picture[rest] == 200).all()


@pytest.mark.parametrize(
    ("size", "count"), [(28, 64), (28, 100), (28, 16), (32, 36), (64, 64), (8, 256)]
)
def test_automatic_scale_makes_small_images_readable(size, count):
    width = grids.grid(images(count, size, size, 1)).shape[1]
    assert 480 <= width <= 930


def test_large_images_are_never_shrunk():
    assert grids.grid(images(9, 300, 300)).shape == (908, 908, 3)


def test_titles_take_room_of_their_own():
    stack = images(6, 20, 60, 1)
    plain = grids.grid(stack, columns=2, scale=1)
    titled = grids.grid(
        stack, 2, scale=1, column_titles=["input", "far too long for its column"],
        row_titles=["a", "b", "class 3"],
    )  # fmt: skip
    height, width = plain.shape[:2]
    np.testing.assert_array_equal(titled[-height:, -width:], plain)
    assert (titled[:-height, -width:] < 128).any()  # dark text on white
    assert (titled[-height:, :-width] < 128).any()
    first, second = titled[:-height, -width : -width // 2], titled[:-height, -width // 2 :]
    assert (first < 128).any()
    assert (second < 128).any()


@pytest.mark.parametrize(
    "bad",
    [np.zeros((2, 4, 4, 3)), np.zeros((4, 4, 3), np.uint8), np.zeros((2, 4, 4, 4), np.uint8)],
)
def test_what_is_no_image_stack_is_refused(bad):
    with pytest.raises(ValueError, match="images are uint8"):
        grids.grid(bad)


def test_empty_stack_is_refused():
    with pytest.raises(ValueError, match="no images"):
        grids.grid(np.zeros((0, 4, 4, 1), np.uint8))


def test_neighbour_sheet_shows_sample_gap_and_neighbours():
    samples, neighbours = images(3, 28, 28, 1), images(15, 28, 28, 1).reshape(3, 5, 28, 28, 1)
    sheet = grids.neighbour_sheet(samples, neighbours, np.arange(15.0).reshape(3, 5))
    large = samples[0].repeat(4, 0).repeat(4, 1)  # [112, 112, 1]
    top, left = 26, 6
    np.testing.assert_array_equal(sheet[top : top + 112, left : left + 112, :1], large)
    gap = sheet[top : top + 112, left + 112 : left + 112 + 37]
    assert (gap == 255).all()
    nearest = neighbours[0, 0].repeat(4, 0).repeat(4, 1)
    x = left + 112 + 37
    np.testing.assert_array_equal(sheet[top : top + 112, x : x + 112, :1], nearest)
    assert (sheet[top + 112 : top + 138, x : x + 112] < 128).any()  # its distance
    assert (sheet[top + 112 : top + 138, left : left + 112] == 255).all()
    with pytest.raises(ValueError, match="do not belong together"):
        grids.neighbour_sheet(samples, neighbours[:2], np.zeros((3, 5)))


def test_png_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    first, second = images(1)[0], images(2)[1]
    grids.save_png(path, first)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), first)

    def fail(*_):
        raise OSError("disk is gone")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="disk is gone"):
        grids.save_png(path, second)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), first)
    assert os.listdir(tmp_path) == ["a.png"]  # no temporary file stays


def test_save_grid_returns_what_it_wrote(tmp_path):
    picture = grids.save_grid(tmp_path / "g.png", images(4))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "g.png")), picture)


def rows(steps: int = 60) -> list[dict]:
    def scores(step: int) -> dict:
        found = {"val/frechet": 1000 / step, "val/entropy": 2.3 - 10 / step}
        return found | {f"class_fraction/{i}": 0.1 for i in range(10)}

    return run_folders.rows(steps, scores=scores)


def write_rows(path, content: list[dict], tail: str = "") -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in content) + tail)


def picture_of(path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def colours_near(picture: np.ndarray, colour: str) -> int:
    target = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(picture - target).max(-1) < 12).sum())


def test_curves_survive_gaps_and_an_unfinished_line(tmp_path):
    content = rows()
    content[3]["loss/gen"] = float("nan")
    content[4]["loss/gen"] = "nan"
    content[5]["loss/gen"] = "inf"
    content[6]["loss/gen"] = None
    content[7]["loss/disc"] = "text"
    del content[8]["loss/disc"], content[9]["kind"]
    write_rows(tmp_path / "m.jsonl", content, '[1, 2]\n{"loss/gen": 3}\n{"step": 610, "lo')
    curves.curves(tmp_path / "m.jsonl", tmp_path / "m.png")
    picture = picture_of(tmp_path / "m.png")
    assert (tmp_path / "m.png").stat().st_size < 200_000
    assert picture.shape[1] > 1200  # three panels in a row
    for colour in ("#0072b2", "#d55e00"):  # generator and discriminator
        assert colours_near(picture, colour) > 300
    assert colours_near(picture, "#e6ab02") > 60  # the star on the best value
    assert sorted(os.listdir(tmp_path)) == ["m.jsonl", "m.png"]


def test_values_that_are_not_finite_are_counted():
    content = [{"step": s, "loss/gen": v} for s, v in enumerate([1.0, "nan", 2.0, "inf", None])]
    axes = curves.Figure().add_subplot()
    curves._draw_panel(axes, "losses", "loss", series.by_name(content), curves.FIXED, {})
    assert [text.get_text() for text in axes.texts] == ["2 values not finite"]
    low, high = axes.get_ylim()
    assert low < 1
    assert 2 < high < 3


def test_large_history_stays_small(tmp_path):
    write_rows(tmp_path / "m.jsonl", rows(5000))
    curves.curves(tmp_path / "m.jsonl", tmp_path / "m.png")
    assert (tmp_path / "m.png").stat().st_size < 200_000


@pytest.mark.parametrize(
    "content",
    [
        [],
        [{"step": 1, "kind": "train", "loss/gen": 1.0}],
        [{"step": 1, "kind": "train", "loss/gen": "nan"}],
        [{"step": s, "kind": "eval", "val/loss": "nan"} for s in (1, 2)],
        [{"step": s, "kind": "odd", "a/b/c": -1e30} for s in (1, 2)],
        [{"step": s, "loss/gen": v} for s, v in ((1, 1e-12), (2, 1e12))],
    ],
)
def test_curves_of_little_or_nothing_are_a_picture(tmp_path, content):
    write_rows(tmp_path / "m.jsonl", content)
    curves.curves(tmp_path / "m.jsonl", tmp_path / "m.png")
    assert picture_of(tmp_path / "m.png").min() < 128


def test_missing_metrics_file_is_a_notice(tmp_path):
    assert curves.read_rows(tmp_path / "none.jsonl") == []
    curves.curves(tmp_path / "none.jsonl", tmp_path / "m.png")
    assert picture_of(tmp_path / "m.png").min() < 128


@pytest.mark.parametrize("name", ["$", "$x$", r"$\frac{$", "\udcff", "a\nb\x1b", "x" * 5000])
def test_any_name_of_a_metric_can_be_drawn(name):
    """As text, which matplotlib does not take for a formula, in a title and in a legend."""
    row = {"step": 1, "kind": "eval", name: 1, f"a/{name}": 1, f"loss/{name}": 1, "loss/gen": 2}
    assert curves.draw([row, row | {"kind": "train"}])


def test_a_picture_has_only_so_many_panels_and_lines(monkeypatch):
    monkeypatch.setattr(curves, "MOST_PANELS", 2)
    monkeypatch.setattr(curves, "MOST_LINES", 3)
    many = {f"{group}/{n}": 1 for group in range(500) for n in range(6)}
    few = {f"{group}/{n}": 1 for group in range(2) for n in range(6)}
    sizes = {Image.open(io.BytesIO(curves.draw([{"step": 1, **row}]))).size for row in (many, few)}
    assert len(sizes) == 1


def test_every_group_has_a_panel_and_every_score_its_own():
    panels = curves._panels(series.by_name(rows()))
    assert [(title, len(names)) for title, _, names in panels] == [
        ("losses", 2),
        ("accuracies", 1),
        ("learning rates", 2),
        ("gradient norms", 1),
        ("speed", 1),
        ("evaluation: val/frechet", 1),
        ("evaluation: val/entropy", 1),
        ("evaluation: class fraction", 10),
    ]
    assert all(label for _, label, _ in panels)


@pytest.mark.parametrize(
    ("name", "best", "expected"),
    [
        ("val/frechet", {}, "best 1 at step 20"),
        ("val/entropy", {}, "best 3 at step 30"),
        ("val/frechet", {"val/frechet": "max"}, "best 3 at step 30"),
    ],
)
def test_best_is_lowest_or_highest_and_never_nan(name, best, expected):
    axes = curves.Figure().add_subplot()
    points = np.array([10, 20, 30, 40]), np.array([2.0, 1.0, 3.0, np.nan])
    curves._mark_best(axes, name, points, best)
    assert axes.get_legend_handles_labels()[1] == [expected]


def test_best_is_that_beyond_a_step():
    axes = curves.Figure().add_subplot()
    points = np.array([10, 20, 30]), np.array([1.0, 3.0, 2.0])
    curves._mark_best(axes, "val/frechet", points, {}, 10)
    curves._mark_best(axes, "val/frechet", points, {}, 30)
    assert axes.get_legend_handles_labels()[1] == ["best 2 at step 30"]


def test_rates_plot_has_a_panel_per_schedule(tmp_path):
    x = np.arange(10)
    schedules = {f"schedule {i}": (x, 1e-3 * 0.5 ** (x // (i + 1))) for i in range(5)}
    rates_plot.plot_rates(schedules, tmp_path / "rates.png", "epoch")
    picture = picture_of(tmp_path / "rates.png")
    assert picture.shape[1] > 2 * picture.shape[0] > 0
    assert colours_near(picture, "#0072b2") > 500
    with pytest.raises(ValueError, match="no curves"):
        rates_plot.plot_rates({}, tmp_path / "none.png", "epoch")


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (2.5e-4, "2.5e-4"), (1e-5, "1e-5"), (0.5, "0.5"), (-3e-3, "-3e-3"), (120, "120")],
)
def test_compact_numbers(number, text):
    assert rates_plot.compact(number) == text

"""Numbers of a run as series: what is kept when there are too many, words, panels."""

import json
import math

import numpy as np
import pytest

from gan_jax.report import curves, names, panels, scores, series
from gan_jax.report.panels import Best
from gan_jax.report.series import Extreme
from tests.helpers.run_folders import rows


def test_thinning_keeps_ends_and_extremes():
    steps = np.arange(10_000)
    values = np.sin(steps / 500.0)
    values[4321], values[8765] = 9.0, -9.0
    kept_steps, kept = series.thinned((steps, values), 500)
    assert len(kept) <= 500
    assert (kept_steps[0], kept_steps[-1]) == (0, 9999)
    assert (kept.max(), kept.min()) == (9.0, -9.0)
    np.testing.assert_array_equal(kept, values[kept_steps])  # true points, none invented
    assert (np.diff(kept_steps) > 0).all()


def test_few_points_stay_as_they_are():
    steps, values = np.array([1, 2, 3]), np.array([1.0, math.inf, -math.inf])
    kept_steps, kept = series.thinned((steps, values), 4)
    assert kept_steps.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(kept, [1.0, math.nan, math.nan])


def test_a_long_gap_stays_a_gap():
    values = np.ones(1000)
    values[300:700] = math.nan
    steps, kept = series.thinned((np.arange(1000), values), 100)
    inside = (steps > 320) & (steps < 680)
    assert inside.any()
    assert np.isnan(kept[inside]).all()


def test_means_of_stretches():
    steps, values = np.arange(7), np.array([1.0, 3.0, 2.0, math.nan, math.inf, math.nan, 5.0])
    ends, found = series.means((steps, values), 2)
    assert ends.tolist() == [1, 3, 5, 6]
    np.testing.assert_array_equal(found, [2.0, 2.0, math.nan, 5.0])


@pytest.mark.parametrize(
    ("mode", "after", "expected"),
    [
        ("min", -math.inf, Extreme(20, 1.0)),
        ("max", -math.inf, Extreme(30, 3.0)),
        ("min", 25, Extreme(30, 3.0)),
        ("min", 30, None),
    ],
)
def test_extremes_are_finite_and_the_first_of_equals(mode, after, expected):
    points = np.array([10, 20, 25, 30, 40]), np.array([2.0, 1.0, 1.0, 3.0, np.nan])
    assert series.extreme(points, mode, after) == expected


def test_steps_that_are_none_and_numbers_too_large_are_left_out(tmp_path):
    lines = ['{"step": NaN, "loss/gen": 1}', '{"step": 1e400, "loss/gen": 1}']
    lines += ['{"step": 3, "kind": "train", "loss/gen": 1' + 400 * "0" + "}"]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    found = series.read_rows(tmp_path / "m.jsonl")
    assert [row["step"] for row in found] == [3]
    assert series.by_name(found) == {}


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("loss/gen", "generator loss"),
        ("loss/disc_real", "discriminator loss, real"),
        ("loss/gradient_penalty", "gradient penalty"),
        ("loss/t250-499", "loss at t = 250 to 499"),
        ("rate/disc", "discriminator learning rate"),
        ("grad_norm/unet", "U-Net gradient norm"),
        ("val/l1", "L1 distance, validation"),
        ("val/gen", "generator loss, validation"),
        ("fid", "FID"),
        ("kid_std", "KID, standard deviation"),
        ("fd_classifier", "Fréchet distance, classifier features"),
        ("swd/16", "sliced Wasserstein distance, 16 px"),
        ("class_fraction/1", "share of class dog"),
        ("class_fraction/9", "share of class 9"),
        ("fid_by_class/1", "FID by class, 1"),  # the class's name, not its number
        ("fid_by_class/fake", "FID by class, fake"),
        ("what_is/this", "what is, this"),
        ("", ""),
        ("/", "/"),
    ],
)
def test_names_in_words(key, expected):
    assert names.words(key, ["cat", "dog"]) == expected


def lines_of(sections: list[dict]) -> dict[str, dict]:
    return {line["key"]: line for s in sections for p in s["panels"] for line in p["lines"]}


def test_panels_are_grouped_and_named_in_words():
    best = Best("fd_classifier", "min", Extreme(300, 4.0))
    sections = panels.of_run(series.by_name(rows()), best, ["cat", "dog", "bird", "cow"])
    assert {s["title"]: [p["title"] for p in s["panels"]] for s in sections} == {
        "Scores": [
            "Fréchet distance, classifier features",  # picks the best state, so it comes first
            "Generator loss, validation",
            "Entropy of the classes",
            "Shares of the classes",
        ],
        "Losses and accuracies": ["Losses", "Accuracies"],
        "Learning rates and gradients": ["Learning rates", "Gradient norms"],
        "Speed and progress": ["Speed"],
    }
    lines = lines_of(sections)
    assert lines["loss/gen"]["name"] == "generator loss"
    assert lines["class_fraction/3"]["name"] == "share of class cow"
    assert lines["loss/gen"]["colour"] == lines["val/gen"]["colour"] == panels.FIXED["gen"]
    assert lines["loss/gen"]["kind"] == "epoch"
    assert len(lines["loss/gen"]["faint"][0]["x"]) == 40  # single steps behind the averages


def test_a_share_of_the_time_is_no_rate():
    """Beside rates it would be a flat line, or give them a logarithmic axis."""
    content = [{**row, "time/data_wait": 0.001} for row in rows() if row["kind"] == "train"]
    *_, (section) = panels.of_run(series.by_name(content))
    assert [(p["title"], p["log"]) for p in section["panels"]] == [
        ("Speed", False), ("Share of the time waiting for data", False),
    ]  # fmt: skip
    assert ("share of the time waiting for data", "share", ["time/data_wait"]) in curves._panels(
        series.by_name(content)
    )


def test_a_counter_is_drawn_as_it_is_and_not_as_an_average():
    content = [{"step": 10 * s, "kind": "train", "progress/kimg": s} for s in range(1, 41)]
    content += [
        {"step": 100 * s, "kind": "epoch", "progress/kimg": 10 * s - 5} for s in (1, 2, 3, 4)
    ]
    line = lines_of(panels.of_run(series.by_name(content)))["progress/kimg"]
    assert (line["kind"], line["strong"]["y"][-1]) == ("train", 40)


def test_two_averages_make_no_line():
    lines = lines_of(panels.of_run(series.by_name(rows(20))))
    assert lines["loss/gen"]["kind"] == "train"
    assert len(lines["loss/gen"]["strong"]["x"]) == 20
    assert lines["loss/gen"]["faint"] == []


def test_only_the_metric_that_picks_the_best_state_has_a_star():
    best = Best("fd_classifier", "min", Extreme(300, 4.0))
    lines = lines_of(panels.of_run(series.by_name(rows()), best))
    assert lines["fd_classifier"]["star"] == [300, 4]
    assert [key for key, line in lines.items() if line["star"]] == ["fd_classifier"]
    lines = lines_of(panels.of_run(series.by_name(rows())))
    assert not any(line["star"] for line in lines.values())


def test_a_long_run_keeps_few_points_and_its_numbers():
    content = [{"step": s, "kind": "train", "loss/gen": s / 7} for s in range(1, 100_001)]
    content[500]["loss/gen"] = "nan"
    line = lines_of(panels.of_run(series.by_name(content)))["loss/gen"]
    assert len(line["faint"][0]["x"]) <= panels.MOST_POINTS
    assert len(line["strong"]["x"]) <= panels.MOST_POINTS
    assert line["missing"] == 1
    assert line["averaged"] == math.ceil(100_000 / panels.MOST_NOISY)
    assert line["faint"][0]["y"][-1] == pytest.approx(100_000 / 7, rel=1e-5)


def test_many_metrics_share_the_points_of_a_page():
    content = [
        {"step": s, "kind": "eval", **{f"class_fraction/{i}": i / 1000 for i in range(1000)}}
        for s in range(1000)
    ]
    (section,) = panels.of_run(series.by_name(content))
    (panel,) = section["panels"]
    assert len(panel["lines"]) == panels.MOST_LINES
    assert panel["note"] == "24 highest and lowest of 1000"
    assert {line["key"] for line in panel["lines"]} >= {"class_fraction/0", "class_fraction/999"}
    assert len(json.dumps(section)) < 200_000


def test_a_wide_range_starts_with_a_logarithmic_axis():
    content = [{"step": s, "kind": "train", "grad_norm/gen": 10.0**s} for s in range(4)]
    content += [{"step": s, "kind": "train", "loss/gen": 1.0 + s} for s in range(4)]
    sections = panels.of_run(series.by_name(content))
    assert {p["title"]: p["log"] for s in sections for p in s["panels"]} == {
        "Losses": False,
        "Gradient norms": True,
    }


def test_runs_are_lines_of_one_panel_for_each_metric():
    runs = {f"run {i}": series.by_name(rows(seed=i)) for i in range(3)}
    bests = [Best("fd_classifier", "min", Extreme(300, 4.0 + i)) for i in range(3)]
    sections = panels.of_runs(runs, bests)
    drawn = {p["key"]: p["lines"] for s in sections for p in s["panels"]}
    assert {"fd_classifier", "loss/gen", "loss/disc", "rate/gen"} <= set(drawn)
    for lines in drawn.values():
        assert [(line["name"], line["colour"]) for line in lines] == [
            ("run 0", 0), ("run 1", 1), ("run 2", 2),
        ]  # fmt: skip
    assert [line["star"] for line in drawn["fd_classifier"]] == [[300, 4], [300, 5], [300, 6]]


def test_scores_have_their_newest_and_their_best_value():
    best = Best("fd_classifier", "min", Extreme(300, 4.0))
    first, *others = scores.of_rows(rows(), {"class_entropy": "max", "val/gen": ""}, best)
    assert (first.key, first.newest, first.best) == ("fd_classifier", (400, 5.0), (300, 4.0))
    found = {score.key: score for score in others}
    assert found["class_entropy"].best == (400, 1.4 - 10 / 400)
    assert found["val/gen"].best is None


@pytest.mark.parametrize(
    ("values", "mode", "expected"),
    [
        ([3.0, 1.0, 2.0], "min", {1}),
        ([3.0, None, 3.0, 1.0], "max", {0, 2}),
        ([math.nan, 1.0], "min", set()),
        ([1.0, 1.0], "min", set()),
        ([1.0, 2.0], "", set()),
    ],
)
def test_winners(values, mode, expected):
    assert scores.winners(values, mode) == expected

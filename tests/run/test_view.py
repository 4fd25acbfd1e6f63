"""What the page of a run shows, collected from the run's folder."""

import fcntl
import gc
import json
import sys

import pytest
from matplotlib.figure import Figure

from gan_jax.report import curves, scores
from gan_jax.run import pictures, provenance
from gan_jax.run.view import view
from tests.helpers.run_folders import CONFIG, Parsed, make, rows, write_rows


def write_summary(folder, **values) -> None:
    (folder / "summary.json").write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        ({"reason": "finished", "step": 400}, ("finished", "at step 400 of 400")),
        (
            {"reason": "terminated", "step": 400},
            ("stopped", "by a signal at step 400 of 400"),
        ),
        (
            {"reason": "stopped early", "step": 400},
            ("stopped", "early, as its patience ran out at step 400 of 400"),
        ),
        ({"reason": "finished", "step": 200}, ("interrupted", "at step 400 of 400")),
        ({"reason": 3, "step": "x"}, ("interrupted", "at step 400 of 400")),
        ({}, ("interrupted", "at step 400 of 400")),
    ],
)
def test_the_status_of_a_run(tmp_path, summary, expected):
    """A summary that is older than the last row says nothing about the run."""
    run = make(tmp_path / "a")
    write_summary(run, **summary)
    seen = view(run)
    assert (seen.status, seen.progress) == expected


def test_a_run_whose_folder_is_held_is_training(tmp_path):
    run = make(tmp_path / "a")
    write_summary(run)
    with (run / ".lock").open("w") as file:
        assert view(run).status == "interrupted"
        fcntl.flock(file, fcntl.LOCK_EX)
        assert view(run).status == "training"
        assert view(run, training=False).status == "interrupted"
        write_summary(run, reason="finished", step=400)  # of the process before, as it goes on
        assert view(run).status == "training"
    assert view(run, training=True).progress == "step 400 of 400"


def test_changed_settings_come_first_and_those_of_the_command_line_before_all(tmp_path):
    run = make(tmp_path / "a", optim={"gen": {"lr": 0.5}}, data={"flip": True, "reading": "first"})
    about = json.loads((run / "config.json").read_text())
    words = ["python", "launch.py", "--config=configs/x.py:big", "--config.data.flip"]
    (run / "config.json").write_text(json.dumps(about | {"command": words}))
    seen = view(run)
    first, *others = seen.changed
    assert first == ("data.flip", True, False, True)
    assert ("optim.gen.lr", 0.5, 0.0002, False) in others
    keys = {setting.key for setting in seen.changed}
    assert "batch_size" not in keys  # 64 is the default
    assert "data.reading" not in keys  # the run chose it in place of "auto"
    assert seen.settings["batch_size"] == 64
    assert seen.command == "python launch.py --config=configs/x.py:big --config.data.flip"
    assert "A GAN from configs/x.py (variant big), trained on" in seen.sentence


def test_the_time_left_of_a_growing_run_is_that_of_a_resolution(tmp_path):
    run = make(tmp_path / "a")
    times = {"time/images_per_second": 8.0, "time/eta_seconds": 300.0}
    write_rows(run, [{"step": 50, "kind": "train", **times}])
    about = json.loads((run / "config.json").read_text())
    for starts, of in (([], ""), ([0, 100], " at this resolution,")):
        (run / "config.json").write_text(json.dumps(about | {"stage_starts": starts}))
        assert (f"Time left{of} at the last update", "5:00") in view(run, training=True).facts


def test_people_are_not_pairs_of_images(tmp_path):
    run = make(tmp_path / "a", data={"pairs": "identities"})
    about = json.loads((run / "config.json").read_text())
    data = about["data"] | {"train_size": 126, "input_channels": 3, "channels": 3}
    (run / "config.json").write_text(json.dumps(about | {"data": data}))
    assert "126 people, in colour images of" in view(run).sentence


def test_the_best_value_is_that_of_the_last_stage(tmp_path):
    """Scores of different resolutions cannot be compared."""
    run = make(tmp_path / "a")
    assert view(run).best == ("fd_classifier", "min", (300, 4.0))
    for stage, step, value in ((0, 300, 4.0), (1, 400, 5.0)):
        meta = run / "best" / f"stage{stage}" / str(step) / "meta"
        meta.mkdir(parents=True)
        (meta / "metadata").write_text(json.dumps({"best_value": value}))
    (run / "checkpoints" / "400" / "state").mkdir(parents=True)
    seen = view(run)
    assert seen.best == ("fd_classifier", "min", (400, 5.0))
    assert [(s.path, s.step, s.note) for s in seen.states] == [
        ("best/stage1/400", 400, "best of stage 1: Fréchet distance, classifier features 5"),
        ("best/stage0/300", 300, "best of stage 0: Fréchet distance, classifier features 4"),
        ("checkpoints/400", 400, "newest; training goes on from here"),
    ]


def test_the_best_scores_are_those_of_the_last_stage(tmp_path):
    """Of all metrics, and before there is a best state; config.json says where the stages begin."""
    run = make(tmp_path / "a")
    write_rows(run, rows(scores=lambda step: {"fd_classifier": step / 100, "swd": step / 50}))
    about = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(about | {"stage_starts": [0, 300]}))
    seen = view(run)
    assert (seen.stage_start, seen.best) == (300, ("fd_classifier", "min", (400, 4.0)))
    found = {score.key: score for score in scores.of_rows(*_of(seen))}
    everywhere = {score.key: score for score in scores.of_rows(*_of(seen)[:3])}
    assert (found["swd"].best, everywhere["swd"].best) == ((400, 8.0), (100, 2.0))
    for wrong in ("x", [None, "y"], 3):
        (run / "config.json").write_text(json.dumps(about | {"stage_starts": wrong}))
        assert view(run).stage_start == 0


def _of(seen):
    return seen.rows, seen.directions, seen.best, seen.stage_start


def test_a_run_without_a_command_line_goes_on_from_python(tmp_path):
    run = make(tmp_path / "it's")
    write_summary(run)
    assert view(run).command == ""  # no state to go on from
    (run / "checkpoints" / "400" / "state").mkdir(parents=True)
    assert "gan_jax.train(gan_jax.load(" in view(run).command
    write_summary(run, reason="finished", step=400)
    assert view(run).command == ""


def test_rows_alone_are_a_run(tmp_path):
    write_rows(tmp_path, rows(20))
    seen = view(tmp_path)
    assert (seen.status, seen.progress) == ("interrupted", "at step 200")
    assert (seen.sentence, seen.best, seen.changed) == ("", None, [])
    assert seen.directions["fd_classifier"] == "min"


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("launch.py --config=x.py --workdir={run}", True),
        ("some/launch.py --mode=train --config x.py --workdir {run}", True),
        ("launch.py --config=x.py --workdir={run}/other", False),
        ("launch.py --config=x.py", False),
        ("launch.py --mode=import --workdir={run}", False),
        ("pytest --workdir={run}", False),
        ("launch.py", False),
    ],
)
def test_the_command_line_that_trains_here(tmp_path, monkeypatch, words, kept):
    argv = words.format(run=tmp_path).split()
    monkeypatch.setattr(sys, "argv", argv)
    assert provenance.command(tmp_path) == (["python", *argv] if kept else [])


def test_the_page_is_rewritten_while_training_and_at_the_end(tmp_path):
    run, best = make(tmp_path / "a"), CONFIG["best"]
    page = run / "report.html"
    refresh = pictures.Refresher(best, run)
    refresh()
    assert "Training step 400 of 400" in Parsed(page).text
    page.unlink()
    refresh()
    assert not page.exists()  # so soon it would take too large a share of the time
    pictures.Refresher(best, run, ended=True)()
    assert "Finished at step 400 of 400" in Parsed(page).text


def test_the_best_value_of_a_growing_run_is_that_of_its_stage(tmp_path, monkeypatch):
    """Values of other resolutions are lower and mean nothing beside it."""
    marked = []
    monkeypatch.setattr(curves, "_mark_best", lambda axes, *given: marked.append(given[-1]))
    scores = {100: 2.0, 300: 6.0, 400: 5.0, 500: 1.0}
    for last, expected in {400: 400, 500: 500, 200: 100}.items():
        run = tmp_path / str(last)
        run.mkdir()
        found = {step: value for step, value in scores.items() if step <= last}
        write_rows(run, [{"step": s, "kind": "eval", "swd": v} for s, v in found.items()])
        refresh = pictures.Refresher({"metric": "swd", "mode": "min"}, run, starts=(0, 200, 400))
        refresh()
        table = (run / "epochs.csv").read_text().splitlines()
        assert [line.split(",")[1] for line in table if line.endswith("yes")] == [str(expected)]
    assert marked == [200, 400, 0]


def test_no_picture_of_curves_stays_in_memory(tmp_path):
    run, best = make(tmp_path / "a"), CONFIG["best"]
    gc.collect()
    gc.disable()
    try:
        pictures.Refresher(best, run)()
        assert (run / "curves.png").exists()
        assert not [kept for kept in gc.get_objects() if isinstance(kept, Figure)]
    finally:
        gc.enable()

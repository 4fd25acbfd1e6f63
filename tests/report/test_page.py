"""The pages of runs: what they show, that nothing is fetched, and that texts stay texts."""

import errno
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_jax import patience
from gan_jax.errors import UserError
from gan_jax.modes.actions.report import report
from gan_jax.report import frames, grids, page
from gan_jax.run.view import view
from tests.helpers.run_folders import Parsed, make, rows, write_rows

HOSTILE = '</script><script>alert("1")</script>&<img src=http://x.example/y.png onerror=alert(1)>'
LIMIT = 5_000_000  # bytes of a page


def made(*runs: Path, out: Path) -> Parsed:
    return Parsed(report(runs, out))


def test_the_page_of_a_run_shows_what_there_is(tmp_path):
    run = make(tmp_path / "a", optim={"gen": {"lr": 0.5}})
    assert report([run]) == run / "report.html"
    shown = Parsed(run / "report.html")
    for expected in (
        "Finished at step 400 of 400",
        "A GAN, trained on 10,000 grey images of 28 px in 4 classes (digits) with 1 CPU.",
        "Best state 4 at step 300 Fréchet distance, classifier features, lower is better",
        "Begun 2026-01-02 03:04:05 UTC",
        "Raw weights step 400",
        "Averaged weights (EMA) step 400",
        "Real images",
        "Samples beside their closest training images",
        "Entropy of the classes higher is better 1.375 step 400 1.375 step 400",
        "share of class dog".capitalize(),
        "optim. gen. lr 0.5",
        "jax 0.10.2",
        "0" * 40,
    ):
        assert expected in shown.text, expected
    assert {"fd_classifier", "class_fraction/1"} <= set(shown.titles)  # raw keys as tooltips


def test_a_page_fetches_nothing(tmp_path):
    shown = made(make(tmp_path / "a"), out=tmp_path / "page.html")
    pictures = [a for a in shown.addresses if a.startswith("data:image/")]
    assert len(pictures) == 4  # raw, averaged, real, neighbours; the curves are no picture
    others = set(shown.addresses) - set(pictures)
    assert all(a == "data:," or re.fullmatch(r"#\w+", a) for a in others)
    assert "default-src 'none'" in shown.source
    assert "'unsafe-inline'; script-src 'sha256-" in shown.source  # only the page's own script
    assert "http:" not in re.sub(r"http://www.w3.org/2000/svg", "", shown.source)


def test_a_disk_that_often_does_not_answer_at_once_costs_no_picture(tmp_path, monkeypatch):
    run = make(tmp_path / "a")
    before = page_of(run, tmp_path / "before.html")
    stat, calls = os.stat, []

    def unsure(path, *arguments, **options):
        if f"{run / 'samples'}{os.sep}" in str(path):
            calls.append(path)
            if len(calls) % 3 == 0:
                raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return stat(path, *arguments, **options)

    monkeypatch.setattr(patience, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(os, "stat", unsure)
    assert page_of(run, tmp_path / "after.html") == before
    assert len(calls) > 10


def page_of(run: Path, out: Path) -> list[str]:
    """The addresses in a run's page, pictures among them."""
    page.write(view(run, rows(), True), out)
    return Parsed(out).addresses


def test_the_slider_has_every_grid_and_the_newest_one_only_once(tmp_path):
    shown = made(make(tmp_path / "a"), out=tmp_path / "page.html")
    data = shown.data["frames-data"]
    assert data["steps"] == [0, 200, 400]
    assert [[step for step, _ in film] for film in data["films"]] == [[0, 200, 400]] * 2
    for film in data["films"]:
        assert film[-1][1] is None
        assert all(address.startswith("data:image/webp;base64,") for _, address in film[:-1])
    assert re.search(r"<input id=slider type=range min=0 max=2 value=2 ", shown.source)
    titles = re.findall(r"<figcaption><b>(.*?)</b>", shown.source)
    assert titles[:3] == ["Raw weights", "Averaged weights (EMA)", "Real images"]


def test_numbers_of_the_curves_are_those_of_the_run(tmp_path):
    content = rows()
    run = make(tmp_path / "a")
    shown = made(run, out=tmp_path / "page.html")
    lines = {
        line["key"]: line
        for section in shown.data["curves-data"]
        for panel in section["panels"]
        for line in panel["lines"]
    }
    steps = [row["step"] for row in content if row["kind"] == "train"]
    losses = [row["loss/gen"] for row in content if row["kind"] == "train"]
    assert lines["loss/gen"]["faint"][0]["x"] == steps
    np.testing.assert_allclose(lines["loss/gen"]["faint"][0]["y"], losses, rtol=1e-5)
    assert lines["fd_classifier"]["star"] == [300, 4]


def test_texts_of_a_run_stay_texts(tmp_path):
    run = make(tmp_path / "run <b>", **{HOSTILE: HOSTILE, "system": HOSTILE})
    content = [*rows(10), {"step": 100, "kind": "eval", HOSTILE: 1.0, "a/</script><b>": 2.0}]
    write_rows(run, content)
    about = json.loads((run / "config.json").read_text())
    about |= {"command": ["python", "launch.py", f"--config={HOSTILE}"], "git": HOSTILE}
    about |= {"begun": HOSTILE, "device_kind": HOSTILE}
    about["data"]["class_names"] = [HOSTILE] * 4
    (run / "config.json").write_text(json.dumps(about))
    grids.save_grid(run / "samples" / '000400_x"><script>y.png', np.zeros((1, 8, 8, 1), np.uint8))
    grids.save_grid(run / "z'\"><img src=q>.png", np.zeros((1, 8, 8, 1), np.uint8))
    other = make(tmp_path / "b")
    for out, runs in (("one.html", (run,)), ("two.html", (run, other))):
        shown = made(*runs, out=tmp_path / out)
        assert set(shown.tags) & {"b", "iframe", "object"} <= {"b"}
        assert not [a for a in shown.addresses if "x.example" in a or a == "q"]
        scripts = shown.source.split("<script")[1:]
        assert len(scripts) == len(shown.data) + 1  # the JSON, and the page's own script
        assert HOSTILE in shown.text.replace("\u200b", "")


def test_a_young_run_an_old_one_and_a_damaged_one_have_a_page(tmp_path, lines):
    """A line says what a page has to leave out."""
    made(make(tmp_path / "whole"), out=tmp_path / "whole.html")
    assert not lines
    young = tmp_path / "young"
    young.mkdir()
    (young / "config.json").write_text('{"seed": 1')
    shown = made(young, out=tmp_path / "young.html")
    assert "Nothing logged yet" in shown.text
    assert shown.data["curves-data"] == []
    old = tmp_path / "old"
    old.mkdir()
    write_rows(old, rows(20), '{"step": 300, "ki')
    shown = made(old, out=tmp_path / "old.html")
    assert "Interrupted at step 200" in shown.text
    damaged = make(tmp_path / "damaged")
    for name in ("summary.json", "reals.png", "neighbours.png", "samples/000400_raw.png"):
        (damaged / name).write_bytes(b"\x89PNG damaged [")
    (damaged / "config.json").write_text('{"config": 3, "data": [], "versions": "x", "git": {}}')
    shown = made(damaged, out=tmp_path / "damaged.html")
    assert "Raw weights step 200" in shown.text
    assert "Averaged weights (EMA) step 400" in shown.text
    assert [line.partition(", so ")[0] for line in lines] == [
        f"{folder}: config.json is missing or damaged" for folder in (young, old, damaged)
    ]


def test_the_page_of_a_large_run_can_be_mailed(tmp_path):
    """Of 100 noisy grids of two names, which are hard to compress, and 50 metrics."""
    run, random = make(tmp_path / "a"), np.random.default_rng(0)
    noise = random.integers(0, 256, (300, 300, 3), np.uint8)
    for name in ("raw", "ema"):
        grids.save_png(run / "samples" / f"000400_{name}.png", noise)
        for step in range(410, 910, 10):
            place = run / "samples" / f"{step:06d}_{name}.png"
            place.symlink_to(run / "samples" / f"000400_{name}.png")
    for number in range(12):
        (run / f"other{number}.png").symlink_to(run / "samples" / "000400_raw.png")
    content = rows(1200)
    for row in content:
        row |= {f"extra/{i}": random.normal() for i in range(40)}
    write_rows(run, content)
    report([run])
    assert 1_000_000 < (run / "report.html").stat().st_size < LIMIT
    data = Parsed(run / "report.html").data["frames-data"]
    for film in data["films"]:
        steps = [step for step, _ in film]
        assert (steps[0], steps[-1]) == (0, 900)
        assert 3 <= len(steps) <= frames.MOST_FRAMES
    report([run, make(tmp_path / "b")], tmp_path / "two.html")
    assert (tmp_path / "two.html").stat().st_size < LIMIT


def test_pages_of_no_run_or_to_nowhere_are_one_line(tmp_path):
    run = make(tmp_path / "a")
    with pytest.raises(UserError, match="is not the folder of a run"):
        report([tmp_path / "samples"])
    with pytest.raises(UserError, match=r"out: .*cannot be written"):
        report([run], run / "config.json" / "page.html")
    with pytest.raises(UserError, match=r"--workdir names .* twice"):
        report([run, tmp_path / "." / "a"])


def test_several_runs_are_compared_in_one_page(tmp_path, monkeypatch):
    runs = [make(tmp_path / n, seed=i, batch_size=32 * i) for i, n in enumerate("xyz")]
    monkeypatch.chdir(tmp_path)
    assert report(runs) == Path("comparison.html")
    shown = Parsed(tmp_path / "comparison.html")
    assert "Comparison of 3 runs" in shown.text
    assert shown.data["runs-data"] == ["x", "y", "z"]
    assert len([a for a in shown.addresses if a.startswith("data:image/webp")]) == 3
    assert "batch_ size 0 32 64" in shown.text  # and not the settings that they share
    assert "best. metric" not in shown.text
    marks = re.findall(r"<mark><b>(.*?)</b></mark>", shown.source)
    assert marks == ["4"]  # the lowest of 4, 5 and 6; the entropies are the same
    panel = shown.data["curves-data"][0]["panels"][0]
    assert [line["name"] for line in panel["lines"]] == ["x", "y", "z"]


def test_runs_of_the_same_name_are_told_apart(tmp_path):
    runs = [make(tmp_path / parent / "run") for parent in ("p", "q")]
    shown = made(*runs, out=tmp_path / "page.html")
    assert shown.data["runs-data"] == ["p/run", "q/run"]


def test_a_path_that_is_no_utf_8_does_not_stop_a_page(tmp_path):
    """A path of the data may be any bytes; Python has them as halves of characters."""
    run = make(tmp_path / "a", data={"path": "da\udcffta"})
    report([run])
    assert "da?ta" in (run / "report.html").read_text()


def test_a_picture_that_is_a_pipe_is_not_waited_for(tmp_path):
    run = make(tmp_path / "a")
    (run / "reals.png").unlink()
    os.mkfifo(run / "reals.png")
    report([run])


def test_long_runs_show_an_even_choice_of_grids(tmp_path):
    run = make(tmp_path / "a")
    source = run / "samples" / "000400_raw.png"
    for step in range(500, 10_000, 100):
        (run / "samples" / f"{step:06d}_raw.png").symlink_to(source)
    raw = next(
        film for film in frames.films(run / "samples", frames.Pictures()) if film.name == "raw"
    )
    steps = [step for step, _ in raw.frames]
    assert 20 <= len(steps) <= frames.MOST_FRAMES
    assert (steps[0], steps[-1]) == (0, 9900)
    assert len(set(np.diff(steps[2:-1]))) == 1


def test_pictures_are_made_small_once(tmp_path, monkeypatch):
    """And again only when the file has changed."""
    run, calls = make(tmp_path / "a"), []
    shrink = frames._shrunk
    monkeypatch.setattr(frames, "_shrunk", lambda *words: calls.append(words) or shrink(*words))
    pictures = frames.Pictures()
    frames.films(run / "samples", pictures)
    assert len(calls) == 6
    frames.films(run / "samples", pictures)
    assert len(calls) == 6
    grids.save_grid(run / "samples" / "000200_raw.png", np.zeros((9, 8, 8, 1), np.uint8))
    frames.films(run / "samples", pictures)
    assert len(calls) == 7


def test_what_there_is_no_time_for_is_left_to_the_next_page(tmp_path):
    """So no page holds up training for more than a moment; the newest grids are always there."""
    run, pictures, steps = make(tmp_path / "a"), frames.Pictures(), []
    for seconds in (-1.0, None):
        (run / "report.html").write_bytes(page.made(view(run), pictures, seconds))
        steps.append(Parsed(run / "report.html").data["frames-data"]["steps"])
    assert steps == [[400], [0, 200, 400]]


@pytest.mark.parametrize(
    ("height", "side", "most"),
    [(600, 100, 10**6), (600, 2000, 20_000), (600, 2000, 10), (6000, 400, 10**6)],
)
def test_a_picture_keeps_its_shape_and_its_limits(tmp_path, height, side, most):
    noise = np.random.default_rng(0).integers(0, 256, (height, 1200, 3), np.uint8)
    grids.save_png(tmp_path / "a.png", noise)
    small = frames.Pictures().small(tmp_path / "a.png", side, most)
    assert small.width <= side
    assert small.width * small.height <= 1.05 * side**2
    assert small.height == pytest.approx(height / 1200 * small.width, abs=4)
    assert len(small.data) <= most or small.width <= 2 * frames.SMALLEST
    with Image.open(frames.io.BytesIO(small.data)) as picture:
        assert picture.size == (small.width, small.height)

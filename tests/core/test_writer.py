"""Histories that never show a step twice."""

import errno
import math
import struct

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan_jax.core.state_writer import Gone
from gan_jax.core.writer import Writer
from tests.helpers.written import PIXELS, events, rows, save_grid


def write(workdir, steps, resumed_at=0, quiet=False):
    made = Writer(workdir, resumed_at, save_grid, quiet)
    for step in steps:
        made.write_scalars(step, {"loss/gen": step / 2})
        made.write_images(step, {"raw": PIXELS})
    made.close()


def test_settings_are_on_tensorboards_page_of_hyperparameters(tmp_path):
    made = Writer(tmp_path, 0, save_grid)
    made.write_hparams({"optim.gen.lr": "0.0002", "loss.name": "hinge"})
    made.write_scalars(1, {"epoch": 2.0}, kind="epoch")
    made.close()
    accumulator = EventAccumulator(str(tmp_path / "events"))
    accumulator.Reload()
    tags = accumulator.summary_metadata
    start = next(data for tag, data in tags.items() if tag.endswith("session_start_info"))
    assert b"optim.gen.lr" in start.plugin_data.content
    assert b"hinge" in start.plugin_data.content
    assert set(events(tmp_path)) == {"epoch"}  # and not epoch_epoch


def test_rows_have_a_step_a_kind_and_plain_numbers(tmp_path):
    made = Writer(tmp_path, 0, save_grid)
    made.write_scalars(1, {"loss/gen": np.float32(0.5), "n": np.int64(3), "m": 4})
    made.write_scalars(1, {"loss/gen": 0.25}, kind="epoch")
    assert '"wall_time": ' in (tmp_path / "metrics.jsonl").read_text()
    made.write_scalars(
        2, {"val/loss": math.nan, "a": math.inf, "b": np.float32(-np.inf)}, kind="eval"
    )
    assert rows(tmp_path) == [  # there at once, before anything is closed
        {"step": 1, "kind": "train", "loss/gen": 0.5, "n": 3, "m": 4},
        {"step": 1, "kind": "epoch", "loss/gen": 0.25},
        {"step": 2, "kind": "eval", "val/loss": "nan", "a": "inf", "b": "-inf"},
    ]
    made.close()
    found = events(tmp_path)
    assert found["loss/gen"] == [(1, 0.5)]
    assert found["loss/gen_epoch"] == [(1, 0.25)]
    assert math.isnan(found["val/loss"][0][1])


def test_pictures_are_named_by_step_and_go_to_the_events(tmp_path):
    made = Writer(tmp_path, 0, save_grid)
    paths = made.write_images(20, {"raw": PIXELS, "ema": PIXELS})
    made.close()
    assert paths == [tmp_path / "samples" / f"000020_{name}.png" for name in ("raw", "ema")]
    assert all(path.read_bytes() == b"a picture" for path in paths)
    accumulator = EventAccumulator(str(tmp_path / "events"))
    accumulator.Reload()
    assert accumulator.Tags()["images"] == ["samples/raw", "samples/ema"]
    assert [e.step for e in accumulator.Images("samples/raw")] == [20]


def test_resuming_removes_what_lies_beyond_the_step(tmp_path):
    """Three processes, killed and resumed within a second; the history shows every step once."""
    write(tmp_path, [2, 4, 6, 8])
    (tmp_path / "samples" / "notes.png").write_bytes(b"mine")
    (tmp_path / "samples" / "mine_too.png").write_bytes(b"mine")
    write(tmp_path, [6, 8, 10], resumed_at=4)
    write(tmp_path, [10, 12], resumed_at=8)
    steps = [2, 4, 6, 8, 10, 12]
    assert [row["step"] for row in rows(tmp_path)] == steps
    assert events(tmp_path) == {"loss/gen": [(s, s / 2) for s in steps]}
    pictures = {p.name for p in (tmp_path / "samples").iterdir()}
    assert pictures == {f"{s:06d}_raw.png" for s in steps} | {"notes.png", "mine_too.png"}
    write(tmp_path, [], resumed_at=4)
    assert [row["step"] for row in rows(tmp_path)] == [2, 4]
    assert events(tmp_path) == {"loss/gen": [(2, 1.0), (4, 2.0)]}


@pytest.mark.parametrize("rest", ['{"step": 3, "ki', '{"step": 3}garbage', "\0\0\0"])
def test_a_row_that_a_kill_left_unfinished(tmp_path, rest):
    write(tmp_path, [1, 2])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(rest)
    write(tmp_path, [3], resumed_at=2)
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3]


def test_a_last_row_without_its_newline_is_kept_whole(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}')
    write(tmp_path, [3], resumed_at=2)
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3]


@pytest.mark.parametrize("cut", [1, 5, 17])
def test_an_event_file_that_a_kill_left_unfinished(tmp_path, cut):
    made = Writer(tmp_path, 0, save_grid)
    made.write_scalars(1, {"loss/gen": 0.5})
    made.write_scalars(2, {"loss/gen": 1.0})
    made.close()
    (file,) = (tmp_path / "events").iterdir()
    file.write_bytes(file.read_bytes()[:-cut])
    write(tmp_path, [2], resumed_at=1)
    assert events(tmp_path) == {"loss/gen": [(1, 0.5), (2, 1.0)]}


def test_an_event_file_of_something_else(tmp_path):
    """What cannot be read as events is cut off, and does not stop the run."""
    (tmp_path / "events").mkdir()
    file = tmp_path / "events" / "events.out.tfevents.1.other"
    file.write_bytes(struct.pack("<QI", 4, 0) + b"\xff\xff\xff\xff" + b"\0" * 20)
    write(tmp_path, [1])
    assert file.read_bytes() == b""
    assert events(tmp_path) == {"loss/gen": [(1, 0.5)]}


def test_a_disk_that_does_not_answer_costs_no_row_and_a_folder_that_is_lost_the_run(tmp_path):
    problems = [OSError(errno.ESTALE, "Stale file handle"), None, OSError(errno.EACCES, "no")]

    def check():
        if problem := problems.pop(0):
            raise problem

    made = Writer(tmp_path, 0, save_grid, check=check)
    for step in range(2):
        made.write_scalars(step, {"loss/gen": 0.0})
    made.flush()
    assert [row["step"] for row in rows(tmp_path)] == [0, 1]
    problems.append(Gone("taken over"))
    with pytest.raises(Gone):
        made.write_scalars(2, {"loss/gen": 0.0})
    made.close()


def test_other_processes_write_nothing(tmp_path):
    made = Writer(tmp_path / "run", 0, save_grid, quiet=True)
    made.write_scalars(1, {"a": 1.0})
    assert made.write_images(1, {"raw": PIXELS}) == []
    made.flush()
    made.close()
    assert not (tmp_path / "run").exists()

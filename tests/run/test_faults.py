"""Runs whose folder loses parts, is moved, is read meanwhile, or whose memory is full."""

import errno
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from gan_jax import training
from gan_jax.core import saved_states, state_writer
from gan_jax.core.checkpoint import Checkpoints
from gan_jax.core.job import Progress
from gan_jax.core.state_writer import Gone, SaveFailed
from gan_jax.core.train_step import NonFinite
from gan_jax.errors import UserError
from gan_jax.modes import door
from gan_jax.report import curves, series
from gan_jax.run import claims, memory, missing, pictures
from gan_jax.run import folder as folders
from gan_jax.run.experiment import Experiment
from tests.helpers.dense_run import config
from tests.helpers.shell import arrays, rows

TREE = {"w": np.zeros(3, np.float32)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of 2 steps that could go on."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    training.train(config(2), folder)
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """A copy of it."""
    return shutil.copytree(trained, tmp_path / "run")


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def breaks(monkeypatch, times: int) -> list[int]:
    """The loop meets a step that is not finite, `times` times; returns the `rollbacks` it saw."""
    seen, real = [], training.loop.run

    def run(job, carry, progress):
        seen.append(progress.rollbacks)
        if len(seen) <= times:
            raise NonFinite("step 3: loss/gen is not finite", "what to do")
        return real(job, carry, progress)

    monkeypatch.setattr(training.loop, "run", run)
    return seen


def test_a_run_goes_back_to_its_newest_good_state_and_says_what_it_misses(
    run, trained, monkeypatch, lines
):
    shutil.rmtree(run / "events")
    shutil.rmtree(run / "samples")
    (run / "metrics.jsonl").unlink()
    seen = breaks(monkeypatch, 1)
    summary = training.train(config(3, on_nonfinite="rollback"), run)
    assert (summary["reason"], summary["step"], seen) == ("finished", 3, [0, 1])
    assert (
        "step 3: loss/gen is not finite: going back to the newest good state, and on with other "
        "random numbers (1 of at most 10 times)" in lines
    )
    (told,) = [line for line in lines if "missing are" in line]
    for part in ("metrics.jsonl", "the event files in events/", "samples/"):
        assert part in told
    assert "it goes on from step 2 without them" in told
    assert [row["step"] for row in rows(run) if row["kind"] == "train"] == [3]
    meta = saved_states.read_meta(folders.state_path(run))
    assert (meta["rollbacks"], meta["skipped"]) == (1, 0)


def test_grids_are_missing_only_once_they_have_been_drawn(run):
    """A bucket keeps no empty folder, and a run that goes on from there is not to be alarmed."""
    shutil.rmtree(run / "samples")
    made = config(8)
    made.run.sample_every = "3"
    stored = folders.read_config(run)
    stored["config"]["run"]["sample_every"] = "3"
    (run / "config.json").write_text(json.dumps(stored))
    experiment = Experiment(made)
    told = [missing.parts(run, step, Progress(), experiment) for step in (2, 3)]
    assert told == [[], ["samples/ with the grids so far"]]
    made.run.sample_every = "1"  # from the resume on: none has been drawn before
    assert missing.parts(run, 2, Progress(), Experiment(made)) == []


def attempts(monkeypatch, policy: str) -> tuple[list[int], str]:
    """Trains in a way that always breaks; returns how often the run had gone back each time, and
    what is said in the end."""
    seen = []

    def train(run, stored, began, rollbacks):
        seen.append(rollbacks)
        error = NonFinite("step 3: loss/gen is not finite", "what to do")
        error.rollbacks = rollbacks
        raise error

    monkeypatch.setattr(training, "_train", train)
    settings = SimpleNamespace(on_nonfinite=policy, nonfinite_limit=2)
    experiment = SimpleNamespace(config=SimpleNamespace(run=settings))
    run = SimpleNamespace(experiment=experiment, folder=Path("/no/where"))
    with pytest.raises(NonFinite) as error:
        training._attempts(run, True, 0.0)
    return seen, str(error.value)


def test_it_does_not_go_back_for_ever(monkeypatch, lines):
    seen, message = attempts(monkeypatch, "rollback")
    assert seen == [0, 1, 2]
    assert len(lines) == 2
    assert message.startswith(
        "step 3: loss/gen is not finite, although the run has gone back 2 times; training stopped, "
    )
    assert "--config.run.on_nonfinite=skip, or try a lower learning rate" in message


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_nor_where_it_is_not_asked_to(monkeypatch, policy):
    expected = [0], "step 3: loss/gen is not finite; what to do"
    assert attempts(monkeypatch, policy) == expected


def test_other_policies_are_refused():
    with pytest.raises(UserError, match="on_nonfinite='skp': accepted are stop, skip, rollback"):
        training.Experiment(config(4, on_nonfinite="skp"))


def test_the_best_state_that_is_gone_is_named(tmp_path):
    experiment = SimpleNamespace(
        system=SimpleNamespace(sample_step=None),
        measures_quality=False,
        config=SimpleNamespace(best=SimpleNamespace(metric="fid")),
    )
    for name in ("config.json", "metrics.jsonl", "events/events.out.tfevents.1.a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    progress = Progress(stage=0, best_value=2.5, best_step=4)
    (gone,) = missing.parts(tmp_path, 9, progress, experiment)
    assert gone.startswith("the best state, of step 4 with fid 2.5000")
    (tmp_path / "best" / "stage0" / "4" / "state").mkdir(parents=True)
    assert missing.parts(tmp_path, 9, progress, experiment) == []
    # half of the rows that there were when the state was saved
    (tmp_path / "metrics.jsonl").write_text('{"step": 4}\n{"step": 9}\n{"step": 10}\n')
    progress.rows = 2
    assert missing.parts(tmp_path, 9, progress, experiment) == []
    progress.rows = 4
    (gone,) = missing.parts(tmp_path, 9, progress, experiment)
    assert gone == "2 of 4 rows of metrics.jsonl, and with them their curves"


def test_a_disk_that_stays_full_ends_the_run_and_keeps_its_states(run, monkeypatch, lines):
    before = arrays(run)
    monkeypatch.setattr(state_writer, "_write", full)
    monkeypatch.setattr(pictures, "write_bytes", full)
    with pytest.raises(SaveFailed, match=r"checkpoint 3 could not be saved \(No space left") as e:
        training.train(config(9, save_retries=0), run)
    assert e.value.status == 74
    found = arrays(run)
    assert all((found[name] == before[name]).all() for name in before)
    assert len([line for line in lines if "curves.png" in line and "No space left" in line]) == 1
    assert not any("Traceback" in line for line in lines)


def test_a_disk_that_fails_at_the_start_is_one_line(run, monkeypatch):
    monkeypatch.setattr(training.provenance, "write_json", full)
    with pytest.raises(SaveFailed, match=r"^.*: No space left on device; training stopped"):
        training.train(config(3), run)


def test_a_folder_that_is_moved_while_it_trains(run, monkeypatch, lines):
    """The run ends with a line, and makes nothing anew in the old place."""
    log = training.Recorder.log

    def moved(*args):
        if run.exists():
            os.rename(run, run.with_name("elsewhere"))
        log(*args)

    monkeypatch.setattr(training.Recorder, "log", moved)
    with pytest.raises(Gone, match=f"^{run} was moved or removed while it was trained in"):
        training.train(config(9), run)
    assert os.listdir(run.parent) == ["elsewhere"]
    assert not any("cannot be written" in line for line in lines)


def test_a_folder_is_still_the_same_when_its_number_changes(tmp_path):
    """As on some network file systems; another folder of that name is not."""
    folder = claims.claim(tmp_path / "run")
    try:
        shutil.copytree(folder, tmp_path / "copy")
        os.rename(folder, tmp_path / "old")
        with pytest.raises(Gone):
            claims.check_held(folder)
        folder.mkdir()
        with pytest.raises(Gone):
            claims.check_held(folder)
        folder.rmdir()
        os.rename(tmp_path / "copy", folder)
        claims.check_held(folder)
    finally:
        claims.release(folder)


def test_readers_beside_a_writer_get_a_whole_state(tmp_path):
    """The state vanishes after it was chosen, and while there is none for a moment."""
    states, read = Checkpoints(tmp_path / "checkpoints", keep=1), []
    states.save(1, TREE, {})
    states.wait()

    def reading(path):
        read.append(path.name)
        if len(read) == 1:
            states.save(2, TREE, {})
            states.wait()
            state_writer._take_away(path)  # as where there are no locks
            raise saved_states.Damaged("checksums.json is missing")
        return saved_states.read_arrays(path)

    path, found = folders.read_state(tmp_path, "newest", reading)
    assert (path.name, [*found], read) == ("2", ["w"], ["1", "2"])
    with pytest.raises(saved_states.Damaged):
        folders.read_state(tmp_path, "newest", damaged)
    with pytest.raises(UserError, match="no state '7'"):
        folders.read_state(tmp_path, "7", damaged)


def damaged(path):
    raise saved_states.Damaged("it is not what was written")


def test_a_listing_that_shows_no_state_for_a_moment(tmp_path, monkeypatch):
    states = Checkpoints(tmp_path / "checkpoints")
    states.save(1, TREE, {})
    states.close()
    found, answers = saved_states.states_in, [{}, {}]
    monkeypatch.setattr(
        folders.saved_states, "states_in", lambda f: answers.pop() if answers else found(f)
    )
    assert folders.read_state(tmp_path, "newest", lambda path: path.name)[1] == "1"
    with pytest.raises(folders.NoState, match="no checkpoint yet"):
        folders.read_state(tmp_path / "empty", "newest", damaged)


EXHAUSTED = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes.\nmore"


@pytest.mark.parametrize(
    ("error", "first"),
    [
        (MemoryError("Unable to allocate 5.2 GiB"), "out of memory on this machine"),
        (jax.errors.JaxRuntimeError(EXHAUSTED), "out of memory on this machine (17 GB more were"),
    ],
)
def test_a_full_memory_names_what_to_lower(error, first, monkeypatch, tmp_path):
    def raising(*args):
        raise error

    monkeypatch.setattr(training.folders, "check", raising)
    with pytest.raises(memory.OutOfMemory) as found:
        training.train(config(2), tmp_path / "run")
    text = str(found.value)
    assert text.startswith(first)
    for key in ("config.model.gen.width (now ", "config.batch_size (now 8)", "config.data.resolu"):
        assert key in text
    assert "\n" not in text


def test_other_errors_of_the_device_stay_what_they_are():
    with (
        pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"),
        memory.explained(config(2), memory.of_model),
    ):
        raise jax.errors.JaxRuntimeError("INTERNAL: a bug")


def test_the_exit_status_of_a_run_that_could_not_be_saved(monkeypatch, capsys):
    """Without waiting for threads that may hang."""
    left: list[int] = []

    def leave(status):
        left.append(status)
        raise SystemExit(status)

    monkeypatch.setattr(door.os, "_exit", leave)
    monkeypatch.setattr(door, "run", lambda command: (_ for _ in ()).throw(Gone("runs/a is gone")))
    command = SimpleNamespace(mode=None, flags={})
    with pytest.raises(SystemExit):
        door.main(command)
    assert left == [74]
    assert capsys.readouterr().err == "error: runs/a is gone\n"


@pytest.mark.parametrize("error", [MemoryError(), jax.errors.JaxRuntimeError(EXHAUSTED)])
def test_a_full_memory_in_any_mode_is_one_line(error, monkeypatch, capsys):
    monkeypatch.setattr(door, "run", lambda command: (_ for _ in ()).throw(error))
    with pytest.raises(SystemExit) as left:
        door.main(SimpleNamespace(mode=None, flags={}))
    said = capsys.readouterr().err
    assert (left.value.code, said.count("\n")) == (1, 1)
    assert said.startswith("error: out of memory on ")


def test_a_state_that_was_read_when_a_run_ended_goes_with_the_next_command(tmp_path):
    training.train(config(2, keep=2), tmp_path)
    with saved_states.held(tmp_path / "checkpoints" / "1"):
        training.train(config(3, keep=1), tmp_path)
        assert sorted(saved_states.states_in(tmp_path / "checkpoints")) == [1, 3]
    training.train(config(3, keep=1), tmp_path)
    assert sorted(saved_states.states_in(tmp_path / "checkpoints")) == [3]


def test_a_summary_that_a_kill_prevented_names_the_best_that_only_the_end_had_measured(
    tmp_path,
):
    """A longer run would not have measured it, so no state's progress holds it."""
    made = config(2)
    made.best.update(metric="val/gen", mode="min")
    training.train(made.copy_and_resolve_references(), tmp_path)
    whole = folders.read_summary(tmp_path)
    assert whole["best"]["step"] == 2
    (tmp_path / "summary.json").unlink()
    training.train(made, tmp_path)
    found = folders.read_summary(tmp_path)
    assert (found["best"], found["scores"]) == (whole["best"], whole["scores"])


def test_the_best_state_of_a_shorter_run_stays_the_best_of_a_longer_one(tmp_path):
    """The end of the shorter run alone measured it: it is in no progress, but on the disk."""
    often = config(3)
    often.run.eval_every = "1"
    training.train(often, tmp_path / "often")
    rows = series.read_rows(tmp_path / "often" / "metrics.jsonl")
    second, third = [row["val/gen"] for row in rows if row["kind"] == "eval"][1:]
    run = tmp_path / "run"
    for steps in (2, 3):
        made = config(steps)
        made.best.update(metric="val/gen", mode="min" if second < third else "max")
        training.train(made, run)
        assert folders.read_summary(run)["best"]["step"] == 2
    assert [step for _, step in saved_states.best_states_in(run / "best")] == [2]


def test_pictures_that_cannot_be_drawn_are_drawn_the_next_time(run, monkeypatch, lines):
    best = config(2).best
    refresh, drawn = pictures.Refresher(best, run), []
    monkeypatch.setattr(pictures, "DRAWING", 1e9)  # as often as it is called
    monkeypatch.setattr(curves, "draw", lambda *args: b"")
    monkeypatch.setattr(pictures.page, "made", lambda *args: drawn.append("page") or b"")
    for name in ("curves.png", "report.html"):
        (run / name).unlink()
    real = pictures.write_bytes

    def refuse_curves(path, data):
        return full() if path.name == "curves.png" else real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(pictures, "write_bytes", refuse_curves)
        refresh()
        assert (run / "report.html").exists()  # the others are written
        refresh()
    (said,) = lines  # once, however often it fails
    assert "curves.png cannot be written (No space left on device)" in said
    refresh()
    assert (len(lines), len(drawn)) == (1, 3)
    assert (run / "curves.png").exists()


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EROFS])
def test_an_error_that_passes_while_the_page_is_made_costs_nothing(run, monkeypatch, lines, number):
    (run / "report.html").unlink()
    real = pictures.page.made

    def once(*args):
        monkeypatch.setattr(pictures.page, "made", real)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(pictures.page, "made", once)
    pictures.Refresher(config(2).best, run)()
    assert ((run / "report.html").exists(), lines) == (True, [])

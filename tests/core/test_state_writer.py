"""States on a disk that fails, hangs or vanishes, in runs that are killed, beside processes that
read."""

import errno
import logging
import os
import resource
import threading
from pathlib import Path

import numpy as np
import pytest

from gan_jax.core import best_states, saved_states, state_writer
from gan_jax.core.best_states import Best, BestStates
from gan_jax.core.checkpoint import Checkpoints
from gan_jax.core.state_writer import Gone, SaveFailed

TREE = {"w": np.arange(3, dtype=np.float32)}
NO_SPACE = OSError(errno.ENOSPC, "No space left on device")
STALE = OSError(errno.ESTALE, "Stale file handle")
# as TensorStore says it
QUOTA = ValueError(
    'RESOURCE_EXHAUSTED: Error writing "a/b": Failed to write\n: Disk quota exceeded '
    "[os_error_code='122'] [source locations='x.cc:1']"
)


def names(folder) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def pauses(monkeypatch):
    """The pauses before tries, which take no time here."""
    found: list[float] = []
    monkeypatch.setattr(state_writer, "_pause", found.append)
    return found


@pytest.fixture
def failing(monkeypatch, pauses):
    """Makes writes fail with errors from a list, one for each try, after half of the work."""
    errors: list[Exception] = []
    write = state_writer._write

    def broken(folder, tree, meta):
        if errors:
            folder.mkdir()
            (folder / "half").write_text("")
            raise errors.pop(0)
        write(folder, tree, meta)

    monkeypatch.setattr(state_writer, "_write", broken)
    return errors


def test_a_fault_that_passes_costs_a_line(tmp_path, failing, pauses, lines):
    failing.append(STALE)
    states = Checkpoints(tmp_path / "c")
    states.save(1, TREE, {"n": 1})
    states.close()
    assert lines == [
        "checkpoint 1 could not be saved (Stale file handle); trying again in 1 s (1 of 5)"
    ]
    assert (pauses, names(tmp_path / "c"), states.complete) == ([1.0], ["1"], 1)
    assert saved_states.read_meta(tmp_path / "c" / "1") == {"n": 1}


def test_what_is_tried_again_is_what_was_given(tmp_path, failing, pauses, lines):
    """Meanwhile the caller has gone on: the arrays and notes are other ones."""
    failing.append(STALE)
    states, tree, meta = Checkpoints(tmp_path / "c"), {"w": np.zeros(3)}, {"n": 1}
    states.save(1, tree, meta)
    tree["w"] += 1
    meta["n"] = 2
    states.close()
    assert not saved_states.read_arrays(states.folder / "1")["w"].any()
    assert saved_states.read_meta(states.folder / "1") == {"n": 1}


@pytest.mark.parametrize("error", [NO_SPACE, QUOTA, MemoryError()])
def test_a_fault_that_stays_ends_with_earlier_states_whole(tmp_path, failing, pauses, lines, error):
    states = Checkpoints(tmp_path / "c", retries=3)
    states.save(1, TREE, {})
    states.wait()
    failing += [error] * 4
    states.save(2, TREE, {})
    with pytest.raises(SaveFailed, match=r"checkpoint 2 .* after 3 more tries .*checkpoint 1 is k"):
        states.close()
    for call in (states.raise_failure, states.wait, lambda: states.save(3, TREE, {})):
        with pytest.raises(SaveFailed) as failed:
            call()
    assert failed.value.status == 74
    assert pauses == [1.0, 2.0, 4.0]
    assert len(lines) == 3
    assert all("\n" not in line and "source locations" not in line for line in lines)
    assert names(tmp_path / "c") == ["1"]
    assert saved_states.read_arrays(states.folder / "1")["w"].tolist() == [0, 1, 2]


def test_a_disk_that_takes_no_large_file(tmp_path, pauses, lines, capfd):
    """Not in Python but in the libraries below, which have threads and messages of their own."""
    tree = {f"w{n}": np.random.default_rng(n).random(5000) for n in range(9)}
    states, limits = (
        Checkpoints(tmp_path / "c", retries=1),
        resource.getrlimit(resource.RLIMIT_FSIZE),
    )
    states.save(1, TREE, {})
    states.wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))
    try:
        states.save(2, tree, {})
        with pytest.raises(SaveFailed, match=r"after 1 more tries \(File too large\)"):
            states.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert lines == [
        "checkpoint 2 could not be saved (File too large); trying again in 1 s (1 of 1)"
    ]
    assert (capfd.readouterr().err, names(tmp_path / "c")) == ("", ["1"])


def test_pauses_grow_to_a_limit(tmp_path, failing, pauses, lines):
    failing += [NO_SPACE] * 9
    states = Checkpoints(tmp_path / "c", retries=8)
    states.save(1, TREE, {})
    with pytest.raises(SaveFailed, match="no state was saved before"):
        states.close()
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_disk_that_never_answers_is_given_up(tmp_path, monkeypatch, pauses, lines):
    """And what it writes when it wakes up does not appear."""
    asleep, write = threading.Event(), state_writer._write

    def sleep(folder, tree, meta):
        asleep.wait(20)
        write(folder, tree, meta)

    monkeypatch.setattr(state_writer, "_write", sleep)
    monkeypatch.setattr(state_writer, "PATIENCE", 0.1)
    states = Checkpoints(tmp_path / "c", retries=1)
    states.save(1, TREE, {})
    with pytest.raises(SaveFailed, match="the disk has not answered for 0 s"):
        states.close()
    assert len(lines) == 1
    asleep.set()
    for thread in threading.enumerate():
        if thread.name == "write":
            thread.join()
    assert names(tmp_path / "c") == []


def test_a_folder_that_is_gone_is_not_made_again(tmp_path, failing, pauses, lines):
    def check():
        if not (tmp_path / "run").exists():
            raise Gone("runs/a was moved")

    (tmp_path / "run").mkdir()
    states = Checkpoints(tmp_path / "run" / "checkpoints", check=check)
    os.rename(tmp_path / "run", tmp_path / "elsewhere")
    states.save(1, TREE, {})
    with pytest.raises(Gone, match="was moved"):
        states.close()
    assert (names(tmp_path), lines, pauses) == (["elsewhere"], [], [])


def test_states_that_are_removed_meanwhile_are_missed(tmp_path, lines):
    states = Checkpoints(tmp_path / "c", keep=1)
    states.save(1, TREE, {})
    states.wait()
    os.rename(tmp_path / "c", tmp_path / "d")
    states.save(2, TREE, {})
    states.close()
    assert names(tmp_path / "c") == ["2"]
    assert len(lines) == 1
    assert f"{states.folder / '1'} is gone" in lines[0]


def test_a_disk_that_does_not_answer_has_not_lost_the_state_before(tmp_path, monkeypatch, lines):
    states, is_dir = Checkpoints(tmp_path / "c"), Path.is_dir
    states.save(1, TREE, {})
    states.wait()

    def unanswered(path):
        if path == states.folder / "1":
            raise OSError(errno.EIO, "Input/output error", str(path))
        return is_dir(path)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "is_dir", unanswered)
        states.save(2, TREE, {})
        states.wait()
    assert (lines, names(tmp_path / "c")) == ([], ["1", "2"])


def test_no_error_of_a_save_is_lost(tmp_path, capfd):
    def first():
        raise RuntimeError("something else")

    states = Checkpoints(tmp_path / "c", first=first)
    states.save(1, TREE, {})
    with pytest.raises(SaveFailed, match=r"checkpoint 1 could not be saved .*something else"):
        states.wait()
    assert capfd.readouterr().err == ""  # no traceback of a thread


def test_a_kill_while_states_go_leaves_nothing_half(tmp_path, monkeypatch):
    """The state is renamed first, and what a kill leaves is removed at the next start."""
    with monkeypatch.context() as patch:
        patch.setattr(state_writer.shutil, "rmtree", lambda *args, **kwargs: None)
        states = Checkpoints(tmp_path / "c", keep=1)
        for step in (1, 2):
            states.save(step, TREE, {})
        states.close()
    (tmp_path / "c" / "3.unfinished-1").mkdir()
    (tmp_path / "c" / "9.orbax-checkpoint-tmp-5").mkdir()  # of earlier revisions
    (tmp_path / "c" / "notes.removed").mkdir()
    assert "1.removed" in names(tmp_path / "c")
    assert states.steps() == [2]
    Checkpoints(tmp_path / "c")
    assert names(tmp_path / "c") == ["2", "notes.removed"]


def test_what_could_not_be_removed_is_swept_in_the_end(tmp_path, monkeypatch):
    states, rmtree, calls = Checkpoints(tmp_path / "c", keep=1), state_writer.shutil.rmtree, []

    def failing(path, **kwargs):
        calls.append(path)
        if len(calls) > 3:
            rmtree(path, **kwargs)

    monkeypatch.setattr(state_writer.shutil, "rmtree", failing)
    for step in (1, 2):
        states.save(step, TREE, {})
        states.wait()
    assert names(tmp_path / "c") == ["1.removed", "2"]
    states.close()
    assert names(tmp_path / "c") == ["2"]


def test_errors_that_pass_while_the_end_sweeps_leave_nothing(tmp_path, monkeypatch):
    """One while the folder is read, and one while something in it is removed."""
    folder, errors = tmp_path / "c", {"iterdir": [STALE], "rmtree": [STALE]}
    states = Checkpoints(folder)
    states.save(1, TREE, {})
    states.wait()
    for step in (3, 5):
        (folder / f"{step}.unfinished-1" / "state").mkdir(parents=True)
    iterdir, rmtree = Path.iterdir, state_writer.shutil.rmtree

    def read(path):
        if path == folder and errors["iterdir"]:
            raise errors["iterdir"].pop()
        return iterdir(path)

    def remove(path, ignore_errors):
        if errors["rmtree"]:
            errors["rmtree"].pop()
        else:
            rmtree(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(Path, "iterdir", read)
    monkeypatch.setattr(state_writer.shutil, "rmtree", remove)
    states.close()
    assert (errors, names(folder)) == ({"iterdir": [], "rmtree": []}, ["1"])


def test_writes_that_fail_beside_the_first_one_are_no_tracebacks(caplog):
    """asyncio logs them, with the place of the function, when it forgets the task."""
    place = saved_states.ocp.__file__
    logging.getLogger("asyncio").error(f"Task exception was never retrieved\ndefined at {place}")
    logging.getLogger("asyncio").error("Task exception was never retrieved\nsomebody else's")
    assert [record.message[-15:] for record in caplog.records] == ["somebody else's"]


def test_a_state_that_the_disk_did_not_remove_goes_at_the_end(tmp_path, monkeypatch, lines):
    states, remove = Checkpoints(tmp_path / "c", keep=1), state_writer.remove
    states.save(1, TREE, {})
    states.wait()

    def refused(state):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(state_writer, "remove", refused)
    states.save(2, TREE, {})
    states.wait()
    assert states.steps() == [1, 2]
    monkeypatch.setattr(state_writer, "remove", remove)
    Checkpoints(tmp_path / "c", keep=1).close()  # one that has saved nothing removes nothing
    assert states.steps() == [1, 2]
    states.close()
    assert states.steps() == [2]


def test_what_is_being_read_stays_until_the_next_save(tmp_path):
    states = Checkpoints(tmp_path / "c", keep=1)
    states.save(1, TREE, {})
    states.wait()
    with saved_states.held(states.folder / "1"):
        states.save(2, TREE, {})
        states.wait()
        assert saved_states.read_arrays(states.folder / "1")["w"].tolist() == [0, 1, 2]
    states.save(3, TREE, {})
    states.close()
    assert states.steps() == [3]
    with pytest.raises(FileNotFoundError), saved_states.held(states.folder / "1"):
        pass


def test_a_state_appears_after_the_best_state_that_it_names(tmp_path, failing, pauses, lines):
    """Also if that cannot be saved: then the run goes on from before it."""
    rule, seen = Best("val/loss"), []
    best = BestStates(tmp_path / "best", rule, lambda: states.complete, retries=1)
    states = Checkpoints(tmp_path / "c", first=lambda: (best.wait(), seen.append(best.path(0))))
    best.save(0, 3, TREE, {"best_value": 2.0})
    states.save(4, TREE, {"best_step": 3})
    states.wait()
    assert [path.name for path in seen] == ["3"]
    failing += [NO_SPACE] * 2
    best.save(0, 5, TREE, {"best_value": 1.0})
    states.save(6, TREE, {"best_step": 5})
    with pytest.raises(SaveFailed, match="best state 5"):
        states.close()
    assert (states.steps(), states.complete) == ([4], 4)
    assert names(tmp_path / "best" / "stage0") == ["3"]


def test_the_best_state_of_a_kill_is_still_there(tmp_path, lines):
    """Whichever step the run resumes from, the best state up to it is on the disk."""
    safe: list[int] = [2]
    best = BestStates(tmp_path / "best", Best("val/loss"), lambda: safe[-1])
    folder = tmp_path / "best" / "stage0"
    for step, value in {2: 5.0, 4: 4.0, 6: 3.0, 7: 2.0}.items():
        best.save(0, step, TREE, {"best_value": value})
        best.wait()
    assert names(folder) == ["2", "7"], "those between would be cut off by a resume"
    resumed = BestStates(tmp_path / "best", Best("val/loss"), lambda: safe[-1])
    safe.append(8)  # a state of step 8 is on the disk
    best.save(0, 9, TREE, {"best_value": 1.0})
    best.close()
    assert names(folder) == ["7", "9"]
    resumed.cut(8)
    assert names(folder) == ["7"]
    assert resumed.path(0).name == "7"


@pytest.mark.parametrize("errors", [1, 100])
def test_a_best_state_that_the_disk_does_not_give_is_not_removed(tmp_path, monkeypatch, errors):
    """Whether it answers again in the middle of the look at the states, or only later."""
    best = BestStates(tmp_path / "best", Best("val/loss"))
    best.save(0, 2, TREE, {"best_value": 1.0})
    best.wait()
    read, silent = best_states.read_meta, [STALE] * errors

    def meta(folder):
        if folder.name == "2" and silent:
            raise silent.pop()
        return read(folder)

    monkeypatch.setattr(best_states, "read_meta", meta)
    best.save(0, 4, TREE, {"best_value": 3.0})
    best.wait()
    assert names(tmp_path / "best" / "stage0") == ["2", "4"]
    silent.clear()
    best.close()
    assert names(tmp_path / "best" / "stage0") == ["2"]

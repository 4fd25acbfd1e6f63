"""The folder of a run on hosts that share no disk, from the side of one process.

`tests/processes/test_copies.py` has two of them.
"""

import os
import signal

import jax
import numpy as np
import pytest

from gan_jax.buckets import syncing
from gan_jax.buckets.addresses import parse
from gan_jax.buckets.bucket import BucketError
from gan_jax.buckets.mirror import Mirror
from gan_jax.buckets.syncing import NotCopied
from gan_jax.core import checkpoint, cluster, shared_folder
from gan_jax.core.checkpoint import Checkpoints
from gan_jax.core.saved_states import SUMS
from gan_jax.core.state_writer import StateWriter
from gan_jax.run import budget as budgets
from gan_jax.run import folder as folders
from tests.helpers import object_store

RUN = "gs://bucket/runs/a"
BELOW = "bucket/runs/a"


@pytest.fixture
def store(monkeypatch, tmp_path):
    return object_store.installed(monkeypatch, tmp_path / "cache")


def state(store, name: str) -> None:
    for file in ("state/d", SUMS):
        store.put(f"{BELOW}/{name}/{file}", name.encode())


def names(mirror: Mirror) -> set[str]:
    return {p.relative_to(mirror.local).as_posix() for p in mirror.local.glob("*/*")}


def test_a_copy_keeps_the_state_that_is_brought_and_what_was_never_copied(store):
    for name in ("checkpoints/1", "checkpoints/2", "other/checkpoints/1"):
        state(store, name)
    for name in ("config.json", "quality.json", "classifier/config.json"):
        store.put(f"{BELOW}/{name}")
    mirror = Mirror(parse(RUN))
    mirror.fetch()
    own = mirror.local / "checkpoints" / "3"
    own.mkdir()
    (own / SUMS).write_text("never copied")
    mirror.drop_states_beside("checkpoints/2")
    left = {"checkpoints/2", "checkpoints/3", "other/checkpoints", "classifier/config.json"}
    assert names(mirror) == left
    for name in ("config.json", "classifier", "checkpoints"):
        mirror.drop_states_beside(name)
    with mirror.training():
        Mirror(parse(RUN)).drop_states_beside("checkpoints/3")
    assert names(mirror) == left
    assert {p.name for p in mirror.local.glob("*.json")} == {"config.json", "quality.json"}


def failing(store, times: int, wanted: str):
    """The store fails in the first `times` operations of a kind."""
    left = [None] * times

    def fails(verb, path):
        if verb == wanted and left:
            left.pop()
            raise OSError("no route to the host")

    store.fails = fails


@pytest.fixture
def pauses(monkeypatch):
    found: list[float] = []
    monkeypatch.setattr(syncing.time, "sleep", found.append)
    return found


def test_a_bucket_that_fails_for_a_while_is_waited_for_on_both_sides(store, pauses):
    with syncing.trained(RUN, 3600) as place:
        (object_store.Path(place) / "config.json").write_text("{}")
        pauses.clear()
        failing(store, 3, "upload")
        syncing.copy_now(object_store.Path(place))
        assert pauses == [1.0, 5.0, 15.0]
        failing(store, 99, "upload")
        (object_store.Path(place) / "config.json").write_text("{1}")
        with pytest.raises(NotCopied, match="no route"):
            syncing.copy_now(object_store.Path(place))
        store.fails = lambda verb, path: None
    (object_store.Path(place) / "config.json").unlink()
    pauses.clear()
    failing(store, 2, "download")
    syncing.fetch_now(Mirror(parse(RUN)), ["config.json"])
    assert (pauses, (object_store.Path(place) / "config.json").exists()) == ([1.0, 5.0], True)
    failing(store, 99, "download")
    (object_store.Path(place) / "config.json").unlink()
    with pytest.raises(BucketError, match="no route"):
        syncing.fetch_now(Mirror(parse(RUN)), ["config.json"])


def test_after_the_last_step_a_first_signal_costs_nothing_of_the_copy(store):
    """Another machine may be told to stop while this one draws the last pictures."""
    before = signal.getsignal(signal.SIGTERM)
    with shared_folder.trained(RUN, 3600) as place:
        shared_folder.finish(object_store.Path(place) / "classifier")  # trained on the way
        assert signal.getsignal(signal.SIGTERM) is before
        shared_folder.finish(object_store.Path(place))
        os.kill(os.getpid(), signal.SIGTERM)
        (object_store.Path(place) / "curves.png").write_text("drawn")
    assert store.below(BELOW)["curves.png"] == b"drawn"
    assert signal.getsignal(signal.SIGTERM) is before
    assert shared_folder._ends == {}


def test_pictures_that_were_fetched_are_newer_than_the_summary(store):
    """So a machine that fetches a finished run need not draw them again."""
    for name in ("curves.png", "report.html", "summary.json"):
        store.put(f"{BELOW}/{name}")
    local = object_store.Path(syncing.fetched(RUN))
    ended = (local / "summary.json").stat().st_mtime_ns
    assert all(p.stat().st_mtime_ns >= ended for p in local.iterdir())


def test_reading_and_training_at_the_same_time(store):
    """The end of one leaves the claim of the other."""
    with syncing.trained(RUN, 3600) as place, syncing.used(RUN):
        folder = object_store.Path(place)
        claim = syncing._open[folder][1]
    assert folder not in syncing._open
    assert claim is not None
    reading = syncing.used(RUN, needed=False)
    reading.__enter__()
    with syncing.trained(RUN, 3600):
        reading.__exit__(None, None, None)
        assert syncing._open[folder][1] is not None


def test_an_old_copy_says_nothing_about_how_far_the_run_is(tmp_path, monkeypatch):
    """Else its process would not take part in a save that the others begin."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / SUMS).write_text("{}")
    assert StateWriter(tmp_path, "checkpoint").complete == 7
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    assert StateWriter(tmp_path, "checkpoint").complete is None


@pytest.mark.parametrize("fetched", [False, True])
def test_a_state_that_was_fetched_is_verified_where_it_is_read(tmp_path, monkeypatch, fetched):
    states, found = Checkpoints(tmp_path), []
    states.save(1, {"w": np.zeros(2)}, {})
    states.close()
    monkeypatch.setattr(shared_folder, "bring", lambda *paths: fetched)

    def read(*args, verified: bool):
        found.append(verified)
        return {}, {}

    monkeypatch.setattr(checkpoint, "read", read)
    states.restore_newest({})
    assert found == [not fetched]


def test_process_0_says_whether_a_run_has_begun(tmp_path, monkeypatch):
    """States are brought to other hosts when they are read, and not before."""
    asked = []
    monkeypatch.setattr(cluster, "decided", lambda what, decide: asked.append(what) or True)
    (tmp_path / "config.json").write_text('{"config": {}, "budget": {"text": "1h"}}')
    with pytest.raises(budgets.ArgumentError, match="began with --budget=1h"):
        budgets.resume(tmp_path, None, budgets.parse("2h"))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(folders.UserError, match="cannot be read"):
        folders.check(tmp_path, None)
    assert asked == ["whether the run has begun"] * 2

"""A folder that is trained in and copied to a bucket: claims, failures, whose copy is newest."""

import contextlib
import json
import os
import threading
import time

import pytest

from gan_jax.buckets import claim, syncing
from gan_jax.buckets.addresses import parse
from gan_jax.buckets.bucket import Bucket, BucketError
from gan_jax.buckets.syncing import NotCopied
from gan_jax.core.state_writer import Gone
from gan_jax.errors import ArgumentError, UserError
from gan_jax.run import claims
from tests.helpers import object_store
from tests.helpers.object_store import down
from tests.helpers.waiting import wait_for

RUN = "gs://bucket/runs/a"
BELOW = "bucket/runs/a"
CLAIM = f"{BELOW}/{claim.NAME}"


@pytest.fixture
def store(monkeypatch, tmp_path):
    monkeypatch.setattr(syncing, "LAST_TRIES", (0.0, 0.0))
    return object_store.installed(monkeypatch, tmp_path / "cache")


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """Makes this process that of another machine, with a cache of its own."""

    def go(name: str):
        monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path / name))
        monkeypatch.setattr(claim.socket, "gethostname", lambda: name)

    go("first")
    return go


def write(place, **texts: str) -> None:
    for name, text in texts.items():
        (object_store.Path(place) / name).write_text(text)


def read(place) -> dict[str, str]:
    return {p.name: p.read_text() for p in sorted(object_store.Path(place).iterdir())}


def train(**texts: str) -> str:
    """Trains once; returns the folder."""
    with syncing.trained(RUN, 60) as place:
        write(place, **texts)
    return place


def train_then(fails, store, error: Exception | None = None, **texts: str) -> None:
    """Trains once, after which the bucket fails, and an error ends the run."""
    with syncing.trained(RUN, 60) as place:
        write(place, **texts)
        store.fails = fails
        if error:
            raise error


@contextlib.contextmanager
def killed():
    """A process that is killed: nothing is copied at the end, and the claim stays."""
    opened = syncing.trained(RUN, 60)
    place = opened.__enter__()
    _, held = syncing._open[object_store.Path(place)]
    yield place
    held._over.set()
    held.close, held.renew = (lambda: None), (lambda: None)
    with contextlib.suppress(KeyboardInterrupt):
        opened.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)


def test_what_is_trained_is_in_the_bucket_and_comes_from_it(store, elsewhere, lines):
    train(config="1", rows="1")
    assert store.below(BELOW) == {"config": b"1", "rows": b"1"}
    elsewhere("second")
    with syncing.trained(RUN, 60) as place:
        assert read(place) == {"config": "1", "rows": "1"}
        write(place, rows="12")
        (object_store.Path(place) / "config").unlink()
    assert store.below(BELOW) == {"rows": b"12"}
    assert lines[-2:] == [
        f"copying to {RUN} what it does not have yet",
        f"{RUN} has everything that is in {place}",
    ]
    assert json.loads(store.objects[CLAIM])["over"]


def test_it_says_whose_the_newest_state_is(store, elsewhere, lines):
    with syncing.trained(RUN, 60) as place:
        for name in ("3/checksums.json", "12/checksums.json", "20/state", "no/checksums.json"):
            file = object_store.Path(place, "checkpoints", name)
            file.parent.mkdir(parents=True)
            file.write_text("{}")
    said = f"{RUN}: the newest state is that of step 12, "
    assert not [line for line in lines if line.startswith(said)]
    train()
    removed = {k: store.objects.pop(k) for k in [*store.objects] if "checkpoints/12/" in k}
    assert removed
    train()
    elsewhere("second")
    train()
    found = [line.removeprefix(said) for line in lines if line.startswith(said)]
    assert found == ["here and in the bucket", "of this machine's own copy", "from the bucket"]


def test_what_the_bucket_loses_meanwhile_is_copied_again(store, monkeypatch, lines):
    """At the end, and as soon as copying works again after it failed."""
    with syncing.trained(RUN, 60) as place:
        write(place, config="1", rows="1")
        syncing.copy_now(object_store.Path(place))
        del store.objects[f"{BELOW}/config"]
    assert store.below(BELOW) == {"config": b"1", "rows": b"1"}
    monkeypatch.setattr(syncing, "at_least", lambda *args: None)
    with syncing.trained(RUN, 0.02):
        store.fails = down
        wait_for(lambda: any("copying again" in line for line in lines))
        del store.objects[f"{BELOW}/config"]
        store.fails = lambda verb, path: None
        wait_for(lambda: f"{BELOW}/config" in store.objects)
        wait_for(lambda: f"{RUN} can be written again, and has what it lacked" in lines)


def test_a_folder_of_the_disk_is_used_as_it_is(tmp_path):
    for context in (syncing.trained(tmp_path, 0), syncing.used(tmp_path)):
        with context as place:
            assert place == tmp_path


def test_it_is_copied_while_training_goes_on(store, monkeypatch):
    monkeypatch.setattr(syncing, "at_least", lambda *args: None)
    with syncing.trained(RUN, 0.02) as place:
        write(place, rows="1")
        wait_for(lambda: store.below(BELOW) == {"rows": b"1"})
        write(place, rows="12")
        wait_for(lambda: store.below(BELOW) == {"rows": b"12"})


def test_a_bucket_that_fails_ends_no_run(store, monkeypatch, lines):
    monkeypatch.setattr(syncing, "at_least", lambda *args: None)
    with syncing.trained(RUN, 0.02) as place:
        write(place, rows="1")
        store.fails = down
        wait_for(lambda: sum("no route to host" in line for line in lines) > 1)
        store.fails = lambda verb, path: None
        wait_for(lambda: store.below(BELOW) == {"rows": b"1"})
    said = next(line for line in lines if "no route" in line)
    assert "and the run goes on" in said


def test_one_that_fails_at_the_end_is_a_line_and_a_status(store, elsewhere):
    place = parse(RUN).local
    with pytest.raises(
        NotCopied, match=r"no route to host.*what could not be copied is in"
    ) as raised:
        train_then(down, store, rows="1")
    assert raised.value.status == 74
    assert str(place) in str(raised.value)
    store.fails = lambda verb, path: None
    train()  # the same command again
    assert store.below(BELOW) == {"rows": b"1"}


def test_an_error_of_the_run_goes_first(store, lines):
    with pytest.raises(UserError, match="wrong"):
        train_then(store.fails, store, UserError("wrong"), rows="1")
    assert store.below(BELOW) == {"rows": b"1"}
    with pytest.raises(UserError, match="wrong"):
        train_then(down, store, UserError("wrong"), rows="2")
    assert "no route to host" in lines[-1]


def test_a_run_is_not_begun_among_other_things(store):
    store.put("bucket/runs/a/photos/1.png")
    with pytest.raises(ArgumentError, match="there are 1 objects and no run") as refused:
        train(rows="1")
    assert refused.value.name == "workdir"
    assert [*store.below("bucket/runs/a")] == ["photos/1.png"]


def test_a_bucket_that_cannot_be_reached_is_no_empty_one(store):
    store.fails = down
    with pytest.raises(BucketError, match=r"gs://bucket/runs/a cannot be read \(no route"):
        train(rows="1")


def test_two_machines_do_not_train_one_run(store, elsewhere, monkeypatch):
    for name in ("BEAT", "LOOKING"):
        monkeypatch.setattr(claim, name, 0.02)
    with syncing.trained(RUN, 60):
        elsewhere("second")
        with pytest.raises(ArgumentError, match=r"process .* on first trains there") as raised:
            train(rows="2")
        assert raised.value.name == "workdir"
        elsewhere("first")
    elsewhere("second")
    train(rows="2")
    with killed() as place:
        write(place, rows="3")
    elsewhere("third")
    told = json.loads(store.objects[CLAIM])
    told["renewed"] -= claim.STALE
    store.put(CLAIM, json.dumps(told).encode())
    assert read(train()) == {"rows": "2"}


def test_a_machine_that_was_lost_is_waited_for_until_its_claim_is_stale(
    store, elsewhere, monkeypatch, lines
):
    """The same command, given again at once on a new machine, goes on."""
    train(rows="2")
    with killed() as place:
        write(place, rows="3")
    for name, seconds in (("LOOKING", 0.02), ("BEAT", 0.05), ("STALE", 0.5)):
        monkeypatch.setattr(claim, name, seconds)
    elsewhere("second")
    asked = []

    def fails(verb, path):  # now and then
        if verb == "read" and path.endswith(claim.NAME):
            asked.append(path)
            if len(asked) == 3:
                raise OSError("no route to the host")

    store.fails = fails
    told = json.loads(store.objects[CLAIM])
    told["renewed"] = time.time()
    store.put(CLAIM, json.dumps(told).encode())
    began = time.monotonic()
    assert read(train()) == {"rows": "2"}
    assert time.monotonic() - began > 0.4
    waits = "on first has not said that it has ended; waiting for a sign of life"
    assert any(waits in line for line in lines)


def test_two_that_claim_at_one_moment(store, monkeypatch):
    """The second one overwrites the claim of the first, which sees that before it begins."""

    def other(seconds):
        store.put(CLAIM, json.dumps({"token": "other", "who": "process 1 on other"}).encode())

    monkeypatch.setattr(claim.time, "sleep", other)
    with pytest.raises(ArgumentError, match="process 1 on other trains there"):
        train()


def test_a_claim_that_was_taken_over_stops_the_run(store, elsewhere, lines, monkeypatch):
    """A machine that slept for long has lost the run: it copies nothing, and ends."""
    monkeypatch.setattr(claim, "BEAT", 0.02)
    place = parse(RUN).local

    def sleep_too_long():
        with syncing.trained(RUN, 60):
            claims.claim(place)
            claims.check_held(place)
            store.put(CLAIM, json.dumps({"token": "x", "who": "process 9 on second"}).encode())
            write(place, rows="1")
            wait_for(lambda: syncing.lost(place))
            claims.check_held(place)

    with pytest.raises(Gone, match=r"process 9 on second trains there by now.*training stopped"):
        sleep_too_long()
    claims.release(place)
    assert store.below(BELOW) == {}
    assert json.loads(store.objects[CLAIM])["token"] == "x"
    assert lines[-1].endswith(f"what could not be copied is in {place}")


def test_a_run_that_was_killed_goes_on_where_this_machine_was(store, elsewhere):
    """What had not been copied is not lost, nor overwritten by the older copy in the bucket."""
    train(rows="1", old="x")
    with killed() as place:
        write(place, rows="12", more="x")
        (object_store.Path(place) / "old").unlink()
    assert store.below(BELOW) == {"rows": b"1", "old": b"x"}
    with syncing.trained(RUN, 60) as again:
        assert again == place
        assert read(place)["rows"] == "12"
    assert store.below(BELOW)["rows"] == b"12"
    assert store.below(BELOW)["more"] == b"x"


def test_a_run_that_went_on_elsewhere_replaces_what_is_here(store, elsewhere, lines):
    train(rows="1")
    with killed() as place:
        write(place, rows="12345", state="5")
    told = json.loads(store.objects[CLAIM])
    store.put(CLAIM, json.dumps(told | {"renewed": 0}).encode())
    elsewhere("second")
    train(rows="123")
    elsewhere("first")
    assert read(train()) == {"rows": "123"}
    assert any("never copied is removed (1 in all)" in line for line in lines)


def test_a_copy_that_was_removed_is_fetched(store, elsewhere):
    place = train(rows="1")
    object_store.Path(place, "rows").unlink()
    os.rmdir(place)
    assert read(train()) == {"rows": "1"}


def test_a_run_that_was_removed_from_the_bucket_does_not_come_back(store, elsewhere):
    train(rows="1")
    store.objects.clear()
    assert read(train()) == {}


def test_reading_a_run_copies_back_what_was_written_and_no_state(store, elsewhere):
    train(config="1")
    elsewhere("second")
    with syncing.used(RUN) as place:
        write(place, scores="2")
        for name in ("checkpoints/9/state", "checkpoints/9/checksums.json"):
            file = object_store.Path(place) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("x")
        (object_store.Path(place) / "config").unlink()
    assert store.below(BELOW) == {"config": b"1", "scores": b"2"}
    assert sorted(os.listdir(syncing.fetched(RUN))) == ["config", "scores"]
    with pytest.raises(UserError, match="there is nothing there"), syncing.used("gs://bucket/no"):
        pass
    with syncing.used("gs://bucket/new", needed=False) as place:
        object_store.Path(place).write_text("a file")
    assert store.objects["bucket/new"] == b"a file"


def test_reading_changes_nothing_under_a_run_that_is_trained_here(store, elsewhere):
    with syncing.trained(RUN, 60) as place:
        write(place, rows="1")
        store.put(f"{BELOW}/removed")
        assert syncing.fetched(RUN) == place
        assert read(place) == {"rows": "1"}
    syncing.fetched(RUN)
    assert read(place) == {"rows": "1", "removed": "x"}


def test_who_reads_while_a_run_is_fetched_waits_and_changes_nothing(store, elsewhere, monkeypatch):
    train(rows="1")
    elsewhere("second")
    download, listing = Bucket.download, Bucket.listing
    reader, found, changed = [], [], threading.Event()

    def begun(bucket, *arguments):
        if not reader:
            reader.append(threading.Thread(target=lambda: found.append(syncing.fetched(RUN))))
            reader[0].start()
        return download(bucket, *arguments)

    def listed(bucket):
        if threading.current_thread() in reader:
            changed.wait(60)
        return listing(bucket)

    monkeypatch.setattr(Bucket, "download", begun)
    monkeypatch.setattr(Bucket, "listing", listed)
    with syncing.trained(RUN, 60) as place:
        write(place, state="5")  # a state that no bucket has yet
        store.put(f"{BELOW}/removed")
        changed.set()
        reader[0].join(60)
        assert found == [place]
        assert read(place) == {"rows": "1", "state": "5"}


def test_the_claim_is_kept_alive(store, monkeypatch):
    monkeypatch.setattr(claim, "BEAT", 0.02)
    with syncing.trained(RUN, 60):
        before = json.loads(store.objects[CLAIM])["renewed"]
        wait_for(lambda: json.loads(store.objects[CLAIM])["renewed"] > before)
    assert not [thread for thread in threading.enumerate() if thread.name in ("claim", "bucket")]
    assert time.time() - json.loads(store.objects[CLAIM])["renewed"] < claim.STALE


def test_an_interval_below_a_second_is_refused(store):
    with pytest.raises(UserError, match=r"config\.run\.sync_seconds=0"), syncing.trained(RUN, 0):
        pass
    assert not parse(RUN).local.exists()

"""A copy of a bucket on the disk: what is fetched, and in which order files are copied back."""

import errno
import json
import os
import shutil

import pytest

from gan_jax.buckets import mirror as mirrors
from gan_jax.buckets import syncing
from gan_jax.buckets.addresses import is_address, parse
from gan_jax.buckets.bucket import BucketError
from gan_jax.buckets.mirror import Mirror
from gan_jax.core import saved_states
from gan_jax.errors import UserError
from tests.helpers import object_store

RUN = "gs://bucket/runs/a"
SEALED = saved_states.SUMS


@pytest.fixture
def store(monkeypatch, tmp_path):
    return object_store.installed(monkeypatch, tmp_path / "cache")


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """Goes to another machine, whose cache is empty."""
    number = iter(range(1000))
    return lambda: monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path / f"cache{next(number)}"))


def save(folder, step: int, best: int = 0) -> None:
    """What a run writes up to a step: rows, the best state, and a state that names the best."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps({"step": n}) for n in range(step + 1)]
    (folder / "metrics.jsonl").write_text("\n".join(rows))
    for place in (f"best/stage0/{best}", f"checkpoints/{step}"):
        if (folder / place).exists():
            continue
        for part in ("state/d/array", "state/manifest", "meta/metadata"):
            (folder / place / part).parent.mkdir(parents=True, exist_ok=True)
            (folder / place / part).write_text(json.dumps({"best": best, "part": part}))
        sums = saved_states.checksums(folder / place)
        (folder / place / SEALED).write_text(json.dumps(sums))


def check_resumes(folder) -> list[int]:
    """A run can go on from every state of a folder; the steps of the states."""
    states = saved_states.states_in(folder / "checkpoints")
    best = saved_states.best_states_in(folder / "best")
    for path in (*states.values(), *best.values()):
        saved_states.verify(path)
    for step, path in states.items():
        assert f'"step": {step}}}' in (folder / "metrics.jsonl").read_text()
        assert (0, saved_states.read_meta(path)["best"]) in best
    return sorted(states)


def test_whenever_copying_is_cut_off_the_bucket_holds_a_run_that_goes_on(store, elsewhere):
    """After each single change of the bucket a fresh machine gets whole states and nothing else."""
    mirror = Mirror(parse(RUN))
    mirror.fetch()
    for step in (1, 2, 3):
        save(mirror.local, step, best=2 if step > 1 else 1)
        for old in range(step - 1):
            shutil.rmtree(mirror.local / f"checkpoints/{old}", ignore_errors=True)
        if step == 3:
            shutil.rmtree(mirror.local / "best/stage0/1")
        mirror.push()
    history, found = store.history, []
    assert len(history) > 30
    for objects in history:
        store.objects = objects
        elsewhere()
        copy = Mirror(parse(RUN))
        copy.fetch()
        found.append(max(check_resumes(copy.local), default=0))
    assert found == sorted(found), "a newer state was lost again"
    assert found[0] == 0
    assert found[-1] == 3
    last = [path.removeprefix("bucket/runs/a/") for _, path in store.done]
    assert last.index("checkpoints/3/checksums.json") > last.index("checkpoints/3/state/manifest")
    assert not any("stage0/1/" in name for name in store.objects)


def test_states_that_go_while_they_are_copied_are_copied_whole(store, elsewhere):
    """The run goes on saving: what was set aside stays, and nothing is removed too early."""
    mirror = Mirror(parse(RUN))
    mirror.fetch()
    save(mirror.local, 1, 1)

    def removed(verb, path):
        if verb == "upload" and "checkpoints/1" in path:
            shutil.rmtree(mirror.local / "checkpoints/1", ignore_errors=True)

    store.fails = removed
    mirror.push()
    store.fails = lambda verb, path: None
    elsewhere()
    copy = Mirror(parse(RUN))
    copy.fetch()
    assert check_resumes(copy.local) == [1]


def test_a_state_that_has_changed_is_copied_anew_as_a_whole(store, elsewhere):
    mirror = Mirror(parse(RUN))
    mirror.fetch()
    save(mirror.local, 1, 1)
    mirror.push()
    os.utime(mirror.local / "checkpoints/1/state/manifest")
    store.done.clear()
    mirror.push()
    names = [(verb, path.rpartition("checkpoints/1/")[2]) for verb, path in store.done]
    assert names[0] == ("remove", SEALED)
    assert names[-1] == ("upload", SEALED)
    assert len(names) == 5
    assert mirror.push() == 0


def test_a_run_beside_a_run_ends_when_its_states_are_there(store):
    """A classifier with a summary and without a state could not be read, nor trained again."""
    mirror = Mirror(parse(RUN))
    mirror.fetch()
    save(mirror.local, 1, 1)
    save(mirror.local / "classifier", 5, 5)
    (mirror.local / "classifier/summary.json").write_text("{}")
    mirror.push()
    names = [path.removeprefix("bucket/runs/a/") for _, path in store.done]
    assert names[-1] == "classifier/summary.json"
    seals = [name for name in names if name.endswith(SEALED)]
    assert seals[-2:] == [f"classifier/checkpoints/5/{SEALED}", f"checkpoints/1/{SEALED}"]


def test_what_a_mode_trains_beside_a_run_is_copied_with_its_states(store):
    """The states of the run itself are left to whoever trains it."""
    mirror = Mirror(parse(RUN))
    save(mirror.local, 1, 1)
    save(mirror.local / "classifier", 5, 5)
    mirror.push(everything=False)
    names = store.below("bucket/runs/a")
    assert f"classifier/checkpoints/5/{SEALED}" in names
    assert not any(name.startswith(("checkpoints/", "best/")) for name in names)


def test_a_copy_that_is_lost_empties_no_bucket(store, monkeypatch):
    mirror = Mirror(parse(RUN))
    save(mirror.local, 1, 1)
    mirror.push()
    names = set(store.below("bucket/runs/a"))
    with monkeypatch.context() as patch:
        listed = os.scandir

        def failing(place):
            if str(place).endswith("checkpoints"):
                raise OSError(errno.EIO, "Input/output error")
            return listed(place)

        patch.setattr(os, "scandir", failing)
        with pytest.raises(BucketError, match="Input/output error"):
            mirror.push()
    shutil.rmtree(mirror.local)
    with pytest.raises(BucketError, match="is not there any more; nothing is removed"):
        mirror.push()
    assert set(store.below("bucket/runs/a")) == names


def test_a_checkpoint_goes_when_another_one_is_there_that_was_not_damaged(store):
    mirror = Mirror(parse(RUN))
    save(mirror.local, 1, 1)
    mirror.push()
    shutil.rmtree(mirror.local / "checkpoints/1")
    mirror.push()
    assert f"checkpoints/1/{SEALED}" in store.below("bucket/runs/a")
    save(mirror.local, 2, 1)
    save(mirror.local, 3, 1)
    mirror.push()
    (mirror.local / "checkpoints/3").rename(mirror.local / "damaged-3")
    mirror.push()
    seals = {name for name in store.below("bucket/runs/a") if name.endswith(SEALED)}
    assert {f"checkpoints/2/{SEALED}", f"checkpoints/3/{SEALED}"} < seals
    assert f"checkpoints/1/{SEALED}" not in seals


def test_nothing_is_copied_once_that_is_not_allowed_any_more(store):
    mirror, asked = Mirror(parse(RUN)), []
    save(mirror.local, 1, 1)

    def refused() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise BucketError("taken over")

    with pytest.raises(BucketError, match="taken over"):
        mirror.push(check=refused)
    assert sorted(store.below("bucket/runs/a")) == ["metrics.jsonl"]


def test_what_was_removed_from_the_bucket_is_copied_again(store):
    mirror = Mirror(parse(RUN))
    mirror.fetch()
    save(mirror.local, 1, 1)
    mirror.push()
    names = set(store.below("bucket/runs/a"))
    store.objects.clear()
    again = Mirror(parse(RUN))
    again.fetch(newest=True)
    again.push()
    assert set(store.below("bucket/runs/a")) == names


def test_work_in_progress_is_not_copied(store):
    mirror = Mirror(parse(RUN))
    mirror.fetch()
    save(mirror.local, 1, 1)
    kept = {name for name, _ in ((p.relative_to(mirror.local).as_posix(), p)
            for p in mirror.local.rglob("*") if p.is_file())}  # fmt: skip
    for name in (
        ".lock",
        ".lease",
        "classifier/.lock",
        ".config.json.0123456789abcdef.tmp",
        "checkpoints/2.unfinished-1/state/manifest",
        "checkpoints/0.removed/state/manifest",
        "best/stage0/3.orbax-checkpoint-tmp-7/x",
    ):
        (mirror.local / name).parent.mkdir(parents=True, exist_ok=True)
        (mirror.local / name).write_text("x")
    (mirror.local / "link").symlink_to(mirror.local / "metrics.jsonl")
    mirror.push()
    assert set(store.below("bucket/runs/a")) == kept


def test_only_what_was_copied_before_is_removed(store):
    """What another machine has added meanwhile, such as samples, stays."""
    store.put("bucket/runs/a/old.txt")
    mirror = Mirror(parse(RUN))
    mirror.fetch()
    store.put("bucket/runs/a/sampled/0.png")
    (mirror.local / "old.txt").unlink()
    mirror.push()
    assert set(store.below("bucket/runs/a")) == {"sampled/0.png"}


def test_only_what_has_changed_is_fetched(store):
    for name in ("a.png", "b/c.png", "d.png"):
        store.put(f"bucket/images/{name}", name.encode())
    store.put("bucket/images2/e.png")
    fetched = []
    store.fails = lambda verb, path: fetched.append(path) if verb == "download" else None
    folder = syncing.fetched("s3://bucket/images")
    assert sorted(os.listdir(folder)) == ["a.png", "b", "d.png"]
    assert len(fetched) == 3
    fetched.clear()
    assert syncing.fetched("s3://bucket/images/") == folder
    assert fetched == []
    store.put("bucket/images/a.png", b"A.png")  # of the same size
    del store.objects["bucket/images/b/c.png"]
    assert syncing.fetched("s3://bucket/images") == folder
    assert fetched == ["bucket/images/a.png"]
    assert sorted(os.listdir(folder)) == ["a.png", "d.png"]
    assert (mirrors.Path(folder) / "a.png").read_bytes() == b"A.png"


def test_some_files_and_folders_alone(store):
    for name in ("a.png", "b/c.png", "b2.png", "d/e.png"):
        store.put(f"bucket/images/{name}", name.encode())
    mirror = Mirror(parse("gs://bucket/images"))
    mirror.fetch(only=["b", "none"])
    assert [p.name for p in mirror.local.iterdir()] == ["b"]
    mirror.fetch()
    del store.objects["bucket/images/b/c.png"], store.objects["bucket/images/d/e.png"]
    mirror.fetch(only=["b", "a.png"])
    assert sorted(p.name for p in mirror.local.rglob("*.png")) == ["a.png", "b2.png", "e.png"]


def test_a_single_object_keeps_its_ending(store):
    store.put("bucket/my images.zip", b"zip")
    file = syncing.fetched("gs://bucket/my images.zip")
    assert file.endswith("/my_images.zip")
    assert mirrors.Path(file).read_bytes() == b"zip"
    assert syncing.fetched("data/images.zip") == "data/images.zip"


@pytest.mark.parametrize("letters", [80, 85, 86, 150])
def test_a_long_name_is_shortened_to_what_a_disk_takes(store, letters):
    """A Chinese letter is three bytes, and a name has 255 at most."""
    place = f"gs://bucket/{'画' * letters}.zip"
    store.put(place.removeprefix("gs://"), b"zip")
    file = mirrors.Path(syncing.fetched(place))
    assert file.read_bytes() == b"zip"
    assert file.name == f"{'画' * min(letters, 83)}.zip"


def test_fetching_goes_on_where_it_was_cut_off(store):
    for n in range(20):
        store.put(f"bucket/images/{n}", b"x" * n)
    count = []

    def cut_off(verb, path):
        if verb == "download":
            count.append(path)
            if len(count) > 10:
                raise OSError("the connection was closed")

    store.fails = cut_off
    with pytest.raises(BucketError, match=r"gs://bucket/images cannot be read: .*was closed"):
        syncing.fetched("gs://bucket/images")
    count.clear()
    store.fails = lambda verb, path: count.append(path) if verb == "download" else None
    assert len(os.listdir(syncing.fetched("gs://bucket/images"))) == 20
    assert len(count) == 10


def test_an_object_that_goes_while_it_is_fetched_is_left_out(store):
    store.put("bucket/runs/a/config.json")
    store.put("bucket/runs/a/old")

    def gone(verb, path):
        if verb == "download":
            store.objects.pop("bucket/runs/a/old", None)

    store.fails = gone
    assert os.listdir(syncing.fetched(RUN)) == ["config.json"]


@pytest.mark.parametrize("name", ["../x", "a/../../x", "a//b", "/etc/passwd", "./x", "a\0b"])
def test_names_that_would_leave_the_folder_are_refused(store, name, tmp_path):
    store.put(f"bucket/runs/a/{name}")
    with pytest.raises(UserError, match="cannot be copied, because its name"):
        syncing.fetched(RUN)
    assert not [path for path in tmp_path.rglob("*") if path.name in ("x", "b", "passwd")]


def test_what_an_address_is(tmp_path):
    assert is_address("gs://b/x")
    assert is_address(mirrors.Path("s3://b/x"))
    # pathlib makes one slash of two, and a path may be written down as text again
    for place in (mirrors.Path("s3://b/x"), "s3:/b/x", "s3://b/x/"):
        assert is_address(place)
        assert str(parse(place)) == "s3://b/x"
    for place in ("runs/gs", "http://b/x", "", "/gs:/b", tmp_path):
        assert not is_address(place)
    for place in ("gs://", "s3:/", "gs://b//x", "gs://b/../x", "s3:///x/."):
        with pytest.raises(UserError, match="write an address as"):
            parse(place)


def test_nothing_there_is_one_line(store):
    with pytest.raises(UserError, match=r"^gs://bucket/none: there is nothing there$"):
        syncing.fetched("gs://bucket/none")


@pytest.mark.parametrize(
    ("place", "how"), [("gs://b/x", "gcloud auth"), ("s3://b/x", "AWS_ACCESS_KEY_ID")]
)
def test_missing_credentials_come_with_the_places_for_them(store, place, how):
    def fails(verb, path):
        raise RuntimeError("Unable to locate credentials")

    store.fails = fails
    with pytest.raises(UserError, match=f"Unable to locate credentials.*{how}") as found:
        syncing.fetched(place)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(("place", "extra"), [("gs://b/x", "gcs"), ("s3://b/x", "s3")])
def test_a_missing_package_is_named(monkeypatch, place, extra):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr("gan_jax.buckets.bucket.importlib.import_module", missing)
    with pytest.raises(UserError, match=rf"pip install 'gan_jax\[{extra}\]'"):
        syncing.fetched(place)

"""Files are written whole, by nobody else, and never through a link; only files are read."""

import contextlib
import errno
import json
import os
import stat
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from gan_jax import files
from gan_jax.core.writer import Writer
from gan_jax.errors import UserError, one_line, short
from gan_jax.run import claims
from tests.helpers import hostile

NOBODY = 65534


@pytest.fixture
def nobody():
    """A process without privileges: root may read everything, so it is nobody meanwhile."""
    if os.getuid() == 0:
        os.seteuid(NOBODY)
    yield
    if os.getuid() == 0:
        os.seteuid(0)


def left(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------- writing


def test_nothing_is_written_through_a_planted_link(tmp_path):
    """Whatever name a temporary file could have been expected to have."""
    (tmp_path / "victim").write_text("mine")
    for name in ("config.json.tmp", f".config.json.{os.getpid()}.tmp", ".config.json.tmp"):
        (tmp_path / name).symlink_to("victim")
    files.write_json(tmp_path / "config.json", {"a": 1})
    (tmp_path / "summary.json").symlink_to("victim")
    files.write_json(tmp_path / "summary.json", {"a": 2})
    assert (tmp_path / "victim").read_text() == "mine"
    assert not (tmp_path / "summary.json").is_symlink()
    assert json.loads((tmp_path / "summary.json").read_text()) == {"a": 2}


def test_a_name_that_exists_is_not_used(tmp_path, monkeypatch):
    """Not even where somebody could guess it."""
    (tmp_path / "victim").write_text("mine")
    monkeypatch.setattr(files.secrets, "token_hex", lambda count: "0" * 16)
    (tmp_path / ".a.0000000000000000.tmp").symlink_to("victim")
    with pytest.raises(FileExistsError):
        files.write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "victim").read_text() == "mine"


@pytest.mark.parametrize(("mask", "mode"), [(0o000, 0o644), (0o022, 0o644), (0o077, 0o600)])
def test_only_the_owner_may_write_to_a_file(tmp_path, mask, mode):
    old = os.umask(mask)
    try:
        files.write_bytes(tmp_path / "a", b"new")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_a_failure_leaves_the_old_file_alone(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("old")

    def fail(*args):
        raise OSError(28, "No space left on device")

    with pytest.raises(RuntimeError), files.replacing(tmp_path / "a"):
        raise RuntimeError
    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(OSError, match="No space"):
                files.write_bytes(tmp_path / "a", b"new")
    assert left(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_the_content_reaches_the_disk_before_its_name_and_then_the_name(tmp_path, monkeypatch):
    seen = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda n: (seen.append(stat.S_ISDIR(os.fstat(n).st_mode)), sync(n))
    )
    monkeypatch.setattr(os, "replace", lambda *names: (seen.append("named"), replace(*names)))
    files.write_bytes(tmp_path / "a", b"new")
    assert seen == [False, "named", True]


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path):
    files.write_bytes(tmp_path / "a", b"1")
    for name in (".a.0123456789abcdef.tmp", ".a.4711.tmp"):
        (tmp_path / name).write_text("half")
    kept = [".a.note.tmp", ".b.0123456789abcdef.tmp", "a.0123456789abcdef.tmp"]
    for name in kept:
        (tmp_path / name).write_text("another's")
    files.write_bytes(tmp_path / "a", b"2")
    assert left(tmp_path) == sorted([*kept, "a"])
    files.write_bytes(tmp_path / "b", b"3")
    assert ".b.0123456789abcdef.tmp" not in left(tmp_path)


def test_a_large_folder_is_not_listed_again_for_every_file(tmp_path, monkeypatch):
    """Else writing many images would take a time that grows with their number squared."""
    monkeypatch.setattr(files, "_LARGE_FOLDER", 3)
    listed, list_folder = [], os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: listed.append(1) or list_folder(folder))
    (tmp_path / ".9.0123456789abcdef.tmp").write_text("half")
    for number in range(9):
        files.write_bytes(tmp_path / str(number), b"new")
    assert len(listed) == 3
    files.write_bytes(tmp_path / "9", b"new")
    assert [name for name in left(tmp_path) if name.endswith(".tmp")] == []
    (tmp_path / ".0.0123456789abcdef.tmp").write_text("half")
    os.utime(tmp_path, (time.time(), time.time() + 1))  # clocks of file systems are coarse
    files.write_bytes(tmp_path / "0", b"new")
    assert [name for name in left(tmp_path) if name.endswith(".tmp")] == []


def test_a_file_that_is_being_written_is_not_taken_for_an_abandoned_one(tmp_path):
    with files.replacing(tmp_path / "a") as mine:
        mine.write_text("mine")
        os.utime(tmp_path, (time.time(), time.time() + 1))  # as if another process had written
        files.write_bytes(tmp_path / "a", b"theirs")
        assert mine.read_text() == "mine"
    assert (tmp_path / "a").read_text() == "mine"
    assert left(tmp_path) == ["a"]


def test_a_disk_that_says_nothing_of_a_new_file_costs_no_second_one(tmp_path, monkeypatch):
    """Its silence would be taken for the work of another process, again and again."""
    silent, made, create = {"stat", "lstat", "fstat"}, [], os.open

    def noted(name, flags, *mode):
        made.extend([str(name)] if flags & os.O_EXCL else [])
        assert len(made) < 9
        return create(name, flags, *mode)

    def refused(*args, **kwargs):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", noted)
        for name in silent:
            patch.setattr(os, name, refused)
        with contextlib.suppress(OSError):
            files.write_bytes(tmp_path / "a", b"new")
    assert len({*made}) == len(made)
    assert [name for name in os.listdir(tmp_path) if name.endswith(".tmp")] == []


def test_long_names_leave_room_for_a_temporary_one(tmp_path):
    for name in ("x" * 255, "ü" * 127):
        files.write_bytes(tmp_path / name, b"new")
        assert (tmp_path / name).read_bytes() == b"new"


PLANTED = ["link to nothing", "pipe", "socket", "endless device"]


@pytest.mark.parametrize("kind", PLANTED)
def test_a_run_does_not_lock_or_log_through_what_was_planted(tmp_path, kind):
    hostile.SPECIAL[kind](tmp_path / ".lock")
    with pytest.raises(UserError, match=r"workdir=.* cannot be written \(\.lock: it is "):
        claims.claim(tmp_path)
    hostile.SPECIAL[kind](tmp_path / "metrics.jsonl")
    with pytest.raises(UserError, match=r"metrics\.jsonl cannot be (written|read): it is "):
        Writer(tmp_path, 0, save_grid=lambda path, images: images)
    assert not (tmp_path / "nowhere").exists()


def test_the_target_of_a_planted_link_stays_as_it_is(tmp_path):
    (tmp_path / "victim").write_text("mine")
    for name in (".lock", "metrics.jsonl"):
        (tmp_path / name).symlink_to("victim")
    with pytest.raises(UserError, match="it is a link"):
        claims.claim(tmp_path)
    Writer(tmp_path, 0, save_grid=lambda path, images: images).close()
    assert (tmp_path / "victim").read_text() == "mine"


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("kind", sorted({*hostile.SPECIAL} - {"no permission"}))
def test_only_regular_files_are_opened(tmp_path, kind):
    hostile.SPECIAL[kind](tmp_path / "a")
    with pytest.raises(OSError, match=r".") as caught:
        files.opened(tmp_path / "a")
    assert files.reason(caught.value).isprintable()


@pytest.fixture
def forbidden():
    """A file that nobody may read, in folders that everybody may pass through."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        hostile.SPECIAL["no permission"](Path(place, "a"))
        yield Path(place, "a")


def test_a_file_without_permission_is_not_opened(forbidden, nobody):
    with pytest.raises(PermissionError) as caught:
        files.opened(forbidden)
    assert files.reason(caught.value) == "Permission denied"


def test_a_larger_file_than_expected_is_not_read(tmp_path):
    (tmp_path / "a").write_bytes(bytes(100))
    assert files.read_bytes(tmp_path / "a", 100) == bytes(100)
    with pytest.raises(OSError, match="it has 100 bytes, and at most 99 are accepted"):
        files.read_bytes(tmp_path / "a", 99)
    with pytest.raises(OSError, match="zero byte"):
        files.read_bytes("a\0b")


def test_json_is_bounded(monkeypatch):
    assert files.parse_json('{"a": [1, 2]}') == {"a": [1, 2]}
    assert files.parse_json('\ufeff{"a": 1}'.encode()) == {"a": 1}
    with pytest.raises(ValueError, match="nested too deeply"):
        files.parse_json("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        files.parse_json('{"a": ' * 100 + "1" + "}" * 100)
    assert files.parse_json("[" * 99 + "]" * 99)
    monkeypatch.setattr(files, "MOST_VALUES", 3)
    assert files.parse_json("[1, 2, 3]") == [1, 2, 3]
    with pytest.raises(ValueError, match="more than 3 values"):
        files.parse_json(b"[1, 2, 3, 4]")


def test_messages_are_one_printable_line():
    name = "a\nb\x1b[2J\ud800ü"
    assert str(UserError(f"{name}: wrong")) == "a b [2J?ü: wrong"
    assert one_line("plain ü…") == "plain ü…"
    assert short("x" * 5000) == "x" * 100 + "…" + "x" * 100
    assert short(np.float32(2)) == "2.0"

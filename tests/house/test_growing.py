"""What a run writes beside its states waits for a disk that fails, and is written later."""

import errno
import io
import os

import pytest

from gan_jax import files, growing, log, patience
from gan_jax.core.writer import Writer
from gan_jax.growing import Growing
from gan_jax.modes import streams
from tests.helpers.written import PIXELS, events, rows, save_grid


class Disk:
    """Files of the folder `below` take `space` more bytes (None: all), then ENOSPC."""

    def __init__(self, monkeypatch, below):
        self.below, self.space, self._write = str(below), None, os.write
        real = growing.open_own

        def opened(path, *args, **kwargs):
            file = real(path, *args, **kwargs)
            return _Limited(file, self) if str(path).startswith(self.below) else file

        monkeypatch.setattr(growing, "open_own", opened)


class _Limited(io.RawIOBase):
    def __init__(self, file, disk):
        self._file, self._disk = file, disk

    def write(self, data):
        space = self._disk.space
        if space is None:
            return self._file.write(data)
        if not space:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._disk.space = max(space - len(data), 0)
        return self._file.write(data[:space])

    def fileno(self):
        return self._file.fileno()

    def close(self):
        self._file.close()


def test_entries_wait_in_order_and_without_a_gap(tmp_path, monkeypatch):
    """The disk is full in the middle of an entry: each byte is there once in the end."""
    disk, said = Disk(monkeypatch, tmp_path), []
    file = Growing(tmp_path / "rows", said.append)
    file.write(b"one\n")
    disk.space = 2
    file.write(b"two\n")
    file.write(b"three\n")
    assert (tmp_path / "rows").read_bytes() == b"one\ntw"
    disk.space = None
    file.write(b"four\n")
    file.close()
    assert (tmp_path / "rows").read_bytes() == b"one\ntwo\nthree\nfour\n"
    assert [line.split(": ")[0] for line in said] == [
        f"{tmp_path / 'rows'} cannot be written (No space left on device)",
        f"{tmp_path / 'rows'} is written again, and nothing is missing in it",
    ]


def test_what_waits_is_bounded(tmp_path, monkeypatch):
    disk, said = Disk(monkeypatch, tmp_path), []
    file = Growing(tmp_path / "rows", said.append, most=20)
    disk.space = 0
    for number in range(9):
        file.write(b"row %d\n" % number)
    disk.space = None
    file.close()
    assert (tmp_path / "rows").read_bytes() == b"row 0\nrow 7\nrow 8\n"
    assert "6 old entries were given up" in said[-1]


def test_what_is_lost_for_good_is_said(tmp_path, monkeypatch):
    disk, said = Disk(monkeypatch, tmp_path), []
    disk.space = 0
    file = Growing(tmp_path / "rows", said.append)
    file.write(b"row\n")
    file.close()
    assert len(said) == 2
    assert "are lost" in said[1]


def test_a_file_that_is_gone_is_made_anew_with_a_word(tmp_path):
    said = []
    file = Growing(tmp_path / "rows", said.append)
    file.write(b"one\n")
    (tmp_path / "rows").unlink()
    file.write(b"two\n")
    assert (tmp_path / "rows").read_bytes() == b"two\n"
    assert said == [f"{tmp_path / 'rows'} is gone or cut off; it goes on from here"]


def test_rows_events_and_grids_outlast_a_full_disk(tmp_path, monkeypatch, lines):
    disk, full = Disk(monkeypatch, tmp_path), []

    def grid(path, images):
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return save_grid(path, images)

    made = Writer(tmp_path, 0, grid)
    for step in range(1, 7):
        if step == 3:
            disk.space = 100
            full.append(True)
        if step == 5:
            disk.space = None
            full.clear()
        made.write_scalars(step, {"loss/gen": step / 2})
        made.write_images(step, {"raw": PIXELS})
        made.flush()
    made.close()
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert events(tmp_path) == {"loss/gen": [(s, s / 2) for s in range(1, 7)]}
    assert sorted(p.name for p in made.samples.iterdir()) == [
        f"{step:06d}_raw.png" for step in range(1, 7)
    ]
    assert len([line for line in lines if "cannot be written" in line]) == 5  # 2 files, 3 grids


def test_lines_of_the_log_wait_too(tmp_path, monkeypatch, lines):
    write, logger = os.write, log.logging.getLogger("gan_jax.test")

    def full(handle, data):
        if len(data) > 30:
            return write(handle, data[:30])
        raise OSError(errno.ENOSPC, "No space left on device")

    with log.kept_in(tmp_path / "log.txt"):
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            logger.info("one, which is too long for this disk")
            logger.info("two")
        logger.info("three")
    text = (tmp_path / "log.txt").read_text()
    assert [line[20:] for line in text.splitlines()] == [
        "one, which is too long for this disk", "two", "three",
    ]  # fmt: skip


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO])
def test_a_passing_error_is_not_noticed(tmp_path, monkeypatch, number):
    monkeypatch.setattr(patience, "PAUSES", (0.0, 0.0))
    errors, opened, replace = [number] * 2, files.opened, os.replace

    def failing(function):
        def call(*args):
            if errors:
                raise OSError(errors.pop(), "passes")
            return function(*args)

        return call

    monkeypatch.setattr(files.os, "replace", failing(replace))
    files.write_bytes(tmp_path / "a", b"content")
    errors += [number] * 2
    monkeypatch.setattr(files, "opened", failing(opened))
    assert files.read_bytes(tmp_path / "a") == b"content"
    errors += [number] * 3
    with pytest.raises(OSError, match="passes"):
        files.read_bytes(tmp_path / "a")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_temporary_files_of_killed_writes_are_swept(tmp_path):
    for name in (".a.png.0123456789abcdef.tmp", ".b.4711.tmp", "notes.tmp"):
        (tmp_path / name).write_text("")
    with files.replacing(tmp_path / "c") as mine:
        files.sweep(tmp_path)
        assert mine.exists(), "it is being written"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c", "notes.tmp"]


def test_a_full_disk_behind_stdout_costs_a_run_the_lines_alone(monkeypatch):
    """Where the output is the product, as of other modes, it is an error."""
    monkeypatch.setattr(streams._Lasting, "may_lose", False)
    handle = os.open("/dev/full", os.O_WRONLY)
    out = streams._Lasting(handle, "w")
    with pytest.raises(OSError, match="No space left"):
        out.write(b"a result")
    streams.lose_lines()
    assert out.write(b"lost") == 4
    assert out.write(b"lost as well") == 12
    out.close()

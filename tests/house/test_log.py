"""The lines that the library prints: where they go, who prints them, and who takes them."""

import contextlib
import errno
import io
import logging
import re
import sys
from types import SimpleNamespace

import pytest

from gan_jax import log

logger = logging.getLogger("gan_jax.somewhere.inside")


def test_bare_messages_go_to_stdout(capsys):
    logger.info("data: 100% of 5 images")
    logger.warning("note: few images")
    logger.debug("not shown")
    assert capsys.readouterr() == ("data: 100% of 5 images\nnote: few images\n", "")


def test_lines_go_to_the_stdout_of_the_moment():
    first, second = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(first):
        logger.info("one")
    with contextlib.redirect_stdout(second):
        logger.info("two")
    assert (first.getvalue(), second.getvalue()) == ("one\n", "two\n")


def test_a_line_is_written_out_at_once():
    """A log file of a run that was killed holds its last line."""
    raw = io.BytesIO()
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BufferedWriter(raw))):
        logger.info("resuming from step 2")
        assert raw.getvalue() == b"resuming from step 2\n"


def test_a_program_without_stdout_goes_on(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", None)
    logger.info("lost")
    assert capsys.readouterr().err == ""


def test_a_full_disk_is_an_error():
    """Of `> log.txt`: what the run says is then lost, and a person has to know it."""

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with contextlib.redirect_stdout(Full()), pytest.raises(OSError, match="No space left"):
        logger.info("a line")


def test_only_the_first_process_of_several_prints(monkeypatch, lines):
    number = 1
    cluster = SimpleNamespace(is_initialized=lambda: True)
    jax = SimpleNamespace(distributed=cluster, process_index=lambda: number)
    monkeypatch.setitem(sys.modules, "jax", jax)
    logger.info("of the second")
    number = 0
    logger.info("of the first")
    assert lines == ["of the first"]


def test_without_a_cluster_no_device_is_asked_for(monkeypatch, lines):
    cluster = SimpleNamespace(is_initialized=lambda: False)
    monkeypatch.setitem(sys.modules, "jax", SimpleNamespace(distributed=cluster))
    logger.info("one")
    monkeypatch.delitem(sys.modules, "jax")
    logger.info("two")
    assert lines == ["one", "two"]


def test_a_prefix_ends_with_its_block(lines):
    with log.indented("  "):
        logger.info("inside")
        with log.indented("> "):
            logger.info("deeper")
    logger.info("outside")
    assert lines == ["  inside", "  > deeper", "outside"]


def test_silence_ends_with_its_block(lines, capsys):
    with log.silenced():
        logger.warning("unheard")
    with pytest.raises(ValueError, match="of the block"), log.silenced():
        raise ValueError("of the block")
    logger.info("heard")
    assert lines == ["heard"]
    assert capsys.readouterr() == ("", "")


def test_the_innermost_receiver_takes_the_lines(lines, capsys):
    found: list[str] = []
    with log.sent_to(found.append), log.indented("  "):
        logger.info("inner")
    logger.info("outer")
    assert (found, lines) == (["  inner"], ["outer"])
    assert capsys.readouterr() == ("", "")


def test_errors_of_a_receiver_reach_the_caller():
    def full(line: str) -> None:
        raise OSError("the list is full")

    with pytest.raises(OSError, match="the list is full"), log.sent_to(full):
        logger.info("one more")


@pytest.fixture
def handlers():
    """The logger of the library, which gets its handlers back when the test ends."""
    top = logging.getLogger("gan_jax")
    kept = list(top.handlers)
    yield top
    top.handlers = kept


def test_an_application_sets_the_format_and_the_handlers(handlers, capsys):
    handlers.handlers[0].setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    try:
        logger.info("with a level")
    finally:
        handlers.handlers[0].setFormatter(None)
    stream = io.StringIO()
    handlers.handlers = [logging.StreamHandler(stream)]
    log.install()
    logger.info("elsewhere")
    assert capsys.readouterr() == ("INFO with a level\n", "")
    assert stream.getvalue() == "elsewhere\n"


def test_the_handler_is_installed_once(handlers, capsys):
    log.install()
    logger.info("once")
    assert capsys.readouterr().out == "once\n"


def test_lines_are_kept_in_a_file_with_their_dates(tmp_path, capsys):
    """Also those that only the file gets, and those from before it could be made."""
    path, ready = tmp_path / "log.txt", []
    with log.kept_in(path, lambda: bool(ready)):
        logger.info("data: digits")
        with log.indented("  "):
            logger.debug("epoch 0.50 · step 1/2")
        assert not path.exists()
        ready.append(True)
        logger.warning("note: few images")
    logger.info("after it")
    lines = path.read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line) for line in lines)
    assert [line[20:] for line in lines] == [
        "data: digits",
        "  epoch 0.50 · step 1/2",
        "note: few images",
    ]
    assert "step 1/2" not in capsys.readouterr().out


def test_a_name_that_is_no_text_is_written_with_its_bytes(tmp_path):
    """Given to the handlers themselves: what a test logs, pytest sends on as text."""
    record = logging.makeLogRecord({"msg": "data: folder \udc80"})
    kept = log._FileHandler(tmp_path / "log.txt", lambda: True)
    kept.emit(record)
    kept.close()
    assert (tmp_path / "log.txt").read_text().endswith("data: folder \\udc80\n")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        log.LineHandler().emit(record)
    assert out.getvalue() == "data: folder \\udc80\n"


def test_a_file_that_cannot_be_written_costs_its_lines_alone(tmp_path, capsys):
    with log.kept_in(tmp_path / "missing" / "log.txt"):
        logger.info("goes on")
    assert capsys.readouterr() == ("goes on\n", "")

"""A console that reads well in a log file, and a bar on a terminal."""

import contextlib
import io
import logging
import math
import sys
import time
from types import SimpleNamespace

import pytest

from gan_jax.core import console as console_file
from gan_jax.core.console import Console, ProgressBar, brief, clock
from gan_jax.core.recorder import Recorder
from gan_jax.core.system import Stage


@pytest.fixture
def now(monkeypatch):
    """A clock that moves when told: `now[0] += seconds`."""
    time_ = [100.0]
    monkeypatch.setattr(console_file.time, "perf_counter", lambda: time_[0])
    assert time.perf_counter() == 100.0
    return time_


SCALARS = {"loss/gen": 1.25, "loss/disc": 0.5, "rate/gen": 2e-4, "grad_norm/gen": 9.0}
LINE = "gen 1.2500 · disc 0.5000 · lr gen 2.00e-04 · 128 img/s · ETA 0:40"


def test_plain_lines_when_the_output_is_a_file(now, capsys):
    console = Console(10, 100)
    now[0] += 5
    values = SCALARS | console.tick(20, 640)
    console.line(1.5, 20, values)
    console.close()
    assert capsys.readouterr() == (f"epoch 1.50 · step 20/100 · {LINE}\n", "")


def test_neither_compilation_nor_pauses_count(now):
    """10 steps in 5 seconds, however long evaluation takes in between."""
    console = Console(0, 100)
    now[0] += 60
    console.restart(1)  # the first step compiles
    assert console.tick(1, 0) == {}  # nothing was timed yet
    last = 1
    for step in (11, 21, 31):
        now[0] += 2
        with console.pause():
            now[0] += 1000
        now[0] += 3
        with console.pause():
            now[0] += 500
        found = console.tick(step, 64 * (step - last))
        last = step
        assert found["time/eta_seconds"] == pytest.approx(0.5 * (100 - step))
        assert found["time/images_per_second"] == pytest.approx(128)
        assert found["time/steps_per_second"] == pytest.approx(2)
    assert console.trained_seconds == pytest.approx(15)


def test_steps_that_take_no_time_of_training_are_in_no_rate(now):
    """As a first call of several steps, which is made while the clock stands still."""
    console = Console(0, 1000)
    said = []
    writer = SimpleNamespace(write_scalars=lambda *row, **_: said.append(row), flush=None)
    recorder = Recorder(writer, console)
    recorder.enter([Stage(8, 4, 0, 1000)], 0, 100, 0)
    recorder.first_step(1, {})
    for step, seconds in ((11, 5), (111, 0), (121, 5)):
        now[0] += seconds
        if step == 111:
            recorder.pass_over(100)
        recorder.log(step, {})
    assert [row[1].get("time/images_per_second") for row in said] == [8, 8, 8]
    assert recorder.images_per_second == 8
    assert console.trained_seconds == 10


def test_the_rate_is_a_moving_average(now):
    console = Console(0, 1000, window=3)
    for step, seconds in ((10, 99), (20, 10), (30, 20), (40, 30)):
        now[0] += seconds
        found = console.tick(step, 10)
    assert found["time/images_per_second"] == pytest.approx(30 / (10 + 20 + 30))
    assert found["time/eta_seconds"] == pytest.approx(2 * 960)


def test_waiting_for_data_is_a_share_of_the_time(now, lines):
    """The first batch is there late, each later one after half a second."""

    def batches():
        for k, seconds in enumerate((30, 0.5, 0.5, 0.5, 0)):
            now[0] += seconds
            yield k

    console = Console(0, 100)
    for step, batch in enumerate(console.waiting(batches()), 1):
        now[0] += 2
        assert batch == step - 1
        if step == 1:
            console.restart(step)
    found = console.tick(step, 64)
    assert found["time/data_wait"] == pytest.approx(1.5 / 9.5)
    console.line(1.5, 10, found)
    assert "6.74 img/s, 16% waiting for data · ETA" in lines[-1]
    now[0] += 0.1
    console.restart(step)
    now[0] += 1
    console.line(1.5, 10, console.tick(step + 1, 64))  # nothing was waited for
    assert "waiting" not in lines[-1]


def test_a_quiet_console_says_nothing(capsys):
    console = Console(0, 10, quiet=True)
    console.line(0.1, 1, SCALARS | console.tick(1, 8))
    console.close()
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal(now, monkeypatch, capsys):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    console = Console(10, 100)
    now[0] += 5
    console.line(1.5, 20, SCALARS | console.tick(20, 640))
    console.close()
    shown = screen.getvalue()
    assert "epoch 1.50" in shown
    assert "20/100" in shown
    # what a narrow terminal cuts off comes last
    assert "ETA 0:40 · 128 img/s · gen 1.2500 · disc 0.5000 · lr gen 2.00e-04" in shown
    assert capsys.readouterr().out == ""


def console_at_20():
    console = Console(10, 100)
    console.line(1.5, 20, SCALARS)
    yield
    console.close()


def progress_at_20():
    bar = ProgressBar(100, "image")
    bar(20)
    yield
    bar(100)


@pytest.mark.parametrize("bar", [console_at_20, progress_at_20])
def test_lines_appear_above_a_bar(monkeypatch, bar):
    """What a terminal shows in the end: the lines whole, and the bar below them."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sys, "stdout", screen)
    with contextlib.contextmanager(bar)():
        for name in ("gan_jax.core.recorder", "gan_jax.training"):
            logging.getLogger(name).info(f"a line of {name}")
        shown = on_screen(screen.getvalue())
    assert shown[:2] == ["a line of gan_jax.core.recorder", "a line of gan_jax.training"]
    assert len(shown) == 3
    assert "20/100" in shown[2]


def on_screen(text: str) -> list[str]:
    """The lines of a terminal after `text`, in which a carriage return begins a line anew."""
    lines = []
    for line in text.split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return lines


def test_a_loss_that_is_not_a_number_is_shown(now, capsys):
    console = Console(0, 10)
    console.line(0.1, 1, {"loss/gen": math.nan})
    assert "gen nan" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (75, "1:15"), (3599.5, "1:00:00"),
     (3700, "1:01:40"), (90061, "25:01:01"), (math.inf, "?"), (math.nan, "?")],
)  # fmt: skip
def test_clock(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(130.4, "130"), (66666.67, "66,667"), (9.96, "10"), (9.94, "9.9"), (5e-5, "0.00005")],
)
def test_a_brief_number_has_two_digits_or_more_and_no_exponent(number, text):
    assert brief(number) == text


def test_a_progress_bar_is_shown_on_a_terminal_only(monkeypatch, capsys):
    bar = ProgressBar(3, "image")
    for done in (1, 2, 3):
        bar(done)
    assert capsys.readouterr() == ("", "")
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    for done in (1, 2, 3, 1, 2, 3):  # 1 starts a new line
        bar(done)
    assert screen.getvalue().count("image 3/3, 0 s left") == 2
    assert screen.getvalue().count("\n") == 2

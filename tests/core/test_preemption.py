"""Signals are answered at once, whatever the main thread is doing."""

import os
import signal
import sys
import threading

import pytest

from gan_jax.core import preemption
from gan_jax.core.preemption import Finishing, Preemption, whole_process
from tests.helpers.waiting import wait_for


@pytest.fixture
def left(monkeypatch):
    """The statuses with which the process would have ended."""
    statuses: list[int] = []
    monkeypatch.setattr(preemption.os, "_exit", statuses.append)
    return statuses


@pytest.fixture
def said(capsys):
    """Waits for a line on stdout."""
    text = [""]

    def line(words: str) -> None:
        def there() -> bool:
            text[0] += capsys.readouterr().out
            return words in text[0]

        wait_for(there)

    return line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_asks_for_the_end_of_the_run(number, said, left):
    before = signal.getsignal(number)
    with whole_process(75), Preemption() as asked:
        assert not asked.now()
        os.kill(os.getpid(), number)
        wait_for(lambda: asked.now())
        said("stopping after this step, with the state saved; once more to quit at once")
    assert left == []
    assert signal.getsignal(number) is before
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_while_the_last_copy_is_made_changes_nothing(number, said, left):
    with whole_process(75), Finishing():
        os.kill(os.getpid(), number)
        said("copying what is left, and then stopping; once more to quit at once")
    assert left == []


def test_a_second_signal_while_the_last_copy_is_made_ends_it(said):
    """Also where the process has another purpose, as in a mode that copies what it has made."""
    with Finishing():
        os.kill(os.getpid(), signal.SIGTERM)
        said("once more to quit at once")
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_the_answer_does_not_wait_for_the_main_thread(said):
    """Between these two lines no handler of Python runs, as while a program compiles."""
    blocked = {signal.SIGTERM}
    with Preemption() as asked:
        other = threading.Thread(target=asked._answer)
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
        other.start()
        said("stopping after this step")
        signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
        assert not asked.asked


def test_a_second_signal_ends_the_process(said, left):
    with whole_process(75), Preemption() as asked:
        os.kill(os.getpid(), signal.SIGTERM)
        wait_for(lambda: asked.asked)
        said("stopping after this step")
        os.kill(os.getpid(), signal.SIGTERM)
        said("stopped at once: the newest saved state is kept")
        wait_for(lambda: left == [75])


def test_a_second_ctrl_c_is_an_interrupt_where_the_process_is_somebody_elses(left):
    def twice() -> None:
        with Preemption() as asked:
            os.kill(os.getpid(), signal.SIGINT)
            wait_for(lambda: asked.asked)
            os.kill(os.getpid(), signal.SIGINT)
            wait_for(lambda: False)

    with pytest.raises(KeyboardInterrupt):
        twice()
    assert left == []


def test_the_first_signal_ends_a_process_that_has_nothing_to_save(said, left):
    with whole_process(75), Preemption() as asked:
        with asked.nothing_to_save():
            os.kill(os.getpid(), signal.SIGTERM)
            said("stopped at once: nothing is lost")
            wait_for(lambda: left == [75])
        assert not asked._idle


@pytest.fixture
def ctrl_c():
    """Ctrl-C interrupts, as in a terminal; a shell lets its background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_outside_of_the_loop_a_signal_interrupts_or_after_a_moment_ends(
    monkeypatch, said, left, ctrl_c
):
    monkeypatch.setattr(preemption, "GRACE", 0.2)

    def interrupted() -> None:
        with whole_process(75):
            os.kill(os.getpid(), signal.SIGINT)
            wait_for(lambda: False)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert left == []  # the interrupt was enough
    ignored = signal.signal(signal.SIGTERM, lambda *_: None)  # as if the thread compiled
    try:
        with whole_process(75):
            os.kill(os.getpid(), signal.SIGTERM)
            said("stopped outside training: nothing is lost")
            wait_for(lambda: left == [75])
    finally:
        signal.signal(signal.SIGTERM, ignored)


class _Lost:
    """Raises where Python can only report an error."""

    def __init__(self, error: type[BaseException]):
        self._error = error

    def __del__(self):
        raise self._error


def test_an_interrupt_that_python_could_not_raise_is_no_traceback(monkeypatch):
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: reported.append(found.exc_type))
    with whole_process(75):
        _Lost(KeyboardInterrupt)
        _Lost(ValueError)
    _Lost(KeyboardInterrupt)
    assert reported == [ValueError, KeyboardInterrupt]


def test_other_threads_watch_nothing():
    found = []

    def enter() -> None:
        with Preemption() as asked:
            found.append(asked.now())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [False]

"""A signal that arrives when the command has done its work."""

import signal

import pytest

from tests.helpers.shell import python

ENDING = """
import atexit, os, sys
from gan_jax.modes.door import enter


class Last:
    def __del__(self, kill=os.kill, own=os.getpid()):  # Python has forgotten its handlers by then
        kill(own, {number})


atexit.register(os.kill, os.getpid(), {number})
sys.last = Last()
sys.argv = ["launch.py", "--mode=list"]
enter()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_teardown_changes_neither_status_nor_output(number):
    ended = python(ENDING.format(number=int(number)))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "quickstart" in ended.stdout
